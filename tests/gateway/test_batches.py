"""OpenAI's batches: held at the most that their lines can cost, and each result entered once."""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientPayloadError, ClientSession, FormData, web
from gateway_harness import ACME_KEY, BIG_KEY, Harness, digest, nothing_finished, organizations, running_gateway, write_config
from memory_jobs import MemoryJobs, SteppedPoller, poller_of

from tallygate.domain.errors import StoreError
from tallygate.domain.job import deferred_account
from tallygate.gateway.jobs.batches import AHEAD_MAX, CHUNK_LINES
from tallygate.gateway.jobs.poller import LEASE_MS, LOST_AFTER_MS
from tallygate.telemetry.metrics import SPEND_WARNINGS

ACME = {"authorization": f"Bearer {ACME_KEY}"}
BIG = {"authorization": f"Bearer {BIG_KEY}"}
KEPT = {"kind": "bearer", "secret_env": "UPSTREAM_KEY_OF_A_TEST"}
# gpt-4o-mini in batches: 0.075 and 0.30 USD per million tokens
INPUT_NANO_USD, OUTPUT_NANO_USD = 75, 300
DAY_MS = 86_400_000


def line(custom_id: str, text: str, *, url: str = "/v1/chat/completions", **more: Any) -> dict[str, Any]:
    body = {"model": "gpt-4o-mini", "max_tokens": 100, "messages": [{"role": "user", "content": text}], **more}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


class Time:
    def __init__(self) -> None:
        self.ms = 1_790_000_000_000

    def __call__(self) -> int:
        return self.ms


class World:
    """A gateway whose upstream has the operator's key, and a poller that polls when a test says so."""

    def __init__(self, harness: Harness, session: ClientSession, poller: SteppedPoller, jobs: MemoryJobs, now: Time) -> None:
        self.harness, self.session, self.poller, self.jobs, self.now = harness, session, poller, jobs, now

    async def upload(self, lines: Sequence[Any], *, headers: Any = ACME) -> str:
        content = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
        form = FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", content.encode(), filename="lines.jsonl", content_type="application/jsonl")
        async with self.session.post("/v1/files", data=form, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["id"])

    async def order(
        self, lines: Sequence[Any], *, status: int = 200, headers: Any = ACME, endpoint: str = "/v1/chat/completions"
    ) -> dict[str, Any]:
        file_id = await self.upload(lines, headers=headers)
        return await self.begin(file_id, status=status, headers=headers, endpoint=endpoint)

    async def begin(
        self, file_id: str, *, status: int = 200, headers: Any = ACME, endpoint: str = "/v1/chat/completions"
    ) -> dict[str, Any]:
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h"}
        async with self.session.post("/v1/batches", json=body, headers=headers) as answer:
            assert answer.status == status, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def poll_after(self, ms: int) -> int:
        self.now.ms += ms
        self.harness.clock.offset_ms += ms
        return await self.poller.poll_due()

    async def spent_and_held(self) -> tuple[int, int]:
        window = await self.harness.window()
        return window.spent_nano_usd, window.held_nano_usd

    def results(self) -> list[dict[str, Any]]:
        return [event for event in self.harness.events() if "-" in event["event_id"]]

    def served(self) -> int:
        """What the simulator's own account comes to."""
        records = [record for record in self.harness.ledger.records if record.tier == "batch" and record.accepted]
        return sum(each.prompt_tokens * INPUT_NANO_USD + each.generated_tokens * OUTPUT_NANO_USD for each in records)


@asynccontextmanager
async def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, more: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[World]:
    monkeypatch.setenv("UPSTREAM_KEY_OF_A_TEST", "sk-operators")
    now = Time()
    config = {"upstreams": {"upstreams": {"default": {"auth": KEPT}}}, **(more or {})}
    async with (
        running_gateway(tmp_path, config=config, simulator_clock_ms=now, enters=True, **options) as harness,
        ClientSession(harness.url) as session,
    ):
        yield World(harness, session, *poller_of(harness), now)


