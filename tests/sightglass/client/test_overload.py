"""The client and a real service that cannot keep up, or dies: every image is answered in the end, and once."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from app.artifact.decoder.decode import decode
from app.inference import loading
from app.settings import DEFAULT_MODEL
from sightglass.client import Client, Prediction
from tests.images import Pixels, encode
from tests.serving import metrics, serving
from tests.sightglass.client.clients import Ask, ask_async, ask_sync

COUNT, CONCURRENCY, OTHERS, MAX_QUEUE = 300, 32, 3, 4


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images of noise, each with probabilities of its own."""
    folder = tmp_path_factory.mktemp("noise")
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), np.uint8)
    noise //= (np.arange(COUNT) % 13 + 1).astype(np.uint8).reshape(-1, 1, 1, 1)  # dark and light ones
    named = [folder / f"{number:04}.png" for number in range(COUNT)]
    for name, pixels in zip(named, noise, strict=True):
        name.write_bytes(encode(Image.fromarray(pixels)))
    return named


@pytest.fixture(scope="module")
def expected(files: list[Path]) -> Pixels:
    """What the model answers about each, asked without a service: float32[COUNT, labels]."""
    served = loading.start(DEFAULT_MODEL, "auto", "cpu")
    pixels = np.stack([decode(file.read_bytes(), served.manifest.input).pixels for file in files])
    return np.concatenate([served.engine.run(batch).probabilities for batch in np.split(pixels, 20)])


def check(answers: list[Any], expected: Pixels) -> None:
    """Every image has its own answer, which no other one has."""
    labels = loading.manifest.load(DEFAULT_MODEL).labels
    assert [type(answer) for answer in answers] == [Prediction] * len(expected)
    assert len({answer.request_id for answer in answers}) == len(answers), "none twice"
    for row, answer in zip(expected, answers, strict=True):
        given = {each.label: each.probability for each in answer.top_k}
        assert max(abs(row[labels.index(label)] - given[label]) for label in labels) < 1e-5
    assert len(np.unique(expected.round(4), axis=0)) > 0.9 * len(expected)  # they can be told apart


@contextmanager
def competition(url: str) -> Iterator[Callable[[], int]]:
    """Others who ask without a pause and heed nothing; answers how many images were classified for them."""
    stopped, predicted, lock = threading.Event(), 0, threading.Lock()
    large = encode(Image.fromarray(np.random.default_rng(1).integers(0, 256, (400, 400, 3), np.uint8)), "BMP")

    def compete() -> None:
        nonlocal predicted
        with httpx2.Client(base_url=url, timeout=30) as client:
            while not stopped.is_set():
                answer = client.post("/predict", content=large)
                with lock:
                    predicted += answer.status_code == 200

    threads = [threading.Thread(target=compete) for _ in range(OTHERS)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: predicted
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def count(url: str, outcome: str) -> int:
    found = re.search(rf'sightglass_images_total{{outcome="{outcome}"}} ([0-9.e+]+)', metrics(url))
    assert found
    return int(float(found[1]))


@pytest.mark.parametrize("ask", [ask_sync, ask_async], ids=["sync", "async"])
def test_files_through_an_overloaded_service_are_all_answered_and_none_twice(
    ask: Ask, files: list[Path], expected: Pixels, tmp_path: Path
) -> None:
    with serving(DEFAULT_MODEL, tmp_path, MAX_QUEUE=MAX_QUEUE) as server:
        with competition(server.url) as predicted_for_others:
            answers = ask(server.url, "predict_many", files, concurrency=CONCURRENCY, top_k="all", timeout=120)
        check(answers, expected)
        assert count(server.url, "predicted") == COUNT + predicted_for_others()
        assert count(server.url, "rejected") > COUNT / 10, "or nothing was overloaded"
        assert count(server.url, "disconnected") == count(server.url, "failed") == 0


def test_a_service_that_dies_and_comes_back_costs_no_answer(
    files: list[Path], expected: Pixels, tmp_path: Path
) -> None:
    with serving(DEFAULT_MODEL, tmp_path / "first") as first, Client(first.url, timeout=60) as client:
        coming = client.predict_many(files, concurrency=CONCURRENCY, top_k="all")
        answers = [next(coming) for _ in range(COUNT // 3)]
        first.process.kill()
        first.process.wait()
        port = first.url.rpartition(":")[2]
        with serving(DEFAULT_MODEL, tmp_path / "second", PORT=port) as second:
            answers += coming
            assert 0 < count(second.url, "predicted") <= COUNT - COUNT // 3
    check(answers, expected)
