"""GET /: the page for browsers, a hint for everybody else; and the page's own files."""

import gzip
import hashlib
import html
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from app.artifact.decoder.decode import ACCEPTED
from app.artifact.report import Report
from app.errors import Problem
from app.http.negotiation import takes_gzip
from app.http.schemas import SampleDocument
from app.inference.loading import Served
from app.model_card import samples

_FILES = Path(__file__).resolve().parents[1] / "page"
_LABELS_SHOWN = 20
# nothing from elsewhere, nothing inline; a form that a browser without JavaScript sends comes back to /predict
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_FOR_EVER = "public, max-age=31536000, immutable"  # the page asks for them by what they hold


@dataclass(frozen=True)
class _File:
    """A file in memory, and packed for those who take it so."""

    content: bytes
    packed: bytes
    media_type: str
    mark: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> "_File":
        mark = hashlib.sha256(content).hexdigest()[:16]
        return cls(content, gzip.compress(content, mtime=0), media_type, mark)

    def answer(self, request: Request, caching: str) -> Response:
        """The file, or 304 where the client has it."""
        etag = f'"{self.mark}"'
        headers = _HEADERS | {"Cache-Control": caching, "ETag": etag, "Vary": "Accept, Accept-Encoding"}
        known = {mark.strip().removeprefix("W/") for mark in request.headers.get("if-none-match", "").split(",")}
        if known & {etag, "*"}:  # RFC 9110, section 13.1.2
            return Response(status_code=304, headers=headers)
        if takes_gzip(request.headers.get("accept-encoding", "")):
            return Response(self.packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=self.media_type)
        return Response(self.content, headers=headers, media_type=self.media_type)


def router(served: Served, measured: Report, max_upload_bytes: int) -> APIRouter:
    """The routes, about what is served. Raises ArtifactError."""
    routes = APIRouter(include_in_schema=False)
    files = {
        "page.js": _File.of((_FILES / "page.js").read_bytes(), "text/javascript; charset=utf-8"),
        "page.css": _File.of((_FILES / "page.css").read_bytes(), "text/css; charset=utf-8"),
    }
    page = _File.of(_page(served, measured, max_upload_bytes, files).encode(), "text/html; charset=utf-8")
    images = samples.choose(served.folder, served.manifest)

    @routes.get("/")
    async def root(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return page.answer(request, "no-cache")
        base = request.base_url
        hint = (
            f"Sightglass serves {served.manifest.name} {served.manifest.version}.\n"
            f"POST an image ({', '.join(ACCEPTED)}) to {base}predict:\n\n"
            f"  curl -F file=@cat.jpg {base}predict\n\n"
            f"The API: {base}docs   the model: {base}model   health: {base}health\n"
        )
        return PlainTextResponse(hint, headers={"Vary": "Accept"})

    @routes.get("/page/samples")
    async def listed() -> list[SampleDocument]:
        return [
            SampleDocument(
                path=f"page/samples/{number}",
                media_type=image.media_type,
                prediction=image.label,
                probability=image.probability,
                credit=image.credit,
            )
            for number, image in enumerate(images)
        ]

    @routes.get("/page/samples/{number}")
    async def sample(number: int) -> Response:
        if not 0 <= number < len(images):
            raise Problem("not_found", f"There are {len(images)} samples, from 0.")
        headers = _HEADERS | {"Cache-Control": "no-cache"}  # another model has others
        return Response(images[number].data, headers=headers, media_type=images[number].media_type)

    @routes.get("/page/{name}")
    async def file(name: str, request: Request) -> Response:
        if name not in files:
            raise Problem("not_found", f"The page has no file {name[:64]}.")
        asked_for = request.url.query == files[name].mark  # or a rolling update keeps old code under the new one's mark
        return files[name].answer(request, _FOR_EVER if asked_for else "no-cache")

    return routes


def _page(served: Served, measured: Report, max_upload_bytes: int, files: dict[str, _File]) -> str:
    """The HTML, with what it says about this service."""
    manifest, spec = served.manifest, served.manifest.input
    line = measured.reject_below if manifest.doubt is None else manifest.doubt.accept
    more = len(manifest.labels) - _LABELS_SHOWN
    labels = ", ".join(manifest.labels[:_LABELS_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
    said: dict[str, Any] = {
        "name": manifest.name,
        "version": manifest.version,
        "variant": served.variant,
        "width": spec.width,
        "height": spec.height,
        "channels": spec.channels,
        "crop": spec.crop_fraction,
        "fit": spec.fit,
        "reject": line.confidence if line else "",
        "coverage": manifest.doubt.set.coverage if manifest.doubt and manifest.doubt.set else "",
        "max_bytes": max_upload_bytes,
        "limit": f"{max_upload_bytes / 1e6:g} MB",
        "accepted": ", ".join(ACCEPTED),
        "labels": labels.encode(errors="backslashreplace").decode(),
        "label_count": f"{len(manifest.labels)}",
        **{name.partition(".")[2]: file.mark for name, file in files.items()},
    }
    template = Template((_FILES / "page.html").read_text(encoding="utf-8"))
    return template.substitute({key: html.escape(str(value)) for key, value in said.items()})
