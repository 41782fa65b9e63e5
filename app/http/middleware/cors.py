"""Which other sites' pages may call, and what they may send and read (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

import re
from typing import NamedTuple

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from app.settings import PREFIX, Settings, SettingsError

_ORIGIN = re.compile(r"https?://(?:[\w.-]+|\[[0-9a-f:]+\])(?::\d{1,5})?", re.IGNORECASE)
# of apps and browser extensions, which have a scheme of their own: capacitor://localhost, chrome-extension://ID, app://.
_OWN_ORIGIN = re.compile(
    r"(?!(?:https?|wss?|ftps?|file|data|blob|about|javascript):)[a-zA-Z][a-zA-Z0-9+.-]*://[\w.-]+(?::\d{1,5})?"
)
_TOKEN = re.compile(r"[\w!#$%&'*+.^`|~-]{1,100}", re.ASCII)  # RFC 9110, 5.6.2
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
_SHOWN = ["X-Request-ID", "Server-Timing", "Retry-After", "Inference-Header-Content-Length", "Allow", "Accept-Encoding"]


class Pages(NamedTuple):
    """`origins` as browsers send them, or `*`; `headers`: what their pages may send besides the usual, or `*`."""

    origins: tuple[str, ...]
    headers: tuple[str, ...]

    @classmethod
    def of(cls, chosen: Settings, have_keys: bool) -> "Pages":
        """What is set; no origins where nothing is. Raises SettingsError."""
        origins = tuple(_origin(each.strip()) for each in chosen.cors_origins.split(",")) if chosen.cors_origins else ()
        headers = tuple(each.strip() for each in chosen.cors_headers.split(",")) if chosen.cors_headers else ()
        for name in headers:
            if not _TOKEN.fullmatch(name):
                raise SettingsError(f"{PREFIX}CORS_HEADERS: {name!r} is no name of a header: X-One, X-Two, or `*`")
        if have_keys and "*" in origins:
            raise SettingsError(f"{PREFIX}CORS_ORIGINS=*: with keys, name the origins that may use them")
        return cls(origins, headers)


def cors(app: ASGIApp, pages: Pages) -> CORSMiddleware:
    """Starlette's middleware, for this service's methods and headers."""
    return CORSMiddleware(
        app,
        pages.origins,
        ("GET", "HEAD", "POST", "OPTIONS"),
        allow_headers=(*_SENT.split(", "), *pages.headers),
        expose_headers=_SHOWN,
    )


def _origin(text: str) -> str:
    """As browsers send it: only the hosts of http and https are always in lower case."""
    if text == "*" or _ORIGIN.fullmatch(text):
        return text.lower()
    if not _OWN_ORIGIN.fullmatch(text):
        raise SettingsError(f"{PREFIX}CORS_ORIGINS: {text.lower()!r} is no origin: https://example.com, without a path")
    scheme, _, host = text.partition(":")
    return f"{scheme.lower()}:{host}"
