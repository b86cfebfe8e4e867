"""The demo's month of history: in the ledger as if it had been served, and exact."""

from random import Random

from sqlalchemy import text

from tallygate.config.load import load_config
from tallygate.config.shipped import shipped_directory
from tallygate.demo.callers import demo_callers
from tallygate.demo.history import DAY_MS, HOUR_MS, OPENAI_PAST, fill_history
from tallygate.dialects.registry import dialects
from tallygate.ledger.audit import LedgerAudit
from tallygate.ledger.opening import open_database

NOW_MS = 1_795_980_000_000
DAYS = 9


async def test_the_history_is_exact_and_leaves_a_cent_of_the_limit(tmp_path):
    prices = load_config(
        None, shipped_dir=shipped_directory(), known_dialects=dialects().traits, environ={}, default_url="http://u"
    ).prices
    callers = demo_callers(has_history=True)
    _, bakery, globex = callers
    count = await fill_history(tmp_path, callers, OPENAI_PAST, prices, days=DAYS, now_ms=NOW_MS, random=Random(1))
    database = open_database("", tmp_path)
    async with database.read() as connection:
        rows = (await connection.execute(text("SELECT * FROM entries"))).mappings().all()
        refused = (await connection.execute(text("SELECT sum(requests) FROM refusals_taken"))).scalar_one()
    audit = LedgerAudit(database)
    drifts = [drift for org in (bakery.org, globex.org) for drift in await audit.day(org, 0, days=NOW_MS // DAY_MS + 1)]
    await database.close()

    assert len(rows) == count > 500
    assert drifts == [], "sums are those of the entries"
    assert {row["org"] for row in rows} == {bakery.org, globex.org}, "the third has no API access"
    assert {row["credential"] for row in rows} == {*bakery.credentials, *globex.credentials}
    assert all(NOW_MS - (DAYS + 1) * DAY_MS <= row["started_at_ms"] < NOW_MS - HOUR_MS for row in rows)
    assert all(int(row["event_id"][:12], 16) == row["started_at_ms"] for row in rows), "its clock was that of then"
    for row in rows:
        price = prices.find(row["request_model"], row["started_at_ms"])
        assert row["status"] == 502 or (row["price_version"] == price.version and row["cost_nano_usd"] > 0)
    week = sum(row["cost_nano_usd"] for row in rows if row["org"] == bakery.org and row["settled_at_ms"] > NOW_MS - 7 * DAY_MS)
    assert 0 <= bakery.spend_limit_nano_usd - 10_000_000 - week < 2_000_000
    assert refused > 0
