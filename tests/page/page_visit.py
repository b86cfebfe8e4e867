"""A page in a browser, what it asked for, and what it shows."""

from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Locator

PATIENCE_MS = 15_000


class PageVisit:
    def __init__(self, url: str, context: BrowserContext, refused: tuple[str, ...]) -> None:
        self.url = url
        self.context = context
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._refused = refused
        context.set_default_timeout(PATIENCE_MS)
        self.page = context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _note(self, kind: str, text: str) -> None:
        is_expected = any(word in text for word in self._refused)
        if kind in {"error", "warning"} and not is_expected:
            self.errors.append(text)

    def open(self, path: str, token: str) -> None:
        if token:
            made = self.context.request.post(f"{self.url}/api/session", data={"token": token}, headers={"Origin": self.url})
            assert made.status == 201, made.text()
        self.page.goto(self.url + path)
        if token:
            self.settled()

    def settled(self) -> None:
        """Wait until what the address names is shown."""
        self.page.locator("header:has(.top) ~ main:not([aria-busy])").wait_for()

    def check(self) -> None:
        """Fail if the page had an error, or asked another server than its own."""
        assert self.errors == []
        own = urlsplit(self.url).netloc
        foreign = [url for url in self.requests if urlsplit(url).netloc != own and not url.startswith("data:")]
        assert foreign == []

    def choose(self, label: str, value: str) -> None:
        box = self.page.get_by_role("combobox", name=label, exact=True).first
        box.focus()  # as with a pointer or the keyboard: some lists are complete only then
        box.select_option(value)
        self.settled()

    def press(self, name: str) -> None:
        self.page.locator(".segments").get_by_role("button", name=name, exact=True).click()
        self.settled()

    def sums(self) -> dict[str, Any]:
        """The sums of the range, by the names of the usage API."""
        found = {}
        for element in self.page.locator("[data-sum]").all():
            found[str(element.get_attribute("data-sum"))] = number(element.locator("dd").first.inner_text())
        return found

    def table(self, heading: str) -> dict[str, dict[str, Decimal]]:
        """The figures behind a chart: of each row, the cells by their columns."""
        chart = self.figure(heading)
        details = chart.locator("details.behind")
        if details.get_attribute("open") is None:
            details.locator("summary").click()
        return rows_of(details.locator("table"))

    def ranking(self, heading: str) -> dict[str, dict[str, Decimal]]:
        return rows_of(self.figure(heading).locator("table"))

    def figure(self, heading: str) -> Locator:
        return self.page.locator(".figure", has=self.page.get_by_role("heading", name=heading, exact=True))


def rows_of(table: Locator) -> dict[str, dict[str, Decimal]]:
    table.wait_for()
    rows = table.evaluate("table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent.trim()))")
    (_, *columns), *lines = rows
    return {label: {column: number(cell) for column, cell in zip(columns, cells, strict=True)} for label, *cells in lines}


def number(text: str) -> Decimal:
    """An amount as the page writes it, exactly."""
    return Decimal(text.replace(",", "").replace("$", "").replace("\N{MINUS SIGN}", "-").replace("%", "").strip())
