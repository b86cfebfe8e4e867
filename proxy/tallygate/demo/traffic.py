"""The demo's clients: the real `openai` SDK where it is installed, several requests at once, streams among them.

Gloo AI's callers use the same SDK at Gloo's paths: routed and grounded chats, and requests without tokens.
"""

import asyncio
import json
import wave
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from random import Random
from typing import TYPE_CHECKING, Any, Final

from tallygate.demo.callers import Caller
from tallygate.demo.plain_client import PlainClient, PlainStatusError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Kinds = tuple[Callable[["AsyncOpenAI", Random], Awaitable[None]], ...]
AT_ONCE: Final = 12
_SAMPLES_PER_SECOND: Final = 8_000
MODEL: Final = "gpt-4o"
REALTIME_MODEL: Final = "gpt-realtime"
QUESTIONS: Final = (
    "Why is the sky blue?",
    "Write a haiku about a ledger that balances.",
    "Summarize the plot of Moby-Dick for a tax accountant.",
    "Name three uses for a paper clip, and explain each at some length, with examples.",
)
_GLOO_ROUTES: Final[tuple[dict[str, Any], ...]] = (
    {"auto_routing": True},
    {"auto_routing": True, "tradition": "mainline"},
    {"model_family": "anthropic"},
    {"model": "gloo-google-gemini-2.5-flash"},
)


class SocketRefusedError(Exception):
    """A handshake, or a response over a socket, that was refused. body: the error object."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(str(body.get("message", status)))
        self.status, self.body = status, body


@dataclass(slots=True)
class CallerResult:
    """Results of one organization's clients. statuses: HTTP status of each answer; refusals: the message of each error code."""

    statuses: Counter[int] = field(default_factory=Counter)
    refusals: dict[str, str] = field(default_factory=dict)

    def note(self, code: str, body: object, otherwise: str) -> None:
        """Keep one message of each code, preferably one that states when access resumes."""
        members = body if isinstance(body, dict) else {}
        if code not in self.refusals or members.get("resumes_at"):
            self.refusals[code] = str(members.get("message", otherwise))


async def send_traffic(
    callers: tuple[Caller, ...], *, base_url: str, requests: int, on_answer: Callable[[], None], random: Random, kinds: Kinds
) -> dict[str, CallerResult]:
    """Send `requests` requests in a random order of callers and kinds; return results by organization. base_url: with version."""
    make_client, status_error = _sdk()
    clients = {caller.org: make_client(base_url=base_url, api_key=caller.api_key) for caller in callers}
    results = {caller.org: CallerResult() for caller in callers}
    orgs = random.choices([caller.org for caller in callers], weights=[caller.share for caller in callers], k=requests)
    waiting = iter(orgs)

    async def send_in_turn() -> None:
        for org in waiting:
            result = results[org]
            try:
                await random.choice(kinds)(clients[org], random)
            except status_error as error:
                result.statuses[error.status_code] += 1
                result.note(code_of(error.body) or str(error.status_code), error.body, str(error))
            except SocketRefusedError as error:
                result.statuses[error.status] += 1
                result.note(str(error.body.get("code") or error.status), error.body, str(error))
            else:
                result.statuses[200] += 1
            on_answer()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(send_in_turn())
    for client in clients.values():
        await client.close()
    return results


def has_sdk() -> bool:
    """Return whether the openai SDK is installed (the extra `demo`)."""
    return find_spec("openai") is not None


def _sdk() -> tuple[Callable[..., Any], type[Any]]:
    """The SDK's client and its error, or what stands in for them."""
    if not has_sdk():
        return PlainClient, PlainStatusError
    import openai  # noqa: PLC0415 - an optional dependency, and a slow import

    return partial(openai.AsyncOpenAI, max_retries=0, timeout=60.0), openai.APIStatusError


def code_of(error: object) -> str:
    """The gateway's code in an error object; in Google's shape it is a reason among the details. Empty if there is none."""
    members = error if isinstance(error, dict) else {}
    reasons = [each["reason"] for each in members.get("details") or () if "reason" in each]
    return str((reasons or [members.get("code") or ""])[0])


def prompt(random: Random, *, reasons: bool = True) -> str:
    """A question with a directive that sets the length of the mock API's answer. reasons: the model may reason first."""
    tokens, reasoning, cached = random.randint(5, 60), random.choice((0, 0, 10)) if reasons else 0, random.choice((0, 0, 4))
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


