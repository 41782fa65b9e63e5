"""Debian's Chromium, and a tab of it that remembers what the page asked for and what went wrong."""

import base64
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
  violations.push(`${violatedDirective} ${blockedURI}`);
});
"""
CAT = Path(__file__).parent.parent.parent / "cat.jpg"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless, with a fresh profile; without Chromium's own sandbox, which containers do not allow."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS, chromium_sandbox=False)
        yield browser
        browser.close()


@contextmanager
def tab(browser: Browser, url: str, width: int = 1440, scheme: str = "light", **options: Any) -> Iterator[Page]:
    """A page at `url`; in the end it has asked nobody else, and neither its policy nor its script was broken."""
    phone = width < 500
    context = browser.new_context(
        viewport={"width": width, "height": 844 if phone else 900},
        color_scheme=scheme,
        is_mobile=phone,
        has_touch=phone,
        permissions=["clipboard-read", "clipboard-write"],
        **options,
    )
    context.add_init_script(_VIOLATIONS)
    context.set_default_timeout(15_000)
    page, asked, wrong = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("filechooser", lambda chooser: None)  # from now on, or Chromium hears of it later than of the first key
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(url)
    yield page
    violations = page.evaluate("violations")
    context.close()
    hosts = {urlsplit(each).netloc for each in asked if not each.startswith(("blob:", "data:"))}
    assert hosts == {urlsplit(url).netloc}
    assert (violations, wrong) == ([], [])


def choose(page: Page, *files: Path | tuple[str, bytes]) -> None:
    """Give files to the page's own input, as its file chooser does."""
    payload = [
        {"name": file.name, "mimeType": "", "buffer": file.read_bytes()}
        if isinstance(file, Path)
        else {"name": file[0], "mimeType": "", "buffer": file[1]}
        for file in files
    ]
    page.set_input_files("#file", payload)


def drawn(page: Page, canvas: str) -> NDArray[np.uint8]:
    """uint8[H, W, 4], RGBA, of a canvas."""
    png = page.evaluate(f"document.querySelector('{canvas}').toDataURL()").partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA"))


def answered(page: Page) -> str:
    """Wait for the answer of the image that is shown; its heading."""
    page.wait_for_selector("#found:not([hidden])")
    return page.inner_text("#answer")