async def test_a_batch_is_held_and_each_result_is_entered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        lines = [line(f"a-{number}", f"[[sim tokens={number + 1};delay=60000]] Hello") for number in range(5)]
        batch = await at.order([*lines, line("bad", "[[sim fault=status;status=500;delay=60000]] Hello")])
        spent, held = await at.spent_and_held()
        assert spent == 0
        output = 6 * 100 * OUTPUT_NANO_USD
        assert output < held < output + 6 * 60 * INPUT_NANO_USD
        assert await at.poll_after(10_000) == 1
        assert await at.spent_and_held() == (0, held)
        assert await at.poll_after(60_000) == 1
        assert await at.spent_and_held() == (at.served(), 0)
        found = at.results()
        assert sorted(event["client_request_id"] for event in found) == [f"a-{number}" for number in range(5)]
        assert sorted(event["completion_tokens"] for event in found) == [1, 2, 3, 4, 5]
        for event in found:
            assert (event["capability"], event["credential"], event["response_model"]) == ("batches", "acme-prod", "gpt-4o-mini")
            assert (event["endpoint"], event["usage_source"], event.get("flags", [])) == ("/v1/chat/completions", "upstream", [])
        (ended,) = [event for event in at.harness.events() if "deferred" in event.get("flags", ())]
        assert (ended.get("cost_nano_usd", 0), ended["_kind"], ended["endpoint"]) == (0, "released", "/v1/batches")
        assert await at.poll_after(DAY_MS) == 0
        async with at.session.get(f"/v1/batches/{batch['id']}", headers=ACME) as answer:
            output_id = (await answer.json())["output_file_id"]
        async with at.session.get(f"/v1/files/{output_id}/content", headers=ACME) as answer:
            assert len((await answer.text()).splitlines()) == 5
        async with at.session.get(f"/v1/files/{output_id}/content", headers=BIG) as answer:
            assert answer.status == 404


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/responses", {"model": "gpt-4o-mini", "input": "[[sim tokens=7]] Hi", "max_output_tokens": 50}),
        ("/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "[[sim tokens=7]] Hi", "max_tokens": 50}),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "Hi there"}),
        ("/v1/moderations", {"model": "omni-moderation-latest", "input": "Hi there"}),
    ],
)
async def test_lines_of_other_endpoints(
    endpoint: str, body: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as at:
        await at.order([{"custom_id": "one", "method": "POST", "url": endpoint, "body": body}], endpoint=endpoint)
        _, held = await at.spent_and_held()
        await at.poll_after(10_000)
        spent, left = await at.spent_and_held()
        assert (0 < spent <= held) is (endpoint != "/v1/moderations")
        assert left == 0
        (event,) = at.results()
        assert (event["endpoint"], event["response_model"]) == (endpoint, body["model"])
        made = [each["kind"] for each in event.get("made", ())]
        assert ("response" in made) is (endpoint == "/v1/responses")


async def test_a_batch_that_the_limit_cannot_hold_is_refused_with_the_amount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch, acme_usd="0.01") as at:
        lines = [line(str(number), "Hello", max_tokens=1000) for number in range(50)]
        refused = await at.order(lines, status=429)
        assert refused["error"]["code"] == "spend_limit_exceeded"
        assert 0.015 < float(refused["error"]["needed_usd"]) < 0.016
        assert refused["error"]["needed_usd"] in refused["error"]["message"]
        assert "order fewer requests" in refused["error"]["message"]
        assert at.harness.deferred() == []
        await at.order(lines[:20])


ODD_LINES: list[tuple[list[Any], str]] = [
    (["{nonsense"], "Request 1 of the batch"),
    ([line("a", "Hi"), line("a", "Hi")], "Request 2 of the batch: The 'custom_id' 'a' comes twice."),
    ([line("a", "Hi"), line("b", "Hi", url="/v1/embeddings")], "Request 2 of the batch"),
    ([line("a", "Hi", model="unheard-of")], "No price is configured for the model 'unheard-of'"),
    ([line("", "Hi")], "custom_id"),
    ([{**line("a", "Hi"), "Body": {}}], "Unknown member"),
    ([line("a", "Hi", model=None)], "model"),
    ([], "The batch has no requests."),
]


