"""A full disk ends every command with one sentence that names the path, and leaves nothing half written.

A limit on the size of a file stands for it: writing fails in the same calls, here with "file too large".
"""

import os
import resource
import shutil
from collections import namedtuple
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.commands import QUIET, Sightglass, hurried
from tests.training.exports import copied, only
from tests.training.quick_runs import differences, learn
from tests.training.runs.stores import Hooked
from training.atomic import DiskFull, room_for
from training.errors import TrainingError
from training.learning import plan
from training.models.servable import Servable
from training.train import train
from training.variants.writers import WRITERS, Writer


@contextmanager
def full_disk(after_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond `after_bytes`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_the_systems_sentence_and_the_path() -> None:
    with pytest.raises(DiskFull, match=r"^no space left on device: runs/a$"), room_for(Path("runs/a")):
        raise OSError(28, "No space left on device")


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(PermissionError), room_for(Path("runs/a")):
        raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("after_bytes", [0, 2_000, 100_000])
def test_a_run_that_finds_no_room_leaves_nothing(
    after_bytes: int, colours_data: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    with full_disk(after_bytes):
        said = sightglass("train", colours_data, "--recipe", "digits", "--set", "channels=3", "--out", tmp_path / "run")
    assert said.code == 1
    sentence, blank, hint = said.err[said.err.index("error: ") :].splitlines()
    assert sentence.startswith(f"error: file too large: {tmp_path / 'run'}/")
    assert (blank, hint) == ("", "hint: make room there, or name another disk with --out")
    assert list(tmp_path.iterdir()) == []


def test_a_run_on_a_disk_that_fills_up_goes_on_when_there_is_room(colours_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with ExitStack() as after_epoch_1:
        fill_up = Hooked({1: lambda: after_epoch_1.enter_context(full_disk(1_000_000))})
        with pytest.raises(TrainingError, match=r"file too large: .*last\.pt") as refused:
            learn(colours_data, out, "epochs=2", talk=fill_up)
    assert "--resume" in refused.value.hint
    assert not list(out.glob(".*")), "nothing half written"
    train(plan.make(str(colours_data), out, resume=True), QUIET)
    learn(colours_data, tmp_path / "whole", "epochs=2")
    assert differences(out, tmp_path / "whole", "last.pt") == []


@pytest.mark.parametrize("after_bytes", [0, 4_000, 12_000], ids=["evaluation.json", "a table", "a figure"])
def test_an_evaluation_that_finds_no_room_leaves_no_folder(
    after_bytes: int, colours_run: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    with full_disk(after_bytes):
        said = sightglass("evaluate", colours_run, "--out", tmp_path / "scores", "-q")
    assert (said.code, said.err.splitlines()[0]) == (1, f"error: file too large: {tmp_path / 'scores'}")
    assert list(tmp_path.iterdir()) == []


def test_an_explanation_that_finds_no_room_leaves_no_folder(
    colours_run: Path, tmp_path: Path, sightglass: Sightglass
) -> None:
    with full_disk(1_000):
        said = sightglass("explain", colours_run, "--out", tmp_path / "seen", "--steps", "0", "-q")
    assert (said.code, said.err.splitlines()[0]) == (1, f"error: file too large: {tmp_path / 'seen'}")
    assert list(tmp_path.iterdir()) == []


def linked(artifact: Path) -> Writer:
    """A writer that needs no room: what comes after the variants meets the full disk."""

    def link(_servable: Servable, _calibration: NDArray[np.uint8], path: Path) -> None:
        os.link(artifact / path.name, path)

    return link


@pytest.mark.parametrize(
    ("name", "after_bytes"),
    [
        ("model.torchscript.pt", 1_000_000),
        ("model.onnx", 1_000_000),
        ("golden.npz", 10_000),
        ("weights.safetensors", 1_000_000),
    ],
)
def test_an_export_that_finds_no_room_leaves_no_folder(
    name: str,
    after_bytes: int,
    colours_run: Path,
    colours_artifact: Path,
    tmp_path: Path,
    sightglass: Sightglass,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, *((name, WRITERS[name]) if name in WRITERS else ("model.onnx", linked(colours_artifact))))
    with hurried(), full_disk(after_bytes):
        said = sightglass("export", colours_run, "--out", tmp_path / "colours" / "1", "-q")
    assert (said.code, said.err.splitlines()[0]) == (1, f"error: file too large: {tmp_path / 'colours' / '1'}")
    assert list(tmp_path.iterdir()) == []


def test_where_the_quantisers_copies_do_not_fit_the_folder_of_temporary_files_is_named(
    colours_run: Path, colours_artifact: Path, tmp_path: Path, sightglass: Sightglass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime writes them in C++, without a word about a full disk."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(20_000_000))
    monkeypatch.delitem(WRITERS, "model.torchscript.pt")
    monkeypatch.setitem(WRITERS, "model.onnx", copied(colours_artifact))
    said = sightglass("export", colours_run, "--out", tmp_path / "colours" / "1", "-q")
    assert said.err.startswith("error: no space left on device: ")
    assert "TMPDIR" in said.err
    assert list(tmp_path.iterdir()) == []
