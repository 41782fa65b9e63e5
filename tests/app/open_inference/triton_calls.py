"""Makes every HTTP call that tritonclient has, and prints a line of JSON for each; runs where tritonclient is."""

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

url, folder = sys.argv[1].removeprefix("http://"), Path(sys.argv[2])
files = np.array([(folder / name).read_bytes() for name in ("0.png", "1.png")], dtype=object)
pixels = np.load(folder / "pixels.npy")
client = triton.InferenceServerClient(url)
Want = triton.InferRequestedOutput


def given(values: np.ndarray, binary: bool = True) -> list[triton.InferInput]:
    name, datatype = ("image_bytes", "BYTES") if values.dtype == object else ("image", "UINT8")
    tensor = triton.InferInput(name, list(values.shape), datatype)
    return [tensor.set_data_from_numpy(values, binary_data=binary)]


def plain(result: triton.InferResult) -> dict[str, Any]:
    """The response, its tensors as lists."""
    response = result.get_response()
    arrays = {output["name"]: result.as_numpy(output["name"]) for output in response["outputs"]}
    text = {name: array.astype("U") if array.dtype == object else array for name, array in arrays.items()}
    return {"response": response, **{name: array.tolist() for name, array in text.items()}}


def infer(values: np.ndarray = pixels, binary: bool = True, **options: Any) -> dict[str, Any]:
    model = "digits-encoded" if values.dtype == object else "digits"
    return plain(client.infer(model, given(values, binary), **options))


def by_hand() -> dict[str, Any]:
    body, length = client.generate_request_body(given(pixels), request_id="by hand")
    head = {"Inference-Header-Content-Length": length}
    response = client._post("v2/models/digits/infer", body, head, None)
    got = response.get("Inference-Header-Content-Length")
    return plain(client.parse_response_body(bytes(response.read()), header_length=int(got)))


def shared_memory() -> dict[str, Any]:
    tensor = triton.InferInput("image", list(pixels.shape), "UINT8")
    tensor.set_shared_memory("region", 192)
    return plain(client.infer("digits", [tensor]))


async def in_asyncio() -> dict[str, Any]:
    tensor = triton_aio.InferInput("image", list(pixels.shape), "UINT8").set_data_from_numpy(pixels)
    async with triton_aio.InferenceServerClient(url) as asynchronous:
        assert await asynchronous.is_server_live()
        assert await asynchronous.is_server_ready()
        assert await asynchronous.is_model_ready("digits")
        assert await asynchronous.get_server_metadata() == client.get_server_metadata()
        assert await asynchronous.get_model_metadata("digits") == client.get_model_metadata("digits")
        return plain(await asynchronous.infer("digits", [tensor], request_compression_algorithm="gzip"))


base64_files = np.array([base64.b64encode(file).decode() for file in files], dtype=object)
CALLS: dict[str, Callable[[], Any]] = {
    "is_server_live": client.is_server_live,
    "is_server_ready": client.is_server_ready,
    "is_model_ready": lambda: client.is_model_ready("digits"),
    "is_model_ready of a version": lambda: client.is_model_ready("digits-encoded", "1"),
    "is_model_ready of another version": lambda: client.is_model_ready("digits", "2"),
    "get_server_metadata": client.get_server_metadata,
    "get_model_metadata": lambda: client.get_model_metadata("digits"),
    "get_model_metadata of a version": lambda: client.get_model_metadata("digits-encoded", "1"),
    "get_model_config": lambda: client.get_model_config("digits", "1"),
    "get_model_repository_index": client.get_model_repository_index,
    "infer": infer,
    "infer of a version": lambda: infer(model_version="1"),
    "infer, binary_data=False": lambda: infer(binary=False, outputs=[Want("probabilities", binary_data=False)]),
    "infer, encoded": lambda: infer(files),
    "infer, encoded, binary_data=False": lambda: infer(base64_files, False),
    "infer, outputs": lambda: infer(
        outputs=[Want("logits", binary_data=False), Want("heatmap"), Want("probabilities")]
    ),
    "infer, class_count": lambda: infer(files, outputs=[Want("probabilities", class_count=3)]),
    "infer, class_count, binary_data=False": lambda: infer(outputs=[Want("logits", binary_data=False, class_count=2)]),
    "infer, request_id": lambda: infer(request_id="Käfer"),
    "infer, gzip": lambda: infer(files, request_compression_algorithm="gzip", response_compression_algorithm="gzip"),
    "infer, deflate": lambda: infer(
        binary=False, request_compression_algorithm="deflate", response_compression_algorithm="deflate"
    ),
    "infer, other parameters": lambda: infer(priority=1, timeout=9, sequence_id=3, parameters={"note": "x"}),
    "async_infer": lambda: plain(client.async_infer("digits", given(pixels)).get_result()),
    "generate_request_body, parse_response_body": by_hand,
    "tritonclient.http.aio": lambda: asyncio.run(in_asyncio()),
    "infer, another model": lambda: plain(client.infer("cats", given(pixels))),
    "infer, another input": lambda: plain(client.infer("digits", given(files))),
    "infer, another shape": lambda: infer(pixels[:, 1:]),
    "infer, another datatype": lambda: plain(
        client.infer(
            "digits", [triton.InferInput("image", [1, 192], "FP32").set_data_from_numpy(np.ones((1, 192), "f"))]
        )
    ),
    "infer, another output": lambda: infer(outputs=[Want("classes")]),
    "infer, too many images": lambda: infer(np.repeat(pixels, 65, axis=0)),
    "infer, a broken image": lambda: infer(np.array([files[0], b"GIF89a"], dtype=object)),
    "infer, shared memory": shared_memory,
    "get_inference_statistics": client.get_inference_statistics,
    "load_model": lambda: client.load_model("digits"),
    "unload_model": lambda: client.unload_model("digits"),
    "get_trace_settings": client.get_trace_settings,
    "update_trace_settings": lambda: client.update_trace_settings(settings={"trace_rate": 1}),
    "get_log_settings": client.get_log_settings,
    "update_log_settings": lambda: client.update_log_settings({"log_info": True}),
    "get_system_shared_memory_status": client.get_system_shared_memory_status,
    "register_system_shared_memory": lambda: client.register_system_shared_memory("region", "/region", 192),
    "unregister_system_shared_memory": client.unregister_system_shared_memory,
    "get_cuda_shared_memory_status": client.get_cuda_shared_memory_status,
    "register_cuda_shared_memory": lambda: client.register_cuda_shared_memory("region", b"handle", 0, 192),
    "unregister_cuda_shared_memory": client.unregister_cuda_shared_memory,
}

for name, call in CALLS.items():
    try:
        answer = call()
    except InferenceServerException as error:
        answer = {"error": error.message(), "status": error.status()}
    sys.stdout.write(json.dumps({"call": name, "answer": answer}) + "\n")
