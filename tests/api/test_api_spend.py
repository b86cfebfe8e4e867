"""GET /api/spend: the shown figures are the enforced ones, and say when they change."""

from dataclasses import replace

import pytest
from api_values import ACME, DAY_MS, HOUR_MS, MINUTE_MS, NOW_MS, PAY, USD, an_entry
from api_world import World
from sqlalchemy import insert

from tallygate.domain.spend_limit import SpendLimit
from tallygate.ledger.jobs import JOBS

WEEK_MS = 7 * DAY_MS
BUCKET_MS = 5 * MINUTE_MS


def usd(text: str, nano_usd: int) -> dict:
    return {"usd": text, "nano_usd": nano_usd}


async def test_a_window_shows_what_the_limiter_says(world: World) -> None:
    leaving = {NOW_MS + HOUR_MS: 5 * USD, NOW_MS + 2 * HOUR_MS: 6 * USD, NOW_MS + 30 * HOUR_MS: USD}
    world.windows.states["acme", "org:spend_7d"] = (12 * USD, 2 * USD + 1, 0, leaving)

    body = await world.ok("/api/spend", org="acme")

    (window,) = body["windows"]
    assert body["rolling_7_days"] == window
    assert (window["name"], window["kind"], window["source"], window["window_seconds"]) == (
        "spend_7d",
        "rolling",
        "limiter",
        604_800,
    )
    assert (window["spent"], window["held"]) == (usd("12.00", 12 * USD), usd("2.000000001", 2 * USD + 1))
    assert (window["limit"], window["remaining"]) == (usd("25.00", 25 * USD), usd("10.999999999", 11 * USD - 1))
    assert (window["status"], window["resumes_at"], window["warned_at"]) == ("active", None, None)
    assert window["frees"] == [
        {
            "date": "2026-09-01",
            "first_at": "2026-09-01T09:00:00-04:00",
            "last_at": "2026-09-01T10:00:00-04:00",
            "amount": usd("11.00", 11 * USD),
        },
        {
            "date": "2026-09-02",
            "first_at": "2026-09-02T14:00:00-04:00",
            "last_at": "2026-09-02T14:00:00-04:00",
            "amount": usd("1.00", USD),
        },
    ]


@pytest.mark.parametrize(
    ("spent", "paused_ms", "status", "resumes_at", "warned_at"),
    [
        (0, 0, "active", None, None),
        (12_500_000_000 - 1, 0, "active", None, None),
        (12_500_000_000, 0, "warning", None, 0.5),
        (20 * USD, 0, "warning", None, 0.8),
        (24 * USD, NOW_MS + HOUR_MS, "paused", "2026-09-01T09:00:00-04:00", 0.95),
        (25 * USD, NOW_MS + HOUR_MS, "paused", "2026-09-01T09:00:00-04:00", 1.0),
    ],
)
async def test_the_status_follows_spend_and_pause(world: World, spent, paused_ms, status, resumes_at, warned_at) -> None:
    world.windows.states["acme", "org:spend_7d"] = (spent, 0, paused_ms, {})

    body = await world.ok("/api/spend", org="acme")
    window = body["rolling_7_days"]
    assert (body["status"], window["status"]) == (status, status)
    assert (window["resumes_at"], window["warned_at"]) == (resumes_at, warned_at)


async def test_a_shadow_limit_that_is_exceeded_pauses_nothing(world: World) -> None:
    shadow = SpendLimit(name="spend_7d", limit_nano_usd=USD, shadow=True)
    world.organizations["acme"] = replace(ACME, plan=replace(PAY, spend_limits=(shadow,)))
    world.windows.states["acme", "org:spend_7d"] = (2 * USD, 0, NOW_MS + HOUR_MS, {})

    window = (await world.ok("/api/spend", org="acme"))["rolling_7_days"]
    assert (window["status"], window["resumes_at"], window["is_shadow"]) == ("exceeded", None, True)


async def test_a_limit_of_nothing_pauses_for_good(world: World) -> None:
    world.organizations["acme"] = replace(ACME, plan=replace(PAY, spend_limits=(SpendLimit(name="spend_7d", limit_nano_usd=0),)))

    window = (await world.ok("/api/spend", org="acme"))["rolling_7_days"]
    assert (window["status"], window["resumes_at"], window["warned_at"]) == ("paused", None, None)


