"""Every query of every dashboard and rule, on a real Prometheus over the whole product: all have data, and the sums are true.

The simulator's count is the measure. Only what a killed worker was in the middle of is known no better than its last checkpoint:
it has a credential of its own, which is compared with the ledger.
"""

import asyncio
import hashlib
import math
import re
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
import pytest_asyncio
from aiohttp import ClientError, ClientSession
from dashboard_files import METRIC_NAMES, Query, annotations, panel_query, queries, variables
from grafana_words import Chosen, Moment, first_choices, promql, seconds
from prometheus_server import Prometheus, running_prometheus, shipped_config
from stack import AMPLE_PLANS, Stack, eventually, running_stack
from system_traffic import Exchange, callers, chat, sums_of_events, true_cost

from tallygate.simulator.ledger import Served

# Client IDs by organization. `tight` has a small spend limit, `big-cut` is the one whose worker is killed.
CREDENTIALS = {
    "acme": ("acme-prod", "acme-test"),
    "big": ("big-prod", "big-cut"),
    "globex": ("globex-prod", "globex-slow"),
    "tight": ("tight-prod",),
}
ORG_OF = {credential: org for org, credentials in CREDENTIALS.items() for credential in credentials}
CUT = "big-cut"
RANGE_SECONDS = 900.0
ROUNDS = 2
WORKERS = 4
LEASED = {"lease_seconds": "5", "checkpoint_seconds": "1"}
KINDS = (  # directive, streams, model
    ("tokens=12", True, "gpt-4o-mini"),
    ("tokens=9 reasoning=4 cached=3", False, "gpt-4o"),
    ("tokens=11 usage=missing", True, "gpt-4o-mini"),
    ("fault=status:429", True, "gpt-4o-mini"),
    ("fault=status:503", False, "gpt-4o"),
)
CACHED_DISCOUNT = 1_250  # nano-USD a token of gpt-4o, the one model whose prompts are cached here
DIMENSIONS = ("org", "credential", "capability")
OF_A_REPLICA = "health / Read replica"  # panels of what a ledger in SQLite has not
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


def config() -> dict[str, Any]:
    organizations = []
    for org, credentials in CREDENTIALS.items():
        entry: dict[str, Any] = {"id": org, "plan": "enterprise" if org == "big" else "pay_as_you_go"}
        entry["credentials"] = [
            {"id": name, "key_sha256": hashlib.sha256(_secret(name).encode()).hexdigest()} for name in credentials
        ]
        organizations.append(entry)
    by_id = {entry["id"]: entry for entry in organizations}
    by_id["tight"]["spend_limit"] = {"usd": "0.0002"}
    by_id["globex"]["credentials"][1]["rate_limits"] = [{"requests": 1, "window": "1h"}]
    by_id["acme"]["credentials"][1]["spend_limits"] = [{"usd": "1", "window": "1d"}]
    by_id["acme"]["rate_limits"] = [{"requests": 1, "window": "1h", "per": "credential", "capability": "chat", "shadow": True}]
    return {"plans": AMPLE_PLANS, "organizations": {"organizations": organizations}}


def _secret(credential: str) -> str:
    return credential.replace("-", "")


Sums = dict[Exchange, Counter[str]]


