"""What an author says of a model in card.toml, and the images that it brings for people to try."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.artifact.decoder.decode import ImageError, Preview, decode
from app.artifact.golden import SHOWN, is_shown
from app.artifact.manifest import Card
from training.errors import TrainingError, nearest

_MOST, _LARGEST = 10, 256 << 10  # the page loads all of them, and every start of the service decodes them


class _Sample(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    file: str
    credit: str


class _Toml(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    purpose: str = ""
    limits: str = ""
    data: str = ""
    licence: str = ""
    samples: list[_Sample] = []


@dataclass(frozen=True)
class Authored:
    """`card`: as the manifest has it; `samples`: the encoded images, as many as it has credits."""

    card: Card | None = None
    samples: tuple[bytes, ...] = ()


def read(path: Path | None) -> Authored:
    """A card.toml: `purpose`, `limits`, `data` and `licence`, sentences, and `[[samples]]`, each a `file` beside it and
    its `credit`. Without a path: nothing. Raises TrainingError where one of them is not what it should be.
    """
    if path is None:
        return Authored()
    try:
        said = _Toml.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        hint = "--card card.toml, which says what the model is for"
        raise TrainingError(f'there is no card "{path}"', hint) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f'"{path}" is not TOML: {error}') from error
    except ValidationError as error:
        first = error.errors()[0]
        where, known = ".".join(map(str, first["loc"])), _Sample if len(first["loc"]) > 1 else _Toml
        is_unknown = first["type"] == "extra_forbidden"
        hint = nearest(str(first["loc"][-1]), list(known.model_fields)) if is_unknown else ""
        raise TrainingError(f"{path}: {where}: {first['msg'].lower()}", hint) from error
    if len(said.samples) > _MOST:
        raise TrainingError(f"{path} has {len(said.samples)} samples", f"{_MOST} at most: the page shows all of them")
    samples = tuple(_image(path.parent / sample.file) for sample in said.samples)
    for sample in said.samples:
        if not sample.credit.strip():
            raise TrainingError(f"{path}: nobody is named for {sample.file}", 'credit = "WHAT, WHOSE (LICENCE)"')
    texts = said.model_dump(exclude={"samples"})
    return Authored(Card(**texts, samples=tuple(sample.credit for sample in said.samples)), samples)


def _image(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TrainingError(f'there is no image "{path}"', "a file beside the card") from error
    if len(data) > _LARGEST:
        raise TrainingError(f"{path} has {len(data):,} bytes", f"{_LARGEST:,} at most: a smaller copy")
    try:
        decode(data, Preview(1))  # whole, or the self-test would be the first to say so
        if is_shown(data):
            return data
        why = ""
    except ImageError as error:
        why = f": {error}"
    raise TrainingError(f"{path} is not what every browser shows{why}", f"an RGB or grey {' or '.join(SHOWN)}")
