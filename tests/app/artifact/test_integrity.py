"""What was changed in an artifact since its export is refused in one sentence: files, paths and the manifest itself."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.artifact import manifest
from app.artifact.manifest import File
from tests.app.artifacts import Content, put, refusal, rewrite, small_artifact


def test_one_changed_byte_in_any_file_of_an_artifact_is_refused(digits_artifact: Path, tmp_path: Path) -> None:
    folder = tmp_path / "1"
    shutil.copytree(digits_artifact, folder)
    names = sorted(path.name for path in folder.iterdir())
    assert {"manifest.json", "golden.npz", "model.onnx", "model.torchscript.pt", "report.html"} <= set(names)
    for name in names:
        whole = (folder / name).read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            flipped = bytearray(whole)
            flipped[place] ^= 1
            (folder / name).write_bytes(flipped)
            assert name in refusal(folder)
        (folder / name).write_bytes(whole)
    assert manifest.load(folder)


def test_one_changed_bit_at_any_place_of_the_manifest_is_refused(tmp_path: Path) -> None:
    """Every fifth place, to be quick."""
    small_artifact(tmp_path / "1")
    path = tmp_path / "1" / "manifest.json"
    whole = path.read_bytes()
    for place in range(0, len(whole), 5):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        assert refusal(tmp_path / "1"), place


@pytest.mark.parametrize("name", ["golden.npz", "model.onnx", "model.int8.onnx", "report.json"])
def test_a_missing_file_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    small_artifact(tmp_path / "1")
    (tmp_path / "1" / name).unlink()
    assert f"{name} is missing" in refusal(tmp_path / "1")


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    small_artifact(tmp_path / "1")
    (tmp_path / "1" / "model.onnx").unlink()
    (tmp_path / "1" / "model.onnx").mkdir()
    assert "model.onnx" in refusal(tmp_path / "1")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "..", "a\\..\\x", "C:\\x"])
def test_a_path_that_leaves_the_folder_is_refused_before_it_is_opened(tmp_path: Path, name: str) -> None:
    small_artifact(tmp_path / "1")
    (tmp_path / "x").write_bytes(b"outside")
    rewrite(tmp_path / "1", put("files", name, manifest.fingerprint(tmp_path / "x").model_dump()))
    assert "leaves the artifact folder" in refusal(tmp_path / "1")


def test_a_link_that_leads_out_of_the_folder_is_refused_though_its_content_fits(tmp_path: Path) -> None:
    small_artifact(tmp_path / "1")
    (tmp_path / "1" / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (tmp_path / "1" / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    assert "leads out" in refusal(tmp_path / "1")


@pytest.mark.parametrize("name", ["", ".", "x" * 5000, "a\x00b", "manifest.json/x"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    small_artifact(tmp_path / "1")
    rewrite(tmp_path / "1", put("files", name, File(sha256="0" * 64, size_bytes=1).model_dump()))
    assert refusal(tmp_path / "1")


@pytest.mark.parametrize("name", ["golden.npz", "model.int8.onnx"])
def test_a_file_that_is_served_without_a_checksum_is_refused(tmp_path: Path, name: str) -> None:
    small_artifact(tmp_path / "1")
    rewrite(tmp_path / "1", lambda content: content["files"].pop(name))
    assert f"no checksum for {name}" in refusal(tmp_path / "1")


STALE = {
    "labels reordered": lambda content: content["labels"].reverse(),
    "mean edited": put("input", "mean", [0.2, 1 / 3, 0.5]),
    "another default": put("default_variant", "onnx"),
    "tolerance widened": put("variants", "onnx", "tolerance", 1.0),
    "provenance edited": put("provenance", "commit", "abc"),
}


@pytest.mark.parametrize("change", STALE.values(), ids=STALE)
def test_any_edit_that_leaves_the_digest_behind_is_refused(tmp_path: Path, change: Callable[[Content], Any]) -> None:
    small_artifact(tmp_path / "1")
    rewrite(tmp_path / "1", change, digest=False)
    assert "edited after the export" in refusal(tmp_path / "1")
