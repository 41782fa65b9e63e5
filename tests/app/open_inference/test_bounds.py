"""One inference request leaves the event loop, and places, to the others."""

import asyncio
import json
import threading
from typing import Any

import numpy as np
import pytest

from app.limits.memory import Memory
from app.open_inference import response
from app.settings import DEFAULT_MODEL
from tests.app.limits.test_overload import Service, play, service
from tests.app.open_inference.bodies import body, pixels_input

INFER = "/v2/models/cifar10/infer"


def pixels(images: int, **members: Any) -> bytes:
    """JSON for so many images."""
    content, _ = body(pixels_input(shape := np.zeros((images, 32, 32, 3), np.uint8), data=shape.ravel().tolist()))
    return json.dumps(json.loads(content) | members).encode()


@pytest.mark.parametrize("parameters", [{"classification": 1}, {"classification": 9}, {}])
def test_what_takes_long_to_write_is_written_in_a_thread(
    parameters: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, threads = response.encode, []

    def watched(*given: Any) -> Any:
        threads.append(threading.current_thread())
        return encode(*given)

    monkeypatch.setattr(response, "encode", watched)

    async def ask(running: Service, images: int) -> None:
        wanted = [{"name": "probabilities", "parameters": parameters}]
        assert (await running.call("POST", INFER, pixels(images, outputs=wanted))).status == 200

    async def scene() -> None:
        async with service(DEFAULT_MODEL, max_queue=256) as running:
            await ask(running, 4)
            await ask(running, 120)

    play(scene)
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_one_request_has_at_most_half_of_the_places() -> None:
    async def scene() -> None:
        async with service(DEFAULT_MODEL, max_queue=8) as running:
            config = (await running.call("GET", "/v2/models/cifar10/config")).body
            assert config["max_batch_size"] == 4
            refused = await running.call("POST", INFER, pixels(5))
            assert refused.status == 400
            assert refused.body["error"] == (
                "5 images; this service takes at most 4 a request "
                "(half of each worker's share of SIGHTGLASS_MAX_QUEUE)."
            )
            running.engine.gate.clear()
            others = [running.predict() for _ in range(4)]
            await running.until("sightglass_queue_images 4.0")
            largest = asyncio.create_task(running.call("POST", INFER, pixels(4)))
            await running.until("sightglass_queue_images 8.0")
            running.engine.gate.set()
            assert [(await each).status for each in (*others, largest)] == [200] * 5

    play(scene)


def test_what_needs_more_memory_than_there_ever_is_is_an_upload_and_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "of_worker", lambda _: Memory(10_000_000))

    async def scene() -> None:
        async with service(DEFAULT_MODEL) as running:
            refused = await running.call("POST", INFER, pixels(1, id="x" * 3_000_000))
            assert refused.status == 413
            assert refused.body["error"] == (
                "The upload needs 9 MB to be read; of its memory limit the service has 6 MB for that."
            )
            assert (await running.call("POST", INFER, pixels(1, id="x" * 1_000_000))).status == 200

    play(scene)


def test_a_queue_of_one_place_takes_one_image() -> None:
    async def scene() -> None:
        async with service(DEFAULT_MODEL, max_queue=1) as running:
            assert (await running.call("POST", INFER, pixels(1))).status == 200

    play(scene)


def test_every_answer_about_readiness_says_that_the_service_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with service(DEFAULT_MODEL) as running:
            monkeypatch.setattr(running.app._drain, "draining", True)
            for path in ("/v2/health/ready", "/v2/models/cifar10/ready", "/health/ready"):
                reply = await running.call("GET", path)
                assert reply.status == 503
                assert "Stopping." in (reply.body.get("error"), reply.body.get("detail"))
            (model, _) = (await running.call("POST", "/v2/repository/index")).body
            assert (model["state"], model["reason"]) == ("UNAVAILABLE", "Stopping.")

    play(scene)
