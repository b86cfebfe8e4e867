"""What is free or paid for already can be had in a pause, and eats no message quota; over a real store."""

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientSession, web
from gateway_harness import ACME_KEY, BIG_KEY, Harness, organizations, running_gateway
from marked_partitions import mark_all
from object_upstream import ObjectUpstream, object_upstream

from tallygate.config.shipped import shipped_directory
from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.registry import dialects
from tallygate.dialects.unbilled import UnbilledMeter
from tallygate.domain.admission import Account, AdmissionRequest
from tallygate.domain.made_object import MadeObject
from tallygate.domain.prompt import PromptShape
from tallygate.domain.rate_limit import FREE_REQUESTS
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.local_gate import Entry
from tallygate.limiter.redis_limiter import RedisLimiter
from tallygate.limiter.script import load_scripts
from tallygate.telemetry.metrics import REFUSED

SPEND = 10**10
CHAT = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
COUNT = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "Hello"}]}
GOOGLE_COUNT = {"contents": [{"parts": [{"text": "Hello"}]}]}
KEPT = {"files": "file-1", "batches": "batch_1", "responses": "resp_1", "chat/completions": "chatcmpl-1", "uploads": "upload_1"}
FREE: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/gpt-4o-mini", None),
    ("GET", "/v1/responses/resp_1", None),
    ("GET", "/v1/chat/completions/chatcmpl-1", None),
    ("GET", "/v1/files", None),
    ("GET", "/v1/files/file-1", None),
    ("GET", "/v1/files/file-1/content", None),
    ("GET", "/v1/batches/batch_1", None),
    ("POST", "/v1/messages/count_tokens", COUNT),
    ("POST", "/v1/responses/input_tokens", {"model": "gpt-4o-mini", "input": "Hello"}),
    ("POST", "/v1beta/models/gemini-2.5-flash:countTokens", GOOGLE_COUNT),
    ("POST", "/v1/batches/batch_1/cancel", None),
    ("POST", "/v1/uploads/upload_1/cancel", None),
    ("DELETE", "/v1/files/file-1", None),
)


async def kept_by_acme(org: str, objects: Sequence[MadeObject], *, since_ms: int) -> Mapping[MadeObject, int | None]:
    assert since_ms >= 0
    return dict.fromkeys(objects, None) if org == "acme" else {}


@dataclass(kw_only=True)
class World:
    harness: Harness
    upstream: ObjectUpstream
    session: ClientSession

    async def ask(self, method: str, path: str, body: Any = None, key: str = ACME_KEY) -> tuple[int, Mapping[str, str], Any]:
        headers = {"Authorization": f"Bearer {key}"}
        async with self.session.request(method, self.harness.url + path, json=body, headers=headers) as answer:
            text = await answer.text()
            return answer.status, answer.headers, json.loads(text) if text else None

    async def status(self, method: str, path: str, body: Any = None, key: str = ACME_KEY) -> int:
        return (await self.ask(method, path, body, key))[0]

    async def pause(self) -> None:
        """Acme spends all that it may."""
        acme = self.harness.gateway.services.view.config.organizations[0]
        limits = self.harness.gateway.services.view.limits_for(acme, acme.credentials[0], "chat")
        spent = AdmissionRequest(
            reservation_id="spent",
            org="acme",
            rate=(),
            spend=limits.spend_demands(self.harness.clock.now_ms()),
            hold_nano_usd=SPEND,
            hold_min_nano_usd=SPEND,
            floor_nano_usd=0,
            lease_ms=1000,
            event=b"{}",
        )
        await self.harness.limiter.admit(spent)
        await self.harness.limiter.settle(Account(admission=spent, cost_nano_usd=2 * SPEND))


