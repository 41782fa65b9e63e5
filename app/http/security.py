"""Who may call the service from outside: keys, other sites' pages in browsers, and what browsers may do with answers.

All of it is off until it is set, and what is off costs a request nothing.
"""

import functools
import hashlib
import json
import multiprocessing
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import CLOSE, Problem
from app.settings import PREFIX, Settings, SettingsError

_ENTRY = re.compile(r"([\w.-]{1,64}):([!-+\--~]*)", re.ASCII)  # a key is printable, without spaces and commas
_LEAST_CHARACTERS = 16
HANDED_DOWN = "_SIGHTGLASS_KEYS"  # what workers have their keys from: the file may be another by the time of the last
_ORIGIN = re.compile(r"https?://(?:[\w.-]+|\[[0-9a-f:]+\])(?::\d{1,5})?", re.IGNORECASE)
# of apps and browser extensions, which have a scheme of their own: capacitor://localhost, chrome-extension://ID, app://.
_OWN_ORIGIN = re.compile(
    r"(?!(?:https?|wss?|ftps?|file|data|blob|about|javascript):)[a-zA-Z][a-zA-Z0-9+.-]*://[\w.-]+(?::\d{1,5})?"
)
# for probes, and for people who have yet to enter their key: no link of a browser can carry one
_OPEN = re.compile(r"/|/health|/health/.*|/page/.*|/docs|/docs/.*|/static-offline-docs/.*|/openapi\.json")
# what this service reads, and what common libraries for HTTP, uploads and tracing add by themselves
_SENT = (
    "Authorization, X-API-Key, X-Request-ID, X-Request-Timeout-Ms, Inference-Header-Content-Length, Content-Encoding, "
    "If-None-Match, If-Modified-Since, Range, Cache-Control, Pragma, Expires, DNT, Priority, User-Agent, "
    "X-Requested-With, X-CSRF-Token, X-XSRF-Token, X-File-Name, Content-Disposition, "
    "Traceparent, Tracestate, Baggage, Sentry-Trace, Request-Id, Request-Context, X-Correlation-ID, "
    "Correlation-Context, B3, X-B3-TraceId, X-B3-SpanId, X-B3-ParentSpanId, X-B3-Sampled, X-B3-Flags, Uber-Trace-Id, "
    "X-Amzn-Trace-Id, X-Cloud-Trace-Context, Elastic-Apm-Traceparent, Newrelic, "
    "X-Datadog-Trace-Id, X-Datadog-Parent-Id, X-Datadog-Origin, X-Datadog-Sampling-Priority, X-Datadog-Tags, "
    "Ngrok-Skip-Browser-Warning"
)
_TOKEN = re.compile(r"[\w!#$%&'*+.^`|~-]{1,100}", re.ASCII)  # RFC 9110, 5.6.2
_SHOWN = ["X-Request-ID", "Server-Timing", "Retry-After", "Inference-Header-Content-Length", "Allow", "Accept-Encoding"]
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


