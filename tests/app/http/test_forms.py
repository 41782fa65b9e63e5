"""Forms as other people's encoders write them: answered, or refused by a sentence of their own, on all routes alike."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import httpx2
import pytest

from app.errors import Problem
from app.http.multipart_stream import FilesForm
from app.settings import DEFAULT_MODEL
from tests.images import drawing, encode
from tests.serving import serving

IMAGE = encode(drawing(90, 70), "JPEG")
FIELDS = {"/predict": "file", "/explain": "file", "/predict/batch": "files"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with (
        serving(DEFAULT_MODEL, tmp_path_factory.mktemp("forms"), MAX_UPLOAD_BYTES=3_000_000) as server,
        httpx2.Client(base_url=server.url, timeout=30) as ready,
    ):
        yield ready


@dataclass
class Form:
    """One form with one image; `@` in `head` stands for the field's name, which differs by route."""

    head: str = 'Content-Disposition: form-data; name="@"; filename="cat.jpg"\r\nContent-Type: image/jpeg'
    before: bytes = b""
    after: bytes = b""
    end: bytes = b"\r\n--XbX--\r\n"
    file: bytes = IMAGE
    type: str = "multipart/form-data; boundary=XbX"
    boundary: bytes = b"XbX"

    def send(self, client: httpx2.Client, path: str) -> httpx2.Response:
        field = FIELDS[path]
        head = b"--" + self.boundary + b"\r\n" + self.head.replace("@", field).encode() + b"\r\n\r\n"
        body = self.before + head + self.file + self.after.replace(b"@", field.encode()) + self.end
        return client.post(path, content=body, headers={"Content-Type": self.type})


def named(rest: str, *more: str) -> str:
    return "\r\n".join([f'Content-Disposition: form-data; name="@"{rest}', *more])


TEXTS = b"".join(b'--XbX\r\nContent-Disposition: form-data; name="k%d"\r\n\r\nv\r\n' % i for i in range(200))
SECOND = b'\r\n--XbX\r\nContent-Disposition: form-data; name="%b"\r\n\r\nwords'

ANSWERED = {
    "as it should be": Form(),
    "filename* alone": Form(named("; filename*=UTF-8''%E4%B8%AD%E6%96%87.jpg")),
    "filename* in odd case, with spaces": Form(named("; FileName* = utf-8'en'cat.jpg")),
    "filename* in quotes": Form(named("; filename*=\"UTF-8''cat.jpg\"")),
    "filename* in pieces": Form(named("; filename*0*=UTF-8''c%41; filename*1=t.jpg")),
    "filename* beside filename": Form(named("; filename=\"??.jpg\"; filename*=UTF-8''%E4%B8%AD%E6%96%87.jpg")),
    "filename* of no charset": Form(named("; filename*=cat.jpg")),
    "filename* of an unknown charset": Form(named("; filename*=klingon''cat.jpg")),
    "an empty filename": Form(named('; filename=""')),
    "no filename, but a type": Form(named("", "Content-Type: image/jpeg")),
    "no filename, but a type, 1.2 MB": Form(named("", "Content-Type: image/jpeg"), file=IMAGE + bytes(1_200_000)),
    "no filename, octets": Form(named("", "content-type:application/octet-stream")),
    "200 text fields before": Form(before=TEXTS),
    "text fields behind": Form(after=SECOND % b"caption"),
    "large text before": Form(before=TEXTS[:-3] + b"v" * 50_000 + b"\r\n"),
    "JSON before": Form(
        before=b'--XbX\r\nContent-Disposition: form-data; name="meta"\r\nContent-Type: application/json\r\n\r\n{}\r\n'
    ),
    "a part without a name": Form(before=b"--XbX\r\nContent-Disposition: form-data\r\n\r\nv\r\n"),
    "a part without any head": Form(before=b"--XbX\r\n\r\nv\r\n"),
    "names of headers in odd case": Form('CONTENT-disposition:form-data;NAME=@;FILENAME=cat.jpg\r\ncontent-TYPE: x/y'),
    "another disposition": Form('Content-Disposition: attachment; name="@"; filename="cat.jpg"'),
    "more headers": Form(named('; filename="c"', "Content-Length: 99", "Content-Transfer-Encoding: binary", "X-Y: z")),
    "a semicolon and quotes in the name": Form(named('; filename="a;\\"b\\"; filename*=no.jpg"')),
    "a final boundary without CRLF": Form(end=b"\r\n--XbX--"),
    "an epilogue": Form(end=b"\r\n--XbX--\r\nsee you\r\n--XbX\r\n"),
    "CRLF before the first boundary": Form(before=b"\r\n"),
    "spaces behind the boundary": Form(before=b"--XbX\r\n\r\nv\r\n--XbX \t\r\n\r\nw\r\n", end=b"\r\n--XbX-- \r\n"),
    "the boundary in quotes": Form(type='multipart/form-data; boundary="XbX"'),
    "a boundary that needs quotes": Form(
        type='Multipart/Form-Data; charset=utf-8; BOUNDARY="a b=c:d"', boundary=b"a b=c:d", end=b"\r\n--a b=c:d--\r\n"
    ),
    "a part of the boundary in the image": Form(file=IMAGE + b"\r\n--XbY\r\n--Xb\r\n-\r"),
}  # fmt: skip


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize("form", ANSWERED.values(), ids=ANSWERED)
def test_it_is_answered(client: httpx2.Client, form: Form, path: str) -> None:
    answer = form.send(client, path)
    assert answer.status_code == 200, answer.text
    results = answer.json().get("results", [answer.json()])
    assert [result.get("prediction") for result in results] == [expected(client)]


