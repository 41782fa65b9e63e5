"""A recipe: every choice of one training run, as flat TOML keys."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.artifact.decoder.decode import InputSpec
from app.artifact.decoder.geometry import Fit
from training.errors import TrainingError, nearest
from training.models import registry

FOLDER = Path(__file__).parent
Fraction = Annotated[float, Field(ge=0, lt=1)]
Amount = Annotated[float, Field(ge=0)]
Factor = Annotated[float, Field(gt=0, le=1)]
Schedule = Literal["onecycle", "cosine", "constant"]
Stages = Annotated[int, Field(ge=0)] | None


class Phase(BaseModel):
    """A part of the epochs with its own rate and its own frozen stages; `share` is relative to the other phases'."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    share: Annotated[float, Field(gt=0)]
    lr: Annotated[float, Field(gt=0)]
    schedule: Schedule = "cosine"
    unfrozen_stages: Stages = None
    backbone_lr_factor: Factor = 1.0


class Recipe(BaseModel):
    """All keys of a recipe; a size is in pixels, a rate per optimiser step, a fraction in 0..1; 0 turns a thing off."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: Annotated[str, AfterValidator(registry.require)]
    input_size: Annotated[int, Field(ge=4, le=1024)]
    channels: Literal[1, 3] = 3
    enlarge: Annotated[int, Field(ge=0, le=1024)] = 0
    """Side to which the graph enlarges the image before the network, 0: not at all. For thumbnails and networks made
    for large images: a photograph that is reduced to the same few pixels looks like one."""
    blocks: Annotated[int, Field(ge=0)] = 0
    """Of a network of residual blocks (timm's EfficientNet and MobileNet families), how many are kept, from the image
    on; 0: all, and what follows them. The last ones hold most of the weights and say least about small images."""
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    fit: Fit = "crop"
    """How an image of another shape becomes a square: its middle, all of it in another shape, or with grey around."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)] = 128
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 autocast where the hardware multiplies it (CUDA, AVX512-BF16, AMX), else float32; on a CPU
    float32 also for depthwise convolutions, which are slower in bfloat16."""

    optimizer: Literal["adam", "adamw", "sgd"]
    lr: Annotated[float, Field(gt=0)]
    schedule: Schedule
    weight_decay: Amount = 0.0
    momentum: Fraction = 0.9
    nesterov: bool = True
    label_smoothing: Fraction = 0.0
    clip_norm: Amount = 0.0
    ema_decay: Fraction = 0.0
    early_stop: Annotated[int, Field(ge=0)] = 0
    """After so many epochs without a better one the run is complete; 0 is never."""

    weights: str = ""
    """Where the network starts: "DEFAULT" are what its makers publish, else a file; empty is from scratch."""
    head_hidden: Annotated[int, Field(ge=0, le=65536)] = 0
    """Width of a hidden layer in the head; 0 is a linear head, the one that has heat maps."""
    head_fit: Literal["gradient", "logistic"] = "gradient"
    """`logistic`: in the first epoch the linear head is fitted at once to the features; any others go on from there."""
    head_share: Fraction = 0.0
    """Of what is saved in later epochs, the share of the weights as they were with the head that was fitted at once."""
    unfrozen_stages: Stages = None
    """How many stages before the head learn; all where it is left out."""
    backbone_lr_factor: Factor = 1.0
    """The rate of everything before the head, as a share of the head's."""
    freeze_batch_norm: bool = False
    """Keep all of the features' batch-norm statistics; those of frozen stages are kept anyway."""
    phases: tuple[Phase, ...] = ()
    """Progressive unfreezing: each phase replaces lr, schedule, unfrozen_stages and backbone_lr_factor in its turn."""

    crop_padding: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    jitter: tuple[Fraction, Fraction, Fraction] = (0.0, 0.0, 0.0)
    """Brightness, contrast, saturation: factors drawn from 1 - j .. 1 + j."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """In turns of the colour circle, drawn from -hue .. hue."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """In degrees, drawn from -rotation .. rotation; the corners turn black."""
    resized_crop: Fraction = 0.0
    """Smallest share of the image's area that a random crop, resized to the whole, may keep."""
    resized_crop_to: Annotated[float, Field(ge=1, le=4)] = 1.0
    """Largest share: beyond 1 a crop holds more than the image, whose surroundings are its mirror image."""
    trivial_augment: bool = False
    """One of 14 operations per image, at a random strength."""
    sharpness: Fraction = 0.0
    """A factor drawn from 1 - s .. 1 + s: below 1 an image is blurred, above it is sharpened."""
    noise: Fraction = 0.0
    """Standard deviation of Gaussian noise, where 1 is from black to white."""
    erasing: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that a random rectangle of an image is replaced by noise."""
    cutout: Annotated[int, Field(ge=0)] = 0
    """Side in pixels of a square that every image loses."""
    mixup: Amount = 0.0
    cutmix: Amount = 0.0
    """alpha of Beta(alpha, alpha), from which the share of the first of two mixed images is drawn."""

    balance: Literal["none", "loss", "sampling"] = "none"
    """Of classes with unequally many images: `loss` weighs rare ones more, `sampling` shows them more often."""

    val_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.1
    """Of a plain folder; a folder with `val/` or `test/` keeps its own."""

    @model_validator(mode="after")
    def _has_an_epoch_for_each_phase(self) -> Self:
        needed = len(self.phases) + (self.head_fit == "logistic" and self.epochs > 1)
        if self.epochs < needed and not (self.head_fit == "logistic" and self.epochs == 1):
            raise TrainingError(f"{len(self.phases)} phases need an epoch each", f"--set epochs={needed}")
        return self

    @model_validator(mode="after")
    def _has_a_linear_head_to_fit(self) -> Self:
        if self.head_fit == "logistic" and self.head_hidden:
            raise TrainingError("a head with a hidden layer cannot be fitted at once", "--set head_hidden=0")
        if self.head_share and (self.ema_decay or self.head_fit != "logistic"):
            raise TrainingError(
                "head_share is of a head that is fitted at once, without ema_decay", "--set head_share=0"
            )
        return self

    @model_validator(mode="after")
    def _fits_the_image(self) -> Self:
        for key in ("cutout", "crop_padding"):
            side = getattr(self, key)
            if side > self.input_size:
                raise TrainingError(
                    f"{key} {side} is larger than the image, whose input_size is {self.input_size}",
                    f"--set {key}={self.input_size // (2 if key == 'cutout' else 8)}",
                )
        return self

    @property
    def network_size(self) -> int:
        """Side in pixels of what the network itself is given."""
        return self.enlarge or self.input_size

    def input_spec(self, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> InputSpec:
        """What the network expects of an image. Without `mean` and `std`, which are of the data: with such as change
        nothing."""
        return InputSpec(
            width=self.input_size,
            height=self.input_size,
            channels=self.channels,
            crop_fraction=self.crop_fraction,
            interpolation=self.interpolation,
            fit=self.fit,
            mean=mean or (0.0,) * self.channels,
            std=std or (1.0,) * self.channels,
        )


def names() -> list[str]:
    """The recipes that come with Sightglass."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def about(name: str) -> str:
    """The first comment of a recipe that comes with Sightglass: what it is for."""
    return (FOLDER / f"{name}.toml").read_text().partition("\n")[0].removeprefix("# ")


def load(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or path and apply `key=value` overrides (TOML values; bare words are strings).

    Raises TrainingError for an unknown recipe, key or value.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise TrainingError(f'there is no recipe "{name}"', nearest(name, names()))
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f'"{path}" is not TOML: {error}') from error
    wanted = dict(_override(text) for text in overrides)
    if values.get("phases") and "phases" not in wanted:
        for key in wanted.keys() & Phase.model_fields.keys():
            raise TrainingError(
                f"{key} is a matter of this recipe's phases", "--set 'phases=[{share=1, lr=1e-3}, ...]'"
            )
    return parse(values | wanted)


def override(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The same with `key=value` overrides. Raises TrainingError."""
    return parse(recipe.model_dump() | dict(_override(text) for text in overrides))


def keys(overrides: Sequence[str]) -> set[str]:
    """The recipe keys that `key=value` overrides name."""
    return {_override(text)[0] for text in overrides}


def parse(values: dict[str, Any]) -> Recipe:
    """Validate the keys; an unknown key names the nearest one. Raises TrainingError."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(step) for step in first["loc"])
        if first["type"] == "extra_forbidden":
            known = Phase.model_fields if len(first["loc"]) > 1 else Recipe.model_fields
            raise TrainingError(f'"{key}" is no recipe key', nearest(str(first["loc"][-1]), list(known))) from error
        if first["type"] == "missing":
            raise TrainingError(f"recipe key {key} is missing") from error
        raise TrainingError(f"recipe key {key}: {first['msg'].lower()} (got {first.get('input')!r})") from error


def _override(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator:
        raise TrainingError(f'"{text}" is not key=value', "sightglass train DATA --set epochs=10 --out runs/NAME")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()
