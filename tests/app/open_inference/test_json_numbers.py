"""Numbers as JSON text: read and written exactly, and without holding up whoever else has work."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from app.open_inference import json_numbers
from app.open_inference.json_numbers import NumberText

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 40, 30, 3), np.uint8)


def _data(text: bytes) -> object:
    return json_numbers.loads(text)["inputs"][0]["data"]


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n ", "\t: ")])
@pytest.mark.parametrize("shape", [(-1,), (5, 40, 30, 3), (1, -1)])
def test_an_array_of_numbers_is_read_however_it_is_laid_out(
    separators: tuple[str, str], shape: tuple[int, ...]
) -> None:
    content = {
        "id": 'a "data":[1] b',
        "inputs": [{"data": PIXELS.reshape(shape).tolist(), "name": "image"}],
        "x": [1, 2],
    }
    for sort in (False, True):
        text = json.dumps(content, separators=separators, sort_keys=sort).encode()
        found = _data(text)
        assert isinstance(found, NumberText)
        assert np.array_equal(found.as_uint8(PIXELS.size).reshape(PIXELS.shape), PIXELS)
        assert {**json_numbers.loads(text), "inputs": None} == {**content, "inputs": None}


@pytest.mark.parametrize("data", ["[1,2", "[1,2]]", "[[1,2]", "[1 2]", "[1,,2]", "[,1]", "[1][2]", "[true_]", "[1]x"])
def test_what_is_no_json_stays_no_json(data: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        found = _data(b'{"inputs":[{"data":%b}]}' % data.encode())
        assert isinstance(found, NumberText)
        found.as_uint8(2)


@pytest.mark.parametrize("data", ['["a","b"]', "[]", '[{"a":[1]}]', '"text"', "7"])
def test_other_data_is_read_as_usual(data: str) -> None:
    found = _data(b'{"inputs":[{"data":%b}]}' % data.encode())
    assert (found.text == b"[]") if isinstance(found, NumberText) else (found == json.loads(data))


def test_floats_are_the_shortest_decimals_that_are_them() -> None:
    values = np.random.default_rng(1).standard_normal((70, 50)).astype(np.float32) * 10.0 ** np.arange(
        -25, 25, dtype=np.float32
    )
    values = np.append(values.ravel(), np.array([0, 1, 1e-7, 1e30, 3.4028235e38, 1e-45, -1.17549435e-38], np.float32))
    text = b"".join(json_numbers.dumps(values))
    assert np.array_equal(np.array(json.loads(b"[%b]" % text), np.float32), values)
    assert text.decode().split(",") == [str(value) for value in values]


def test_the_event_loop_has_its_turns_while_numbers_are_read() -> None:
    count, piece = 60 * PIXELS.size, json.dumps(PIXELS.tolist()).encode()
    text = b'{"data":[%b]}' % b",".join([piece] * 60)

    def read() -> int:
        return len(json_numbers.loads(text)["data"].as_uint8(count))

    async def turns() -> int:
        taken = 0
        with ThreadPoolExecutor(1) as thread:
            work = asyncio.get_running_loop().run_in_executor(thread, read)
            while not work.done():
                await asyncio.sleep(0.001)
                taken += 1
        assert await work == count
        return taken

    assert asyncio.run(turns()) > 3  # json.loads of the whole text leaves it one or two
