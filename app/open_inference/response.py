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
from app.open_inference.request import InferRequest, Wanted

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
    described, data = [], []
    for wanted in request.outputs:
        values = np.stack([getattr(answer, wanted.name) for answer in answers])
        head, binary = _output(wanted, values, model.labels)
        described.append(head)
        data.append(binary)
    content = {} if request.id is None else {"id": request.id}
    content |= {"model_name": model.name, "model_version": model.version}
    text = b'%b,"outputs":[%b]}' % (_text(content)[:-1], b",".join(described))
    binary_any = any(wanted.binary for wanted in request.outputs)
    return b"".join([text, *data]), len(text) if binary_any else None


def _output(wanted: Wanted, values: NDArray[np.float32], labels: Sequence[str]) -> tuple[bytes, bytes | memoryview]:
    """One output: its JSON, and its bytes if those are wanted."""
    if not wanted.classes:
        head = {"name": wanted.name, "datatype": "FP32", "shape": list(values.shape)}
        if wanted.binary:
            binary = values.astype("<f4", copy=False).data
            return _text(head | {"parameters": {"binary_data_size": binary.nbytes}}), binary
        return b'%b,"data":[%b]}' % (_text(head)[:-1], b"".join(json_numbers.dumps(values))), b""
    ranked = _classes(values, labels, wanted.classes)
    head = {"name": wanted.name, "datatype": "BYTES", "shape": [len(values), wanted.classes]}
    if not wanted.binary:
        return _text(head | {"data": ranked}), b""
    elements = [text.encode() for text in ranked]
    data = b"".join(struct.pack("<I", len(each)) + each for each in elements)
    return _text(head | {"parameters": {"binary_data_size": len(data)}}), data


def _classes(values: NDArray[np.float32], labels: Sequence[str], count: int) -> list[str]:
    """`value:index:label` of each image's largest values, row by row; of equals the first, as in /predict."""
    best = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return [
        f"{row[place]!s}:{place}:{labels[place]}" for row, places in zip(values, best, strict=True) for place in places
    ]


def _text(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()  # an id may be what no UTF-8 can be
