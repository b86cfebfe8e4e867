"""The Usage page in a browser, over a real `serve`: its figures are those of the usage API, and of what the simulator served."""

from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from page_stack import CHAT, NAMES, PageStack, chat
from page_visit import PageVisit, number
from playwright.sync_api import expect

ZONES = {"acme": "America/New_York", "globex": "Europe/Berlin"}
AMOUNTS = {"requests": "requests", "cost": "cost_usd"}
RANKINGS = {"By capability": "capability", "Top credentials": "credential", "Top models": "model"}
GRAVE = {"serious", "critical"}


def label_of(dimension: str, group: dict[str, str]) -> str:
    key = group[dimension]
    return NAMES.get(key, key) if dimension == "credential" else key or "no model"


def question(stack: PageStack, **filters: str) -> dict[str, str]:
    """Of the usage API for today, as the page means it."""
    zone = ZONES.get(filters.get("org", ""), "UTC")
    until_now = stack.api("GET", "/api/usage", time_zone=zone, bucket="total")
    last = datetime.fromisoformat(until_now["end"]) - timedelta(milliseconds=1)  # the end is rounded up, at times to midnight
    return {"time_zone": zone, "bucket": "total", "from": last.date().isoformat(), **filters}


def assert_is_shown(
    seen: PageVisit, stack: PageStack, view: str, stacks: tuple[str, ...] = ("capability",), **filters: str
) -> None:
    """What the page shows of today is what the usage API answers: sums, rankings, and each chart by these dimensions."""
    query = question(stack, **filters)
    totals = stack.api("GET", "/api/usage", **query)["totals"]
    shown = seen.sums()
    assert shown == {name: Decimal(totals[name]) for name in shown}
    assert len(shown) == 5
    for heading, dimension in RANKINGS.items():
        rows = stack.api("GET", "/api/usage", group_by=dimension, **query)["rows"]
        assert {label: {name: line[name] for name in line if name != "Share"} for label, line in seen.ranking(heading).items()} == {
            label_of(dimension, row["group"]): {
                "Requests": row["usage"]["requests"],
                "Tokens": row["usage"]["total_tokens"],
                "Cost": Decimal(row["usage"]["cost_usd"]),
            }
            for row in rows
        }, heading
    for dimension in stacks:
        if dimension != stacks[0]:
            seen.choose("Stacked by", dimension)
        rows = stack.api("GET", "/api/usage", group_by=dimension, **query)["rows"]
        charts = {"Prompt tokens": "prompt_tokens", "Completion tokens": "completion_tokens"} if view == "tokens" else {}
        for heading, amount in (charts or {f"{view.title()} by {dimension}": AMOUNTS[view]}).items():
            assert_chart(seen, heading, {label_of(dimension, row["group"]): Decimal(row["usage"][amount]) for row in rows})
    assert_chart(seen, "Cost per day", {"Cost": Decimal(totals["cost_usd"])})


def assert_chart(seen: PageVisit, heading: str, wanted: dict[str, Decimal]) -> None:
    """The table behind a chart has these sums, and its columns add up to them."""
    lines = seen.table(heading)
    sums = lines.pop("Total")
    assert {label: amount for label, amount in sums.items() if label != "Total"} == {
        label: amount for label, amount in wanted.items() if amount
    }, heading
    assert {label: sum(line[label] for line in lines.values()) for label in sums} == sums
    assert sums["Total"] == sum(wanted.values())


@pytest.mark.parametrize("view", ["requests", "tokens", "cost"])
def test_every_view_and_filter_shows_what_the_usage_api_answers(page_stack: PageStack, visit: Any, view: str) -> None:
    seen = visit(f"/?range=today&view={view}")
    assert_is_shown(seen, page_stack, view)
    seen.choose("Organization", "acme")
    assert_is_shown(seen, page_stack, view, ("capability", "credential", "model"), org="acme")
    seen.choose("Stacked by", "capability")
    seen.choose("Credential", "acme-web")
    assert_is_shown(seen, page_stack, view, org="acme", credential="acme-web")
    seen.choose("Capability", "chat")
    (model,) = page_stack.api("GET", "/api/usage/values", org="acme", credential="acme-web", capability="chat")["model"]
    seen.choose("Model", model)
    assert_is_shown(seen, page_stack, view, org="acme", credential="acme-web", capability="chat", model=model)


