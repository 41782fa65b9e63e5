"""Where the service listens: each way to say it is understood, or refused by the setting's name before it starts."""

import errno
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from app import settings
from app.server import serve
from app.server.sockets import bound, refusal
from app.settings import DEFAULT_MODEL, SettingsError
from tests.serving import ended, environment, serving

_FOUR, _SIX = "127.0.0.1", "::1"
Refusing = Callable[..., str]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Refusing:
    """A service that must not start, in this process, and the one sentence in which it says why. As a process of its
    own: test_serve.py."""

    def refused(**given: object) -> str:
        for name, value in environment(DEFAULT_MODEL, **given).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(serve, "_allow_many_connections", lambda: None)  # the limit would be this process's
        monkeypatch.setattr(serve, "_serve", lambda *_: pytest.fail("it starts"))
        assert serve.serve({}) == 1
        out, said = capfd.readouterr()
        (line,) = said.splitlines()
        assert out == ""
        return line

    return refused


def reaches(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 2).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "there", "workers"),
    [
        ("127.0.0.1", {_FOUR}, 1),
        ("0.0.0.0", {_FOUR}, 1),
        ("localhost", set(), 1),
        ("::1", {_SIX}, 1),
        ("[::1]", {_SIX}, 1),
        ("::", {_FOUR, _SIX}, 1),
        ("[::]", {_FOUR, _SIX}, 1),
        ("*", {_FOUR, _SIX}, 1),
        # each has a socket of its own, or two: what was understood above is bound once more
        ("localhost", set(), 2),
        ("::1", {_SIX}, 2),
        ("*", {_FOUR, _SIX}, 2),
    ],
)
def test_it_listens_there_with_any_number_of_workers_and_what_is_printed_can_be_asked(
    digits_artifact: Path, tmp_path: Path, host: str, there: set[str], workers: int
) -> None:
    if host == "localhost":
        there = {address[0] for *_, address in socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)}  # type: ignore[misc]
    with serving(digits_artifact, tmp_path, HOST=host, WORKERS=workers) as server:
        urls = re.findall(r"https?://[^/\s]+", server.log.read_text())
        port = int(server.url.rpartition(":")[2])
        assert port > 0
        assert {address for address in (_FOUR, _SIX) if reaches(address, port)} == there
        assert len(urls) == 3
        for url in urls:
            assert httpx2.get(f"{url}/health/live").status_code == 200, url


@pytest.mark.parametrize(
    ("setting", "value", "hint"),
    [
        ("HOST", "", "127.0.0.1"),
        ("HOST", "no such host", "127.0.0.1"),
        ("HOST", "nowhere.invalid", "no such host"),
        ("HOST", "a" * 70, "no such host"),
        ("HOST", "203.0.113.7", "no such address"),
        ("HOST", "2001:db8::7", "no such address"),
        ("HOST", "localhost:8000", "SIGHTGLASS_PORT"),
        ("HOST", "[::1]:8000", "SIGHTGLASS_PORT"),
        ("HOST", "http://localhost", "SIGHTGLASS_UDS"),
        ("HOST", "/run/s.sock", "SIGHTGLASS_UDS"),
        ("HOST", "unix:/run/s.sock", "SIGHTGLASS_UDS"),
        ("UDS", "/nowhere/s.sock", "no such file"),
        ("UDS", "/" + "a" * 107, "107 bytes"),
        ("UDS", "", "107 bytes"),
        ("UDS", "/proc/version", "no socket"),
        ("ROOT_PATH", "https://example.com/vision", "/vision"),
        ("ROOT_PATH", "/vision?a", "/vision"),
        ("ROOT_PATH", "/a b", "/vision"),
        ("ROOT_PATH", "/a/../b", "/vision"),
        ("ROOT_PATH", "/caf\xe9", "/vision"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_sentence(
    refusing: Refusing, setting: str, value: str, hint: str
) -> None:
    line = refusing(**{setting: value})
    assert line.startswith(f"error: SIGHTGLASS_{setting}={value}: ")
    assert hint in line


# What is said where the system refuses an address.
REFUSALS = {
    errno.EADDRINUSE: ("address already in use", "SIGHTGLASS_PORT or --port"),
    errno.EACCES: ("SIGHTGLASS_PORT or --port",),
    errno.EAFNOSUPPORT: ("SIGHTGLASS_HOST=*",),
    errno.EIO: ("Odd",),
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("listening", [True, False], ids=["listening", "starting"])
@pytest.mark.parametrize("host", ["127.0.0.1", "*"])
def test_a_port_in_use_is_said_before_anything_else(
    refusing: Refusing, host: str, listening: bool, workers: int
) -> None:
    with bound(settings.load(port=0, host=host)) as other:
        if listening:
            other.sockets[0].listen()
        port = other.sockets[0].getsockname()[1]
        line = refusing(PORT=port, HOST=host, WORKERS=workers)
    assert line.startswith(f"error: port {port} of ")
    for words in REFUSALS[errno.EADDRINUSE]:
        assert words in line


@pytest.mark.parametrize("number", REFUSALS)
def test_what_the_system_refuses_names_the_setting(number: int) -> None:
    said = str(refusal(OSError(number, "Odd"), "*", 80))
    for words in REFUSALS[number]:
        assert words in said


@pytest.mark.parametrize("workers", [1, 2])
def test_a_unix_socket_is_there_while_the_service_is(digits_artifact: Path, tmp_path: Path, workers: int) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))  # and leaves it behind
    with serving(digits_artifact, tmp_path, UDS=path, WORKERS=workers) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert f"curl -F file=@cat.jpg --unix-socket {path} http://localhost/predict" in server.log.read_text()
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path)), base_url="http://localhost") as client:
            assert client.get("/health/ready").status_code == 200
            assert client.get("/nothing").json()["type"] == "http://localhost/docs/errors#not_found"
        assert b"408" not in _asked(path, b"GET /health HTTP/1.0\r\n\r\n")
        assert b"/docs/errors#not_found" in _asked(path, b"GET /nothing HTTP/1.0\r\n\r\n")
        check = subprocess.run(
            [sys.executable, "-m", "app.server.healthcheck"],
            env=os.environ | {"SIGHTGLASS_UDS": str(path)},
            check=False,
        )
        assert check.returncode == 0
        second = ended(digits_artifact, UDS=path, WORKERS=workers)
        assert second.returncode == 1
        assert "another service listens there" in second.stderr
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    assert not path.exists()


def test_a_socket_that_another_has_put_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with bound(settings.load(uds=path)), socket.socket(socket.AF_UNIX) as other:
        path.unlink()
        (tmp_path / "holds the inode").touch()
        other.bind(str(path))
        inode = path.stat().st_ino
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("given", ["/vision/", "vision", "//vision//", "/vision"])
def test_a_prefix_is_the_same_with_or_without_slashes_around_it(
    digits_artifact: Path, tmp_path: Path, given: str
) -> None:
    assert settings.load(root_path=given).root_path == "/vision"
    with serving(digits_artifact, tmp_path, ROOT_PATH=given) as server:
        page = httpx2.get(f"{server.url}/docs").text
        assert "/vision/openapi.json" in page
        assert "/vision//" not in page
        assert httpx2.post(f"{server.url}/predict").json()["type"] == f"{server.url}/vision/docs/errors#empty_body"


def test_no_prefix_is_no_slash() -> None:
    assert settings.load(root_path="/").root_path == ""
    assert settings.load(root_path="/a/b.c/").root_path == "/a/b.c"
    with pytest.raises(SettingsError):
        settings.load(root_path="/..")


def _asked(path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(request)
        return client.makefile("rb").read()
