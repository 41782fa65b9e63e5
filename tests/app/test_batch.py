"""POST /predict/batch inside the application: order, bounds, deadlines, clients that leave; with an engine of ours."""

import asyncio
import dataclasses
import json
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

import app.classifier
from app import settings, startup
from app.engines import Runs
from app.main import create_app
from app.memory import Memory
from app.routes.files import FilesForm
from app.settings import DEFAULT_MODEL
from tests.app.test_overload import Gated, Service, play
from tests.app.test_own_answers import OffByOne, Told
from tests.pictures import encode

DEADLINE = "deadline_exceeded"
BROKEN = {
    17: (b"", "empty_body", 400),
    33: (b"no picture at all", "unsupported_image", 415),
    60: (encode(Image.new("RGB", (64, 64)))[:-40], "undecodable_image", 422),
    61: (bytes(600_000), "upload_too_large", 413),
    88: (encode(Image.new("L", (3000, 1000))), "too_many_pixels", 422),
    110: (b"%PDF-1.7", "unsupported_image", 415),
    150: (bytes(600_001), "upload_too_large", 413),
    151: (b"", "empty_body", 400),
    180: (encode(Image.new("RGB", (64, 64)))[:60], "undecodable_image", 422),
    199: (b"GIF89a", "undecodable_image", 422),
}


def numbered(number: int, size: int = 32) -> bytes:
    """A picture of one colour, which is its number. BMP is decoded in a thread."""
    colour = (number >> 16, number >> 8 & 255, number & 255)
    return encode(Image.new("RGB", (size, size), colour), "BMP")


def form(files: Sequence[bytes], field: str = "files") -> tuple[bytes, bytes]:
    """Content type and body, as httpx2 writes them; the files are named by their places."""
    parts = [(field, (f"{place}.bmp", file)) for place, file in enumerate(files)]
    request = httpx2.Request("POST", "http://localhost/predict/batch", files=parts)
    return request.headers["content-type"].encode(), request.read()


@dataclasses.dataclass
class Upload:
    """One request to /predict/batch that sends `pieces` as the application asks for them."""

    content_type: bytes
    pieces: list[bytes]
    headers: dict[bytes, bytes] = dataclasses.field(default_factory=dict)
    query: bytes = b""
    ends: bool = True
    asked: int = 0
    status: int = 0
    answer: Any = None
    answered: dict[bytes, bytes] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, files: Sequence[bytes], piece_bytes: int = 65_536, **rest: Any) -> "Upload":
        content_type, body = form(files)
        return cls(content_type, [body[at : at + piece_bytes] for at in range(0, len(body), piece_bytes)], **rest)

    async def make(self, app: Any) -> "Upload":
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        headers = [(b"content-type", self.content_type), *self.headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/predict/batch", "query_string": self.query}
        scope |= {"headers": headers, "server": ("localhost", 80), "scheme": "http", "state": {"closed": self.gone}}

        async def receive() -> Any:
            if self.asked == len(self.pieces) and not self.ends:
                await asyncio.get_running_loop().create_future()  # the rest never comes
            self.asked += 1
            return {
                "type": "http.request",
                "body": self.pieces[self.asked - 1],
                "more_body": self.asked < len(self.pieces) or not self.ends,
            }

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status, self.answered = message["status"], dict(message["headers"])
            else:
                self.answer = json.loads(message["body"])

        await app(scope, receive, send)
        return self


async def scrape(app: Any) -> dict[str, int]:
    """Outcome -> pictures."""
    lines: list[str] = []

    async def send(message: Any) -> None:
        lines.extend(message.get("body", b"").decode().splitlines())

    scope = {"type": "http", "method": "GET", "path": "/metrics", "query_string": b"", "headers": []}

    async def receive() -> Any:
        return {"type": "http.request"}

    await app(scope | {"server": ("localhost", 80), "scheme": "http"}, receive, send)
    start = 'sightglass_images_total{outcome="'
    found = [line.removeprefix(start).split('"} ') for line in lines if line.startswith(start)]
    return {outcome: int(float(count)) for outcome, count in found if float(count)}


@asynccontextmanager
async def service(engine: Runs | None = None, **chosen: Any) -> AsyncIterator[Any]:
    served = startup.start(DEFAULT_MODEL, "auto", "cpu")
    app = create_app(settings.load(**chosen), dataclasses.replace(served, engine=engine or Told()))
    async with app.api.router.lifespan_context(app.api):
        yield app


def told(results: list[dict[str, Any]], numbers: Sequence[int]) -> None:
    """Each result is that of its own picture, and has its name."""
    assert len(results) == len(numbers)
    for place, (result, number) in enumerate(zip(results, numbers, strict=True)):
        assert result["file"] == f"{place}.bmp"
        if place in BROKEN and len(numbers) == 200:
            _, code, status = BROKEN[place]
            assert (result["error"]["code"], result["error"]["status"]) == (code, status), (place, result)
        else:
            assert np.float32(result["confidence"]) == np.float32(number / 2**24), (place, result)


def batch_of_200(engine: Told, seen: list[int]) -> list[dict[str, Any]]:
    """200 pictures of 8 to 400 pixels, so that some take much longer than others; 10 are broken."""
    dice = random.Random(0)
    files = [numbered(number + 1, dice.choice([8, 50, 400])) for number in range(200)]
    for place, (file, *_) in BROKEN.items():
        files[place] = file

    class Seen(type(engine)):  # type: ignore[misc]
        def answer(self, numbers: Any) -> Any:
            seen.extend(numbers.tolist())
            return super().answer(numbers)

    upload = Upload.of(files, 30_011)

    async def scene() -> None:
        async with service(Seen(), max_upload_bytes=500_000, max_pixels=1_000_000, threads=4) as app:
            await upload.make(app)
            assert upload.status == 200, upload.answer
            assert await scrape(app) == {"predicted": 190, "invalid": 10}

    play(scene)
    return list(upload.answer["results"])


def test_200_files_of_which_10_are_broken_are_190_results_and_10_errors_in_order() -> None:
    seen: list[int] = []
    told(batch_of_200(Told(), seen), range(1, 201))
    in_turn = [number for number in seen if number]
    assert in_turn != sorted(in_turn), "all finished in the order in which they came: nothing was tried"


def test_the_check_above_is_red_for_rows_that_are_off_by_one() -> None:
    results = batch_of_200(OffByOne(), [])
    with pytest.raises(AssertionError):
        told(results, range(1, 201))
    right = batch_of_200(Told(), [])
    with pytest.raises(AssertionError):
        told([right[-1], *right[:-1]], range(1, 201))


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000, 10**6])
def test_the_form_may_come_in_any_pieces(piece_bytes: int) -> None:
    upload = Upload.of([numbered(number, 4) for number in (1, 2, 3)], piece_bytes, query=b"top_k=2")

    async def scene() -> None:
        async with service() as app:
            told((await upload.make(app)).answer["results"], (1, 2, 3))
            assert [len(result["top_k"]) for result in upload.answer["results"]] == [2, 2, 2]
            assert upload.answer["model"]["name"] == "cifar10"

    play(scene)


