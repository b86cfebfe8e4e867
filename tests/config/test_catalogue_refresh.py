"""Reading upstreams' price catalogues over HTTP: what is bad or away leaves the last good one in force."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from tallygate.config.holder import ConfigHolder
from tallygate.config.load import ConfigSource
from tallygate.gateway.catalogue_refresh import CATALOGUE_BYTES_MAX, CatalogueRefresh

TTL_MS = 60_000


class Provider:
    """Serves a catalogue with one model at a price, or whatever else it is told to."""

    def __init__(self) -> None:
        self.price = "1"
        self.answer: web.Response | None = None
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.answer is not None:
            return self.answer
        rates = {"input": {"rate_per_1m_tokens": self.price}, "output": {"rate_per_1m_tokens": self.price}}
        return web.json_response({"data": [{"id": "gloo-new", "pricing": rates}]})


class Refreshing:
    """A refresh of that provider, under a clock that the test moves."""

    def __init__(self, provider: Provider, holder: ConfigHolder, session: ClientSession) -> None:
        self.provider, self.holder = provider, holder
        self.now_ms = 1_000
        self.changes = 0
        self._refresh = CatalogueRefresh(holder, session, now_ms=lambda: self.now_ms, on_change=self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def after(self, ms: int) -> int | None:
        """The model's input price once that time has gone by."""
        self.now_ms += ms
        await self._refresh.at_start()
        price = self.holder.current.prices.find("gloo-new", self.now_ms)
        return None if price is None else price.rates["input"]


@pytest.fixture
async def refreshing(source: ConfigSource, tmp_path: Path, aiohttp_server: Any):
    provider = Provider()
    app = web.Application()
    app.router.add_get("/{tail:.*}", provider.handle)
    server: TestServer = await aiohttp_server(app)
    asking = {"base_url": str(server.make_url("/")), "catalogue_path": "/models", "catalogue_ttl": "60s"}
    (tmp_path / "upstreams.yaml").write_text(json.dumps({"upstreams": {"default": asking}}))
    async with ClientSession() as session:
        yield Refreshing(provider, ConfigHolder(source.load(), source.load), session)


async def test_a_catalogue_is_read_again_when_its_time_is_over_and_not_before(refreshing: Refreshing) -> None:
    assert await refreshing.after(0) == 1_000_000
    refreshing.provider.price = "2"

    assert await refreshing.after(TTL_MS - 1) == 1_000_000
    assert await refreshing.after(1) == 2_000_000
    assert (refreshing.provider.asked, refreshing.changes) == (["/models", "/models"], 2)


async def test_a_family_that_routing_is_said_to_reach_and_nobody_has_is_logged(
    refreshing: Refreshing, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "prices.yaml").write_text(json.dumps({"prices": [], "auto_routing": {"reaches": ["gloo-n*", "Antropic"]}}))
    assert await refreshing.holder.reload() == ()

    await refreshing.after(0)

    told = [record.getMessage() for record in caplog.records]
    assert told == ["auto_routing.reaches 'Antropic' of prices.yaml, which is no family and no priced model: it holds nothing"]


def row(**pricing: Any) -> bytes:
    return json.dumps({"data": [{"id": "gloo-new", "pricing": pricing}]}).encode()


BAD = {
    "down": web.Response(status=503),
    "moved": web.Response(status=302, headers={"Location": "/elsewhere"}),
    "no JSON": web.Response(body=b"<html>"),
    "NaN": web.Response(body=b'{"data": [{"id": "gloo-new", "pricing": {"output": {"rate_per_1m_tokens": NaN}}}]}'),
    "no rows": web.Response(body=b'{"data": []}'),
    "negative": web.Response(body=row(output={"rate_per_1m_tokens": "-1"})),
    "a number": web.Response(body=row(output={"rate_per_1m_tokens": 3})),
    "absurd": web.Response(body=row(output={"rate_per_1m_tokens": "1" + "0" * 11})),
    "another shape": web.Response(body=row(input="3", output="3")),
    "free": web.Response(body=row(input={"rate_per_1m_tokens": "0"}, output={"rate_per_1m_tokens": "0"})),
    "too large": web.Response(body=b" " * CATALOGUE_BYTES_MAX + row(output={"rate_per_1m_tokens": "3"})),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_answer_keeps_the_last_prices_and_is_asked_again_soon(refreshing: Refreshing, name: str) -> None:
    assert await refreshing.after(0) == 1_000_000
    bad = BAD[name]
    refreshing.provider.answer = web.Response(status=bad.status, body=bad.body, headers=bad.headers)

    assert await refreshing.after(TTL_MS) == 1_000_000
    assert "/elsewhere" not in refreshing.provider.asked
    refreshing.provider.answer, refreshing.provider.price = None, "2"
    assert await refreshing.after(15_000) == 2_000_000


async def test_a_catalogue_that_a_reload_has_moved_is_read_at_once(refreshing: Refreshing, tmp_path: Path) -> None:
    await refreshing.after(0)
    moved = tmp_path / "upstreams.yaml"
    moved.write_text(moved.read_text().replace("/models", "/v3/models"))
    assert await refreshing.holder.reload() == ()

    await refreshing.after(1)
    assert refreshing.provider.asked == ["/models", "/v3/models"]
