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
from contextlib import suppress
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

    @classmethod
    def of(cls, response: httpx2.Response, body: bytes | bytearray) -> "Answer":
        """From what httpx2 has received."""
        kind, document = response.headers.get("Content-Type", "").partition(";")[0].strip().lower(), None
        if kind in ("application/json", "application/problem+json"):
            with suppress(ValueError, RecursionError):  # cut off, or no JSON after all
                document = json.loads(body)
        return cls(response.status_code, response.headers, document)

    @property
    def retry_after(self) -> float:
        """Seconds from now, of either form of RFC 9110, 10.2.3; 0 where there is none."""
        value = self.headers.get("Retry-After", "").strip()
        if re.fullmatch("[0-9]{1,9}", value):
            return float(value)
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, OverflowError):
            return 0.0

    def __str__(self) -> str:
        phrases = {each.value: each.phrase for each in HTTPStatus}
        status = f"{self.status} {phrases.get(self.status, '')}".rstrip()
        if 300 <= self.status < 400:
            return f"{status} to {self.headers.get('Location', 'nowhere')}, which is not followed"
        return f"{status} with {self.headers.get('Content-Type') or 'nothing'}"


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
            self.result = self._result(Answer.of(outcome, body))
        except ClientError as error:
            if error.retry_after:  # and up to as much again, because the service asked all others for the same
                wait = random.uniform(error.retry_after, 2 * error.retry_after)  # noqa: S311  # no secret
            else:
                most = _FIRST_WAIT_SECONDS * 2.0 ** min(self._attempts - 1, 10)
                wait = random.uniform(0, min(_LONGEST_WAIT_SECONDS, most))  # noqa: S311
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
                raise self._unexpected(str(answer), answer) from None
        if isinstance(document, dict) and {"code", "detail"} <= document.keys():
            raise ServiceError(
                str(document["detail"]),
                str(document["code"]),
                status=answer.status,
                request_id=str(document.get("request_id", request_id)),
                temporary=answer.status in _TEMPORARY,
                retry_after=answer.retry_after,
            )
        raise self._unexpected(str(answer), answer)

    def _unexpected(self, what: str, answer: Answer | None = None) -> UnexpectedAnswer:
        status = answer.status if answer else 0
        return UnexpectedAnswer(
            f"{self.method} {self.url}: {what}; that is no answer of Sightglass.",
            "unexpected_answer",
            status=status,
            request_id=self._request_id,
            temporary=status in _TEMPORARY,
            retry_after=answer.retry_after if answer else 0.0,
        )

    def _no_answer(self, error: httpx2.RequestError) -> Unreachable:
        if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
            detail = f"{self.method} {self.url}: no answer within {self._seconds:g} s."
            return Unreachable(detail, "timeout", request_id=self._request_id)
        causes = list(_causes(error))
        # the system's words, which asyncio replaces by its own: `Connection refused`
        refusals = [each.errno for each in causes if isinstance(each, ConnectionError) and each.errno]
        why = "".join(map(os.strerror, refusals)) or str(error) or type(error).__name__
        # the same in a second: TLS that does not fit, but not a server that goes away meanwhile
        gone, lasting = ssl.SSLEOFError | ssl.SSLZeroReturnError, httpx2.LocalProtocolError | ssl.SSLError
        return Unreachable(
            f"{self.method} {self.url}: {why}.",
            "unreachable",
            request_id=self._request_id,
            temporary=not any(isinstance(each, lasting) and not isinstance(each, gone) for each in causes),
        )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it came of, and so on; of several addresses that were tried the last."""
    while error is not None:
        yield error
        inner = error.exceptions[-1] if isinstance(error, BaseExceptionGroup) else error.__cause__
        error = inner or error.__context__
