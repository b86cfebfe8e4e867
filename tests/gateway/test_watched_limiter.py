"""What a worker counts of its calls to the limiter, its spool, and of models without a price."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, digest, running_gateway

from tallygate.domain.errors import LimiterWipedError, StoreError
from tallygate.domain.organization import UnknownModelPolicy
from tallygate.gateway.watched_limiter import WatchedLimiter

REQUEST = {"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}


class Stopwatch:
    """A clock that each look moves on by a quarter of a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


class Calls:
    def __init__(self) -> None:
        self.answered: list[tuple[str, float, str]] = []
        self.failed: list[str] = []

    def limiter_answered(self, operation: str, seconds: float, request_id: str) -> None:
        self.answered.append((operation, seconds, request_id))

    def limiter_failed(self, operation: str) -> None:
        self.failed.append(operation)


class OneAnswer:
    """A limiter that answers every call with the same, or raises it."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    async def admit(self, *_arguments: object) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    settle = release = admit


class Admission:
    reservation_id = "r1"


@pytest.mark.parametrize(("call", "operation"), [("admit", "admit"), ("settle", "settle"), ("release", "settle")])
async def test_an_answer_is_timed_under_its_operation(call: str, operation: str) -> None:
    calls = Calls()
    limiter: Any = WatchedLimiter(OneAnswer("answer"), calls, Stopwatch())  # type: ignore[arg-type]

    assert await getattr(limiter, call)(*[Admission()] * (1 if call == "admit" else 2)) == "answer"

    assert calls.answered == [(operation, 0.25, "r1")]


@pytest.mark.parametrize(("error", "failed"), [(StoreError("away"), ["admit"]), (LimiterWipedError("an answer all the same"), [])])
async def test_only_a_missing_answer_is_a_failure(error: StoreError, failed: list[str]) -> None:
    calls = Calls()
    limiter: Any = WatchedLimiter(OneAnswer(error), calls, Stopwatch())  # type: ignore[arg-type]

    with pytest.raises(StoreError):
        await limiter.admit(Admission())

    assert (calls.answered, calls.failed) == ([], failed)


async def test_a_request_asks_the_limiter_twice(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway, ClientSession(headers={"Authorization": f"Bearer {ACME_KEY}"}) as session:
        async with session.post(f"{gateway.url}/v1/chat/completions", json=REQUEST) as answer:
            assert answer.status == 200
        await gateway.at_rest()

        assert gateway.metrics.limiter_calls == ["admit", "settle"]
        assert gateway.metrics.unknown_models == []


@pytest.mark.parametrize(
    ("plan", "policy", "status"),
    [
        ({"unknown_model": "refuse"}, UnknownModelPolicy.REFUSE, 400),
        ({"unknown_model": {"price_as": "gpt-4o"}}, UnknownModelPolicy.PRICE_AS, 200),
        ({"unknown_model": "unpriced"}, UnknownModelPolicy.UNPRICED, 200),
    ],
)
async def test_a_model_without_a_price_is_counted_under_the_plans_policy(
    tmp_path: Path, plan: dict[str, Any], policy: UnknownModelPolicy, status: int
) -> None:
    config = {"plans": {"plans": {"pay_as_you_go": {"spend_limit": {"usd": "100", "window": "7d"}} | plan}}}
    organizations = {
        "organizations": [
            {
                "id": "acme",
                "name": "Acme",
                "plan": "pay_as_you_go",
                "credentials": [{"id": "acme-prod", "name": "P", "key_sha256": digest("acmesecret")}],
            }
        ]
    }
    async with (
        running_gateway(tmp_path, config=config | {"organizations": organizations}) as gateway,
        ClientSession(headers={"Authorization": f"Bearer {ACME_KEY}"}) as session,
    ):
        async with session.post(f"{gateway.url}/v1/chat/completions", json=REQUEST | {"model": "made-up"}) as answer:
            assert answer.status == status
        await gateway.at_rest()

        assert gateway.metrics.unknown_models == [("acme", policy)]