async def test_every_window_is_shown_and_the_gravest_names_the_status(world: World) -> None:
    month = SpendLimit(name="spend_month", limit_nano_usd=50 * USD, window_ms=0)
    world.organizations["acme"] = replace(ACME, plan=replace(PAY, spend_limits=(*PAY.spend_limits, month)))
    world.windows.states["acme", "org:spend_month"] = (50 * USD, 0, NOW_MS + 29 * DAY_MS, {})

    body = await world.ok("/api/spend", org="acme")
    assert [(window["name"], window["kind"], window["status"]) for window in body["windows"]] == [
        ("spend_7d", "rolling", "active"),
        ("spend_month", "calendar_month", "paused"),
    ]
    assert body["status"] == "paused"
    assert body["rolling_7_days"]["name"] == "spend_7d"


async def test_without_a_limit_the_week_is_the_ledgers(world: World) -> None:
    """As the limiter would count it: the partly expired bucket counts in full."""
    edge = NOW_MS - WEEK_MS
    at = [NOW_MS - HOUR_MS, edge, edge - 1, edge + BUCKET_MS]
    await world.record(
        [
            an_entry(number, org="globex", settled_at_ms=at_ms, posted_at_ms=at_ms, posted_nano_usd=10**number)
            for number, at_ms in enumerate(at)
        ]
    )

    window = (await world.ok("/api/spend", org="globex"))["rolling_7_days"]
    assert (window["source"], window["limit"], window["held"], window["remaining"]) == ("ledger", None, None, None)
    assert window["spent"]["nano_usd"] == 1 + 10 + 1000
    assert sum(day["amount"]["nano_usd"] for day in window["frees"]) == 1011
    assert window["frees"][0]["first_at"] == "2026-09-01T12:05:00Z"


async def test_the_month_and_the_week_are_whole_however_short_the_history_is(world: World) -> None:
    """A history bounds what can be looked at, not what has been spent."""
    entries = []
    for number in range(12):
        at_ms, cost = NOW_MS - number * DAY_MS, 10**number
        entry = an_entry(number, settled_at_ms=at_ms, posted_at_ms=at_ms, cost_nano_usd=cost, posted_nano_usd=cost)
        entries.append(entry)
    await world.record(entries)
    answers = []
    for days in (None, 2):
        plan = replace(PAY, history_days=days, spend_limits=())
        world.organizations["acme"] = replace(ACME, plan=plan, billing_day=24)
        answers.append(await world.ok("/api/spend", org="acme"))

    whole, cut = answers
    assert whole["month"]["start"] == "2026-08-24T00:00:00-04:00"
    assert cut["month"] == whole["month"]
    assert cut["month"]["to_date"]["nano_usd"] == 111_111_111
    assert cut["rolling_7_days"] == whole["rolling_7_days"]


