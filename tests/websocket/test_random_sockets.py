"""Sockets of several clients in a random order of what can happen to them: what was served is charged, each once."""

import asyncio
import base64
from pathlib import Path
from random import Random

import pytest
from aiohttp import ClientError
from gateway_harness import ACME_KEY, BIG_KEY, Harness, running_gateway
from search import cases
from talking import Talk, talking

from tallygate.simulator.realtime import SILENCE

FAULTS = (
    "",
    "",
    "",
    "fault=error at=2",
    "fault=cut at=4 how=fin",
    "fault=cut at=1 how=rst",
    "fault=status:429",
    "tps=200 delay=20",
)
REALTIME = "/v1/realtime?model=gpt-realtime"
SOUND = base64.b64encode(bytes([3]) * 48_000).decode()
SPEECH = base64.b64encode(bytes([3]) * 48_000 + SILENCE).decode()
NONSENSE = ('{"type": "response.create"', "[]", '{"type": "response.steer"}', '{"type": "response.create", "model": "nobody"}')


def responses(random: Random) -> object:
    if not random.randrange(6):
        return random.choice(NONSENSE)
    text = f"[[sim tokens={random.randint(1, 8)} {random.choice(FAULTS)}]] Hi"
    return {"type": "response.create", "model": "gpt-4o-mini", "input": text, "stream_id": random.choice(("", "a", "b"))}


def realtime(random: Random) -> object:
    content = [{"type": "input_text", "text": f"[[sim tokens={random.randint(1, 8)} {random.choice(FAULTS)}]] Hi"}]
    return random.choice(
        (
            {"type": "input_audio_buffer.append", "audio": SOUND},
            {"type": "input_audio_buffer.append", "audio": SPEECH},
            {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}},
            {"type": "response.create"},
            {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}},
        )
    )


async def a_client(harness: Harness, random: Random) -> None:
    """Says some things, hears some, and leaves in one of three ways."""
    speaks = random.random() < 0.5
    try:
        async with talking(harness, key=random.choice((ACME_KEY, BIG_KEY)), path=REALTIME if speaks else "/v1/responses") as talk:
            for _ in range(random.randint(1, 6)):
                await talk.say((realtime if speaks else responses)(random))
                await hear_some(talk, random)
            if random.random() < 0.3 and not talk.socket.closed:
                talk.socket._response.connection.transport.abort()  # type: ignore[union-attr]
            elif random.random() < 0.5:
                await talk.socket.close(code=random.choice((1000, 1001, 3000)))
    except (ClientError, ConnectionError):
        pass  # it was closed meanwhile


async def hear_some(talk: Talk, random: Random) -> None:
    for _ in range(random.randrange(8)):
        try:
            async with asyncio.timeout(0.02):
                if await talk.hear() is None:
                    return
        except TimeoutError:
            return


@pytest.mark.parametrize("seed", range(cases(short=1, steady=3, deep=40)))
async def test_whatever_happens_each_response_is_settled_once(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    async with running_gateway(tmp_path, acme_usd=random.choice(("25", "0.9"))) as harness:
        await asyncio.gather(*(a_client(harness, Random(random.random())) for _ in range(6)))
        await harness.at_rest(20)
        await harness.gateway.services.withdrawals.attempt()
        events, served = harness.events(), [each for each in harness.ledger.records if each.accepted]
        assert (await harness.window()).held_nano_usd == 0
        assert (await harness.window("acme")).spent_nano_usd == sum(event["_cost"] for event in events if event["org"] == "acme")
        assert len({event["event_id"] for event in events}) == len(events)
        assert not any("overrun" in event["flags"] for event in events)
        assert sum(event["_cost"] > 0 for event in events) >= sum(each.delivered_tokens > 0 for each in served)
        assert sum(event["completion_tokens"] for event in events) >= sum(each.delivered_tokens for each in served)
        pipeline = harness.gateway.pipeline
        assert pipeline.entrance.body_bytes == 0
        assert not pipeline.answers
        assert not pipeline.sockets.open
        assert not any(each.has_gateway_key for each in harness.ledger.records)