def test_the_page_shows_what_the_simulator_served(page_stack: PageStack, visit: Any) -> None:
    page_stack.run(page_stack.caught_up())
    seen = visit("/?range=today&stack=status")
    served = [record for record in page_stack.stack.ledger.records if record.request_id]
    shown = seen.sums()
    assert shown["requests"] == len(served)
    assert shown["prompt_tokens"] == sum(record.prompt_tokens for record in served if record.accepted) > 0
    assert shown["completion_tokens"] == sum(record.generated_tokens for record in served if record.accepted) > 0
    answered = Counter(page_stack.answers)
    by_status = seen.table("Requests by status")["Total"]
    assert {int(label[:3]): amount for label, amount in by_status.items() if label != "Total"} == answered
    outcomes = seen.table("Success, error and refused")["Total"]
    assert outcomes["Success"] == answered[200]
    assert outcomes["Refused"] == answered[403] + answered[429] == shown["refused"]
    assert outcomes["Error"] == answered[400] + answered[503]


def test_what_is_shown_is_in_the_address(visit: Any) -> None:
    seen = visit("/?org=acme&range=7d&view=tokens&by=hour&stack=model&zone=Asia%2FTokyo")
    page = seen.page
    pressed = page.locator(".segments [aria-pressed=true]").all_inner_texts()
    assert pressed == ["Tokens", "7 days"]
    expect(page.get_by_role("combobox", name="By", exact=True)).to_have_value("hour")
    expect(page.get_by_role("combobox", name="Time zone")).to_have_value("Asia/Tokyo")
    expect(page.locator(".part.state")).to_contain_text("GMT+9")
    seen.press("Cost")
    seen.press("Custom")
    page.get_by_label("From").fill("2026-01-05")
    seen.settled()
    assert "from=2026-01-05" in page.url
    assert "view=cost" in page.url
    page.go_back()
    page.go_back()
    page.go_back()
    seen.settled()
    assert page.locator(".segments [aria-pressed=true]").all_inner_texts() == ["Tokens", "7 days"]
    page.go_forward()
    seen.settled()
    assert page.locator(".segments [aria-pressed=true]").first.inner_text() == "Cost"


def test_an_address_that_makes_no_sense_shows_what_it_can(visit: Any) -> None:
    seen = visit("/?org=acme&tab=nothing&range=custom&from=2026-13-45&until=x&view=x&by=x&stack=x&zone=Nowhere%2FAt_all&other=1")
    assert seen.page.locator(".segments [aria-pressed=true]").all_inner_texts() == ["Requests", "30 days"]
    assert seen.sums()["requests"] > 0


@pytest.mark.parametrize("range_", ["from=2026-02-31&until=2026-03-05", "from=1999-12-31&until=2026-03-05"])
def test_a_range_that_the_usage_api_does_not_know_is_not_asked_for(visit: Any, range_: str) -> None:
    seen = visit(f"/?org=acme&range=custom&{range_}")
    assert seen.page.locator(".segments [aria-pressed=true]").all_inner_texts() == ["Requests", "30 days"]


@pytest.mark.parametrize(("zone", "shown"), [("europe/berlin", "Europe/Berlin"), ("+05:00", ""), ("Asia/Kolkata", "Asia/Kolkata")])
def test_zones_are_asked_for_by_the_names_that_the_usage_api_has(visit: Any, zone: str, shown: str) -> None:
    seen = visit(f"/?org=acme&range=today&zone={quote(zone)}")
    assert seen.page.get_by_role("combobox", name="Time zone").input_value() == shown
    assert seen.sums()["requests"] > 0


def test_a_zone_that_the_browser_does_not_know_yet_is_utc(visit: Any) -> None:
    def answer(route: Any) -> None:
        body = route.fetch().json()
        for organization in body["organizations"]:
            organization["time_zone"] = "Antarctica/Founded_last_week"
        route.fulfill(json=body)

    seen = visit("/?org=acme&range=7d", prepare=lambda page: page.route("**/api/organizations?*", answer))
    assert seen.sums()["requests"] > 0
    expect(seen.page.locator(".part.state")).to_contain_text("UTC")
    zones = seen.page.get_by_role("combobox", name="Time zone").locator("option")
    expect(zones.first).to_have_text("UTC (this browser does not know Antarctica/Founded_last_week)")


