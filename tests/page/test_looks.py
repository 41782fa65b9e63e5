"""Every view at every width, in both colour schemes: nothing sticks out, and axe finds nothing serious."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.page.browser import CAT, answered, choose, tab
from tests.page.running import running
from tests.page.test_several import MANY
from tests.page.test_trouble import HEIC
from tests.serving import Server

TARGET_PIXELS = 44


def empty(page: Page) -> None:
    page.wait_for_selector("#sample-list img")


def result(page: Page) -> None:
    choose(page, CAT)
    answered(page)
    page.click("#heat-on")
    expect(page.locator("#heat")).to_be_visible()
    page.click("[data-code=python]")


def error(page: Page) -> None:
    choose(page, HEIC)
    page.wait_for_selector("#failure:not([hidden])")


def several(page: Page) -> None:
    choose(page, *MANY)
    expect(page.locator("#several-title")).to_have_text("6 images: 5 classified, 1 not")


def card(page: Page) -> None:
    page.click("nav a[href='#card']")
    page.wait_for_selector("#card-body h3")


def keys(page: Page) -> None:
    page.click("#help")


VIEWS = [empty, result, error, several, card, keys]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_nothing_serious_stands_in_anybodys_way(
    browser: Browser, service: Server, view: Callable[[Page], None], scheme: str
) -> None:
    with tab(browser, f"{service.url}/", 390, scheme) as page:
        view(page)
        found = Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


@pytest.mark.parametrize("width", [320, 390, 1440])
def test_nothing_sticks_out_and_fingers_find_everything(browser: Browser, service: Server, width: int) -> None:
    with tab(browser, f"{service.url}/", width) as page:
        for view in VIEWS:
            page.reload()
            view(page)
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), view
            small = page.evaluate(
                """(pixels) => [...document.querySelectorAll("a, button, select, .button, .switch")]
                    .filter((each) => each.checkVisibility() && !each.matches(".skip"))
                    .filter((each) => Math.round(each.getBoundingClientRect().height) < pixels)
                    .map((each) => each.outerHTML)""",
                TARGET_PIXELS,
            )
            assert small == [], view
            page.evaluate("history.replaceState(null, '', '.')")


def test_motion_stops_for_those_who_ask_for_it(browser: Browser, service: Server) -> None:
    with tab(browser, f"{service.url}/", reduced_motion="reduce") as page:
        moving = page.evaluate(
            """[...document.querySelectorAll("*")].map((each) => getComputedStyle(each))
                .filter(({ animationDuration, transitionDuration }) =>
                    parseFloat(animationDuration) || parseFloat(transitionDuration)).length"""
        )
        assert moving == 0


def test_the_page_works_below_a_path_that_a_proxy_puts_in_front(browser: Browser) -> None:
    with running(prefix="/vision") as service, tab(browser, f"{service.url}/") as page:
        page.click("#sample-list button")
        answered(page)
        result(page)
        card(page)
        assert "cifar10 1" in page.inner_text("#card-title")
