"""Forms of images that can be told apart, sent piece by piece into the application; for the tests of batches."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from app import settings
from app.engines import Runs
from app.inference import loading
from app.main import create_app
from app.settings import DEFAULT_MODEL
from tests.app.inference.test_own_answers import Told
from tests.images import encode

DEADLINE = "deadline_exceeded"
BROKEN = {
    17: (b"", "empty_body", 400),
    33: (b"no image at all", "unsupported_image", 415),
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
    """An image of one colour, which is its number. BMP is decoded in a thread."""
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
    """Outcome -> images."""
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
    served = loading.start(DEFAULT_MODEL, "auto", "cpu")
    app = create_app(settings.load(**chosen), dataclasses.replace(served, engine=engine or Told()))
    async with app.api.router.lifespan_context(app.api):
        yield app


def told(results: list[dict[str, Any]], numbers: Sequence[int]) -> None:
    """Each result is that of its own image, and has its name."""
    assert len(results) == len(numbers)
    for place, (result, number) in enumerate(zip(results, numbers, strict=True)):
        assert result["file"] == f"{place}.bmp"
        if place in BROKEN and len(numbers) == 200:
            _, code, status = BROKEN[place]
            assert (result["error"]["code"], result["error"]["status"]) == (code, status), (place, result)
        else:
            assert np.float32(result["confidence"]) == np.float32(number / 2**24), (place, result)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def settled(value: Callable[[], int]) -> int:
    """What it is once it has not changed for a while."""
    last = -1
    while last != (last := value()):
        await asyncio.sleep(0.1)
    return last


def one_piece_each(files: int) -> tuple[bytes, list[bytes]]:
    """A form of numbered images in pieces of one part, up to the next boundary."""
    content_type, body = form([numbered(number) for number in range(files)])
    boundary = b"--" + content_type.partition(b"boundary=")[2]
    parts = body.split(boundary)[1:]
    return content_type, [boundary + part for part in parts[:-2]] + [boundary + boundary.join(parts[-2:])]
