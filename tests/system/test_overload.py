"""More callers than two starved workers can take, for longer than any lease, while keys are rotated: late, and nothing false.

`OVERLOAD_SECONDS=600` and `OVERLOAD_CALLERS=1500` make it the long form of docs/performance.md.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import pytest
from ledger_truth import LedgerTruth, assert_each_complete_exchange_is_stored_once, assert_three_sums_agree, at_rest
from stack import AMPLE_PLANS, Stack, eventually, running_stack
from system_traffic import Seen, ask, callers, chat, samples, three_organizations

SECONDS = float(os.environ.get("OVERLOAD_SECONDS") or 10)
CALLERS = int(os.environ.get("OVERLOAD_CALLERS") or 300)
LEASE_SECONDS = 30  # the default, which is renewed every five seconds
TPS = 5
TOKENS = TPS * (LEASE_SECONDS + 10)  # of a stream that outlasts its lease
STREAM = f"tokens={TOKENS} tps={TPS}"
BUSY_LOOPS = 2 * (os.cpu_count() or 1)  # beside the workers
ROTATE_SECONDS = 1.0
REST_SECONDS = 120.0
ORGS = ("acme", "globex", "big")
BODIES = (  # most of what is asked is long and slow; some of it must be counted here, and some comes at once
    (chat(STREAM, tokens_max=TOKENS), 0),
    (chat(STREAM, tokens_max=TOKENS), 0),
    (chat(f"{STREAM} usage=missing", tokens_max=TOKENS), 0),
    (chat(STREAM, tokens_max=TOKENS), 6),  # whose client leaves
    (chat("tokens=60", stream=False), 0),
    (chat("tokens=60"), 0),
)


@contextmanager
def busy_loops() -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY_LOOPS)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def command(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    """`tallygate` as an operator types it beside a `serve` of the same directories."""
    own = {"TALLYGATE_DATA_DIR": str(stack.data_dir), "TALLYGATE_CONFIG_DIR": str(stack.config_dir)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")} | own
    return subprocess.run(
        [sys.executable, "-m", "tallygate", *words], env=environment, check=False, capture_output=True, text=True, timeout=120
    )


@asynccontextmanager
async def rotations(stack: Stack) -> AsyncIterator[list[subprocess.CompletedProcess[str]]]:
    """A key is rotated by the command again and again until the block ends; what became of each."""
    done: list[subprocess.CompletedProcess[str]] = []
    is_over = asyncio.Event()

    async def rotate() -> None:
        while not is_over.is_set():
            done.append(await asyncio.to_thread(command, stack, "credentials", "rotate", "spare", "spare-prod", "--overlap", "0"))
            await asyncio.sleep(ROTATE_SECONDS)

    rotating = asyncio.ensure_future(rotate())
    try:
        yield done
    finally:
        is_over.set()
        await rotating


async def crowd(stack: Stack, seconds: float) -> list[Seen]:
    """All callers ask again as soon as they are answered, for so long, and see each answer's end."""
    seen: list[Seen] = []
    until = time.monotonic() + seconds

    async def keep_asking(credential: str, random: Random) -> None:
        async with callers() as session:
            while time.monotonic() < until:
                body, leaves = random.choice(BODIES)
                seen.append(await ask(session, stack, credential, body, leave_after_lines=leaves))

    names = ("acme-prod", "acme-test", "globex-prod", "big-prod")
    await asyncio.gather(*(keep_asking(names[number % len(names)], Random(number)) for number in range(CALLERS)))
    return seen


@pytest.mark.timeout(3_600)
async def test_no_lease_of_a_living_worker_ends_and_no_command_fails(tmp_path: Path) -> None:
    config = {"plans": AMPLE_PLANS, "organizations": three_organizations()}
    settings = {"workers": "2", "lease_seconds": str(LEASE_SECONDS)}
    async with running_stack(tmp_path, config=config, **settings) as stack:
        assert command(stack, "orgs", "create", "spare", "--plan", "pay_as_you_go").returncode == 0
        assert command(stack, "credentials", "create", "spare", "spare-prod").returncode == 0
        workers = stack.workers()
        with busy_loops():
            async with rotations(stack) as rotated:
                seen = await crowd(stack, SECONDS)
            cpu = [sum(worker.cpu_times()[:2]) for worker in workers]
        truth = LedgerTruth(stack)
        await eventually(lambda: stack.ledger.totals.open == 0, "the simulator has ended", REST_SECONDS)
        await at_rest(truth, stack, ORGS, REST_SECONDS)

        accounts, entries = await truth.accounts(), await truth.entries()
        kinds = Counter(entry["kind"] for entry in entries)
        statuses, whole = dict(Counter(one.status for one in seen)), sum(one.is_whole for one in seen)
        figures = f"{len(seen)} requests, {statuses}, {whole} whole; entries {dict(kinds)}; {len(rotated)} rotations; CPU {cpu}"
        print(figures)  # noqa: T201 - the long form's figures
        assert stack.workers() == workers, figures
        assert kinds["expired"] == kinds["late"] == 0, figures
        assert samples(stack.get("/metrics")[1])["tallygate_holds_expired_total", ()] == 0
        failed = [one for one in rotated if one.returncode]
        assert rotated
        assert not failed, (len(failed), len(rotated), failed[0].stderr)
        assert_each_complete_exchange_is_stored_once(stack, accounts, [one for one in seen if one.is_whole])
        assert_three_sums_agree(stack, accounts, ("acme", "globex"))
        assert await truth.drifts() == []
