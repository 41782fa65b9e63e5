"""Uploads that stand still keep nobody out."""

import contextlib
import time
from pathlib import Path

import httpx2
import pytest

from tests.app.routes.batches import form
from tests.app.server.flood import FILE
from tests.serving import connect, serving

_FORM = form([FILE])


@pytest.mark.parametrize("sent", [0, 1, 5_000])
@pytest.mark.parametrize("path", ["/predict", "/explain", "/predict/batch", "/v2/models/digits-encoded/infer"])
def test_uploads_that_stand_still_keep_nobody_out(digits_artifact: Path, tmp_path: Path, path: str, sent: int) -> None:
    kind, body = (_FORM[0].decode(), _FORM[1]) if path.endswith("batch") else ("application/octet-stream", FILE)
    headers = {"content-type": kind, "inference-header-content-length": "0"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: 100000\r\n\r\n".encode()
    with serving(digits_artifact, tmp_path, MAX_QUEUE=16) as server, contextlib.ExitStack() as held:
        for _ in range(40):
            held.enter_context(connect(server)).sendall(head + (body + bytes(sent))[:sent])
        time.sleep(1.5)  # who has just sent something does not stand still
        with httpx2.Client(base_url=server.url, timeout=30) as client:
            for _ in range(5):
                assert client.post(path, content=body, headers=headers).status_code == 200
            assert "sightglass_queue_images 0.0" in client.get("/metrics").text
