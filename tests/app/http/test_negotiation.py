"""Content negotiation: the Accept header decides between forms of an answer, as RFC 9110 has it."""

import pytest

from app.errors import Problem
from app.http import negotiation

JSON, PNG = "application/json", "image/png"


def choose(*values: str) -> str:
    return negotiation.choose([(b"host", b"x"), *((b"accept", value.encode()) for value in values)], (JSON, PNG))


@pytest.mark.parametrize(
    ("asked", "form"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("*", JSON),
        ("application/json", JSON),
        ("image/png", PNG),
        ("IMAGE/PNG", PNG),
        ("image/*", PNG),
        ("image/png;level=3", PNG),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", JSON),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", PNG),  # <img> in Chromium
        ("image/png, application/json", JSON),
        ("image/png, */*", PNG),
        ("image/png;q=0.5, application/json", JSON),
        ("image/png, application/json;q=0.999", PNG),
        ("image/png;q=0.5, application/json;q=0.4", PNG),
        ("image/png;q=0, */*", JSON),
        ("application/json;q=0, */*;q=0.1", PNG),
        ("image/*;q=0.9, image/png;q=0.1, application/json;q=0.5", JSON),  # the more exact range decides
        ("application/json ; q=0.3 , image/png ; q=0.4", PNG),
        ("png", JSON),
        ("image/png;q=high, text/", JSON),
        (";;,,;q=1,/", JSON),
    ],
)
def test_the_form_that_the_client_likes_best(asked: str, form: str) -> None:
    assert choose(asked) == form


def test_no_accept_header_and_several() -> None:
    assert choose() == JSON
    assert choose("text/html", "image/png") == PNG


@pytest.mark.parametrize(
    "asked", ["text/html", "image/jpeg", "application/json;q=0", "*/*;q=0", "application/problem+json", "text/*, a/b"]
)
def test_where_neither_fits_the_problem_names_both(asked: str) -> None:
    with pytest.raises(Problem, match="application/json or image/png") as refused:
        choose(asked)
    assert refused.value.code == "not_acceptable"
