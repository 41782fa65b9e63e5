"""Where a run comes from: the commit of this checkout, and of no other."""

import subprocess
from pathlib import Path

import pytest

from training.learning import provenance


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def placed(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(provenance, "__file__", str(root / "training/learning/provenance.py"))


def test_a_checkout_has_its_commit_and_says_whether_files_differ(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("as it was")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    placed(monkeypatch, tmp_path)
    assert provenance.commit() == git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "file").write_text("as it is")
    assert provenance.commit() == git(tmp_path, "rev-parse", "HEAD") + "+changes"


@pytest.mark.parametrize("within", [".venv/lib/python3.11/site-packages", "vendor/sightglass"])
def test_what_lies_in_another_checkout_is_not_of_its_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, within: str
) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "theirs")
    (tmp_path / within).mkdir(parents=True)
    placed(monkeypatch, tmp_path / within)
    assert provenance.commit() == "unknown"


def test_outside_of_any_it_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    placed(monkeypatch, tmp_path)
    assert provenance.commit() == "unknown"
