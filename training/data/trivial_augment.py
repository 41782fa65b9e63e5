"""TrivialAugment: one operation per image, at a random strength."""

import math
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as V

BINS = 31
Operation = Callable[[Tensor, float], Tensor]


def _affine(x: Tensor, shift: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0, 0)) -> Tensor:
    """Shear is about the upper left corner, as in the paper's code."""
    degrees = [math.degrees(math.atan(each)) for each in shear]
    result: Tensor = V.affine(x, 0.0, list(shift), 1.0, degrees, center=[0, 0] if any(shear) else None)
    return result


# The wide space: the operation, its strengths (none: it has only one), and whether its sign is drawn too.
SPACE: tuple[tuple[Operation, Tensor | None, bool], ...] = (
    (lambda x, _: x, None, False),
    (lambda x, s: _affine(x, shear=(s, 0)), torch.linspace(0, 0.99, BINS), True),
    (lambda x, s: _affine(x, shear=(0, s)), torch.linspace(0, 0.99, BINS), True),
    (lambda x, s: _affine(x, shift=(int(s), 0)), torch.linspace(0, 32, BINS), True),
    (lambda x, s: _affine(x, shift=(0, int(s))), torch.linspace(0, 32, BINS), True),
    (lambda x, s: V.rotate(x, s), torch.linspace(0, 135, BINS), True),
    (lambda x, s: V.adjust_brightness(x, 1 + s), torch.linspace(0, 0.99, BINS), True),
    (lambda x, s: V.adjust_saturation(x, 1 + s), torch.linspace(0, 0.99, BINS), True),
    (lambda x, s: V.adjust_contrast(x, 1 + s), torch.linspace(0, 0.99, BINS), True),
    (lambda x, s: V.adjust_sharpness(x, 1 + s), torch.linspace(0, 0.99, BINS), True),
    (lambda x, s: V.posterize(x, int(s)), (8 - torch.arange(BINS) / ((BINS - 1) / 6)).round(), False),
    (lambda x, s: V.solarize(x, 255 * s), torch.linspace(1, 0, BINS), False),
    (lambda x, _: V.autocontrast(x), None, False),
    (lambda x, _: V.equalize(x), None, False),
)


def trivial_augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """uint8[N, H, W, 3] -> the same shape (Müller & Hutter 2021, arXiv:2103.10158, the wide space).

    The operations are torchvision's, the draws are not: its TrivialAugmentWide knows only torch's own generator, which
    dropout uses at the same time in another thread. Images that drew the same go through an operation together.
    """
    n = len(pixels)
    drawn = zip(
        torch.randint(len(SPACE), (n,), generator=generator).tolist(),
        torch.randint(BINS, (n,), generator=generator).tolist(),
        (torch.rand(n, generator=generator) <= 0.5).tolist(),
        strict=True,
    )
    together: dict[tuple[int, float], list[int]] = defaultdict(list)
    for position, (number, strength, negative) in enumerate(drawn):
        _, strengths, signed = SPACE[number]
        value = 0.0 if strengths is None else float(strengths[strength])
        together[number, -value if signed and negative else value].append(position)
    x = pixels.permute(0, 3, 1, 2).contiguous()
    for (number, value), chosen in together.items():
        x[chosen] = SPACE[number][0](x[chosen], value)
    return x.permute(0, 2, 3, 1)
