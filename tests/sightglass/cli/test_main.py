"""The `sightglass` command: what it prints where, and with which exit code."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from app import DISTRIBUTION
from tests.commands import Sightglass, alone
from tests.training import colours
from training.models.registry import MODELS
from training.recipes import recipe

COMMANDS = ("train", "evaluate", "export", "verify", "predict", "explain", "serve", "models", "recipes")


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS), [], ["models"], ["recipes"]])
def test_help_and_lists_do_not_wait_for_torch(words: list[str]) -> None:
    done = alone(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_alone_it_prints_the_five_steps(sightglass: Sightglass) -> None:
    said = sightglass()
    assert said.code == 0
    steps = re.findall(r"^  (sightglass \w+|curl)", said.out, re.MULTILINE)
    assert steps == ["sightglass train", "sightglass evaluate", "sightglass export", "sightglass serve", "curl"]


def test_help_lists_every_command(sightglass: Sightglass) -> None:
    printed = sightglass("--help").out
    assert all(re.search(rf"\b{name}\b", printed) for name in COMMANDS)


@pytest.mark.parametrize("words", [["models"], ["recipes"], ["explain", "torchvision/vit_b_16"], ["explain", "mlp"]])
def test_no_list_is_wider_than_a_hundred_columns(words: list[str], sightglass: Sightglass) -> None:
    said = sightglass(*words)
    assert said.code == 0
    assert max(map(len, said.out.splitlines())) <= 100


def test_no_name_reaches_the_terminal_raw(sightglass: Sightglass, colours_run: Path, tmp_path: Path) -> None:
    evil = "\x1b[2J\x07evil\nerror: none"
    (tmp_path / "data" / evil).mkdir(parents=True)
    (tmp_path / "data" / evil / "x.png").touch()
    for words in (
        ["evaluate", colours_run, "--data", tmp_path / "data"],
        ["explain", colours_run, "--class", evil, "--out", tmp_path / "out"],
        ["evaluate", evil],
        ["predict", evil, evil],
    ):
        said = sightglass(*words)
        assert said.code == 1
        assert len([line for line in said.err.splitlines() if line.startswith("error: ")]) == 1
        assert r"\x1b[2J\x07evil\nerror: none" in said.err
        assert not {"\x1b", "\x07"} & set(said.out + said.err)


def test_version(sightglass: Sightglass) -> None:
    assert sightglass("--version").out == f"sightglass {version(DISTRIBUTION)}\n"


def test_models_lists_the_registry(sightglass: Sightglass) -> None:
    lines = sightglass("models").out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "model",
        *MODELS,
        "torchvision/NAME",
        "timm/NAME",
    ]
    rows = json.loads(sightglass("models", "--json").out)
    assert {row["model"]: row["parameters"] for row in rows} == {name: m.parameters for name, m in MODELS.items()}


def test_recipes_lists_every_recipe(sightglass: Sightglass) -> None:
    assert re.findall(r"^\S+", sightglass("recipes").out, re.MULTILINE) == recipe.names()
    rows = json.loads(sightglass("recipes", "--json").out)
    assert {row.pop("recipe"): recipe.parse({key: row[key] for key in row if key != "about"}) for row in rows} == {
        name: recipe.load(name) for name in recipe.names()
    }


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["train", "nowhere", "--out", "run"], 'there is no folder "nowhere"', "photos/<class>/*.jpg"),
        (["train", "digits", "--out", "run", "--recipe", "digit"], 'there is no recipe "digit"', 'mean "digits"'),
        (["train", "digits", "--out", "run", "--set", "epoch=1"], '"epoch" is no recipe key', 'mean "epochs"'),
        (["evaluate", "nowhere"], 'there is no folder "nowhere"', "sightglass train"),
        (["export", "nowhere", "--out", "exports/x/1"], '"nowhere" is no run', "sightglass train"),
        (["verify", "nowhere"], '"nowhere" is no artifact', None),
        (["predict", "nowhere", "x.jpg"], '"nowhere" is no artifact', None),
    ],
)
def test_a_known_error_is_an_error_and_a_hint_on_stderr(
    words: list[str],
    message: str,
    hint: str | None,
    sightglass: Sightglass,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = sightglass(*words)
    assert (said.code, said.out) == (1, "")
    first, *rest = said.err.splitlines()
    assert first.startswith(f"error: {message}")
    assert "Traceback" not in said.err
    if hint is None:
        assert rest == []
    else:
        assert rest[0] == ""
        assert rest[1].startswith("hint: ")
        assert hint in rest[1]


@pytest.mark.parametrize("words", [["train"], ["train", "digits"], ["nonsense"], ["export", "run", "--port", "1"]])
def test_wrong_usage_has_exit_code_2(words: list[str], sightglass: Sightglass) -> None:
    assert sightglass(*words).code == 2


def test_debug_shows_the_traceback(sightglass: Sightglass, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIGHTGLASS_DEBUG", "1")
    with pytest.raises(Exception, match="neither a run"):
        sightglass("evaluate", tmp_path)


def test_a_command_without_its_extra_names_it(sightglass: Sightglass, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the serving install: torch cannot be imported."""
    for name in [name for name in sys.modules if name == "training.learning.plan" or name.startswith("training.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without("torch"), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "torch")
    said = sightglass("train", "digits", "--out", "run")
    assert said.code == 2
    assert "needs torch, which the serving install leaves out" in said.err
    assert "hint: pip install -e '.[train]'" in said.err


class Without:
    """An importer that has not got one package."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, *_: object) -> None:
        if name == self._name:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def test_dry_run_says_what_would_happen_and_writes_nothing(
    sightglass: Sightglass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = sightglass("train", "digits", "--out", "run", "--dry-run")
    assert said.code == 0
    assert list(tmp_path.iterdir()) == []
    facts = [line.split()[0] for line in said.err.splitlines() if not line.startswith(" ")]
    assert facts == ["data", "recipe", "model", "machine", "plan"]
    assert re.search(r"\d+ images/s: about \d+ min; nothing was written", said.err)


def test_dry_run_answers_in_json(sightglass: Sightglass, tmp_path: Path) -> None:
    said = sightglass("train", "digits", "--out", tmp_path / "run", "--dry-run", "--json")
    found = json.loads(said.out)
    assert found["run"] == str(tmp_path / "run")
    assert found["seconds"] > 0


def test_train_says_where_it_saved_and_what_comes_next(
    sightglass: Sightglass, tmp_path: Path, colours_data: Path
) -> None:
    out = tmp_path / "run"
    settings = [word for text in ("epochs=1", "channels=3") for word in ("--set", text)]
    said = sightglass("train", colours_data, "--out", out, "--recipe", "digits", *settings, "--json")
    assert said.code == 0
    document = json.loads(said.out)
    assert (document["run"], document["best_epoch"]) == (str(out), 1)
    assert said.err.splitlines()[-1] == f"next     sightglass evaluate {out}"
    for name in ("weights.pt", "meta.json", "metrics.jsonl", "splits.json"):
        assert name in said.err
        assert (out / name).exists()


def test_train_refuses_an_existing_run(sightglass: Sightglass, digits_run: Path) -> None:
    said = sightglass("train", "digits", "--out", digits_run)
    assert said.code == 1
    assert said.err == f'error: "{digits_run}" exists\n\nhint: --resume goes on with it, --force replaces it\n'


def test_quiet_is_quiet(sightglass: Sightglass, colours_run: Path) -> None:
    said = sightglass("evaluate", colours_run, "--quiet")
    assert said.err == ""
    assert said.out.startswith("accuracy")


def test_quiet_says_the_result_in_one_line(sightglass: Sightglass, tmp_path: Path, colours_data: Path) -> None:
    settings = [word for text in ("epochs=1", "channels=3") for word in ("--set", text)]
    out = tmp_path / "run"
    said = sightglass("train", colours_data, "--out", out, "--recipe", "digits", *settings, "-q")
    assert (said.code, said.err) == (0, "")
    assert re.fullmatch(rf"{out}: best epoch 1, val accuracy .*\n", said.out)


def test_a_quiet_gate_still_says_why(
    sightglass: Sightglass, colours_run: Path, colours_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(colours_data / "red", tmp_path / "blue")
    said = sightglass("evaluate", colours_run, "--data", tmp_path, "--min-accuracy", "0.9", "-q")
    assert said.code == 3
    assert re.fullmatch(r"error: accuracy .* is below --min-accuracy 0.9\n", said.err)


def test_commands_work_from_any_directory(
    sightglass: Sightglass, digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(digits_run.parent)
    inside = sightglass("evaluate", digits_run.name, "--json").out
    monkeypatch.chdir(tmp_path)
    assert sightglass("evaluate", digits_run, "--json").out == inside


@pytest.mark.cifar10
def test_cifar10_photographs_choose_their_recipe(sightglass: Sightglass, cifar10: Path, tmp_path: Path) -> None:
    """50 images of each of three classes, so that the plan is made in a second."""
    for label in sorted(path.name for path in (cifar10 / "test").iterdir())[:3]:
        (tmp_path / "few" / label).mkdir(parents=True)
        for file in sorted((cifar10 / "test" / label).iterdir())[:50]:
            shutil.copy(file, tmp_path / "few" / label)
    said = sightglass("train", tmp_path / "few", "--out", tmp_path / "run", "--dry-run", "--set", "input_size=64")
    assert said.code == 0
    assert "head-then-fine-tuning-small: the images are small (32 px on the shorter side)" in said.err
    with Image.open(next((tmp_path / "few").rglob("*.jp*g"))) as photograph:
        assert photograph.size == (32, 32)


@pytest.mark.parametrize("locale", ["C", pytest.param("POSIX", marks=pytest.mark.slow)])  # of one locale two names
def test_names_are_printed_as_utf_8_where_the_locale_says_nothing(locale: str, tmp_path: Path) -> None:
    data = colours.write(tmp_path / "data", each=8)
    (data / "red").rename(data / "Löwenzahn")
    (data / "blue").rename(data / "狗")
    environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [
        sys.executable,
        "-c",
        "from sightglass.cli.main import main; main()",
        "train",
        data,
        "--out",
        tmp_path / "run",
    ]
    settings = ["--recipe", "digits", "--set", "channels=3", "--dry-run"]
    said = subprocess.run([*command, *settings], env=environment, capture_output=True, check=True).stderr.decode()
    assert "24 images, 3 classes" in said
    assert 'smallest class "Löwenzahn"' in said