def test_a_plan_without_api_access_says_so(visit: Any) -> None:
    seen = visit("/?org=scout&range=today")
    expect(seen.page.locator(".standing .pill")).to_have_text("No API access")
    expect(seen.page.locator(".banner")).to_contain_text("The plan free includes no API access. Every request is refused")
    seen = visit("/?org=scout&range=custom&from=2026-01-01&until=2026-01-02")
    expect(seen.page.get_by_role("heading", name="No requests in this time")).to_be_visible()
    expect(seen.page.locator(".command")).to_have_count(0)  # no request to make
    expect(visit("/?org=acme&range=today").page.locator(".standing .pill")).to_have_text("Active")
    pills = visit("/?range=today").page.locator(".standing tr", has_text="Ltd").locator(".pill")
    expect(pills).to_have_text(["Active", "Active", "No API access"])


def test_what_the_usage_api_refuses_is_said_in_place_of_figures(visit: Any) -> None:
    seen = visit("/?org=acme&range=custom&from=2098-01-01&until=2098-01-02", refused=("400",))
    expect(seen.page.locator(".problem")).to_have_count(1)
    expect(seen.page.locator(".problem")).to_contain_text("2098-01-01T00:00:00-05:00")
    expect(seen.page.get_by_role("region", name="Charts")).to_be_hidden()
    expect(seen.page.locator(".part.state")).to_be_empty()
    nobody = visit("/?org=acme&credential=gone&range=today", refused=("404",))
    nobody.page.get_by_role("button", name="Show everything").click()
    nobody.settled()
    assert nobody.sums()["requests"] > 0


@pytest.mark.parametrize("body", ['{"rows": [', "<html>Sign in to our network</html>"])
def test_figures_of_other_filters_do_not_stay_if_the_answer_cannot_be_read(visit: Any, body: str) -> None:
    seen = visit("/?org=acme&range=today")
    seen.page.route("**/api/usage?*", lambda route: route.fulfill(status=200, body=body))
    seen.page.get_by_role("combobox", name="Credential").select_option("acme-batch")
    expect(seen.page.locator(".banner.stale")).to_contain_text("Not up to date: the console does not answer. Trying again")
    expect(seen.page.locator("[data-sum]").first).to_be_hidden()
    expect(seen.page.get_by_role("region", name="Charts")).to_be_hidden()
    assert "These are the figures of" not in seen.page.locator(".banner.stale").inner_text()
    seen.page.unroute("**/api/usage?*")
    seen.page.get_by_role("button", name="Try now").click()
    expect(seen.page.get_by_role("region", name="Charts")).to_be_visible()


def test_all_modules_are_fetched_at_once_and_once(visit: Any) -> None:
    """index.html names what the first view needs: a browser does not find out one import after another, nor asks again."""
    seen = visit("/?org=acme&range=today")
    fetched = [url.rpartition("/")[2] for url in seen.requests if url.endswith(".js")]
    named = [str(link.get_attribute("href")).rpartition("/")[2] for link in seen.page.locator("link[rel=modulepreload]").all()]
    assert sorted(fetched) == sorted([*named, "main.js"])
    files = "performance.getEntriesByType('resource').filter(({ name }) => name.includes('/page/'))"
    assert seen.page.evaluate(f"{files}.length") == len(fetched) + 1  # the style
    seen.page.goto(seen.url + "/?org=acme&range=today&view=cost")
    seen.settled()
    assert seen.page.evaluate(f"{files}.reduce((sum, {{ transferSize }}) => sum + transferSize, 0)") == 0


def test_the_first_chart_waits_for_what_it_needs_alone(visit: Any) -> None:
    """Three turns: who it is, what the header lists, the chart's own question; all else is asked meanwhile or later."""
    asked: list[tuple[str, str]] = []

    def note(page: Any) -> None:
        page.on("request", lambda request: asked.append(("asked", urlsplit(request.url).path)))
        page.on("requestfinished", lambda request: asked.append(("answered", urlsplit(request.url).path)))

    visit("/?org=acme&range=today", prepare=note)
    of_api = [(what, path) for what, path in asked if path.startswith("/api/")]
    listed = {"/api/organizations", "/api/capabilities", "/api/credentials"}
    turns = [{path for what, path in of_api[:one] if what == "answered"} for one in range(len(of_api)) if of_api[one][0] == "asked"]
    assert turns[:4] == [set(), *[{"/api/sign-in"}] * 3]
    assert {path for _, path in of_api[2:5]} == listed
    assert turns[4] == {"/api/sign-in", *listed}
    first = next(path for what, path in of_api[2:] if what == "asked" and path not in listed)
    assert first in {"/api/usage", "/api/spend"}


