"""Layer by layer: output size, stride, receptive field, parameters and multiply-accumulates of any network."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.console import terminal
from training.errors import TrainingError
from training.models.receptive_field import Field, Reach, Tracer


@dataclass(frozen=True)
class Layer:
    """One row of the table.

    `output`: without the batch, e.g. (C, H, W). `stride` and `receptive_field` in input pixels, of the longer side;
    None where each value sees every pixel (or where that is not known). `parameters`: those that no row before holds.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    stride: int | None
    receptive_field: int | None
    parameters: int


def table(network: nn.Module, channels: int, size: int) -> list[Layer]:
    """A row for each module that computes something for float[1, channels, size, size], in the order they finish.

    Containers, and modules without parameters that change neither size nor receptive field (ReLU, dropout), have no
    row. The last row is the network itself; the `parameters` of all rows sum to its own.
    Raises TrainingError for a size that the network cannot take.
    """
    dummy = on_meta(network)
    pixels = torch.empty(1, channels, size, size, device="meta")
    tracer = Tracer(pixels)
    rows: list[Layer] = []
    seen: set[int] = set()

    def record(name: str, module: nn.Module, given: object, out: object) -> None:
        if not isinstance(out, Tensor) or not tracer.knows(out):
            return
        own = {id(each): each.numel() for each in module.parameters() if id(each) not in seen}
        seen.update(own)
        before = tracer.field(given) if isinstance(given, Tensor) and tracer.knows(given) else None
        after = tracer.field(out)
        sees = after.size if after else None
        same_size = isinstance(given, Tensor) and tracer.knows(given) and given.shape == out.shape
        unchanged = same_size and sees == (before.size if before else None)
        if own or not unchanged or not name:
            stride = after.stride if after else None
            rows.append(Layer(name, _kind(module), tuple(out.shape[1:]), stride, sees, sum(own.values())))

    for name, module in dummy.named_modules():
        if name and type(module) not in (nn.Sequential, nn.ModuleList):
            module.register_forward_hook(
                lambda module, args, out, name=name: record(name, module, args[0] if args else None, out)
            )
    try:
        with torch.no_grad(), tracer:
            out = dummy(pixels)
    except (RuntimeError, AssertionError) as error:  # a dense layer of another size, ViT's own check
        why = str(error).partition("\n")[0]
        raise TrainingError(f"the network takes no {size} px: {why}", "another --input-size") from error
    record("", dummy, None, out)
    return rows


def _kind(module: nn.Module) -> str:
    """The class, and for a convolution or pooling its window, e.g. `Conv2d 3x3 /2`."""
    kernel, stride = getattr(module, "kernel_size", None), getattr(module, "stride", 1)
    if kernel is None:
        return type(module).__name__
    rows, columns = [kernel] * 2 if isinstance(kernel, int) else kernel
    step = stride if isinstance(stride, int) else max(stride)
    return f"{type(module).__name__} {rows}x{columns}" + (f" /{step}" if step != 1 else "")


def on_meta(network: nn.Module) -> nn.Module:
    """A copy without values: the memo hands deepcopy its tensors, so that nothing large is copied."""
    tensors = {id(each): nn.Parameter(each.to("meta"), requires_grad=False) for each in network.parameters()}
    buffers = {id(each): each.to("meta") for each in network.buffers()}
    return copy.deepcopy(network, memo={**tensors, **buffers}).eval()


def field_of(network: nn.Module, channels: int, height: int, width: int) -> Field | None:
    """What the places of its output see of float[1, channels, height, width]; None: everything, or not known."""
    pixels = torch.empty(1, channels, height, width, device="meta")
    tracer = Tracer(pixels)
    with torch.no_grad(), tracer:
        out = on_meta(network)(pixels)
    return tracer.field(out)


def table_of(triples: Sequence[Sequence[int]], size: int) -> list[Layer]:
    """The rows of a chain of (kernel, stride, padding[, dilation]) on `size` pixels, without a network.

    Raises TrainingError where a layer has no output left.
    """
    reach, rows = Reach(), []
    for number, (kernel, stride, padding, *rest) in enumerate(triples, 1):
        dilation = rest[0] if rest else 1
        reach = reach.through(kernel, stride, padding, dilation)
        size = output_size(size, kernel, stride, padding, dilation)
        if size < 1:
            raise TrainingError(f"layer {number} has no output left", "a larger --input-size, or fewer strides")
        kind = f"{kernel}x{kernel}" + (f" /{stride}" if stride != 1 else "")
        rows.append(Layer(str(number), kind, (size, size), reach.stride, reach.size, 0))
    return rows


def parse(text: str) -> list[list[int]]:
    """Read "3,2,1 3,1,1": kernel, stride, padding and perhaps dilation of each layer. Raises TrainingError."""
    written = text.split()
    if not written or not all(re.fullmatch(r"[0-9]{1,5}(,[0-9]{1,5}){2,3}", layer) for layer in written):
        raise TrainingError(f'"{text}" is no list of kernel,stride,padding', 'for example "3,2,1 3,1,1"')
    triples = [[int(number) for number in layer.split(",")] for layer in written]
    for kernel, stride, _, *dilation in triples:
        if not all((kernel, stride, *dilation)):
            raise TrainingError(f'"{text}": kernel, stride and dilation are at least 1')
    return triples


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """floor((n - k + 2p) / s) + 1 with the dilated kernel's width for k."""
    return (size - (dilation * (kernel - 1) + 1) + 2 * padding) // stride + 1


def receptive_field(network: nn.Module, channels: int, size: int) -> int | None:
    """Pixels of a side that one place of the output sees, the image's edges ignored; None: all of them.

    For a network that ends in a pooled or dense head, ask for its `features`.
    """
    return table(network, channels, size)[-1].receptive_field


def macs(network: nn.Module, channels: int, size: int) -> int:
    """Multiply-accumulates of convolutions, dense layers and attention for one image; computes nothing."""
    from torch.utils.flop_counter import FlopCounterMode  # only here: it may import triton, which takes 0.5 s

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        on_meta(network)(torch.empty(1, channels, size, size, device="meta"))
    return int(counter.get_total_flops()) // 2


def parameters(network: nn.Module) -> int:
    """How many numbers are learnt; a shared one counts once."""
    return sum(each.numel() for each in network.parameters())


def as_lines(rows: Sequence[Layer], width: int = terminal.WIDTH) -> list[str]:
    """The table that a person reads; without parameters where there are none, as of a list of windows."""
    total = sum(row.parameters for row in rows)
    lines = [["layer", "kind", "output", "stride", "sees px", "parameters"]]
    for row in rows:
        seen = ("all" if each is None else str(each) for each in (row.stride, row.receptive_field))
        count = row.parameters if row.name else total
        lines.append([row.name or "total", row.kind, "x".join(map(str, row.output)), *seen, f"{count:,}"])
    shown = 6 if total else 5
    return terminal.table([line[:shown] for line in lines], "<<>>>>"[:shown], width)
