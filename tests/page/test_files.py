"""The page's files and the model card, as a client sees them who is no browser."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import yaml
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.artifact import manifest, report
from app.artifact.golden import Golden
from app.artifact.manifest import ArtifactError, Card
from app.artifact.report import Report
from app.inference import loading
from app.inference.loading import Served
from app.model_card import markdown, samples, sections
from app.routes import page as page_route
from app.settings import DEFAULT_MODEL
from tests.serving import Server

FOLDER = Path(page_route.__file__).parent.parent / "page"
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
MOST_BYTES = 60_000


@pytest.fixture
def client(service: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.url) as ready:
        yield ready


@pytest.fixture(scope="module")
def digits(digits_artifact: Path) -> Served:
    return loading.start(digits_artifact, "onnx", "cpu")


def test_the_page_is_three_files_of_at_most_60_kb() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == ["page.css", "page.html", "page.js"]
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MOST_BYTES


def test_a_browser_gets_the_page_and_curl_gets_a_hint(client: httpx2.Client, service: Server) -> None:
    assert client.get("/", headers=BROWSER).headers["content-type"] == "text/html; charset=utf-8"
    hint = client.get("/")
    assert hint.headers["content-type"] == "text/plain; charset=utf-8"
    assert f"curl -F file=@cat.jpg {service.url}/predict" in hint.text
    assert "Accept" in hint.headers["vary"]
    assert client.head("/").status_code == 200


def test_the_policy_allows_nothing_from_elsewhere_and_nothing_inline(client: httpx2.Client) -> None:
    for path in ("/", "/page/page.js", "/page/page.css", "/page/samples/0"):
        headers = client.get(path, headers=BROWSER).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self' blob: data:",
            "connect-src": "'self'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        assert headers["x-content-type-options"] == "nosniff"


def test_files_are_asked_for_by_what_they_hold_and_kept(client: httpx2.Client) -> None:
    html = client.get("/", headers=BROWSER)
    assert html.headers["cache-control"] == "no-cache"
    assert client.get("/", headers=BROWSER | {"If-None-Match": html.headers["etag"]}).status_code == 304
    for name in ("page.js", "page.css"):
        file = client.get(f"/page/{name}")
        assert file.content == (FOLDER / name).read_bytes()
        asked = f"page/{name}?{file.headers['etag'].strip(chr(34))}"
        assert asked in html.text
        assert "immutable" in client.get(f"/{asked}").headers["cache-control"]
        for other in ("", "?", "?0123456789abcdef"):  # while two versions of the service answer, it may be the other's
            assert client.get(f"/page/{name}{other}").headers["cache-control"] == "no-cache"
        assert int(file.headers["content-length"]) < len(file.content) / 2  # packed
        assert client.get(f"/page/{name}", headers={"Accept-Encoding": "identity"}).content == file.content
    assert client.get("/page/page.html").status_code == 404
    assert client.get("/page/..%2fmain.py").status_code == 404


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        *(("gzip", True), ("br, GZIP;q=0.5", True), ("gzip; q=1.0", True)),
        *(("gzip;q=0", False), ("br, gzip; q=0.000", False), ("x-gzipped", False), ("*", False), ("", False)),
    ],
)
def test_files_are_packed_for_those_who_unpack_them(client: httpx2.Client, accepted: str, packed: bool) -> None:
    headers = client.get("/page/page.js", headers={"Accept-Encoding": accepted}).headers
    assert (headers.get("content-encoding") == "gzip") == packed


def test_a_client_has_a_file_under_any_of_the_marks_it_names(client: httpx2.Client) -> None:
    mark = client.get("/page/page.js").headers["etag"]
    for named in (mark, f"W/{mark}", f'"other", {mark}', f'"other",W/{mark}', "*"):
        assert client.get("/page/page.js", headers={"If-None-Match": named}).status_code == 304
    assert client.get("/page/page.js", headers={"If-None-Match": f'"other", {mark[:-2]}"'}).status_code == 200


def test_what_the_page_says_of_a_model_is_text_whatever_it_holds(digits: Served) -> None:
    labels = ("<script>alert(1)</script>", '"&amp;', *digits.manifest.labels[2:])
    odd = dataclasses.replace(digits, manifest=digits.manifest.model_copy(update={"labels": labels}))
    api = FastAPI()
    api.include_router(page_route.router(odd, Report(), 1000))
    html = TestClient(api).get("/", headers=BROWSER).text
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;, &quot;&amp;amp;, 2" in html
    assert html.count("<script") == 1


def test_samples_are_golden_images_that_the_service_answers_as_they_say(client: httpx2.Client) -> None:
    golden = Golden.load(DEFAULT_MODEL)
    listed = client.get("/page/samples").json()
    assert 3 <= len(listed) <= 5
    assert len({sample["prediction"] for sample in listed}) == len(listed)
    for sample in listed:
        file = client.get(f"/{sample['path']}")
        assert file.headers["content-type"] == sample["media_type"]
        assert file.content in golden.files
        expected = golden.probabilities[golden.files.index(file.content)].max()
        assert sample["probability"] == pytest.approx(expected, abs=1e-4)
        assert client.post("/predict", content=file.content).json()["prediction"] == sample["prediction"]
    assert client.get(f"/page/samples/{len(listed)}").json()["code"] == "not_found"
    assert client.get("/page/samples/x").json()["code"] == "bad_parameter"


def test_samples_leave_out_what_browsers_show_otherwise(digits: Served) -> None:
    chosen = samples.choose(digits.folder, digits.manifest)
    assert {sample.media_type for sample in chosen} <= {"image/jpeg", "image/png"}
    assert len({sample.data for sample in chosen}) == len(chosen) == 5


def test_a_card_that_names_more_samples_than_there_are_images_is_refused(digits: Served) -> None:
    forged = digits.manifest.model_copy(update={"card": Card(samples=("a, by B (CC0)",) * 40)})
    with pytest.raises(ArtifactError, match="the card names 40 samples"):
        samples.choose(digits.folder, forged)


def test_the_card_is_one_that_hugging_face_reads(client: httpx2.Client) -> None:
    answer = client.get("/model/card.md")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    _nothing, head, body = answer.text.split("---\n", 2)
    described = manifest.load(DEFAULT_MODEL)
    [entry] = yaml.safe_load(head)["model-index"]
    assert entry["name"] == described.name
    [result] = entry["results"]
    assert result["task"] == {"type": "image-classification"}
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert (values["accuracy"], values["f1"]) == (described.metrics.score.accuracy, described.metrics.macro_f1)
    assert "Not stated by the author." in body
    assert "More Information Needed" not in body


def test_the_page_shows_the_cards_own_sections(client: httpx2.Client) -> None:
    text = client.get("/model/card.md").text
    for section in client.get("/model/card").json():
        assert f"## {section['title']}\n" in text
        for sentence in section["text"]:
            assert markdown.plain(sentence) in text
        for row in section["rows"]:
            assert f"| {' | '.join(markdown.plain(cell) for cell in row)} |\n" in text


def test_the_card_says_what_manifest_and_report_hold(digits: Served) -> None:
    content = json.loads((digits.folder / "report.json").read_text())
    parts = {section.title: section for section in sections.of(digits, report.read(digits.folder, digits.manifest))}
    recalls = {row[0]: row[2] for row in parts["Classes"].rows}
    assert recalls == {row["label"]: sections.percent(row["recall"]) for row in content["evaluation"]["per_class"]}
    confidence = " ".join(parts["Confidence"].text)
    assert f"temperature {digits.manifest.temperature:.3f}" in confidence
    line = content["reject_below"]
    assert (f"below {sections.percent(line['confidence'])} let a person look" if line else "look: none") in confidence
    assert f", {content['evaluation']['calibration']['verdict']}." in confidence
    assert f"reaches {-content['unfamiliar']['threshold']:.2f}, which {sections.percent(0.95)} of images" in confidence
    said = digits.proof.doubt
    assert said is not None
    assert said.coverage is not None
    assert f"they did for {sections.percent(said.coverage)}, with {said.set_size:.2f} labels on average" in confidence
    assert dict(parts["This process"].rows)["serves"] == "onnx on cpu"


def test_a_provenance_of_any_shape_is_shown_as_it_is(digits: Served) -> None:
    data = {"source": 3, "images": {"train": "some", "val": None, "test": 1234}}
    provenance = {"data": data, "best_epoch": "last", "seconds": "an hour"}
    odd = digits.manifest.model_copy(update={"provenance": provenance})
    parts = {section.title: section for section in sections.of(dataclasses.replace(digits, manifest=odd), Report())}
    data_rows = dict(parts["Data"].rows)
    assert [data_rows[split] for split in data["images"]] == ["some", "None", "1,234 images"]
    assert dict(parts["Training"].rows)["best epoch"] == "last"


def test_a_card_without_a_report_makes_nothing_up(digits: Served) -> None:
    files = {name: file for name, file in digits.manifest.files.items() if name != "report.json"}
    bare = digits.manifest.model_copy(update={"files": files, "provenance": {"data": "photos"}})
    served = dataclasses.replace(digits, manifest=bare)
    assert report.read(digits.folder, bare) == Report()
    parts = {section.title: section for section in sections.of(served, Report())}
    assert {row[2] for row in parts["Classes"].rows} == {"not measured"}
    assert "Not stated by the author." in dict(parts["Data"].rows)["source"]
    assert markdown.card(bare, list(parts.values()))


def test_images_in_the_documentation_are_there_and_small() -> None:
    root = FOLDER.parent.parent
    for document in (root / "README.md", root / "docs/page.md"):
        named = re.findall(r'(?:src|srcset)="([^"]+)"', document.read_text())
        assert named
        for name in named:
            assert (document.parent / name).stat().st_size < 150_000


def test_a_report_that_is_none_is_one_sentence(digits: Served, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"evaluation": {"split": 3}}')
    with pytest.raises(ArtifactError, match=r"report.json is no report: evaluation.split: .*string"):
        report.read(tmp_path, digits.manifest)


def test_a_label_cannot_break_the_cards_tables() -> None:
    assert markdown.plain("a|b\n<i>") == r"a\|b\\n\<i\>"
    assert markdown.plain("&lt; ~~b~~") == r"\&lt; \~\~b\~\~"


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ('fleurs \U0001f33c "né" \\', 'fleurs \U0001f33c "né" \\'),
        ("a\x7fb\u0085c\ud800\ufffe\x01", r"a\x7fb\x85c\ud800\ufffe\x01"),
    ],
)
def test_any_name_is_itself_in_the_cards_metadata(digits: Served, source: str, read: str) -> None:
    odd = digits.manifest.model_copy(update={"provenance": {"data": {"source": source}}})
    _nothing, head, _body = markdown.card(odd, []).split("---\n", 2)
    assert yaml.safe_load(head)["model-index"][0]["results"][0]["dataset"]["name"] == read


def test_the_report_can_be_taken_away_without_the_tests_images(client: httpx2.Client) -> None:
    assert client.get("/model/report.json").json()["evaluation"]["n"] == 5000
    assert client.get("/model/report.html").status_code == 404


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"crop_fraction": 0.875},
            f"square crop, of which the middle {sections.percent(0.875)} of each side is kept",
        ),
        ({"width": 40}, "the largest centred 40:32 crop, resized to 40 x 32"),
        ({"channels": 1}, "grey (Rec. 601 luma)"),
    ],
)
def test_preprocessing_is_told_in_words(fields: dict[str, object], words: str) -> None:
    spec = manifest.load(DEFAULT_MODEL).input.model_copy(update=fields)
    assert words in sections.preprocessing(spec)