def test_a_picture_that_no_engine_can_stand_is_an_error_of_its_own() -> None:
    upload = Upload.of([numbered(995), numbered(996), numbered(997)])

    async def scene() -> None:
        async with service() as app:
            results = (await upload.make(app)).answer["results"]
            assert [result.get("error", {}).get("code") for result in results] == [None, "not_ready", None]
            assert await scrape(app) == {"predicted": 2, "failed": 1}

    play(scene)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def settled(value: Callable[[], int]) -> int:
    """What it is once it has not changed for a while."""
    last = -1
    while last != (last := value()):
        await asyncio.sleep(0.1)
    return last


def test_reading_stops_while_max_batch_files_are_in_flight() -> None:
    engine = Gated(Told())
    upload = Upload(*one_piece_each(40))

    async def scene() -> None:
        async with service(engine, max_batch=4) as app:
            engine.gate.clear()
            waiting = asyncio.create_task(upload.make(app))
            assert await settled(lambda: upload.asked) <= 5
            engine.gate.set()
            await waiting
            told(upload.answer["results"], range(40))

    play(scene)


def one_piece_each(files: int) -> tuple[bytes, list[bytes]]:
    """A form of numbered pictures in pieces of one part, up to the next boundary."""
    content_type, body = form([numbered(number) for number in range(files)])
    boundary = b"--" + content_type.partition(b"boundary=")[2]
    parts = body.split(boundary)[1:]
    return content_type, [boundary + part for part in parts[:-2]] + [boundary + boundary.join(parts[-2:])]


def test_a_deadline_ends_the_whole_request_and_counts_each_file_once() -> None:
    engine = Gated(Told())
    content_type, pieces = one_piece_each(6)
    pieces[5] = pieces[5][:200]  # the sixth has begun, and the rest of it does not come
    upload = Upload(content_type, pieces, {b"x-request-timeout-ms": b"300"}, ends=False)

    async def scene() -> None:
        async with service(engine) as app:
            engine.gate.clear()
            await upload.make(app)
            assert (upload.status, upload.answer["code"]) == (504, DEADLINE)
            assert "0 files were answered" in upload.answer["detail"]
            assert upload.answered[b"connection"] == b"close"
            engine.gate.set()
            assert await scrape(app) == {"expired": 6}
            again = await Upload.of([numbered(7)]).make(app)
            told(again.answer["results"], [7])

    play(scene)


