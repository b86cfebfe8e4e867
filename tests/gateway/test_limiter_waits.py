"""What a worker counts of its calls to the limiter, its spool, and of models without a price."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, digest, running_gateway
from recording_metrics import RecordingMetrics

from tallygate.domain.admission import Account, AdmissionRequest, Settlement
from tallygate.domain.errors import LimiterWipedError, StoreError
from tallygate.domain.organization import UnknownModelPolicy
from tallygate.gateway.settling.settler import Settler
from tallygate.gateway.settling.spool import Spool
from tallygate.limiter.local_fallback import FailurePolicy, LocalFallback
from tallygate.telemetry.metrics import LIMITER_ERRORS, LIMITER_SECONDS, UNKNOWN_MODELS
from tallygate.telemetry.unpriced_models import unpriced_lately

REQUEST = {"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}


ADMISSION = AdmissionRequest(
    reservation_id="r1",
    org="acme",
    rate=(),
    spend=(),
    hold_nano_usd=0,
    hold_min_nano_usd=0,
    floor_nano_usd=0,
    lease_ms=1_000,
    event=b"{}",
)


class Stopwatch:
    """A clock that each look moves on by a quarter of a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


class OneAnswer:
    """A limiter that answers every call with the same, or raises it."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    async def admit(self, *_arguments: object) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    settle = admit


def a_settler(tmp_path: Path, answer: object, metrics: RecordingMetrics) -> Settler:
    async def finished(_event_ids: object) -> frozenset[str]:
        return frozenset()

    limiter: Any = OneAnswer(answer)
    spool = Spool(tmp_path / "0.spool", bytes_max=10_000)
    return Settler(limiter, spool, metrics, finished=finished, now_ms=lambda: 0, clock=Stopwatch())


@pytest.mark.parametrize("owed", [True, False])
async def test_a_settlement_and_a_release_are_timed_as_settled(tmp_path: Path, owed: bool) -> None:
    metrics = RecordingMetrics()
    settlement = Settlement(settled_at_ms=1)
    account = Account(admission=ADMISSION, cost_nano_usd=0, is_owed=owed)

    assert await a_settler(tmp_path, settlement, metrics).settle(account) is settlement

    assert (metrics.observed[LIMITER_SECONDS], metrics.seconds[LIMITER_SECONDS]) == (["settle"], [0.25])


@pytest.mark.parametrize(("error", "failed"), [(StoreError("away"), ["settle"]), (LimiterWipedError("an answer all the same"), [])])
async def test_only_a_missing_answer_to_a_settlement_is_a_failure(tmp_path: Path, error: StoreError, failed: list[str]) -> None:
    metrics = RecordingMetrics()

    assert await a_settler(tmp_path, error, metrics).settle(Account(admission=ADMISSION, cost_nano_usd=0)) is None

    assert (metrics.observed[LIMITER_SECONDS], metrics.counted[LIMITER_ERRORS]) == ([], failed)


@pytest.mark.parametrize(
    ("error", "failed"), [(StoreError("away"), ["admit", "settle"]), (LimiterWipedError("an answer all the same"), [])]
)
async def test_only_a_missing_answer_to_an_admission_is_a_failure(tmp_path: Path, error: StoreError, failed: list[str]) -> None:
    limiter: Any = OneAnswer(error)
    fallback = LocalFallback(FailurePolicy(grace_nano_usd=10**9), lambda: 0)
    async with (
        running_gateway(tmp_path, limiter=limiter, fallback=fallback) as gateway,
        ClientSession(headers={"Authorization": f"Bearer {ACME_KEY}"}) as session,
    ):
        async with session.post(f"{gateway.url}/v1/chat/completions", json=REQUEST) as answer:
            assert (answer.status == 200) == bool(failed)
        await gateway.at_rest()

        assert (gateway.metrics.observed[LIMITER_SECONDS], gateway.metrics.counted[LIMITER_ERRORS]) == ([], failed)


async def test_a_request_asks_the_limiter_twice(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway, ClientSession(headers={"Authorization": f"Bearer {ACME_KEY}"}) as session:
        gateway.gateway.services.clock = gateway.gateway.services.settler._clock = Stopwatch()
        async with session.post(f"{gateway.url}/v1/chat/completions", json=REQUEST) as answer:
            assert answer.status == 200
        await gateway.at_rest()

        assert gateway.metrics.observed[LIMITER_SECONDS] == ["admit", "settle"]
        assert gateway.metrics.seconds[LIMITER_SECONDS] == [0.25, 0.25]
        assert gateway.metrics.counted[UNKNOWN_MODELS] == []


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

        assert gateway.metrics.counted[UNKNOWN_MODELS] == [("acme", policy)]
        [noted] = unpriced_lately(tmp_path / "unpriced", now_ms=gateway.clock.now_ms())
        assert (noted.org, noted.model, noted.policy) == ("acme", "made-up", policy)