@asynccontextmanager
async def running(
    tmp_path: Path, valkey_url: str, *, plan: Any, own: Any = None, weights: Mapping[str, int] | None = None
) -> AsyncIterator[World]:
    """Acme has what is in KEPT. plan: its plan; own: further members of its credential; weights: of shipped routes, by path."""
    connection = RedisConnection(parse_address(valkey_url), timeout_ms=20_000)
    await connection.open()
    await mark_all(connection, "g")
    config: dict[str, Any] = {
        "plans": {"plans": {"pay_as_you_go": plan, "enterprise": {}, "free": {}}},
        "organizations": organizations(),
    }
    del config["organizations"]["organizations"][0]["spend_limit"]
    config["organizations"]["organizations"][0]["credentials"][0] |= own or {}
    if weights:
        routes = yaml.safe_load((shipped_directory() / "routes.yaml").read_text())
        for route in routes["routes"]:
            route["weight"] = weights.get(route["path"], route.get("weight", 1))
        config["routes"] = routes
    limiter = RedisLimiter(connection, load_scripts())
    (tmp_path / "secret").write_text("sk-operator")
    auth = {"kind": "bearer", "secret_file": str(tmp_path / "secret")}  # the operator's key: objects have owners
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(object_upstream())
        config["upstreams"] = {"upstreams": {"default": {"base_url": upstream.url, "auth": auth}}}
        harness = await stack.enter_async_context(running_gateway(tmp_path, config=config, limiter=limiter, records=kept_by_acme))
        session = await stack.enter_async_context(ClientSession())
        upstream.objects = {collection: [id_] for collection, id_ in KEPT.items()}
        for method, path, _ in FREE:
            if "models" in path or path.endswith("tokens"):
                upstream.answers[method, path] = {"object": "list", "data": [], "input_tokens": 3, "totalTokens": 3}
        upstream.answers["POST", "/v1/moderations"] = {"results": []}
        yield World(harness=harness, upstream=upstream, session=session)
    await connection.close()


LIMITS = {"rate_limits": [{"requests": 2, "window": "1h"}], "spend_limit": {"usd": "10"}}


async def test_a_paused_organization_has_what_is_free_and_what_it_paid_for(tmp_path: Path, valkey_url: str) -> None:
    async with running(tmp_path, valkey_url, plan=LIMITS) as world:
        await world.pause()
        status, _, body = await world.ask("POST", "/v1/chat/completions", CHAT)
        assert (status, body["error"]["code"]) == (429, "spend_limit_exceeded")
        assert await world.status("POST", "/v1/files", {}) == 429  # to keep more is not free
        assert await world.status("POST", "/v1/moderations", {"input": "x"}) == 429

        told = [(path, await world.status(method, path, body)) for method, path, body in FREE]

        assert told == [(path, 200) for _, path, _ in FREE]
        assert [await world.status("GET", path, key=BIG_KEY) for path in ("/v1/responses/resp_1", "/v1/files/file-1")] == [404, 404]
        assert await world.status("GET", "/v1/models", key="tg_acme-prod_wrong") == 401
        assert await world.status("POST", "/v1/chat/completions", CHAT) == 429


async def test_tokens_are_counted_for_a_model_without_a_price(tmp_path: Path, valkey_url: str) -> None:
    async with running(tmp_path, valkey_url, plan=LIMITS) as world:
        counting = "/v1beta/models/own-model:countTokens"
        world.upstream.answers["POST", counting] = {"totalTokens": 3}

        assert await world.status("POST", "/v1/messages/count_tokens", COUNT | {"model": "own-model"}) == 200
        assert await world.status("POST", counting, GOOGLE_COUNT) == 200
        status, _, body = await world.ask("POST", "/v1/messages", COUNT | {"model": "own-model", "max_tokens": 5})
        assert (status, body["error"]["code"]) == (400, "unknown_model")


async def test_a_months_limit_and_a_credentials_own_stop_it_as_little(tmp_path: Path, valkey_url: str) -> None:
    own = {"spend_limits": [{"usd": "1", "window": "7d"}, {"usd": "1", "window": "month"}]}
    plan = LIMITS | {"spend_limit": {"usd": "10", "window": "month"}}
    async with running(tmp_path, valkey_url, plan=plan, own=own) as world:
        await world.pause()
        assert await world.status("POST", "/v1/chat/completions", CHAT) == 429
        assert await world.status("GET", "/v1/responses/resp_1") == 200