def test_every_time_zone_can_be_chosen(visit: Any) -> None:
    """Their list is made when somebody turns to it: it is longer than all else of the header together."""
    seen = visit("/?org=acme&range=today")
    zones = seen.page.get_by_role("combobox", name="Time zone").locator("option")
    assert zones.count() < 5
    seen.choose("Time zone", "Asia/Tokyo")
    assert "zone=Asia%2FTokyo" in seen.page.url
    assert seen.page.get_by_role("combobox", name="Time zone").input_value() == "Asia/Tokyo"
    seen.page.get_by_role("combobox", name="Time zone").focus()
    assert len(set(zones.all_inner_texts())) == zones.count() > 300


def test_charts_answer_to_pointer_keys_and_legend(visit: Any) -> None:
    seen = visit("/?org=acme&range=today")
    plot = seen.figure("Requests by capability").locator(".plot")
    plot.focus()
    seen.page.keyboard.press("End")
    while plot.get_attribute("aria-valuetext").endswith(": 0"):  # a quarter of an hour that has begun since may have no request yet
        assert plot.get_attribute("aria-valuenow") != "0"
        seen.page.keyboard.press("ArrowLeft")
    asked, column = plot.get_attribute("aria-valuetext"), plot.get_attribute("aria-valuenow")
    assert "Total" in plot.locator(".values").inner_text()
    assert "chat" in asked
    seen.page.keyboard.press("Home")
    assert plot.get_attribute("aria-valuenow") == "0"
    seen.page.keyboard.press("Escape")
    expect(plot.locator(".values")).to_be_hidden()
    box = plot.bounding_box()
    seen.page.mouse.move(box["x"] + box["width"] - 8, box["y"] + 60)
    expect(plot.locator(".values")).to_be_visible()
    marks = plot.locator(".column rect").count()
    legend = seen.figure("Requests by capability").get_by_role("button", name="chat")
    legend.click()
    expect(legend).to_have_attribute("aria-pressed", "false")
    assert plot.locator(".column rect").count() < marks
    plot.focus()
    seen.page.keyboard.press("End")
    while plot.get_attribute("aria-valuenow") != column:
        seen.page.keyboard.press("ArrowLeft")
    assert "chat" not in plot.get_attribute("aria-valuetext")


def test_a_pause_comes_and_goes_while_one_looks(page_stack: PageStack, visit: Any) -> None:
    page_stack.api("POST", "/api/organizations", {"id": "bakery", "plan": "pay_as_you_go", "spend_limit": {"usd": "0.01"}})
    api_key = page_stack.api("POST", "/api/organizations/bakery/credentials", {"id": "bakery-app"})["api_key"]
    seen = visit("/?org=bakery&range=today", prepare=lambda page: page.clock.install())
    page = seen.page
    expect(page.locator(".standing .pill")).to_have_text("Active")
    expect(page.get_by_role("heading", name="No requests in this time")).to_be_visible()
    expect(page.locator(".command code")).to_contain_text("curl ")

    def until(status: int) -> None:
        for _ in range(100):
            if page_stack.run(page_stack.ask(api_key, chat("gpt-4o", "tokens=60"), CHAT)) == status:
                return
        raise AssertionError(status)

    def refreshed(selector: str, text: str) -> None:
        for _ in range(40):
            page.clock.fast_forward(16_000)
            page.wait_for_timeout(100)
            if text in "".join(page.locator(selector).all_inner_texts()):
                return
        expect(page.locator(selector)).to_contain_text(text)

    until(200)
    until(429)
    refreshed(".banner.paused", "API access has been paused since")
    assert page.locator(".standing .pill").inner_text() == "Paused"
    spend = page_stack.api("GET", "/api/spend", org="bakery")
    banner = page.locator(".banner.paused")
    expect(banner).to_contain_text("Requests are served again on")
    assert number(page.locator(".limit .amount .usd").first.inner_text()) == Decimal(spend["rolling_7_days"]["spent"]["usd"])
    leaving = [number(text) for text in page.locator(".banner .leaving li .usd").all_inner_texts()]
    assert leaving == [Decimal(freed["amount"]["usd"]) for freed in spend["rolling_7_days"]["frees"]]
    assert sum(leaving) == Decimal(spend["rolling_7_days"]["spent"]["usd"])
    expect(page.locator("#announcer")).to_have_text("API access is paused.")

    key = visit("/?org=bakery&credential=bakery-app&range=today").page
    expect(key.locator(".standing .pill")).to_have_text("Paused")
    expect(key.locator(".banner.paused")).to_contain_text("API access has been paused since")
    page_stack.api("PATCH", "/api/organizations/bakery", {"spend_limit": {"usd": "50"}})
    until(200)
    refreshed(".standing .pill", "Active")
    expect(banner).to_have_count(0)


