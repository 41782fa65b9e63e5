"""Who may call: names and their keys, from the environment, a file, or the process that started this worker."""

import hashlib
import json
import multiprocessing
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import CLOSE, Problem
from app.http.middleware.request_log import trace_of
from app.settings import PREFIX, Settings, SettingsError

_ENTRY = re.compile(r"([\w.-]{1,64}):([!-+\--~]*)", re.ASCII)  # a key is printable, without spaces and commas
_LEAST_CHARACTERS = 16
HANDED_DOWN = "_SIGHTGLASS_KEYS"  # what workers have their keys from: the file may be another by the time of the last
# for probes, and for people who have yet to enter their key: no link of a browser can carry one
_OPEN = re.compile(r"/|/health|/health/.*|/page/.*|/docs|/docs/.*|/static-offline-docs/.*|/openapi\.json")


class ApiKeys:
    """ASGI middleware: what is not open to all is for those with a key."""

    def __init__(self, app: ASGIApp, keys: Mapping[str, bytes], root_path: str) -> None:
        """`keys`: name -> SHA-256 of the key."""
        self._app = app
        self._keys = keys
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with the name of the key for the log. Raises Problem: unauthorized."""
        if not _OPEN.fullmatch(scope["path"].removeprefix(self._root_path)):
            trace_of(scope).facts["key"] = self._name(Headers(scope=scope))
        await self._app(scope, receive, send)

    def _name(self, headers: Headers) -> str:
        """Whose key came with the request. Every key is looked at, and in constant time."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        offered = headers.get("x-api-key") or (bearer.strip() if scheme.lower() == "bearer" else "")
        digest, found = hashlib.sha256(offered.encode("latin-1")).digest(), ""
        for name, known in self._keys.items():
            if secrets.compare_digest(digest, known):
                found = name
        if found:
            return found
        detail, challenge = "Send a key: `Authorization: Bearer KEY` or `X-API-Key: KEY`.", 'Bearer realm="sightglass"'
        if "x-api-key" in headers or "authorization" in headers:
            detail, challenge = "This key is not known.", challenge + ', error="invalid_token"'
        body_comes = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        raise Problem("unauthorized", detail, {"WWW-Authenticate": challenge, **(CLOSE if body_comes else {})})


def keys_of(chosen: Settings) -> dict[str, bytes]:
    """Name -> SHA-256 of the key; none where no key is set. Raises SettingsError, which shows no part of a key."""
    if multiprocessing.parent_process() and (handed := json.loads(os.environ.get(HANDED_DOWN) or "{}")):
        return {name: bytes.fromhex(digest) for name, digest in handed.items()}
    sources: list[tuple[str, list[str]]] = []
    if chosen.api_keys is not None:
        sources.append((f"{PREFIX}API_KEYS", chosen.api_keys.get_secret_value().split(",")))
    if chosen.api_keys_file is not None:
        sources.append((f"{PREFIX}API_KEYS_FILE={chosen.api_keys_file}", _lines(chosen.api_keys_file)))
    keys: dict[str, bytes] = {}
    for where, entries in sources:
        for number, entry in enumerate(entries, 1):
            name, digest = _entry(entry.strip(), f"{where}: entry {number}")
            if name in keys:
                raise SettingsError(f"{where}: entry {number}: there is another key of {name}")
            if digest in keys.values():
                raise SettingsError(f"{where}: entry {number}: the key of {name} is also another's")
            keys[name] = digest
        if not entries:
            raise SettingsError(f"{where}: there is no key in it")
    return keys


def hand_down(keys: Mapping[str, bytes]) -> None:
    """Let the workers that this process starts know the same keys, whenever they are started."""
    os.environ[HANDED_DOWN] = json.dumps({name: digest.hex() for name, digest in keys.items()})


def _lines(path: Path) -> list[str]:
    """One entry a line; blank lines and those that start with # are none."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"{PREFIX}API_KEYS_FILE={path}: {why}") from error
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _entry(entry: str, where: str) -> tuple[str, bytes]:
    match = _ENTRY.fullmatch(entry)
    if not match:
        raise SettingsError(f"{where} is not NAME:KEY, with letters, digits, `.`, `_`, `-` as NAME and no space in KEY")
    name, key = match[1], match[2]
    if len(key) < _LEAST_CHARACTERS:
        least = f"at least {_LEAST_CHARACTERS} are needed, such as `openssl rand -hex 32` gives"
        raise SettingsError(f"{where} has a key of {len(key)} characters; {least}")
    return name, hashlib.sha256(key.encode()).digest()
