"""POST /explain: the heat map of one class over the image."""

import difflib
import functools
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query
from starlette.types import Receive, Scope, Send

from app.artifact.decoder.geometry import Box, margins
from app.artifact.manifest import Manifest
from app.errors import Problem
from app.http import negotiation, schemas
from app.http.answered import record, whole
from app.http.asgi_route import PlainRoute
from app.http.exchange import Counted
from app.http.middleware import trace_of
from app.http.openapi import BINARY, EXPLANATION, example, problems
from app.http.parameters import IMAGE, Timeout, query_of
from app.http.schemas import ExplanationResponse
from app.http.upload import read_image
from app.inference import heatmap
from app.inference.classifier import Classifier, Prediction
from app.inference.heatmap import LONGEST_SIDE, Explanation, Method
from app.inference.occlusion import Occlusion
from app.limits.deadline import Patience
from app.telemetry.metrics import Metrics

_JSON, _PNG = "application/json", "image/png"
_OVERLAY: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"The numbers; or, where Accept prefers it, the image as displayed, at most {LONGEST_SIDE} "
        "pixels a side, with the class's heat over what the model looked at and the rest dimmed.",
        "content": {**example(EXPLANATION)["content"], _PNG: BINARY},
    }
}
_SHOWN_LABELS = 10
_COMPARED_LABELS = 200  # in the event loop, for a request that has no place yet
Label = Annotated[str | None, Query(alias="class", description="One of the labels; default: the predicted one.")]


def route(
    classifier: Classifier, occlusion: Occlusion, metrics: Metrics, max_upload_bytes: int, deadline_ms: int
) -> PlainRoute:
    """The route, around what it explains."""
    manifest = classifier.served.manifest

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        trace = trace_of(scope)
        label = _known(query_of(scope).get("class"), manifest.labels)
        form = negotiation.choose(scope["headers"], (_JSON, _PNG))
        headers = dict(scope["headers"])
        patience = Patience.of(headers, deadline_ms)
        admission, counted = classifier.admission, Counted(metrics, answered="explained", arriving=True)
        with counted, admission.upload(patience.end_for_others, long=True) as upload, patience:
            with trace.stage("receive"):
                image = await read_image(headers, receive, max_upload_bytes, upload.hold)
            upload.complete()
            counted.arrived()
            patience.watch(scope["state"].get("closed"))
            prediction = await classifier.predict(image, top_k=1)
            started = time.perf_counter()
            explained = await _explain(prediction, label or prediction.top_k[0][0], manifest, occlusion)
            if form == _PNG:
                draw = functools.partial(heatmap.overlay, explained)
                body = await classifier.display(image, LONGEST_SIDE, draw)
            else:
                body = schemas.explanation_json(explained, prediction, classifier.served)
            seconds = time.perf_counter() - started
        record(prediction, len(image), trace)
        trace.stages["explain"] = seconds
        trace.facts.update(explained=explained.label, explanation=explained.method)
        for message in whole(body, form.encode(), (b"vary", b"accept")):
            await send(message)

    def explain(label: Label = None, x_request_timeout_ms: Timeout = None) -> ExplanationResponse:
        """Say where in the image the evidence for a class lies."""
        raise NotImplementedError

    errors = problems(400, 406, 413, 415, 422, 429, 500, 503, 504)
    return PlainRoute("/explain", answer, explain, methods=["POST"], responses=_OVERLAY | errors, openapi_extra=IMAGE)


async def _explain(prediction: Prediction, label: str, manifest: Manifest, occlusion: Occlusion) -> Explanation:
    row, decoded, number = prediction.answer, prediction.decoded, manifest.labels.index(label)
    probability = float(str(row.probabilities[number]))
    size = manifest.input.width, manifest.input.height
    box: Box = (0, 0, *size)
    method: Method = "occlusion"
    seen = decoded.geometry
    maps = row.heatmap
    if maps is None:
        padding = margins((seen.left, seen.top, seen.right, seen.bottom), size)
        maps = await occlusion.maps(decoded.pixels, row.logits, padding)
    else:
        method, box = "class-activation", manifest.heatmap_box or box
    return Explanation(label, number, probability, method, maps, seen, seen.lay(box, size))


def _known(label: str | None, labels: Sequence[str]) -> str | None:
    """The label, if there is such a one. Raises Problem that names the nearest."""
    if label is None or label in labels:
        return label
    by_folded = {each.casefold(): each for each in labels} if len(labels) <= _COMPARED_LABELS else {}
    close = difflib.get_close_matches(label[:100].casefold(), by_folded, n=1)
    if close:
        hint = f'did you mean "{by_folded[close[0]]}"?'
    else:
        more = f" and {len(labels) - _SHOWN_LABELS} more, see /model" if len(labels) > _SHOWN_LABELS else ""
        hint = f"there are {', '.join(labels[:_SHOWN_LABELS])}{more}."
    raise Problem("bad_parameter", f"class={label[:40]}: the model has no such label; {hint}")
