"""Many images in the browser: none hides another, and what is shown can be taken away."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import httpx2
from playwright.sync_api import Browser, Page, expect

from tests.images import drawing, encode
from tests.page.browser import CAT, choose, tab
from tests.page.running import Running
from tests.serving import Server

CLOUDS = [(f"clouds-{seed}.png", encode(drawing(seed=seed))) for seed in range(5)]
BROKEN = ("broken.png", CLOUDS[0][1][:100])
MANY = [CLOUDS[0], BROKEN, *CLOUDS[1:]]


def several(page: Page) -> dict[str, str]:
    """Seven images with a broken one among them; file name -> what its card says, in the order of the cards."""
    choose(page, *MANY, CAT)
    expect(page.locator("#several-title")).to_have_text("7 images: 6 classified, 1 not")
    return cards(page)


def cards(page: Page) -> dict[str, str]:
    shown = page.locator(".item:not([hidden]) .open")
    return {each.locator("span").last.inner_text(): each.locator("b").inner_text() for each in shown.all()}


def test_a_broken_image_hides_no_other_and_says_why_in_its_own_card(page: Page, service: Server) -> None:
    said = several(page)
    assert list(said) == [*[name for name, _data in MANY], "cat.jpg"]
    for name, data in CLOUDS:
        answer = httpx2.post(f"{service.url}/predict", content=data).json()
        assert said[name] == f"{answer['prediction']} {100 * answer['confidence']:.1f} %"
    assert said["broken.png"] == "Not classified"
    card = page.locator(".item.failed")
    problem = httpx2.post(f"{service.url}/predict", content=BROKEN[1]).json()
    assert problem["detail"] in card.inner_text()
    assert "Request " in card.inner_text()
    assert card.locator(".again").is_visible()
    assert page.evaluate("document.activeElement.id") == "several-title"


def test_cards_are_sorted_and_filtered_by_class(page: Page) -> None:
    said = several(page)
    page.select_option("#sort", "sure")
    shares = [float(text.split()[-2]) for text in cards(page).values() if text != "Not classified"]
    assert shares == sorted(shares, reverse=True)
    assert list(cards(page))[-1] == "broken.png"
    page.select_option("#sort", "name")
    assert list(cards(page)) == sorted(said)
    label = said["cat.jpg"].split()[0]
    page.select_option("#filter", f"={label}")
    assert cards(page) == {name: text for name, text in sorted(said.items()) if text.startswith(f"{label} ")}
    page.select_option("#filter", "!")
    assert list(cards(page)) == ["broken.png"]


def saved(page: Page, button: str) -> str:
    with page.expect_download() as download:
        page.click(button)
    return Path(download.value.path()).read_text()


def test_csv_and_json_hold_every_answer_and_every_error(page: Page) -> None:
    said = several(page)
    documents: list[dict[str, Any]] = json.loads(saved(page, "#json"))
    rows = list(csv.DictReader(io.StringIO(saved(page, "#csv"))))
    assert [row["file"] for row in rows] == [document["file"] for document in documents] == list(said)
    for row, document in zip(rows, documents, strict=True):
        if row["file"] == "broken.png":
            assert row["error"] == document["error"]["code"] == "undecodable_image"
            assert row["detail"] == document["error"]["detail"]
            assert row["request_id"] == document["error"]["request_id"]
        else:
            assert (row["prediction"], float(row["confidence"])) == (document["prediction"], document["confidence"])
            assert len(document["top_k"]) == 5


def test_at_most_four_requests_are_on_their_way(browser: Browser, moody: Running) -> None:
    moody.engine.gate.clear()
    with tab(browser, f"{moody.url}/") as page:
        on_their_way: list[int] = []
        page.on("request", lambda request: on_their_way.append(1) if request.url.endswith("/predict") else None)
        choose(page, *CLOUDS, CAT)
        expect(page.locator(".item.asking")).to_have_count(4)
        expect(page.locator(".item.waiting")).to_have_count(2)
        page.evaluate("fetch('health')")  # a round trip: a fifth request would have been seen by now
        assert len(on_their_way) == 4
        moody.engine.gate.set()
        expect(page.locator("#several-title")).to_have_text("6 images: 6 classified")


def test_a_card_opens_its_image(page: Page) -> None:
    said = several(page)
    page.locator(".open", has_text="clouds-3.png").click()
    expect(page.locator("#shown")).to_have_attribute("alt", "clouds-3.png")
    assert said["clouds-3.png"].split()[0] in page.inner_text("#answer")
    expect(page.locator(".item.current")).to_have_count(1)
    page.locator(".open", has_text="broken.png").click()
    assert page.inner_text("#answer") == "The image cannot be decoded"
    assert page.inner_text("#failure-id").startswith("undecodable_image, request ")
