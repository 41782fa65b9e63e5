"""An inference request: a body to images and to what the client wants of their answers."""

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import Problem
from app.open_inference import json_numbers, tensors
from app.open_inference.models import Model
from app.open_inference.tensors import refuse

_LENGTH = re.compile("[0-9]{1,15}")
Images = list[bytes] | NDArray[np.uint8]


@dataclass(frozen=True)
class Wanted:
    """One output; `classes`: how many `value:index:label` an image instead of the numbers, or 0."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True)
class InferRequest:
    """`images`: encoded files, or uint8[N, H, W, 3]; N >= 1."""

    id: str | None
    images: Images
    outputs: tuple[Wanted, ...]


def json_length(announced: str | None, body_bytes: int) -> int:
    """How much of the body is JSON: all of it, unless the header has announced less. Raises Problem."""
    if announced is None:
        return body_bytes
    if not _LENGTH.fullmatch(announced) or int(announced) > body_bytes:
        refuse(f"Inference-Header-Content-Length: {announced[:20]}, but the body has {body_bytes} bytes.")
    return int(announced)


def parse(model: Model, body: bytes, length: int, max_images: int) -> InferRequest:
    """The request whose first `length` bytes are JSON; without any the rest is the input itself.

    Raises Problem, before the images are read where they are more than `max_images`.
    """
    if not body:
        raise Problem("empty_body", "Send the request as the body.")
    if not length:
        return InferRequest(None, tensors.raw(model.input, body, max_images), (Wanted("probabilities", True),))
    try:
        content = json_numbers.loads(body[:length])
    except (ValueError, RecursionError) as error:
        refuse(f"The request is no JSON ({error}); a bare image needs `Inference-Header-Content-Length: 0`.")
    if not isinstance(content, dict):
        refuse("The request is no JSON object.")
    request_id = content.get("id")
    if request_id is not None and not isinstance(request_id, str):
        refuse("`id` is no string.")
    outputs = _outputs(content, model)
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        refuse(f"`inputs` must be a list of one object, the input `{model.input.name}`.")
    return InferRequest(request_id, _images_of(inputs[0], model, memoryview(body)[length:], max_images), outputs)


def _images_of(given: dict[str, Any], model: Model, rest: memoryview, max_images: int) -> Images:
    """Of the one input: its JSON `data`, or all that comes after the JSON."""
    wanted = model.input
    if given.get("name") != wanted.name:
        refuse(f"{model.name} has no input {_shown(given.get('name'))}; it has `{wanted.name}`.")
    if given.get("datatype") != wanted.datatype:
        refuse(f"`{wanted.name}` has the datatype {wanted.datatype}, not {_shown(given.get('datatype'))}.")
    images = tensors.images_in(wanted, given.get("shape"), max_images)
    parameters = _parameters(given)
    if "shared_memory_region" in parameters:
        refuse("There is no shared memory between this service and its clients; send the data.")
    size, data = parameters.get("binary_data_size"), given.get("data")
    if (size is None) == (data is None):
        refuse(f"`{wanted.name}` needs either `data` or the parameter `binary_data_size`.")
    if size is not None and (type(size) is not int or size != len(rest)):
        refuse(f"`{wanted.name}` has binary_data_size {_shown(size)}, but {len(rest)} bytes come after the JSON.")
    if size is None and rest:
        refuse(f"{len(rest)} bytes come after the JSON, which no input asks for.")
    return tensors.of_json(wanted, data, images) if size is None else tensors.of_binary(wanted, rest, images)


def _outputs(content: dict[str, Any], model: Model) -> tuple[Wanted, ...]:
    """What `outputs` asks for, by default the probabilities."""
    binary = _flag(_parameters(content), "binary_data_output", False)
    asked = content.get("outputs")
    if asked is None or asked == []:
        return (Wanted("probabilities", binary),)
    names = [output.name for output in model.outputs]
    if not isinstance(asked, list) or len(asked) > len(names) or not all(isinstance(each, dict) for each in asked):
        refuse(f"`outputs` must be a list of objects, each one of {', '.join(names)}, once.")
    wanted = []
    for each in asked:
        output = next((output for output in model.outputs if output.name == each.get("name")), None)
        if output is None:
            has = ", ".join(f"`{name}`" for name in names)
            refuse(f"{model.name} has no output {_shown(each.get('name'))}; it has {has}.")
        parameters = _parameters(each)
        if "shared_memory_region" in parameters:
            refuse("There is no shared memory between this service and its clients; ask for the data.")
        classes = parameters.get("classification", 0)
        if type(classes) is not int or classes < 0:
            refuse(f"classification: {_shown(classes)}: how many classes, a whole number.")
        if classes and len(output.shape) != 2:
            refuse(f"`{output.name}` has no classes to rank; ask for the classification of `probabilities`.")
        wanted.append(Wanted(output.name, _flag(parameters, "binary_data", binary), min(classes, len(model.labels))))
    if len({each.name for each in wanted}) < len(wanted):
        refuse("`outputs` has the same output twice.")
    return tuple(wanted)


def _parameters(given: dict[str, Any]) -> dict[str, Any]:
    parameters = given.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        refuse("`parameters` must be an object.")
    return parameters


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        refuse(f"{name}: {_shown(value)}: true or false.")
    return value


def _shown(value: Any) -> str:
    """A client's value, for a message."""
    if isinstance(value, str):
        return json.dumps(value[:64])
    return (
        str(value) if isinstance(value, bool | int | float) and abs(value) < 1e15 else f"of type {type(value).__name__}"
    )
