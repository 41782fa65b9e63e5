"""One call, without its input and output: the request, what an answer means, and how long to wait for the next try."""

import json
import math
import os
import random
import re
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import httpx2

from sightglass.client.errors import ClientError, ServiceError, UnexpectedAnswer, Unreachable

T = TypeVar("T")

MAX_ANSWER_BYTES = 16_000_000
_CONNECT_SECONDS = 5.0
_LONGEST_SECONDS = 2e6  # 23 days: sockets count no further
# Exponential backoff with full jitter (Brooker 2015, AWS Architecture Blog): waits in unison would meet again.
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 8.0
# The service's own, and what proxies say while none of their servers answers.
_TEMPORARY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE}
_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Answer:
    """A whole one, with the JSON that is in it or None."""

    status: int
    headers: Mapping[str, str]
    document: Any


class Service:
    """Where it is and who asks."""

    def __init__(self, url: str, api_key: str | None) -> None:
        """Raises ValueError for what is no address or no key."""
        shown = url.rpartition("@")[2]
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise ValueError(f"{shown} is no address: {error}") from None
        if parsed.userinfo:  # it would replace the key, and be seen in every message
            raise ValueError(f"no user and password in the address of {shown}: the service knows API keys only")
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
            raise ValueError(f"{shown} is no address of a service; it looks like http://localhost:8000")
        if api_key is not None and not _KEY.fullmatch(api_key):
            raise ValueError("an API key has ASCII letters, digits and signs only, and no spaces")
        self.url = url.rstrip("/")
        self.headers = {"Accept": "application/json", "User-Agent": "sightglass-client"}
        if api_key is not None:
            self.headers["Authorization"] = f"Bearer {api_key}"


