"""The other tabs in a browser: what they list is what the API answers, and what they change is changed."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from page_stack import CHAT, KEYS, NAMES, PageStack, chat
from page_visit import number
from playwright.sync_api import Locator, expect

GRAVE = {"serious", "critical"}


def cells(table: Locator) -> list[dict[str, str]]:
    table.wait_for()
    rows = table.evaluate("table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent.trim()))")
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def test_requests_are_listed_as_the_api_has_them(page_stack: PageStack, visit: Any) -> None:
    page = visit("/?tab=requests&org=acme&range=7d").page
    table = page.get_by_role("table", name="Served requests")
    events = page_stack.api("GET", "/api/events", org="acme", limit=50)["events"]
    assert [
        (row["Model"], row["Credential"], number(row["Prompt"]), number(row["Completion"]), number(row["Cost"]), row["Request id"])
        for row in cells(table)
    ] == [
        (
            event["model"] or "\N{EN DASH}",
            NAMES[event["credential"]],
            event["prompt_tokens"],
            event["completion_tokens"],
            Decimal(event["cost_usd"]),
            event["event_id"],
        )
        for event in events
    ]
    charged = next(event["event_id"] for event in events if event["cost_nano_usd"])
    table.locator("tbody tr", has_text=charged).locator("button").click()
    opened = page.get_by_role("dialog")
    lines = cells(opened.get_by_role("table"))
    assert sum(number(line["Cost"]) for line in lines[:-1]) == number(lines[-1]["Cost"]) > 0
    page.keyboard.press("Escape")
    expect(opened).to_have_count(0)
    page.get_by_label("Request id, or the client's own").fill(events[2]["event_id"])
    page.get_by_role("button", name="Find").click()
    expect(table.locator("tbody tr")).to_have_count(1)
    expect(table).to_contain_text(events[2]["event_id"])
    page.get_by_label("Request id, or the client's own").fill("nobodys-id")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("main")).to_contain_text("Nothing has this id in what you may see.")
    page.get_by_label("Request id, or the client's own").fill("")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("combobox", name="Outcome").select_option("client_error")
    expect(table.locator("tbody tr")).to_have_count(1)
    assert "outcome=client_error" in page.url


def test_requests_of_one_client_id_have_pages_each_gone_to_once(page_stack: PageStack, visit: Any) -> None:
    for number_ in range(3):
        body = chat("gpt-4o-mini", f"tokens={number_ + 1}")
        page_stack.run(page_stack.ask(f"tg_globex-app_{KEYS['globex-app']}", body, request_id="the-same-again"))
    page_stack.run(page_stack.caught_up())
    events = page_stack.api("GET", "/api/events", client_request_id="the-same-again")["events"]

    def prepare(page: Any) -> None:
        page.route("**/api/events?*", lambda route: route.continue_(url=route.request.url.replace("limit=50", "limit=1")))

    page = visit("/?tab=requests&org=globex&find=the-same-again", prepare=prepare, refused=("ERR_FAILED",)).page
    table = page.get_by_role("table", name="Served requests")
    for number_, event in enumerate(events):
        expect(table.locator("tbody tr")).to_have_count(1)
        expect(table).to_contain_text(event["event_id"])
        expect(page.locator("main")).to_contain_text(f"Page {number_ + 1}")
        if number_ < 2:
            page.get_by_role("button", name="Older").click()
    page.route("**/api/events?*", lambda route: route.abort())
    for _ in range(2):
        page.get_by_role("button", name="Newer").click()
        expect(page.locator("main")).to_contain_text("Not up to date: The console does not answer.")
    page.unroute("**/api/events?*")
    prepare(page)
    page.get_by_role("button", name="Newer").click()
    expect(table).to_contain_text(events[1]["event_id"])
    expect(page.locator("main")).to_contain_text("Page 2")


def test_requests_of_other_filters_do_not_stay_while_the_console_does_not_answer(visit: Any) -> None:
    seen = visit("/?tab=requests&org=acme&range=7d", refused=("ERR_FAILED",))
    expect(seen.page.get_by_role("table", name="Served requests")).to_be_visible()
    seen.page.route("**/api/events?*", lambda route: route.abort())
    seen.choose("Credential", "acme-web")
    expect(seen.page.locator("main .problem")).to_contain_text("The console does not answer.")
    expect(seen.page.get_by_role("table", name="Served requests")).to_have_count(0)


def test_who_sees_more_organizations_than_are_listed_at_once_chooses_one(visit: Any) -> None:
    error = {"message": "org: name up to 200 organizations: this token sees 243", "param": "org", "code": "invalid_parameter"}
    refused = visit(
        "/?tab=requests",
        prepare=lambda page: page.route(
            "**/api/events?*",
            lambda route: route.continue_() if "org=" in route.request.url else route.fulfill(status=400, json={"error": error}),
        ),
        refused=("400",),
    )
    expect(refused.page.locator("main")).to_contain_text("Choose one to see its requests.")
    refused.page.get_by_role("button", name="Globex Ltd").click()
    expect(refused.page.get_by_role("table", name="Served requests")).to_be_visible()


def test_what_one_tab_finds_is_not_looked_for_in_another(visit: Any) -> None:
    page = visit("/?tab=requests&org=acme&range=7d&find=some-id").page
    links = page.get_by_role("navigation").get_by_role("link")
    assert links.evaluate_all("links => links.map((link) => link.getAttribute('href'))") == [
        "/?org=acme&range=7d",
        "/?tab=requests&org=acme&range=7d&find=some-id",
        *(f"/?tab={tab}&org=acme&range=7d" for tab in ("limits", "prices", "export")),
    ]
    page.get_by_role("link", name="Prices").click()
    expect(page.get_by_label("Models that begin with")).to_have_value("")
    expect(page.locator("main table").first).to_be_visible()


def test_a_refused_request_says_why(page_stack: PageStack, visit: Any) -> None:
    seen = visit("/?tab=requests&org=scout&range=7d")
    seen.press("Refused")
    table = seen.page.get_by_role("table", name="Refused requests")
    refusals = page_stack.api("GET", "/api/refusals", org="scout")["refusals"]
    assert len(refusals) == 3
    assert [(row["Limit"], row["Why"], row["Request id"]) for row in cells(table)] == [
        (refusal["refused_by"], refusal["message"], refusal["request_id"]) for refusal in refusals
    ]
    table.locator("button").first.click()
    expect(seen.page.get_by_role("dialog")).to_contain_text(refusals[0]["message"])


def test_an_organization_runs_its_own_limit_and_credentials(page_stack: PageStack, visit: Any) -> None:
    page_stack.api("POST", "/api/organizations", {"id": "florist", "plan": "pay_as_you_go"})
    token = page_stack.api("POST", "/api/tokens", {"name": "florist", "access": "write", "organizations": ["florist"]})["token"]
    page = visit("/?tab=limits", token=token, refused=("403",)).page

    page.get_by_label("Limit in any 7 days, USD").fill("12.50")
    page.get_by_label("Warnings at, percent").fill("40, 90")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".banner.done")).to_contain_text("The limit is changed")
    (limit,) = page_stack.api("GET", "/api/organizations/florist")["effective"]["spend_limits"]
    assert (limit["usd"], limit["warn_at"]) == ("12.50", [0.4, 0.9])
    page.get_by_label("Limit in any 7 days, USD").fill("50")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".banner.paused")).to_contain_text("raising it takes")

    page.get_by_label("New Client ID").fill("florist-shop")
    page.get_by_label("Expires").fill("2020-01-01")  # a key that nobody could use
    page.get_by_role("button", name="Create credential").click()
    assert page.get_by_label("Expires").evaluate("input => input.validity.rangeUnderflow")
    page.get_by_label("Expires").fill("")
    page.get_by_role("button", name="Create credential").click()
    secret = page.get_by_role("textbox", name="The key of florist-shop").input_value()
    assert page_stack.run(eventually_status(page_stack, secret, 200))
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Rotate the key of florist-shop").click()
    page.get_by_role("button", name="Rotate", exact=True).click()
    rotated = page.get_by_role("textbox", name="The new key of florist-shop").input_value()
    assert rotated != secret
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Revoke florist-shop").click()
    page.get_by_role("button", name="Cancel").click()
    assert page_stack.api("GET", "/api/organizations/florist/credentials/florist-shop")["status"] == "active"
    page.get_by_role("button", name="Revoke florist-shop").click()
    page.get_by_role("button", name="Revoke for ever").click()
    expect(page.get_by_role("table", name="Credentials")).to_contain_text("revoked")
    assert page_stack.run(eventually_status(page_stack, rotated, 401))
    assert secret not in page.content()
    actions = [row["What"] for row in cells(page.get_by_role("table", name="The latest changes"))]
    assert actions == [
        "credential revoked",
        "credential rotated",
        "credential created",
        "organization changed",
        "organization created",
    ]


def test_the_limit_that_is_shown_is_the_one_that_is_changed(page_stack: PageStack, visit: Any) -> None:
    page_stack.api("POST", "/api/organizations", {"id": "bistro", "plan": "by_month"})
    trial = {"usd": "20", "window": "1d", "shadow": True, "warn_at": [0.5]}
    page_stack.api("POST", "/api/organizations", {"id": "cafe", "plan": "enterprise", "spend_limit": trial})
    for org, window, wanted in (("bistro", "a month", ["month", False]), ("cafe", "in any day", ["1d", True])):
        page = visit(f"/?tab=limits&org={org}").page
        page.get_by_label(f"Limit {window}, USD").fill("5")
        warn = page.get_by_label("Warnings at, percent")
        for unsound in ("high", "80, 50", "0.05", "0", "101", "50, 50"):
            warn.fill(unsound)
            page.get_by_role("button", name="Save").click()
            assert warn.evaluate("input => input.validationMessage").startswith("Percent of the limit, above 0 and up to 100")
        warn.fill("25, 99.5")
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".banner.done")).to_contain_text("The limit is changed")
        (limit,) = page_stack.api("GET", f"/api/organizations/{org}")["effective"]["spend_limits"]
        assert [limit["window"], limit["shadow"]] == wanted
        assert (limit["usd"], limit["warn_at"]) == ("5.00", [0.25, 0.995])


def test_what_is_begun_for_one_organization_does_not_hide_anothers_limits(page_stack: PageStack, visit: Any) -> None:
    for org, usd in (("inn", "7.25"), ("brewery", "9.75")):
        page_stack.api("POST", "/api/organizations", {"id": org, "plan": "pay_as_you_go", "spend_limit": {"usd": usd}})
    seen = visit("/?tab=limits&org=inn")
    limit = seen.page.get_by_label("Limit in any 7 days, USD")
    expect(limit).to_have_value("7.25")
    limit.fill("3.21")
    seen.choose("Organization", "brewery")
    expect(limit).to_have_value("9.75")
    seen.choose("Organization", "inn")
    expect(limit).to_have_value("7.25")


async def eventually_status(stack: PageStack, api_key: str, status: int) -> bool:
    """Whether a request comes to be answered so: a change reaches every worker within a second."""
    for _ in range(200):
        if await stack.ask(api_key, chat("gpt-4o-mini", "tokens=5"), CHAT) == status:
            return True
    return False


def test_plans_say_what_can_be_taken_away(page_stack: PageStack, visit: Any, tmp_path: Path) -> None:
    seen = visit("/?tab=export&org=globex&range=7d")
    with seen.page.expect_download() as downloaded:
        seen.page.get_by_role("link", name="Download").click()
    downloaded.value.save_as(tmp_path / "export.csv")
    rows = (tmp_path / "export.csv").read_text().splitlines()
    assert len(rows) == 1 + len(page_stack.api("GET", "/api/events", org="globex")["events"]) > 1
    invoice = seen.page.get_by_role("link", name="JSON").first.get_attribute("href")
    assert seen.context.request.get(page_stack.url + invoice).status == 200

    years = visit("/?tab=export&org=globex&range=custom&from=2020-01-01&until=2024-01-01", refused=("400",))
    with years.context.expect_page() as opened:
        years.page.get_by_role("link", name="Download").click()
    expect(opened.value.locator("body")).to_contain_text("to: the range may have at most 366 days")
    expect(years.page.get_by_role("link", name="Download")).to_be_visible()

    other = visit("/?tab=export&org=acme")
    expect(other.page.locator("main")).to_contain_text("The plan pay_as_you_go has no export.")
    statement = other.page.get_by_role("link", name="JSON").first.get_attribute("href")
    assert other.context.request.get(page_stack.url + statement).status == 200


def test_a_tab_that_cannot_be_loaded_says_so_below_the_header(visit: Any) -> None:
    broken = visit(
        "/?tab=prices", prepare=lambda page: page.route("**/prices_tab.js", lambda route: route.abort()), refused=("ERR_",)
    )
    expect(broken.page.locator("main .problem")).to_be_visible()
    broken.page.get_by_role("link", name="Usage", exact=True).click()
    broken.settled()
    expect(broken.page.get_by_role("region", name="Charts")).to_be_visible()


def test_prices_are_those_of_the_api(page_stack: PageStack, visit: Any) -> None:
    page = visit("/?tab=prices&org=acme&find=gpt-4o").page
    table = page.get_by_role("table", name="What models cost")
    models = page_stack.api("GET", "/api/prices", model="gpt-4o*", limit=50)["models"]
    rates = {model["model"]: {rate["unit"]: Decimal(rate["usd"]) for rate in model["rows"][0]["rates"]} for model in models}
    shown = {row["Model"]: (number(row["Prompt"]), number(row["Completion"])) for row in cells(table)}
    assert shown == {model: (found["input"], found["output"]) for model, found in rates.items()}
    table.get_by_role("button", name="gpt-4o", exact=True).click()
    (price,) = page_stack.api("GET", "/api/prices", model="gpt-4o")["models"][0]["rows"][:1]
    lines = cells(page.get_by_role("dialog").get_by_role("table").first)
    assert [(line["Unit"], number(line["USD"])) for line in lines] == [
        (rate["name"], Decimal(rate["usd"])) for rate in price["rates"]
    ]
    page.keyboard.press("Escape")
    page.get_by_label("Models that begin with").fill("nobodys-model")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("main")).to_contain_text("No model with a price begins so.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_the_tabs(visit: Any, scheme: str) -> None:
    phone = {"viewport": {"width": 360, "height": 740}}
    for path, options in (
        ("/?tab=requests&org=acme", {}),
        ("/?tab=requests&org=scout&kind=refused", phone),
        ("/?tab=limits&org=acme", phone),
        ("/?tab=limits", {}),
        ("/?tab=prices", phone),
        ("/?tab=export&org=globex", phone),
    ):
        seen = visit(path, color_scheme=scheme, **options)
        seen.page.locator("main .card h2, main .card table").first.wait_for()
        if "requests" in path or "prices" in path:
            seen.page.locator("table button").first.click()
        found = Axe().run(seen.page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in GRAVE] == [], path
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= seen.page.viewport_size["width"]
