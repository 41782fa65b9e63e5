"""What is served and how it fares: GET /model, /metrics and /docs/errors."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from app.classifier import Classifier
from app.errors import as_markdown
from app.metrics import Metrics
from app.schemas import model_card


def router(classifier: Classifier, metrics: Metrics) -> APIRouter:
    """The routes, about the classifier."""
    routes = APIRouter()

    @routes.get("/model")
    async def model() -> dict[str, Any]:
        """The manifest: labels, input, variants with their proofs, provenance; and what this process serves."""
        return model_card(classifier.served)

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def exposition() -> Response:
        """Prometheus metrics, summed over all workers."""
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    @routes.get("/docs/errors", include_in_schema=False)
    async def errors() -> PlainTextResponse:
        return PlainTextResponse(as_markdown(), media_type="text/markdown; charset=utf-8")

    return routes
