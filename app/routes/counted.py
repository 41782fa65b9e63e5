"""What becomes of each picture, whichever route it came by."""

from app.artifact.image import ImageError
from app.errors import Problem
from app.metrics import Metrics

_OUTCOMES = {
    "queue_full": "rejected",
    "deadline_exceeded": "expired",
    "disconnected": "disconnected",
    "internal_error": "failed",
}


class Counted:
    """A context: each picture exactly once in images_total, as `answered` if all goes well, and in queue_images
    meanwhile."""

    def __init__(self, metrics: Metrics, images: int = 1, answered: str = "predicted") -> None:
        self._metrics = metrics
        self._images = images
        self._answered = answered

    def __enter__(self) -> None:
        self._metrics.queued += self._images

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._metrics.queued -= self._images
        self._metrics.count_outcome(self._outcome(error), self._images)

    def _outcome(self, error: BaseException | None) -> str:
        if error is None:
            return self._answered
        if isinstance(error, ImageError):
            return "invalid"
        return outcome_of(error) if isinstance(error, Problem) else "failed"


def outcome_of(problem: Problem) -> str:
    """What becomes of a picture that ends with it."""
    return _OUTCOMES.get(problem.code, "invalid")
