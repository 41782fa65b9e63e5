"""The page without a mouse."""

from playwright.sync_api import Page, expect

from tests.page.browser import CAT, answered, choose
from tests.page.test_several import CLOUDS


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))


def test_tab_reaches_everything_and_enter_and_space_choose(page: Page) -> None:
    page.wait_for_selector("#sample-list button")
    expected = ["Skip to the content", "Classify", "Model card", "API", "file", "paste"]
    for name in expected:
        page.keyboard.press("Tab")
        assert focused(page) == name
    page.keyboard.press("Shift+Tab")
    for key in ("Enter", "Space"):
        with page.expect_file_chooser():
            page.keyboard.press(key)
    page.focus("#sample-list button")
    page.keyboard.press("Enter")
    answered(page)


def test_question_mark_lists_the_keys_and_escape_closes_the_list(page: Page) -> None:
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()


def test_single_letters_work_until_they_are_switched_off_and_never_while_typing(page: Page) -> None:
    choose(page, CAT)
    answered(page)
    page.keyboard.press("h")
    assert page.is_checked("#heat-on")
    expect(page.locator("#heat")).to_be_visible()
    page.focus("#heat-class")
    page.keyboard.press("h")  # chooses "horse"
    assert page.is_checked("#heat-on")
    page.focus("#clear")
    page.keyboard.press("?")
    page.click("#letters")
    page.keyboard.press("Escape")
    for key in ("h", "?"):
        page.keyboard.press(key)
    assert page.is_checked("#heat-on")
    expect(page.locator("#keys")).to_be_hidden()
    page.reload()
    page.click("#help")
    assert not page.is_checked("#letters")


def test_arrows_walk_through_the_cards_and_enter_opens_one(page: Page) -> None:
    choose(page, *CLOUDS)
    expect(page.locator("#several-title")).to_have_text("5 images: 5 classified")
    page.focus(".open")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#shown")).to_have_attribute("alt", "clouds-2.png")
    assert focused(page) == "answer"


def test_escape_clears_one_image_at_once_and_several_when_it_is_pressed_again(page: Page) -> None:
    choose(page, CAT)
    answered(page)
    page.keyboard.press("Escape")
    assert page.is_hidden("#result")
    assert focused(page) == "file"
    choose(page, *CLOUDS)
    expect(page.locator("#several-title")).to_have_text("5 images: 5 classified")
    page.keyboard.press("Escape")
    assert page.inner_text("#trouble") == "Esc again clears 5 images."
    assert page.locator(".item").count() == 5
    page.keyboard.press("Escape")
    assert page.locator(".item").count() == 0