def test_of_a_client_that_leaves_in_the_middle_nothing_more_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, decoded, real = threading.Event(), [], app.classifier.decode

    def decode(data: bytes, *rest: Any) -> Any:
        decoded.append(data)
        assert gate.wait(20)
        return real(data, *rest)

    monkeypatch.setattr(app.classifier, "decode", decode)
    content_type, pieces = one_piece_each(8)
    upload = Upload(content_type, [*pieces[:5], pieces[5][:200]], ends=False)

    async def scene() -> None:
        async with service(threads=1) as application:
            waiting = asyncio.create_task(upload.make(application))
            await until(lambda: upload.asked == 6 and len(decoded) == 1)
            upload.gone.set_result(None)
            await waiting
            assert (upload.status, upload.answer["code"]) == (400, "disconnected")
            gate.set()
            assert await scrape(application) == {"disconnected": 6}
            told((await Upload.of([numbered(9)]).make(application)).answer["results"], [9])
            assert len(decoded) == 2

    play(scene)


def test_a_form_that_breaks_off_is_a_problem_and_its_files_are_invalid() -> None:
    content_type, pieces = one_piece_each(5)

    async def scene() -> None:
        async with service(max_queue=2) as app:
            for _ in range(5):  # each gives its place back, or there would be none for the next
                cut = await Upload(content_type, [*pieces[:3], pieces[3][:-200]]).make(app)
                assert (cut.status, cut.answer["code"]) == (400, "malformed_body")
            assert sum((await scrape(app)).values()) == 20
            told((await Upload.of([numbered(9)]).make(app)).answer["results"], [9])

    play(scene)


def test_batches_and_lone_pictures_share_little_memory_without_blocking_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Memory, "of_worker", lambda _workers: Memory(30_000_000))  # 9 MB for uploads
    uploads = [Upload.of([numbered(number, 550) for number in range(20)]) for _ in range(6)]  # 0.9 MB each

    async def scene() -> None:
        async with service(max_upload_bytes=1_000_000, threads=2) as app:
            waiting = [asyncio.create_task(upload.make(app)) for upload in uploads]
            lone = Service(app, Gated(Told()))
            for _ in range(20):
                assert (await lone.predict(numbered(5))).status == 200
            await asyncio.gather(*waiting)
            assert [upload.status for upload in uploads] == [200, 200, 429, 429, 429, 429]
            for upload in uploads[:2]:
                told(upload.answer["results"], range(20))
            assert int(uploads[2].answered[b"retry-after"]) >= 1
            again = await Upload.of([numbered(1)]).make(app)  # everything has been given back
            assert again.status == 200

    play(scene)


def test_a_batch_leaves_half_of_the_places_to_lone_pictures_and_waits_for_its_own() -> None:
    engine = Gated(Told())
    one, two, three = (Upload.of([numbered(number) for number in range(30)], 4096) for _ in range(3))

    async def scene() -> None:
        async with service(engine, max_queue=8, max_batch=16) as app:
            engine.gate.clear()
            lone = Service(app, engine)
            batches = [asyncio.create_task(one.make(app)), asyncio.create_task(two.make(app))]
            await settled(lambda: one.asked + two.asked)
            assert (await three.make(app)).status == 429
            pictures = [lone.predict(numbered(5)) for _ in range(5)]
            refused, _ = await asyncio.wait(pictures, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result().status for task in refused] == [429]
            engine.gate.set()
            assert sorted([(await task).status for task in pictures]) == [200, 200, 200, 200, 429]
            await asyncio.gather(*batches)
            told(one.answer["results"], range(30))
            told(two.answer["results"], range(30))

    play(scene)


def test_a_batch_goes_on_while_lone_pictures_take_every_place_that_comes_free() -> None:
    upload = Upload.of([numbered(number) for number in range(60)], 4096)

    async def scene() -> None:
        async with service(max_queue=4) as app:
            lone, over = Service(app, Gated(Told())), False

            async def client() -> None:
                while not over:
                    assert (await lone.predict(numbered(5))).status in (200, 429)
                    await asyncio.sleep(0)

            clients = [asyncio.create_task(client()) for _ in range(16)]
            while (await upload.make(app)).status == 429:
                upload.asked = 0
            over = True
            await asyncio.gather(*clients)
            told(upload.answer["results"], range(60))

    play(scene)


def test_of_a_file_above_the_limit_nothing_is_kept() -> None:
    content_type, body = form([bytes(3_000_000), b"next"])
    files = FilesForm(content_type, max_file_bytes=1_000_000, max_files=10)
    files.write(body[:2_000_000])
    files.write(body[2_000_000:])
    assert [(file.size, bytes(file.received)) for file in files.complete] == [(3_000_000, b""), (4, b"next")]
