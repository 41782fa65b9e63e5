"""Makes every call of KServe's inference client, and prints a line of JSON for each; runs where kserve is."""

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import InferResponse, RequestedOutput

url, folder = sys.argv[1], Path(sys.argv[2])
files = np.array([(folder / name).read_bytes() for name in ("0.png", "1.png")], dtype=object)
pixels = np.load(folder / "pixels.npy")


def binary(values: np.ndarray) -> InferInput:
    name, datatype = ("image_bytes", "BYTES") if values.dtype == object else ("image", "UINT8")
    tensor = InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=True)
    return tensor


def plain(response: InferResponse) -> dict[str, Any]:
    outputs = {output.name: np.array(output.data).reshape(output.shape).tolist() for output in response.outputs}
    return {"id": response.id, "model": response.model_name, **outputs}


def calls(client: InferenceRESTClient) -> dict[str, Callable[[], Awaitable[Any]]]:
    async def infer(tensor: InferInput, model: str = "digits", **options: Any) -> dict[str, Any]:
        request = InferRequest(model, [tensor], request_id="42", **options)
        return plain(await client.infer(url, request, model_name=model))

    async def of_dict() -> dict[str, Any]:
        request = {
            "inputs": [{"name": "image", "shape": list(pixels.shape), "datatype": "UINT8", "data": pixels.tolist()}]
        }
        return plain(await client.infer(url, request, model_name="digits"))

    def encoded(**options: Any) -> Awaitable[dict[str, Any]]:
        return infer(binary(files), "digits-encoded", **options)

    def wanted(name: str, **parameters: Any) -> dict[str, Any]:
        return {"request_outputs": [RequestedOutput(name, parameters)]}

    texts = [base64.b64encode(file).decode() for file in files]
    return {
        "is_server_live": lambda: client.is_server_live(url),
        "is_server_ready": lambda: client.is_server_ready(url),
        "is_model_ready": lambda: client.is_model_ready(url, "digits"),
        "is_model_ready of another model": lambda: client.is_model_ready(url, "cats"),
        "infer": lambda: infer(binary(pixels)),
        "infer, data as an array": lambda: infer(InferInput("image", list(pixels.shape), "UINT8", data=pixels)),
        "infer, data as a list": lambda: infer(InferInput("image", list(pixels.shape), "UINT8", data=pixels.tolist())),
        "infer, a dict": of_dict,
        "infer, encoded": encoded,
        "infer, encoded, data as base64": lambda: infer(
            InferInput("image_bytes", [2], "BYTES", data=texts), "digits-encoded"
        ),
        "infer, request_outputs": lambda: encoded(**wanted("logits", binary_data=True)),
        "infer, binary_data_output": lambda: encoded(parameters={"binary_data_output": True}),
        "infer, classification": lambda: encoded(**wanted("probabilities", classification=2)),
        "infer, another model": lambda: infer(binary(pixels), "cats"),
        "infer, another input": lambda: infer(binary(files)),
        "infer, another shape": lambda: infer(binary(pixels[:, 1:])),
        "infer, another output": lambda: encoded(**wanted("classes")),
    }


async def main() -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    for name, call in calls(client).items():
        try:
            answer = await call()
        except httpx.HTTPStatusError as error:
            answer = {"error": str(error), "status": error.response.status_code}
        sys.stdout.write(json.dumps({"call": name, "answer": answer}) + "\n")
    await client.close()


asyncio.run(main())
