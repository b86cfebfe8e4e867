"""What a gateway charged is explained to the last nano-USD by what its event records."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from gateway_harness import BIG_KEY, Harness, running_gateway

from tallygate.ledger.cost_breakdown import Basis, ChargedPrices, breakdown_of
from tallygate.ledger.entry import Entry, entry_of_stream
from tallygate.limiter.reference_state import StreamEvent

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": HELLO}
ASKED: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("/v1/chat/completions", CHAT, ""),
    ("/v1/chat/completions", CHAT | {"model": "gpt-4o-2024-08-06", "stream": True}, "cached=5"),
    ("/v1/chat/completions", CHAT | {"model": "gpt-5.4", "service_tier": "flex"}, "tier=flex"),
    ("/v1/messages", {"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": HELLO}, "searches=2"),
    ("/v1beta/models/gemini-2.5-flash:generateContent", {"contents": [{"parts": [{"text": "Hello"}]}]}, ""),
    ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "Hello"}, ""),
    ("/v1/audio/speech", {"model": "tts-1", "input": "Hello", "voice": "alloy"}, ""),
)
_NO_WORDS = {"event", "expired_at_ms"}


def entries_of(harness: Harness) -> list[Entry]:
    """The original entries of every event, as a ledger makes them."""
    found = []
    for stream in harness.limiter.events.values():
        for entry in stream:
            assert isinstance(entry, StreamEvent)
            words = {
                field.name.encode(): str(getattr(entry, field.name)).encode()
                for field in fields(entry)
                if field.name not in _NO_WORDS
            }
            found.append(entry_of_stream(entry.event, words))
    return found


async def test_every_cost_is_explained(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness, ClientSession() as session:
        for path, body, sim in ASKED:
            headers = {"Authorization": f"Bearer {BIG_KEY}", "anthropic-version": "2023-06-01", **({"x-sim": sim} if sim else {})}
            async with session.post(harness.url + path, json=body, headers=headers) as answer:
                assert answer.status == 200, (path, await answer.text())
                await answer.read()
        await harness.at_rest()
        prices = ChargedPrices(harness.gateway.services.view.prices)
        explained = [(entry, breakdown_of(prices, [entry])) for entry in entries_of(harness)]

    assert len(explained) == len(ASKED)
    for entry, found in explained:
        assert (found.basis, found.unexplained_nano_usd, found.note) == (Basis.PRICE, 0, ""), entry
        assert entry.cost_nano_usd > 0
        assert sum(line.pico_usd for line in found.lines) + found.rounding_pico_usd == found.priced_nano_usd * 1_000
