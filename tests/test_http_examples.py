"""The examples of docs/http.md, run as they stand there against a running service."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import DEFAULT_MODEL
from tests.serving import serving

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/http.md").read_text()
CLIENTS = PAGE[PAGE.index("## Clients") :].partition("\n## ")[0]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", CLIENTS, re.DOTALL)


COMMANDS = [line[2:] for block in blocks("console") for line in block.splitlines()]
SHOWN = {"curl": 4, "sightglass": 1, "SIGHTGLASS_API_KEY=KEY sightglass": 1}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(DEFAULT_MODEL, tmp_path_factory.mktemp("service")) as running:
        yield running.url


def said(command: list[str], url: str, text: str = "") -> str:
    """What it prints, in the root of the repository; the addresses in it are the service's."""
    here = url.removeprefix("http://")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [word.replace("localhost:8000", here) for word in command],
        input=text.replace("localhost:8000", here),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_are_those_of_curl_and_ours() -> None:
    assert {name: sum(command.startswith(name) for command in COMMANDS) for name in SHOWN} == SHOWN
    assert len(COMMANDS) == sum(SHOWN.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_answers(command: str, url: str) -> None:
    expected = {"/predict": '"prediction":"cat"', "/health": '"status":"ok"', "sightglass": "cat.jpg  cat 0.9"}
    (answer,) = [text for word, text in expected.items() if word in command.replace("sightglass predict", "sightglass")]
    assert answer in said(["bash", "-c", command], url)


def test_the_python_client_answers_and_says_what_is_no_image(url: str) -> None:
    first, _, _ = blocks("python")
    lines = said([sys.executable, "-W", "error", "-"], url, first).splitlines()
    assert re.fullmatch(r"cat 0\.9\d+ cifar10", lines[0])
    assert lines[1] == lines[3] == "cat.jpg cat"
    assert lines[2].startswith("README.md unsupported_image: The file is no known image type")


def test_the_asynchronous_client_answers(url: str) -> None:
    _, second, _ = blocks("python")
    assert re.fullmatch(r"(cat 0\.9\d+\n){2}", said([sys.executable, "-W", "error", "-"], url, second))


def test_requests_answers(url: str) -> None:
    _, _, third = blocks("python")
    assert re.fullmatch(r"cat 0\.9\d+\n", said([sys.executable, "-"], url, third))


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_javascript_answers(url: str) -> None:
    (script,) = blocks("javascript")
    assert re.fullmatch(r"cat 0\.9\d+\n", said(["node", "--input-type=module", "-"], url, script))
