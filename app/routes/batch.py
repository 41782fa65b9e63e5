"""POST /predict/batch."""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import Receive, Scope, Send

from app.artifact.decoder.decode import ImageError
from app.engines import EngineError
from app.errors import Problem, problem_of
from app.http import schemas
from app.http.answered import observe_file, whole
from app.http.asgi_route import PlainRoute
from app.http.body import coding_of, inflating, slices
from app.http.exchange import Counted, outcome_of
from app.http.middleware import trace_of
from app.http.multipart_stream import File, FilesForm
from app.http.openapi import BATCH, example, problems
from app.http.parameters import Timeout, TopK, labels_of, query_of
from app.http.schemas import BatchResponse
from app.inference.classifier import Classifier
from app.limits.deadline import Patience
from app.limits.turns import Turn
from app.telemetry.metrics import Metrics

_FIELD = "files"
_MOST_FILES = 1_000
_FIRST_BYTES = 4096
_MOST_LABELS = 100_000  # of all results together: 5 MB of JSON
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "JPEG, PNG, WebP, BMP, GIF or TIFF files, known by their bytes; at most 1,000.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [_FIELD],
                    "properties": {_FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}
_ANSWERS = {200: example(BATCH), **problems(400, 413, 415, 429, 500, 503, 504)}


def route(
    classifier: Classifier, metrics: Metrics, max_upload_bytes: int, deadline_ms: int, at_once: int
) -> PlainRoute:
    """The route, around what it serves; `at_once` files of a request are decoded or classified at a time."""
    labels = len(classifier.served.manifest.labels)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        top_k = labels_of(query_of(scope), labels)
        headers = dict(scope["headers"])
        patience = Patience.of(headers, deadline_ms)
        most = max(1, min(_MOST_FILES, _MOST_LABELS // top_k))
        form = FilesForm(headers.get(b"content-type", b""), _FIELD, max_upload_bytes, most)
        announced = headers.get(b"content-length", b"")
        if coding := coding_of(headers):
            receive, announced = inflating(receive, coding, max_upload_bytes), b""
        batch = _Batch(classifier, metrics, form, top_k, max_upload_bytes, at_once)
        async with batch:
            with patience:
                patience.watch(scope["state"].get("closed"), received=False)
                length = int(announced) if announced.isdigit() else None
                await batch.answer(receive, length, patience.end_for_others)
        trace_of(scope).facts.update(images=len(batch.results), errors=batch.errors, bytes_in=batch.received)
        for message in whole(schemas.batch_json(batch.results, classifier.served), b"application/json"):
            await send(message)

    def predict_batch(top_k: TopK = None, x_request_timeout_ms: Timeout = None) -> BatchResponse:
        """Classify many images: one result or one error a file, in the order of the form.

        A file is classified while the next ones are received. The deadline is that of the whole request.
        """
        raise NotImplementedError

    return PlainRoute(
        "/predict/batch", answer, predict_batch, methods=["POST"], responses=_ANSWERS, openapi_extra=_BODY
    )


class _Batch:
    """The files of one request, each in a task of its own from when it is complete.

    `received` is in bytes. Entered as a context that ends what is unfinished: nothing more of it is decoded or
    classified, and each file is counted as what the request became.
    """

    def __init__(
        self, classifier: Classifier, metrics: Metrics, form: FilesForm, top_k: int, max_upload_bytes: int, at_once: int
    ) -> None:
        self.results: list[bytes] = []
        self.errors = self.received = 0
        self._classifier = classifier
        self._metrics = metrics
        self._form = form
        self._top_k = top_k
        self._max_upload_bytes = max_upload_bytes
        self._free = asyncio.Semaphore(at_once)
        self._tasks: list[asyncio.Task[None]] = []
        self._counted = 0
        self._over: Problem | None = None

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._over = error if isinstance(error, Problem) else Problem("internal_error", "The batch was given up.")
        answered = sum(task.done() for task in self._tasks)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _ in range(self._form.begun - self._counted):
            self._metrics.count_outcome(outcome_of(self._over))
        if self._over.code == "deadline_exceeded":
            self._over.detail += f" {answered} files were answered by then; send fewer at once."

    async def answer(self, receive: Receive, announced: int | None, give_up: Callable[[], None]) -> None:
        """Until there is a result for each file of the form; `announced` is the size of the body, if it is known.

        Nothing but the first bytes is read while no file has room. `give_up` ends the request. Raises Problem for the
        whole form.
        """
        limit, admission = self._max_upload_bytes, self._classifier.admission
        await self._free.acquire()
        turn: Turn | None = None
        begun = False  # who has sent next to nothing has no turn that others could want
        try:
            async for piece in slices(receive):
                self._form.write(piece)
                self.received += len(piece)
                if not begun and (self._form.complete or self.received >= _FIRST_BYTES):
                    begun = True
                    turn = admission.first_turn(limit if announced is None else min(limit, announced), give_up)
                if turn is not None:
                    turn.moved()
                while self._form.complete:
                    assert turn is not None
                    self._begin(self._form.complete.popleft(), turn)
                    turn = None
                    if self._form.complete or not self._form.ended:
                        await self._free.acquire()
                        left = limit if announced is None else min(limit, max(0, announced - self.received))
                        turn = await admission.turns.next(left, give_up)
        finally:
            if turn is not None:
                turn.close()
        self._form.close()
        await asyncio.gather(*self._tasks)

    def _begin(self, file: File, turn: Turn) -> None:
        turn.keep(len(file.received))
        task = asyncio.create_task(self._result(len(self.results), file, turn))
        task.add_done_callback(lambda _: self._end(turn))  # of a task that is cancelled before it starts, too
        self.results.append(b"")
        self._tasks.append(task)

    def _end(self, turn: Turn) -> None:
        turn.close()
        self._free.release()

    async def _result(self, place: int, file: File, turn: Turn) -> None:
        self._counted += 1
        try:
            with Counted(self._metrics):
                self.results[place] = await self._predict(file)
            self._classifier.admission.observe_rate(turn.since)
        except (ImageError, EngineError, Problem) as error:
            self.results[place] = schemas.file_error_json(file.name, problem_of(error))
            self.errors += 1

    async def _predict(self, file: File) -> bytes:
        try:
            image = file.content(self._max_upload_bytes)
            prediction = await self._classifier.predict(image, self._top_k)
        except asyncio.CancelledError:
            if self._over is None:
                raise
            raise self._over from None
        observe_file(prediction, len(image), self._metrics)
        return schemas.file_json(file.name, prediction)
