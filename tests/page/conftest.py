"""What the tests of the page share: one browser, the default model as a process, and a tab on it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from app.settings import DEFAULT_MODEL
from tests.page.browser import CHROMIUM, chromium, tab
from tests.page.running import Running, running
from tests.serving import Server
from tests.sharing import SharedServers


@pytest.fixture(scope="module")  # not longer: while Playwright is there, nobody else can run an event loop
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("no Chromium here; Debian's package is `chromium`")
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def service(servers: SharedServers) -> Server:
    return servers.serve(DEFAULT_MODEL, LOG_FORMAT="json", MAX_UPLOAD_BYTES=1_000_000)


@pytest.fixture
def page(browser: Browser, service: Server) -> Iterator[Page]:
    with tab(browser, f"{service.url}/") as opened:
        yield opened


@pytest.fixture
def moody(browser: Browser) -> Iterator[Running]:
    """A service of its own, to break."""
    with running() as started:
        yield started