def expected(client: httpx2.Client) -> str:
    """What the image is by itself."""
    return str(client.post("/predict", content=IMAGE).json()["prediction"])


MALFORMED = {
    "no final boundary": (Form(end=b""), "it ends in the middle, without its final boundary"),
    "half of it": (Form(end=b"\r\n--XbX-"), "it ends in the middle"),
    "a boundary that begins another part": (Form(end=b"\r\n--XbX\r\n"), "it ends in the middle"),
    "cut in its head": (Form(file=b"", end=b""), "it ends in the middle"),
    "another boundary": (
        Form(type="multipart/form-data; boundary=other"),
        "begin with `--other` and CRLF",
    ),
    "no boundary": (Form(type="multipart/form-data"), "its Content-Type names no boundary"),
    "a boundary of nothing": (Form(type='multipart/form-data; boundary=""'), "no boundary"),
    "a boundary of 300": (Form(type=f"multipart/form-data; boundary={'x' * 300}"), "Boundary length 300"),
    "a preamble": (Form(before=b"This is a message.\r\n"), "it does not begin with `--XbX`"),
    "lines that end in LF": (Form(before=b"--XbX\n\nv\n"), "it does not begin with `--XbX` and CRLF"),
    "a folded head": (
        Form('Content-Disposition: form-data;\r\n name="@"; filename="c"'),
        "the head of part 1 is not lines",
    ),
    "a head without a colon": (Form("Content-Disposition"), "the head of part 1 is not lines"),
    "a head of 5 kB": (Form(named(f'; filename="{"c" * 5000}"')), "Maximum header size exceeded"),
    "a head of nine": (Form(named("", *["X: y"] * 9)), "Maximum header count exceeded"),
    "words behind a boundary": (
        Form(end=b"\r\n--XbX x\r\n--XbX--"),
        "the boundary after part 1 is followed by neither CRLF nor",
    ),
    "base64 in a part": (
        Form(named('; filename="c"', "Content-Transfer-Encoding: BASE64")),
        "a part has Content-Transfer-Encoding: base64, and forms have none; send bytes",
    ),
}
BAD_FIELD = {
    "text in the field": (Form(named("")), "it is text, not a file (curl needs the @: -F "),
    "text in the field, with a type": (Form(named("", "Content-Type: text/plain")), "it is text, not a file"),
    "text in the field, 1.2 MB": (Form(named(""), file=bytes(1_200_000)), "it is text, not a file"),
    "text in the field, too": (Form(after=SECOND % b"@"), "it is text, not a file"),
    "another field": (
        Form('Content-Disposition: form-data; name="image"; filename="c"'),
        "but one is in the field `image`",
    ),
    "no name of a field": (
        Form('Content-Disposition: form-data; filename="c"'),
        "but one is in a field without a name",
    ),
    "only text": (Form('Content-Disposition: form-data; name="x"'), "but there is no file"),
    "no part at all": (Form("", file=b"", before=b"--XbX--\r\n"), "but there is no file"),
    "1,001 text fields": (Form(before=TEXTS[: TEXTS.index(b"--XbX", 1)] * 1001), "over 1,000 others"),
}
SENTENCES = [("malformed_body", *each) for each in MALFORMED.values()] + [
    ("bad_field", *each) for each in BAD_FIELD.values()
]


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize(("code", "form", "words"), SENTENCES, ids=[*MALFORMED, *BAD_FIELD])
def test_it_is_refused(client: httpx2.Client, code: str, form: Form, words: str, path: str) -> None:
    answer = form.send(client, path)
    assert (answer.status_code, answer.json().get("code")) == (400, code), answer.text
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("path", FIELDS)
def test_a_form_of_no_bytes_is_no_body(client: httpx2.Client, path: str) -> None:
    answer = client.post(path, content=b"", headers={"Content-Type": "multipart/form-data; boundary=XbX"})
    assert (answer.status_code, answer.json()["code"]) == (400, "empty_body")


