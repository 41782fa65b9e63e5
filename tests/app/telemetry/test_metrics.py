"""Metrics, read as Prometheus reads them from real processes."""

import math
import random
import re
import string
from pathlib import Path

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from app.errors import PROBLEMS
from app.telemetry.metrics import _Histogram
from tests.images import drawing, encode
from tests.serving import metrics, serving


def scrape(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name, sorted labels) -> value."""
    families = text_string_to_metric_families(metrics(url))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(samples: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float:
    return samples[f"sightglass_{name}", tuple(sorted(labels.items()))]


def test_many_at_once_are_what_each_for_itself_is() -> None:
    def histogram() -> _Histogram:
        return _Histogram("some", "Some.", registry=CollectorRegistry(), buckets=(0.1, 1, 2.5))

    amounts = [0.0, 0.1, 0.100001, 1, 1, 2.4, 2.5, 3, 1e9]
    together, each = histogram(), histogram()
    together.observe_all(amounts)
    for amount in amounts:
        each.observe(amount)
    assert [sample.value for sample in _samples(together)] == pytest.approx([sample.value for sample in _samples(each)])


def test_what_a_broken_engine_answers_takes_no_other_image_out_of_the_count() -> None:
    some = _Histogram("some", "Some.", registry=CollectorRegistry(), buckets=(0.1, 1))
    some.observe_all([0.5, math.nan, 0.05])
    counts = {sample.labels.get("le"): sample.value for sample in _samples(some) if sample.name == "some_bucket"}
    assert counts == {"0.1": 1, "1.0": 2, "+Inf": 3}


def _samples(histogram: _Histogram) -> list[Sample]:
    return [sample for family in histogram.collect() for sample in family.samples]


def test_two_workers_count_every_request(digits_artifact: Path, tmp_path: Path) -> None:
    with serving(digits_artifact, tmp_path, WORKERS=2) as server:
        file = encode(drawing())
        for number in range(100):  # a new connection each, so that both workers get some
            assert httpx2.post(f"{server.url}/predict", content=file).status_code == 200, number
        httpx2.post(f"{server.url}/predict", content=b"no image")
        samples, wanted = scrape(server.url), {"method": "POST", "route": "/predict"}
        while value(samples, "http_requests_total", status="200", **wanted) < 100:  # until both workers have written
            samples = scrape(server.url)
    assert value(samples, "http_requests_total", status="200", **wanted) == 100
    assert value(samples, "images_total", outcome="predicted") == 100
    assert value(samples, "images_total", outcome="invalid") == 1
    assert value(samples, "problems_total", code="unsupported_image") == 1
    assert value(samples, "prediction_confidence_ratio_count") == 100
    assert value(samples, "stage_duration_seconds_count", stage="inference") == 100
    assert sum(v for (name, _), v in samples.items() if name == "sightglass_predictions_total") == 100
    assert value(samples, "queue_images") == 0
    assert value(samples, "queue_capacity_images") == 128
    workers = {labels for name, labels in samples if name == "sightglass_worker_resident_memory_bytes"}
    assert len(workers) == 2


def test_several_workers_leave_no_files_behind(digits_artifact: Path, tmp_path: Path) -> None:
    with serving(digits_artifact, tmp_path, WORKERS=2) as server:
        assert "2 workers" in server.log.read_text()
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        mapped = " ".join(Path(f"/proc/{pid}/maps").read_text() for pid in children)
        (folder,) = set(re.findall(r"\S+/sightglass-metrics-[^/]+", mapped))
        assert list(Path(folder).glob("*.db"))
    assert not Path(folder).exists()
    assert "Traceback" not in server.log.read_text()


def test_everything_is_there_before_the_first_request(digits_artifact: Path, tmp_path: Path) -> None:
    with serving(digits_artifact, tmp_path) as server:
        samples = scrape(server.url)
    for code in PROBLEMS:
        assert value(samples, "problems_total", code=code) == 0
    for label in "0123456789":
        assert value(samples, "predictions_total", **{"class": label}) == 0
    assert value(samples, "ready") == 1
    assert value(samples, "selftest_max_probability_difference") < 0.1
    assert value(samples, "worker_resident_memory_bytes", worker="1") > 10e6
    assert not [name for name, _ in samples if name.endswith("_created")]


def test_random_paths_do_not_become_series(digits_artifact: Path, tmp_path: Path) -> None:
    generator = random.Random(0)
    with serving(digits_artifact, tmp_path) as server, httpx2.Client(base_url=server.url) as client:
        for _ in range(1000):
            client.get("/" + "".join(generator.choices(string.ascii_lowercase, k=12)))
        samples = scrape(server.url)
    assert value(samples, "http_requests_total", method="GET", route="unmatched", status="404") == 1000
    assert len(samples) < 1500