async def test_it_eats_no_message_quota_of_any_scope(tmp_path: Path, valkey_url: str) -> None:
    plan = {
        "rate_limits": [
            {"requests": 2, "window": "1h"},
            {"requests": 2, "window": "1h", "per": "credential"},
            {"requests": 2, "window": "1h", "capability": "chat"},
        ]
    }
    async with running(tmp_path, valkey_url, plan=plan, own={"rate_limits": [{"requests": 2, "window": "1h"}]}) as world:
        for _ in range(6):
            status, headers, _ = await world.ask("GET", "/v1/responses/resp_1")
            assert (status, {item.split(";")[1] for item in headers["RateLimit"].split(", ")}) == (200, {"r=2"})
        assert [await world.status("POST", "/v1/chat/completions", CHAT) for _ in range(3)] == [200, 200, 429]
        assert [await world.status(method, path, body) for method, path, body in FREE] == [200] * len(FREE)


async def test_it_takes_a_slot_of_open_requests_as_any_other(tmp_path: Path, valkey_url: str) -> None:
    async with running(tmp_path, valkey_url, plan={"rate_limits": [{"open_requests": 1}]}) as world:
        inner: list[int] = []

        async def answer(_request: web.Request) -> web.Response:
            inner.append(await world.status("GET", "/v1/files"))
            return web.json_response({})

        world.upstream.answers["GET", "/v1/models"] = answer
        assert await world.status("GET", "/v1/models") == 200
        assert inner == [429]


async def test_a_flood_of_it_runs_into_a_rate_of_its_own_and_into_nobody_else(tmp_path: Path, valkey_url: str) -> None:
    async with running(tmp_path, valkey_url, plan=LIMITS) as world:
        gate, at_once, now_ms = world.harness.gateway.pipeline.entrance._gate, 0, world.harness.clock.now_ms()
        gate._now_ms = lambda: now_ms
        while isinstance(gate.enter("acme", ((FREE_REQUESTS.name, FREE_REQUESTS),)), Entry):
            at_once += 1
            if at_once == 991:  # a list counts as ten
                assert await world.status("GET", "/v1/files") == 429
                assert await world.status("GET", "/v1/files", key=BIG_KEY) == 200
        assert at_once == 1000

        status, headers, body = await world.ask("GET", "/v1/models")

        assert (status, body["error"]["code"], body["error"]["limit"]) == (429, "rate_limit_exceeded", "free_requests")
        assert int(headers["Retry-After"]) <= 3
        assert ("acme", "acme-prod", "models", "free_requests") in world.harness.metrics.counted[REFUSED]
        assert await world.status("POST", "/v1/chat/completions", CHAT) == 200
        assert await world.status("GET", "/v1/models", key=BIG_KEY) == 200


async def test_a_request_of_weight_three_counts_as_three(tmp_path: Path, valkey_url: str) -> None:
    plan = {"rate_limits": [{"requests": 5, "window": "1h"}]}
    async with running(tmp_path, valkey_url, plan=plan, weights={"/v1/moderations": 3}) as world:
        status, headers, _ = await world.ask("POST", "/v1/moderations", {"input": "x"})
        assert (status, headers["RateLimit"].split(";")[1]) == (200, "r=2")

        status, headers, body = await world.ask("POST", "/v1/moderations", {"input": "x"})

        assert status == 429
        assert "counts as 3" in body["error"]["message"]
        assert int(headers["Retry-After"]) == int(headers["RateLimit"].rpartition("t=")[2])
        assert 700 < int(headers["Retry-After"]) <= 720  # one more of them is there after 12 minutes
        assert await world.status("POST", "/v1/chat/completions", CHAT) == 200


def test_only_what_no_provider_bills_may_be_free() -> None:
    facts = RequestFacts(model="m", prompt=PromptShape())
    for name, dialect in dialects().items():
        meter = dialect.meter(facts, content_type="application/json", hide_usage_chunk=False)
        assert dialect.is_billed != isinstance(meter, UnbilledMeter), name


def test_every_shipped_route_that_reads_or_takes_away_is_free_and_no_other() -> None:
    """An upload is no reading, a search may cost what nobody tells, and moderations cost at some services of OpenAI's shape."""
    actions = re.compile(r"[/:]cancel$|/pause$|/count_tokens$|:countTokens$|/input_tokens$|:fetchPredictOperation$")
    for route in yaml.safe_load((shipped_directory() / "routes.yaml").read_text())["routes"]:
        is_free = route["method"] in {"GET", "DELETE"} or actions.search(route["path"]) is not None
        assert route.get("weight", 1) == (0 if is_free else 1), route
