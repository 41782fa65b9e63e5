"""KServe's inference client's own calls, all of them, against a running service."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.app.open_inference import protocol_clients
from tests.app.open_inference.protocol_clients import Made


@pytest.fixture(scope="module")
def made(digits_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with protocol_clients.made("kserve", digits_artifact, tmp_path_factory.mktemp("kserve")) as answers:
        yield answers


def test_it_learns_that_server_and_model_are_ready(made: Made) -> None:
    assert all(made.answers[call] is True for call in ("is_server_live", "is_server_ready", "is_model_ready"))
    assert made.answers["is_model_ready of another model"] is False


@pytest.mark.parametrize(
    "call",
    [
        "infer",
        "infer, data as an array",
        "infer, data as a list",
        "infer, a dict",
        "infer, encoded",
        "infer, encoded, data as base64",
        "infer, binary_data_output",
    ],
)
def test_it_gets_the_probabilities_that_predict_answers(made: Made, call: str) -> None:
    assert made.same(made.answers[call]["probabilities"])


def test_it_gets_the_output_that_it_asks_for(made: Made) -> None:
    answer = made.answers["infer, request_outputs"]
    assert np.shape(answer["logits"]) == (2, 10)
    assert np.array_equal(np.argmax(answer["logits"], axis=1), made.probabilities.argmax(axis=1))
    assert "probabilities" not in answer


def test_classes_come_with_value_index_and_label(made: Made) -> None:
    ranked = made.answers["infer, classification"]["probabilities"]
    assert np.shape(ranked) == (2, 2)
    best = [int(row[0].split(":")[1]) for row in ranked]
    assert best == made.probabilities.argmax(axis=1).tolist()


def test_the_id_comes_back(made: Made) -> None:
    assert made.answers["infer"]["id"] == "42"


@pytest.mark.parametrize(
    ("call", "status", "said"),
    [
        ("infer, another model", 404, "there are digits, digits-encoded"),
        ("infer, another input", 400, 'digits has no input "image_bytes"; it has `image`'),
        ("infer, another shape", 400, "[N, 16, 16, 3], not [2, 15, 16, 3]"),
        ("infer, another output", 400, 'no output "classes"'),
    ],
)
def test_it_hears_what_was_wrong(made: Made, call: str, status: int, said: str) -> None:
    assert said in made.error(call, status)


def test_the_documentation_lists_exactly_these_calls_and_their_outcomes(made: Made) -> None:
    outcomes = {
        call: "error" if isinstance(answer, dict) and "error" in answer else "passes"
        for call, answer in made.answers.items()
    }
    assert protocol_clients.documented("kserve") == outcomes
