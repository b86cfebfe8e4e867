"""What a gateway keeps of the requests that it refuses."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from aiohttp import ClientSession
from gateway_harness import ACME_KEY, BIG_KEY, FREE_KEY, REFUSALS, Harness, running_gateway
from recording_metrics import RecordingMetrics

from tallygate.config.model import Route
from tallygate.domain.errors import Refused
from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.domain.refused_request import RefusedRequest
from tallygate.gateway.exchange.call import Caller, Head
from tallygate.gateway.exchange.caller_limits import limits_of
from tallygate.gateway.refusal_log import FURTHER_KEYS_MAX, ORG_WHOLE_A_MINUTE, WHOLE_A_MINUTE, RefusalLog
from tallygate.gateway.refusals import INTERNAL_ERROR
from tallygate.telemetry.metrics import REFUSAL_DETAILS_DROPPED, REFUSED
from tallygate.telemetry.refusal_file import SLOTS, RefusalFiles

CHAT = {"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}
DEAR = CHAT | {"model": "gpt-4o", "max_tokens": 16_000}
ACME = Organization(id="acme", name="Acme", plan=Plan(id="p"))
KEY = Credential(id="prod", org="acme", key_sha256=b"")
HEAD = SimpleNamespace(
    client=SimpleNamespace(id="1", request=SimpleNamespace(method="POST")),
    route=Route(method="POST", path="/v1/chat/completions", capability="chat", dialect="openai_chat"),
    params={},
)
LIMITED = {
    "pay_as_you_go": {
        "rate_limits": [{"requests": 2, "window": "1h"}],
        "spend_limit": {"usd": "25", "window": "7d"},
    },
    "enterprise": {},
    "free": {"api_access": False},
}


def lines_in(directory: Path) -> list[RefusedRequest]:
    found = []
    files = RefusalFiles(directory / REFUSALS)
    for waiting in files.waiting(10_000):
        found += [msgspec.json.decode(line, type=RefusedRequest) for _, line in waiting.lines]
        files.give_back(waiting)
    return found


async def asked(session: ClientSession, harness: Harness, body: Any, key: str = ACME_KEY, **headers: str) -> tuple[int, str]:
    sent = {"Authorization": f"Bearer {key}", **headers}
    async with session.post(f"{harness.url}/v1/chat/completions", json=body, headers=sent) as answer:
        await answer.read()
        return answer.status, answer.headers["x-request-id"]


async def test_a_spend_limit_says_what_was_spent_held_and_needed(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, acme_usd="0.001") as harness, ClientSession() as session:
        assert (await asked(session, harness, CHAT))[0] == 200
        before = harness.clock.now_ms()
        status, request_id = await asked(session, harness, DEAR, **{"X-Request-Id": "mine-1"})
        [line] = lines_in(tmp_path)
        window = await harness.window()

    assert status == 429
    assert (line.request_id, line.client_request_id) == (request_id, "mine-1")
    assert (line.org, line.credential, line.capability) == ("acme", "acme-prod", "chat")
    assert (line.endpoint, line.method, line.model) == ("/v1/chat/completions", "POST", "gpt-4o")
    assert (line.status, line.code, line.refused_by, line.more) == (429, "spend_limit_exceeded", "spend_7d", 0)
    assert (line.spent_nano_usd, line.held_nano_usd, line.limit_nano_usd) == (window.spent_nano_usd, 0, 1_000_000)
    assert line.needed_nano_usd is not None
    assert line.needed_nano_usd > 1_000_000
    assert line.message.startswith("Spend limit reached: $")
    assert line.resets_at_ms is None, "more than the limit alone: waiting does not help"
    assert before <= line.at_ms <= harness.clock.now_ms()


async def test_a_rate_limit_says_how_much_of_what_and_until_when(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, config={"plans": {"plans": LIMITED}}) as harness, ClientSession() as session:
        assert [(await asked(session, harness, CHAT))[0] for _ in range(3)] == [200, 200, 429]
        [line] = lines_in(tmp_path)

    assert (line.code, line.refused_by, line.model) == ("rate_limit_exceeded", "requests_per_1h", "gpt-4o-mini")
    assert (line.quantity, line.rate_limit, line.rate_window_ms, line.rate_remaining) == ("requests", 2, 3_600_000, 0)
    assert line.resets_at_ms is not None
    assert 1_790_000 < line.resets_at_ms - line.at_ms <= 1_800_000
    assert line.spent_nano_usd is None


async def test_a_known_caller_is_noted_whatever_refuses_and_nobody_else_is(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        assert (await asked(session, harness, CHAT, FREE_KEY))[0] == 403
        assert (await asked(session, harness, CHAT | {"model": "unheard-of\ud800"}, BIG_KEY))[0] == 400
        assert (await asked(session, harness, {"model": "gpt-4o"}, BIG_KEY))[0] == 400
        assert (await asked(session, harness, CHAT, "tg_nobody-prod_wrong"))[0] == 401
        lines = lines_in(tmp_path)

    assert [(line.org, line.code, line.refused_by) for line in lines] == [
        ("free", "plan_without_api_access", "plan_without_api_access"),
        ("big", "invalid_request", "invalid_request"),
        ("big", "invalid_request", "invalid_request"),
    ]


async def test_a_flood_leaves_a_sample_and_how_many_more_there_were(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        harness.clock.offset_ms = 60_000 - harness.clock.now_ms() % 60_000  # no minute ends meanwhile
        for _ in range(WHOLE_A_MINUTE + 7):
            assert (await asked(session, harness, CHAT, FREE_KEY))[0] == 403
        assert (await asked(session, harness, CHAT | {"model": "unheard-of"}))[0] == 400
        harness.clock.offset_ms += 60_000
        assert (await asked(session, harness, CHAT, FREE_KEY))[0] == 403
        counted = Counter(harness.metrics.counted[REFUSED])
    lines = lines_in(tmp_path)  # after the worker's end, which hands over what it has counted

    whole = [line for line in lines if not line.more]
    assert Counter(line.org for line in whole) == {"free": WHOLE_A_MINUTE + 1, "acme": 1}
    [further] = [line for line in lines if line.more]
    assert (further.org, further.credential, further.code, further.more) == ("free", "free-prod", "plan_without_api_access", 7)
    assert further.at_ms % 60_000 == 0
    assert further.at_ms <= whole[0].at_ms < further.at_ms + 60_000
    assert counted["free", "free-prod", "chat", "plan_without_api_access"] == WHOLE_A_MINUTE + 8


async def test_what_nobody_takes_is_bounded_and_still_counted(tmp_path: Path) -> None:
    """With the ledger away: the file is full, so that lines are only counted, and handed over once there is room."""
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        harness.clock.offset_ms = 60_000 - harness.clock.now_ms() % 60_000
        log = harness.gateway.services.refusal_log
        assert log is not None
        for _ in range(SLOTS):
            log._lines.write(b"{}")
        assert (await asked(session, harness, CHAT, FREE_KEY))[0] == 403
        assert len(harness.metrics.counted[REFUSAL_DETAILS_DROPPED]) == 1
        for waiting in (files := RefusalFiles(tmp_path / REFUSALS)).waiting(SLOTS):
            files.give_back(waiting)
    [line] = lines_in(tmp_path)

    assert (line.org, line.more) == ("free", 1)


async def test_one_organization_cannot_fill_the_log() -> None:
    """Its credentials and codes together have a share of a minute; what is counted at once is bounded too."""
    written: list[RefusedRequest] = []

    closed: list[object] = []

    class Memory:
        def write(self, line: bytes) -> bool:
            written.append(msgspec.json.decode(line, type=RefusedRequest))
            return True

        def close(self) -> None:
            closed.append(self)

    def refuse(org: str, credential: str) -> None:
        organization = replace(ACME, id=org)
        caller = Caller(
            organization=organization,
            credential=replace(KEY, id=credential),
            limits=limits_of(organization, KEY, "chat"),
            client_request_id=None,
        )
        log.note(Refused(INTERNAL_ERROR), cast("Head", HEAD), caller)

    metrics, loop = RecordingMetrics(), asyncio.get_running_loop()
    log = RefusalLog(Memory(), metrics, now_ms=lambda: 1_800_000_000_000, new_id=lambda: "id", loop=loop)
    for number in range(ORG_WHOLE_A_MINUTE + FURTHER_KEYS_MAX + 3):
        refuse("acme", f"made-up-{number}")
    refuse("other-org", "its")
    log.close()

    assert len(closed) == 1
    assert Counter(line.org for line in written if not line.more) == {"acme": ORG_WHOLE_A_MINUTE, "other-org": 1}
    assert sum(line.more for line in written) == FURTHER_KEYS_MAX
    assert len(metrics.counted[REFUSAL_DETAILS_DROPPED]) == 3


async def test_whatever_a_caller_chose_fits_a_line(tmp_path: Path) -> None:
    body = CHAT | {"model": "\N{PILE OF POO}" * 5_000}
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        status, _ = await asked(session, harness, body, BIG_KEY, **{"X-Request-Id": "y" * 2_000})
        assert status == 400
        assert harness.metrics.counted[REFUSAL_DETAILS_DROPPED] == []
        [line] = lines_in(tmp_path)

    assert line.model is not None
    assert set(line.model) == {"\N{PILE OF POO}"}
    assert line.client_request_id == "y" * 200


async def test_a_key_pasted_as_a_model_is_not_kept(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        for secret in (ACME_KEY, "sk-ant-api03-abcdefghijkl"):
            assert (await asked(session, harness, CHAT | {"model": secret}))[0] == 400
        kept = lines_in(tmp_path)

    assert [line.model for line in kept] == ["[secret]", "[secret]"]
    assert all("'[secret]'" in line.message for line in kept)


async def test_what_cannot_be_noted_is_refused_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        monkeypatch.setattr(RefusalLog, "note", lambda *_: 1 // 0)
        assert (await asked(session, harness, CHAT, FREE_KEY))[0] == 403
