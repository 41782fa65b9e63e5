"""The model card, for the page and for people: GET /model/card, /model/card.md and /model/report.json."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, PlainTextResponse

from app import card, markdown, report
from app.errors import Problem
from app.routes.documented import CARD, example, problems
from app.schemas import CardSection
from app.startup import Served

_FIGURES = {"schema": {"type": "object"}, "example": {"name": "cifar10", "version": 1, "evaluation": {"n": 5000}}}
_REPORT: dict[int | str, Any] = {200: {"content": {"application/json": _FIGURES}}}


def router(served: Served) -> APIRouter:
    """The routes, about what is served. Raises ArtifactError."""
    routes = APIRouter()
    sections = card.sections(served, report.read(served.folder, served.manifest))
    text = markdown.card(served.manifest, sections)

    @routes.get("/model/card", responses={200: example(CARD)})
    async def facts() -> list[CardSection]:
        """The model card: what the artifact says about its model, and what its author did not state."""
        return sections

    @routes.get("/model/card.md", response_class=PlainTextResponse)
    async def as_text() -> PlainTextResponse:
        """The model card in Hugging Face's layout, with `model-index`."""
        return PlainTextResponse(text, media_type="text/markdown; charset=utf-8")

    @routes.get("/model/report.json", response_class=FileResponse, responses=_REPORT | problems(404))
    async def figures() -> FileResponse:
        """The export's figures, without any of the test's pictures."""
        if report.FILE not in served.manifest.files:
            raise Problem("not_found", "This artifact has no report.")
        return FileResponse(served.folder / report.FILE, media_type="application/json")

    return routes
