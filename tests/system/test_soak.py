"""Mixed traffic for a while: nothing grows that should not. Longer with TALLYGATE_FULL=1."""

import asyncio
import time
from pathlib import Path
from random import Random
from typing import Any

import psutil
from stack import AMPLE_PLANS, IS_FULL, Stack, eventually, running_stack
from system_traffic import ask, assert_all_sums_agree, callers, chat, samples, three_organizations

SECONDS = 60 if IS_FULL else 10
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
        """At rest: keys of the store, series of /metrics, descriptors of each worker."""
        keys = self._stack.store.dbsize()
        series = frozenset(samples(self._stack.get("/metrics")[1]))
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


async def test_nothing_grows_under_mixed_traffic(tmp_path: Path) -> None:
    config = {"plans": AMPLE_PLANS, "organizations": three_organizations()}
    async with running_stack(tmp_path, config=config, workers="2") as stack:
        random = Random(3)
        await traffic(stack, random, requests=WARM_REQUESTS)
        growth = Growth(stack)
        await eventually(lambda: stack.ledger.totals.open == 0, "the warm-up is over")
        await eventually(lambda: not stack.waiting(), "the ledger has it")
        await eventually(lambda: refusals_are_taken(stack), "and what was refused")
        before = growth.settled()
        soak = asyncio.ensure_future(traffic(stack, random, seconds=SECONDS))
        while not soak.done():
            growth.sample()
            await asyncio.sleep(0.2)
        sent = await soak
        await eventually(lambda: stack.ledger.totals.open == 0, "the soak is over")
        await eventually(lambda: all(stack.window(org)["held"] == 0 for org in ("acme", "globex")), "all is settled")
        await eventually(lambda: not stack.waiting(), "the ledger has it")
        await eventually(lambda: refusals_are_taken(stack), "and what was refused")

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