@dataclass(slots=True)
class World:
    """The running product and what was asked of it.

    sent                   by request id;  refused: by organization
    middle, middle_record  Unix seconds, and the number of the simulator's records then
    began, ended           Unix seconds
    """

    stack: Stack
    prometheus: Prometheus
    session: ClientSession
    began: float
    sent: dict[str, Exchange] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    middle: float = 0.0
    middle_record: int = 0
    ended: float = 0.0

    async def ask(self, credential: str, body: dict[str, Any] | None, path: str, capability: str) -> int:
        """Status of one request whose answer was read to the end. Without a body it is a GET."""
        headers = {"Authorization": f"Bearer tg_{credential}_{_secret(credential)}"}
        method = "GET" if body is None else "POST"
        async with self.session.request(method, self.stack.url + path, json=body, headers=headers) as answer:
            self.sent[answer.headers["x-request-id"]] = (ORG_OF[credential], credential, capability)
            await answer.read()
            return answer.status

    async def chat(self, credential: str, directive: str = "tokens=8", **options: Any) -> int:
        return await self.ask(credential, chat(directive, **options), "/v1/chat/completions", "chat")

    async def round(self, random: Random, credentials: Iterable[str]) -> None:
        """Some of everything, all at once."""
        calls = []
        for credential in credentials:
            calls += [self.chat(credential, words, stream=streams, model=model) for words, streams, model in KINDS]
            embedding = {"model": "text-embedding-3-small", "input": f"some words of {credential} to embed"}
            calls.append(self.ask(credential, embedding, "/v1/embeddings", "embeddings"))
            calls.append(self.ask(credential, None, "/v1/models", "models"))
        random.shuffle(calls)
        await asyncio.gather(*calls)

    async def be_refused(self) -> None:
        """By a spend limit, which pauses; by a rate limit; for a model without a price; for no HTTP at all."""
        while (status := await self.chat("tight-prod", "tokens=60")) == 200:
            pass
        assert status == 429
        self.refused["tight"] += 1
        assert await self.chat("globex-slow") == 200
        await self.be_refused_by_rate()
        assert await self.chat("acme-prod", model="a-model-of-nobody") in {400, 404}
        self.refused["acme"] += 1
        await asyncio.to_thread(self._send_garbage)

    async def be_refused_by_rate(self) -> None:
        assert await self.chat("globex-slow") == 429
        self.refused["globex"] += 1

    def _send_garbage(self) -> None:
        host, _, port = self.stack.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"this is no request\r\n\r\n")
            connection.recv(4096)

    async def kill_a_worker(self) -> None:
        """In the middle of a stream, which is then settled at the most that its last checkpoint says it can come to."""
        headers = {"Authorization": f"Bearer tg_{CUT}_{_secret(CUT)}"}
        body = chat("tokens=600 tps=20", tokens_max=600)
        async with (
            callers(fresh=True) as own,
            own.post(f"{self.stack.url}/v1/chat/completions", json=body, headers=headers) as answer,
        ):
            assert answer.connection is not None
            assert answer.connection.transport is not None
            port = answer.connection.transport.get_extra_info("sockname")[1]
            request_id = answer.headers["x-request-id"]
            self.sent[request_id] = (ORG_OF[CUT], CUT, "chat")
            (record,) = self.stack.ledger.by_request_id(request_id)
            await eventually(lambda: record.generated_tokens > 40, "a checkpoint or two")
            (worker,) = [worker for worker in self.stack.workers() if port in _remote_ports(worker)]
            worker.kill()
            with pytest.raises(ClientError):
                await answer.read()
        await eventually(lambda: self.stack.ledger.totals.open == 0, "the upstream sees it leave")
        await eventually(
            lambda: any(event["_kind"] == "expired" for event in self.stack.events()), "the sweep settles what was left"
        )
        await eventually(lambda: len(self.stack.workers()) == WORKERS and self.stack.get("/readyz")[0] == 200, "it is replaced")

    def expected(self, since: int = 0) -> Sums:
        """From the simulator's records from the number `since` on; of the request that was cut off, what the ledger knows of it."""
        found: Sums = {}
        for record in list(self.stack.ledger.records)[since:]:
            exchange = self.sent[record.request_id or ""]
            if exchange[1] != CUT:
                found.setdefault(exchange, Counter()).update(_amounts(record))
        cut = {exchange: sums for exchange, sums in sums_of_events(self.stack.events()).items() if exchange[1] == CUT}
        return found | cut

    def is_settled(self) -> bool:
        """Whether Prometheus has seen all that was sent."""
        counts = self.prometheus.values("sum by (outcome) (max without (instance, job) (tallygate_requests_total))", "outcome")
        refused = counts.pop(("refused",), 0)
        return sum(counts.values()) == len(self.stack.ledger.records) and refused == sum(self.refused.values())

    async def until_settled(self) -> float:
        """A whole second that has passed, at which Prometheus had seen all, and before which no scrape had failed for a while."""
        await eventually(self.is_settled, "Prometheus sees all requests", seconds=60)
        since = time.time()

        def calm_second() -> float:
            second = math.floor(time.time()) - 1
            scrapes = "min_over_time(up[6s]) == 1 and count_over_time(up[6s]) >= 5"
            return float(second) if second > since + 1 and self.prometheus.query(scrapes, at=second) else 0.0

        return float(await eventually(calm_second, "scrapes in a row", seconds=60))

    def values(self, query: Query, *labels: str, moment: Moment | None = None, **chosen: Chosen) -> dict[tuple[str, ...], float]:
        """An instant query of a dashboard, as it opens but for what is chosen."""
        return self.prometheus_values(query, chosen, moment or self.moment, *labels)

    def prometheus_values(
        self, query: Query, chosen: Mapping[str, Chosen], moment: Moment, *labels: str, of: Prometheus | None = None
    ) -> dict[tuple[str, ...], float]:
        series = run(of or self.prometheus, query, first_choices(variables(query.where.partition(" ")[0])) | chosen, moment)
        return {tuple(one["metric"].get(label, "") for label in labels): float(one["values"][-1][1]) for one in series}

    def has_all_in(self, query: Query) -> bool:
        """Whether all that happened lies in the panel's own range: around midnight, today has only a part of it."""
        return self.moment.of_panel(query.time_from).start < self.began

    @property
    def moment(self) -> Moment:
        return Moment(start=self.ended - RANGE_SECONDS, end=self.ended)


