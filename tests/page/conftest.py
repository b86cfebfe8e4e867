"""One stack and one browser for all tests of the page, and pages that fail on what no page of ours may do."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from page_stack import PageStack, running_page_stack
from page_visit import PageVisit
from playwright.sync_api import Browser, sync_playwright

Visit = Callable[..., PageVisit]


@pytest.fixture(scope="session")
def page_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageStack]:
    with running_page_stack(Path(tmp_path_factory.mktemp("page"))) as stack:
        yield stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium: Playwright's own is not on PyPI. While it is open, no other event loop can run in this thread."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "no chromium: .ci/packages installs it"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(page_stack: PageStack, browser: Browser) -> Iterator[Visit]:
    """Opens a page in a browser of its own, signed in with a token; "" for nobody. What it may not do is checked at the end.

    prepare   called with the page before it is opened
    refused   what a browser may report: the status of an answer
    """
    with ExitStack() as closing:

        def visited(
            path: str = "/", *, token: str | None = None, refused: tuple[str, ...] = (), prepare: Any = None, **options: Any
        ) -> PageVisit:
            context = browser.new_context(**options)
            closing.callback(context.close)
            seen = PageVisit(page_stack.url, context, refused)
            closing.callback(seen.check)
            if prepare is not None:
                prepare(seen.page)
            seen.open(path, page_stack.token if token is None else token)
            return seen

        yield visited
