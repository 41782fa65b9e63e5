"""Explanations leave most of the places and of the engine to others, and none is worked at for nobody."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from app.settings import DEFAULT_MODEL
from tests.app.limits.test_overload import Gated, Service, play, service
from tests.images import drawing, encode


def explaining(running: Service, **headers: Any) -> Any:
    return asyncio.create_task(running.call("POST", "/explain", encode(drawing(8, 8)), **headers))


def test_explanations_hold_at_most_a_quarter_of_the_places(squares_without_maps: Path) -> None:
    async def scene() -> None:
        async with service(squares_without_maps, max_queue=8) as running:
            running.engine.gate.clear()
            waiting = [explaining(running) for _ in range(2)]
            await running.until("sightglass_queue_images 2.0")
            refused = await explaining(running)
            assert (refused.status, refused.body["code"]) == (429, "queue_full")
            assert refused.body["detail"] == "2 explanations are in progress; try again."
            assert int(refused.headers["retry-after"]) >= 1
            others = [running.predict() for _ in range(6)]
            await running.until("sightglass_queue_images 8.0")
            assert (await running.predict()).status == 429
            running.engine.gate.set()
            assert [(await each).status for each in (*others, *waiting)] == [200] * 8
            assert (await explaining(running)).status == 200
            told = (await running.call("GET", "/metrics")).body
            assert 'sightglass_images_total{outcome="predicted"} 6.0' in told
            assert 'sightglass_images_total{outcome="explained"} 3.0' in told
            assert 'sightglass_images_total{outcome="rejected"} 2.0' in told

    play(scene)


def test_explanations_are_no_predictions_whose_shares_and_confidences_are_watched_for_drift() -> None:
    async def scene() -> None:
        async with service(DEFAULT_MODEL) as running:
            assert (await explaining(running)).status == 200
            assert (await running.predict()).status == 200
            told = (await running.call("GET", "/metrics")).body
            assert 'sightglass_images_total{outcome="explained"} 1.0' in told
            assert 'sightglass_images_total{outcome="predicted"} 1.0' in told
            assert "sightglass_prediction_confidence_ratio_count 1.0" in told
            counts = re.findall(r"^sightglass_predictions_total{.*} ([0-9.]+)$", told, re.MULTILINE)
            assert sum(map(float, counts)) == 1

    play(scene)


@pytest.mark.parametrize("why", ["expired", "disconnected"])
def test_an_explanation_that_is_given_up_costs_the_engine_nothing_more(squares_without_maps: Path, why: str) -> None:
    async def scene() -> None:
        async with service(squares_without_maps) as running:
            gone = asyncio.get_running_loop().create_future()
            engine = running.engine
            seen = _shut_after(engine, 6)
            wanted = {"x_request_timeout_ms": "1500"} if why == "expired" else {"gone": gone}
            task = explaining(running, **wanted)
            while engine.gate.is_set() and not task.done():
                await asyncio.sleep(0.005)
            if why == "disconnected":
                gone.set_result(None)
            answer = await task
            assert answer.status == (504 if why == "expired" else 400)
            engine.run = seen  # type: ignore[method-assign]
            engine.gate.set()
            assert (await running.predict()).status == 200
            assert engine.seen < 20
            assert f'sightglass_images_total{{outcome="{why}"}} 1.0' in (await running.call("GET", "/metrics")).body

    play(scene)


def _shut_after(engine: Gated, images: int) -> Any:
    """Close the gate once the engine has seen that many; answers its own way to run."""
    own = engine.run

    def run(pixels: Any) -> Any:
        if engine.seen >= images:
            engine.gate.clear()
        return own(pixels)

    engine.run = run  # type: ignore[method-assign]
    return own