def run(prometheus: Prometheus, query: Query, chosen: Mapping[str, Chosen], moment: Moment) -> list[dict[str, Any]]:
    """Series with their values: one of each for an instant query."""
    own = moment.of_panel(query.time_from)
    minimum = promql(query.minimum, chosen, own, 1)
    step = own.step(minimum)
    text = promql(query.text, chosen, own, step)
    if query.is_instant:
        return [{"metric": one["metric"], "values": [one["value"]]} for one in prometheus.query(text, at=own.end)]
    start, end = own.cut(step)
    return prometheus.query_range(text, start=start, end=end, step=step)


def _amounts(record: Served) -> dict[str, int]:
    is_owed = record.accepted and record.model is not None
    return {
        "requests": 1,
        "prompt": record.prompt_tokens if is_owed else 0,
        "completion": record.generated_tokens if is_owed else 0,
        "nano_usd": true_cost(record) - (CACHED_DISCOUNT * record.cached_tokens if is_owed else 0),
    }


def _remote_ports(worker: psutil.Process) -> set[int]:
    return {connection.raddr.port for connection in worker.net_connections("inet") if connection.raddr}


def summed(sums: Sums, *dimensions: str) -> dict[tuple[str, ...], Counter[str]]:
    found: dict[tuple[str, ...], Counter[str]] = {}
    for exchange, amounts in sums.items():
        named = dict(zip(DIMENSIONS, exchange, strict=True))
        found.setdefault(tuple(named[dimension] for dimension in dimensions), Counter()).update(amounts)
    return found


def is_money_of_a_view(query: Query) -> bool:
    """Whether it is the query of a panel that has data in the view of cost alone, so that it is shown as money."""
    return "${view}_usd_total" in query.text


def viewed_query(title: str, view: str) -> Query:
    return panel_query("usage", title, "B" if view == "spend" else "A")


