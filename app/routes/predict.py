"""POST /predict."""

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.http import schemas
from app.http.exchange import Exchange, Terms
from app.http.openapi import PREDICTION, example, problems
from app.http.parameters import IMAGE, Timeout, TopK, labels_of
from app.http.schemas import PredictionResponse
from app.inference.classifier import Classifier

_ANSWERS = {200: example(PREDICTION), **problems(400, 413, 415, 422, 429, 500, 503, 504)}


def route(classifier: Classifier, terms: Terms) -> APIRoute:
    """The route, around what it serves; most requests reach its handler by app.http.middleware.fast_path."""
    served = classifier.served

    async def predict(request: Request, top_k: TopK = None, timeout_ms: Timeout = None) -> Response:
        """Classify one image."""
        count = labels_of(top_k, len(served.manifest.labels))
        with Exchange(terms, request, timeout_ms) as exchange:
            image = await exchange.image()
            prediction = await classifier.predict(image, count)
            exchange.record(prediction)
        return Response(schemas.prediction_json(prediction, served), media_type="application/json")

    return APIRoute(
        "/predict",
        predict,
        methods=["POST"],
        response_model=PredictionResponse,
        responses=_ANSWERS,
        openapi_extra=IMAGE,
    )
