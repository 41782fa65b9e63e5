"""What is served and how it fares: GET /model, /metrics and /docs/errors."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from app.errors import as_markdown
from app.http.openapi import MANIFEST, METRICS, example
from app.http.schemas import ServedManifest, served_manifest
from app.inference.classifier import Classifier
from app.telemetry.metrics import Metrics


def router(classifier: Classifier, metrics: Metrics) -> APIRouter:
    """The routes, about the classifier."""
    routes = APIRouter()

    @routes.get("/model", responses={200: {"model": ServedManifest, **example(MANIFEST)}})
    async def model() -> Response:
        """The manifest: labels, input, variants with their proofs, provenance; and what this process serves."""
        return JSONResponse(served_manifest(classifier.served))

    @routes.get("/metrics", response_class=PlainTextResponse, responses={200: example(METRICS, "text/plain")})
    async def exposition() -> Response:
        """Prometheus metrics, summed over all workers."""
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    @routes.get("/docs/errors", include_in_schema=False)
    async def errors() -> PlainTextResponse:
        return PlainTextResponse(as_markdown(), media_type="text/markdown; charset=utf-8")

    return routes
