"""The Prometheus metrics: names, labels and buckets in one place, right for any number of workers."""

import fcntl
import itertools
import os
import time
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from app import DISTRIBUTION, machine
from app.artifact.manifest import FILE, fingerprint
from app.engines.variants import VARIANTS
from app.errors import PROBLEMS
from app.inference.loading import Served

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is first imported
OUTCOMES = ("predicted", "explained", "invalid", "rejected", "expired", "disconnected", "failed")
STAGES = ("receive", "decode", "queue", "inference", "explain")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SHORT_SECONDS = (0.0001, 0.00025, 0.0005, *_SECONDS)
_BYTES = tuple(float(4**power) for power in range(5, 14))  # 1 KiB .. 64 MiB
_PIXELS = tuple(float(4**power) for power in range(5, 14))  # 32 x 32 .. 8192 x 8192
_CONFIDENCE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
MAX_CLASSES = 100


class _Histogram(Histogram):
    def observe_all(self, amounts: Sequence[float]) -> None:
        """As `observe` for each, which would go to the file that the workers share three times for each."""
        self._sum.inc(sum(amounts))
        # NaN, which a broken engine may answer, is beyond the last
        buckets = np.minimum(np.searchsorted(self._upper_bounds, amounts), len(self._buckets) - 1)
        counts = np.bincount(buckets)
        for bucket in counts.nonzero()[0].tolist():
            self._buckets[bucket].inc(int(counts[bucket]))


class _Predicted(NamedTuple):
    label: str
    confidence: float
    bytes_in: int
    pixels: int
    unfamiliar: bool


