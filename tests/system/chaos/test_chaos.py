"""Whatever is killed, cut off, stopped, moved or set wrong: nothing is lost, nothing is counted twice, no limit is exceeded.

`make chaos` has a thousand kills. The plan is the seed's, which is told; a plan that was written can be run again, or a part of it.
"""

import asyncio
import os
import time
from pathlib import Path

import pytest
from stack import IS_FULL

from chaos.checker import excused_over, findings
from chaos.clocks import compiled_clock
from chaos.crowd import ROOMY_CALLERS, Crowd, capped
from chaos.deeds import Deeds
from chaos.plan import KILLS, Step, drawn_steps, read, written
from chaos.world import WORKERS, running_world

COUNT = int(os.environ.get("TALLYGATE_CHAOS_KILLS") or (100 if IS_FULL else 5))
FLOW_SECONDS = 120.0
SHOWN_MAX = 20  # findings


def a_seed() -> int:
    return int(os.environ.get("TALLYGATE_CHAOS_SEED") or time.time_ns() % 1_000_000)


def a_plan(seed: int) -> list[Step]:
    given = os.environ.get("TALLYGATE_CHAOS_PLAN")
    return read(Path(given)) if given else drawn_steps(seed, COUNT)


def told(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - progress, and how to run it again


async def until_flowing(crowd: Crowd) -> None:
    enough = crowd.whole + 2 * ROOMY_CALLERS
    async with asyncio.timeout(FLOW_SECONDS):
        while crowd.whole < enough:
            await asyncio.sleep(0.1)


async def show_progress(deeds: Deeds, crowd: Crowd, kills: int) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(10)
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        told(f"{minutes:3}:{seconds:02} {deeds.kills:5} of {kills} kills, {deeds.done.total()} steps; {crowd.told()}")


@pytest.mark.timeout(0 if COUNT > 20 else 400)
async def test_nothing_is_lost_doubled_or_over_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = a_seed()
    steps = a_plan(seed)
    kills = sum(step.act in KILLS for step in steps)
    plan = tmp_path / "plan.jsonl"
    plan.write_text(written(steps), encoding="utf-8")
    told(f"\nseed {seed}, plan {plan}: {len(steps)} steps, {kills} of them kills")
    for name, value in compiled_clock(tmp_path).items():
        monkeypatch.setenv(name, value)
    caps = capped(kills)
    async with running_world(tmp_path, caps) as world:
        deeds = Deeds(world.fleet, world.store, workers=WORKERS)
        crowd = Crowd([gateway.url for gateway in world.fleet.of("gateway")], caps, seed)
        progress = asyncio.ensure_future(show_progress(deeds, crowd, kills))
        async with crowd.asking():
            await until_flowing(crowd)
            await deeds.carry_out(steps)
            await until_flowing(crowd)
        progress.cancel()
        await world.until_rest()
        history = await world.history(crowd)
        history.write(tmp_path / "history.json")
        done = ", ".join(f"{act} {count}" for act, count in deeds.done.most_common())
        told(f"{done}; members started again {deeds.started_again}")
        told(f"{crowd.told()}; {len(history.entries)} entries, {excused_over(history)} nano-USD excused")
        found = findings(history)
        shown = "\n".join(str(one) for one in found[:SHOWN_MAX])
        assert not found, f"{len(found)} findings with seed {seed}, plan {plan}, history beside it:\n{shown}"
        assert await world.audit() == ""
