"""The service as a client meets it: a real process, a real HTTP client, real bytes."""

import contextlib
import io
import json
import re
import socket
import struct
import time
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from app.artifact.decoder.decode import decode
from app.inference import loading
from sightglass.client import Prediction
from tests.images import drawing, encode
from tests.serving import Server, connect, metrics, problem, serving
from training.data.source import index


def test_a_form_and_a_raw_body_give_the_same_answer(client: httpx2.Client) -> None:
    file = encode(drawing())
    form = client.post("/predict", files={"file": ("cat.png", file)})
    raw = client.post("/predict", content=file)
    assert form.status_code == raw.status_code == 200
    assert form.json() == raw.json()
    answer = form.json()
    assert answer["top_k"][0] == {"class": answer["prediction"], "probability": answer["confidence"]}
    assert len(answer["top_k"]) == 5
    assert answer["model"] == {"name": "digits", "version": 1, "variant": answer["model"]["variant"]}


def test_doubt_is_part_of_every_answer_and_what_the_manifest_says_of_the_engines(
    server: Server, client: httpx2.Client, digits_artifact: Path
) -> None:
    """On /predict and /predict/batch, for the client, in the log and in the metrics."""
    served = loading.start(digits_artifact, cpu_variant(client), "cpu")
    assert served.manifest.doubt is not None
    assert served.manifest.doubt.unfamiliar is not None
    threshold, log = served.manifest.doubt.unfamiliar.threshold, server.from_here()
    seven = index("digits")
    files = [encode(drawing(seed=seed)) for seed in range(8)]
    files += [seven.read(sample.path) for sample in seven.splits["all"][:8]]
    before = count_of("sightglass_unfamiliar_images_total", metrics(server.url))
    answers = [client.post("/predict?top_k=1", content=file).json() for file in files]
    batch = client.post("/predict/batch?top_k=1", files=[("files", ("x", file)) for file in files]).json()["results"]
    for file, answer, result in zip(files, answers, batch, strict=True):
        outputs = served.engine.run(decode(file, served.manifest.input).pixels[None])
        assert outputs.heatmap is not None
        assert answer["unfamiliar"] == bool(-outputs.heatmap.max() > threshold)
        assert answer["set"] == [answer["prediction"]]
        assert "accept" not in answer, "179 val images cannot draw a line"
        assert {**answer, "file": "x"} == {**result, "model": answer["model"]}
        parsed = Prediction.of(answer, "")
        assert (parsed.unfamiliar, parsed.accept, parsed.set) == (answer["unfamiliar"], None, tuple(answer["set"]))
    odd = [answer["unfamiliar"] for answer in answers]
    assert any(odd[:8])
    assert not all(odd)
    assert count_of("sightglass_unfamiliar_images_total", metrics(server.url)) - before == 2 * sum(odd)
    lines = [line for line in log.lines() if "POST /predict " in line]
    assert [" unfamiliar " in line for line in lines] == odd


def cpu_variant(client: httpx2.Client) -> str:
    return str(client.get("/model").json()["serving"]["variant"])


def count_of(name: str, text: str) -> float:
    return float(re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)[0])


def test_all_probabilities_are_ranked_and_sum_to_one(client: httpx2.Client) -> None:
    answer = client.post("/predict?top_k=all", content=encode(drawing())).json()
    probabilities = [each["probability"] for each in answer["top_k"]]
    assert len(probabilities) == 10
    assert probabilities == sorted(probabilities, reverse=True)
    assert abs(sum(probabilities) - 1) < 1e-5


@pytest.mark.parametrize("top_k", ["0", "11", "-1", "abc", "1.5", "", "0000000051", "5" + "0" * 5000])
def test_a_bad_top_k_is_a_bad_parameter(client: httpx2.Client, top_k: str) -> None:
    problem(client.post("/predict", params={"top_k": top_k}, content=encode(drawing())), 400, "bad_parameter")


def test_odd_but_good_images_are_answered(client: httpx2.Client) -> None:
    image = drawing(60, 60)
    frames = [image.convert("P"), drawing(60, 60, seed=1).convert("P")]
    good = {
        "1x1": encode(Image.new("RGB", (1, 1), "red")),
        "animated GIF": encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "CMYK JPEG": encode(image.convert("CMYK"), "JPEG"),
        "grey": encode(image.convert("L"), "JPEG"),
        "palette": encode(image.quantize(16)),
        "alpha": encode(image.convert("RGBA")),
        "WebP": encode(image, "WEBP"),
        "TIFF": encode(image, "TIFF"),
        "BMP": encode(image, "BMP"),
    }
    for name, file in good.items():
        assert client.post("/predict", content=file).status_code == 200, name


