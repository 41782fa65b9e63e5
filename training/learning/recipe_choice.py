"""The recipe for data that nobody chose one for: docs/choose.md as a function."""

from statistics import median
from typing import NamedTuple

import numpy as np

from app.artifact.decoder.decode import ImageError, InputSpec, decode
from training.console import terminal
from training.data.dataset import Data, Sample
from training.errors import TrainingError
from training.recipes import recipe
from training.weights import published

# Any decode will do to learn an image's size and whether it is grey.
_PROBE = InputSpec(
    width=32, height=32, channels=3, crop_fraction=1, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1)
)
_IMAGES = 50  # looked at
_FEW = 200  # images a class: below, what a network has learnt elsewhere is better left as it is
_ENOUGH = 1280  # images in all: below, an epoch is fewer than ten batches of 128, and four at 160 px fit into MINUTES
_MOST = 20_000  # images in all: up to here an instant head is a matter of minutes on a CPU
_WHOLE = 256  # px on the shorter side: below, nothing is left over that a crop could leave out
MINUTES = 4.0  # for the head and what fine-tuning fits into them, where nobody says how long
_A_MINUTE = 1000  # thumbnails of which two cores fine-tune four epochs in a minute
_MANY = 1000  # images a class: from there, a deeper network pays
_EXPECT = "from scratch, so few images teach shapes and colours but no fine differences; see docs/choose.md"


class Choice(NamedTuple):
    """`why` names what was seen of the data; `expect` what the recipe cannot do, or is empty; `minutes` what it may
    take where nobody says so, None for all that its epochs take."""

    recipe: str
    why: str
    expect: str = ""
    minutes: float | None = None


def choose(data: Data, has_weights: bool) -> Choice:
    """By images a class, and the size and colour of up to 50 of them; `has_weights`: --from names some.

    Raises TrainingError where none of those is an image.
    """
    samples = data.splits.get("train") or data.splits["all"]
    each = len(samples) // len(data.labels)
    transfer = "feature-extraction-hidden-head" if each < _FEW else "fine-tuning"
    count = f"{terminal.count(each, 'image')} a class"
    if has_weights:
        return Choice(transfer, f"there are weights to start from, and {count}")
    side, grey = look(data, samples)
    small = f"the images are small{' and grey' * grey} ({side:.0f} px on the shorter side)"
    if side <= 16 and grey:
        return Choice("digits", f"{small}: photographs' weights know nothing of such")
    if side <= 40 and grey and each >= _FEW:
        return Choice("mnist-cnn", f"{small}, and {count} are enough to learn from without photographs' weights")
    many_small = side <= 40 and len(samples) >= _ENOUGH
    seen = f"{small if side <= 40 else f'the images are photographs ({side:.0f} px on the shorter side)'}, {count}"
    head, minutes = "head-then-fine-tuning", MINUTES
    if many_small and not grey:
        head, minutes = f"{head}-thumbnails", max(MINUTES, len(samples) / _A_MINUTE)
    elif side < _WHOLE:
        head = f"{head}-small"
    for name in (*([head] if len(samples) <= _MOST else []), *([] if many_small else [transfer])):
        weights = published.of(recipe.load(name).model)
        if weights and weights.is_here():
            why = f"{seen}, and pretrained weights are on this machine"
            return Choice(name, why, minutes=minutes if name == head else None)
    if side <= 40 and grey:
        return Choice("mnist-cnn", seen, _EXPECT)
    if side <= 40:
        return Choice("residual-cnn-onecycle", small) if many_small else Choice("few-small", seen, _EXPECT)
    return Choice("photos", seen) if each >= _MANY else Choice("few-photos", seen, _EXPECT)


def look(data: Data, samples: tuple[Sample, ...]) -> tuple[float, bool]:
    """The median of the shorter sides in pixels, and whether all images looked at are grey."""
    picked = np.random.default_rng(0).permutation(len(samples))[:_IMAGES]
    sizes, grey = [], True
    for position in picked:
        try:
            decoded = decode(data.read(samples[position].path), _PROBE)
        except (ImageError, OSError):
            continue
        sizes.append(min(decoded.geometry.width, decoded.geometry.height))
        grey = grey and bool((decoded.pixels == decoded.pixels[:, :, :1]).all())
    if not sizes:
        raise TrainingError(f"none of {len(picked)} files looked at in {data.source} is an image")
    return median(sizes), grey
