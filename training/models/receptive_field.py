"""Which pixels of the image each place of a network's maps sees: from convolutions and poolings, None past all else.

One side at a time: place i sees the pixels stride * i + low .. stride * i + high, and a window turns one such rule into
the next (Dumoulin and Visin 2016, arXiv:1603.07285; Araujo et al. 2019, doi:10.23915/distill.00021).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Reach(NamedTuple):
    """Place i sees the pixels stride * i + low .. stride * i + high of one side, padding included."""

    stride: int = 1
    low: int = 0
    high: int = 0

    @property
    def size(self) -> int:
        """The receptive field in pixels."""
        return self.high - self.low + 1

    def extent(self, places: int) -> tuple[float, float]:
        """From where to where so many places of one stride each lie, each around the middle of what it sees."""
        start = (self.low + self.high + 1 - self.stride) / 2
        return start, start + places * self.stride

    def through(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> "Reach":
        """After a convolution or a pooling; a dilated kernel is as wide as k + (k - 1)(d - 1)."""
        first = self.low - padding * self.stride
        return Reach(self.stride * stride, first, first + self.size - 1 + dilation * (kernel - 1) * self.stride)

    def padded(self, before: int) -> "Reach":
        """With so many places before the first."""
        return Reach(self.stride, self.low - before * self.stride, self.high - before * self.stride)


class Field(NamedTuple):
    """Of the maps float[N, C, H, W]: what their rows and what their columns see."""

    rows: Reach
    columns: Reach

    @property
    def stride(self) -> int:
        """Pixels from one place to the next, of the longer side."""
        return max(self.rows.stride, self.columns.stride)

    @property
    def size(self) -> int:
        """Pixels that one place sees, of the longer side."""
        return max(self.rows.size, self.columns.size)


# Those that keep every place where it is and do not have ATen's own tag for that.
_IN_PLACE = {"hardswish", "hardswish_", "_prelu_kernel", "alias", "detach"}


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook is untyped
    """While it is entered, remembers the field of every tensor that is computed from `pixels`, float[N, C, H, W].

    A hook on ATen's operations and not on modules: the sum of a residual block is no module, nor is a concatenation.
    """

    def __init__(self, pixels: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # by identity, with the tensor itself, so that no id is used twice; meta tensors hold no memory
        self._fields: dict[int, tuple[Tensor, Field | None]] = {id(pixels): (pixels, Field(Reach(), Reach()))}

    def knows(self, value: object) -> bool:
        """Whether it is a tensor that was computed from the pixels."""
        return id(value) in self._fields

    def field(self, tensor: Tensor) -> Field | None:
        """None: each of its values sees every pixel, or it is not known which."""
        return self._fields[id(tensor)][1]

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation, then follow it."""
        out = func(*args, **(kwargs or {}))
        fields = [self.field(each) for each in tree_leaves((args, kwargs)) if self.knows(each)]
        for tensor in tree_leaves(out) if fields else ():
            if isinstance(tensor, Tensor):
                field = None if None in fields or tensor.ndim != 4 else union([each for each in fields if each])
                self._fields[id(tensor)] = tensor, field and after(func, args, field)
        return out


def union(fields: list[Field]) -> Field | None:
    """What a sum or a concatenation sees: from the lowest to the highest pixel; None where the strides differ."""
    if len({(field.rows.stride, field.columns.stride) for field in fields}) > 1:
        return None
    sides = zip(*fields, strict=True)
    return Field(*(Reach(side[0].stride, min(r.low for r in side), max(r.high for r in side)) for side in sides))


def after(func: Any, args: tuple[Any, ...], field: Field) -> Field | None:
    """The field after an ATen operation of these arguments, which leaves out those at the end that have their default.

    What mixes places as no window does (attention, interpolation) gives None, and so does what moves them (permute).
    """
    name, given = func._schema.name.removeprefix("aten::"), dict(enumerate(args))
    channels_alone = {
        "cat": given.get(1) == 1,
        "_softmax": given.get(1) == 1,
        "glu": given.get(1) == 1,
        # in evaluation a factor and an offset per channel; with statistics of its input it is an instance norm
        "native_batch_norm": not given.get(5),
    }
    if name == "constant_pad_nd" and len(given[1]) <= 4:  # TensorFlow's padding differs between sides
        left, _, top, _ = (*given[1], 0, 0)[:4]
        return Field(field.rows.padded(top), field.columns.padded(left))
    if name == "convolution" and not given[6]:  # 6: transposed
        windows = given[1].shape[2:], *args[3:6]
    elif name in ("max_pool2d_with_indices", "avg_pool2d"):
        windows = given[1], given.get(2) or given[1], given.get(3, 0), given.get(4, 1) if name.startswith("max") else 1
    elif torch.Tag.pointwise in func.tags or name in _IN_PLACE or channels_alone.get(name):
        return field
    else:
        return None
    # an argument of one number holds for both sides
    rows, columns = zip(*([each] * 2 if isinstance(each, int) else (*each, *each)[:2] for each in windows), strict=True)
    return Field(field.rows.through(*rows), field.columns.through(*columns))
