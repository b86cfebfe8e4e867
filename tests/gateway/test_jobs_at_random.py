"""Background responses whose clients do anything, while polls, the limiter and the ledger fail at random: all is charged once."""

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientPayloadError
from test_background_responses import ACME, World, world

from tallygate.domain.errors import StoreError
from tallygate.gateway.jobs import poller
from tallygate.outbound.session import FetchError

PRICES = {"gpt-4o-mini": (150, 600), "gpt-4o": (2_500, 10_000), "o4-mini": (1_100, 4_400)}
STEPS = 25


class KilledError(Exception):
    """A poller that ends in the middle."""


class Chance:
    """Makes calls fail before or after they have been made, until it is calmed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.is_calm = False

    def failing(self, call: Any, *errors: type[Exception]) -> Any:
        def fail() -> None:
            if not self.is_calm and self.random.random() < 0.15:
                raise self.random.choice(errors)("by chance")

        async def run(*given: Any, **named: Any) -> Any:
            fail()
            done = await call(*given, **named)
            fail()
            return done

        return run


async def begin(at: World, chance: random.Random) -> str:
    """Begin a response, streamed or not, that is cut, fails or states no usage; return its id, "" if it was not shown."""
    stream = chance.random() < 0.4
    directive = f"tokens={chance.randrange(1, 60)};delay={0 if stream else chance.choice([0, 2_000, 40_000])}"
    directive += chance.choice(["", "", f";fault=cut;at={chance.randrange(6)}", ";usage=missing", ";finish=failed"])
    asked = {"model": chance.choice(list(PRICES)), "max_output_tokens": chance.choice([20, 200]), "stream": stream}
    body = {"input": f"[[sim {directive}]] Think.", "background": True, **asked}
    async with at.session.post("/v1/responses", json=body, headers=ACME) as answer:
        shown = b""
        with suppress(ClientPayloadError):
            async for piece in answer.content.iter_any():
                shown += piece
    return next((each for each in shown.decode().split('"') if each.startswith("resp_")), "")


async def settle_some(at: World, ms: int) -> None:
    at.now.ms += ms
    at.harness.clock.offset_ms += ms
    for _ in range(10):
        with suppress(KilledError, StoreError):
            if not await at.poller.poll_due():
                break
    await at.harness.gateway.services.settler.replay()


@pytest.mark.parametrize("seed", range(12))
async def test_all_is_charged_once_and_no_less_than_the_provider_bills(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, begun = Chance(seed), list[str]()
    async with world(tmp_path, monkeypatch) as at:
        limiter, pick = at.harness.limiter, chance.random
        monkeypatch.setattr(poller, "read_target", chance.failing(poller.read_target, KilledError, FetchError))
        monkeypatch.setattr(limiter, "settle", chance.failing(limiter.settle, StoreError))
        monkeypatch.setattr(limiter, "defer", chance.failing(limiter.defer, StoreError))
        monkeypatch.setattr(at.jobs, "put_off", chance.failing(at.jobs.put_off, KilledError, StoreError))
        for _ in range(STEPS):
            path = f"/v1/responses/{pick.choice(begun)}" if begun else ""
            match pick.choice(("begin", "begin", "begin", "cancel", "delete", "show", "settle", "settle")):
                case "begin":
                    begun += [id_ for id_ in [await begin(at, pick)] if id_]
                case "settle":
                    await settle_some(at, pick.choice([500, 2_000, 30_000, 70_000]))
                case "cancel" if path:
                    await (await at.session.post(f"{path}/cancel", headers=ACME)).read()
                case "delete" if path:
                    await (await at.session.delete(path, headers=ACME)).read()
                case "show" if path:
                    await (await at.session.get(f"{path}?stream=true&starting_after=2", headers=ACME)).read()
        await at.harness.at_rest()
        chance.is_calm = True
        for _ in range(6):
            await settle_some(at, 70_000)
        assert at.jobs.open() == []
        events = [event for event in at.harness.events() if event["_kind"] != "expired"]  # its settlement has come late
        assert len({event["event_id"] for event in events}) == len(events)
        spent, held = await at.spent_and_held()
        assert (spent, held) == (sum(event["_cost"] for event in events), 0)
        assert not any("overrun" in event["flags"] for event in events)
        billed = 0
        for record in at.harness.ledger.records:
            prompt, output = PRICES[record.model or ""]
            billed += record.prompt_tokens * prompt + record.generated_tokens * output if record.accepted else 0
        assert spent >= billed