def in_view(amounts: Counter[str], view: str) -> int:
    """Money in nano-USD."""
    if view == "tokens":
        return amounts["prompt"] + amounts["completion"]
    return amounts["nano_usd"] if view == "spend" else amounts["requests"]


def as_integer(value: float, view: str) -> int:
    """Prometheus' number as the integer that it is: 15 digits of a double are enough for nano-USD below a million."""
    number = value * 10**9 if view == "spend" else value
    assert abs(number - round(number)) < 0.001, number
    return round(number)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Two rounds of traffic over four workers, one of which is killed in between."""
    directory = tmp_path_factory.mktemp("live")
    random = Random(7)
    async with (
        running_stack(directory, config=config(), workers=str(WORKERS), **LEASED) as stack,
        running_prometheus(directory / "prometheus", shipped_config({"tallygate": [stack.console]})) as prometheus,
        callers() as session,
    ):
        made = World(stack=stack, prometheus=prometheus, session=session, began=time.time())
        steady = [credential for credential in ORG_OF if credential not in {CUT, "tight-prod", "globex-slow"}]
        await eventually(lambda: prometheus.query("tallygate_build_info"), "the first scrape")
        await made.round(random, steady)
        await made.be_refused()
        made.middle = await made.until_settled()
        made.middle_record = len(stack.ledger.records)

        await made.kill_a_worker()
        plans = stack.config_dir / "plans.yaml"
        plans.write_text(plans.read_text() + "# reviewed again\n")
        for _ in range(ROUNDS):
            await made.round(random, steady)
        await made.be_refused_by_rate()
        await eventually(lambda: prometheus.query('tallygate_config_reloads_total{result="applied"} > 0'), "a reload")
        made.ended = await made.until_settled()
        yield made


async def test_every_panel_has_data(world: World) -> None:
    empty = []
    for name in METRIC_NAMES:
        chosen = first_choices(variables(name))
        asked = [query for query in queries(name) if not is_money_of_a_view(query) and OF_A_REPLICA not in query.where]
        empty += [query.where for query in asked if not run(world.prometheus, query, chosen, world.moment)]
    assert not empty


@pytest.mark.parametrize("view", ["requests", "tokens", "spend"])
async def test_every_panel_of_every_view_has_data(world: World, view: str) -> None:
    chosen = first_choices(variables("usage")) | {"view": Chosen(values=(view,)), "bars": Chosen(values=("1h",))}
    for query in queries("usage"):
        has_data = bool(run(world.prometheus, query, chosen, world.moment))
        if "${view}_total" in query.text or is_money_of_a_view(query):
            assert has_data is (is_money_of_a_view(query) is (view == "spend")), query.where
        else:
            assert has_data, query.where


async def test_a_query_for_what_does_not_exist_has_none(world: World) -> None:
    query = panel_query("usage", "API requests")
    broken = replace(query, text=query.text.replace("tallygate_requests_total", "tallygate_request_total"))
    assert run(world.prometheus, query, first_choices(variables("usage")), world.moment)
    assert not run(world.prometheus, broken, first_choices(variables("usage")), world.moment)


async def test_every_variable_offers_what_was_used(world: World) -> None:
    found = {}
    for name in METRIC_NAMES:
        for variable in variables(name):
            if variable["type"] != "query":
                continue
            asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert asked is not None
            series = promql(asked[1], first_choices(variables(name)), world.moment, 1)
            values = world.prometheus.get(f"/api/v1/label/{asked[2]}/values", **{"match[]": series})["data"]
            assert values, (name, variable["name"])
            found[name, variable["name"]] = set(values)
    assert found["usage", "organization"] == {*CREDENTIALS}
    assert found["usage", "credential"] == {*ORG_OF}
    assert found["usage", "capability"] == {"chat", "embeddings", "models"}
    assert {"gpt-4o-mini", "gpt-4o", "text-embedding-3-small"} <= found["usage", "model"]


async def test_marks_show_the_pause_and_the_restart(world: World) -> None:
    for name in METRIC_NAMES:
        for mark in annotations(name):
            text = promql(mark["expr"], first_choices(variables(name)), world.moment, 1)
            series = world.prometheus.query_range(text, start=world.moment.start, end=world.moment.end, step=1)
            labels = {one["metric"].get("org", "worker") for one in series}
            assert labels == ({"tight"} if mark["name"] == "Pauses" else {"worker"}), (name, mark["name"])


async def test_every_rule_is_healthy_and_records_something(world: World) -> None:
    loaded = world.prometheus.rules()
    assert loaded
    for rule in loaded:
        assert (rule["name"], rule["health"], rule.get("lastError")) == (rule["name"], "ok", None)
        world.prometheus.query(rule["query"])  # raises where Prometheus refuses it
    records = {rule["name"] for rule in loaded if rule["type"] == "recording"}
    empty = {name for name in records if not world.prometheus.query(name, at=world.ended)}
    assert empty == {"org:tallygate_spend_usd_same_hour:median7d"}  # asks for yesterday and before


@pytest.mark.parametrize("dimension", [None, *DIMENSIONS])
async def test_the_figures_are_the_simulators_own(world: World, dimension: str | None) -> None:
    titles = {"API requests": "requests", "Prompt tokens": "prompt", "Completion tokens": "completion", "Cost": "nano_usd"}
    for key, amounts in summed(world.expected(), *([dimension] if dimension else [])).items():
        name = {"org": "organization"}.get(dimension or "", dimension or "")
        chosen = {name: Chosen(values=key, is_multi=True)} if dimension else {}
        for title, amount in titles.items():
            ((value),) = world.values(panel_query("usage", title), **chosen).values()
            assert (key, title, as_integer(value, "spend" if title == "Cost" else "")) == (key, title, amounts[amount])
        ((value),) = world.values(panel_query("usage", "Total tokens"), **chosen).values()
        assert (key, value) == (key, amounts["prompt"] + amounts["completion"])


@pytest.mark.parametrize("view", ["requests", "tokens", "spend"])
@pytest.mark.parametrize(
    ("title", "dimension"), [("${view:text} by capability", "capability"), ("Top organizations: ${view:text}", "org")]
)
async def test_rankings_are_the_simulators_own(world: World, title: str, dimension: str, view: str) -> None:
    found = world.values(viewed_query(title, view), dimension, view=Chosen(values=(view,)))
    expected = {key: in_view(amounts, view) for key, amounts in summed(world.expected(), dimension).items()}
    assert {key: as_integer(value, view) for key, value in found.items() if value} == {key: n for key, n in expected.items() if n}


async def test_the_table_of_credentials_is_the_simulators_own(world: World) -> None:
    expected = summed(world.expected(), "org", "credential")
    for ref_id, amount in {"A": "requests", "B": "prompt", "C": "completion", "E": "nano_usd"}.items():
        query = panel_query("usage", "Top credentials: ${view:text}", ref_id)
        found = world.values(query, "org", "credential")
        unit = "spend" if amount == "nano_usd" else ""
        assert {key: as_integer(value, unit) for key, value in found.items()} == {
            key: amounts[amount] for key, amounts in expected.items()
        }


async def test_what_the_killed_worker_was_in_the_middle_of_is_counted_at_the_most_that_it_can_have_come_to(world: World) -> None:
    (record,) = [one for one in world.stack.ledger.records if world.sent[one.request_id or ""][1] == CUT]
    cut = {"credential": Chosen(values=(CUT,), is_multi=True)}
    assert world.values(panel_query("usage", "API requests"), **cut) == {(): 1}
    assert world.values(panel_query("usage", "Prompt tokens"), **cut)[()] >= record.prompt_tokens
    assert record.generated_tokens <= world.values(panel_query("usage", "Completion tokens"), **cut)[()] <= 600
    assert world.values(panel_query("health", "Reservations expired")) == {(): 1}


@pytest.mark.parametrize("view", ["requests", "tokens", "spend"])
async def test_models_are_the_simulators_own(world: World, view: str) -> None:
    """But for the one model that the killed worker was in the middle of."""
    chosen = {"view": Chosen(values=(view,)), "organization": Chosen(values=("acme", "globex", "tight"), is_multi=True)}
    found = world.values(viewed_query("${view:text} by model", view), "model", **chosen)
    whole = [r for r in world.stack.ledger.records if world.sent[r.request_id or ""][0] != "big" and r.model is not None]
    expected: Counter[tuple[str, ...]] = Counter()
    for record in whole:
        expected[(record.model or "",)] += in_view(Counter(_amounts(record)), view)
    found.pop(("other",), None)  # requests without a model
    assert {key: as_integer(value, view) for key, value in found.items() if value} == {key: n for key, n in expected.items() if n}


async def test_a_range_that_begins_in_the_middle_counts_what_came_after(world: World) -> None:
    after = Moment(start=world.middle, end=world.ended)
    expected = summed(world.expected(world.middle_record), "org")
    for view in ("requests", "tokens", "spend"):
        found = world.values(
            viewed_query("Top organizations: ${view:text}", view), "org", moment=after, view=Chosen(values=(view,))
        )
        assert {key: as_integer(value, view) for key, value in found.items() if value} == {
            key: in_view(amounts, view) for key, amounts in expected.items() if in_view(amounts, view)
        }


@pytest.mark.parametrize("width", ["1h", "1d", "week"])
@pytest.mark.parametrize("view", ["requests", "tokens", "spend"])
async def test_bars_add_up_to_what_happened(world: World, view: str, width: str) -> None:
    query = viewed_query("${view:text} by capability, " + ("by week" if width == "week" else "over time"), view)
    chosen = first_choices(variables("usage")) | {"view": Chosen(values=(view,))}
    moment = world.moment
    if width != "week":  # which has a range of its own
        chosen["bars"] = Chosen(values=(width,))
        moment = replace(moment, start=world.ended - 3 * seconds(width))
    found = run(world.prometheus, query, chosen, moment)
    sums = {one["metric"]["capability"]: sum(float(value) for _, value in one["values"]) for one in found}
    expected = {key: in_view(amounts, view) for (key,), amounts in summed(world.expected(), "capability").items()}
    assert {key: as_integer(value, view) for key, value in sums.items() if value} == {key: n for key, n in expected.items() if n}


async def test_bars_put_everything_into_its_own_interval(world: World) -> None:
    """Cut at the middle, each half has what belongs to it: the last bar is not there yet, and has what there is so far."""
    query = panel_query("usage", "${view:text} by capability, over time")
    width = round(world.ended - world.middle) + 3
    chosen = first_choices(variables("usage"))
    text = promql(query.text, chosen, replace(world.moment), width)
    found = world.prometheus.query_range(text, start=world.middle - width, end=world.middle, step=width)
    sums = {one["metric"]["capability"]: [float(value) for _, value in one["values"]] for one in found}
    whole, after = summed(world.expected(), "capability"), summed(world.expected(world.middle_record), "capability")
    for (capability,), amounts in whole.items():
        late = after[capability,]["requests"]
        assert (capability, sums[capability]) == (capability, [amounts["requests"] - late, late])


async def test_costs_limits_and_pauses_are_the_limiters(world: World) -> None:
    by_org = {org: amounts["nano_usd"] for (org,), amounts in summed(world.expected(), "org").items()}
    for title in ("Cost in the range, by organization", "Cost this month, by organization"):
        query = panel_query("spend", title)
        if world.has_all_in(query):
            assert {org: as_integer(cost, "spend") for (org,), cost in world.values(query, "org").items()} == by_org
    for title in ("Cost today", "Cost this week", "Cost this month"):
        query = panel_query("spend", title)
        if world.has_all_in(query):
            ((cost),) = world.values(query).values()
            assert as_integer(cost, "spend") == sum(by_org.values())

    def told(ref_id: str) -> dict[str, float]:
        found = world.values(panel_query("spend", "Organizations nearest to their limits", ref_id), "org")
        return {org: value for (org,), value in found.items()}

    limited = {"acme", "globex", "tight"}
    assert {org: as_integer(value, "spend") for org, value in told("A").items()} == {org: by_org[org] for org in limited}
    assert told("B") == dict.fromkeys(limited, 0.0)
    assert told("C") == {"acme": 100.0, "globex": 100.0, "tight": 0.0002}
    assert told("D")["tight"] == pytest.approx(by_org["tight"] / 200_000)
    assert told("H") == {"acme": 0.0, "globex": 0.0, "tight": 1.0}
    (resumes,) = told("I").values()
    assert world.ended + 6 * 86_400 < resumes / 1_000 < world.ended + 8 * 86_400
    assert world.values(panel_query("spend", "Paused")) == {(): 1.0}


async def test_every_limit_is_told_with_what_is_used_of_it(world: World) -> None:
    spends = {ref: world.values(panel_query("spend", "Spend limits", ref), "org", "credential", "limit") for ref in "ABCDE"}
    weeks = {(org, "", "spend_7d") for org in ("acme", "globex", "tight")}
    own = ("acme", "acme-test", "spend_1d:own")
    assert spends["A"].keys() == {*weeks, own}
    assert spends["C"] == dict.fromkeys(weeks, 100.0) | {("tight", "", "spend_7d"): 0.0002, own: 1.0}
    ((cost),) = [amounts["nano_usd"] for key, amounts in summed(world.expected(), "credential").items() if key == ("acme-test",)]
    assert as_integer(spends["A"][own], "spend") == cost
    assert spends["D"][own] == pytest.approx(cost / 10**9)
    assert spends["E"].keys() == {("tight", "", "spend_7d")}

    labels = ("org", "credential", "capability", "kind", "mode")
    rates = {ref: world.values(panel_query("spend", "Rate limits", ref), *labels) for ref in "ABCD"}
    slow = ("globex", "globex-slow", "", "requests", "enforced")
    assert [rates[ref][slow] for ref in "ABCD"] == [1.0, 1.0, 0.0, 1.0], "one an hour, used up"
    assert rates["A"]["acme", "acme-prod", "chat", "requests", "shadow"] == 1.0


async def test_refusals_are_told_by_limit(world: World) -> None:
    found = world.values(panel_query("spend", "Refusals in the range"), "org", "limit")
    by_org: Counter[str] = Counter()
    for (org, _), value in found.items():
        by_org[org] += round(value)
    assert by_org == world.refused
    assert {limit for org, limit in found if org == "tight"} == {"spend_7d"}


async def test_two_consoles_tell_the_shared_series_once(world: World, tmp_path: Path) -> None:
    """The same console under two names: what comes from the stores is not counted twice."""
    consoles = [world.stack.console, world.stack.console.replace("127.0.0.1", "localhost")]
    async with running_prometheus(tmp_path, shipped_config({"tallygate": consoles})) as prometheus:
        await eventually(lambda: len(prometheus.query("tallygate_requests_total{outcome='refused', org='tight'}")) == 2, "both")
        now = math.ceil(time.time())
        moment = Moment(start=now - RANGE_SECONDS, end=now)
        for view in ("requests", "spend"):
            query = viewed_query("Top organizations: ${view:text}", view)
            found = world.prometheus_values(query, {"view": Chosen(values=(view,))}, moment, "org", of=prometheus)
            assert {org: as_integer(value, view) for (org,), value in found.items()} == {
                org: in_view(amounts, view) for (org,), amounts in summed(world.expected(), "org").items()
            }