def test_figures_stay_while_the_console_does_not_answer(visit: Any) -> None:
    seen = visit("/?org=acme&range=today", prepare=lambda page: page.clock.install(), refused=("net::ERR_FAILED", "429"))
    page = seen.page
    before = seen.sums()
    page.route("**/api/**", lambda route: route.abort())
    page.clock.fast_forward(16_000)
    banner = page.locator(".banner.stale")
    expect(banner).to_contain_text("Not up to date: the console does not answer.")
    expect(banner).to_contain_text("Trying again in 15 seconds.")
    assert seen.sums() == before
    assert seen.table("Requests by capability")["Total"]["Total"] == before["requests"]
    page.unroute("**/api/**")
    page.route("**/api/**", lambda route: route.fulfill(status=429, json={"error": {"code": "busy", "message": "too many"}}))
    page.get_by_role("button", name="Try now").click()
    expect(banner).to_contain_text("Not up to date: too many.")
    assert seen.sums() == before
    page.unroute("**/api/**")
    page.get_by_role("button", name="Try now").click()
    expect(page.locator(".part.state")).to_contain_text("Data as of")
    expect(banner).to_have_count(0)


def test_a_hidden_page_asks_nothing(visit: Any) -> None:
    seen = visit("/?org=acme&range=today", prepare=lambda page: page.clock.install())
    seen.page.evaluate("Object.defineProperty(document, 'hidden', {configurable: true, get: () => true})")
    asked = len(seen.requests)
    seen.page.clock.fast_forward(60_000)
    seen.page.wait_for_timeout(200)
    assert len(seen.requests) == asked
    seen.page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    seen.page.wait_for_timeout(500)
    assert len(seen.requests) > asked


def test_another_organization_is_out_of_reach(page_stack: PageStack, visit: Any) -> None:
    wanted = {"name": "acme and scout", "access": "read", "organizations": ["acme", "scout"]}
    token = page_stack.api("POST", "/api/tokens", wanted)["token"]
    seen = visit("/?org=globex", token=token, refused=("401", "404"))
    page = seen.page
    expect(page.locator("main .problem")).to_contain_text("There is no organization globex")
    offered = visit("/", token=token).page.get_by_role("combobox", name="Organization").locator("option")
    assert offered.all_inner_texts() == ["All organizations", "Acme Ltd (acme)", "Scout Ltd (scout)"]
    for path in ("usage?org=globex", "spend?org=globex", "events?org=globex", "limits?org=globex", "usage?credential=globex-app"):
        assert seen.context.request.get(f"{page_stack.url}/api/{path}").status == 404, path
    cursor = page_stack.api("GET", "/api/events", limit=1)["next_cursor"]
    beyond = seen.context.request.get(f"{page_stack.url}/api/events?limit=1&cursor={cursor}")
    assert {event["org"] for event in beyond.json()["events"]} <= {"acme", "scout"}
    (cookie,) = seen.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    seen.context.add_cookies([cookie | {"value": cookie["value"][:-2] + "xx"}])
    page.goto(page_stack.url)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_retired_organization_keeps_its_history_in_the_page(page_stack: PageStack, visit: Any) -> None:
    requests = page_stack.run(page_stack.keep_history_of("former"))
    seen = visit("/?range=7d")
    page = seen.page
    group = page.get_by_role("combobox", name="Organization").locator("optgroup[label=Retired]")
    expect(group.locator("option")).to_have_text(["former"])
    seen.choose("Organization", "former")
    assert seen.sums()["requests"] == requests
    expect(page.get_by_role("region", name="Now")).to_contain_text("configured no longer")
    page.get_by_role("link", name="Requests").click()
    expect(page.get_by_role("table", name="Served requests").locator("tbody tr")).to_have_count(requests)
    page.get_by_role("link", name="Limits and credentials").click()
    expect(page.locator("main")).to_contain_text("configured no longer")
    assert page.locator("main form, main input, main button").count() == 0
    page.get_by_role("link", name="Prices").click()
    expect(page.locator("main table").first).to_be_visible()
    page.get_by_role("link", name="Export").click()
    invoice = page.get_by_role("link", name="JSON", exact=True).first
    assert seen.context.request.get(page_stack.url + str(invoice.get_attribute("href"))).status == 200
    assert visit("/?org=former&range=7d").sums()["requests"] == requests
    token = page_stack.api("POST", "/api/tokens", {"name": "acme", "access": "read", "organizations": ["acme"]})["token"]
    alone = visit("/?org=former&range=7d", token=token)  # who sees one organization sees that one
    assert "org=former" not in [part for url in alone.requests for part in urlsplit(url).query.split("&") if "/api/" in url]


