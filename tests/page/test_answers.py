"""One image in the browser, from each place that an image can come from, and everything that is said about it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from app.artifact import manifest
from app.artifact.decoder.decode import decode
from app.artifact.decoder.geometry import Fit
from app.artifact.doubt import Accept, Doubt, PredictionSet, Unfamiliar
from app.settings import DEFAULT_MODEL
from tests.app.artifacts import reseal
from tests.images import drawing, encode
from tests.page.browser import CAT, answered, choose, drawn, tab
from tests.page.running import running
from tests.serving import Server, serving


def predicted(service: Server, data: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = httpx2.post(f"{service.url}/predict", content=data).json()
    return answer


def shown(page: Page) -> list[list[str]]:
    """The table of bars: labels and percentages."""
    return [
        [row.locator("th").inner_text(), row.locator("td").last.inner_text()] for row in page.locator("#bars tr").all()
    ]


def test_one_click_on_a_sample_is_the_first_success(page: Page, service: Server) -> None:
    page.wait_for_selector("#sample-list button")
    page.click("#sample-list li:nth-child(2) button")
    heading = answered(page)
    sample = httpx2.get(f"{service.url}/page/samples/1").content
    answer = predicted(service, sample)
    assert answer["prediction"] in heading
    assert f"{100 * answer['confidence']:.1f} %" in heading
    assert page.evaluate("document.activeElement.id") == "answer"


def test_a_chosen_file_is_sent_as_it_is_and_its_numbers_are_the_services(page: Page, service: Server) -> None:
    with page.expect_file_chooser() as chooser:
        page.click("#file")
    assert chooser.value.is_multiple()
    chooser.value.set_files(CAT)
    assert answered(page).startswith("cat ")
    logged = next(line for line in map(json.loads, reversed(service.lines())) if line.get("route") == "/predict")
    assert (logged["bytes_in"], logged["format"], logged["width"]) == (CAT.stat().st_size, "JPEG", 451)
    expected = [
        [row["class"], f"{100 * row['probability']:.1f} %"] for row in predicted(service, CAT.read_bytes())["top_k"]
    ]
    assert shown(page) == expected
    assert page.inner_text("#said") == f"cat.jpg: cat, {expected[0][1]}"
    assert re.search(r"\d+ ms there and back; .*decode \d.*queue \d.*model \d", page.inner_text("#timing"))


def test_an_image_in_the_clipboard_is_pasted_anywhere(page: Page) -> None:
    page.evaluate(
        """async (bytes) => {
            const blob = new Blob([new Uint8Array(bytes)], {type: "image/png"});
            await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
        }""",
        list(encode(Image.open(CAT).resize((90, 60)))),
    )
    page.keyboard.press("Control+V")
    assert answered(page).startswith("cat ")
    page.click("#clear")
    page.click("#paste")
    assert answered(page).startswith("cat ")


def test_text_in_the_clipboard_is_said_to_be_no_image(page: Page) -> None:
    page.evaluate("navigator.clipboard.writeText('a text')")
    page.keyboard.press("Control+V")
    expect(page.locator("#trouble")).to_have_text("The clipboard holds no image.")


def test_a_dropped_image_is_classified(page: Page) -> None:
    carried = page.evaluate_handle(
        """(bytes) => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(bytes)], "cat.jpg", {type: "image/jpeg"}));
            return carried;
        }""",
        list(CAT.read_bytes()),
    )
    page.dispatch_event("#box", "dragover", {"dataTransfer": carried})
    assert "over" in (page.get_attribute("#box", "class") or "")
    page.dispatch_event("#box", "drop", {"dataTransfer": carried})
    assert answered(page).startswith("cat ")
    assert "over" not in (page.get_attribute("#box", "class") or "")


def test_what_the_model_saw_is_what_the_decoder_makes(page: Page) -> None:
    turned = encode(Image.open(CAT).resize((300, 451)), "JPEG", orientation=6, quality=95)
    choose(page, ("turned.jpg", turned))
    answered(page)
    page.wait_for_selector("#saw:not([hidden])")
    spec = manifest.load(DEFAULT_MODEL).input
    seen = drawn(page, "#saw canvas").astype(int)[..., :3]
    # the browser's own resampling: a turned or shifted crop differs by 30 and more
    assert np.abs(seen - decode(turned, spec).pixels).mean() < 8
    assert "middle 300 \N{MULTIPLICATION SIGN} 300 of 451 " in page.inner_text("#saw-how")


@pytest.mark.parametrize(
    ("fit", "size", "words"),
    [
        ("squash", (400, 100), "All 400 x 100 pixels, as 32 x 32."),
        ("pad", (400, 100), "All 400 x 100 pixels, as 32 x 32, with grey around it."),
        ("pad", (90, 300), "All 90 x 300 pixels, as 32 x 32, with grey around it."),
        ("pad", (100, 100), "All 100 x 100 pixels, as 32 x 32."),
    ],
)
def test_what_the_model_saw_is_fitted_as_the_decoder_does(
    fit: Fit, size: tuple[int, int], words: str, page: Page
) -> None:
    def fitted(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace('data-fit="crop"', f'data-fit="{fit}"'))

    page.route("**/", fitted)
    page.reload()
    file = encode(Image.open(CAT).resize(size))
    choose(page, ("cat.png", file))
    answered(page)
    page.wait_for_selector("#saw:not([hidden])")
    spec = manifest.load(DEFAULT_MODEL).input.model_copy(update={"fit": fit})
    seen = drawn(page, "#saw canvas").astype(int)[..., :3]
    assert np.abs(seen - decode(file, spec).pixels).mean() < 8
    assert page.inner_text("#saw-how").replace("\N{MULTIPLICATION SIGN}", "x") == words


def test_tiff_is_classified_although_no_browser_shows_it(page: Page) -> None:
    choose(page, ("cat.tif", encode(Image.open(CAT), "TIFF")))
    assert answered(page).startswith("cat ")
    page.wait_for_selector("#unseen:not([hidden])")
    assert page.inner_text("#unseen") == "This browser cannot show TIFF."
    assert page.is_hidden("#saw")


def test_an_unsure_answer_is_not_written_in_bold(page: Page, service: Server) -> None:
    file = next(
        data for seed in range(100) if predicted(service, data := encode(drawing(seed=seed)))["confidence"] <= 0.5
    )
    choose(page, ("clouds.png", file))
    assert answered(page).startswith("Perhaps ")
    assert page.inner_text("#remark") == "Unsure: no class has more than half of the probability."


def test_an_answer_below_the_reports_line_is_for_a_person(browser: Browser, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DEFAULT_MODEL, tmp_path / "cifar10" / "1"))
    content = json.loads((folder / "report.json").read_text())
    content["reject_below"] = {"confidence": 0.995, "coverage": 0.5, "accuracy": 0.99}
    (folder / "report.json").write_text(json.dumps(content))
    reseal(folder)
    with serving(folder, tmp_path / "log") as service, tab(browser, f"{service.url}/") as page:
        choose(page, CAT)
        assert answered(page).startswith("Perhaps cat ")
        assert page.inner_text("#remark").startswith("Unsure: below 99.5 %, the line from which ")


def test_what_is_doubtful_is_said_in_a_sentence_and_the_labels_that_it_may_be(browser: Browser) -> None:
    def doubt(threshold: float) -> Doubt:
        return Doubt(
            n=5000,
            unfamiliar=Unfamiliar(score="max-local-logit", threshold=threshold, accepts=0.95),
            accept=Accept(confidence=0.5, shown=0.99),
            set=PredictionSet(score="least-ambiguous", probability=0.001, coverage=0.95),
        )

    with running(doubt=doubt(0)) as familiar, tab(browser, f"{familiar.url}/") as page:
        choose(page, CAT)
        assert answered(page).startswith("cat ")
        said = page.inner_text("#remark")
        assert said.startswith("It is one of cat, ")
        assert said.endswith(", as 95.0 % of images like those it knows.")
    with running(doubt=doubt(-1e6)) as strange, tab(browser, f"{strange.url}/") as page:
        choose(page, CAT)
        assert answered(page).startswith("Perhaps cat ")
        assert page.inner_text("#remark") == "Not like anything it was trained on."
        expect(page.locator("#answer")).to_have_class("unsure")
        choose(page, ("again.jpg", CAT.read_bytes()))
        expect(page.locator(".item.unsure")).to_have_count(2)
        assert page.locator(".item p").first.inner_text() == "Not like anything it was trained on."


@pytest.mark.parametrize("language", ["curl", "python", "js"])
@pytest.mark.parametrize("name", ["cat.jpg", 'it\'s a "cat".jpg', ""])
def test_the_copied_call_gives_the_answer_of_the_page_byte_for_byte(
    page: Page, tmp_path: Path, language: str, name: str
) -> None:
    with page.expect_response("**/predict") as response:
        if name:
            choose(page, (name, CAT.read_bytes()))
            (tmp_path / name).write_bytes(CAT.read_bytes())
        else:
            page.click("#sample-list button")
    answered(page)
    page.click(f"[data-code={language}]")
    expect(page.locator("#copied")).to_have_text("copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.text_content("#snippet")
    if language == "js" and not shutil.which("node"):
        pytest.skip("no Node.js here")
    programs = {"curl": ["bash", "-c"], "python": [sys.executable, "-c"], "js": ["node", "--input-type=module", "-e"]}
    done = subprocess.run([*programs[language], copied], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if language == "curl":
        assert done.stdout == response.value.text()
    else:  # printed by those languages' own rules
        assert str(response.value.json()["confidence"])[:8] in done.stdout


def test_a_heat_map_lies_where_the_model_looks(page: Page, service: Server) -> None:
    explained = httpx2.post(f"{service.url}/explain", content=CAT.read_bytes()).json()
    choose(page, CAT)
    answered(page)
    page.click("#heat-on")
    page.wait_for_selector("#heat:not([hidden])")
    grid, box = np.array(explained["heatmap"]), explained["box"]
    row, column = np.unravel_index(grid.argmax(), grid.shape)
    pixels = drawn(page, "#heat").astype(int)
    assert pixels.shape[:2] == (300, 451)
    assert not pixels[:, :75, 3].any()  # nothing outside of what the model saw
    assert not pixels[:, 377:, 3].any()
    assert pixels[:, 77:375, 3].all()  # to its edges, which the grid does not reach
    brightest = np.argwhere(pixels[..., :3].sum(axis=2) == pixels[..., :3].sum(axis=2).max()).mean(axis=0)
    cell = (box["right"] - box["left"]) / grid.shape[1]
    assert abs(brightest[1] - (box["left"] + (column + 0.5) * cell)) < cell
    assert abs(brightest[0] - (box["top"] + (row + 0.5) * cell)) < cell
    assert re.fullmatch(r"Heat map of cat: strongest at [a-z ]+", page.get_attribute("#heat", "aria-label") or "")

    page.fill("#opacity", "30")
    assert page.evaluate("document.querySelector('#heat').style.opacity") == "0.3"
    assert len(page.locator("#heat-class option").all()) == 10
    page.select_option("#heat-class", "truck")
    expect(page.locator("#heat")).to_have_attribute("aria-label", re.compile("Heat map of truck"))
    page.click("#heat-on")
    assert page.is_hidden("#heat")
    assert page.is_hidden("#opacity")


def test_a_class_that_little_speaks_for_stays_dark_as_in_the_png(page: Page, service: Server) -> None:
    explained = httpx2.post(f"{service.url}/explain", params={"class": "truck"}, content=CAT.read_bytes()).json()
    share = np.max(explained["heatmap"]) / explained["strongest"]
    assert 0 < share < 0.5
    choose(page, CAT)
    answered(page)
    page.click("#heat-on")
    expect(page.locator("#heat")).to_have_attribute("aria-label", re.compile("Heat map of cat"))
    glowing = int(drawn(page, "#heat")[..., :3].max())
    page.select_option("#heat-class", "truck")
    expect(page.locator("#heat")).to_have_attribute("aria-label", re.compile("Heat map of truck"))
    assert int(drawn(page, "#heat")[..., :3].max()) < glowing * (share + 0.4)  # colours rise faster than the evidence
    expect(page.locator("#heat-said")).to_contain_text(f", {100 * share:.1f} % of this image's strongest evidence")


def test_without_javascript_the_form_still_posts(browser: Browser, service: Server) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{service.url}/")
    choose(page, CAT)
    page.click("#box button:has-text('Classify')")
    assert '"prediction":"cat"' in page.content()
    context.close()
