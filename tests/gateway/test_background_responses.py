"""Background responses: held when they are asked for, settled when they are done, whether or not their client ever asks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientSession, web
from gateway_harness import ACME_KEY, BIG_KEY, Harness, running_gateway
from memory_jobs import MemoryJobs, SteppedPoller, poller_of

from tallygate.domain.errors import StoreError
from tallygate.gateway.jobs.poller import LOST_AFTER_MS

ACME = {"authorization": f"Bearer {ACME_KEY}"}
KEPT = {"kind": "bearer", "secret_env": "UPSTREAM_KEY_OF_A_TEST"}
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
# gpt-4o-mini: 0.15 and 0.60 USD per million tokens, at most 16,384 of output
OUTPUT_NANO_USD = 600


class World:
    """A gateway whose upstream has the operator's key, and a poller that polls when a test says so."""

    def __init__(self, harness: Harness, session: ClientSession, poller: SteppedPoller, jobs: MemoryJobs, now: "Time") -> None:
        self.harness, self.session, self.poller, self.jobs, self.now = harness, session, poller, jobs, now

    async def begin(self, text: str, *, status: int = 200, headers: Any = ACME, **more: Any) -> dict[str, Any]:
        body = {"model": "gpt-4o-mini", "input": text, "background": True, "max_output_tokens": 1000, **more}
        async with self.session.post("/v1/responses", json=body, headers=headers) as answer:
            assert answer.status == status, await answer.text()
            assert "tallygate-cost-usd" not in answer.headers
            found: dict[str, Any] = await answer.json()
            return found

    async def poll_after(self, ms: int) -> int:
        self.now.ms += ms
        self.harness.clock.offset_ms += ms
        return await self.poller.poll_due()

    async def spent_and_held(self) -> tuple[int, int]:
        window = await self.harness.window()
        return window.spent_nano_usd, window.held_nano_usd


class Time:
    def __init__(self) -> None:
        self.ms = 1_790_000_000_000

    def __call__(self) -> int:
        return self.ms


@asynccontextmanager
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[World]:
    monkeypatch.setenv("UPSTREAM_KEY_OF_A_TEST", "sk-operators")
    now = Time()
    config = {"upstreams": {"upstreams": {"default": {"auth": KEPT}}}}
    async with (
        running_gateway(tmp_path, config=config, simulator_clock_ms=now, **options) as harness,
        ClientSession(harness.url) as session,
    ):
        yield World(harness, session, *poller_of(harness), now)


async def test_one_is_held_until_it_is_done_and_charged_by_its_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        begun = await at.begin("[[sim tokens=300;delay=600000]] Think.")
        assert begun["status"] == "queued"
        spent, held = await at.spent_and_held()
        assert spent == 0
        assert held >= 1000 * OUTPUT_NANO_USD
        assert at.harness.events() == []

        assert await at.poll_after(5_000) == 1
        assert await at.spent_and_held() == (0, held)
        assert await at.poll_after(600_000) == 1
        (served,) = at.harness.ledger.records
        cost = served.prompt_tokens * 150 + 300 * OUTPUT_NANO_USD
        assert await at.spent_and_held() == (cost, 0)
        (event,) = at.harness.events()
        assert (event["completion_tokens"], event["prompt_tokens"], event["usage_source"]) == (
            300,
            served.prompt_tokens,
            "upstream",
        )
        assert event["flags"] == ["deferred"]
        assert (event["outcome"], event["duration_ms"] >= 605_000, event["cost_nano_usd"]) == ("success", True, cost)
        assert await at.poll_after(DAY_MS) == 0
        assert served.credential_headers == ("authorization",)
        assert not served.has_gateway_key


async def test_a_client_that_polls_and_one_that_streams_on_count_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as at:
        begun = await at.begin("[[sim tokens=30;delay=1000]] Think.")
        at.now.ms += 2_000
        for _ in range(3):
            async with at.session.get(f"/v1/responses/{begun['id']}", headers=ACME) as answer:
                assert (await answer.json())["usage"]["output_tokens"] == 30
        async with at.session.get(f"/v1/responses/{begun['id']}", headers={"authorization": f"Bearer {BIG_KEY}"}) as answer:
            assert answer.status == 404
        await at.poll_after(2_000)
        assert sorted(event.get("completion_tokens", 0) for event in at.harness.events()) == [0, 0, 0, 30]


