"""`sightglass predict` and `verify`: what they answer about files and artifacts."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.artifact import manifest
from app.inference import loading
from tests.commands import Sightglass, alone
from tests.images import drawing, encode
from tests.serving import serving
from tests.sightglass.client.neighbour import MODEL, PREDICTION, http, neighbour
from training.data.source import index


@pytest.fixture(scope="module")
def digit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real seven."""
    data = index("digits")
    sample = next(each for each in data.splits["all"] if each.label == 7)
    file = tmp_path_factory.mktemp("images") / "seven.png"
    file.write_bytes(data.read(sample.path))
    return file


def test_predict_answers_as_the_service_would(sightglass: Sightglass, digits_artifact: Path, digit: Path) -> None:
    said = sightglass("predict", digits_artifact, digit, "--json", "--top-k", "2", "--variant", "onnx")
    assert said.code == 0
    (row,) = json.loads(said.out)
    served = loading.start(digits_artifact, "onnx", "cpu")
    expected = served.engine.run(
        loading.golden.decode(digit.read_bytes(), served.manifest.input).pixels[None]
    ).probabilities[0]
    assert row["file"] == str(digit)
    assert [each["class"] for each in row["top_k"]] == [str(label) for label in np.argsort(expected)[::-1][:2]]
    assert row["top_k"][0]["class"] == "7"
    assert row["top_k"][0]["probability"] == pytest.approx(float(expected.max()), abs=1e-6)


def test_predict_says_that_a_folder_is_one(sightglass: Sightglass, digits_artifact: Path, tmp_path: Path) -> None:
    said = sightglass("predict", digits_artifact, tmp_path)
    assert said.code == 1
    assert said.out.rstrip().endswith("error: is a directory")


