"""One organization attacks, another one works: a worker belongs to everybody."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gateway_harness import LIMITS, Harness, running_gateway, shared_tokens
from raw_client import BIG, KEY, RawClient, chat, connected, converse

from tallygate.domain.admission import Account, AdmissionRequest
from tallygate.domain.prompt import PromptShape
from tallygate.http1.client_connection import ClientTimeouts
from tallygate.telemetry.metrics import REFUSED
from tallygate.tokens.counter import TokenCounter

PATIENT = ClientTimeouts(head=60, idle=60, body_grace=60, body_bytes_per_second=1, write=60)
ONES = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":[' + b"1," * 4_880_000 + b"1]}]}"
KEYS = b'{"model":"gpt-4o-mini","messages":[],"x":{' + b",".join([b'"\\u0061%06d":1' % n for n in range(490_000)]) + b"}}"
VICTIM_PROMPT = "several words of a long prompt, " * 2_700


def plans(**acme: Any) -> dict[str, Any]:
    return {"plans": {"plans": {"pay_as_you_go": acme, "enterprise": {}, "free": {}}}}


def long_prompt(text: str, max_tokens: int = 50) -> bytes:
    body = {"model": "gpt-4o-mini", "max_tokens": max_tokens, "messages": [{"role": "user", "content": f"[[sim tokens=7]] {text}"}]}
    return json.dumps(body).encode()


def head(length: int, *, key: bytes = KEY, more: bytes = b"") -> bytes:
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n" % length + key + more + b"\r\n"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def paused(tmp_path: Path, **options: Any) -> AsyncIterator[Harness]:
    """A gateway at which acme has spent the ten dollars that it may."""
    async with running_gateway(tmp_path, acme_usd="10", **options) as harness:
        acme = harness.gateway.services.view.config.organizations[0]
        limits = harness.gateway.services.view.limits_for(acme, acme.credentials[0], "chat")
        spent = AdmissionRequest(
            reservation_id="spent",
            org="acme",
            rate=(),
            spend=limits.spend_demands(now_ms()),
            hold_nano_usd=10**10,
            hold_min_nano_usd=10**10,
            floor_nano_usd=0,
            lease_ms=1000,
            event=b"{}",
        )
        await harness.limiter.admit(spent)
        await harness.limiter.settle(Account(admission=spent, cost_nano_usd=10**10))
        yield harness


async def status_of(client: RawClient) -> int:
    return int((await client.read_until(b"\r\n", 20)).split()[1])


@pytest.mark.parametrize("more", [b"", b"Expect: 100-continue\r\n"])
async def test_a_paused_organizations_large_body_is_refused_before_a_byte_of_it_is_read(tmp_path: Path, more: bytes) -> None:
    async with paused(tmp_path) as harness:
        async with connected(harness.port) as client:
            await client.send(head(9_800_000, more=more))
            assert await status_of(client) == 429
            told = await client.read_until(b"\r\n\r\n")
            assert b"retry-after: " in told
            assert (b"connection: close" in told) == bool(more)
        assert harness.metrics.counted[REFUSED] == [("acme", "acme-prod", "chat", "spend_7d")]
        assert (await converse(harness.port, chat(headers=BIG))).only().status == 200
        await harness.at_rest()


@pytest.mark.parametrize(
    ("length", "more", "status"),
    [
        (2_000_000, b"", 413),
        (900_000, b"", 503),
        (100, b"Content-Encoding: br\r\n", 415),
    ],
)
async def test_an_answer_in_place_of_the_word_to_go_on_is_the_connections_last(
    tmp_path: Path, length: int, more: bytes, status: int
) -> None:
    """Else the next request would be read away as the body that the client was waiting to send."""
    limits = replace(LIMITS, body_budget_bytes=1_000_000, body_bytes_max=1_000_000)
    async with running_gateway(tmp_path, config=plans(), limits=limits, timeouts=PATIENT) as harness:
        async with connected(harness.port) as holding, connected(harness.port) as client:
            await holding.send(head(500_000))
            await client.send(head(length, more=more + b"Expect: 100-continue\r\n"))
            told = await client.read_until(b"\r\n\r\n")
            assert told.startswith(b"HTTP/1.1 %d " % status)
            assert b"connection: close" in told
        await harness.at_rest()


async def test_a_paused_organizations_coded_body_is_refused_unread_however_short_it_is(tmp_path: Path) -> None:
    async with paused(tmp_path) as harness, connected(harness.port) as client:
        await client.send(head(100, more=b"Content-Encoding: zstd\r\n"))
        assert await status_of(client) == 429


async def test_so_is_one_of_unknown_length(tmp_path: Path) -> None:
    async with paused(tmp_path) as harness, connected(harness.port) as client:
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n" + KEY + b"\r\n")
        assert await status_of(client) == 429


async def test_bodies_of_nothing_but_structure_run_into_their_senders_rate_limit(tmp_path: Path) -> None:
    config = plans(rate_limits=[{"requests": 3, "window": "1h"}])
    async with running_gateway(tmp_path, config=config) as harness:
        statuses = [await status_at(harness, chat(body, headers=KEY)) for body in (ONES, KEYS, ONES, KEYS, ONES, KEYS)]
        assert statuses == [400, 400, 400, 400, 429, 429]  # one more than the limit: see LocalGate
        assert (await converse(harness.port, chat(headers=BIG))).only().status == 200
        assert not harness.events() or all(event["org"] == "big" for event in harness.events())


async def test_slow_bodies_take_the_slots_of_their_sender_alone(tmp_path: Path) -> None:
    config, limits = plans(rate_limits=[{"open_requests": 50}]), replace(LIMITS, requests_open_max=300)
    async with AsyncExitStack() as stack:
        harness = await stack.enter_async_context(running_gateway(tmp_path, config=config, timeouts=PATIENT, limits=limits))
        slow = [await stack.enter_async_context(connected(harness.port)) for _ in range(310)]
        for client in slow:
            await client.send(head(60_000) + b" " * 1_500)
        async with asyncio.timeout(20):
            while len(harness.metrics.counted[REFUSED]) < 260:
                await asyncio.sleep(0.01)
        assert len(harness.gateway.pipeline.open) == 50
        assert set(harness.metrics.counted[REFUSED]) == {("acme", "acme-prod", "chat", "open_requests")}
        assert (await converse(harness.port, chat(headers=BIG))).only().status == 200


async def test_withheld_bodies_stay_within_the_budget_and_leave_room_for_others(tmp_path: Path) -> None:
    limits = replace(LIMITS, body_budget_bytes=100_000_000)
    async with AsyncExitStack() as stack:
        harness = await stack.enter_async_context(running_gateway(tmp_path, config=plans(), timeouts=PATIENT, limits=limits))
        withheld = [await stack.enter_async_context(connected(harness.port)) for _ in range(60)]
        for client in withheld:
            await client.send(head(9_900_000))
        async with asyncio.timeout(20):
            while len(harness.metrics.counted[REFUSED]) < 53:
                await asyncio.sleep(0.01)
        assert harness.gateway.pipeline.entrance.body_bytes == 7 * 9_900_000 <= 75_000_000
        assert set(harness.metrics.counted[REFUSED]) == {("acme", "acme-prod", "chat", "overloaded")}
        assert await status_of(withheld[59]) == 503

        assert await status_at(harness, chat(long_prompt("x " * 50_000), headers=BIG)) == 200
    assert harness.gateway.pipeline.entrance.body_bytes == 0


async def test_chunks_count_as_they_come(tmp_path: Path) -> None:
    limits = replace(LIMITS, body_budget_bytes=1_000_000, body_bytes_max=1_000_000)
    async with running_gateway(tmp_path, config=plans(), limits=limits) as harness:
        start = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n" + KEY + b"\r\n"
        chunk = b"186a0\r\n" + b" " * 100_000 + b"\r\n"
        async with connected(harness.port) as first, connected(harness.port) as second:
            await first.send(start + chunk * 7)
            async with asyncio.timeout(10):
                while harness.gateway.pipeline.entrance.body_bytes < 700_000:
                    await asyncio.sleep(0.01)
            await second.send(start + chunk * 2)
            assert await status_of(second) == 503


async def test_prompts_of_a_paused_organization_are_not_counted_and_a_victims_is_exact(tmp_path: Path) -> None:
    counted: list[str] = []
    async with paused(tmp_path) as harness:
        tokens = harness.gateway.services.tokens
        assert isinstance(tokens, TokenCounter)
        counting = tokens.prompt_upper_bound

        async def noted(shape: PromptShape, model: str | None, *, org: str) -> int:
            counted.append(org)
            found = await counting(shape, model, org=org)
            assert found == tokens.upper_bound_prompt(shape, model)
            return found

        harness.gateway.services.tokens = Noted(tokens, noted)
        prompt = chat(long_prompt("other words, " * 8_000), headers=KEY)
        crowd = [asyncio.ensure_future(status_at(harness, prompt)) for _ in range(75)]
        assert await status_at(harness, chat(long_prompt(VICTIM_PROMPT), headers=BIG)) == 200
        assert {await one for one in crowd} == {429}
        assert counted == ["big"]


async def test_of_what_is_left_a_large_prompt_is_refused_by_its_least_cost(tmp_path: Path) -> None:
    """A pause is no wall at the limit itself: a little is left, which none of these can be had for."""
    async with running_gateway(tmp_path, acme_usd="0.00001") as harness:
        harness.gateway.services.tokens = Noted(shared_tokens(), _never)
        for body in (long_prompt("words, " * 20_000, max_tokens=1), long_prompt("words, " * 10_000, max_tokens=4_000)):
            assert await status_at(harness, chat(body, headers=KEY)) == 429
        assert {refusal[3] for refusal in harness.metrics.counted[REFUSED]} == {"spend_7d"}


async def _never(shape: PromptShape, model: str | None, *, org: str) -> int:
    raise AssertionError(f"tokens are counted for {org}")


class Noted:
    """A tokenizer of which one method is another."""

    def __init__(self, tokens: Any, prompt_upper_bound: Any) -> None:
        self.prompt = tokens.prompt
        self.text = tokens.text
        self.completion = tokens.completion
        self.prompt_upper_bound = prompt_upper_bound


async def status_at(harness: Harness, request: bytes) -> int:
    async with connected(harness.port) as client:
        await client.send(request)
        return await status_of(client)


async def test_slow_answers_of_one_organization_leave_connections_for_others(tmp_path: Path) -> None:
    config = plans() | {
        "upstreams": {"upstreams": {"default": {"pool_max": 8, "connect_timeout": "60s", "on_disconnect": "cancel"}}}
    }
    slow = {"model": "gpt-4o-mini", "max_tokens": 9, "messages": [{"role": "user", "content": "[[sim delay=60000]] Hello"}]}
    async with running_gateway(tmp_path, config=config) as harness, AsyncExitStack() as stack:
        places = harness.gateway.services.view.upstreams["default"].places
        for _ in range(20):
            client = await stack.enter_async_context(connected(harness.port))
            await client.send(chat(json.dumps(slow).encode(), headers=KEY))
        async with asyncio.timeout(10):
            while len(harness.gateway.pipeline.open) < 20 or places.taken < 6:
                await asyncio.sleep(0.01)
        assert await status_at(harness, chat(headers=BIG)) == 200
        assert places.taken == 6