class Call(Generic[T]):
    """`result` is there once `settle` says None."""

    result: T

    def __init__(
        self,
        service: Service,
        path: str,
        read: Callable[[Any, str], T],
        seconds: float,
        *,
        image: bytes | None = None,
        query: Mapping[str, Any] | None = None,
        accepted: tuple[int, ...] = (200,),
    ) -> None:
        """`seconds`: for everything, from now on. `read`: the result of an accepted answer's JSON and request id."""
        if not 0 < seconds < math.inf:
            raise ValueError(f"timeout={seconds}: seconds, above 0")
        self.method = "GET" if image is None else "POST"
        self.url = httpx2.URL(service.url + path, params={k: v for k, v in (query or {}).items() if v is not None})
        self.image = image
        self._read, self._accepted, self._seconds = read, accepted, seconds
        self._deadline = time.monotonic() + min(seconds, _LONGEST_SECONDS)
        self._attempts = 0
        self._request_id = uuid.uuid4().hex  # the same for each attempt: one name in every log
        self._headers = {**service.headers, "X-Request-ID": self._request_id}
        if image is not None:
            self._headers["Content-Type"] = "application/octet-stream"

    def attempt(self) -> dict[str, Any]:
        """The arguments of httpx2's `stream` for another attempt, in the time that is left."""
        left = max(0.001, self._deadline - time.monotonic())
        headers = self._headers
        if self.image is not None:  # the service drops what nobody waits for any more
            headers = {**headers, "X-Request-Timeout-Ms": str(math.ceil(left * 1000))}
        timeout = httpx2.Timeout(left, connect=min(left, _CONNECT_SECONDS), pool=None)
        return {
            "method": self.method,
            "url": self.url,
            "headers": headers,
            "content": self.image,
            "timeout": timeout,
        }

    def receive(self, body: bytearray, piece: bytes) -> None:
        """Put a piece of the answer to the others; httpx2's time limit is for each of them alone.

        Raises httpx2.ReadTimeout or UnexpectedAnswer.
        """
        body += piece
        if time.monotonic() > self._deadline:
            raise httpx2.ReadTimeout("the answer came too slowly")
        if len(body) > MAX_ANSWER_BYTES:
            raise self._unexpected(f"an answer of more than {MAX_ANSWER_BYTES / 1e6:g} MB")

    def settle(self, outcome: httpx2.Response | httpx2.RequestError, body: bytes | bytearray = b"") -> float | None:
        """How many seconds to wait before the next attempt, or None when this one was the last.

        Raises ClientError where another would not help or the time does not allow it.
        """
        self._attempts += 1
        try:
            if isinstance(outcome, httpx2.RequestError):
                raise self._no_answer(outcome)
            self.result = self._result(Answer(outcome.status_code, outcome.headers, _json(outcome, body)))
        except ClientError as error:
            wait = _wait(error.retry_after, self._attempts)
            if not error.temporary or time.monotonic() + wait >= self._deadline:
                raise
            return wait
        return None

    def _result(self, answer: Answer) -> T:
        request_id = answer.headers.get("X-Request-ID", self._request_id)
        document = answer.document
        if answer.status in self._accepted:
            try:
                return self._read(document, request_id)
            except (KeyError, TypeError, ValueError, AttributeError):
                raise self._unexpected(_described(answer), answer) from None
        if isinstance(document, dict) and {"code", "detail"} <= document.keys():
            raise ServiceError(
                str(document["detail"]),
                str(document["code"]),
                status=answer.status,
                request_id=str(document.get("request_id", request_id)),
                temporary=answer.status in _TEMPORARY,
                retry_after=_retry_after(answer.headers),
            )
        raise self._unexpected(_described(answer), answer)

    def _unexpected(self, what: str, answer: Answer | None = None) -> UnexpectedAnswer:
        status = answer.status if answer else 0
        return UnexpectedAnswer(
            f"{self.method} {self.url}: {what}; that is no answer of Sightglass.",
            "unexpected_answer",
            status=status,
            request_id=self._request_id,
            temporary=status in _TEMPORARY,
            retry_after=_retry_after(answer.headers) if answer else 0.0,
        )

    def _no_answer(self, error: httpx2.RequestError) -> Unreachable:
        if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
            detail = f"{self.method} {self.url}: no answer within {self._seconds:g} s."
            return Unreachable(detail, "timeout", request_id=self._request_id)
        why = "".join(map(_told, _causes(error))) or str(error)
        return Unreachable(
            f"{self.method} {self.url}: {why or type(error).__name__}.",
            "unreachable",
            request_id=self._request_id,
            temporary=not any(map(_is_lasting, _causes(error))),
        )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it came of, and so on; of several addresses that were tried the last."""
    while error is not None:
        yield error
        inner = error.exceptions[-1] if isinstance(error, BaseExceptionGroup) else error.__cause__
        error = inner or error.__context__


def _told(error: BaseException) -> str:
    """The system's words, which asyncio replaces by its own: `Connection refused`."""
    return os.strerror(error.errno) if isinstance(error, ConnectionError) and error.errno else ""


def _is_lasting(error: BaseException) -> bool:
    """Whether it will be the same in a second: TLS that does not fit, but not a server that goes away meanwhile."""
    gone = ssl.SSLEOFError | ssl.SSLZeroReturnError
    return isinstance(error, httpx2.LocalProtocolError | ssl.SSLError) and not isinstance(error, gone)


def _json(response: httpx2.Response, body: bytes | bytearray) -> Any:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/problem+json"):
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # cut off, or no JSON after all
        return None


def _described(answer: Answer) -> str:
    try:
        status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
    except ValueError:
        status = str(answer.status)
    if 300 <= answer.status < 400:
        return f"{status} to {answer.headers.get('Location', 'nowhere')}, which is not followed"
    return f"{status} with {answer.headers.get('Content-Type') or 'nothing'}"


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds from now, of either form of RFC 9110, 10.2.3; 0 where there is none."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _wait(retry_after: float, attempt: int) -> float:
    """What the service asked for, and up to as much again, because it asked all others for the same; else backoff."""
    if retry_after:
        return random.uniform(retry_after, 2 * retry_after)  # noqa: S311  # no secret
    return random.uniform(0, min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(attempt - 1, 10)))  # noqa: S311
