"""The README's own commands, run as they stand there."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.commands import Sightglass
from tests.serving import serving

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands(start: str) -> list[str]:
    """The `$` lines of the console block that begins after `start`."""
    block = re.search(r"```console\n(.*?)```", README[README.index(start) :], re.DOTALL)
    assert block
    return [line.removeprefix("$ ") for line in block[1].splitlines() if line.startswith("$ ")]


def test_the_first_curl_gives_the_answer_that_the_readme_shows(tmp_path: Path) -> None:
    serve, curl = commands("**Try it.**")
    assert serve == "docker compose up"  # tests/smoke runs that and the same curl
    shown = json.loads(re.search(r"^\{.*\}$", README, re.MULTILINE)[0])  # type: ignore[index]  # a failure says enough
    with serving(ROOT / "exports/cifar10/1", tmp_path) as server:
        command = curl.replace("localhost:8000", server.url.removeprefix("http://"))
        answered = subprocess.run(
            ["bash", "-c", f"{command} -sS"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    answer = json.loads(answered.stdout)
    assert answer["prediction"] == shown["prediction"]
    assert answer["model"] == shown["model"]
    for given, printed in zip(answer["top_k"], shown["top_k"], strict=True):
        assert given["class"] == printed["class"]
        assert given["probability"] == pytest.approx(printed["probability"], abs=0.02)  # INT8 on another CPU


def test_the_quick_start_reaches_97_percent_and_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sightglass: Sightglass
) -> None:
    _install, train, evaluate, export, serve = commands("**Your own images**")
    monkeypatch.chdir(tmp_path)
    for command in (train, f"{evaluate} --min-accuracy 0.97", export):
        name, *words = shlex.split(command)
        assert name == "sightglass"  # installed by that name: tests/test_locks.py
        done = sightglass(*words)
        assert done.code == 0, done.err
    model = serve.removeprefix("sightglass serve --model ")
    with serving(tmp_path / model, tmp_path) as server:
        assert httpx2.get(f"{server.url}/health").json()["model"]["name"] == "digits"


def test_every_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\((?!https:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
