"""GET /health and its two orchestrator forms; none of them waits behind inference."""

from typing import Any

from fastapi import APIRouter, Response

from app.http.drain import Drain, why_not_ready
from app.http.openapi import HEALTHY, UNHEALTHY, example
from app.http.schemas import Health
from app.inference.classifier import Classifier


def router(classifier: Classifier, drain: Drain) -> APIRouter:
    """The routes, about the classifier."""
    routes = APIRouter()
    answers: dict[int | str, dict[str, Any]] = {
        200: example(HEALTHY),
        503: {"model": Health, "description": "Not able to answer; `detail` says why.", **example(UNHEALTHY)},
    }

    def answer(response: Response, trouble: str) -> Health:
        response.status_code = 503 if trouble else 200
        response.headers["Cache-Control"] = "no-store"
        return Health.of(classifier.served, trouble)

    @routes.get("/health", responses=answers)
    @routes.get("/health/ready", responses=answers)
    async def ready(response: Response) -> Health:
        """Whether to send images: the self-test passed, the engine works, and the service is not about to stop."""
        return answer(response, why_not_ready(classifier, drain))

    @routes.get("/health/live", responses=answers)
    async def live(response: Response) -> Health:
        """Whether a restart would not help; an engine that failed is asked again every few seconds."""
        return answer(response, classifier.why_not_live())

    return routes