def test_sixteen_bits_give_the_answer_of_eight(client: httpx2.Client) -> None:
    grey = drawing(60, 60).convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    answers = [client.post("/predict", content=encode(image)).json() for image in (grey, deep)]
    assert answers[0] == answers[1]


def test_neither_name_nor_type_decides_what_a_file_is(client: httpx2.Client) -> None:
    file = encode(drawing(), "JPEG")
    expected = client.post("/predict", content=file).json()
    assert client.post("/predict", files={"file": ("cat.txt", file, "text/plain")}).json() == expected
    for kind in ("application/json", "image/png", "application/x-www-form-urlencoded"):
        assert client.post("/predict", content=file, headers={"Content-Type": kind}).json() == expected


def test_framework_errors_are_problems_too(client: httpx2.Client) -> None:
    problem(client.get("/nothing"), 404, "not_found")
    response = client.get("/predict")
    assert "POST" in str(problem(response, 405, "method_not_allowed")["detail"])
    assert response.headers["allow"] == "OPTIONS, POST"


def test_a_request_id_is_kept_or_made(client: httpx2.Client) -> None:
    assert client.get("/health", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    for bad in ("a b", "x" * 65, "<script>"):
        assert re.fullmatch(
            r"[0-9a-f]{32}", client.get("/health", headers={"X-Request-ID": bad}).headers["x-request-id"]
        )


def test_server_timing_names_the_stages(client: httpx2.Client) -> None:
    timing = client.post("/predict", content=encode(drawing())).headers["server-timing"]
    assert [entry.split(";")[0] for entry in timing.split(", ")] == ["receive", "decode", "queue", "inference"]


def test_health_says_what_is_served(client: httpx2.Client) -> None:
    for route in ("/health", "/health/ready", "/health/live"):
        response = client.get(route)
        assert response.status_code == 200
        assert response.json()["status"] == "ok"
        assert response.json()["model"]["name"] == "digits"


def test_model_is_the_manifest(client: httpx2.Client, digits_artifact: Path) -> None:
    served = client.get("/model").json()
    assert served.pop("serving")["device"] == "cpu"
    assert served == json.loads((digits_artifact / "manifest.json").read_text())


def test_the_documentation_loads_nothing_from_other_hosts(client: httpx2.Client) -> None:
    page = client.get("/docs").text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(assets) == 3
    for asset in assets:
        assert asset.startswith("/")
        assert client.get(asset).status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/predict", "/health", "/model", "/metrics"} <= set(paths)
    assert set(paths["/predict"]["post"]["requestBody"]["content"]) >= {"multipart/form-data", "image/*"}
    assert "problem+json" in str(paths["/predict"]["post"]["responses"]["415"])
    assert "HTTPValidationError" not in str(paths)


def test_the_list_of_errors_is_where_problems_point_to(client: httpx2.Client) -> None:
    where = str(problem(client.get("/nothing"), 404, "not_found")["type"])
    page, _, anchor = where.partition("#")
    assert f'id="{anchor}"' in client.get(page).text


def test_the_root_tells_how_to_begin(client: httpx2.Client) -> None:
    assert "curl -F file=@" in client.get("/").text


def test_one_log_line_a_request_tells_what_happened_and_not_who(digits_artifact: Path, tmp_path: Path) -> None:
    with (
        serving(digits_artifact, tmp_path, LOG_FORMAT="json") as server,
        httpx2.Client(base_url=server.url) as client,
    ):
        trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
        headers = {"X-Request-ID": "the-one", "traceparent": trace}
        client.post("/predict", files={"file": ("secret.png", encode(drawing(64, 48)))}, headers=headers)
        client.post("/predict", content=b"no image")
        client.get("/health")
    lines = [json.loads(line) for line in server.lines()]
    good, bad = [line for line in lines if line["event"] == "request"]
    expected = {"request_id": "the-one", "trace_id": "a" * 32, "status": 200, "route": "/predict", "format": "PNG"}
    assert expected.items() <= good.items()
    assert {"width": 64, "height": 48, "batch_size": 1}.items() <= good.items()
    assert {"receive_ms", "decode_ms", "queue_ms", "inference_ms", "duration_ms", "confidence"} <= set(good)
    assert {"status": 415, "code": "unsupported_image"}.items() <= bad.items()
    assert "secret" not in server.log.read_text()
    assert [line["event"] for line in lines if line["event"] in ("start", "ready", "stop")] == [
        "start",
        "ready",
        "stop",
    ]


def test_a_slow_client_keeps_nobody_out_and_has_504(digits_artifact: Path, tmp_path: Path) -> None:
    with serving(digits_artifact, tmp_path, MAX_QUEUE=1, DEADLINE_MS=4000) as server, connect(server) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n\xff\xd8\xff")
        with httpx2.Client(base_url=server.url) as client:
            assert client.post("/predict", content=encode(drawing())).status_code == 200
            reply = slow.recv(10_000)
            while b"}" not in reply:
                reply += slow.recv(10_000)
            assert b" 504 " in reply.splitlines()[0]
            assert b"deadline_exceeded" in reply
            assert client.post("/predict", content=encode(drawing())).status_code == 200


def test_a_client_that_leaves_frees_its_place(digits_artifact: Path, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (5000, 5000)).save(file, "JPEG", progressive=True)  # 0.2 s to decode
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(file.getvalue())}\r\n\r\n".encode()
    with (
        serving(digits_artifact, tmp_path, MAX_QUEUE=1) as server,
        httpx2.Client(base_url=server.url, timeout=30) as client,
    ):
        with connect(server) as leaving:
            leaving.sendall(head + file.getvalue())
            began = time.monotonic()
            while client.post("/predict", content=encode(drawing())).status_code == 200:
                assert time.monotonic() - began < 30
        while client.post("/predict", content=encode(drawing())).status_code == 429:
            pass
        assert client.post("/predict", content=encode(drawing())).status_code == 200


