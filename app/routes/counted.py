"""What becomes of each picture, whichever route it came by."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.artifact.image import ImageError
from app.errors import Problem
from app.metrics import Metrics

_OUTCOMES = {
    "queue_full": "rejected",
    "deadline_exceeded": "expired",
    "disconnected": "disconnected",
    "internal_error": "failed",
}


@contextmanager
def counted(metrics: Metrics, images: int = 1, answered: str = "predicted") -> Iterator[None]:
    """Each picture exactly once in images_total, as `answered` if all goes well, and in queue_images meanwhile."""
    outcome = "failed"
    metrics.queued += images
    try:
        yield
        outcome = answered
    except ImageError:
        outcome = "invalid"
        raise
    except Problem as problem:
        outcome = outcome_of(problem)
        raise
    finally:
        metrics.queued -= images
        metrics.count_outcome(outcome, images)


def outcome_of(problem: Problem) -> str:
    """What becomes of a picture that ends with it."""
    return _OUTCOMES.get(problem.code, "invalid")
