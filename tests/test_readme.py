"""The README's own commands, run as they stand there."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.settings import DEFAULT_MODEL
from tests.commands import Sightglass, hurried
from tests.serving import Server, serving
from training.data import photographs
from training.learning import recipe_choice
from training.variants.writers import WRITERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands(start: str) -> list[str]:
    """The `$` lines of the console block that begins after `start`."""
    block = re.search(r"```console\n(.*?)```", README[README.index(start) :], re.DOTALL)
    assert block
    return [line.removeprefix("$ ") for line in block[1].splitlines() if line.startswith("$ ")]


def shown_after(start: str) -> dict[str, Any]:
    """The first answer that is printed after `start`."""
    printed = re.search(r"^\{.*\}$", README[README.index(start) :], re.MULTILINE)
    assert printed
    answer: dict[str, Any] = json.loads(printed[0])
    return answer


def answer_of(curl: str, server: Server) -> dict[str, Any]:
    """What the README's own words get from a server that is elsewhere."""
    command = curl.replace("localhost:8000", server.url.removeprefix("http://"))
    done = subprocess.run(["bash", "-c", f"{command} -sS"], cwd=ROOT, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_first_curl_gives_the_answer_that_the_readme_shows(tmp_path: Path) -> None:
    serve, curl = commands("**Try it.**")
    assert serve == "docker compose up"  # tests/smoke runs that and the same curl
    shown = shown_after("**Try it.**")
    with serving(DEFAULT_MODEL, tmp_path) as server:
        answer = answer_of(curl, server)
    assert answer["prediction"] == shown["prediction"]
    assert answer["model"] == shown["model"]
    for given, printed in zip(answer["top_k"], shown["top_k"], strict=True):
        assert given["class"] == printed["class"]
        assert given["probability"] == pytest.approx(printed["probability"], abs=0.02)  # INT8 on another CPU


def test_a_thousand_classes_are_served_as_the_readme_shows(imagenet_artifact: Path, tmp_path: Path) -> None:
    """Of three cats the order hangs on a hundredth, which another CPU or INT8 may turn."""
    _install, export, serve, curl = commands("**A thousand classes")
    assert export == "sightglass export timm/tf_efficientnet_lite0 --out exports/imagenet/1"  # what the fixture does
    assert serve == "sightglass serve --model exports/imagenet/1"
    with serving(imagenet_artifact, tmp_path) as server:
        answer = answer_of(curl, server)
    shown = shown_after("**A thousand classes")
    assert answer["model"]["name"] == shown["model"]["name"] == "imagenet"
    given, printed = ({each["class"]: each["probability"] for each in one["top_k"]} for one in (answer, shown))
    assert given == pytest.approx(printed, abs=0.1)
    assert answer["prediction"] in printed


def test_a_folder_of_photographs_becomes_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sightglass: Sightglass
) -> None:
    """The four commands as they stand there, on pieces of the photographs that scikit-learn and matplotlib ship."""
    monkeypatch.setattr(recipe_choice, "MINUTES", 0.1)  # the head alone fits into them
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(WRITERS, "model.torchscript.pt")  # to save time
    data = photographs.find(None)
    for sample in data.splits["val"][::2]:
        folder = (
            tmp_path
            / "photos"
            / {"china": "palace", "flower": "daisy", "grace_": "portrait"}[
                re.match("china|flower|grace_", sample.path)[0]  # type: ignore[index]  # there are three
            ]
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{sample.path.partition('#')[2]}.bmp").write_bytes(data.read(sample.path))
    train, evaluate, export, serve = commands("**Your own photographs**")
    with hurried():
        for command in (train, f"{evaluate} --min-accuracy 0.95", export):
            said = sightglass(*command.split()[1:])
            assert said.code == 0, said.err
    with serving(tmp_path / serve.removeprefix("sightglass serve --model "), tmp_path) as server:
        assert httpx2.get(f"{server.url}/health").json()["model"]["name"] == "photos"
        flower = (tmp_path / "photos/daisy").iterdir()
        sent = httpx2.post(
            f"{server.url}/predict", content=next(flower).read_bytes(), headers={"Content-Type": "image/bmp"}
        )
        assert sent.json()["prediction"] == "daisy"


def test_every_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\((?!https:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