@pytest.mark.parametrize(("lines", "message"), ODD_LINES)
async def test_odd_lines_are_refused_by_their_number(
    lines: list[Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as at:
        refused = await at.order(lines, status=400)
        assert message in refused["error"]["message"]


async def test_a_line_may_not_run_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        body = {"model": "gpt-4o-mini", "input": "Hi", "background": True}
        refused = await at.order(
            [{"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}], status=400, endpoint="/v1/responses"
        )
        assert "background" in refused["error"]["message"]


async def test_files_and_what_lines_name_belong_to_the_organization(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        file_id = await at.upload([line("a", "Hi")], headers=BIG)
        assert (await at.begin(file_id, status=404))["error"]["code"] == "object_not_found"
        body = {"model": "gpt-4o-mini", "input": "Hi", "previous_response_id": "resp_of_another"}
        lines = [{"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}]
        refused = await at.order(lines, status=404, endpoint="/v1/responses")
        assert refused["error"]["message"].startswith("Request 1 of the batch")
        await at.begin(await at.upload([line("a", "Hi")]), endpoint="/v1/images/generations", status=400)


async def test_what_a_credential_may_not_use_it_may_not_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = organizations()
    known["organizations"][0]["credentials"] += [
        {"id": "acme-mini", "key_sha256": digest("minisecret"), "models": ["gpt-4o-mini"]},
        {"id": "acme-lists", "key_sha256": digest("listssecret"), "capabilities": ["batches", "files"]},
    ]
    async with world(tmp_path, monkeypatch, more={"organizations": known}) as at:
        mini = {"authorization": "Bearer tg_acme-mini_minisecret"}
        await at.order([line("a", "Hi")], headers=mini)
        refused = await at.order([line("a", "Hi"), line("b", "Hi", model="gpt-4o")], headers=mini, status=403)
        assert (refused["error"]["code"], refused["error"]["message"][:24]) == ("model_not_allowed", "Request 2 of the batch: ")
        lists = {"authorization": "Bearer tg_acme-lists_listssecret"}
        refused = await at.order([line("a", "Hi")], headers=lists, status=403)
        assert refused["error"]["code"] == "capability_not_allowed"


async def test_it_needs_the_operators_key(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession(harness.url) as session:
        body = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        async with session.post("/v1/batches", json=body, headers=ACME) as answer:
            assert answer.status == 400
            assert "your own key" in (await answer.json())["error"]["message"]


async def test_one_that_is_cancelled_owes_what_was_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        batch = await at.order([line("a", "[[sim tokens=3]] Hi"), line("b", "[[sim tokens=3;delay=90000]] Hi")])
        async with at.session.post(f"/v1/batches/{batch['id']}/cancel", headers=ACME) as answer:
            assert (await answer.json())["status"] == "cancelled"
        await at.poll_after(10_000)
        assert [event["client_request_id"] for event in at.results()] == ["a"]
        assert await at.spent_and_held() == (at.served(), 0)


async def test_one_that_is_lost_is_charged_as_it_was_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        await at.order([line("a", "[[sim delay=9000000]] Hi")])
        _, held = await at.spent_and_held()
        monkeypatch.setattr(
            "tallygate.gateway.upstream_reads.url_of", lambda _upstream, target: at.harness.upstream_url + target + "x"
        )
        await at.poll_after(10_000)
        assert await at.spent_and_held() == (0, held)
        await at.poll_after(LOST_AFTER_MS)
        assert await at.spent_and_held() == (held, 0)
        (event,) = [event for event in at.harness.events() if "job_lost" in event.get("flags", ())]
        assert event["cost_nano_usd"] == held


class OddUpstream:
    """An upstream whose batch is in a state, and has results, that a test chooses. produced: lines of results that were sent."""

    def __init__(self) -> None:
        self.batch: dict[str, Any] = {"id": "batch_odd", "object": "batch", "status": "validating"}
        self.input = b""
        self.results: Iterable[bytes] = ()
        self.produced = 0
        self.is_gone = False
        self.respond: Any = None

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        uploaded = form["file"]
        assert isinstance(uploaded, web.FileField)
        self.input = uploaded.file.read()
        return web.json_response({"id": "file-input", "object": "file"})

    async def content(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["file_id"] == "file-input":
            return web.Response(body=self.input)
        if self.is_gone:
            return web.json_response({"error": {"message": "gone"}}, status=404)
        answer = web.StreamResponse()
        await answer.prepare(request)
        for piece in self.results:
            await answer.write(piece)
            self.produced += 1
        await answer.write_eof()
        return answer

    async def show(self, request: web.Request) -> web.StreamResponse:
        if self.respond is not None:
            found: web.StreamResponse = await self.respond(request)
            return found
        return web.json_response(self.batch)

    def end(self, results: Iterable[bytes], *, status: str = "completed", completed: int | None = None) -> None:
        self.results = results
        self.batch |= {"status": status, "output_file_id": "file-output"}
        if completed is not None:
            self.batch["request_counts"] = {"total": 3, "completed": completed, "failed": 0}


@asynccontextmanager
async def odd_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[World, OddUpstream]]:
    upstream = OddUpstream()
    app = web.Application()
    app.router.add_post("/v1/files", upstream.upload)
    app.router.add_get("/v1/files/{file_id}/content", upstream.content)
    app.router.add_post("/v1/batches", upstream.show)
    app.router.add_get("/v1/batches/{batch_id}", upstream.show)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with world(tmp_path, monkeypatch, upstream_url=f"http://127.0.0.1:{runner.addresses[0][1]}") as at:
            yield at, upstream
    finally:
        await runner.cleanup()


def result(custom_id: str, completion: int, **more: Any) -> bytes:
    usage = {"prompt_tokens": 10, "completion_tokens": completion, "total_tokens": 10 + completion}
    choice = {"index": 0, "message": {"role": "assistant", "content": "word " * min(completion, 100)}, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "model": "gpt-4o-mini-2024-07-18", "choices": [choice], "usage": usage, **more}
    response = {"status_code": 200, "request_id": "r", "body": body}
    return json.dumps({"id": "b", "custom_id": custom_id, "response": response, "error": None}).encode() + b"\n"


def cost_of(completion: int) -> int:
    return 10 * INPUT_NANO_USD + completion * OUTPUT_NANO_USD


async def test_the_price_is_that_of_batches_whatever_tier_an_answer_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000,010 tokens by hand: 10 x 0.075 USD and 100 x 0.30 USD per million."""
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):
        await at.order([line("a", "Hi")])
        upstream.end([result("a", 100, service_tier="default")])
        await at.poll_after(10_000)
        assert await at.spent_and_held() == (30_750, 0)
        (event,) = at.results()
        assert json.loads(event["billed"])["conditions"] == {"service_tier": "batch"}


ODD_RESULTS: list[tuple[list[bytes], int | None, list[int]]] = [
    ([result("a", 5), result("a", 5), result("b", 6)], None, [5, 6]),  # twice
    ([result("c", 7), b"\n\n", result("a", 5)], None, [5, 7]),  # in no order, with blank lines
    ([result("a", 5).rstrip()], None, [5]),  # without an end
]


@pytest.mark.parametrize(("results", "completed", "completions"), ODD_RESULTS)
async def test_results_count_once_in_any_order(
    results: list[bytes], completed: int | None, completions: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):
        await at.order([line(name, "Hi") for name in "abc"])
        upstream.end(results, completed=completed)
        await at.poll_after(10_000)
        assert await at.spent_and_held() == (sum(map(cost_of, completions)), 0)


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
async def test_what_ends_without_results_is_released(status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):
        await at.order([line(name, "Hi") for name in "abc"])
        upstream.batch["status"] = status
        await at.poll_after(10_000)
        assert await at.spent_and_held() == (0, 0)
        assert at.jobs.open() == []


@pytest.mark.parametrize(
    ("results", "completed", "shares"),
    [
        ([b'{"custom_id": "a", "response": {"status_code": 200, "body": {"id": nonsen\n', result("b", 5)], None, 1),
        ([b"nonsense\n", b'{"custom_id": "c"}\n', result("b", 5)], None, 2),
        ([result("b", 5)], 3, 2),  # of three that were answered, two are missing
    ],
)
async def test_results_that_cannot_be_read_are_charged_an_even_share(
    results: list[bytes], completed: int | None, shares: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):
        await at.order([line(name, "Hi") for name in "abc"])
        _, held = await at.spent_and_held()
        upstream.end(results, completed=completed)
        await at.poll_after(10_000)
        assert await at.spent_and_held() == (cost_of(5) + shares * (held // 3), 0)
        assert sum("uncertain" in event.get("flags", ()) for event in at.harness.events()) >= 1


async def test_a_result_without_usage_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):
        await at.order([line(name, "Hi") for name in "abc"])
        upstream.end([result("a", 5, usage=None)])
        await at.poll_after(10_000)
        (event,) = at.results()
        assert (event["usage_source"], 5 <= event["completion_tokens"] <= 12, event["prompt_tokens"] > 0) == ("counted", True, True)


async def test_results_that_are_gone_are_charged_by_what_was_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):
        await at.order([line(name, "Hi") for name in "abc"])
        _, held = await at.spent_and_held()
        upstream.end([])
        upstream.is_gone = True
        await at.poll_after(10_000)
        assert await at.spent_and_held() == (0, held)
        await at.poll_after(LOST_AFTER_MS)
        assert await at.spent_and_held() == (held, 0)


@pytest.mark.parametrize("is_gone", [True, False])
async def test_a_batch_of_uneven_requests_costs_no_more_than_it_was_held_at(
    is_gone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dearest has been entered, and the others are lost: an even share for each would come to more."""
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):
        await at.order([line("a", "Hi", max_tokens=9_000), line("b", "Hi", max_tokens=1), line("c", "Hi", max_tokens=1)])
        _, held = await at.spent_and_held()
        if is_gone:
            upstream.end([result("a", 8_900)], completed=3)
            with monkeypatch.context() as patch, suppress(KilledError):
                patch.setattr("tallygate.gateway.jobs.batches.BatchResults._wait", killed)
                await at.poll_after(10_000)
            upstream.is_gone = True
            await at.poll_after(LOST_AFTER_MS + LEASE_MS)
        else:
            upstream.end([result("a", 8_900)], completed=3)
            await at.poll_after(10_000)
        spent, left = await at.spent_and_held()
        assert (cost_of(8_900) < spent <= held, left) == (True, 0)


async def test_what_is_not_about_the_batch_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):
        await at.order([line(name, "Hi") for name in "abc"])
        _, held = await at.spent_and_held()
        upstream.end([result("a", 5)])
        mine = upstream.batch
        for told in (
            mine | {"id": "batch_other"},
            mine | {"status": "paused"},
            mine | {"output_file_id": None},  # completed, and nobody knows what
        ):
            upstream.batch = told
            await at.poll_after(60_000)
            assert await at.spent_and_held() == (0, held)
        upstream.batch = mine
        upstream.results = [b"<html>\n", b"<body>\n" * 40, b"</html>"]
        await at.poll_after(60_000)
        assert await at.spent_and_held() == (0, held)
        upstream.results = [result("a", 5)]
        await at.poll_after(60_000)
        assert await at.spent_and_held() == (cost_of(5), 0)


class KilledError(Exception):
    """A poller that ends in the middle."""


async def killed(*_: Any, **__: Any) -> None:
    raise KilledError


async def test_a_poller_killed_between_any_two_steps_leaves_all_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallygate.gateway.upstream_reads.PIECE_LINES", 1)
    monkeypatch.setattr("tallygate.gateway.jobs.batches.CHUNK_LINES", 1)
    expected = sum(map(cost_of, (5, 6, 7)))
    for step in range(100):
        directory = tmp_path / str(step)
        directory.mkdir()
        async with odd_world(directory, monkeypatch) as (at, upstream):
            await at.order([line(name, "Hi") for name in "abc"])
            upstream.end([result("a", 5), result("b", 6), result("c", 7)], completed=3)
            left = step

            def mortal(call: Any) -> Any:
                async def run(*given: Any, **named: Any) -> Any:
                    nonlocal left
                    left -= 1
                    if left == -1:
                        raise KilledError
                    done = await call(*given, **named)
                    left -= 1
                    if left == -1:
                        raise KilledError
                    return done

                return run

            services = at.harness.gateway.services
            patched = [(at.jobs, "keep"), (at.jobs, "put_off"), (services.settler, "settle_job"), (services.settler, "settle_part")]
            patched.append((services.settler, "finished"))
            real = [(owner, name, getattr(owner, name)) for owner, name in patched]
            for owner, name, call in real:
                setattr(owner, name, mortal(call))
            with suppress(KilledError):
                await at.poll_after(10_000)
            was_killed = left < 0
            for owner, name, call in real:
                setattr(owner, name, call)
            upstream.results = reversed([result("a", 5), result("b", 6), result("c", 7)])
            await at.poll_after(LEASE_MS + 1)
            assert await at.spent_and_held() == (expected, 0), step
            assert len(at.results()) == 3
            assert at.jobs.open() == []
        if not was_killed:
            assert step > 20
            return
    raise AssertionError("no run was long enough")


async def test_a_long_output_is_streamed_and_does_not_run_ahead_of_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):
        await at.order([line("a", "Hi")])
        count, settled, entered, ahead, waiting = 3_000, set[str](), set[str](), [0], [0]
        upstream.end(result(str(number), 2, padding="x" * 16_000) for number in range(count))
        settler = at.harness.gateway.services.settler

        async def settle_part(account: Any) -> None:
            settled.add(account.admission.reservation_id)
            ahead.append(len(settled) - len(entered))
            waiting.append(upstream.produced - len(settled))

        async def finished(ids: Sequence[str]) -> frozenset[str]:
            found = frozenset(id_ for id_ in ids if id_ in settled)
            entered.update(found)
            return found

        monkeypatch.setattr(settler, "settle_part", settle_part)
        monkeypatch.setattr(settler, "finished", finished)
        await at.poll_after(10_000)
        assert len(settled) == count
        assert max(ahead) <= AHEAD_MAX + CHUNK_LINES
        assert max(waiting) < count // 2  # what waits is in the sockets' buffers
        assert at.jobs.progress != {}


async def test_a_ledger_that_is_behind_and_a_store_that_is_away_put_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):
        await at.order([line(name, "Hi") for name in "abc"])
        upstream.end([result("a", 5), result("b", 6)])
        settler, real = at.harness.gateway.services.settler, at.harness.gateway.services.settler.settle_part

        async def away(_account: Any) -> None:
            raise StoreError("away")

        monkeypatch.setattr(settler, "settle_part", away)
        await at.poll_after(10_000)
        assert at.results() == []
        monkeypatch.setattr(settler, "settle_part", real)
        real_finished = settler.finished
        monkeypatch.setattr(settler, "finished", nothing_finished)
        monkeypatch.setattr("tallygate.gateway.jobs.batches.WAIT_S", 0.0)
        await at.poll_after(10_000)
        assert len(at.results()) == 2
        assert len(at.jobs.open()) == 1
        monkeypatch.setattr(settler, "finished", real_finished)
        await at.poll_after(10_000)
        assert await at.spent_and_held() == (cost_of(5) + cost_of(6), 0)
        assert len(at.results()) == 2


async def test_an_answer_without_an_id_is_charged_as_it_was_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):
        upstream.batch = {"object": "batch"}
        await at.order([line("a", "Hi")])
        spent, held = await at.spent_and_held()
        assert spent > 100 * OUTPUT_NANO_USD
        assert held == 0


async def test_a_batch_takes_one_request_and_no_tokens_of_rate_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [{"requests": 3, "window": "1h"}, {"tokens": 100, "window": "1h"}]
    plans = {"plans": {"pay_as_you_go": {"rate_limits": limits}, "enterprise": {}, "free": {}}}
    async with world(tmp_path, monkeypatch, more={"plans": plans}) as at:
        await at.order([line(str(number), "[[sim tokens=90]] Hello") for number in range(10)])
        await at.poll_after(10_000)
        assert len(at.results()) == 10
        body = {"model": "gpt-4o-mini", "max_tokens": 20, "messages": [{"role": "user", "content": "Hi"}]}
        async with at.session.post("/v1/chat/completions", json=body, headers=ACME) as answer:
            assert answer.status == 200, await answer.text()


NARROWED: list[tuple[dict[str, Any], int, str]] = [
    ({"models": ["gpt-4o"]}, 403, "model_not_allowed"),
    ({"capabilities": ["batches", "files"]}, 403, "capability_not_allowed"),
    ({"capabilities": ["batches", "files", "chat"], "models": ["gpt-4o-mini"]}, 200, ""),
]


@pytest.mark.parametrize(("narrowed", "status", "code"), NARROWED)
async def test_lines_are_bound_by_their_credential(
    narrowed: dict[str, Any], status: int, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orgs = organizations()
    orgs["organizations"][0]["credentials"][0] |= narrowed
    async with world(tmp_path, monkeypatch, more={"organizations": orgs}) as at:
        answered = await at.order([line("a", "Hi")], status=status)
        assert answered.get("error", {}).get("code", "") == code


async def test_lines_for_an_endpoint_that_is_off_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    off = [{"method": "POST", "path": "/v1/embeddings", "capability": "embeddings", "enabled": False}]
    async with world(tmp_path, monkeypatch, more={"routes": {"with_shipped": True, "routes": off}}) as at:
        lines = [{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "x", "input": "Hi"}}]
        refused = await at.order(lines, status=403, endpoint="/v1/embeddings")
        assert (refused["error"]["code"], refused["error"]["param"]) == ("endpoint_not_enabled", "endpoint")


async def test_a_request_without_a_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"model": "gpt-4o-mini", "input": "1", "output": "1"}]
    prices = {"prices": rows, "with_listed": False}
    async with world(tmp_path, monkeypatch, more={"prices": prices}) as at:
        refused = await at.order([line("a", "Hi", max_tokens=None)], status=400)
        assert "State the maximum output" in refused["error"]["message"]
        await at.order([line("a", "Hi")])
        _, held = await at.spent_and_held()
        assert held >= 100 * 1_000  # the row has no price of batches: the standard one is held


@pytest.mark.parametrize("gone", ["credential", "organization"])
async def test_who_ordered_it_may_be_gone_when_it_ends(gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        await at.order([line("a", "[[sim tokens=9;delay=60000]] Hi")])
        left = organizations()
        if gone == "organization":
            del left["organizations"][0]
        else:
            left["organizations"][0]["credentials"] = []
        write_config(at.harness.config_dir, {"organizations": left})
        await at.harness.gateway.read_again()
        await at.poll_after(61_000)
        (event,) = at.results()
        assert (event["org"], event["credential"], event["completion_tokens"]) == ("acme", "acme-prod", 9)
        assert at.jobs.open() == []


async def test_a_store_that_loses_everything_in_the_middle_loses_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The results that it had are gone with it: the next reader settles them again, as the ledger does not have them."""
    monkeypatch.setattr("tallygate.gateway.jobs.batches.WAIT_S", 0.0)
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):
        await at.order([line(name, "Hi") for name in "abc"])
        upstream.end([result("a", 5), result("b", 6)])
        (job,) = at.jobs.open()
        limiter, settler = at.harness.limiter, at.harness.gateway.services.settler
        real = settler.finished
        monkeypatch.setattr(settler, "finished", nothing_finished)
        await at.poll_after(10_000)
        assert len(at.results()) == 2
        limiter.wipe()
        limiter.wiped_partitions.clear()
        await limiter.defer(deferred_account(job.job, encoded=msgspec.json.encode(job.job)))
        monkeypatch.setattr(settler, "finished", real)
        assert at.results() == []
        await at.poll_after(20_000)
        assert await at.spent_and_held() == (cost_of(5) + cost_of(6), 0)
        assert len(at.results()) == 2


@pytest.mark.parametrize(("path", "url"), [("/openai", "/chat/completions"), ("/openai/v1", "/v1/chat/completions")])
async def test_batches_of_azure(path: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `url` of a line comes with a version or without; a version of the API stays in the query."""
    async with world(tmp_path, monkeypatch) as at:
        form = FormData()
        form.add_field("purpose", "batch")
        content = json.dumps(line("a", "[[sim tokens=9]] Hi", url=url)).encode()
        form.add_field("file", content, filename="lines.jsonl", content_type="application/jsonl")
        async with at.session.post(f"{path}/files?api-version=2024-10-21", data=form, headers=ACME) as answer:
            file_id = (await answer.json())["id"]
        body = {"input_file_id": file_id, "endpoint": "/chat/completions", "completion_window": "24h"}
        async with at.session.post(f"{path}/batches?api-version=2024-10-21", json=body, headers=ACME) as answer:
            assert answer.status == 200, await answer.text()
        assert at.harness.deferred()[0].target.startswith(f"{path}/batches/batch_sim")
        assert at.harness.deferred()[0].target.endswith("?api-version=2024-10-21")
        await at.poll_after(10_000)
        (event,) = at.results()
        assert (event["completion_tokens"], event["endpoint"]) == (9, "/v1/chat/completions")
        assert await at.spent_and_held() == (at.served(), 0)


async def test_a_fee_is_held_beside_the_lines_and_owed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    route = {"method": "POST", "path": "/v1/batches", "capability": "batches", "dialect": "openai_batch", "fee_usd": "0.001"}
    async with world(tmp_path, monkeypatch, more={"routes": {"with_shipped": True, "routes": [route]}}) as at:
        await at.order([line(name, "[[sim tokens=4]] Hi") for name in "ab"])
        _, held = await at.spent_and_held()
        assert held > 1_000_000 + 200 * OUTPUT_NANO_USD
        await at.poll_after(10_000)
        assert await at.spent_and_held() == (at.served() + 1_000_000, 0)
        (ended,) = [event for event in at.harness.events() if "deferred" in event.get("flags", ())]
        assert (ended["cost_nano_usd"], ended["fee_nano_usd"], ended["_kind"]) == (1_000_000, 1_000_000, "settled")


async def test_a_batch_that_cannot_be_paid_is_refused_before_its_lines_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = {"method": "POST", "path": "/v1/batches", "capability": "batches", "dialect": "openai_batch", "fee_usd": "0.02"}
    more = {"routes": {"with_shipped": True, "routes": [route]}}
    async with world(tmp_path, monkeypatch, more=more, acme_usd="0.01") as at:
        refused = await at.order(["{nonsense"], status=429)  # and not told of its first line
        assert refused["error"]["code"] == "spend_limit_exceeded"


async def test_results_that_cross_a_threshold_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):
        await at.order([line("a", "Hi", max_tokens=16_000)])
        upstream.end([result("a", 50_000_000)])  # 15 of 25 USD
        await at.poll_after(10_000)
        assert at.harness.metrics.counted[SPEND_WARNINGS] == [("acme", "spend_7d", "0.5")]


@pytest.mark.parametrize("sent", [b"", b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"object": "batch", '])
async def test_an_order_whose_answer_is_cut_is_charged_as_it_was_held(
    sent: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with odd_world(tmp_path, monkeypatch) as (at, upstream):

        async def cut(request: web.Request) -> web.StreamResponse:
            await request.read()
            assert request.transport is not None
            request.transport.write(sent)
            request.transport.close()
            return web.Response()

        upstream.respond = cut
        file_id = await at.upload([line("a", "Hi")])
        body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        with suppress(ClientPayloadError):
            async with at.session.post("/v1/batches", json=body, headers=ACME) as answer:
                await answer.read()
        await at.harness.at_rest()
        spent, held = await at.spent_and_held()
        assert (spent > 100 * OUTPUT_NANO_USD, held) == (True, 0)
        assert at.harness.deferred() == []
