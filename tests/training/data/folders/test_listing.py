"""What counts as an image file, what is followed, and what belongs to the system."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.training.data.folders.trees import grow
from training.data.folders.listing import Folder, listed
from training.errors import TrainingError


def paths(root: Path) -> list[str]:
    return list(listed(root).paths())


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("name", ["0001", "photo.dat", "a.txt", "x.jpg~"])
def test_an_image_is_one_by_its_bytes_whatever_it_is_called(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(encoded(kind))
    assert paths(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.jpg", "b.JPEG", "c.HEIC", "d.tif", "e.webp", "f.NEF"])
def test_what_is_called_an_image_counts_even_if_it_is_none(name: str, tmp_path: Path) -> None:
    """So that it is missed by nobody: it is listed as skipped."""
    (tmp_path / name).write_bytes(b"no image")
    assert paths(tmp_path) == [name]


@pytest.mark.parametrize(
    "name",
    ["Thumbs.db", "desktop.ini", "a.xml", "a.json", "a.txt", "a.xmp", "a.AAE", "a.csv", "a.mp4", "BMW.txt", "empty"],
)
def test_sidecars_are_no_images(name: str, tmp_path: Path) -> None:
    content = {"empty": b"", "BMW.txt": b"BM is how a bitmap begins, too"}.get(name, b"\xd0\xcf\x11\xe0" + bytes(300))
    (tmp_path / name).write_bytes(content)
    found = listed(tmp_path)
    assert found.images == []
    assert sum(found.others.values()) == (name not in ("Thumbs.db", "desktop.ini"))


@pytest.mark.parametrize(
    "folder",
    [
        *("@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found", ".git"),
        *("#recycle", "@Recycle", "FOUND.000", "__pycache__", ".Trash-1000", ".@__thumb", "LOST.DIR"),
        ".ipynb_checkpoints",
    ],
)
@pytest.mark.parametrize("where", ["", "cat", "train/cat/deep"])
def test_folders_of_systems_are_not_there(folder: str, where: str, tmp_path: Path) -> None:
    grow(tmp_path, {f"{where}/{folder}".lstrip("/"): 3, "cat": 1})
    (tmp_path / "cat/._000.jpg").write_bytes(b"\0\5\x16\7")
    assert paths(tmp_path) == ["cat/000.jpg"]


def test_links_are_followed(tmp_path: Path) -> None:
    grow(tmp_path / "store", {"batch/deep": 2, "other": 1})
    grow(tmp_path / "data", {"a": 1, "b": 1})
    (tmp_path / "data/a/batch").symlink_to("../../store/batch")
    (tmp_path / "data/c").symlink_to(tmp_path / "store/other")
    (tmp_path / "data/b/one.jpg").symlink_to(tmp_path / "store/other/000.jpg")
    assert paths(tmp_path / "data") == [
        *("a/000.jpg", "a/batch/deep/000.jpg", "a/batch/deep/001.jpg"),
        *("b/000.jpg", "b/one.jpg", "c/000.jpg"),
    ]


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "nowhere", "loop"])
def test_links_to_nowhere_and_back_up_end_and_are_named(target: str, tmp_path: Path) -> None:
    root = grow(tmp_path / "data", {"a": 2, "b": 1})
    (root / "a/loop").symlink_to(target)
    found = listed(root)
    assert found.total == 3
    assert found.folders["a"].lost == ["loop"]


def test_links_that_lead_to_each_other_end(tmp_path: Path) -> None:
    root = grow(tmp_path, dict.fromkeys("abcd", 1))
    for here in "abcd":
        for there in set("abcd") - {here}:
            (root / here / f"to_{there}").symlink_to(f"../{there}")
    assert listed(root).folders["a"].total == 1 + 3 * (1 + 2 * (1 + 1)), (
        "each other folder on every way without a circle"
    )


def test_links_that_multiply_are_refused(tmp_path: Path) -> None:
    root = grow(tmp_path, dict.fromkeys("abcdefghij", 1))
    for here in "abcdefghij":
        for there in set("abcdefghij") - {here}:
            (root / here / f"to_{there}").symlink_to(f"../{there}")
    with pytest.raises(TrainingError, match="more than 1,000 links lead to"):
        listed(root)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert paths(tmp_path) == []


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    grow(tmp_path / "data", {"a/more": 2})
    (tmp_path / "data/a/more").chmod(0)
    command = [
        sys.executable,
        "-c",
        "import sys; from pathlib import Path; from training.data.folders.listing import listed; listed(Path('.'))",
    ]
    if not os.geteuid():
        if not shutil.which("setpriv"):
            pytest.skip("root reads everything, and there is no setpriv")
        lost = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={lost}", f"--inh-caps={lost}", *command]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])}
    said = subprocess.run(command, cwd=tmp_path / "data", env=environment, capture_output=True, text=True, check=False)
    (tmp_path / "data/a/more").chmod(0o755)
    assert '"./a/more" cannot be read: permission denied' in said.stderr


def test_the_order_is_that_of_the_names(tmp_path: Path) -> None:
    grow(tmp_path, {"b": 2, "a/y": 1, "a/x": 1, "a": 1})
    assert paths(tmp_path) == ["a/000.jpg", "a/x/000.jpg", "a/y/000.jpg", "b/000.jpg", "b/001.jpg"]
    assert [folder.path for folder in listed(tmp_path).below()] == ["", "a", "a/x", "a/y", "b"]
    assert not listed(tmp_path).folders["a"].flat
    assert Folder("train/cat").name == "cat"