class Metrics:
    """One worker's metrics; `exposition` adds up all workers'.

    What is counted and observed waits for `write`. `in_progress`, `queued`: requests being answered, images admitted
    and not yet answered.
    """

    def __init__(self, served: Served, queue_capacity: int) -> None:
        """Every label value that is known beforehand starts at 0, so that a rate has something to start from."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, never used
        self.registry = CollectorRegistry()
        self.in_progress = self.queued = 0
        self._counted: Tally[Counter] = Tally()
        self._observed: dict[_Histogram, list[float]] = defaultdict(list)
        self._answers: list[tuple[tuple[str, str, int], float]] = []
        self._stage_seconds: list[Mapping[str, float]] = []
        self._predicted: list[_Predicted] = []
        self._requests = self._counter("http_requests", "HTTP requests.", "method", "route", "status")
        self._duration = self._histogram("http_request_duration_seconds", "Request to response.", _SECONDS, "route")
        self._in_progress = self._gauge("http_requests_in_progress", "Requests being answered.", "livesum")
        problems = self._counter("problems", "Error responses.", "code")
        self._problems = {code: problems.labels(code) for code in PROBLEMS}
        images = self._counter("images", "Images, each counted once.", "outcome")
        self._images = {outcome: images.labels(outcome) for outcome in OUTCOMES}
        stages = self._histogram("stage_duration_seconds", "Time in a stage.", _SHORT_SECONDS, "stage")
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._queued = self._gauge("queue_images", "Images admitted and not yet answered.", "livesum")
        self._batch_size = self._histogram("batch_size", "Images per engine run.", (1, 2, 4, 8, 16, 32, 64))
        self._engine_busy = self._counter("engine_busy_seconds", "Time in the engine; its rate is the utilisation.")
        self._upload_bytes = self._histogram("upload_size_bytes", "Size of the encoded image.", _BYTES)
        self._pixels = self._histogram("image_pixels", "Width times height as displayed.", _PIXELS)
        predictions = self._counter("predictions", "Answers by top-1 label.", "class")
        # more labels than that would be more series than a Prometheus wants of one service
        self._predictions = {label: predictions.labels(label) for label in served.manifest.labels[:MAX_CLASSES]}
        self._other_predictions = predictions
        self._unfamiliar = self._counter("unfamiliar_images", "Predicted images that are like none of training's.")
        self._confidence = self._histogram("prediction_confidence_ratio", "Top-1 probability.", _CONFIDENCE)
        self._keys: dict[str, Counter] = {}
        self.ready = self._gauge("ready", "1 while images are answered.", "livemin")
        self._cpu_seen = 0.0
        self._worker_gauges()
        self._describe(served, queue_capacity)

    def observe_request(self, method: str, route: str, status: int, seconds: float, code: str | None) -> None:
        """One answer; `code` of the problem, if it is one."""
        self._answers.append(((method, route, status), seconds))
        if code:
            self._counted[self._problems[code]] += 1

    def expect_keys(self, names: Iterable[str]) -> None:
        """The names whose keys are known; without any there is no such metric."""
        requests = self._counter("authenticated_requests", "HTTP requests by the name of their key.", "key")
        self._keys = {name: requests.labels(name) for name in names}

    def count_key(self, name: str) -> None:
        """One request with the key of that name."""
        self._counted[self._keys[name]] += 1

    def observe_stages(self, seconds: Mapping[str, float]) -> None:
        """What parts of a request took."""
        self._stage_seconds.append(seconds)

    def observe_prediction(
        self, label: str, confidence: float, bytes_in: int, pixels: int, unfamiliar: bool = False
    ) -> None:
        """One image that was answered with a prediction; explanations, asked for of the odd ones, are none."""
        self._predicted.append(_Predicted(label, confidence, bytes_in, pixels, unfamiliar))

    def count_outcome(self, outcome: str, images: int = 1) -> None:
        """What became of so many images; of OUTCOMES."""
        self._counted[self._images[outcome]] += images

    def observe_batch(self, size: int, seconds: float) -> None:
        """One engine run."""
        self._observed[self._batch_size].append(size)
        self._counted[self._engine_busy] += seconds  # type: ignore[assignment]  # a tally of seconds

    def write(self) -> None:
        """Let scrapes see what has been counted, here and in the other workers."""
        self._in_progress.set(self.in_progress)
        self._queued.set(self.queued)
        self._sort_answers()
        self._sort_stages()
        self._sort_predicted()
        counted, self._counted = self._counted, Tally()
        for counter, amount in counted.items():
            counter.inc(amount)
        observed, self._observed = self._observed, defaultdict(list)
        for histogram, amounts in observed.items():
            histogram.observe_all(amounts)

    def _sort_answers(self) -> None:
        answers, self._answers = self._answers, []
        for (method, route, status), count in Tally(answer for answer, _ in answers).items():
            self._counted[self._requests.labels(method, route, str(status))] += count
        by_route: dict[str, list[float]] = defaultdict(list)
        for (_, route, _), seconds in answers:
            by_route[route].append(seconds)
        for route, durations in by_route.items():
            self._duration.labels(route).observe_all(durations)

    def _sort_stages(self) -> None:
        seconds, self._stage_seconds = self._stage_seconds, []
        by_stage: dict[str, list[float]] = defaultdict(list)
        for each in seconds:
            for stage, amount in each.items():
                by_stage[stage].append(amount)
        for stage, amounts in by_stage.items():
            self._stages[stage].observe_all(amounts)

    def _sort_predicted(self) -> None:
        predicted, self._predicted = self._predicted, []
        if not predicted:
            return
        for label, count in Tally(one.label for one in predicted).items():
            self._counted[self._predictions.get(label) or self._other_predictions.labels("other")] += count
        self._counted[self._unfamiliar] += sum(one.unfamiliar for one in predicted)
        self._confidence.observe_all([one.confidence for one in predicted])
        self._upload_bytes.observe_all([one.bytes_in for one in predicted])
        self._pixels.observe_all([one.pixels for one in predicted])

    def observe_process(self) -> None:
        """Refresh this worker's memory and CPU; prometheus_client's own process metrics know no workers."""
        self._memory.set(machine.resident_bytes())
        cpu = time.process_time()
        self._cpu.inc(cpu - self._cpu_seen)
        self._cpu_seen = cpu

    def exposition(self) -> bytes:
        """The text format, over all workers where there are several."""
        self.write()
        if MULTIPROCESS not in os.environ:
            return generate_latest(self.registry)
        every_worker = CollectorRegistry()
        MultiProcessCollector(every_worker)  # type: ignore[no-untyped-call]
        return generate_latest(every_worker)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"sightglass_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, mode: str, *labels: str) -> Gauge:
        return Gauge(f"sightglass_{name}", text, labels, registry=self.registry, multiprocess_mode=mode)  # type: ignore[arg-type]

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> _Histogram:
        return _Histogram(f"sightglass_{name}", text, labels, registry=self.registry, buckets=buckets)

    def _worker_gauges(self) -> None:
        worker = str(_worker_index())
        self._memory = self._gauge("worker_resident_memory_bytes", "RSS.", "livemax", "worker").labels(worker)
        self._cpu = self._counter("worker_cpu_seconds", "User and system CPU time.", "worker").labels(worker)
        started = self._gauge("worker_start_timestamp_seconds", "Unix time of the start.", "livemax", "worker")
        started.labels(worker).set(time.time())
        self.observe_process()

    def _describe(self, served: Served, queue_capacity: int) -> None:
        manifest = served.manifest
        model = self._gauge("model_info", "What is served.", "livemax", "name", "version", "variant", "sha256")
        digest = fingerprint(served.folder / FILE).sha256
        model.labels(manifest.name, str(manifest.version), served.variant, digest).set(1)
        build = self._gauge("build_info", "What serves it.", "livemax", "version", "engine_version")
        library = VARIANTS[served.variant].library
        build.labels(version(DISTRIBUTION), f"{library} {version(library)}").set(1)
        self._gauge("queue_capacity_images", "Places, see MAX_QUEUE.", "livesum").set(queue_capacity)
        selftest = "selftest_max_probability_difference"
        self._gauge(selftest, "To the checkpoint, on the golden images.", "livemax").set(served.difference)
        self._gauge("selftest_timestamp_seconds", "Unix time of the self-test.", "livemax").set(time.time())
        self._gauge("model_load_duration_seconds", "Loading and self-test.", "livemax").set(served.seconds)


def forget_dead_workers() -> None:
    """Drop the gauges of workers that crashed; a replaced worker calls it when it starts."""
    for path in Path(os.environ.get(MULTIPROCESS, "")).glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _worker_index() -> int:
    """1 for a lone worker; else the lowest number that no living worker has: a lock on a file, held until this dies."""
    for index in itertools.count(1):
        if MULTIPROCESS not in os.environ:
            return index
        slot = os.open(Path(os.environ[MULTIPROCESS]) / f"worker-{index}.lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(slot)
            continue
        return index
    raise AssertionError
