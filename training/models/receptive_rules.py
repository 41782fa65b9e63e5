"""Which input pixels each place of a tensor sees, and what each operation makes of that.

One side at a time: place i sees the pixels stride * i + low .. stride * i + high, and a convolution or a pooling turns
one such rule into the next (Dumoulin and Visin 2016, arXiv:1603.07285; Araujo et al. 2019, doi:10.23915/distill.00021).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor


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


class Field(NamedTuple):
    """The reach of a tensor's places, and the axes along which they lie (one axis once height and width are merged)."""

    rows: Reach
    columns: Reach
    axes: frozenset[int]


PIXELS = Field(Reach(), Reach(), frozenset({2, 3}))  # of float[N, C, H, W]
Rule = Callable[[Field, Sequence[Any], Tensor], Field | None]  # (field, arguments, output) -> field; None: everything


def joined(one: Field | None, other: Field | None) -> Field | None:
    """What a sum or a concatenation of both sees: from the lowest to the highest pixel of either."""
    if one is None or other is None or one.axes != other.axes:
        return None
    rows, columns = _union(one.rows, other.rows), _union(one.columns, other.columns)
    return Field(rows, columns, one.axes) if rows and columns else None


def _union(one: Reach, other: Reach) -> Reach | None:
    same = one.stride == other.stride
    return Reach(one.stride, min(one.low, other.low), max(one.high, other.high)) if same else None


def _windows(field: Field, kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Field | None:
    """A window that slides over height and width; an argument of one number holds for both sides."""
    if not field.axes <= {2, 3}:
        return None
    given = (kernel, stride, padding, dilation)
    rows, columns = zip(*([each] * 2 if isinstance(each, int) else (list(each) * 2)[:2] for each in given), strict=True)
    return Field(field.rows.through(*rows), field.columns.through(*columns), frozenset({2, 3}))


def _convolution(field: Field, args: Sequence[Any], out: Tensor) -> Field | None:
    _, weight, _, stride, padding, dilation, transposed, *_ = args
    return None if transposed or out.ndim != 4 else _windows(field, weight.shape[2:], stride, padding, dilation)


def _max_pooling(field: Field, args: Sequence[Any], _out: Tensor) -> Field | None:
    kernel, stride, padding, dilation = _filled(args[1:5], 0, [], 0, 1)
    return _windows(field, kernel, stride or kernel, padding, dilation)


def _average_pooling(field: Field, args: Sequence[Any], _out: Tensor) -> Field | None:
    kernel, stride, padding = _filled(args[1:4], 0, [], 0)
    return _windows(field, kernel, stride or kernel, padding)


def _filled(args: Sequence[Any], *defaults: Any) -> list[Any]:
    """ATen leaves arguments out that have their default."""
    return [*args, *defaults[len(args) :]]


def _adaptive_pooling(field: Field, args: Sequence[Any], out: Tensor) -> Field | None:
    """As a plain pooling where the sizes divide; the windows differ otherwise."""
    sizes = list(zip(args[0].shape[-2:], out.shape[-2:], strict=True))
    if any(size % wanted for size, wanted in sizes):
        return None
    kernel = [size // wanted for size, wanted in sizes]
    return _windows(field, kernel, kernel, 0)


def _padding(field: Field, args: Sequence[Any], _out: Tensor) -> Field | None:
    left, _, top, _ = (*args[1], 0, 0, 0, 0)[:4]
    moved = _windows(field, 1, 1, (top, left))
    return moved if len(args[1]) <= 4 else None


def _over(axes: Callable[[Sequence[Any]], Sequence[int]]) -> Rule:
    """Mixes the values along `axes(arguments)`: everything is seen where those are places, nothing new otherwise."""

    def rule(field: Field, args: Sequence[Any], out: Tensor) -> Field | None:
        ndim = args[0].ndim
        mixed = {axis % ndim for axis in axes(args)}
        return field if not mixed & field.axes and out.ndim == ndim else None

    return rule


def _product(field: Field, _args: Sequence[Any], _out: Tensor) -> Field | None:
    """mm(x, w), addmm(bias, x, w): a dense layer over the last axis of x."""
    return field if field.axes == {0} else None


def _moved(order: Callable[[Sequence[Any]], Sequence[int]]) -> Rule:
    """Reorders the axes; None where columns come to lie before rows."""

    def rule(field: Field, args: Sequence[Any], out: Tensor) -> Field | None:
        ndim = out.ndim
        old = [axis % ndim for axis in order(args)]
        places = [axis for axis in old if axis in field.axes]
        if places != sorted(places):
            return None
        return field._replace(axes=frozenset(new for new, axis in enumerate(old) if axis in field.axes))

    return rule


def _swapped(args: Sequence[Any]) -> list[int]:
    order = list(range(args[0].ndim))
    one, other = args[1:3] if len(args) > 1 else (0, 1)
    order[one], order[other] = order[other], order[one]
    return order


def _reshaped(field: Field, args: Sequence[Any], out: Tensor) -> Field | None:
    """Merging axes merges their places; of the axes that one is split into, those longer than 1 hold them."""
    axes: set[int] = set()
    for old, new in _blocks(args[0].shape, out.shape):
        if field.axes & set(old):
            axes |= set(new) if len(new) == 1 else {axis for axis in new if out.shape[axis] > 1} or set(new)
    return field._replace(axes=frozenset(axes))


def _blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The finest groups of neighbouring axes that hold the same values before and after a reshape."""
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        before, after = i + 1, j + 1
        while math.prod(old[i:before]) != math.prod(new[j:after]):
            if math.prod(old[i:before]) < math.prod(new[j:after]):
                before += 1
            else:
                after += 1
        blocks.append((list(range(i, before)), list(range(j, after))))
        i, j = before, after
    blocks[-1][0].extend(range(i, len(old)))
    blocks[-1][1].extend(range(j, len(new)))
    return blocks


def _same_shape(field: Field, args: Sequence[Any], out: Tensor) -> Field | None:
    return field if args[0].shape == out.shape else None


_over_last_axes = _over(lambda args: range(-len(args[1]), 0))
_along = _over(lambda args: [args[2] if len(args) > 2 else 0])
_over_given = _over(lambda args: args[1] if len(args) > 1 and args[1] else range(args[0].ndim))
POINTWISE = {"hardswish", "hardswish_", "_prelu_kernel", "alias", "detach"}  # those that ATen does not tag itself
RULES: dict[str, Rule] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _max_pooling,
    "avg_pool2d": _average_pooling,
    "_adaptive_avg_pool2d": _adaptive_pooling,
    "constant_pad_nd": _padding,
    # in evaluation a factor and an offset per channel; with statistics of its input it is an instance norm
    "native_batch_norm": lambda field, args, _: None if args[5] else field,
    "native_layer_norm": _over_last_axes,
    "mean": _over_given,
    "sum": _over_given,
    "amax": _over_given,
    "_softmax": _over(lambda args: [args[1]]),
    "glu": _over(lambda args: [args[1] if len(args) > 1 else -1]),
    "cat": lambda field, args, out: field if args[1:2] and args[1] % out.ndim not in field.axes else None,
    "split": _along,
    "slice": _over(lambda args: [args[1] if len(args) > 1 else 0]),
    "channel_shuffle": _same_shape,
    "mm": _product,
    "addmm": _product,
    "permute": _moved(lambda args: args[1]),
    "transpose": _moved(_swapped),
    "t": _moved(_swapped),
    "view": _reshaped,
    "_unsafe_view": _reshaped,
    "squeeze": _reshaped,
    "unsqueeze": _reshaped,
    "as_strided_": _same_shape,
    "expand": _same_shape,
}
