"""A run that was damaged: every command that reads it names the file, in one sentence, and what helps."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands import Said, Sightglass

Command = Callable[[Sightglass, Path, Path], Said]
Spoil = Callable[[Path], object]


def resume(sightglass: Sightglass, data: Path, run: Path) -> Said:
    return sightglass("train", data, "--out", run, "--resume")


def evaluate(sightglass: Sightglass, _data: Path, run: Path) -> Said:
    return sightglass("evaluate", run, "--out", run.with_name("scores"))


def export(sightglass: Sightglass, _data: Path, run: Path) -> Said:
    return sightglass("export", run, "--out", run.parent / "model" / "1")


def explain(sightglass: Sightglass, _data: Path, run: Path) -> Said:
    return sightglass("explain", run)


def start_from(sightglass: Sightglass, data: Path, run: Path) -> Said:
    return sightglass("train", data, "--from", run, "--out", run.with_name("next"))


def with_meta(**changes: Any) -> Spoil:
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def without(key: str) -> Spoil:
    def change(path: Path) -> None:
        content = json.loads(path.read_text())
        del content[key]
        path.write_text(json.dumps(content))

    return change


def text(content: str) -> Spoil:
    return lambda path: path.write_text(content)


def garbage(path: Path) -> None:
    path.write_bytes(b"\x93\xff\x00garbage" * 50)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def saved(content: Any) -> Spoil:
    return lambda path: torch.save(content, path)


def of_another_network(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    network = state["network"] if path.name == "weights.pt" else state["learner"]["network"]
    network.popitem()
    torch.save(state, path)


ALL = (resume, evaluate, export, explain, start_from)
DAMAGE: list[tuple[str, Spoil, tuple[Command, ...]]] = [
    ("meta.json", text("{}"), ALL),
    ("meta.json", text("[]"), (resume, evaluate)),
    ("meta.json", text(""), (resume, evaluate)),
    ("meta.json", text("[" * 100_000), (resume,)),
    ("meta.json", garbage, ALL),
    ("meta.json", with_meta(recipe=[]), (resume,)),
    ("meta.json", with_meta(recipe={"model": "residual-cnn", "epoch": 3}), ALL),
    ("meta.json", with_meta(recipe={"model": "residual-cnn"}), (evaluate,)),
    ("meta.json", with_meta(asked={"colour": "blue"}), (resume,)),
    ("meta.json", with_meta(input={"width": "wide"}), (evaluate,)),
    ("meta.json", with_meta(labels="abc"), (resume, explain)),
    ("meta.json", with_meta(data={}), (resume, evaluate)),
    ("meta.json", without("hardware"), (export,)),
    ("splits.json", text("[]"), (resume, evaluate, export)),
    ("splits.json", text("{}"), (resume, evaluate, export)),
    ("splits.json", text('{"train": [["a"]], "val": []}'), (resume, evaluate)),
    ("splits.json", text('{"train": [["a.png", "puce", "00"]], "val": [["b.png", "red", "00"]]}'), (evaluate,)),
    ("splits.json", garbage, (resume, evaluate, export)),
    ("splits.json", Path.unlink, (resume, evaluate, export)),
    ("metrics.jsonl", torn, (evaluate, export)),
    ("metrics.jsonl", text('{"epoch": 1}\n'), (evaluate, export)),
    ("metrics.jsonl", text(""), (evaluate, export)),
    ("metrics.jsonl", garbage, (evaluate, export)),
    ("metrics.jsonl", Path.unlink, (evaluate, export)),
    ("weights.pt", torn, (evaluate, export, explain, start_from)),
    ("weights.pt", garbage, (evaluate,)),
    ("weights.pt", Path.unlink, (evaluate, export, explain, start_from)),
    ("weights.pt", saved([1]), (evaluate, explain)),
    ("weights.pt", saved({"network": {"a": 1}}), (evaluate, start_from)),
    ("weights.pt", of_another_network, (evaluate, export, explain)),
    ("last.pt", garbage, (resume,)),
    ("last.pt", torn, (resume,)),
    ("last.pt", Path.unlink, (resume,)),
    ("last.pt", saved({"learner": {}}), (resume,)),
    ("last.pt", saved({"learner": {}, "history": [], "best": {}}), (resume,)),
    ("last.pt", of_another_network, (resume,)),
]
CASES = [(file, spoil, command) for file, spoil, commands in DAMAGE for command in commands]


@pytest.mark.parametrize(("file", "spoil", "command"), CASES)
def test_damage_is_one_sentence_that_names_the_file_and_a_hint(
    file: str,
    spoil: Spoil,
    command: Command,
    colours_run: Path,
    colours_data: Path,
    tmp_path: Path,
    sightglass: Sightglass,
) -> None:
    run = shutil.copytree(colours_run, tmp_path / "run")
    spoil(run / file)
    said = command(sightglass, colours_data, run)
    assert said.code == 1
    sentence, blank, hint, *more = said.err[said.err.index("error: ") :].splitlines()
    assert str(run / file) in sentence
    assert len(sentence.removeprefix("error: ").replace(str(run), "")) < 150
    assert (blank, more) == ("", [])
    assert hint.startswith("hint: ")
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "nothing half written is left"


def test_what_is_lost_comes_back_from_last_pt(
    colours_run: Path, colours_data: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    """So says the hint."""
    run = shutil.copytree(colours_run, tmp_path / "run")
    for file in ("weights.pt", "metrics.jsonl"):
        garbage(run / file)
    assert "--resume" in evaluate(sightglass, colours_data, run).err
    assert resume(sightglass, colours_data, run).code == 0
    for file in ("weights.pt", "metrics.jsonl"):
        assert (run / file).read_bytes() == (colours_run / file).read_bytes()


def test_without_last_pt_the_run_is_still_evaluated(colours_run: Path, tmp_path: Path, sightglass: Sightglass) -> None:
    run = shutil.copytree(colours_run, tmp_path / "run")
    (run / "last.pt").unlink()
    assert sightglass("evaluate", run).code == 0