def test_signing_in_and_out(page_stack: PageStack, visit: Any) -> None:
    seen = visit("/", token="", refused=("401",))
    page = seen.page
    page.get_by_label("Admin token").fill("tga_" + "0" * 40)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not known")
    page.get_by_label("Admin token").fill(page_stack.token)
    page.get_by_role("button", name="Sign in").click()
    seen.settled()
    assert page_stack.token not in page.url
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("alert")).to_have_text("You are signed out.")
    assert seen.context.request.get(page_stack.url + "/api/usage").status == 401


def test_a_link_signs_in_once_and_leaves_the_address(page_stack: PageStack, visit: Any) -> None:
    link = page_stack.login_link()
    seen = visit("/", token="", refused=("401",))
    seen.page.goto(link)
    seen.settled()
    assert "link" not in seen.page.evaluate("location.href")
    again = visit("/", token="", refused=("401",))
    again.page.goto(link)
    expect(again.page.get_by_role("alert")).to_contain_text("used already")
    torn = visit("/", token="", refused=("401",))
    torn.page.goto(f"{link[:-4]}%E0%A")
    expect(torn.page.get_by_role("alert")).to_contain_text("used already")


def test_a_name_that_has_no_room_is_broken(page_stack: PageStack, visit: Any) -> None:
    page_stack.api("POST", "/api/organizations", {"id": "wordy", "plan": "enterprise", "name": "W" * 256})
    try:
        for address in ("/?org=wordy", "/?tab=limits"):
            page = visit(address, viewport={"width": 360, "height": 740}).page
            expect(page.locator("main")).to_contain_text("WWWW")
            assert page.evaluate("document.documentElement.scrollWidth") == 360
    finally:
        page_stack.api("DELETE", "/api/organizations/wordy")


def test_paper_is_white(visit: Any) -> None:
    page = visit("/?org=acme&range=today", color_scheme="dark").page
    ink = "getComputedStyle(document.body).color"
    assert page.evaluate(ink) == "rgb(236, 238, 240)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(ink) == "rgb(23, 25, 28)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(page_stack: PageStack, visit: Any, scheme: str) -> None:
    """Nothing that axe finds: contrast, names, roles, order; no sideways scrolling on the narrowest phone."""
    phone = {"viewport": {"width": 360, "height": 740}}
    pages = [
        visit("/", token="", refused=("401",), color_scheme=scheme),
        visit("/?org=acme&range=today&stack=model", color_scheme=scheme),
        visit("/?org=scout&range=today", color_scheme=scheme, **phone),
        visit("/?view=tokens&range=custom&from=2026-01-01&until=2026-01-02", color_scheme=scheme, **phone),
    ]
    for seen in pages:
        for details in seen.page.locator("details:visible > summary").all():
            details.click()
        found = Axe().run(seen.page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in GRAVE] == []
        width = seen.page.evaluate("document.documentElement.scrollWidth")
        assert width <= seen.page.viewport_size["width"]