async def test_days_are_those_of_the_organizations_zone(world: World) -> None:
    midnight = NOW_MS - 8 * HOUR_MS  # of New York
    await world.record(
        [
            an_entry(1, settled_at_ms=midnight, cost_nano_usd=USD),
            an_entry(2, settled_at_ms=midnight - 1, cost_nano_usd=2 * USD),
            an_entry(3, settled_at_ms=midnight - 2 * DAY_MS, cost_nano_usd=4 * USD),
        ]
    )

    daily = (await world.ok("/api/spend", org="acme", days=4))["daily"]
    assert [(day["date"], day["cost"]["nano_usd"] // USD) for day in daily] == [
        ("2026-08-29", 0),
        ("2026-08-30", 4),
        ("2026-08-31", 2),
        ("2026-09-01", 1),
    ]


async def test_the_month_is_to_date_and_forecast_by_the_last_week(world: World) -> None:
    world.now_ms = NOW_MS + 13 * DAY_MS  # noon of the 14th
    at = [world.now_ms - 2 * DAY_MS, world.now_ms - 10 * DAY_MS, world.now_ms - 20 * DAY_MS]
    await world.record([an_entry(n, org="globex", settled_at_ms=at_ms, cost_nano_usd=7 * USD) for n, at_ms in enumerate(at)])

    month = (await world.ok("/api/spend", org="globex"))["month"]
    assert (month["month"], month["start"], month["end"]) == ("2026-09", "2026-09-01T00:00:00Z", "2026-10-01T00:00:00Z")
    assert month["to_date"]["nano_usd"] == 14 * USD
    assert month["forecast"]["nano_usd"] == 14 * USD + 16 * USD + USD // 2  # a dollar a day for 16.5 days


async def test_the_month_begins_on_the_organizations_billing_day(world: World) -> None:
    """Noon of the 14th: the month of the 15th of August has not ended, in Tokyo it has."""
    world.now_ms = NOW_MS + 13 * DAY_MS + 6 * 3_600_000
    at = [world.now_ms - 29 * DAY_MS, world.now_ms - 31 * DAY_MS]
    await world.record([an_entry(n, org="globex", settled_at_ms=at_ms, cost_nano_usd=7 * USD) for n, at_ms in enumerate(at)])
    globex = world.organizations["globex"]

    world.organizations["globex"] = replace(globex, billing_day=15)
    month = (await world.ok("/api/spend", org="globex"))["month"]
    assert (month["month"], month["start"], month["end"]) == ("2026-08", "2026-08-15T00:00:00Z", "2026-09-15T00:00:00Z")
    assert (month["to_date"]["nano_usd"], month["forecast"]["nano_usd"]) == (7 * USD, 7 * USD)
    used = await world.ok("/api/usage", org="globex", bucket="month", from_="2026-08-01", to="2026-09-15")
    assert [(row["start"], row["usage"]["requests"]) for row in used["rows"]] == [
        ("2026-08-01T00:00:00Z", 1),  # cut to the range
        ("2026-08-15T00:00:00Z", 1),
    ]

    world.organizations["globex"] = replace(globex, billing_day=15, time_zone="Asia/Tokyo")
    month = (await world.ok("/api/spend", org="globex"))["month"]
    assert (month["month"], month["start"], month["end"]) == ("2026-09", "2026-09-15T00:00:00+09:00", "2026-10-15T00:00:00+09:00")


async def test_a_credential_has_its_own_spend_and_windows(world: World) -> None:
    own = SpendLimit(name="spend_1d", limit_nano_usd=USD, window_ms=DAY_MS)
    world.organizations["acme"] = replace(
        ACME, credentials=(replace(ACME.credentials[0], spend_limits=(own,)), ACME.credentials[1])
    )
    world.windows.states["acme", "cred:acme-prod:spend_1d"] = (USD // 2, 0, 0, {})
    await world.record([an_entry(1, cost_nano_usd=3), an_entry(2, cost_nano_usd=4, credential="acme-dev")])

    body = await world.ok("/api/spend", org="acme", credential="acme-prod")
    assert body["daily"][-1]["cost"]["nano_usd"] == 3
    assert [(window["name"], window["credential"]) for window in body["windows"]] == [("spend_1d", "acme-prod")]
    assert body["rolling_7_days"]["source"] == "ledger"
    assert body["month"]["to_date"]["nano_usd"] == 3


async def test_a_token_of_one_organization_need_not_name_it(world: World) -> None:
    assert (await world.ok("/api/spend", token="one"))["org"] == "acme"


async def test_work_that_goes_on_is_counted_with_what_it_was_held_at(world: World) -> None:
    assert (await world.ok("/api/spend", org="acme"))["jobs"] == {"open": 0, "held": usd("0.00", 0)}
    for number, org in enumerate(("acme", "acme", "globex")):
        row = {"id": f"job-{number}", "org": org, "kind": "response", "upstream": "default", "object_id": "resp_1", "body": "{}"}
        times = dict.fromkeys(("started_at_ms", "deadline_ms", "due_ms", "leased_until_ms", "polls", "progress"), 0)
        async with world.database.write() as connection:
            await connection.execute(insert(JOBS).values(**row, **times, held_nano_usd=USD + number))

    assert (await world.ok("/api/spend", org="acme"))["jobs"] == {"open": 2, "held": usd("2.000000001", 2 * USD + 1)}
    assert (await world.ok("/api/spend", org="acme", credential="acme-prod"))["jobs"] is None
