"""The JSON files of a run, as they are written and as they are read: what is not so is an error that names the file."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, TypeAdapter, ValidationError

from app.artifact.decoder.decode import InputSpec
from training.atomic import write
from training.errors import TrainingError
from training.recipes.recipe import Recipe, parse

META = "meta.json"
Text = InstanceOf[str]  # also of bytes that are no UTF-8, as a path may be; pydantic's own str takes none
Splits = dict[Literal["train", "val", "test"], list[tuple[Text, Text, Text]]]


class _Part(BaseModel):
    """What a newer run has besides is kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class RecipeChoice(_Part):
    """The recipe's name, and why it is that one."""

    recipe: Text
    why: Text


class Origin(_Part):
    """Who published the weights that a run started from, and under which licence (an SPDX name, where there is one)."""

    source: Text
    licence: Text


class DataSource(_Part):
    """Where the images lay, and how many each split has."""

    source: Text
    images: dict[str, int]


class Hardware(_Part):
    """What the run was trained on; `precision` is float32 or bfloat16."""

    cpu: str
    instruction_set: str
    threads: int
    device: str
    precision: str


def _parsed(value: Any) -> Any:
    """By `parse`, whose errors name the key that was probably meant."""
    return parse(value) if isinstance(value, dict) else value


class Meta(_Part):
    """meta.json: everything needed to repeat the run. `asked`: the recipe before its weights had their say; `weights`:
    where the network started, None from scratch; `origin`: of weights that somebody publishes; `choice`: None in runs
    of old; `kept`: of a finished run that went on from an instant head, which of the two, and why."""

    command: list[Text]
    created: str
    choice: RecipeChoice | None = None
    kept: str | None = None
    recipe: Annotated[Recipe, BeforeValidator(_parsed)]
    asked: Annotated[Recipe, BeforeValidator(_parsed)]
    weights: Text | None
    origin: Origin | None = None
    labels: Annotated[tuple[Text, ...], Field(min_length=2)]
    input: InputSpec
    data: DataSource
    versions: dict[str, str]
    hardware: Hardware
    commit: str

    @classmethod
    def load(cls, folder: Path) -> "Meta":
        """Raises TrainingError."""
        path = folder / META
        content = _json(path, _text(path))
        try:
            return cls.model_validate(content)
        except TrainingError as error:  # of the recipe
            raise damaged(path, error) from error
        except ValidationError as error:
            raise damaged(path, _first(error)) from error

    def save(self, folder: Path) -> None:
        """Write meta.json."""
        write(folder / META, json.dumps(self.model_dump(), indent=2) + "\n")


class _Epoch(BaseModel):
    model_config = ConfigDict(extra="allow")

    epoch: Annotated[int, Field(ge=1)]
    train_loss: float
    val_loss: float
    val_accuracy: float
    val_macro_f1: float
    lr: float
    seconds: float


class _Tracked(BaseModel):
    run_id: str


_HISTORY = TypeAdapter(list[_Epoch])
_SPLITS = TypeAdapter(Splits)


def damaged(path: Path, why: object) -> TrainingError:
    """A file of a run that is not what a run wrote, with what helps: most comes back from last.pt."""
    return TrainingError(f"{path} is damaged: {why}", _remedy(path))


def unreadable(path: Path, error: OSError) -> TrainingError:
    """A file of a run that is not there, or not to be read."""
    missing = isinstance(error, FileNotFoundError)
    return TrainingError(
        f"there is no {path}" if missing else f"{path} cannot be read: {error.strerror}", _remedy(path)
    )


def _remedy(path: Path) -> str:
    """What helps where a file of a run is damaged or missing."""
    if path.name in ("weights.pt", "metrics.jsonl"):
        return f"sightglass train DATA --out {path.parent} --resume writes it"
    if path.name == "last.pt":
        return f"the run cannot go on, but its best epoch is in weights.pt: sightglass evaluate {path.parent}"
    if path.name == "mlflow.json":
        return "delete it to track the run anew"
    return f"copy it from another place, or train anew: sightglass train DATA --out {path.parent} --force"


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl. Raises TrainingError."""
    return require_history(path, [_json(path, line) for line in _text(path).splitlines()])


def require_history(path: Path, rows: Any) -> list[dict[str, Any]]:
    """`rows`, if they are those of epochs. Raises TrainingError, which names the file that they are from."""
    found: list[dict[str, Any]] = _valid(path, _HISTORY, rows)
    return found


def read_splits(path: Path, labels: tuple[str, ...]) -> dict[str, list[tuple[str, str, str]]]:
    """Split -> rows of path, label, sha256. Raises TrainingError, also for a label that the run does not have."""
    splits: dict[str, list[tuple[str, str, str]]] = _valid(path, _SPLITS, _json(path, _text(path)))
    for name in ("train", "val"):
        if not splits.get(name):
            raise damaged(path, f"it has no {name} images")
    unknown = {label for rows in splits.values() for _, label, _ in rows} - set(labels)
    if unknown:
        raise damaged(path, f'"{min(unknown)}" is no class of meta.json')
    return splits


def read_run_id(path: Path) -> str | None:
    """The MLflow run that mlflow.json names; None without such a file. Raises TrainingError."""
    if not path.exists():
        return None
    return str(_valid(path, TypeAdapter(_Tracked), _json(path, _text(path)))["run_id"])


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def _json(path: Path, text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(path, "it is not JSON") from error


def _valid(path: Path, kind: TypeAdapter[Any], content: Any) -> Any:
    """`content` itself, which is what `kind` describes."""
    try:
        kind.validate_python(content)
    except ValidationError as error:
        raise damaged(path, _first(error)) from error
    return content


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