def test_predict_answers_the_good_files_beside_a_broken_one(
    sightglass: Sightglass, digits_artifact: Path, digit: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("no image")
    files = [digit, broken, tmp_path / "missing.png", digit]
    said = sightglass("predict", digits_artifact, *files)
    assert said.code == 1
    lines = said.out.splitlines()
    assert [line.startswith(str(file)[:50]) for line, file in zip(lines, files, strict=True)] == [True] * 4
    assert re.search(r"  7 0\.\d{4}", lines[0])
    assert "error: the file is no known image type" in lines[1]
    assert lines[2].endswith("error: no such file or directory")
    rows = json.loads(sightglass("predict", digits_artifact, *files, "--json").out)
    good, bad = ["file", "set", "top_k", "unfamiliar"], ["error", "file"]
    assert [sorted(row) for row in rows] == [good, bad, bad, good]


def test_predict_marks_what_an_answer_is_not_to_be_taken_without(
    sightglass: Sightglass, digits_artifact: Path, digit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names so short that a row is a line
    files = [Path(f"{seed}.png") for seed in range(7)]
    shutil.copy(digit, files[0])
    for seed, file in enumerate(files[1:]):
        file.write_bytes(encode(drawing(seed=seed)))
    rows = json.loads(sightglass("predict", digits_artifact, *files, "--json").out)
    marked = ["(unfamiliar)" in line for line in sightglass("predict", digits_artifact, *files).out.splitlines()]
    assert marked == [row["unfamiliar"] for row in rows]
    assert not marked[0]
    assert any(marked)


def test_predict_marks_what_a_service_does_not_accept(sightglass: Sightglass, digit: Path) -> None:
    model = {**MODEL, "labels": ["cat", "dog"], "serving": {"variant": "onnx", "device": "cpu"}}
    doubtful = {**PREDICTION, "accept": False, "unfamiliar": True, "set": ["cat", "dog"]}
    with neighbour(http(200, model), http(200, doubtful)) as other:
        said = sightglass("predict", "--url", other.url, digit)
    # a long name of the file breaks the line
    assert said.out.split()[1:] == ["cat", "0.7500", "dog", "0.2500", "(unfamiliar)", "(not", "accepted)"]


def test_predict_names_a_file_whose_name_is_in_no_known_encoding(
    sightglass: Sightglass, digits_artifact: Path, digit: Path, tmp_path: Path
) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    shutil.copy(digit, odd)
    said = sightglass("predict", digits_artifact, odd)
    assert said.code == 0
    assert re.search(r"caf.*\.png  7 0\.\d{4}", said.out)


def test_predict_takes_images_of_any_size_and_mode(
    sightglass: Sightglass, digits_artifact: Path, tmp_path: Path
) -> None:
    files = {
        "panorama.jpg": encode(drawing(2000, 100), "JPEG"),
        "portrait.jpg": encode(drawing(300, 400), "JPEG", orientation=6),
        "alpha.png": encode(drawing().convert("RGBA")),
        "dot.png": encode(drawing(1, 1)),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    said = sightglass("predict", digits_artifact, *(tmp_path / name for name in files), "--json", "--top-k", 10)
    assert said.code == 0
    for row in json.loads(said.out):
        assert sum(each["probability"] for each in row["top_k"]) == pytest.approx(1, abs=1e-5)


def test_predict_reads_stdin_and_needs_no_torch(digits_artifact: Path, digit: Path) -> None:
    done = alone("predict", digits_artifact, "-", "--json", stdin=digit.read_bytes())
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["file"], row["top_k"][0]["class"]) == ("-", "7")


@pytest.fixture(scope="module")
def service(digits_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one that serves the digits."""
    with serving(digits_artifact, tmp_path_factory.mktemp("service"), VARIANT="onnx") as running:
        yield running.url


@pytest.mark.parametrize("options", [[], ["--json"], ["--top-k", "1"], ["--top-k", "99", "--json"]])
def test_a_service_answers_as_the_artifact_does_on_the_command_line_too(
    sightglass: Sightglass, digits_artifact: Path, service: str, digit: Path, options: list[str]
) -> None:
    here = sightglass("predict", digits_artifact, digit, digit, "--variant", "onnx", *options)
    there = sightglass("predict", "--url", service, digit, digit, *options)
    assert (there.code, there.err) == (here.code, here.err) == (0, "")
    numbers = [re.findall(r"0\.\d+", said.out) for said in (here, there)]
    assert re.sub(r"0\.\d+", "", there.out) == re.sub(r"0\.\d+", "", here.out)
    assert [float(each) for each in numbers[1]] == pytest.approx([float(each) for each in numbers[0]], abs=1e-5)


def test_a_service_answers_the_good_files_beside_a_broken_one(
    sightglass: Sightglass, service: str, digit: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_text("no image")
    said = sightglass("predict", "--url", service, digit, tmp_path / "broken.jpg", tmp_path / "missing.png", digit)
    assert said.code == 1
    lines = said.out.splitlines()
    assert [("error" in line, " 7 0." in line) for line in lines] == [
        (False, True),
        (True, False),
        (True, False),
        (False, True),
    ]
    assert "error: The file is no known image type" in lines[1]
    assert "No such file" in lines[2]


def test_a_service_is_asked_about_stdin_without_torch(service: str, digit: Path) -> None:
    done = alone("predict", "--url", service, "-", "--json", stdin=digit.read_bytes())
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["file"], row["top_k"][0]["class"]) == ("-", "7")


def test_the_key_of_the_environment_goes_to_the_service(
    sightglass: Sightglass, monkeypatch: pytest.MonkeyPatch, digit: Path
) -> None:
    model = {**MODEL, "labels": ["cat", "dog"], "serving": {"variant": "onnx", "device": "cpu"}}
    monkeypatch.setenv("SIGHTGLASS_API_KEY", "k-1")
    with neighbour(http(200, model), http(200, PREDICTION)) as other:
        assert sightglass("predict", "--url", other.url, digit).out.endswith("cat 0.7500  dog 0.2500\n")
    assert [head.split(" HTTP")[0] for head in other.requests] == ["GET /model", "POST /predict?top_k=2"]
    assert all("authorization: bearer k-1" in head.lower() for head in other.requests)


def test_a_wrong_address_is_one_error_and_not_one_for_each_file(sightglass: Sightglass, digit: Path) -> None:
    with neighbour(http(404, b"<html>", "text/html")) as other:
        said = sightglass("predict", "--url", other.url, digit, digit)
    assert (said.code, said.out) == (1, "")
    assert re.fullmatch(r"error: GET \S+/model: 404 Not Found with text/html; [^\n]+\n\nhint: [^\n]+\n", said.err)
    assert len(other.requests) == 1
    assert "looks like http://" in sightglass("predict", "--url", "localhost:8000", digit).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["http://localhost:8000", "cat.jpg"], "--url"),
        (["exports/cifar10/1"], "images"),
        (["--url", "http://localhost:8000", "ARTIFACT", "cat.jpg"], "leave"),
        (["--url", "http://localhost:8000"], "Missing argument"),
        (["--url", "http://localhost:8000", "--variant", "onnx", "cat.jpg"], "--variant"),
    ],
)
def test_an_artifact_or_an_address_but_not_both(
    sightglass: Sightglass, digits_artifact: Path, words: list[str], said: str
) -> None:
    answer = sightglass("predict", *(str(digits_artifact) if word == "ARTIFACT" else word for word in words))
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err


def test_verify_checks_every_variant(sightglass: Sightglass, digits_artifact: Path) -> None:
    said = sightglass("verify", digits_artifact, "--json")
    assert said.code == 0
    rows = json.loads(said.out)["variants"]
    described = manifest.load(digits_artifact).variants
    assert [row["variant"] for row in rows] == list(described)
    for row in rows:
        assert row["result"] == "ok"
        assert row["difference"] <= described[row["variant"]].tolerance
    assert [line.split()[0] for line in sightglass("verify", digits_artifact).out.splitlines()] == ["ok"] * len(rows)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "weights.safetensors", "manifest.json"])
def test_verify_finds_one_changed_byte(
    name: str, sightglass: Sightglass, digits_artifact: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(digits_artifact, tmp_path / "1")
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    said = sightglass("verify", copy)
    assert (said.code, said.out) == (1, "")
    assert re.fullmatch(r"error: [^\n]+\n", said.err), "one sentence"
    assert name in said.err
