"""Demo traffic: the real `openai` SDK calling a gateway in front of the simulator, as its users would."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import openai
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionUserMessageParam

CHAT_MODELS: Final = ("gpt-4o-mini", "gpt-4o", "gpt-4.1")
EMBEDDING_MODEL: Final = "text-embedding-3-small"
QUESTIONS: Final = (
    "Summarise the minutes of our last meeting in three sentences.",
    "Which of these two contracts renews first, and what does that cost us?",
    "Write a short welcome to a new colleague who starts on Monday.",
    "Explain to a customer why the invoice of this month is higher than the last.",
)
TIMEOUT_SECONDS: Final = 60.0


class Kind(Enum):
    """What a request is like."""

    WHOLE = "whole"
    STREAM = "stream"
    STREAM_WITHOUT_USAGE = "stream_without_usage"
    LEFT_STREAM = "left_stream"  # the client hangs up in the middle
    TOOL_CALL = "tool_call"
    EMBEDDING = "embedding"


DEFAULT_MIX: Final[Mapping[Kind, int]] = {
    Kind.WHOLE: 6,
    Kind.STREAM: 6,
    Kind.STREAM_WITHOUT_USAGE: 3,
    Kind.LEFT_STREAM: 1,
    Kind.TOOL_CALL: 1,
    Kind.EMBEDDING: 3,
}


@dataclass(slots=True, kw_only=True)
class ClientView:
    """What the holder of one key saw.

    completed                          answers that came whole; left: streams it hung up on
    refused                            error answers by their `code`, else by their status; failed: no or broken answers
    prompt_tokens, completion_tokens   as the answers reported them
    delivered_tokens                   output tokens counted from the pieces of streams that reported none, left ones among them
    """

    requests: int = 0
    completed: int = 0
    left: int = 0
    failed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    delivered_tokens: int = 0


@dataclass(slots=True, kw_only=True)
class TrafficReport:
    """What all clients saw, by the name of their key. Complete when `run_traffic` returns it, partial in `on_progress`."""

    planned: int
    finished: int = 0
    by_key: dict[str, ClientView] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One request to come. tokens: what the simulator is told to generate."""

    key: str
    kind: Kind
    model: str
    question: str
    tokens: int
    leave_after: int


async def run_traffic(
    base_url: str,
    keys: Mapping[str, str],
    *,
    requests: int = 200,
    concurrency: int = 8,
    seed: int = 1,
    mix: Mapping[Kind, int] = DEFAULT_MIX,
    tokens_max: int = 120,
    pause_seconds: float = 0.0,
    on_progress: Callable[[TrafficReport], None] | None = None,
) -> TrafficReport:
    """Send `requests` requests, `concurrency` at a time, each with one of the keys, and return what came back.

    base_url        with its version, such as "http://127.0.0.1:8080/v1"
    keys            API keys by the name under which the report lists them
    seed            equal seeds send equal requests, in equal order
    pause_seconds   rest of each of the concurrent clients after a request
    on_progress     called after each request with the report so far

    Nothing is retried: a refusal is a result. Errors of the API and of the connection are counted, never raised.
    """
    report = TrafficReport(planned=requests, by_key={name: ClientView() for name in keys})
    clients = {
        name: openai.AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0, timeout=TIMEOUT_SECONDS)
        for name, key in keys.items()
    }
    plan = _plan(tuple(keys), requests, random.Random(seed), mix, tokens_max)

    async def work() -> None:
        for request in plan:
            await _send(clients[request.key], request, report.by_key[request.key])
            report.finished += 1
            if on_progress is not None:
                on_progress(report)
            if pause_seconds:
                await asyncio.sleep(pause_seconds)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    finally:
        for client in clients.values():
            await client.close()
    return report


def _plan(
    keys: tuple[str, ...], requests: int, chance: random.Random, mix: Mapping[Kind, int], tokens_max: int
) -> Iterator[_Request]:
    for _ in range(requests):
        tokens = chance.randint(8, max(8, tokens_max))
        yield _Request(
            key=chance.choice(keys),
            kind=chance.choices(tuple(mix), weights=tuple(mix.values()))[0],
            model=chance.choice(CHAT_MODELS),
            question=chance.choice(QUESTIONS),
            tokens=tokens,
            leave_after=chance.randint(1, tokens // 2),
        )


async def _send(client: openai.AsyncOpenAI, request: _Request, view: ClientView) -> None:
    view.requests += 1
    try:
        match request.kind:
            case Kind.EMBEDDING:
                await _embed(client, request, view)
            case Kind.WHOLE | Kind.TOOL_CALL:
                await _ask(client, request, view)
            case Kind.STREAM | Kind.STREAM_WITHOUT_USAGE | Kind.LEFT_STREAM:
                await _listen(client, request, view)
    except openai.APIStatusError as error:
        view.refused[str(error.code or error.status_code)] += 1
    except openai.APIError:
        view.failed += 1


async def _embed(client: openai.AsyncOpenAI, request: _Request, view: ClientView) -> None:
    answer = await client.embeddings.create(model=EMBEDDING_MODEL, input=request.question)
    view.prompt_tokens += answer.usage.prompt_tokens
    view.completed += 1


async def _ask(client: openai.AsyncOpenAI, request: _Request, view: ClientView) -> None:
    answer = await client.chat.completions.create(
        model=request.model, messages=_messages(request), max_completion_tokens=request.tokens + 20
    )
    if answer.usage is not None:
        view.prompt_tokens += answer.usage.prompt_tokens
        view.completion_tokens += answer.usage.completion_tokens
    view.completed += 1


async def _listen(client: openai.AsyncOpenAI, request: _Request, view: ClientView) -> None:
    """A stream; each of the simulator's pieces with content is one token."""
    delivered, is_reported = 0, False
    stream = await client.chat.completions.create(
        model=request.model,
        messages=_messages(request),
        max_completion_tokens=request.tokens + 20,
        stream=True,
        stream_options=openai.omit if request.kind is Kind.STREAM_WITHOUT_USAGE else {"include_usage": True},
    )
    async with stream:
        try:
            async for chunk in stream:
                if chunk.usage is not None:
                    is_reported = True
                    view.prompt_tokens += chunk.usage.prompt_tokens
                    view.completion_tokens += chunk.usage.completion_tokens
                delivered += sum(bool(choice.delta.content) for choice in chunk.choices)
                if request.kind is Kind.LEFT_STREAM and delivered >= request.leave_after:
                    view.left += 1
                    return
            view.completed += 1
        finally:
            if not is_reported:
                view.delivered_tokens += delivered


def _messages(request: _Request) -> list[ChatCompletionMessageParam]:
    tool = " tool=1" if request.kind is Kind.TOOL_CALL else ""
    content = f"[[sim tokens={request.tokens}{tool}]] {request.question}"
    return [ChatCompletionUserMessageParam(role="user", content=content)]
