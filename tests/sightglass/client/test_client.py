"""The client against the real service: what it gives for images of every form, for errors and for addresses."""

import dataclasses
import io
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import TypeAdapter

from app.http import schemas
from app.settings import DEFAULT_MODEL
from sightglass.client import Client, ClientError, Health, Prediction, ServiceError, Unreachable, UnreadableFile
from sightglass.client import responses as client_answers
from tests.images import drawing, encode
from tests.serving import Server, serving
from tests.sightglass.client.clients import Ask, ask_async, ask_sync

CAT = Path(__file__).parents[3] / "cat.jpg"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(DEFAULT_MODEL, tmp_path_factory.mktemp("server"), MAX_UPLOAD_BYTES=2_000_000) as running:
        yield running


@pytest.fixture(params=[ask_sync, ask_async], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    given: Ask = request.param
    return given


def test_an_image_may_be_bytes_a_path_or_an_open_file(server: Server, ask: Ask) -> None:
    plain = httpx2.post(f"{server.url}/predict", content=CAT.read_bytes()).json()
    for given in (CAT, str(CAT), CAT.read_bytes(), memoryview(CAT.read_bytes()), io.BytesIO(CAT.read_bytes())):
        answer: Prediction = ask(server.url, "predict", given)
        assert [(each.label, each.probability) for each in answer.top_k] == [
            (each["class"], each["probability"]) for each in plain["top_k"]
        ]
        assert (answer.prediction, answer.confidence) == ("cat", plain["confidence"])
        assert dataclasses.asdict(answer.model) == plain["model"]


def test_top_k_is_a_number_or_all(server: Server, ask: Ask) -> None:
    assert [len(ask(server.url, "predict", CAT, top_k=top_k).top_k) for top_k in (1, 3, "all")] == [1, 3, 10]


def test_health_and_model_are_values(server: Server, ask: Ask) -> None:
    health: Health = ask(server.url, "health")
    assert (health.status, health.detail, health.model.name) == ("ok", None, "cifar10")
    model = ask(server.url, "model")
    assert (model.name, model.version, len(model.labels)) == ("cifar10", 1, 10)
    assert model.manifest == httpx2.get(f"{server.url}/model").json()


def test_the_log_of_the_service_has_the_request_id_that_the_client_gives(server: Server, ask: Ask) -> None:
    answer: Prediction = ask(server.url, "predict", CAT)
    until = time.monotonic() + 10
    while not any(f"id={answer.request_id}" in line for line in server.lines()):  # it is written after the answer
        assert time.monotonic() < until


@pytest.mark.parametrize(
    ("content", "options", "status", "code"),
    [
        (b"no image", {}, 415, "unsupported_image"),
        (b"", {}, 400, "empty_body"),
        (CAT.read_bytes(), {"top_k": 11}, 400, "bad_parameter"),
        (CAT.read_bytes()[:2000], {}, 422, "undecodable_image"),
        (bytes(2_000_001), {}, 413, "upload_too_large"),
    ],
)
def test_what_the_service_says_is_raised(
    server: Server, ask: Ask, content: bytes, options: dict[str, int], status: int, code: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        ask(server.url, "predict", content, timeout=20, **options)
    error = caught.value
    assert (error.status, error.code, error.temporary) == (status, code, False)
    assert error.detail == str(error)
    assert error.detail.endswith(".")
    assert re.fullmatch("[0-9a-f]{32}", error.request_id)


@pytest.mark.parametrize("size", [9_000_000, 40_000_000])
def test_an_image_that_is_far_too_large_is_answered_and_not_cut_off(server: Server, ask: Ask, size: int) -> None:
    with pytest.raises(ServiceError) as caught:
        ask(server.url, "predict", bytes(size), timeout=5)
    assert caught.value.code == "upload_too_large"


def test_a_missing_file_is_of_the_same_family(server: Server, ask: Ask) -> None:
    with pytest.raises(UnreadableFile, match=r"^nowhere\.jpg: No such file or directory\.$"):
        ask(server.url, "predict", "nowhere.jpg")


def test_a_file_open_for_text_is_a_bug_of_the_caller(server: Server, ask: Ask) -> None:
    with pytest.raises(TypeError, match="rb"):
        ask(server.url, "predict", io.StringIO("text"))


def test_many_files_keep_their_order_and_each_has_a_result_or_an_error(
    server: Server, ask: Ask, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_text("no image")
    files = [CAT if number % 4 else tmp_path / "broken.jpg" for number in range(40)]
    files[7] = tmp_path / "missing.jpg"
    answers = ask(server.url, "predict_many", iter(files), concurrency=5, top_k=1)
    assert len(answers) == 40
    for number, answer in enumerate(answers):
        if number == 7:
            assert isinstance(answer, UnreadableFile)
        elif number % 4:
            assert isinstance(answer, Prediction)
        else:
            assert isinstance(answer, ServiceError)


class Counted(io.BytesIO):
    """An image that says how many like it have been read and not yet been let go."""

    held = most = 0

    def read(self, *_: object) -> bytes:
        Counted.held += 1
        Counted.most = max(Counted.most, Counted.held)
        return super().read()

    def __del__(self) -> None:
        Counted.held -= 1


def test_no_more_images_are_held_than_are_on_their_way(server: Server, ask: Ask) -> None:
    content = CAT.read_bytes()
    Counted.held = Counted.most = 0
    answers = ask(server.url, "predict_many", (Counted(content) for _ in range(100)), concurrency=4)
    assert all(isinstance(answer, Prediction) for answer in answers)
    assert 2 <= Counted.most <= 4 + 2  # one that is about to go, and one that the generator still has in its hands


def test_who_stops_listening_stops_the_rest(server: Server) -> None:
    taken = []

    def images() -> Iterator[Path]:
        for number in range(1000):
            taken.append(number)
            yield CAT

    with Client(server.url) as client:
        several = client.predict_many(images(), concurrency=4)
        assert isinstance(next(several), Prediction)
        several.close()
    assert len(taken) < 50


def test_a_result_does_not_wait_until_the_line_is_full(server: Server) -> None:
    given = []

    def images() -> Iterator[Path]:
        for number in range(200):
            if number:  # a camera: there is time for an answer before the next image
                client.predict(CAT)
            given.append(number)
            yield CAT

    with Client(server.url) as client:
        several = client.predict_many(images(), concurrency=200)
        assert isinstance(next(several), Prediction)
        assert len(given) < 200
        assert len(list(several)) == 199


def test_who_stops_listening_does_not_wait_for_what_is_on_its_way(server: Server) -> None:
    asked, answered = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, *_: object) -> bytes:
            asked.set()
            answered.wait(30)
            return super().read()

    with Client(server.url) as client:
        several = client.predict_many([CAT, Slow(CAT.read_bytes()), CAT, CAT], concurrency=2)
        assert isinstance(next(several), Prediction)
        assert asked.wait(30)
        started = time.monotonic()
        several.close()
        waited = time.monotonic() - started
        answered.set()
    assert waited < 10


def test_a_connection_that_is_made_while_the_client_closes_is_closed_too(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of images on their way to which nobody listens any more."""
    connect, connecting, closed, made = socket.create_connection, threading.Event(), threading.Event(), []

    def slow(*address: Any, **options: Any) -> socket.socket:
        connecting.set()
        assert closed.wait(30)
        made.append(connect(*address, **options))
        return made[0]

    monkeypatch.setattr(socket, "create_connection", slow)
    with Client(server.url) as client:
        call = threading.Thread(target=client.predict, args=(CAT,))
        call.start()
        assert connecting.wait(30)
    closed.set()
    call.join()
    assert made[0].fileno() == -1


@pytest.mark.parametrize("concurrency", [0, -1])
def test_no_concurrency_is_no_concurrency(server: Server, ask: Ask, concurrency: int) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        ask(server.url, "predict_many", [CAT], concurrency=concurrency)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://localhost", "http://", "", "http://localhost/?a=1", "http://x:port"]
)
def test_what_is_no_address_is_said_before_anything_is_asked(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Client(url)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_timeout_is_a_number_of_seconds(server: Server, ask: Ask, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        ask(server.url, "predict", CAT, timeout=timeout)


def test_a_slash_at_the_end_of_the_address_changes_nothing(server: Server, ask: Ask) -> None:
    assert ask(f"{server.url}/", "predict", CAT) is not None


def test_an_address_with_a_path_too_many_is_told(server: Server, ask: Ask) -> None:
    with pytest.raises(ServiceError) as caught:
        ask(f"{server.url}/predict", "predict", CAT)
    assert (caught.value.status, caught.value.code) == (404, "not_found")


def test_https_where_http_is_spoken_is_told_at_once(server: Server, ask: Ask) -> None:
    with pytest.raises(Unreachable, match="SSL") as caught:
        ask(server.url.replace("http:", "https:"), "predict", CAT)
    assert not caught.value.temporary


def test_an_ipv6_address_is_an_address(tmp_path: Path, ask: Ask) -> None:
    with serving(DEFAULT_MODEL, tmp_path, HOST="::1") as six:
        assert six.url.startswith("http://[::1]:")
        assert ask(six.url, "predict", CAT).prediction == "cat"


def test_the_values_have_what_the_schemas_have() -> None:
    pairs: dict[Any, Any] = {
        client_answers.Prediction: schemas.PredictionResponse,
        client_answers.ClassProbability: schemas.ClassProbability,
        client_answers.ModelName: schemas.ModelName,
        client_answers.Health: schemas.Health,
    }
    for value, schema in pairs.items():
        fields = {field.name for field in dataclasses.fields(value)} - {"request_id"}
        properties = TypeAdapter(schema).json_schema()["properties"]
        assert fields == {{"class": "label"}.get(name, name) for name in properties}


def test_the_client_imports_neither_the_engine_nor_the_framework() -> None:
    heavy = ("numpy", "onnxruntime", "PIL", "pydantic", "fastapi", "starlette", "uvicorn", "typer")
    code = f"import sys, sightglass.client; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_error_survives_a_trip_through_another_process() -> None:
    import pickle

    error = ServiceError("Too many.", "queue_full", status=429, request_id="a", temporary=True, retry_after=2.0)
    copy: ClientError = pickle.loads(pickle.dumps(error))
    assert (type(copy), vars(copy), str(copy)) == (ServiceError, vars(error), "Too many.")


def test_large_images_arrive_whole(server: Server, ask: Ask) -> None:
    large = encode(drawing(700, 700), "BMP")
    assert len(large) > 1_000_000
    assert ask(server.url, "predict", large) is not None
