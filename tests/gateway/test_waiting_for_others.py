"""A refusal that only waits for what open requests hold says so, and comes back soon; any other names the time of its own limit."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from gateway_harness import ACME_KEY, Harness, organizations, running_gateway
from object_upstream import object_upstream

Ask = Callable[..., Awaitable[tuple[int, Any, Any]]]
SOON = {"retry-after": "1", "retry-after-ms": "1000", "x-should-retry": "true"}


@asynccontextmanager
async def while_one_is_open(
    tmp_path: Path, plan: Any, first: Any, inner: Callable[[Ask], Awaitable[None]]
) -> AsyncIterator[tuple[Harness, Ask]]:
    """`inner` runs while the answer to `first` is under way; it used 12 tokens."""
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    config = {"plans": {"plans": {"pay_as_you_go": plan, "enterprise": {}, "free": {}}}, "organizations": organizations()}
    del config["organizations"]["organizations"][0]["spend_limit"]  # the plan's is looked at
    async with object_upstream() as upstream, running_gateway(tmp_path, config=config, upstream_url=upstream.url) as harness:

        async def ask(max_tokens: int | None = None, path: str = "/v1/chat/completions") -> tuple[int, Any, Any]:
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
            body |= {} if max_tokens is None else {"max_tokens": max_tokens}
            headers = {"Authorization": f"Bearer {ACME_KEY}"}
            async with ClientSession() as session, session.post(harness.url + path, json=body, headers=headers) as answer:
                return answer.status, answer.headers, await answer.json()

        answered: list[int] = []

        async def answer(_request: web.Request) -> web.Response:
            answered.append(1)
            if len(answered) == 1:
                await inner(ask)
            return web.json_response(
                {"id": "c", "object": "chat.completion", "model": "gpt-4o-mini", "choices": [], "usage": usage}
            )

        upstream.answers["POST", "/v1/chat/completions"] = answer
        status, _, body = await ask(first)
        assert (status, body["usage"]) == (200, usage)
        yield harness, ask


def soon(headers: Any) -> dict[str, str]:
    return {name: headers[name] for name in SOON}


@pytest.mark.parametrize(
    ("plan", "more"),
    [
        ({"rate_limits": [{"tokens": 5000, "window": "1h"}]}, {"code": "rate_limit_exceeded", "limit": "tokens_per_1h"}),
        (
            {"rate_limits": [{"tokens": 5000, "window": "1h", "per": "credential", "capability": "chat"}]},
            {"code": "rate_limit_exceeded", "limit": "tokens_per_1h"},
        ),
        ({"rate_limits": [{"open_requests": 1}]}, {"code": "rate_limit_exceeded", "limit": "open_requests"}),
        ({"spend_limit": {"usd": "0.0025"}, "clamp": False}, {"code": "spend_limit_exceeded", "limit": "spend_7d"}),
        (
            {"spend_limit": {"usd": "0.0025", "window": "month"}, "clamp": False},
            {"code": "spend_limit_exceeded", "limit": "spend_month"},
        ),
    ],
    ids=["tokens", "tokens of a credential", "open requests", "spend", "spend of a month"],
)
async def test_it_is_told_and_true(tmp_path: Path, plan: Any, more: dict[str, str]) -> None:
    async def inner(ask: Ask) -> None:
        status, headers, body = await ask(4000)
        error = body["error"]
        assert (status, soon(headers), error["waits_for"]) == (429, SOON, "open_requests")
        assert more.items() <= error.items()
        assert "equests" in error["message"]
        if "tokens" in more["limit"]:
            assert headers["RateLimit"].endswith("t=1")

    async with while_one_is_open(tmp_path, plan, 4000, inner) as (_, ask):
        status, headers, _ = await ask(4000)
        assert status == 200  # no refill was waited for
        assert "waits_for" not in headers


async def test_what_is_used_is_waited_for_as_long_as_it_takes(tmp_path: Path) -> None:
    async def inner(ask: Ask) -> None:
        assert (await ask(900))[0] == 200

    plan = {"rate_limits": [{"tokens": 1000, "window": "1h"}]}
    async with while_one_is_open(tmp_path, plan, 20, inner) as (_, ask):
        status, headers, body = await ask(1000)
        assert status == 429
        assert "waits_for" not in body["error"]
        assert int(headers["Retry-After"]) == int(headers["RateLimit"].rpartition("t=")[2]) > 10


async def test_a_request_that_could_be_clamped_is_not_told_that_it_alone_is_too_dear(tmp_path: Path) -> None:
    """Its model's own maximum costs more than the limit, which holds it back from nothing: it would be sent with less."""

    async def inner(ask: Ask) -> None:
        status, headers, body = await ask()
        assert (status, soon(headers), body["error"]["waits_for"]) == (429, SOON, "open_requests")
        assert float(body["error"]["needed_usd"]) <= float(body["error"]["limit_usd"])
        assert "once open requests end" in body["error"]["message"]

    async with while_one_is_open(tmp_path, {"spend_limit": {"usd": "0.001"}}, None, inner) as (_, ask):
        assert (await ask())[0] == 200
