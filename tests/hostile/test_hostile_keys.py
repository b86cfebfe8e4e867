"""Keys that are wrong, in the wrong place, of someone else, or no keys at all."""

import asyncio
from pathlib import Path

import pytest
from gateway_harness import ACME_KEY, BIG_KEY, digest, organizations, running_gateway
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_client import CHAT, Conversation, ask, asking, chat, connected, converse
from search import cases

from tallygate.telemetry import metrics

OLD = "tg_big-old_CANARYold"
DISABLED = "tg_big-disabled_CANARYdisabled"


def with_dead_keys() -> dict[str, object]:
    known = organizations()
    known["organizations"][1]["credentials"] += [
        {"id": "big-old", "name": "Old", "key_sha256": digest("CANARYold"), "expires": "2020-01-01"},
        {"id": "big-disabled", "name": "Disabled", "key_sha256": digest("CANARYdisabled"), "enabled": False},
    ]
    return known


def header(text: str, name: str = "Authorization") -> bytes:
    return f"{name}: {text}\r\n".encode()


REFUSED = {
    "none": b"",
    "empty": header(""),
    "scheme only": header("Bearer"),
    "basic": header("Basic CANARY"),
    "key without scheme": header(ACME_KEY),
    "token scheme": header(f"Token {ACME_KEY}"),
    "unknown": header("Bearer tg_nobody_CANARY"),
    "wrong secret": header("Bearer tg_acme-prod_CANARY"),
    "other credential's secret": header("Bearer tg_acme-prod_bigsecret"),
    "other organization's id": header("Bearer tg_big-prod_acmesecret"),
    "digest as secret": header(f"Bearer tg_acme-prod_{digest('acmesecret')}"),
    "id alone": header("Bearer tg_acme-prod_"),
    "upper case": header(f"Bearer {ACME_KEY.upper()}"),
    "key with a tail": header(f"Bearer {ACME_KEY}x"),
    "key cut": header(f"Bearer {ACME_KEY[:-1]}"),
    "key with a blank": header(f"Bearer {ACME_KEY} x"),
    "two keys in one": header(f"Bearer {ACME_KEY},{BIG_KEY}"),
    "expired": header(f"Bearer {OLD}"),
    "disabled": header(f"Bearer {DISABLED}"),
    "long": header("Bearer " + "CANARY" * 1_000),
    "quotes": header("Bearer ' OR '1'='1"),
    "braces": header("Bearer {CANARY}"),
    "JWT": header("Bearer eyJhbGciOiJub25lIn0.eyJjbGllbnRfaWQiOiJhY21lLXByb2QifQ.CANARY"),
    "wrong header": header(f"Bearer {ACME_KEY}", "Proxy-Authorization"),
    "other header": header(ACME_KEY, "x-key"),
    "cookie": header(f"key={ACME_KEY}", "Cookie"),
    "trailing CANARY header": header("CANARY", "x-api-key"),
}


async def test_a_caller_without_a_key_of_its_own_is_refused(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config={"organizations": with_dead_keys()}) as harness:
        found = await asyncio.gather(
            *[converse(harness.port, chat(headers=given), quiet_seconds=5.0) for given in REFUSED.values()]
        )
        for name, one in zip(REFUSED, found, strict=True):
            answer = one.only()
            assert (answer.status, answer.code) == (401, "invalid_api_key"), name
            assert answer.header("www-authenticate"), name
            assert b"CANARY" not in one.data, name
            assert b"secret" not in one.data, name
        assert not harness.ledger.records
        assert not harness.events()
        assert not harness.limiter.orgs
        counted = {(org, credential) for org, credential, _, _ in harness.metrics.counted[metrics.REFUSED]}
        assert counted <= {("other", "other"), ("big", "big-old"), ("big", "big-disabled")}  # only who held a true key is named


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "x-goog-api-key"])
async def test_a_key_is_charged_to_its_own_organization(tmp_path: Path, name: str) -> None:
    async with running_gateway(tmp_path) as harness:
        for key in (ACME_KEY, BIG_KEY):
            value = f"Bearer {key}" if name == "Authorization" else key
            given = header(value, name) + header("acme", "OpenAI-Organization") + header("acme", "X-Organization")
            assert (await ask(harness.port, chat(headers=given))).status == 200
        assert [event["org"] for event in harness.events()] == ["acme", "big"]


@pytest.mark.search
async def test_any_authorization_is_answered_without_an_error_of_ours(tmp_path: Path) -> None:
    """Hypothesis chooses the bytes; one gateway takes them all."""
    values = st.binary(max_size=60) | st.text(max_size=40).map(lambda text: b"Bearer " + text.encode("utf-8", "surrogatepass"))
    names = st.sampled_from([b"Authorization", b"x-api-key", b"x-goog-api-key"])
    chosen: list[tuple[bytes, bytes]] = []

    @settings(max_examples=cases(short=100, steady=400, deep=1_000), suppress_health_check=list(HealthCheck), deadline=None)
    @given(names, values)
    def choose(name: bytes, value: bytes) -> None:
        chosen.append((name, value))

    choose()
    async with running_gateway(tmp_path) as harness:
        few = asyncio.Semaphore(40)

        async def present(name: bytes, value: bytes) -> Conversation:
            request = chat(CHAT, headers=name + b": " + value + b"\r\nConnection: close\r\n")
            async with few, connected(harness.port) as client:
                await client.send(request)
                return await client.read_to_close()

        for one in await asyncio.gather(*[present(*pair) for pair in chosen]):
            assert {answer.status for answer in one.answers()} <= {400, 401, 431}
        assert not harness.ledger.records
        assert (await ask(harness.port, chat(asking("tokens=2")))).status == 200
