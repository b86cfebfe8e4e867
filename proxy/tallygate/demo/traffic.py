"""The demo's clients: the real `openai` SDK, several requests at once, streams among them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from tallygate.demo.callers import Caller

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Kinds = tuple[Callable[["AsyncOpenAI", Random], Awaitable[None]], ...]
AT_ONCE: Final = 12
MODEL: Final = "gpt-4o"
QUESTIONS: Final = (
    "Why is the sky blue?",
    "Write a haiku about a ledger that balances.",
    "Summarize the plot of Moby-Dick for a tax accountant.",
    "Name three uses for a paper clip, and explain each at some length, with examples.",
)


@dataclass(slots=True)
class CallerResult:
    """What one organization's clients saw. statuses: HTTP status of each answer; refusals: the message of each error code."""

    statuses: Counter[int] = field(default_factory=Counter)
    refusals: dict[str, str] = field(default_factory=dict)

    def note(self, code: str, body: object, otherwise: str) -> None:
        """Keep one message of each code; one that tells when access resumes rather than one that does not."""
        members = body if isinstance(body, dict) else {}
        if code not in self.refusals or members.get("resumes_at"):
            self.refusals[code] = str(members.get("message", otherwise))


async def send_traffic(
    callers: tuple[Caller, ...], *, base_url: str, requests: int, on_answer: Callable[[], None], random: Random, kinds: Kinds
) -> dict[str, CallerResult]:
    """Send `requests` requests in a random order of callers and kinds; results by organization. base_url: with its version."""
    import openai  # noqa: PLC0415 - an optional dependency, and a slow import

    clients = {
        caller.org: openai.AsyncOpenAI(base_url=base_url, api_key=caller.api_key, max_retries=0, timeout=60.0) for caller in callers
    }
    results = {caller.org: CallerResult() for caller in callers}
    orgs = random.choices([caller.org for caller in callers], weights=[caller.share for caller in callers], k=requests)
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(org: str) -> None:
        async with turn:
            result = results[org]
            try:
                await random.choice(kinds)(clients[org], random)
            except openai.APIStatusError as error:
                result.statuses[error.status_code] += 1
                result.note(error.code or str(error.status_code), error.body, str(error))
            else:
                result.statuses[200] += 1
            on_answer()

    async with asyncio.TaskGroup() as group:
        for org in orgs:
            group.create_task(one(org))
    for client in clients.values():
        await client.close()
    return results


def prompt(random: Random) -> str:
    """A question with a wish for the mock API, which answers with so many tokens."""
    tokens, reasoning, cached = random.randint(5, 60), random.choice((0, 0, 10)), random.choice((0, 0, 4))
    return f"[[sim tokens={tokens} reasoning={reasoning} cached={cached}]] {random.choice(QUESTIONS)}"


async def _chat(client: "AsyncOpenAI", random: Random) -> None:
    await client.chat.completions.create(model=MODEL, max_tokens=80, messages=[{"role": "user", "content": prompt(random)}])


async def _streamed_chat(client: "AsyncOpenAI", random: Random) -> None:
    stream = await client.chat.completions.create(
        model=MODEL, max_tokens=80, messages=[{"role": "user", "content": prompt(random)}], stream=True
    )
    async for _ in stream:
        pass


async def _response(client: "AsyncOpenAI", random: Random) -> None:
    await client.responses.create(model=MODEL, max_output_tokens=80, input=prompt(random))


async def _embedding(client: "AsyncOpenAI", random: Random) -> None:
    await client.embeddings.create(model="text-embedding-3-small", input=random.choice(QUESTIONS))


OPENAI_KINDS: Final[Kinds] = (
    _chat,
    _streamed_chat,
    _streamed_chat,
    _response,
    _embedding,
)
