"""What several routes are asked alike: an image, how many labels, and by when.

Numbers are text to FastAPI, which would read `1_000` and ` 5.0 ` as such, and refuse in other words than ours.
"""

import re
from typing import Annotated, Any

from fastapi import Header, Query
from pydantic import WithJsonSchema

from app.errors import Problem
from app.http.openapi import BINARY

IMAGE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One JPEG, PNG, WebP, BMP, GIF or TIFF, known by its bytes; as a form or as the body itself.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "image/*": BINARY,
            "application/octet-stream": BINARY,
        },
    }
}
_NUMBER = re.compile("[0-9]{1,9}")
TopK = Annotated[str | None, Query(description="How many labels: 1 to all of them, or `all`; default 5.")]
Milliseconds = Annotated[str, WithJsonSchema({"type": "integer", "minimum": 1})]
Timeout = Annotated[
    Milliseconds | None,
    Header(alias="X-Request-Timeout-Ms", description="The image is dropped if its turn comes later than that."),
]


def labels_of(top_k: str | None, labels: int) -> int:
    """`top_k` as a number of labels. Raises Problem."""
    if top_k is None or top_k == "all":
        return min(5, labels) if top_k is None else labels
    if not _NUMBER.fullmatch(top_k) or not 1 <= int(top_k) <= labels:
        raise Problem("bad_parameter", f"top_k={top_k[:20]}: this model has {labels} labels; 1 to {labels}, or `all`.")
    return int(top_k)