async def test_a_stream_to_its_end_is_settled_at_once_and_one_that_is_left_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as at:
        body = {"model": "gpt-4o-mini", "input": "[[sim tokens=20]] Think.", "background": True, "stream": True}
        async with at.session.post("/v1/responses", json=body, headers=ACME) as answer:
            assert b"response.completed" in await answer.read()
        await at.harness.at_rest()
        assert [event["completion_tokens"] for event in at.harness.events()] == [20]
        assert at.harness.deferred() == []

        body["input"] = "[[sim tokens=20;fault=cut;at=6]] Think."
        async with at.session.post("/v1/responses", json=body, headers=ACME) as answer:
            with suppress(ClientPayloadError):
                await answer.read()
        await at.harness.at_rest()
        assert len(at.harness.deferred()) == 1
        assert await at.poll_after(1_000) == 1
        assert [event["completion_tokens"] for event in at.harness.events()] == [20, 20]


@pytest.mark.parametrize(
    ("directive", "outcome", "completion"),
    [("tokens=50;finish=failed", "upstream_error", 50), ("tokens=50;usage=missing", "success", 50)],
)
async def test_what_failed_or_states_no_usage_is_counted(
    directive: str, outcome: str, completion: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as at:
        await at.begin(f"[[sim {directive}]] Think.")
        await at.poll_after(1_000)
        (event,) = at.harness.events()
        assert (event["outcome"], event["completion_tokens"]) == (outcome, completion)


async def test_one_that_is_cancelled_owes_what_it_read_and_may_have_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no usage and no output, even if a stream showed all of that: three seconds are more than its maximum of tokens."""
    async with world(tmp_path, monkeypatch) as at:
        begun = await at.begin("[[sim delay=60000]] Think.")
        _, held = await at.spent_and_held()
        async with at.session.post(f"/v1/responses/{begun['id']}/cancel", headers=ACME) as answer:
            assert (await answer.json())["status"] == "cancelled"
        await at.poll_after(3_000)
        event = next(event for event in at.harness.events() if event["endpoint"] == "/v1/responses")
        assert (event["completion_tokens"], event["usage_source"], "assumed" in event["flags"]) == (1000, "assumed", True)
        assert 0 < event["prompt_tokens"] <= 40  # its upper bound: the texts are not kept
        assert await at.spent_and_held() == (event["cost_nano_usd"], 0)
        assert event["cost_nano_usd"] <= held


async def test_one_that_its_upstream_has_lost_is_charged_as_it_was_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        begun = await at.begin("[[sim delay=60000]] Think.")
        _, held = await at.spent_and_held()
        async with at.session.delete(f"/v1/responses/{begun['id']}", headers=ACME) as answer:
            assert answer.status == 200
        await at.poll_after(1_000)
        assert await at.spent_and_held() == (0, held)  # it may be too new to be found
        await at.poll_after(LOST_AFTER_MS)
        assert await at.spent_and_held() == (held, 0)
        event = next(event for event in at.harness.events() if "job_lost" in event.get("flags", ()))
        assert event["cost_nano_usd"] == held


async def test_an_upstream_that_is_away_is_asked_less_and_less_and_the_hold_is_charged_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as at:
        await at.begin("[[sim delay=60000]] Think.")
        _, held = await at.spent_and_held()
        monkeypatch.setattr("tallygate.gateway.upstream_reads.url_of", lambda _upstream, target: "http://127.0.0.1:9" + target)
        waits = []
        for _ in range(12):
            asked_at = at.harness.clock.now_ms()
            await at.poll_after(30_000)
            ((_, due),) = at.jobs.due.items()
            waits.append(due - asked_at - 30_000)
        assert [round(wait / 1000) for wait in waits[:4]] == [1, 2, 2, 3]
        assert max(waits) // 1000 == 30
        assert await at.spent_and_held() == (0, held)
        at.harness.clock.offset_ms += DAY_MS + HOUR_MS
        at.harness.limiter.sweep("acme")
        assert await at.spent_and_held() == (held, 0)
        monkeypatch.undo()
        at.now.ms += DAY_MS
        await at.poller.poll_due()
        assert (await at.spent_and_held())[0] < held  # late, and put right


async def test_a_limit_that_cannot_hold_it_refuses_and_a_request_under_way_takes_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch, acme_usd="0.001") as at:
        await at.begin("[[sim delay=60000]] Think.", status=429, model="gpt-4o", max_output_tokens=4_000)
        await at.begin("[[sim delay=60000]] Think.")
        refused = await at.begin("[[sim delay=60000]] Think.", status=429)
        assert refused["error"]["code"] == "spend_limit_exceeded"
        await at.poll_after(61_000)
        await at.begin("[[sim delay=60000]] Think.")


async def test_a_stream_that_breaks_before_it_names_its_work_is_charged_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upstream goes on, and nobody can ask for it. A worker that dies then is charged the same."""
    async with world(tmp_path, monkeypatch) as at:
        body = {"model": "gpt-4o-mini", "input": "[[sim fault=cut;at=0]] Hi", "background": True, "max_output_tokens": 9000}
        async with at.session.post("/v1/responses", json=body | {"stream": True}, headers=ACME) as answer:
            with suppress(ClientPayloadError):
                await answer.read()
        await at.harness.at_rest()
        assert at.harness.deferred() == []
        (event,) = at.harness.events()
        assert event["completion_tokens"] == 9000
        assert "assumed" in event["flags"]
        assert (await at.spent_and_held()) == (event["cost_nano_usd"], 0)


@pytest.mark.parametrize("away", [False, True])
async def test_one_more_than_an_organization_may_have_is_refused(
    away: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def has_room(org: str) -> bool:
        asked.append(org)
        if away:
            raise StoreError("away")
        return False

    async with world(tmp_path, monkeypatch) as at:
        at.harness.gateway.services.has_room_for_job = has_room
        refused = await at.begin("Hi", status=200 if away else 503)
        assert away or refused["error"]["code"] == "overloaded"
        assert asked == ["acme"]
        assert away or await at.spent_and_held() == (0, 0)


async def test_it_needs_the_operators_key(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession(harness.url) as session:
        body = {"model": "gpt-4o-mini", "input": "Hi", "background": True}
        async with session.post("/v1/responses", json=body, headers=ACME) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["param"] == "background"


async def test_a_store_that_is_away_when_it_begins_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deferral waits in the spool, and is replayed."""
    async with world(tmp_path, monkeypatch) as at:
        limiter, away = at.harness.limiter, True
        real = limiter.defer

        async def defer(account: Any) -> Any:
            if away:
                raise StoreError("away")
            return await real(account)

        monkeypatch.setattr(limiter, "defer", defer)
        await at.begin("[[sim tokens=10]] Think.")
        assert at.harness.deferred() == []
        away = False
        assert await at.harness.gateway.services.settler.replay() == 1
        assert len(at.harness.deferred()) == 1
        await at.poll_after(1_000)
        assert [event["completion_tokens"] for event in at.harness.events()] == [10]


async def test_a_store_that_is_away_when_it_ends_is_asked_again_and_fills_no_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as at:
        await at.begin("[[sim tokens=10]] Think.")

        async def away(_account: Any) -> Any:
            raise StoreError("away")

        with monkeypatch.context() as patch:
            patch.setattr(at.harness.limiter, "settle", away)
            for _ in range(5):
                assert await at.poll_after(30_000) == 1
        assert await at.harness.gateway.services.settler.replay() == 0
        assert await at.poll_after(30_000) == 1
        assert [event["completion_tokens"] for event in at.harness.events()] == [10]
        assert (await at.spent_and_held())[1] == 0


async def test_an_answer_without_an_id_is_charged_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def respond(_request: web.Request) -> web.Response:
        return web.json_response({"object": "response", "status": "queued", "model": "gpt-4o-mini", "output": []})

    app = web.Application()
    app.router.add_post("/v1/responses", respond)
    async with serving(app) as url, world(tmp_path, monkeypatch, upstream_url=url) as at:
        body = {"model": "gpt-4o-mini", "input": "Hi", "background": True, "max_output_tokens": 1000}
        async with at.session.post("/v1/responses", json=body, headers=ACME) as answer:
            assert answer.status == 200
        spent, held = await at.spent_and_held()
        assert spent >= 1000 * OUTPUT_NANO_USD
        assert held == 0


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


USAGE = {"input_tokens": 9, "output_tokens": 500, "total_tokens": 509}
DONE = {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-4o-mini", "output": [], "usage": USAGE}


class Scripted:
    """An upstream whose background response is shown as a test says. told: the next answer to a question about it."""

    def __init__(self) -> None:
        self.begun: dict[str, Any] = DONE | {"status": "queued", "usage": None}
        self.told: Any = DONE
        self.app = web.Application()
        self.app.router.add_post("/v1/responses", self._begin)
        self.app.router.add_get("/v1/responses/{id}", self._tell)

    async def _begin(self, _request: web.Request) -> web.Response:
        return web.json_response(self.begun)

    async def _tell(self, _request: web.Request) -> web.Response:
        if isinstance(self.told, dict):
            return web.json_response(self.told)
        status, body = self.told
        return web.Response(status=status, body=body, headers={"location": "/v1/responses/resp_2", "retry-after": "9999"})


@pytest.mark.parametrize(
    "told",
    [
        (200, b"<html>One moment, please</html>"),
        (200, b""),
        (200, b'{"id": "resp_1", "status": "comp'),
        {"error": {"message": "Try again", "type": "server_error"}},
        DONE | {"id": "resp_2"},
        DONE | {"status": "paused"},
        DONE | {"status": None, "usage": None},
        DONE | {"status": 7, "usage": None},
        DONE | {"status": "in_progress"},
        (301, b""),
        (429, b"{}"),
        (500, b"{}"),
        (401, b"{}"),
        (200, b"[" * 100_000),
        (200, b'{"id": "resp_1", "output": "' + b"x" * (17 << 20) + b'"}'),
    ],
    ids=lambda told: str(told)[:60],
)
async def test_what_does_not_say_that_it_has_ended_does_not_end_it(
    told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Scripted()
    async with serving(upstream.app) as url, world(tmp_path, monkeypatch, upstream_url=url) as at:
        await at.begin("Think.")
        _, held = await at.spent_and_held()
        upstream.told = told
        assert await at.poll_after(1_000) == 1
        assert await at.spent_and_held() == (0, held)
        upstream.told = DONE
        assert await at.poll_after(LOST_AFTER_MS) == 1
        assert await at.spent_and_held() == (9 * 150 + 500 * OUTPUT_NANO_USD, 0)


async def test_an_answer_with_a_status_that_nobody_has_heard_of_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Scripted()
    upstream.begun |= {"status": "validating"}
    async with serving(upstream.app) as url, world(tmp_path, monkeypatch, upstream_url=url) as at:
        await at.begin("Think.")
        await at.poll_after(1_000)
        assert await at.spent_and_held() == (9 * 150 + 500 * OUTPUT_NANO_USD, 0)


async def test_a_model_that_thinks_unseen_owes_for_its_time_where_no_usage_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Scripted()
    async with serving(upstream.app) as url, world(tmp_path, monkeypatch, upstream_url=url) as at:
        await at.begin("Think.", model="o4-mini", max_output_tokens=5_000)
        _, held = await at.spent_and_held()
        text = {"type": "message", "content": [{"type": "output_text", "text": "Forty-two"}]}
        upstream.told = DONE | {"usage": None, "model": "o4-mini", "output": [text]}
        await at.poll_after(1_000)
        (event,) = at.harness.events()
        assert 3_000 <= event["completion_tokens"] <= 5_000
        assert await at.spent_and_held() == (event["cost_nano_usd"], 0)
        assert event["cost_nano_usd"] <= held


async def test_a_price_that_was_taken_away_meanwhile_makes_nothing_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        await at.begin("[[sim tokens=30]] Think.")
        _, held = await at.spent_and_held()
        services = at.harness.gateway.services
        monkeypatch.setattr(type(services.view.prices), "find", lambda *_, **__: None)
        await at.poll_after(1_000)
        (event,) = at.harness.events()
        assert (event["cost_nano_usd"], "assumed" in event["flags"]) == (held, True)
        assert await at.spent_and_held() == (held, 0)
