"""What people see when something is wrong: in its place, in words, and gone when it is over."""

import re
import threading
from pathlib import Path

import httpx2
from playwright.sync_api import Browser, Page, expect

from app.engines import EngineError
from app.settings import DEFAULT_MODEL
from tests.page.browser import CAT, answered, choose, tab
from tests.page.running import Running, running
from tests.serving import serving

HEIC = ("IMG_0001.HEIC", b"\x00\x00\x00\x18ftypheic" + bytes(200))


def test_heic_is_refused_with_what_an_iphone_can_do_about_it(page: Page) -> None:
    choose(page, HEIC)
    page.wait_for_selector("#failure:not([hidden])")
    assert page.inner_text("#answer") == "The file is not an accepted image type"
    assert page.inner_text("#remark") == (
        "The file is HEIC; accepted: JPEG, PNG, WebP, BMP, GIF, TIFF. "
        "iPhone: Settings, Camera, Formats, Most Compatible."
    )
    assert re.fullmatch("unsupported_image, request [0-9a-f]{32}", page.inner_text("#failure-id"))
    assert page.inner_text("#unseen") == "This browser cannot show HEIC."
    assert page.evaluate("document.activeElement.id") == "answer"


def test_a_file_above_the_limit_is_not_sent(page: Page) -> None:
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    choose(page, ("large.jpg", bytes(1_200_000)))
    page.wait_for_selector("#failure:not([hidden])")
    assert page.inner_text("#remark") == "1.2 MB; the limit is 1 MB (SIGHTGLASS_MAX_UPLOAD_BYTES)."
    assert not [url for url in asked if url.endswith("/predict")]


def test_a_full_queue_is_waited_for_as_long_as_the_service_says(browser: Browser) -> None:
    with running(max_queue=1) as service, tab(browser, f"{service.url}/") as page:
        service.engine.gate.clear()
        other = threading.Thread(target=lambda: httpx2.post(f"{service.url}/predict", content=CAT.read_bytes()))
        other.start()
        while "queue_images 1.0" not in httpx2.get(f"{service.url}/metrics").text:
            pass
        choose(page, CAT)
        expect(page.locator("#remark")).to_have_text("The service is busy; trying again in 1 s.")
        service.engine.gate.set()
        other.join()
        assert answered(page).startswith("cat ")


def test_an_image_is_kept_while_the_service_is_not_ready_and_sent_when_it_is(browser: Browser, moody: Running) -> None:
    with tab(browser, f"{moody.url}/") as page:
        expect(page.locator("#state")).to_have_text("ready")
        moody.engine.mood = EngineError("The device is gone.")
        choose(page, CAT)
        expect(page.locator("#banner")).to_contain_text("Not ready: The device is gone.")
        expect(page.locator("#state")).to_have_text("not ready")
        expect(page.locator("#remark")).to_have_text("Kept; sent when the service is ready.")
        moody.engine.mood = None
        page.wait_for_selector("#found:not([hidden])", timeout=30_000)
        assert page.inner_text("#answer").startswith("cat ")
        assert page.is_hidden("#banner")
        assert page.inner_text("#state") == "ready"


def test_a_page_that_is_opened_while_the_service_is_not_ready_says_so(browser: Browser, moody: Running) -> None:
    moody.engine.mood = EngineError("The device is gone.")
    assert httpx2.post(f"{moody.url}/predict", content=CAT.read_bytes()).status_code == 503
    with tab(browser, f"{moody.url}/") as page:
        expect(page.locator("#banner")).to_contain_text("The device is gone.")


def test_a_lost_connection_is_waited_for(page: Page) -> None:
    for _time in ("once", "again"):
        page.context.set_offline(True)
        choose(page, CAT)
        expect(page.locator("#banner")).to_contain_text("The service does not answer.")
        page.context.set_offline(False)
        assert answered(page).startswith("cat ")
        expect(page.locator("#banner")).to_be_hidden()


def test_escape_stops_a_request_and_the_image_can_be_sent_again(browser: Browser, moody: Running) -> None:
    with tab(browser, f"{moody.url}/") as page:
        moody.engine.gate.clear()
        with page.expect_event("requestfailed"):  # aborted, so that the service drops it too
            choose(page, CAT)
            page.wait_for_selector("#skeleton:not([hidden])")
            page.keyboard.press("Escape")
        assert page.inner_text("#answer") == "Stopped"
        moody.engine.gate.set()
        page.click("#retry")
        assert answered(page).startswith("cat ")


def test_a_heat_map_that_cannot_be_had_is_said_beside_its_switch(browser: Browser) -> None:
    """The deadline is over before the engine has answered."""
    with running(deadline_ms=1000) as service, tab(browser, f"{service.url}/") as page:
        choose(page, CAT)
        answered(page)
        service.engine.gate.clear()
        page.click("#heat-on")
        expect(page.locator("#heat-said")).to_contain_text("No heat map. ")
        assert page.is_hidden("#heat")
        assert page.inner_text("#answer").startswith("cat ")


def test_a_key_is_asked_for_where_the_service_wants_one(browser: Browser, tmp_path: Path) -> None:
    with (
        serving(DEFAULT_MODEL, tmp_path, API_KEYS="page:correct-horse-battery") as server,
        tab(browser, f"{server.url}/") as page,
    ):
        choose(page, CAT)
        page.fill("#key-text", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-said")).to_have_text("That key was not accepted.")
        for typed in ("ключ-от-сервиса", "two words"):  # no header can carry the first
            page.fill("#key-text", typed)
            page.keyboard.press("Enter")
            expect(page.locator("#key-said")).to_have_text("No such key: one is printable ASCII without spaces.")
            assert page.is_visible("#key")
            page.fill("#key-text", "wrong")
            page.keyboard.press("Enter")
            expect(page.locator("#key-said")).to_have_text("That key was not accepted.")
        assert page.is_hidden("#banner")
        page.fill("#key-text", " correct-horse-battery ")  # as it is pasted
        page.click("#key button")
        assert answered(page).startswith("cat ")
        assert page.is_hidden("#key")
        assert page.evaluate("sessionStorage.length") == 1
        page.click("[data-code=curl]")
        snippet = page.inner_text("#snippet")
        assert "correct-horse-battery" not in snippet
        assert '-H "Authorization: Bearer $SIGHTGLASS_API_KEY"' in snippet
        for language, read in (
            ("python", "os.environ['SIGHTGLASS_API_KEY']"),
            ("js", "process.env.SIGHTGLASS_API_KEY"),
        ):
            page.click(f"[data-code={language}]")
            assert read in page.inner_text("#snippet")
        page.click("nav a[href='#card']")
        page.wait_for_selector("#card-body h3")
        page.click("nav >> text=API")
        page.wait_for_selector(".opblock-summary-post")  # no link can carry a key
