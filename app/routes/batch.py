"""POST /predict/batch."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.types import Receive

from app.artifact.decoder.decode import ImageError
from app.engines import EngineError
from app.errors import Problem, problem_of
from app.http import schemas
from app.http.body import slices
from app.http.exchange import Exchange, Terms, observe, outcome_of, stages_of
from app.http.multipart_stream import File, FilesForm
from app.http.openapi import BATCH, example, problems
from app.http.parameters import Timeout, TopK, labels_of
from app.http.schemas import BatchResponse
from app.inference.classifier import Classifier
from app.limits.turns import Turn

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


def router(classifier: Classifier, terms: Terms, at_once: int) -> APIRouter:
    """The route, around what it serves; `at_once` files of a request are decoded or classified at a time."""
    routes = APIRouter()
    served = classifier.served

    @routes.post("/predict/batch", response_model=BatchResponse, responses=_ANSWERS, openapi_extra=_BODY)
    async def predict_batch(request: Request, top_k: TopK = None, timeout_ms: Timeout = None) -> Response:
        """Classify many images: one result or one error a file, in the order of the form.

        A file is classified while the next ones are received. The deadline is that of the whole request.
        """
        count = labels_of(top_k, len(served.manifest.labels))
        exchange = Exchange(terms, request, timeout_ms)
        most = max(1, min(_MOST_FILES, _MOST_LABELS // count))
        form = FilesForm(exchange.headers.get(b"content-type", b""), _FIELD, terms.max_upload_bytes, most)
        receive, size = exchange.stream()
        batch = _Batch(exchange, classifier, form, count, at_once)
        try:
            with exchange:
                exchange.watch(received=False)
                await batch.answer(receive, size)
        except Problem as problem:
            if problem.code == "deadline_exceeded":
                answered = sum(map(bool, batch.results))
                problem.detail += f" {answered} files were answered by then; send fewer at once."
            raise
        exchange.trace.facts.update(images=len(batch.results), errors=batch.errors, bytes_in=exchange.bytes_in)
        return Response(schemas.batch_json(batch.results, served), media_type="application/json")

    return routes


class _Batch:
    """The files of one request, each in a task of its own from when it is complete.

    `results` are JSON, empty of a file that has none yet; `errors` of them are problems.
    """

    def __init__(self, exchange: Exchange, classifier: Classifier, form: FilesForm, top_k: int, at_once: int) -> None:
        self.results: list[bytes] = []
        self.errors = 0
        self._exchange = exchange
        self._classifier = classifier
        self._form = form
        self._top_k = top_k
        self._free = asyncio.Semaphore(at_once)
        self._tasks: list[asyncio.Task[None]] = []
        self._counted = 0

    async def answer(self, receive: Receive, size: int | None) -> None:
        """Until there is a result for each file of the form; `size` is that of the body in bytes, if it is known.

        Nothing but the first bytes is read while no file has room. Raises Problem for the whole form: nothing more of
        it is decoded or classified then, and what has no result is counted as what the request became.
        """
        limit, admission = self._exchange.terms.max_upload_bytes, self._exchange.terms.admission
        give_up = self._exchange.deadline.end_for_others
        await self._free.acquire()
        turn: Turn | None = None
        begun = False  # who has sent next to nothing has no turn that others could want
        try:
            async for piece in slices(receive):
                self._form.write(piece)
                self._exchange.bytes_in += len(piece)
                if not begun and (self._form.complete or self._exchange.bytes_in >= _FIRST_BYTES):
                    begun = True
                    turn = admission.first_turn(limit if size is None else min(limit, size), give_up)
                if turn is not None:
                    turn.moved()
                while self._form.complete:
                    assert turn is not None
                    self._begin(self._form.complete.popleft(), turn)
                    turn = None
                    if self._form.complete or not self._form.ended:
                        await self._free.acquire()
                        left = limit if size is None else min(limit, max(0, size - self._exchange.bytes_in))
                        turn = await admission.turns.next(left, give_up)
            self._form.close()
            await asyncio.gather(*self._tasks)
        finally:
            if turn is not None:
                turn.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._exchange.images = self._form.begun - self._counted

    def _begin(self, file: File, turn: Turn) -> None:
        def end(_: asyncio.Task[None]) -> None:
            turn.close()
            self._free.release()

        turn.keep(len(file.received))
        task = asyncio.create_task(self._predict(len(self.results), file, turn))
        task.add_done_callback(end)  # of a task that is cancelled before it starts, too
        self.results.append(b"")
        self._tasks.append(task)

    async def _predict(self, place: int, file: File, turn: Turn) -> None:
        terms, outcome = self._exchange.terms, "predicted"
        terms.metrics.queued += 1
        try:
            image = file.content(terms.max_upload_bytes)
            prediction = await self._classifier.predict(image, self._top_k)
        except (ImageError, EngineError, Problem) as error:
            outcome = outcome_of(error)
            self.results[place] = schemas.file_error_json(file.name, problem_of(error))
            self.errors += 1
        else:
            self.results[place] = schemas.file_json(file.name, prediction)
            terms.metrics.observe_stages(stages_of(prediction))
            observe(prediction, len(image), terms.metrics)
            terms.admission.observe_rate(turn.since)
        finally:
            terms.metrics.queued -= 1
        terms.metrics.count_outcome(outcome)
        self._counted += 1
