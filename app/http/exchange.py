"""One request with images, from its head to its answer: what comes before and after the work of every such route."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple, Self

from starlette.requests import Request
from starlette.types import Receive

from app.artifact.decoder.decode import ImageError
from app.errors import Problem
from app.http.body import coding_of, inflating
from app.http.middleware.request_log import trace_of
from app.http.upload import Hold, read_body, read_image
from app.inference.classifier import Prediction
from app.limits.admission import Admission
from app.limits.deadline import Deadline
from app.telemetry.metrics import Metrics

Read = Callable[[Mapping[bytes, bytes], Receive, int, Hold], Awaitable[bytes]]
_OUTCOMES = {
    "queue_full": "rejected",
    "deadline_exceeded": "expired",
    "disconnected": "disconnected",
    "internal_error": "failed",
}


class Terms(NamedTuple):
    """What every exchange of a service is under; an image has at most so many bytes, and an answer so much time."""

    admission: Admission
    metrics: Metrics
    max_upload_bytes: int
    deadline_ms: int


class Exchange:
    """A context. Inside, the time runs. Leaving ends that, gives back what the request has held, counts what has become
    of its images, and raises in place of its own cancellation the Problem that was the reason.

    `headers`: of equal names the last. `images`: how many have yet to be counted. `bytes_in`: of the body.
    """

    def __init__(
        self, terms: Terms, request: Request, timeout_ms: str | None, answered: str = "predicted", long: bool = False
    ) -> None:
        """`timeout_ms` as the client sent it; `answered` is what becomes of an image if all goes well; `long`: it takes
        longer than a prediction, see Admission. Raises Problem: bad_parameter."""
        self.terms = terms
        self.headers: Mapping[bytes, bytes] = dict(request.scope["headers"])
        self.trace = trace_of(request.scope)
        self.deadline = Deadline(timeout_ms, terms.deadline_ms)
        self.images = self.bytes_in = 0
        self._request = request
        self._answered = answered
        self._long = long
        self._places: list[AbstractContextManager[object]] = []  # an ExitStack takes 2 % more steps of the interpreter
        self._queued = 0

    def __enter__(self) -> Self:
        self.deadline.begin()
        return self

    async def image(self) -> bytes:
        """The request's one image, encoded, and a place for it. Raises Problem, see Admission and read_image."""
        return await self._receive(read_image)

    async def body(self) -> bytes:
        """The body that one image is in, and a place for it. Raises Problem, see Admission and read_body."""
        return await self._receive(read_body)

    async def _receive(self, read: Read) -> bytes:
        self.images = 1
        place = self.terms.admission.upload(self.deadline.end_for_others, self._long)
        upload = place.__enter__()
        self._places.append(place)
        started = time.perf_counter()
        try:
            content = await read(self.headers, self._request.receive, self.terms.max_upload_bytes, upload.hold)
        finally:
            self.trace.stages["receive"] = time.perf_counter() - started
        upload.complete()
        self._queue(1)
        self.watch()
        self.bytes_in = len(content)
        return content

    def stream(self) -> tuple[Receive, int | None]:
        """What gives the body as it was before it was compressed; and its size in bytes, where that is known.

        Raises Problem: unsupported_encoding.
        """
        if coding := coding_of(self.headers):
            return inflating(self._request.receive, coding, self.terms.max_upload_bytes), None
        announced = self.headers.get(b"content-length", b"")
        return self._request.receive, int(announced) if announced.isdigit() else None

    def admit(self, images: int) -> None:
        """Places for further images that the body has brought. Raises Problem: queue_full."""
        self.images += images
        self._queue(images)
        places = self.terms.admission.admit(images)
        places.__enter__()
        self._places.append(places)

    def watch(self, received: bool = True) -> None:
        """End when the client leaves, from here on. `received`: whether the whole body has been."""
        self.deadline.watch(self._request.scope["state"].get("closed"), received)

    def _queue(self, images: int) -> None:
        self._queued += images
        self.terms.metrics.queued += images

    def record(self, prediction: Prediction) -> None:
        """What the log, the metrics and Server-Timing say of the one image; `explained` ones, which are the odd ones,
        are in no distribution of the metrics."""
        geometry = prediction.decoded.geometry
        self.trace.stages.update(stages_of(prediction))
        self.trace.facts.update(
            bytes_in=self.bytes_in,
            format=prediction.decoded.format,
            width=geometry.width,
            height=geometry.height,
            batch_size=prediction.answer.batch_size,
        )
        self._tell(prediction)
        if self._answered == "predicted":
            observe(prediction, self.bytes_in, self.terms.metrics)

    def _tell(self, prediction: Prediction) -> None:
        label, confidence = prediction.top_k[0]
        self.trace.facts.update(prediction=label, confidence=round(confidence, 4))
        if "unfamiliar" in prediction.doubts:
            self.trace.facts["unfamiliar"] = prediction.doubts["unfamiliar"]

    def record_together(self, predictions: Sequence[Prediction]) -> None:
        """The same of images that went side by side: each stage is as long as the slowest's."""
        for prediction in predictions:
            for stage, seconds in stages_of(prediction).items():
                self.trace.stages[stage] = max(seconds, self.trace.stages.get(stage, 0.0))
            observe(prediction, self.bytes_in // len(predictions), self.terms.metrics)
        batch_size = max(prediction.answer.batch_size for prediction in predictions)
        self.trace.facts.update(bytes_in=self.bytes_in, images=len(predictions), batch_size=batch_size)
        if len(predictions) == 1:
            self._tell(predictions[0])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        over = self.deadline.end(error)
        if over is not None:
            kind, error = Problem, over
        while self._places:
            self._places.pop().__exit__(kind, error, traceback)
        self.terms.metrics.queued -= self._queued
        if self.images:
            outcome = self._answered if error is None else outcome_of(error)
            self.terms.metrics.count_outcome(outcome, self.images)
        if over is not None:
            raise over from None


def outcome_of(error: BaseException) -> str:
    """What becomes of an image that ends with it."""
    if isinstance(error, Problem):
        return _OUTCOMES.get(error.code, "invalid")
    return "invalid" if isinstance(error, ImageError) else "failed"


def stages_of(prediction: Prediction) -> dict[str, float]:
    """Name -> seconds."""
    return {
        "decode": prediction.decode_seconds,
        "queue": prediction.answer.queue_seconds,
        "inference": prediction.answer.inference_seconds,
    }


def observe(prediction: Prediction, bytes_in: int, metrics: Metrics) -> None:
    """What the metrics' distributions say of one image."""
    geometry = prediction.decoded.geometry
    unfamiliar = prediction.doubts.get("unfamiliar", False)
    metrics.observe_prediction(*prediction.top_k[0], bytes_in, geometry.width * geometry.height, unfamiliar)
