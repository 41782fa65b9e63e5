"""POST /explain: the heat map of one class over the image."""

import difflib
import functools
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.artifact.decoder.geometry import Box, margins
from app.artifact.manifest import Manifest
from app.errors import Problem
from app.http import negotiation, schemas
from app.http.exchange import Exchange, Terms
from app.http.openapi import BINARY, EXPLANATION, example, problems
from app.http.parameters import IMAGE, Timeout
from app.http.schemas import ExplanationResponse
from app.inference import heatmap
from app.inference.classifier import Classifier, Prediction
from app.inference.heatmap import LONGEST_SIDE, Explanation, Method
from app.inference.occlusion import Occlusion

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


def router(classifier: Classifier, occlusion: Occlusion, terms: Terms) -> APIRouter:
    """The route, around what it explains."""
    routes = APIRouter()
    served = classifier.served
    errors = problems(400, 406, 413, 415, 422, 429, 500, 503, 504)

    @routes.post("/explain", response_model=ExplanationResponse, responses=_OVERLAY | errors, openapi_extra=IMAGE)
    async def explain(request: Request, label: Label = None, timeout_ms: Timeout = None) -> Response:
        """Say where in the image the evidence for a class lies."""
        label = _known(label, served.manifest.labels)
        form = negotiation.choose(request.scope["headers"], (_JSON, _PNG))
        with Exchange(terms, request, timeout_ms, answered="explained", long=True) as exchange:
            image = await exchange.image()
            prediction = await classifier.predict(image, top_k=1)
            started = time.perf_counter()
            explained = await _explain(prediction, label or prediction.top_k[0][0], served.manifest, occlusion)
            if form == _PNG:
                draw = functools.partial(heatmap.overlay, explained)
                body = await classifier.display(image, LONGEST_SIDE, draw)
            else:
                body = schemas.explanation_json(explained, prediction, served)
            exchange.record(prediction)
            exchange.trace.stages["explain"] = time.perf_counter() - started
            exchange.trace.facts.update(explained=explained.label, explanation=explained.method)
        return Response(body, media_type=form, headers={"Vary": "accept"})

    return routes


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