@dataclass(frozen=True)
class Exposure:
    """`keys`: name -> SHA-256 of the key; `origins` as browsers send them, or `*`; `headers` go with every answer;
    `sent`: which further headers other sites' pages may send, or `*`."""

    keys: Mapping[str, bytes]
    origins: tuple[str, ...]
    headers: tuple[tuple[bytes, bytes], ...]
    root_path: str
    sent: tuple[str, ...] = ()

    @classmethod
    def of(cls, chosen: Settings) -> "Exposure | None":
        """What is set, or None where nothing is. Raises SettingsError."""
        keys, origins = _handed_down() or _keys(chosen), _origins(chosen.cors_origins)
        sent = _names(chosen.cors_headers)
        if keys and "*" in origins:
            raise SettingsError(f"{PREFIX}CORS_ORIGINS=*: with keys, name the origins that may use them")
        headers = _SECURITY if chosen.security_headers == "on" else []
        if not (keys or origins or headers):
            return None
        return cls(keys, origins, tuple(headers), chosen.root_path, sent)

    def hand_down(self) -> None:
        """Let the workers that this process starts know the same keys, whenever they are started."""
        os.environ[HANDED_DOWN] = json.dumps({name: digest.hex() for name, digest in self.keys.items()})

    def around(self, app: ASGIApp, scope: Scope, send: Send) -> tuple[ASGIApp, Send]:
        """What answers this request in place of `app`, if it is not `app`, and how it sends whatever it answers."""
        headers = Headers(scope=scope)
        if self.headers:
            send = self._with_headers(send)
        if self.origins:
            send = functools.partial(self._cors.send, send=send, request_headers=headers)
            if scope["method"] == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers:
                return self._cors.preflight_response(headers), send
        if self.keys and not _OPEN.fullmatch(scope["path"].removeprefix(self.root_path)):
            name = self._name(headers)
            if not name:
                return _refuse(headers), send
            scope["state"]["trace"].facts["key"] = name
        return app, send

    @functools.cached_property
    def _cors(self) -> CORSMiddleware:
        return CORSMiddleware(
            _nothing,
            self.origins,
            ("GET", "HEAD", "POST", "OPTIONS"),
            allow_headers=(*_SENT.split(", "), *self.sent),
            expose_headers=_SHOWN,
        )

    def _name(self, headers: Headers) -> str:
        """Whose key came with the request; empty if nobody's. Every key is looked at, and in constant time."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        offered = headers.get("x-api-key") or (bearer.strip() if scheme.lower() == "bearer" else "")
        digest, found = hashlib.sha256(offered.encode("latin-1")).digest(), ""
        for name, known in self.keys.items():
            if secrets.compare_digest(digest, known):
                found = name
        return found

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self.headers]}
            await send(message)

        return send_with_headers


def described(exposure: Exposure | None, where: str) -> str:
    """What is open to whom, for the log; `where` the service listens."""
    keys = ", ".join(exposure.keys) if exposure else ""
    text = f"open to: {where} {f'with the key of {keys}' if keys else 'without a key'}"
    return text + (f"; pages of {', '.join(exposure.origins)}" if exposure and exposure.origins else "")


def _refuse(headers: Headers) -> ASGIApp:
    offered = "x-api-key" in headers or "authorization" in headers
    close = CLOSE if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers else {}

    async def refuse(_scope: Scope, _receive: Receive, _send: Send) -> None:
        detail = "This key is not known." if offered else "Send a key: `Authorization: Bearer KEY` or `X-API-Key: KEY`."
        challenge = 'Bearer realm="sightglass"' + (', error="invalid_token"' if offered else "")
        raise Problem("unauthorized", detail, {"WWW-Authenticate": challenge, **close})

    return refuse


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """What CORSMiddleware would be around."""


def _handed_down() -> dict[str, bytes]:
    """From the process that started this one as a worker."""
    handed = os.environ.get(HANDED_DOWN) if multiprocessing.parent_process() else None
    return {name: bytes.fromhex(digest) for name, digest in json.loads(handed or "{}").items()}


def _keys(chosen: Settings) -> dict[str, bytes]:
    """From the environment and from the file."""
    sources: list[tuple[str, list[str]]] = []
    if chosen.api_keys is not None:
        sources.append((f"{PREFIX}API_KEYS", chosen.api_keys.get_secret_value().split(",")))
    if chosen.api_keys_file is not None:
        sources.append((f"{PREFIX}API_KEYS_FILE={chosen.api_keys_file}", _lines(chosen.api_keys_file)))
    keys: dict[str, bytes] = {}
    for where, entries in sources:
        for number, entry in enumerate(entries, 1):
            _add(keys, entry.strip(), f"{where}: entry {number}")
        if not entries:
            raise SettingsError(f"{where}: there is no key in it")
    return keys


def _lines(path: Path) -> list[str]:
    """One entry a line; blank lines and those that start with # are none."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"{PREFIX}API_KEYS_FILE={path}: {why}") from error
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _add(keys: dict[str, bytes], entry: str, where: str) -> None:
    """The message never shows what may be part of a key."""
    match = _ENTRY.fullmatch(entry)
    if not match:
        raise SettingsError(f"{where} is not NAME:KEY, with letters, digits, `.`, `_`, `-` as NAME and no space in KEY")
    name, key = match[1], match[2]
    if len(key) < _LEAST_CHARACTERS:
        least = f"at least {_LEAST_CHARACTERS} are needed, such as `openssl rand -hex 32` gives"
        raise SettingsError(f"{where} has a key of {len(key)} characters; {least}")
    digest = hashlib.sha256(key.encode()).digest()
    if name in keys:
        raise SettingsError(f"{where}: there is another key of {name}")
    if digest in keys.values():
        raise SettingsError(f"{where}: the key of {name} is also another's")
    keys[name] = digest


def _origins(text: str) -> tuple[str, ...]:
    return tuple(_origin(each.strip()) for each in text.split(",")) if text else ()


def _origin(text: str) -> str:
    """As browsers send it: only the hosts of http and https are always in lower case."""
    if text == "*" or _ORIGIN.fullmatch(text):
        return text.lower()
    if not _OWN_ORIGIN.fullmatch(text):
        raise SettingsError(f"{PREFIX}CORS_ORIGINS: {text.lower()!r} is no origin: https://example.com, without a path")
    scheme, _, host = text.partition(":")
    return f"{scheme.lower()}:{host}"


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    for name in names:
        if not _TOKEN.fullmatch(name):
            raise SettingsError(f"{PREFIX}CORS_HEADERS: {name!r} is no name of a header: X-One, X-Two, or `*`")
    return names
