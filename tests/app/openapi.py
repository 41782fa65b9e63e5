"""The OpenAPI document of the embedded artifact. `make openapi` writes it where the test compares it."""

import json
from pathlib import Path
from typing import Any

from app import settings
from app.inference import loading
from app.main import create_app

SNAPSHOT = Path(__file__).with_name("openapi.json")


def document() -> dict[str, Any]:
    """As GET /openapi.json answers it; with the variant that every CPU computes alike."""
    served = loading.start(settings.DEFAULT_MODEL, "onnx", "cpu")
    made: dict[str, Any] = create_app(settings.Settings(), served).api.openapi()
    return made


def text() -> str:
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(text())
