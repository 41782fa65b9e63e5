"""Requests of the Open Inference Protocol as bytes, and responses taken apart, without any client's help."""

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray

from tests.serving import Server, connect

HEADER = "Inference-Header-Content-Length"
Content = dict[str, Any]


def pixels_input(pixels: NDArray[np.uint8], **members: Any) -> Content:
    return {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), **members}


def encoded_input(files: list[bytes], **members: Any) -> Content:
    return {"name": "image_bytes", "datatype": "BYTES", "shape": [len(files)], **members}


def elements(files: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(file)) + file for file in files)


def body(tensor: Content, data: bytes | None = None, **members: Any) -> tuple[bytes, dict[str, str]]:
    """A request's body and headers: all JSON, or JSON and then the input's `data`."""
    if data is None:
        return json.dumps({"inputs": [tensor], **members}).encode(), {}
    tensor = {"parameters": {"binary_data_size": len(data)}, **tensor}
    text = json.dumps({"inputs": [tensor], **members}).encode()
    return text + data, {HEADER: str(len(text))}


def post(client: httpx2.Client, model: str, content: bytes, headers: dict[str, str]) -> httpx2.Response:
    return client.post(f"/v2/models/{model}/infer", content=content, headers=headers)


def outputs(response: httpx2.Response) -> dict[str, Any]:
    """The response's tensors: float32 arrays, or lists of strings."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(HEADER, len(response.content)))
    content, rest = json.loads(response.content[:length]), response.content[length:]
    arrays = {}
    for output in content["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            arrays[output["name"]] = output["data"]
            if output["datatype"] == "FP32":
                arrays[output["name"]] = np.array(output["data"], np.float32).reshape(output["shape"])
            continue
        assert output["datatype"] == "FP32"
        arrays[output["name"]] = np.frombuffer(rest[:size], "<f4").reshape(output["shape"])
        rest = rest[size:]
    assert not rest
    return arrays


def predicted(client: httpx2.Client, file: bytes, artifact: Path) -> NDArray[np.float32]:
    """What /predict answers: float32[K] in the order of the labels."""
    answer = client.post("/predict?top_k=all", content=file).json()["top_k"]
    by_label = {each["class"]: each["probability"] for each in answer}
    labels = json.loads((artifact / "manifest.json").read_text())["labels"]
    return np.array([by_label[label] for label in labels], np.float32)


def error(response: httpx2.Response, status: int) -> str:
    """The response is an error as the protocol has it; its message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    assert list(content) == ["error"]
    return str(content["error"])


@contextmanager
def held(server: Server, *headers: str) -> Iterator[socket.socket]:
    """A request that has been admitted and whose body does not end; until its connection is closed again."""
    head = ["POST /v2/models/digits/infer HTTP/1.1", "Host: x", "Content-Length: 99", "Expect: 100-continue", *headers]
    with connect(server) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        assert b"100 Continue" in connection.recv(1024)  # it is reading
        yield connection
