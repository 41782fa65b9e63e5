"""POST /predict/batch inside the application: every file gets its own result, in order; with an engine of ours."""

import random
from typing import Any

import pytest

from app.http.multipart_stream import FilesForm
from tests.app.inference.test_own_answers import OffByOne, Told
from tests.app.limits.test_overload import play
from tests.app.routes.batches import BROKEN, Upload, form, numbered, one_piece_each, scrape, service, told


def batch_of_200(engine: Told, seen: list[int]) -> list[dict[str, Any]]:
    """200 images of 8 to 400 pixels, so that some take much longer than others; 10 are broken."""
    dice = random.Random(0)
    files = [numbered(number + 1, dice.choice([8, 50, 400])) for number in range(200)]
    for place, (file, *_) in BROKEN.items():
        files[place] = file

    class Seen(type(engine)):  # type: ignore[misc]
        def answer(self, numbers: Any) -> Any:
            seen.extend(numbers.tolist())
            return super().answer(numbers)

    upload = Upload.of(files, 30_011)

    async def scene() -> None:
        async with service(Seen(), max_upload_bytes=500_000, max_pixels=1_000_000, threads=4) as app:
            await upload.make(app)
            assert upload.status == 200, upload.answer
            assert await scrape(app) == {"predicted": 190, "invalid": 10}

    play(scene)
    return list(upload.answer["results"])


def test_200_files_of_which_10_are_broken_are_190_results_and_10_errors_in_order() -> None:
    seen: list[int] = []
    told(batch_of_200(Told(), seen), range(1, 201))
    in_turn = [number for number in seen if number]
    assert in_turn != sorted(in_turn), "all finished in the order in which they came: nothing was tried"


def test_the_check_above_is_red_for_rows_that_are_off_by_one() -> None:
    results = batch_of_200(OffByOne(), [])
    with pytest.raises(AssertionError):
        told(results, range(1, 201))
    right = batch_of_200(Told(), [])
    with pytest.raises(AssertionError):
        told([right[-1], *right[:-1]], range(1, 201))


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000, 10**6])
def test_the_form_may_come_in_any_pieces(piece_bytes: int) -> None:
    upload = Upload.of([numbered(number, 4) for number in (1, 2, 3)], piece_bytes, query=b"top_k=2")

    async def scene() -> None:
        async with service() as app:
            told((await upload.make(app)).answer["results"], (1, 2, 3))
            assert [len(result["top_k"]) for result in upload.answer["results"]] == [2, 2, 2]
            assert upload.answer["model"]["name"] == "cifar10"

    play(scene)


def test_an_image_that_no_engine_can_stand_is_an_error_of_its_own() -> None:
    upload = Upload.of([numbered(995), numbered(996), numbered(997)])

    async def scene() -> None:
        async with service() as app:
            results = (await upload.make(app)).answer["results"]
            assert [result.get("error", {}).get("code") for result in results] == [None, "not_ready", None]
            assert await scrape(app) == {"predicted": 2, "failed": 1}

    play(scene)


def test_a_form_that_breaks_off_is_a_problem_and_its_files_are_invalid() -> None:
    content_type, pieces = one_piece_each(5)

    async def scene() -> None:
        async with service(max_queue=2) as app:
            for _ in range(5):  # each gives its place back, or there would be none for the next
                cut = await Upload(content_type, [*pieces[:3], pieces[3][:-200]]).make(app)
                assert (cut.status, cut.answer["code"]) == (400, "malformed_body")
            assert sum((await scrape(app)).values()) == 20
            told((await Upload.of([numbered(9)]).make(app)).answer["results"], [9])

    play(scene)


def test_a_client_whose_form_is_refused_before_its_end_is_told_to_stop() -> None:
    content_type, pieces = one_piece_each(3)
    begin = b"--" + content_type.partition(b"boundary=")[2] + b"\r\n"
    field = begin + b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    refused = {
        "malformed_body": [Upload(content_type, [b"no form"], ends=False), Upload(b"image/png", [b""], ends=False)],
        "bad_field": [
            Upload(content_type, [field], ends=False),
            Upload(content_type, [begin + b'Content-Disposition: form-data; name="files"\r\n\r\n'], ends=False),
        ],
        "too_many_files": [Upload.of([b"x"] * 1001, 2000)],
    }

    async def scene() -> None:
        async with service() as app:
            for code, uploads in refused.items():
                for upload in uploads:
                    await upload.make(app)
                    assert upload.answer["code"] == code
                    assert upload.answered.get(b"connection") == b"close", code
            whole = await Upload(content_type, pieces[:2]).make(app)
            assert whole.answer["code"] == "malformed_body"
            assert b"connection" not in whole.answered  # nothing is left to be sent

    play(scene)


def test_of_a_file_above_the_limit_nothing_is_kept() -> None:
    content_type, body = form([bytes(3_000_000), b"next"])
    files = FilesForm(content_type, "files", max_file_bytes=1_000_000, max_files=10)
    files.write(body[:2_000_000])
    files.write(body[2_000_000:])
    assert [(file.size, bytes(file.received)) for file in files.complete] == [(3_000_000, b""), (4, b"next")]