async def _background_response(client: "AsyncOpenAI", random: Random) -> None:
    """Begin a response that nobody asks for later: the gateway does."""
    await client.responses.create(model=MODEL, max_output_tokens=80, input=prompt(random), background=True)


async def _batch(client: "AsyncOpenAI", random: Random) -> None:
    lines = []
    for number in range(random.randint(1, 5)):
        body = {"model": MODEL, "max_tokens": 80, "messages": [{"role": "user", "content": prompt(random)}]}
        lines.append({"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body})
    content = "\n".join(map(json.dumps, lines)).encode()
    uploaded = await client.files.create(file=("lines.jsonl", content), purpose="batch")
    await client.batches.create(input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h")


async def _response_over_a_socket(client: "AsyncOpenAI", random: Random) -> None:
    with _refusals_of_sockets():
        async with client.responses.connect() as connection:
            await connection.response.create(model=MODEL, max_output_tokens=80, input=prompt(random))
            async for event in connection:
                if event.type == "error":
                    raise SocketRefusedError(event.status or 0, dict(event.error))
                if event.type in ("response.completed", "response.incomplete"):
                    return


async def _realtime(client: "AsyncOpenAI", random: Random) -> None:
    with _refusals_of_sockets():
        async with client.realtime.connect(model=REALTIME_MODEL) as connection:
            content: Any = [{"type": "input_text", "text": prompt(random, reasons=False)}]
            await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
            await connection.response.create(response={"output_modalities": ["text"], "max_output_tokens": 80})
            async for event in connection:
                if event.type == "error":
                    error = dict(event.error)
                    raise SocketRefusedError(int(str(error.get("status", 0))), error)
                if event.type == "response.done":
                    return


@contextmanager
def _refusals_of_sockets() -> Iterator[None]:
    """Raise the refusal of a handshake like that of a response."""
    from websockets.exceptions import InvalidStatus  # noqa: PLC0415 - an optional dependency

    try:
        yield
    except InvalidStatus as error:
        body = json.loads(error.response.body or b"{}")
        raise SocketRefusedError(error.response.status_code, body.get("error", {})) from None


async def _embedding(client: "AsyncOpenAI", random: Random) -> None:
    await client.embeddings.create(model="text-embedding-3-small", input=random.choice(QUESTIONS))


async def _image(client: "AsyncOpenAI", random: Random) -> None:
    """Draw, edit or stream an image that is billed by its tokens, or draw one that is billed as such."""
    drawn: dict[str, Any] = {"model": "gpt-image-2", "prompt": "[[sim tokens=196]] A cat", "quality": "low", "size": "1024x1024"}
    match random.randrange(4):
        case 0:
            await client.images.generate(**drawn, n=random.randint(1, 2))
        case 1:
            streamed = drawn | {"prompt": "[[sim tokens=396]] A cat", "partial_images": 2, "stream": True}
            async for _ in await client.images.generate(**streamed):
                pass
        case 2:
            await client.images.edit(**drawn, image=("cat.png", b"\x89PNG\r\n\x1a\n", "image/png"))
        case _:
            await client.images.generate(model="dall-e-2", prompt="A cat", quality="standard", size="256x256")


async def _sound(client: "AsyncOpenAI", random: Random) -> None:
    """Speak a text or listen to a recording, by the character, the second or by tokens."""
    spoken: dict[str, Any] = {"input": f"[[sim tokens={random.randint(20, 90)}]] Peace be with you.", "voice": "alloy"}
    heard: dict[str, Any] = {"file": ("a.wav", _recording(random.randint(1, 9)), "audio/wav")}
    match random.randrange(6):
        case 0:
            await client.audio.speech.create(model="tts-1", **spoken)
        case 1:
            await client.audio.speech.create(model="gpt-4o-mini-tts", response_format="wav", **spoken)
        case 2:
            await client.audio.speech.create(model="gpt-4o-mini-tts", stream_format="sse", **spoken)
        case 3:
            await client.audio.transcriptions.create(model="whisper-1", response_format=random.choice(("json", "text")), **heard)
        case 4:
            await client.audio.translations.create(model="whisper-1", **heard)
        case _:
            async for _ in await client.audio.transcriptions.create(model="gpt-4o-transcribe", stream=True, **heard):
                pass


async def _video(client: "AsyncOpenAI", random: Random) -> None:
    """Begin videos at Google or at xAI that nobody asks for later: the gateway does."""
    if random.randrange(2):
        body: dict[str, Any] = {"instances": [{"prompt": "A cat"}], "parameters": {"durationSeconds": 4, "sampleCount": 1}}
        model = random.choice(("veo-3.1-lite-generate-preview", "veo-3.1-fast-generate-preview"))
        await client.post(f"{client.base_url.join(f'/v1beta/models/{model}:predictLongRunning')}", body=body, cast_to=object)
    else:
        body = {"model": "grok-imagine-video-1.5-lite", "prompt": "A cat", "duration": random.randint(1, 4), "resolution": "720p"}
        await client.post("/videos/generations", body=body, cast_to=object)


async def _judged_or_ordered(client: "AsyncOpenAI", random: Random) -> None:
    """Moderate a text, or order documents by searches or by tokens."""
    texts = list(QUESTIONS)
    match random.randrange(3):
        case 0:
            await client.moderations.create(input=random.choice(texts))
        case 1:
            body = {"model": "rerank-v3.5", "query": "a ledger", "documents": texts}
            await client.post(f"{client.base_url.join('/v2/rerank')}", body=body, cast_to=object)
        case _:
            await client.post("/rerank", body={"model": "rerank-2.5", "query": "a ledger", "documents": texts}, cast_to=object)


def _recording(seconds: int) -> bytes:
    """Silence in WAV, at 8 kHz."""
    file = BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(_SAMPLES_PER_SECOND)
        written.writeframes(bytes(2 * _SAMPLES_PER_SECOND * seconds))
    return file.getvalue()


_PLAIN: Final[Kinds] = (
    _chat,
    _streamed_chat,
    _streamed_chat,
    _response,
    _background_response,
    _embedding,
    _judged_or_ordered,
)
_WITH_THE_SDK: Final[Kinds] = (*_PLAIN, _batch, _response_over_a_socket, _realtime, _image, _sound)
# A second of video costs as much as a thousand answers: it is ordered seldom, so that the demo's money is not all for that.
OPENAI_KINDS: Final[Kinds] = (*_WITH_THE_SDK * 4, _video)
PLAIN_KINDS: Final[Kinds] = (*_PLAIN * 4, _video)


def _gloo_body(random: Random, **more: Any) -> dict[str, Any]:
    """A chat with one of the three ways to choose its model; the SDK's own `model` would be a second."""
    return {"messages": [{"role": "user", "content": prompt(random)}], "max_tokens": 80, **random.choice(_GLOO_ROUTES), **more}


async def _gloo_chat(client: "AsyncOpenAI", random: Random) -> None:
    await client.post("/guarded/chat/completions", body=_gloo_body(random), cast_to=object)


async def _gloo_streamed_chat(client: "AsyncOpenAI", random: Random) -> None:
    model = random.choice(("gloo-openai-gpt-5.2", "gloo-deepseek-v3.2"))
    messages: Any = [{"role": "user", "content": prompt(random)}]
    async for _ in await client.chat.completions.create(model=model, max_tokens=80, messages=messages, stream=True):
        pass


async def _gloo_grounded_chat(client: "AsyncOpenAI", random: Random) -> None:
    body = _gloo_body(random, rag_publisher="Bezalel", sources_limit=random.randint(1, 5))
    await client.post("/chat/completions/grounded", body=body, cast_to=object)


async def _gloo_response(client: "AsyncOpenAI", random: Random) -> None:
    await client.responses.create(model="gloo-anthropic-claude-sonnet-4.5", max_output_tokens=80, input=prompt(random))


async def _gloo_embedding(client: "AsyncOpenAI", random: Random) -> None:
    body = {"model": "gloo-baai-bge-base-en-v1.5", "input": random.choice(QUESTIONS)}
    await client.post("/direct/embeddings", body=body, cast_to=object)


async def _gloo_search(client: "AsyncOpenAI", random: Random) -> None:
    body = {"query": random.choice(QUESTIONS), "collection": "GlooProd", "tenant": "Bezalel", "limit": 5}
    await client.post(f"{client.base_url.join('/ai/data/v1/search')}", body=body, cast_to=object)


GLOO_KINDS: Final[Kinds] = (
    _gloo_chat,
    _gloo_chat,
    _gloo_streamed_chat,
    _gloo_streamed_chat,
    _gloo_grounded_chat,
    _gloo_response,
    _gloo_embedding,
    _gloo_search,
)
