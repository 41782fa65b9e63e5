"""What is served and how it fares: GET /model, /metrics, /docs/errors and a hint at /."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from app.artifact.image import ACCEPTED
from app.classifier import Classifier
from app.errors import as_markdown
from app.metrics import Metrics
from app.routes.documented import METRICS, example
from app.schemas import ModelCard, model_card


def router(classifier: Classifier, metrics: Metrics) -> APIRouter:
    """The routes, about the classifier."""
    routes = APIRouter()
    card = model_card(classifier.served)

    @routes.get("/model", responses={200: {"model": ModelCard, **example(card)}})
    async def model() -> Response:
        """The manifest: labels, input, variants with their proofs, provenance; and what this process serves."""
        return JSONResponse(card)

    @routes.get("/metrics", response_class=PlainTextResponse, responses={200: example(METRICS, "text/plain")})
    async def exposition() -> Response:
        """Prometheus metrics, summed over all workers."""
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    @routes.get("/docs/errors", include_in_schema=False)
    async def errors() -> PlainTextResponse:
        return PlainTextResponse(as_markdown(), media_type="text/markdown; charset=utf-8")

    @routes.get("/", include_in_schema=False)
    async def hint(request: Request) -> PlainTextResponse:
        base = str(request.base_url)
        return PlainTextResponse(
            f"Sightglass serves {classifier.served.manifest.name} {classifier.served.manifest.version}.\n"
            f"POST a picture ({', '.join(ACCEPTED)}) to {base}predict:\n\n"
            f"  curl -F file=@cat.jpg {base}predict\n\n"
            f"The API: {base}docs   the model: {base}model   health: {base}health\n"
        )

    return routes
