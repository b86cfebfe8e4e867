"""The providers' own SDKs on two sides: at the simulator itself, and at a gateway in front of an equal one."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
from gateway_harness import ACME_KEY, Harness, running_gateway, shared_prompt_tokens
from google import genai
from google.genai import types
from recorded_http import AsyncRecordingTransport, RecordedAnswer, RecordingTransport
from usage_events import counts_of_event, counts_of_served

from tallygate.simulator.ledger import Ledger
from tallygate.simulator.server import running_simulator

NOON_MS = (
    1_800_000_000_000  # both simulators' clock stands still, and both number their answers from 1: equal requests, equal bytes
)
FLAVORS = ("sync", "async")
TIMEOUT_SECONDS = 20.0

# The shipped list holds hundreds of models, which take longer to read than a test runs.
PRICES: dict[str, Any] = {
    "prices": [
        {"model": "gpt-4o-mini", "effective": "2024-07-18", "input": "0.15", "cached_input": "0.075", "output": "0.60"},
        {"model": "gpt-3.5-turbo-instruct", "effective": "2023-09-18", "input": "1.5", "output": "2"},
        {
            "model": "gpt-image-1.5",
            "effective": "2025-12-16",
            "input": "5",
            "input_image": "8",
            "output": "10",
            "output_image": "32",
        },
        {
            "model": "dall-e-3",
            "effective": "2023-11-06",
            "input": "0",
            "output": "0",
            "image": "0.12",
            "image:hd:1024x1024": "0.08",
        },
        {"model": "whisper-1", "effective": "2023-03-01", "input": "0", "output": "0", "audio_second": "0.0001"},
        {"model": "tts-1", "effective": "2023-11-06", "input": "0", "output": "0", "character": "15"},
        {"model": "gpt-4o-transcribe", "effective": "2025-03-20", "input": "2.5", "output": "10", "reasons": False},
        {"model": "gpt-4o-mini-tts", "effective": "2025-03-20", "input": "0.6", "output": "12", "reasons": False},
        {"model": "omni-moderation-latest", "effective": "2024-09-26", "input": "0", "output": "0"},
        {"model": "rerank-v3.5", "effective": "2024-12-02", "input": "0", "output": "0", "search_unit": "2"},
        {"model": "rerank-2.5", "effective": "2025-08-11", "input": "0.05", "output": "0"},
        {"model": "text-embedding-3-small", "effective": "2024-01-25", "input": "0.02", "output": "0"},
        {
            "model": "claude-haiku-4-5",
            "effective": "2025-10-15",
            "input": "1",
            "cached_input": "0.1",
            "cache_write_5m": "1.25",
            "cache_write_1h": "2",
            "output": "5",
        },
        {"model": "gemini-2.5-flash", "effective": "2025-06-17", "input": "0.3", "cached_input": "0.03", "output": "2.5"},
        {"model": "gemini-embedding-001", "effective": "2025-07-14", "input": "0.15", "output": "0"},
        {"model": "gloo-openai-gpt-5.2", "effective": "2025-12-11", "input": "1.75", "output": "14"},
        {"model": "gloo-anthropic-claude-sonnet-4.5", "effective": "2025-09-29", "input": "3", "output": "15"},
    ]
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of an SDK.

    sdk       openai, gloo (the openai SDK at Gloo's paths), anthropic or gemini
    method    from the client on, such as "chat.completions.create"
    streams   the answer is an iterator
    """

    sdk: str
    method: str
    arguments: Mapping[str, Any]
    streams: bool = False