def test_several_files_are_for_batches(client: httpx2.Client) -> None:
    another = b'\r\n--XbX\r\nContent-Disposition: form-data; name="@"; filename="b"\r\n\r\n' + IMAGE
    for path in ("/predict", "/explain"):
        said = Form(after=another).send(client, path).json()["detail"]
        assert said == "Expected one file in the field `file`, but there are several."
    assert len(Form(after=another).send(client, "/predict/batch").json()["results"]) == 2


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (named("; filename*=UTF-8''%E4%B8%AD%E6%96%87.jpg"), "中文.jpg"),
        (named("; filename=\"??.jpg\"; filename*=UTF-8''%E4%B8%AD%E6%96%87.jpg"), "中文.jpg"),
        (named("; filename*=iso-8859-1''caf%E9.jpg; filename=x"), "café.jpg"),
        (named('; filename="中文.jpg"'), "中文.jpg"),
        (named("; filename*=UTF-8''it's%20mine"), "it's mine"),
        (named("; filename*0*=UTF-8''caf%C3; filename*1*=%A9.jpg"), "café.jpg"),
        (named("; filename*=klingon''caf%C3%A9"), "café"),
        (named("", "Content-Type: image/png"), ""),
        (named('; filename="a; filename*=b.jpg"'), "a; filename*=b.jpg"),
    ],
)
def test_a_result_has_the_name_that_the_client_meant(client: httpx2.Client, head: str, name: str) -> None:
    (result,) = Form(head).send(client, "/predict/batch").json()["results"]
    assert result["file"] == name


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_a_refusal_of_what_has_all_come_keeps_the_connection(client: httpx2.Client, path: str) -> None:
    assert "connection" not in Form(end=b"").send(client, path).headers


def test_no_head_of_a_part_takes_long() -> None:
    """4 kB is the most of it that the parser takes."""
    for rest in (";" * 4000, '";' * 2000, ';filename*="' + ";" * 3900, ";filename*0*=" * 300, "*" * 4000):
        form = FilesForm(b"multipart/form-data; boundary=b", "file", 10, 1)
        head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="c"{rest}\r\n'.encode()[:4190]
        assert _seconds(form, head + b"\r\n\r\nx\r\n--b--") < 0.02


def _seconds(form: FilesForm, body: bytes) -> float:
    started = time.perf_counter()
    with suppress(Problem):
        form.write(body)
    return time.perf_counter() - started
