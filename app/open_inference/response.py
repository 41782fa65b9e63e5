"""The images' answers as the protocol's response: JSON, then the outputs that were asked for as bytes."""

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import Problem
from app.inference.batcher import Answer
from app.open_inference import json_numbers
from app.open_inference.models import Model
from app.open_inference.request import InferRequest

_MOST_TEXTS = 2**18  # numbers in JSON, or classes in either form: a third to half a second in a thread


def count_values(request: InferRequest, model: Model) -> int:
    """How many numbers the answer is made of. Raises Problem where too many of them become text."""
    sizes = {output.name: int(np.prod(output.shape[1:])) for output in model.outputs}
    images = len(request.images)
    texts = [each.classes or sizes[each.name] for each in request.outputs if each.classes or not each.binary]
    if (count := images * sum(texts)) > _MOST_TEXTS:
        hint = f"at most {_MOST_TEXTS} are sent: ask for binary_data without classification"
        raise Problem("bad_tensor", f"The answer has {count} numbers in JSON and classes; {hint}.")
    return images * sum(sizes[each.name] for each in request.outputs)


def encode(model: Model, request: InferRequest, answers: Sequence[Answer]) -> tuple[bytes, int | None]:
    """The body, and how much of it is JSON where there is more."""
    heads: list[bytes] = []
    data: list[bytes | memoryview] = []
    for wanted in request.outputs:
        values: NDArray[np.float32] = np.stack([getattr(answer, wanted.name) for answer in answers])
        head: dict[str, Any] = {"name": wanted.name, "datatype": "FP32", "shape": list(values.shape)}
        binary: bytes | memoryview = b""
        if wanted.classes:  # `value:index:label` of each image's largest values; of equals the first, as in /predict
            best = np.argsort(-values, axis=1, kind="stable")[:, : wanted.classes]
            ranked = zip(values, best, strict=True)
            texts = [f"{row[place]!s}:{place}:{model.labels[place]}" for row, places in ranked for place in places]
            head |= {"datatype": "BYTES", "shape": [len(values), wanted.classes]}
            if wanted.binary:
                elements = [text.encode() for text in texts]
                binary = b"".join(struct.pack("<I", len(each)) + each for each in elements)
            else:
                head["data"] = texts
        elif wanted.binary:
            binary = values.astype("<f4", copy=False).data
        if wanted.binary:
            head["parameters"] = {"binary_data_size": memoryview(binary).nbytes}
        text = _text(head)
        if not wanted.binary and not wanted.classes:
            text = b'%b,"data":[%b]}' % (text[:-1], b"".join(json_numbers.dumps(values)))
        heads.append(text)
        data.append(binary)
    content = {} if request.id is None else {"id": request.id}
    content |= {"model_name": model.name, "model_version": model.version}
    text = b'%b,"outputs":[%b]}' % (_text(content)[:-1], b",".join(heads))
    binary_any = any(wanted.binary for wanted in request.outputs)
    return b"".join([text, *data]), len(text) if binary_any else None


def _text(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()  # an id may be what no UTF-8 can be
