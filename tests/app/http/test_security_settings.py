"""Settings that would leave a door open: one sentence, which shows no key."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.errors import Problem
from app.http.middleware.api_keys import HANDED_DOWN, ApiKeys, hand_down, keys_of
from app.http.middleware.cors import Pages
from app.http.middleware.request_log import Trace
from app.settings import Settings, SettingsError
from tests.images import drawing, encode
from tests.serving import environment

ALICE, BOB = "alice-0123456789abcdef", "bob:fedcba9876543210"
PAGE = "https://page.example"
IMAGE = encode(drawing(32, 32), "JPEG")


def keys(**chosen: Any) -> dict[str, bytes]:
    return keys_of(Settings(**chosen))


def pages(**chosen: Any) -> Pages:
    return Pages.of(Settings(**chosen), "api_keys" in chosen)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "API_KEYS: entry 1 is not NAME:KEY"),
        (" ", "entry 1 is not NAME:KEY"),
        (ALICE, "entry 1 is not NAME:KEY"),
        (f":{ALICE}", "entry 1 is not NAME:KEY"),
        (f"a b:{ALICE}", "entry 1 is not NAME:KEY"),
        (f"a:{ALICE},", "entry 2 is not NAME:KEY"),
        ("a:0123456789 abcdef", "entry 1 is not NAME:KEY"),
        ("a:", "entry 1 has a key of 0 characters; at least 16"),
        ("a:0123456789abcde", "entry 1 has a key of 15 characters; at least 16"),
        (f"a:{ALICE},a:{BOB}", "entry 2: there is another key of a"),
        (f"a:{ALICE},b:{ALICE}", "entry 2: the key of b is also another's"),
    ],
)
def test_keys_that_are_none_are_one_sentence_that_does_not_show_them(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "keys").write_text(text.replace(",", "\n") + "\n")
    for chosen in ({"api_keys": SecretStr(text)}, {"api_keys_file": tmp_path / "keys"}):
        if "api_keys_file" in chosen and (not text.strip() or text.endswith(",")):
            continue  # blank lines are none
        with pytest.raises(SettingsError) as refused:
            keys(**chosen)
        assert words in f"{refused.value}".replace(f"_FILE={tmp_path / 'keys'}", "")
        assert "\n" not in str(refused.value)
        assert "0123456789" not in str(refused.value)


def test_a_file_without_keys_or_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    cases = {"empty": "there is no key in it", "none": "No such file", ".": "Is a directory", "bytes": "not text"}
    (tmp_path / "empty").write_text("# nobody yet\n\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name, words in cases.items():
        with pytest.raises(SettingsError, match=words) as refused:
            keys(api_keys_file=tmp_path / name)
        assert str(refused.value).startswith(f"SIGHTGLASS_API_KEYS_FILE={tmp_path / name}")


def test_a_worker_that_replaces_another_has_the_keys_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice:{ALICE}\n")
    started = keys(api_keys_file=file)
    assert set(started) == {"alice"}
    monkeypatch.setenv(HANDED_DOWN, "")
    hand_down(started)
    file.write_text(f"bob:{BOB}\n")
    assert set(keys(api_keys_file=file)) == {"bob"}  # a start of its own
    monkeypatch.setattr(multiprocessing, "parent_process", object)
    assert keys(api_keys_file=file) == started
    assert ALICE not in os.environ[HANDED_DOWN]


def test_a_key_in_the_environment_and_in_the_file_is_no_second_one(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"bob:{ALICE}")
    with pytest.raises(SettingsError, match="also another's"):
        keys(api_keys=f"alice:{ALICE}", api_keys_file=tmp_path / "keys")


@pytest.mark.parametrize(
    "origin",
    [
        *("page.example", f"{PAGE}/", f"{PAGE}/app", "null", "https://*.example", "ftp://a.example", f"{PAGE},,"),
        *("capacitor://", "capacitor://localhost/", "app://.,", "chrome-extension://*", "file:///index.html"),
        *("file://.", "ws://a.example", "data://x", "javascript://x", "1app://x", "tauri:localhost", "app:// x", "*,"),
    ],
)
def test_what_is_no_origin_is_one_sentence(origin: str) -> None:
    with pytest.raises(SettingsError, match="is no origin: https://example"):
        pages(cors_origins=origin)


@pytest.mark.parametrize(
    ("origin", "sent"),
    [
        ("https://Page.Example:8443", "https://page.example:8443"),
        ("http://[::1]:5173", "http://[::1]:5173"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("ionic://localhost", "ionic://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        ("TAURI://Localhost", "tauri://Localhost"),
        ("chrome-extension://abcdefghijklmnopabcdefghijklmnop", "chrome-extension://abcdefghijklmnopabcdefghijklmnop"),
        (
            "moz-extension://1B671A64-40d5-491e-99b0-da01ff1f3341",
            "moz-extension://1B671A64-40d5-491e-99b0-da01ff1f3341",
        ),
        ("safari-web-extension://ABC", "safari-web-extension://ABC"),
        ("app://.", "app://."),
        ("app://obsidian.md", "app://obsidian.md"),
        ("capacitor-electron://-", "capacitor-electron://-"),
        ("vscode-webview://a-b:80", "vscode-webview://a-b:80"),
    ],
)
def test_apps_and_extensions_have_origins(origin: str, sent: str) -> None:
    assert pages(cors_origins=f"{PAGE}, {origin}").origins == (PAGE, sent)


@pytest.mark.parametrize("names", ["X One", "X-One,", "X-One: 1", "X-Ü", "*,,"])
def test_what_is_no_name_of_a_header_is_one_sentence(names: str) -> None:
    with pytest.raises(SettingsError, match=r"CORS_HEADERS: '[^']*' is no name of a header"):
        pages(cors_headers=names, cors_origins=PAGE)


def test_every_page_may_not_use_keys() -> None:
    with pytest.raises(SettingsError, match=r"CORS_ORIGINS=\*: with keys, name the origins"):
        pages(cors_origins="*", api_keys=f"alice:{ALICE}")
    assert pages(cors_origins="*").origins == ("*",)


@pytest.mark.parametrize(
    ("header", "closes"),
    [((b"content-length", b"5"), True), ((b"transfer-encoding", b"chunked"), True), ((b"content-length", b"0"), False)],
)
def test_who_has_no_key_is_told_not_to_send_the_body(header: tuple[bytes, bytes], closes: bool) -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError

    guarded = ApiKeys(never, keys(api_keys=SecretStr(f"alice:{ALICE}")), root_path="")
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [header], "state": {"trace": Trace("1")}}
    with pytest.raises(Problem) as refused:
        asyncio.run(guarded(scope, never, never))
    assert refused.value.headers.get("Connection") == ("close" if closes else None)


def test_there_is_nothing_around_the_service_where_nothing_is_set() -> None:
    assert (keys(), pages().origins) == ({}, ())


def test_a_service_with_a_bad_key_does_not_start(digits_artifact: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app"],
        env=environment(digits_artifact, API_KEYS="alice:short"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: SIGHTGLASS_API_KEYS: entry 1 has a key of 5 characters; at least 16 are needed")
