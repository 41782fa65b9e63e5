"""Thousands of images that can be told apart, clients that leave, deadlines that pass: every answer is its image's."""

import asyncio
import dataclasses
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app import settings
from app.engines import EngineError, Outputs, Runs
from app.inference import loading
from app.main import create_app
from app.settings import DEFAULT_MODEL
from tests.images import encode

pytestmark = pytest.mark.unmeasured  # 12,500 requests in this process
LABELS = 10
AT_ONCE = 100
Pixels = NDArray[np.uint8]


class Told:
    """An engine that answers with the number that an image's first pixel holds, and cannot stand every 997th."""

    device = "cpu"

    def run(self, pixels: Pixels) -> Outputs:
        numbers = pixels[:, 0, 0].astype(np.int64) @ [65536, 256, 1]
        if (numbers % 997 == 996).any():
            raise EngineError("an image that no engine can stand")
        return self.answer(numbers)

    def answer(self, numbers: NDArray[np.int64]) -> Outputs:
        probabilities = np.zeros((len(numbers), LABELS), np.float32)
        probabilities[np.arange(len(numbers)), numbers % LABELS] = numbers / 2**24
        return Outputs(probabilities, probabilities, None)


class OffByOne(Told):
    """What a batcher that is off by one row would do."""

    def answer(self, numbers: NDArray[np.int64]) -> Outputs:
        return super().answer(np.roll(numbers, 1))


@dataclasses.dataclass
class Call:
    """One request and what became of it: `status` 0 where the client had left before the answer."""

    body: bytes
    headers: dict[bytes, bytes]
    leaves_after: float | None
    status: int = 0
    answer: Any = None

    async def make(self, app: Any) -> None:
        gone = asyncio.get_running_loop().create_future()
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/predict",
            "query_string": b"",
            "headers": list(self.headers.items()),
            "server": ("localhost", 80),
            "scheme": "http",
            "state": {"closed": gone},
        }
        if self.leaves_after is not None:
            asyncio.get_running_loop().call_later(self.leaves_after, gone.set_result, None)

        async def receive() -> Any:
            return {"type": "http.request", "body": self.body}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status = 0 if gone.done() else message["status"]
            else:
                self.answer = json.loads(message["body"])

        await app(scope, receive, send)


def calls(bodies: list[bytes]) -> list[Call]:
    """A tenth of the clients leave and a tenth have a deadline, within the time that answers take."""
    dice = random.Random(0)
    made = []
    for body in bodies:
        headers = {b"x-request-timeout-ms": str(dice.randrange(1, 60)).encode()} if dice.random() < 0.1 else {}
        made.append(Call(body, headers, dice.random() * 0.06 if dice.random() < 0.1 else None))
    return made


def answered(engine: Runs, made: list[Call]) -> None:
    """Make the calls, AT_ONCE at a time, through the whole application around `engine`."""
    served = dataclasses.replace(loading.start(DEFAULT_MODEL, "auto", "cpu"), engine=engine)

    async def clients() -> None:
        waiting = iter(made)

        async def client() -> None:
            for call in waiting:
                await call.make(app)

        async with app.api.router.lifespan_context(app.api):
            await asyncio.gather(*[client() for _ in range(AT_ONCE)])

    app = create_app(settings.load(threads=2), served)
    asyncio.run(clients())


def check(made: list[Call], right: Callable[[int, Any], bool], broken: Callable[[int], int]) -> Counter[int]:
    """`right`: whether it is this image's answer; `broken`: the status that this image is bound to have, or 0."""
    for number, call in enumerate(made):
        if call.status == 200:
            assert right(number, call.answer), (number, call.answer)
        else:
            allowed = {broken(number) or 200, 504 if call.headers else 200, 0 if call.leaves_after is not None else 200}
            assert call.status in allowed - {200}, (number, call.status, call.answer)
    return Counter(call.status for call in made)


def told(number: int, answer: Any) -> bool:
    return bool(np.float32(answer["confidence"]) == np.float32(number / 2**24))


def numbered(count: int) -> list[bytes]:
    """Images of one colour, which is their number; every 500th is cut off."""
    spec = loading.manifest.load(DEFAULT_MODEL).input
    files = []
    for number in range(count):
        pixels = np.full((spec.height, spec.width, 3), (number >> 16, number >> 8 & 255, number & 255), np.uint8)
        file = encode(Image.fromarray(pixels))
        files.append(file[:-40] if number % 500 == 499 else file)
    return files


def bound(number: int) -> int:
    return 422 if number % 500 == 499 else 503 if number % 997 == 996 else 0


def test_of_10_000_images_every_one_gets_its_own_answer() -> None:
    made = calls(numbered(10_000))
    answered(Told(), made)
    statuses = check(made, told, bound)
    assert statuses[422] + statuses[503] >= 20
    assert statuses[504] >= 20, statuses  # or the test would have tried nothing
    assert statuses[0] >= 20, statuses
    assert statuses[200] >= 8_000, statuses


def test_the_check_above_is_red_for_a_batcher_that_is_off_by_one_row() -> None:
    made = calls(numbered(400))
    answered(OffByOne(), made)
    with pytest.raises(AssertionError):
        check(made, told, bound)


def test_so_does_everyone_of_2_500_from_onnx_runtime() -> None:
    served = loading.start(DEFAULT_MODEL, "auto", "cpu")
    labels, spec = served.manifest.labels, served.manifest.input
    noise = np.random.default_rng(0).integers(0, 256, (2_500, spec.height, spec.width, 3), np.uint8)
    noise //= (np.arange(2_500) % 13 + 1).astype(np.uint8).reshape(-1, 1, 1, 1)  # dark and light ones
    expected = np.concatenate([served.engine.run(batch).probabilities for batch in np.split(noise, 25)])
    made = calls([encode(Image.fromarray(pixels), compress_level=0) for pixels in noise])
    answered(served.engine, made)

    def right(number: int, answer: Any) -> bool:
        row = expected[number]
        top = {each["class"]: each["probability"] for each in answer["top_k"]}
        return all(abs(row[labels.index(label)] - probability) < 1e-5 for label, probability in top.items())

    statuses = check(made, right, lambda _number: 0)
    assert statuses[200] >= 2_000, statuses
    assert len(np.unique(expected.round(4), axis=0)) > 2_250  # they can be told apart
