"""Everything at once for a while: nothing grows that should not, every sum agrees, and the log has nothing false.

Mixed traffic, clients that leave or read slowly, reloads, rotations of keys, scrapes. `make soak` takes half an hour.
"""

import asyncio
import itertools
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import psutil
import yaml
from aiohttp import ClientSession
from stack import AMPLE_PLANS, IS_FULL, Stack, eventually, running_stack
from system_traffic import ask, assert_all_sums_agree, callers, chat, samples, three_organizations

SECONDS = float(os.environ.get("TALLYGATE_SOAK_SECONDS") or (60 if IS_FULL else 10))
TOKEN = "tga_soak_0123456789abcdefghijklmnopqrstuvwxyz"
WARM_SECONDS = 5.0
WARM_REQUESTS = 300  # until pools, caches and memory arenas have their size
CALLERS = 16
KEYS_OF_RARE_KINDS = (
    6  # an index that is dropped while it is empty, of each of three organizations; requests are a thousand times more
)
RSS_GROWTH_MAX = 6 << 20  # of a worker, from the middle third to the last: noise of the allocator; a leak of 1 KB a request is more
CASES: tuple[tuple[dict[str, Any], int], ...] = (  # a request, and after how many lines its client leaves (0: it stays)
    (chat("tokens=20"), 0),
    (chat("tokens=20", stream=False), 0),
    (chat("tokens=40 tps=400"), 4),
    (chat("tokens=10 usage=missing"), 0),
    (chat("tokens=10 fault=cut at=4"), 0),
    (chat("fault=status:500"), 0),
    (chat("tokens=10", model="no-such-model"), 0),
    (chat("over_generate=4 tokens=64"), 0),
)


class Growth:
    """What may grow, sampled over time."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._workers = stack.workers()
        self.rss: list[list[int]] = []
        self.fds: list[list[int]] = []

    def sample(self) -> None:
        self.rss.append([worker.memory_info().rss for worker in self._workers])
        self.fds.append([worker.num_fds() for worker in self._workers])

    def settled(self) -> tuple[int, frozenset[Any], list[int]]:
        """At rest: keys of the store, series of /metrics but the one of the version in force, descriptors of each worker."""
        keys = self._stack.store.dbsize()
        series = frozenset(one for one in samples(self._stack.get("/metrics")[1]) if one[0] != "tallygate_build_info")
        return keys, series, [worker.num_fds() for worker in self._workers]


def refusals_are_taken(stack: Stack) -> bool:
    """Whether the ledger's totals have what the workers have refused, which they count first."""
    found = samples(stack.get("/metrics")[1])
    counted = sum(value for (name, _), value in found.items() if name == "tallygate_refused_total")
    return counted == sum(
        value for (name, labels), value in found.items() if name == "tallygate_requests_total" and ("outcome", "refused") in labels
    )


