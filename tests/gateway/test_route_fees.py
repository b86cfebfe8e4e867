"""A route's flat fee: held with what tokens can cost, and owed when the upstream did the work, or may have done it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout
from gateway_harness import ACME_KEY, BIG_KEY, Harness, organizations, running_gateway
from marked_partitions import mark_all
from usage_events import cost_by_kind

from tallygate.domain.admission import AdmissionRequest
from tallygate.ledger.entry import entry_of_stream
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.port import Limiter
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts

FEE = 2_000_000  # "0.002"
SEARCH = "/ai/data/v1/search"
CHAT = {"model": "gpt-4o-mini", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
USAGE = {"prompt_tokens": 8, "completion_tokens": 3, "total_tokens": 11}
TOKENS = 8 * 150 + 3 * 600
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def whole(status: int, body: bytes = b"{}") -> Answer:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    return answer


async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
    await writer.drain()
    writer.close()


async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


class Upstream:
    """Reads a request's head, and its body where `reads_body`; then `answer` has the connection."""

    def __init__(self) -> None:
        self.answer: Answer = whole(200)
        self.reads_body = True
        self.heads: list[bytes] = []
        self.open = 0
        self.waits_for = 1  # nobody is answered before so many are there

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
                if self.reads_body:
                    await reader.readexactly(length)
                while len(self.heads) < self.waits_for:
                    await asyncio.sleep(0.005)
                await self.answer(reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        finally:
            self.open -= 1


@dataclass(kw_only=True)
class World:
    harness: Harness
    upstream: Upstream
    session: ClientSession

    async def ask(self, path: str = SEARCH, body: Any = None, key: str = ACME_KEY) -> tuple[int, Any, Any]:
        headers = {"Authorization": f"Bearer {key}"}
        try:
            async with self.session.post(self.harness.url + path, json=body or {"query": "grace"}, headers=headers) as answer:
                text = await answer.read()
                return answer.status, answer.headers, await answer.json() if text else None
        except ClientError:
            return 0, {}, None

    async def event(self) -> dict[str, Any]:
        """The only one."""
        await self.harness.at_rest()
        (event,) = self.harness.events()
        return event


@asynccontextmanager
async def running(
    tmp_path: Path,
    *,
    usd: str = "25",
    limiter: Limiter | None = None,
    upstream_url: str | None = None,
    plan: dict[str, Any] | None = None,
    **of_upstream: Any,
) -> AsyncIterator[World]:
    routes = [
        {"method": "POST", "path": SEARCH, "capability": "search", "fee_usd": "0.002"},
        {"method": "POST", "path": "/ingestion/v2/files", "capability": "ingestion", "fee_usd": "0.002"},
        {"method": "POST", "path": "/free", "capability": "search"},
        {"method": "POST", "path": "/v1/chat/completions", "capability": "chat", "dialect": "openai_chat", "fee_usd": "0.002"},
    ]
    plans = {"pay_as_you_go": plan or {"spend_limit": {"usd": "100"}}, "enterprise": {}, "free": {}}
    config = {"routes": {"routes": routes}, "plans": {"plans": plans}, "organizations": organizations(usd)}
    upstream = Upstream()
    tmp_path.mkdir(exist_ok=True)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    url = upstream_url or f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    config["upstreams"] = {"upstreams": {"default": {"base_url": url} | of_upstream}}
    async with server:
        async with (
            running_gateway(tmp_path, config=config, limiter=limiter) as harness,
            ClientSession(timeout=ClientTimeout(total=20)) as session,
        ):
            yield World(harness=harness, upstream=upstream, session=session)
        while upstream.open:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("answer", "seen", "fee"),
    [
        (whole(200), 200, FEE),
        (whole(201), 201, FEE),
        (whole(302), 302, 0),
        (whole(404), 404, 0),
        (whole(429), 429, 0),
        (whole(500), 500, 0),
        (cut, 0, FEE),
        (silent, 502, FEE),  # it may have done the work, and nobody knows
    ],
    ids=["200", "201", "302", "404", "429", "500", "cut", "no answer"],
)
async def test_a_fee_is_owed_for_what_the_upstream_did_or_may_have_done(
    tmp_path: Path, answer: Answer, seen: int, fee: int
) -> None:
    async with running(tmp_path) as world:
        world.upstream.answer = answer
        status, _, _ = await world.ask()

        event = await world.event()
        assert status == seen
        assert (event["_cost"], event["cost_nano_usd"], event["fee_nano_usd"]) == (fee, fee, fee)
        assert (event["_kind"], event["capability"], event["flags"]) == ("settled" if fee else "released", "search", [])
        assert (event["prompt_tokens"], event["usage_source"], event["price_version"]) == (0, "none", None)
        window = await world.harness.window()
        assert (window.spent_nano_usd, window.held_nano_usd) == (fee, 0)


async def test_no_fee_is_owed_where_nobody_could_be_reached_and_where_a_route_has_none(tmp_path: Path) -> None:
    async with running(tmp_path / "a", upstream_url="http://127.0.0.1:9") as world:
        assert (await world.ask())[0] == 502
        assert (await world.event())["cost_nano_usd"] == 0
    async with running(tmp_path / "b") as world:
        assert (await world.ask("/free"))[0] == 200
        assert (await world.event())["_kind"] == "released"