@dataclass(slots=True, kw_only=True)
class Side:
    """One address for SDKs. answers: all that came from it, oldest first (not through google-genai over aiohttp)."""

    url: str
    key: str
    answers: list[RecordedAnswer] = field(default_factory=list)

    async def ask(self, call: Call, flavor: str = "async", *, max_retries: int = 0) -> Any:
        """What the SDK makes of the answer, as plain values; a list for a stream. flavor: sync, async, or aiohttp for gemini."""
        if flavor == "sync":
            return await asyncio.to_thread(self._ask, call, max_retries)
        async with self.async_client(call.sdk, max_retries=max_retries, aiohttp=flavor == "aiohttp") as client:
            found = attrgetter(call.method)(client)(**call.arguments)
            answer = await found if hasattr(found, "__await__") else found
            return [plain(item) async for item in answer] if call.streams else plain(answer)

    def _ask(self, call: Call, max_retries: int) -> Any:
        with self.client(call.sdk, max_retries=max_retries) as client:
            answer = attrgetter(call.method)(client)(**call.arguments)
            return [plain(item) for item in answer] if call.streams else plain(answer)

    @contextmanager
    def client(self, sdk: str, *, max_retries: int = 0) -> Iterator[Any]:
        """A synchronous client."""
        with httpx2.Client(transport=RecordingTransport(self.answers), timeout=TIMEOUT_SECONDS, trust_env=False) as http:
            match sdk:
                case "anthropic":
                    yield anthropic.Anthropic(api_key=self.key, base_url=self.url, max_retries=max_retries, http_client=http)
                case "gemini":
                    options = types.HttpOptions(base_url=self.url, httpx_client=http)
                    yield genai.Client(api_key=self.key, http_options=options)
                case _:
                    yield openai.OpenAI(api_key=self.key, base_url=self._base(sdk), max_retries=max_retries, http_client=http)

    @asynccontextmanager
    async def async_client(self, sdk: str, *, max_retries: int = 0, aiohttp: bool = False) -> AsyncIterator[Any]:
        """An asynchronous client. aiohttp: google-genai's own choice where aiohttp is installed."""
        if sdk == "gemini" and aiohttp:
            async with genai.Client(api_key=self.key, http_options=types.HttpOptions(base_url=self.url)).aio as client:
                yield client
            return
        transport = AsyncRecordingTransport(self.answers)
        async with httpx2.AsyncClient(transport=transport, timeout=TIMEOUT_SECONDS, trust_env=False) as http:
            match sdk:
                case "anthropic":
                    yield anthropic.AsyncAnthropic(api_key=self.key, base_url=self.url, max_retries=max_retries, http_client=http)
                case "gemini":
                    options = types.HttpOptions(base_url=self.url, httpx_async_client=http)
                    yield genai.Client(api_key=self.key, http_options=options).aio
                case _:
                    yield openai.AsyncOpenAI(api_key=self.key, base_url=self._base(sdk), max_retries=max_retries, http_client=http)

    def _base(self, sdk: str) -> str:
        return self.url + ("/ai/v2" if sdk == "gloo" else "/v1")


@dataclass(slots=True, kw_only=True)
class World:
    """Both sides, and what each end of the gateway has counted. direct_ledger: of the simulator without a gateway."""

    direct: Side
    through: Side
    harness: Harness
    direct_ledger: Ledger

    async def counted(self) -> list[dict[str, Any]]:
        """The usage events, once they are proven equal to what the simulator served, request by request, and to the window."""
        await self.harness.at_rest()
        events = self.harness.events()
        assert [counts_of_event(event) for event in events] == [counts_of_served(served) for served in self.harness.ledger.records]
        window = await self.harness.window()
        assert (window.spent_nano_usd, window.held_nano_usd) == (sum(event["cost_nano_usd"] for event in events), 0)
        return events


@asynccontextmanager
async def running_world(tmp_path: Path, *, key: str = ACME_KEY, **options: Any) -> AsyncIterator[World]:
    """options: of `running_gateway`."""
    config = {"prices": PRICES} | options.pop("config", {})
    async with (
        running_gateway(tmp_path, simulator_clock_ms=lambda: NOON_MS, config=config, **options) as harness,
        running_simulator(clock_ms=lambda: NOON_MS, prompt_tokens=shared_prompt_tokens()) as simulator,
    ):
        yield World(
            direct=Side(url=simulator.url, key=key),
            through=Side(url=harness.url, key=key),
            harness=harness,
            direct_ledger=simulator.ledger,
        )


def plain(answer: Any) -> Any:
    """An SDK's object as plain values, without the HTTP headers that google-genai keeps in it; sound as bytes."""
    if isinstance(answer, openai.HttpxBinaryResponseContent):
        return answer.content
    return answer.model_dump(exclude={"sdk_http_response"}) if hasattr(answer, "model_dump") else answer


def user(directive: str, text: str = "Say something.") -> list[Any]:
    """A conversation of one message with the simulator's directive in it."""
    return [{"role": "user", "content": f"[[sim {directive}]] {text}"}]
