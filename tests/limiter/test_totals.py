"""Totals of many organizations, read as typed values."""

from limiter_values import a_request, an_actual

from proxy.limiter.connection import RedisConnection
from proxy.limiter.generation import mark_all
from proxy.limiter.redis_limiter import RedisLimiter
from proxy.limiter.script import load_scripts
from proxy.limiter.totals import ExchangeTotals, read_totals


async def test_totals_are_read_for_many_organizations_at_once(connection: RedisConnection) -> None:
    limiter = RedisLimiter(connection, load_scripts())
    await mark_all(connection, "g1")
    for i, (org, capability) in enumerate((("acme", "chat"), ("acme", "chat"), ("acme", "search"), ("globex", "chat"))):
        request = a_request(f"r{i}", 100, org=org, totals=("c1", capability))
        await limiter.admit(request)
        await limiter.settle(request, an_actual(40, 2, 3))
    chat = ExchangeTotals(
        org="acme",
        credential="c1",
        capability="chat",
        requests={"success": 2},
        usage_sources={"upstream": 2},
        prompt_tokens=4,
        completion_tokens=6,
        cost_nano_usd=80,
    )
    totals = await read_totals(connection, ("acme", "globex", "initech"))
    assert [(t.org, t.capability, t.cost_nano_usd) for t in totals] == [
        ("acme", "chat", 80),
        ("acme", "search", 40),
        ("globex", "chat", 40),
    ]
    assert totals[0] == chat
