"""POST /predict/batch: what is in memory and in work, deadlines, clients that leave, and its share of the queue."""

import asyncio
import threading
from typing import Any

import pytest

import app.inference.classifier
from app.limits.memory import Memory
from tests.app.inference.test_own_answers import Told
from tests.app.limits.test_overload import Gated, Service, play
from tests.app.routes.batches import DEADLINE, Upload, numbered, one_piece_each, scrape, service, settled, told, until


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


def test_a_deadline_ends_the_whole_request_and_counts_each_file_once() -> None:
    engine = Gated(Told())
    content_type, pieces = one_piece_each(6)
    pieces[5] = pieces[5][:200]  # the sixth has begun, and the rest of it does not come
    upload = Upload(content_type, pieces, {b"x-request-timeout-ms": b"2000"}, ends=False)

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
    gate, decoded, real = threading.Event(), [], app.inference.classifier.decode

    def decode(data: bytes, *rest: Any) -> Any:
        decoded.append(data)
        assert gate.wait(20)
        return real(data, *rest)

    monkeypatch.setattr(app.inference.classifier, "decode", decode)
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


def test_batches_and_lone_images_share_little_memory_without_blocking_each_other(
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


def test_a_batch_leaves_half_of_the_places_to_lone_images_and_waits_for_its_own() -> None:
    engine = Gated(Told())
    one, two, three = (Upload.of([numbered(number) for number in range(30)], 4096) for _ in range(3))

    async def scene() -> None:
        async with service(engine, max_queue=8, max_batch=16) as app:
            engine.gate.clear()
            lone = Service(app, engine)
            batches = [asyncio.create_task(one.make(app)), asyncio.create_task(two.make(app))]
            await lone.until("sightglass_queue_images 4.0")
            assert (await three.make(app)).status == 429
            images = [lone.predict(numbered(5)) for _ in range(5)]
            refused, _ = await asyncio.wait(images, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result().status for task in refused] == [429]
            engine.gate.set()
            assert sorted([(await task).status for task in images]) == [200, 200, 200, 200, 429]
            await asyncio.gather(*batches)
            told(one.answer["results"], range(30))
            told(two.answer["results"], range(30))

    play(scene)


def test_a_batch_goes_on_while_lone_images_take_every_place_that_comes_free() -> None:
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