def test_images_of_clients_that_have_left_are_not_decoded(digits_artifact: Path, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (5000, 5000)).save(file, "JPEG", progressive=True)  # 0.2 s to decode
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(file.getvalue())}\r\n\r\n".encode()
    with serving(digits_artifact, tmp_path, THREADS=1) as server, contextlib.ExitStack() as leaving:
        for _ in range(10):
            leaving.enter_context(connect(server)).sendall(head + file.getvalue())
        leaving.close()
        counted: dict[str, int] = {}
        while sum(counted.values()) < 10:
            rows = re.findall(r'images_total{outcome="(\w+)"} (\d+)', metrics(server.url))
            counted = {outcome: int(count) for outcome, count in rows}
    assert counted["disconnected"] >= 7, counted  # the first may have been decoded before the others came


def test_behind_a_proxy_that_strips_a_prefix_every_address_has_it(digits_artifact: Path, tmp_path: Path) -> None:
    with (
        serving(digits_artifact, tmp_path, ROOT_PATH="/vision") as server,
        httpx2.Client(base_url=server.url) as client,
    ):
        assert str(problem(client.get("/nothing"), 404, "not_found")["type"]).startswith(f"{server.url}/vision/docs")
        assert "/vision/static-offline-docs/" in client.get("/docs").text
        assert client.post("/predict", content=encode(drawing())).status_code == 200


def test_an_image_of_two_megabytes_needs_no_temporary_folder(digits_artifact: Path, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    assert len(buffer.getvalue()) > 2_000_000
    nowhere = {"TMPDIR": "/proc/nowhere"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in nowhere.items():
            patch.setenv(name, value)
        with serving(digits_artifact, tmp_path) as server, httpx2.Client(base_url=server.url) as client:
            assert client.post("/predict", files={"file": buffer.getvalue()}).status_code == 200


def test_a_client_that_resets_its_connection_leaves_no_traceback(server: Server) -> None:
    file = encode(drawing())
    request = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(file)}\r\n\r\n".encode() + file
    for number in range(200):
        with connect(server) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset
            connection.sendall(request)
            time.sleep(number * 0.00002)  # at any point of the request
    assert httpx2.get(f"{server.url}/health").status_code == 200
    assert "Traceback" not in server.log.read_text()


def test_an_answer_leaves_in_one_packet(server: Server) -> None:
    file = encode(drawing())
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(file)}\r\n\r\n".encode()
    with connect(server) as connection:
        for _ in range(20):
            connection.sendall(head + file)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b"}")