def median_of_third(values: list[int], third: int) -> int:
    size = len(values) // 3
    part = sorted(values[third * size : (third + 1) * size])
    return part[len(part) // 2]


async def traffic(stack: Stack, random: Random, *, requests: int = 0, seconds: float = 0) -> int:
    """Either so many requests or for so long; returns how many there were."""
    sent = 0
    until = time.monotonic() + seconds

    async def keep_asking() -> None:
        nonlocal sent
        async with callers() as session:
            while sent < requests if requests else time.monotonic() < until:
                sent += 1
                body, leaves = random.choice(CASES)
                await ask(
                    session,
                    stack,
                    random.choice(["acme-prod", "acme-test", "globex-prod", "big-prod"]),
                    body,
                    leave_after_lines=leaves,
                )

    await asyncio.gather(*(keep_asking() for _ in range(CALLERS)))
    return sent


class Disturbances:
    """What operators, Prometheus and slow clients do meanwhile, again and again; `done` counts each."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._api = ClientSession(stack.console, headers={"Authorization": f"Bearer {TOKEN}"})
        self._numbers = itertools.count(1)
        self._key = ""
        self._until = 0.0
        self.done: Counter[str] = Counter()

    async def begin(self) -> None:
        """An organization of the database, whose key is rotated later."""
        await self._post("/api/organizations", {"id": "spare", "name": "Spare", "plan": "pay_as_you_go"})
        self._key = (await self._post("/api/organizations/spare/credentials", {"id": "spare-prod"}))["api_key"]

    async def go_on(self, seconds: float) -> None:
        """For so long. A fault of one ends the test."""
        self._until = time.monotonic() + seconds
        every: tuple[tuple[float, Callable[[], Awaitable[None]]], ...] = (
            (1.0, self._scrape),
            (1.5, self._rotate),
            (2.0, self._reload),
            (0.1, self._read_slowly),
        )
        async with asyncio.TaskGroup() as tasks:
            for pause, act in every:
                tasks.create_task(self._again(pause, act))

    async def end(self) -> None:
        await self._api.close()

    async def _again(self, pause: float, act: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < self._until:
            await act()
            self.done[act.__name__] += 1
            await asyncio.sleep(pause)

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._api.post(path, json=body) as answer:
            assert answer.status in {200, 201}, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def _scrape(self) -> None:
        async with self._api.get("/metrics") as answer:
            assert answer.status == 200
            assert "tallygate_requests_total" in await answer.text()

    async def _rotate(self) -> None:
        """The new key passes at once wherever it is asked for next; the old one, without an overlap, no more."""
        old = self._key
        self._key = (await self._post("/api/organizations/spare/credentials/spare-prod/rotate", {"overlap": "0s"}))["api_key"]
        assert await self._status_soon(self._key, 200)
        assert await self._status_soon(old, 401)

    async def _status_soon(self, key: str, status: int) -> bool:
        async with callers(fresh=True) as session:
            for _ in range(200):
                body = chat("tokens=4", stream=False)
                headers = {"Authorization": f"Bearer {key}"}
                async with session.post(f"{self._stack.url}/v1/chat/completions", json=body, headers=headers) as answer:
                    if answer.status == status:
                        return True
                await asyncio.sleep(0.05)
        return False

    async def _reload(self) -> None:
        """A changed file, and the signal beside it."""
        organizations = three_organizations()
        organizations["organizations"][0]["name"] = f"Acme {next(self._numbers) % 5}"
        file = self._stack.config_dir / "organizations.yaml"
        new = file.with_suffix(".new")
        new.write_text(yaml.safe_dump(organizations, sort_keys=False), encoding="utf-8")
        new.replace(file)
        self._stack.process.send_signal(signal.SIGHUP)

    async def _read_slowly(self) -> None:
        headers = {"Authorization": f"Bearer {self._key}"}
        async with (
            callers(fresh=True) as session,
            session.post(f"{self._stack.url}/v1/chat/completions", json=chat("tokens=60"), headers=headers) as answer,
        ):
            async for _ in answer.content.iter_chunked(200):
                await asyncio.sleep(0.02)


async def at_rest(stack: Stack) -> None:
    await eventually(lambda: stack.ledger.totals.open == 0, "the simulator has ended")
    await eventually(lambda: all(stack.window(org)["held"] == 0 for org in ("acme", "globex", "spare")), "all is settled")
    await eventually(lambda: not stack.waiting(), "the ledger has it")
    await eventually(lambda: refusals_are_taken(stack), "and what was refused")


def surprising(log: Path) -> list[str]:
    """Lines of a log that nothing in this test explains. Those that are no JSON are what `serve` shows when it is ready."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    return [json.dumps(line) for line in lines if line["level"] not in {"debug", "info"} and not is_explained(line)]


def is_explained(line: dict[str, Any]) -> bool:
    """Upstreams that fail and a model without a price are asked for; a machine may allow few descriptors."""
    return any(text in line["message"] for text in ("upstream", "no price for the model", "descriptors"))


async def test_nothing_grows_under_mixed_traffic(tmp_path: Path) -> None:
    config = {"plans": AMPLE_PLANS, "organizations": three_organizations()}
    async with running_stack(tmp_path, config=config, workers="2", admin_token=TOKEN) as stack:
        random = Random(3)
        disturbances = Disturbances(stack)
        await disturbances.begin()
        await asyncio.gather(traffic(stack, random, requests=WARM_REQUESTS), disturbances.go_on(WARM_SECONDS))
        await at_rest(stack)
        growth = Growth(stack)
        before = growth.settled()
        soak = asyncio.gather(traffic(stack, random, seconds=SECONDS), disturbances.go_on(SECONDS))
        while not soak.done():
            growth.sample()
            await asyncio.sleep(0.2)
        sent, _ = await soak
        await disturbances.end()
        await at_rest(stack)
        assert min(disturbances.done[name] for name in ("_scrape", "_rotate", "_reload", "_read_slowly")) >= 3, disturbances.done

        keys, series, descriptors = growth.settled()
        assert sent > 20 * SECONDS
        assert keys <= before[0] + KEYS_OF_RARE_KINDS
        assert series == before[1]
        for worker, count in enumerate(descriptors):
            in_use = [sample[worker] for sample in growth.fds]
            assert count <= max(in_use[: len(in_use) // 3])
            rss = [sample[worker] for sample in growth.rss]
            assert median_of_third(rss, 2) - median_of_third(rss, 1) < RSS_GROWTH_MAX, rss
        open_requests = samples(stack.get("/metrics")[1])["tallygate_open_requests", ()]
        assert open_requests == 0
        assert all(worker.status() != psutil.STATUS_ZOMBIE for worker in stack.workers())
        await assert_all_sums_agree(stack, stack.events())
        assert surprising(stack.log) == []
