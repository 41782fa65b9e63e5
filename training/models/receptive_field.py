"""Receptive fields through any network, operation by operation.

The rules of `training.models.receptive_rules` are applied to the ATen operations that a forward pass on meta tensors
calls: they are few, they are the same however a module spells them, and they show sums and concatenations, which hooks
on modules do not. What has no rule there (attention, interpolation, ...) is taken to see everything.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from training.models.receptive_rules import PIXELS, POINTWISE, RULES, Field, joined


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook is untyped
    """While it is entered, remembers the field of every tensor that is computed from `pixels`."""

    def __init__(self, pixels: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # by identity, with the tensor itself, so that no id is used twice; meta tensors hold no memory
        self._fields: dict[int, tuple[Tensor, Field | None]] = {id(pixels): (pixels, PIXELS)}

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation, then apply its rule."""
        out = func(*args, **(kwargs or {}))
        given = [each for each in tree_leaves((args, kwargs)) if self.knows(each)]
        for tensor in tree_leaves(out) if given else ():
            if isinstance(tensor, Tensor):
                self._fields[id(tensor)] = tensor, self._after(func, args, given, tensor)
        return out

    def knows(self, value: object) -> bool:
        """Whether it is a tensor that was computed from the pixels."""
        return id(value) in self._fields

    def field(self, tensor: Tensor) -> Field | None:
        """None: each of its values sees every pixel."""
        return self._fields[id(tensor)][1]

    def _after(self, func: Any, args: Sequence[Any], given: Sequence[Tensor], out: Tensor) -> Field | None:
        field: Field | None = self.field(given[0])
        for other in given[1:]:
            same_axes = other.ndim == given[0].ndim
            field = joined(field, self.field(other)) if same_axes else None
        name = func._schema.name.removeprefix("aten::")
        if field is None:
            return None
        if torch.Tag.pointwise in func.tags or name in POINTWISE:
            return field if out.ndim == given[0].ndim else None
        rule = RULES.get(name)
        return rule(field, args, out) if rule else None