async def test_a_fee_is_held_while_the_request_is_open_and_owed_by_who_leaves(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        world.upstream.waits_for = 2
        asking = asyncio.ensure_future(world.ask())
        while not world.upstream.heads:
            await asyncio.sleep(0.005)
        window = await world.harness.window()
        assert (window.spent_nano_usd, window.held_nano_usd) == (0, FEE)

        asking.cancel()
        event = await world.event()
        world.upstream.waits_for = 1

        assert (event["outcome"], event["cost_nano_usd"], event["fee_nano_usd"]) == ("client_gone", FEE, FEE)


async def test_half_an_upload_owes_nothing_and_one_that_was_answered_does(tmp_path: Path) -> None:
    async def upload() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.harness.port)
        head = f"POST /ingestion/v2/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ACME_KEY}\r\ncontent-length: 1000\r\n\r\n"
        writer.write(head.encode() + b"x" * 500)
        while not world.upstream.heads:
            await asyncio.sleep(0.005)
        if not world.upstream.reads_body:
            await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with running(tmp_path / "half") as world:
        await upload()
        assert ((await world.event())["outcome"], (await world.event())["cost_nano_usd"]) == ("client_gone", 0)
    async with running(tmp_path / "answered") as world:
        world.upstream.reads_body = False
        await upload()
        assert (await world.event())["cost_nano_usd"] == FEE


async def test_fee_and_tokens_add_up_and_the_markup_is_of_the_tokens(tmp_path: Path) -> None:
    async with running(tmp_path, markup_percent="100") as world:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Peace."}}
        answer = {"object": "chat.completion", "model": "gpt-4o-mini", "choices": [choice], "usage": USAGE}
        world.upstream.answer = whole(200, str(answer).replace("'", '"').encode())
        status, headers, _ = await world.ask("/v1/chat/completions", CHAT)

        event = await world.event()
        assert (status, event["cost_nano_usd"], event["fee_nano_usd"]) == (200, 2 * TOKENS + FEE, FEE)
        assert cost_by_kind(event) == {"input": 2 * 8 * 150, "output": 2 * 3 * 600}
        assert headers["tallygate-cost-usd"] == "0.002006"
        assert event["flags"] == []


async def test_what_a_limit_leaves_beside_the_fee_pays_for_tokens(tmp_path: Path) -> None:
    async with running(tmp_path, usd="0.00205", plan={"spend_limit": {"usd": "100"}, "clamp": True}) as world:
        world.upstream.answer = cut
        body = CHAT | {"max_tokens": 10_000}
        await world.ask("/v1/chat/completions", body)

        event = await world.event()
        assert FEE < event["cost_nano_usd"] <= 2_050_000
        assert event["fee_nano_usd"] == FEE
        assert set(event["flags"]) >= {"output_clamped", "assumed"}
        assert "overrun" not in event["flags"]


async def test_who_has_no_limit_owes_fees_too(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        assert (await world.ask(key=BIG_KEY))[0] == 200
        assert ((await world.event())["org"], (await world.event())["cost_nano_usd"]) == ("big", FEE)


async def test_a_fee_above_the_limit_is_refused_and_says_whom_to_ask(tmp_path: Path) -> None:
    async with running(tmp_path, usd="0.001") as world:
        status, _, body = await world.ask()
        assert (status, body["error"]["code"]) == (429, "spend_limit_exceeded")
        assert "This request alone can cost $0.002, more than the limit: ask your administrator" in body["error"]["message"]
        assert not world.upstream.heads


async def test_of_many_at_once_exactly_those_are_served_whose_fee_the_limit_holds(tmp_path: Path, valkey_url: str) -> None:
    connection = RedisConnection(parse_address(valkey_url), timeout_ms=20_000)
    await connection.open()
    await mark_all(connection, "g")
    async with running(tmp_path, usd="0.0119", limiter=RedisLimiter(connection, load_scripts())) as world:
        world.upstream.waits_for = 5
        outcomes = await asyncio.gather(*(world.ask() for _ in range(20)))
        assert Counter(status for status, _, _ in outcomes) == {200: 5, 429: 15}
        assert {answer["error"]["code"] for status, _, answer in outcomes if status == 429} == {"spend_limit_exceeded"}
        window = await world.harness.window()
        assert (window.spent_nano_usd, window.held_nano_usd) == (5 * FEE, 0)
        assert (await world.ask())[0] == 429, "paused"
        assert len(world.upstream.heads) == 5
    await connection.close()


async def test_a_worker_that_dies_is_charged_the_fee(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        admitted: list[AdmissionRequest] = []
        admit = world.harness.limiter.admit

        async def noting(request: AdmissionRequest, *words: Any) -> Any:
            admitted.append(request)
            return await admit(request, *words)

        world.harness.limiter.admit = noting
        await world.ask()
        await world.ask("/v1/chat/completions", CHAT)
    of_search, of_chat = admitted

    assert (of_search.hold_nano_usd, of_search.hold_min_nano_usd, of_search.floor_nano_usd) == (FEE, FEE, FEE)
    assert of_chat.floor_nano_usd == of_chat.hold_nano_usd > FEE
    for request in admitted:
        words = {b"event_id": request.reservation_id.encode(), b"kind": b"expired", b"settled_at_ms": b"1767225660000"}
        words |= dict.fromkeys((b"cost_nano_usd", b"posted_nano_usd"), b"%d" % request.floor_nano_usd)
        words |= {b"prompt_tokens": b"0", b"completion_tokens": b"0"}
        entry = entry_of_stream(request.event, words)
        assert (entry.cost_nano_usd, entry.fee_nano_usd, entry.outcome) == (request.floor_nano_usd, FEE, "expired")
        withdrawn = entry_of_stream(request.event, words | {b"kind": b"released", b"cost_nano_usd": b"0"})
        assert (withdrawn.cost_nano_usd, withdrawn.fee_nano_usd) == (0, 0)
