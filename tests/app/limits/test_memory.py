"""Images share the memory of the container: a large one waits or is refused, it never kills the service."""

import asyncio
import functools
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from app.artifact.decoder.decode import InputSpec, TooManyPixels
from app.errors import Problem
from app.inference import loading
from app.inference.batcher import Batcher
from app.inference.classifier import Classifier
from app.limits.admission import Admission
from app.limits.decoders import Decoders
from app.limits.memory import Memory
from tests.images import encode
from tests.serving import environment, serving

SPEC = InputSpec(
    width=32, height=32, channels=3, crop_fraction=1, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1)
)


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 30))


def test_an_image_that_can_never_fit_is_refused_with_both_numbers(small: Classifier) -> None:
    async def scene() -> None:
        await small.start()
        with pytest.raises(TooManyPixels, match=r"needs 113 MB to decode; .* has 6 MB"):
            await small.predict(encode(Image.new("RGBA", (4000, 2000))), 1)
        assert (await small.predict(encode(Image.new("RGB", (1000, 1000))), 1)).top_k
        await small.stop()

    play(scene())


def test_images_that_fit_one_at_a_time_wait_for_each_other() -> None:
    lock, held, total, most = threading.Lock(), 0, 0, 0

    def work(needed: int) -> None:
        nonlocal held, total, most
        with lock:
            held, total = held + needed, total + 1
            most = max(most, held)
        time.sleep(0.0005)
        with lock:
            held -= needed

    async def image(decoders: Decoders, needed: int) -> None:
        async with decoders.thread() as thread:
            await thread.reserve(needed)
            await thread.run(work, needed)

    async def scene() -> None:
        decoders = Decoders(4, 60)
        await asyncio.gather(*(image(decoders, needed) for _ in range(100) for needed in (60, 40, 25, 10)))
        assert decoders.memory.taken == (0,)
        decoders.stop()

    play(scene())
    assert total == 400
    assert most <= 60


def test_a_failed_decode_gives_its_memory_back() -> None:
    async def scene() -> None:
        decoders = Decoders(1, 60)
        for _ in range(3):
            with pytest.raises(ValueError, match="broken"):
                async with decoders.thread() as thread:
                    await thread.reserve(60)
                    await thread.run(int, "broken")
        assert decoders.memory.taken == (0,)
        decoders.stop()

    play(scene())


def test_a_large_image_gets_its_turn_although_small_ones_keep_coming() -> None:
    async def scene() -> None:
        decoders, arrived = Decoders(4, 60), asyncio.Event()

        async def small() -> None:
            while not arrived.is_set():
                async with decoders.thread() as thread:
                    await thread.reserve(10)
                    await thread.run(time.sleep, 0.002)

        tasks = [asyncio.create_task(small()) for _ in range(6)]
        await asyncio.sleep(0.01)
        async with asyncio.timeout(5), decoders.thread() as thread:
            await thread.reserve(55)
            arrived.set()
        await asyncio.gather(*tasks)
        decoders.stop()

    play(scene())


def test_a_thread_and_its_memory_are_taken_until_it_is_done_although_nobody_waits_any_more() -> None:
    async def scene() -> None:
        decoders, begun, done = Decoders(1, 60), threading.Event(), threading.Event()

        async def image(work: Callable[[], object]) -> None:
            async with decoders.thread() as thread:
                await thread.reserve(60)
                await thread.run(work)

        def slow() -> None:
            begun.set()
            assert done.wait(20)

        leaves = asyncio.create_task(image(slow))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        assert decoders.memory.taken == (60,)
        left, stays = (asyncio.create_task(image(lambda: None)) for _ in range(2))
        await asyncio.sleep(0.01)
        left.cancel()
        done.set()
        await stays
        assert decoders.memory.taken == (0,)
        decoders.stop()

    play(scene())


@pytest.fixture
def small(digits_artifact: Path) -> Classifier:
    """The pipeline with one decoder, 6 MB to decode in and 3 MB for uploads."""
    served = loading.start(digits_artifact, "onnx")
    memory = Memory(10_000_000)
    return Classifier(served, Batcher(served.engine, 4), Admission(8, memory.upload_bytes), memory, 1, 10**8)


def test_uploads_share_their_memory_and_are_charged_as_they_come(small: Classifier) -> None:
    upload = functools.partial(small.admission.upload, pytest.fail)  # none stands still
    with upload() as alone:
        alone.hold(5_000_000)  # more than there is, or a small container would never answer it
        with upload() as another, pytest.raises(Problem, match="uploads of others"):
            another.hold(1)
    with upload() as one, upload() as two:
        one.hold(700_000)
        two.hold(700_000)
        with pytest.raises(Problem, match="uploads of others") as refused:
            two.hold(200_000)
        assert refused.value.code == "queue_full"
    with upload() as again:
        again.hold(1_500_000)


def test_uploads_of_clients_that_left_are_not_kept(small: Classifier) -> None:
    data = encode(Image.new("RGB", (1000, 1000)))
    held = sys.getrefcount(data)

    async def leave() -> None:
        await small.start()
        small._decoders.memory.overdraw(6_000_000)
        tasks = [asyncio.create_task(small.predict(data, 1)) for _ in range(5)]
        await asyncio.sleep(0.05)  # the first waits for memory, the others for the thread
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        del tasks, task
        end = time.monotonic() + 5
        while sys.getrefcount(data) > held:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        small._decoders.memory.give(6_000_000)
        assert (await small.predict(data, 1)).top_k
        await small.stop()

    asyncio.run(leave())


def test_an_upload_of_a_megabyte_is_given_the_memory_of_the_one_before(digits_artifact: Path, tmp_path: Path) -> None:
    photograph = encode(Image.effect_noise((1600, 1200), 100).convert("RGB"), "JPEG", quality=90)
    assert 1_000_000 < len(photograph) < 2_000_000
    with serving(digits_artifact, tmp_path) as server:

        def send(times: int) -> None:
            for _ in range(times):
                httpx2.post(f"{server.url}/predict", content=photograph).raise_for_status()

        send(10)
        before = server.page_faults()
        send(20)
        assert server.page_faults() - before < 20 * 100


def test_more_workers_than_the_memory_holds_do_not_start(digits_artifact: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app"],
        env=environment(digits_artifact, WORKERS=1_000_000),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(
        r"error: 1000000 workers of \d+ MB, and room for images, do not fit into \d+ MB of memory", last
    )
