"""GET /health and its two orchestrator forms; none of them waits behind inference."""

from typing import Any

from fastapi import APIRouter, Response

from app.classifier import Classifier
from app.schemas import Health


def router(classifier: Classifier) -> APIRouter:
    """The routes, about the classifier."""
    routes = APIRouter()
    unavailable: dict[int | str, dict[str, Any]] = {
        503: {"model": Health, "description": "Not able to answer; `detail` says why."}
    }

    def answer(response: Response, trouble: str) -> Health:
        response.status_code = 503 if trouble else 200
        response.headers["Cache-Control"] = "no-store"
        return Health.of(classifier.served, trouble)

    @routes.get("/health", responses=unavailable)
    @routes.get("/health/ready", responses=unavailable)
    async def ready(response: Response) -> Health:
        """Whether pictures are answered: the self-test passed and the engine works."""
        return answer(response, classifier.why_not_ready())

    @routes.get("/health/live", responses=unavailable)
    async def live(response: Response) -> Health:
        """Whether a restart would not help; an engine that failed is asked again every few seconds."""
        return answer(response, classifier.why_not_live())

    return routes
