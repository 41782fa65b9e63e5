"""POST /predict."""

from starlette.types import Receive, Scope, Send

from app.http import schemas
from app.http.answered import observe, record, whole
from app.http.asgi_route import PlainRoute
from app.http.exchange import Counted
from app.http.middleware import trace_of
from app.http.openapi import PREDICTION, example, problems
from app.http.parameters import IMAGE, Timeout, TopK, labels_of, query_of
from app.http.schemas import PredictionResponse
from app.http.upload import read_image
from app.inference.classifier import Classifier
from app.limits.deadline import Patience
from app.telemetry.metrics import Metrics

_ANSWERS = {200: example(PREDICTION), **problems(400, 413, 415, 422, 429, 500, 503, 504)}


def route(classifier: Classifier, metrics: Metrics, max_upload_bytes: int, deadline_ms: int) -> PlainRoute:
    """The route, around what it serves."""
    labels = len(classifier.served.manifest.labels)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        trace = trace_of(scope)
        top_k = labels_of(query_of(scope), labels)
        headers = dict(scope["headers"])
        patience = Patience.of(headers, deadline_ms)
        admission, counted = classifier.admission, Counted(metrics, arriving=True)
        with counted, admission.upload(patience.end_for_others) as upload, patience:
            with trace.stage("receive"):
                image = await read_image(headers, receive, max_upload_bytes, upload.hold)
            upload.complete()
            counted.arrived()
            patience.watch(scope["state"].get("closed"))
            prediction = await classifier.predict(image, top_k)
        record(prediction, len(image), trace)
        observe(prediction, len(image), metrics)
        for message in whole(schemas.prediction_json(prediction, classifier.served), b"application/json"):
            await send(message)

    def predict(top_k: TopK = None, x_request_timeout_ms: Timeout = None) -> PredictionResponse:
        """Classify one image."""
        raise NotImplementedError

    return PlainRoute("/predict", answer, predict, methods=["POST"], responses=_ANSWERS, openapi_extra=IMAGE)
