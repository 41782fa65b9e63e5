"""`python -m tests.page.screenshots`: the images of docs/images, from the service as it is."""

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from app.settings import DEFAULT_MODEL
from tests.page.browser import CAT, answered, choose, chromium, tab
from tests.page.test_several import MANY
from tests.serving import serving

IMAGES = CAT.parent / "docs/images"


def main() -> None:
    """One answer with its heat map, several images, and a phone; each in both colour schemes."""
    IMAGES.mkdir(exist_ok=True)
    with (
        chromium() as browser,
        tempfile.TemporaryDirectory() as folder,
        serving(DEFAULT_MODEL, Path(folder)) as service,
    ):
        for scheme in ("light", "dark"):
            with tab(browser, f"{service.url}/", 1200, scheme) as page:
                _explained(page)
                _save(page, f"page-{scheme}", 690)
                choose(page, *MANY)
                expect(page.locator("#several-title")).to_have_text("7 images: 6 classified, 1 not")
                page.locator(".open").first.click()
                expect(page.locator("#heat")).to_be_visible()
                page.evaluate("document.activeElement.blur()")
                _save(page, f"several-{scheme}", 1180)
            with tab(browser, f"{service.url}/", 390, scheme, device_scale_factor=2) as page:
                _explained(page)
                _save(page, f"phone-{scheme}", 844)


def _explained(page: Page) -> None:
    choose(page, CAT)
    answered(page)
    page.click("#heat-on")
    expect(page.locator("#heat")).to_be_visible()
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")


def _save(page: Page, name: str, height: int) -> None:
    width = page.viewport_size["width"] if page.viewport_size else 0
    png = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})
    Image.open(io.BytesIO(png)).save(IMAGES / f"{name}.webp", quality=80, method=6)


if __name__ == "__main__":
    main()
