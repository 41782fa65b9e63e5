"""What OpenAPI says that no signature does: bodies that are pictures, and errors."""

from http import HTTPStatus
from typing import Any

from app.schemas import ProblemDocument

BINARY = {"schema": {"type": "string", "format": "binary"}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers these statuses with a problem document."""
    content = {"application/problem+json": {"schema": ProblemDocument.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}
