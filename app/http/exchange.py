"""What becomes of each image, whichever route it came by."""

from typing import Self

from app.artifact.decoder.decode import ImageError
from app.errors import Problem
from app.telemetry.metrics import Metrics

_OUTCOMES = {
    "queue_full": "rejected",
    "deadline_exceeded": "expired",
    "disconnected": "disconnected",
    "internal_error": "failed",
}


class Counted:
    """A context: each image exactly once in images_total, as `answered` if all goes well, and in queue_images from
    when it is there."""

    def __init__(self, metrics: Metrics, images: int = 1, answered: str = "predicted", arriving: bool = False) -> None:
        """`arriving`: it is still to come, see `arrived`."""
        self._metrics = metrics
        self._images = images
        self._answered = answered
        self._arriving = arriving
        self._queued = 0

    def __enter__(self) -> Self:
        if not self._arriving:
            self.arrived()
        return self

    def arrived(self) -> None:
        """It is there, and has a place."""
        self._queued = self._images
        self._metrics.queued += self._queued

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._metrics.queued -= self._queued
        self._metrics.count_outcome(self._outcome(error), self._images)

    def _outcome(self, error: BaseException | None) -> str:
        if error is None:
            return self._answered
        if isinstance(error, ImageError):
            return "invalid"
        return outcome_of(error) if isinstance(error, Problem) else "failed"


def outcome_of(problem: Problem) -> str:
    """What becomes of an image that ends with it."""
    return _OUTCOMES.get(problem.code, "invalid")
