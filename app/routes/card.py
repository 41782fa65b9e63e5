"""The model card, for the page and for people: GET /model/card, /model/card.md and /model/report.json."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, PlainTextResponse

from app.artifact import report
from app.artifact.report import Report
from app.errors import Problem
from app.http.openapi import CARD, example, problems
from app.http.schemas import CardSection
from app.inference.loading import Served
from app.model_card import markdown, sections

_FIGURES = {"schema": {"type": "object"}, "example": {"name": "cifar10", "version": 1, "evaluation": {"n": 5000}}}
_REPORT: dict[int | str, Any] = {200: {"content": {"application/json": _FIGURES}}}


def router(served: Served, measured: Report) -> APIRouter:
    """The routes, about what is served."""
    routes = APIRouter()
    told = sections.of(served, measured)
    text = markdown.card(served.manifest, told)

    @routes.get("/model/card", responses={200: example(CARD)})
    async def facts() -> list[CardSection]:
        """The model card: what the artifact says about its model, and what its author did not state."""
        return told

    @routes.get("/model/card.md", response_class=PlainTextResponse)
    async def as_text() -> PlainTextResponse:
        """The model card in Hugging Face's layout, with `model-index`."""
        return PlainTextResponse(text, media_type="text/markdown; charset=utf-8")

    @routes.get("/model/report.json", response_class=FileResponse, responses=_REPORT | problems(404))
    async def figures() -> FileResponse:
        """The export's figures, without any of the test's images."""
        if report.FILE not in served.manifest.files:
            raise Problem("not_found", "This artifact has no report.")
        return FileResponse(served.folder / report.FILE, media_type="application/json")

    return routes
