"""What is told of answered images, and the messages of an answer that is sent at once."""

from collections.abc import Sequence

from starlette.types import Message

from app.http.middleware import Trace
from app.inference.classifier import Prediction
from app.telemetry.metrics import Metrics


def whole(body: bytes, kind: bytes, *head: tuple[bytes, bytes]) -> tuple[Message, Message]:
    """A 200 of this content type, and its whole body; `head`: further headers."""
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *head]
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    return start, {"type": "http.response.body", "body": body}


def record(prediction: Prediction, bytes_in: int, trace: Trace) -> None:
    """What the log and Server-Timing say of a request with one image."""
    geometry = prediction.decoded.geometry
    label, confidence = prediction.top_k[0]
    _fill(trace.stages, prediction)
    trace.facts.update(
        bytes_in=bytes_in,
        format=prediction.decoded.format,
        width=geometry.width,
        height=geometry.height,
        batch_size=prediction.answer.batch_size,
        prediction=label,
        confidence=round(confidence, 4),
    )


def record_together(predictions: Sequence[Prediction], bytes_in: int, trace: Trace) -> None:
    """The same of images that went side by side: the request's stages are the slowest's."""
    for prediction in predictions:
        stages: dict[str, float] = {}
        _fill(stages, prediction)
        for stage, seconds in stages.items():
            trace.stages[stage] = max(seconds, trace.stages.get(stage, 0.0))
    batch_size = max(prediction.answer.batch_size for prediction in predictions)
    trace.facts.update(bytes_in=bytes_in, images=len(predictions), batch_size=batch_size)
    if len(predictions) == 1:
        label, confidence = predictions[0].top_k[0]
        trace.facts.update(prediction=label, confidence=round(confidence, 4))


def observe(prediction: Prediction, bytes_in: int, metrics: Metrics) -> None:
    """What the metrics say of one image; its stages are the request's, see `Trace`."""
    geometry = prediction.decoded.geometry
    metrics.observe_prediction(*prediction.top_k[0], bytes_in, geometry.width * geometry.height)


def observe_file(prediction: Prediction, bytes_in: int, metrics: Metrics) -> None:
    """The same of one of many files, each of which has stages of its own."""
    stages: dict[str, float] = {}
    _fill(stages, prediction)
    metrics.observe_stages(stages)
    observe(prediction, bytes_in, metrics)


def _fill(stages: dict[str, float], prediction: Prediction) -> None:
    stages["decode"] = prediction.decode_seconds
    stages["queue"] = prediction.answer.queue_seconds
    stages["inference"] = prediction.answer.inference_seconds
