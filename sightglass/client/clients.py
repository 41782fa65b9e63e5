"""Client and AsyncClient: what differs between them is how they wait."""

import asyncio
import concurrent.futures
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Literal, Self, TypeVar

import httpx2

from sightglass.client.errors import ClientError
from sightglass.client.responses import Explanation, Health, Model, Prediction
from sightglass.client.retry import Call, Service
from sightglass.client.uploads import Image, Line, read

T = TypeVar("T")
TopK = int | Literal["all"]
DEFAULT_URL = "http://localhost:8000"
_NO_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=None)  # the caller's concurrency is one


class _Calls:
    """What both clients ask, as calls that somebody has yet to make."""

    def __init__(self, url: str, api_key: str | None, timeout: float) -> None:
        self._service = Service(url, api_key)
        self._timeout = timeout

    def _predict(self, image: bytes, top_k: TopK | None, timeout: float | None) -> Call[Prediction]:
        query, seconds = {"top_k": top_k}, self._timeout if timeout is None else timeout
        return Call(self._service, "/predict", Prediction.of, seconds, image=image, query=query)

    def _explain(self, image: bytes, label: str | None, timeout: float | None) -> Call[Explanation]:
        query, seconds = {"class": label}, self._timeout if timeout is None else timeout
        return Call(self._service, "/explain", Explanation.of, seconds, image=image, query=query)

    def _health(self, timeout: float) -> Call[Health]:
        return Call(self._service, "/health", Health.of, timeout, accepted=(200, 503))

    def _model(self, timeout: float) -> Call[Model]:
        return Call(self._service, "/model", Model.of, timeout)


class Client(_Calls):
    """Keeps its connections; may be shared by threads. To be closed, or used as a context manager."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`timeout`: seconds for each image, with all its attempts and the waits between them. `ssl_context`: for an
        authority that the system does not know. Raises ValueError for what is no address or no key.
        """
        super().__init__(url, api_key, timeout)
        self._http = httpx2.Client(verify=ssl_context or True, limits=_NO_LIMITS)

    def predict(self, image: Image, *, top_k: TopK | None = None, timeout: float | None = None) -> Prediction:
        """Classify one encoded image: bytes, a path, or a file open for reading bytes. Raises ClientError."""
        return self._make(self._predict(read(image), top_k, timeout))

    def explain(self, image: Image, *, label: str | None = None, timeout: float | None = None) -> Explanation:
        """What speaks for `label` in the image; default: for the predicted one. Raises ClientError."""
        return self._make(self._explain(read(image), label, timeout))

    def predict_many(
        self,
        images: Iterable[Image],
        *,
        top_k: TopK | None = None,
        concurrency: int = 8,
        timeout: float | None = None,
    ) -> Iterator[Prediction | ClientError]:
        """For each image, in order, its prediction or its error; at most `concurrency` are held in memory at once.

        Who stops early does not wait for those on their way: they end in their threads, at the latest with `timeout`;
        only the end of the program waits for that.
        """
        stopped = threading.Event()

        def pause(seconds: float) -> None:
            if stopped.wait(seconds):
                raise concurrent.futures.CancelledError

        def one(image: Image) -> Prediction | ClientError:
            try:
                return self._make(self._predict(read(image), top_k, timeout), pause)
            except ClientError as error:
                return error

        line: Line[concurrent.futures.Future[Prediction | ClientError]] = Line(concurrency)
        pool = concurrent.futures.ThreadPoolExecutor(concurrency, thread_name_prefix="predict")
        try:
            for image in images:
                line.pending.append(pool.submit(one, image))
                yield from (future.result() for future in line.leave())
                while line.full():
                    concurrent.futures.wait(line.running(), return_when=concurrent.futures.FIRST_COMPLETED)
                    yield from (future.result() for future in line.leave())
            while line.pending:
                yield line.pending.popleft().result()
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def health(self, *, timeout: float = 5.0) -> Health:
        """How the service is; one that is not ready is an answer and no error. Raises ClientError."""
        return self._make(self._health(timeout))

    def model(self, *, timeout: float = 5.0) -> Model:
        """What is served. Raises ClientError."""
        return self._make(self._model(timeout))

    def _make(self, call: Call[T], pause: Callable[[float], None] = time.sleep) -> T:
        while (wait := self._attempt(call)) is not None:
            pause(wait)
        return call.result

    def _attempt(self, call: Call[T]) -> float | None:
        body = bytearray()
        try:
            with self._http.stream(**call.attempt()) as response:
                for piece in response.iter_bytes():
                    call.receive(body, piece)
            # closed while this connection was being made: the pool has forgotten it
            if self._http.is_closed:
                response.extensions["network_stream"].close()
        except httpx2.RequestError as error:
            return call.settle(error)
        return call.settle(response, body)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Calls):
    """Client for asyncio: for one event loop, to be closed with `aclose` or used as an async context manager."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """See Client."""
        super().__init__(url, api_key, timeout)
        self._http = httpx2.AsyncClient(verify=ssl_context or True, limits=_NO_LIMITS)

    async def predict(self, image: Image, *, top_k: TopK | None = None, timeout: float | None = None) -> Prediction:
        """See Client.predict."""
        return await self._make(self._predict(await asyncio.to_thread(read, image), top_k, timeout))

    async def explain(self, image: Image, *, label: str | None = None, timeout: float | None = None) -> Explanation:
        """See Client.explain."""
        return await self._make(self._explain(await asyncio.to_thread(read, image), label, timeout))

    async def predict_many(
        self,
        images: Iterable[Image],
        *,
        top_k: TopK | None = None,
        concurrency: int = 8,
        timeout: float | None = None,
    ) -> AsyncIterator[Prediction | ClientError]:
        """See Client.predict_many. Nothing moves on while `images` makes the loop wait for the next one.

        Who stops early cancels those on their way.
        """

        async def one(image: Image) -> Prediction | ClientError:
            try:
                return await self.predict(image, top_k=top_k, timeout=timeout)
            except ClientError as error:
                return error

        line: Line[asyncio.Task[Prediction | ClientError]] = Line(concurrency)
        try:
            for image in images:
                line.pending.append(asyncio.create_task(one(image)))
                while line.full():
                    await asyncio.wait(line.running(), return_when=asyncio.FIRST_COMPLETED)
                    for task in line.leave():
                        yield task.result()
            while line.pending:
                yield await line.pending.popleft()
        finally:
            for task in line.pending:
                task.cancel()
            await asyncio.gather(*line.pending, return_exceptions=True)

    async def health(self, *, timeout: float = 5.0) -> Health:
        """See Client.health."""
        return await self._make(self._health(timeout))

    async def model(self, *, timeout: float = 5.0) -> Model:
        """See Client.model."""
        return await self._make(self._model(timeout))

    async def _make(self, call: Call[T]) -> T:
        while (wait := await self._attempt(call)) is not None:
            await asyncio.sleep(wait)
        return call.result

    async def _attempt(self, call: Call[T]) -> float | None:
        body = bytearray()
        try:
            async with self._http.stream(**call.attempt()) as response:
                async for piece in response.aiter_bytes():
                    call.receive(body, piece)
        except httpx2.RequestError as error:
            return call.settle(error)
        return call.settle(response, body)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
