"""tritonclient's own calls, all of them, against a running service."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.app.open_inference import protocol_clients
from tests.app.open_inference.protocol_clients import Made


@pytest.fixture(scope="module")
def made(digits_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with protocol_clients.made("triton", digits_artifact, tmp_path_factory.mktemp("triton")) as answers:
        yield answers


def test_it_learns_about_the_server_and_its_models(made: Made) -> None:
    answers = made.answers
    for call in ("is_server_live", "is_server_ready", "is_model_ready", "is_model_ready of a version"):
        assert answers[call] is True
    assert answers["is_model_ready of another version"] is False
    assert answers["get_server_metadata"]["name"] == "sightglass"
    assert {"binary_tensor_data", "classification"} < set(answers["get_server_metadata"]["extensions"])
    assert answers["get_model_metadata"]["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 16, 16, 3]}]
    encoded = answers["get_model_metadata of a version"]
    assert encoded["inputs"] == [{"name": "image_bytes", "datatype": "BYTES", "shape": [-1]}]
    assert [each["name"] for each in encoded["outputs"]] == ["probabilities", "logits", "heatmap"]
    assert answers["get_model_config"]["max_batch_size"] == 64
    assert [each["name"] for each in answers["get_model_repository_index"]] == ["digits", "digits-encoded"]


@pytest.mark.parametrize(
    "call",
    [
        "infer",
        "infer of a version",
        "infer, binary_data=False",
        "infer, encoded",
        "infer, encoded, binary_data=False",
        "infer, outputs",
        "infer, request_id",
        "infer, gzip",
        "infer, deflate",
        "infer, other parameters",
        "async_infer",
        "generate_request_body, parse_response_body",
        "tritonclient.http.aio",
    ],
)
def test_it_gets_the_probabilities_that_predict_answers(made: Made, call: str) -> None:
    assert made.same(made.answers[call]["probabilities"])


def test_each_output_comes_as_it_was_asked_for(made: Made) -> None:
    answer = made.answers["infer, outputs"]
    logits, heatmap, probabilities = answer["response"]["outputs"]
    assert ("data" in logits, "data" in heatmap, "data" in probabilities) == (True, False, False)
    assert np.shape(answer["heatmap"])[:2] == np.shape(answer["logits"]) == (2, 10)
    assert np.allclose(np.mean(answer["heatmap"], axis=(2, 3)), answer["logits"], atol=1e-4)


def test_classes_come_with_value_index_and_label(made: Made) -> None:
    binary = made.answers["infer, class_count"]["probabilities"]
    logits = made.answers["infer, class_count, binary_data=False"]["logits"]
    assert (np.shape(binary), np.shape(logits)) == ((2, 3), (2, 2))
    for row, (best, *_), (best_logit, _) in zip(made.probabilities, binary, logits, strict=True):
        value, index, label = best.split(":", 2)
        assert (int(index), label) == (row.argmax(), made.labels[row.argmax()])
        assert float(value) == pytest.approx(row.max(), abs=1e-6)
        assert best_logit.split(":", 2)[1:] == [index, label]


def test_the_id_comes_back(made: Made) -> None:
    assert made.answers["infer, request_id"]["response"]["id"] == "Käfer"
    assert "id" not in made.answers["infer"]["response"]


@pytest.mark.parametrize(
    ("call", "status", "said"),
    [
        ("infer, another model", 404, "there are digits, digits-encoded"),
        ("infer, another input", 400, 'digits has no input "image_bytes"; it has `image`'),
        ("infer, another shape", 400, "[N, 16, 16, 3], not [2, 15, 16, 3]"),
        ("infer, another datatype", 400, "UINT8"),
        ("infer, another output", 400, 'no output "classes"'),
        ("infer, too many images", 400, "130 images; this service takes at most 64"),
        ("infer, a broken image", 422, "Element 1: the GIF file"),
        ("infer, shared memory", 400, "no shared memory"),
    ],
)
def test_it_hears_what_was_wrong(made: Made, call: str, status: int, said: str) -> None:
    assert said in made.error(call, status)


def test_what_is_not_offered_here_is_an_error_that_it_can_read(made: Made) -> None:
    others = [call for call in made.answers if call.startswith(("load", "unload", "update", "register", "unregister"))]
    others += [
        call for call in made.answers if call.startswith("get_") and "model_" not in call and "server_" not in call
    ]
    assert len(others) == 13
    for call in others:
        assert made.error(call, 404).startswith("There is n")


def test_the_documentation_lists_exactly_these_calls_and_their_outcomes(made: Made) -> None:
    outcomes = {
        call: "error" if isinstance(answer, dict) and "error" in answer else "passes"
        for call, answer in made.answers.items()
    }
    assert protocol_clients.documented("triton") == outcomes
