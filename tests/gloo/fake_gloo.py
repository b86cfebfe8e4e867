"""A fake Gloo AI, made from its public material, that keeps an account of what it served. It shares no code with what it judges.

Sources, named in the comments below: docs.gloo.com (pages by their path), GlooDeveloper/gloo-ai-docs-cookbook ("cookbook") and
glooai/typescript-example ("example"). What these leave open is chosen here, and said to be.
"""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qs

from aiohttp import web

API_KEY: Final = "sk_gloo-operator"
CLIENT_ID: Final = "gloo-client"
CLIENT_SECRET: Final = "gloo-secret"
PUBLISHER: Final = "9f7a2c1e-0000-4000-8000-0000000000b0"
LONG_BYTES: Final = 8_000  # of a request, from which on the prompt counts as cached before
CREATED: Final = 1_768_500_882
WORDS: Final = ("Ruth", " was", " a", " Moabite.")
TOOL: Final = "create_growth_plan"
TOOL_ARGUMENTS: Final = '{"goal_title":"Read Ruth"}'

# id, family, USD per million tokens in and out ("" has no price), longest output, what the output is, deprecated. Their form is of
# example:canary/tests/fixtures/v2-models.test.ts and docs api-guides/supported-models: rates are text, and there are none of
# caching. The rates are the providers' list prices where these are known, and chosen otherwise.
MODELS: Final = (
    ("gloo-openai-gpt-5.2", "OpenAI", "1.75", "14.00", 128_000, "text", False),
    ("gloo-openai-gpt-5-pro", "OpenAI", "15.00", "120.00", 272_000, "text", False),
    ("gloo-openai-gpt-4.1-nano", "OpenAI", "0.10", "0.40", 32_768, "text", True),
    ("gloo-openai-gpt-oss-120b", "Open Source", "0.039", "0.19", 131_072, "text", False),
    ("gloo-anthropic-claude-sonnet-4.5", "Anthropic", "3.00", "15.00", 64_000, "text", False),
    ("gloo-anthropic-claude-haiku-4.5", "Anthropic", "1.00", "5.00", 64_000, "text", False),
    ("gloo-google-gemini-2.5-flash", "Google", "0.30", "2.50", 65_535, "text", False),
    ("gloo-google-gemini-2.5-flash-image", "Google", "", "30.00", 8_192, "image", False),
    ("gloo-google-gemini-embedding-001", "Google", "0.15", "", 0, "", False),
    ("gloo-baai-bge-base-en-v1.5", "Open Source", "0.02", "", 0, "", False),
)
NO_TEXT: Final = frozenset(name for name, *_, modality, _ in MODELS if modality != "text")
# Which one answers where Gloo chooses: api-guides/completions-v2, "Example: Auto-Routing Response" and "Model Family Response".
AUTO: Final = "gloo-openai-gpt-5.2"
BY_FAMILY: Final = {
    "openai": AUTO,
    "anthropic": "gloo-anthropic-claude-haiku-4.5",
    "google": "gloo-google-gemini-2.5-flash",
    "open source": "gloo-openai-gpt-oss-120b",
}
V1_DEFAULT: Final = "us.anthropic.claude-sonnet-4-20250514-v1:0"  # cookbook completions-v1-tutorial; which is the default is chosen


def nano_usd(rate: str) -> int:
    """Of one token."""
    return int(Decimal(rate or "0") * 1_000)


RATES: Final = {name: (family, nano_usd(paid_in), nano_usd(paid_out)) for name, family, paid_in, paid_out, *_ in MODELS} | {
    V1_DEFAULT: ("Anthropic", 3_000, 15_000)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one answer. cached: of the prompt."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0

    def cost_nano_usd(self, model: str) -> int:
        """Gloo's bill, at list price. Docs api-guides/prompt-caching: cached tokens cost less; of whom how much is chosen."""
        family, paid_in, paid_out = RATES[model]
        cached = self.cached * paid_in // (10 if family == "Anthropic" else 1)
        return (self.prompt - self.cached) * paid_in + cached + self.completion * paid_out


@dataclass(slots=True, kw_only=True)
class Served:
    """One request, as it arrived, and its answer.

    answer   without what the client did not ask for: the usage chunk that came because a gateway asked
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int = 0
    answer: bytes = b""
    usage_chunk: bytes = b""
    model: str = ""
    usage: Usage = field(default_factory=Usage)

    @property
    def cost_nano_usd(self) -> int:
        return self.usage.cost_nano_usd(self.model) if self.model else 0


@dataclass(slots=True)
class FakeGloo:
    """served: the account, every request but those for a token.

    fails       how the next answer fails
    waits_for   no request is answered before so many have come
    """

    served: list[Served] = field(default_factory=list)
    tokens_issued: int = 0
    tokens_revoked: set[str] = field(default_factory=set)
    items: int = 0
    fails: str = ""
    waits_for: int = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=8 << 20)
        post, get = app.router.add_post, app.router.add_get
        post("/oauth2/token", self._token)
        get("/platform/v2/models", self._public_models)
        for path in ("/ai/v2/chat/completions", "/ai/v2/guarded/chat/completions", "/ai/v2/direct/chat/completions"):
            post(path, self._handler(self._chat))
        for path in ("/ai/v2/chat/completions/grounded", "/ai/v2/grounded/chat/completions"):
            post(path, self._handler(self._grounded))
        post("/ai/v1/chat/completions", self._handler(self._chat_v1))
        for path in ("/ai/v1/responses", "/ai/v2/responses", "/ai/v2/guarded/responses", "/ai/v2/direct/responses"):
            post(path, self._handler(self._responses))
        post("/ai/v1/grounded/responses", self._handler(self._grounded_responses))
        post("/ai/v2/direct/embeddings", self._handler(self._embeddings))
        get("/ai/v2/models", self._handler(_models))
        for method, path, answer in _UNMETERED:
            app.router.add_route(method, path, self._handler(answer))
        post("/ingestion/v2/files", self._handler(self._ingest))
        post("/ingestion/v1/real_time_upload", self._handler(self._ingest))
        post("/ai/ingestion/v1/real_time_upload", self._handler(self._ingest))  # api-guides/ingestion, "Example cURL Request"
        app.router.add_route("*", "/{path:.*}", self._handler(_nothing))
        return app

    def _handler(self, answer: "Answerer") -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            headers = {name.lower(): value for name, value in request.headers.items()}
            served = Served(method=request.method, path=request.raw_path, headers=headers, body=await request.read())
            self.served.append(served)
            failure, self.fails = self.fails, ""
            async with asyncio.timeout(10):
                while len(self.served) < self.waits_for:
                    await asyncio.sleep(0.005)
            if not self._is_known(headers.get("authorization", "")):
                return _whole(served, 401, {"detail": "Invalid or expired token"})  # docs api-reference/general/errors
            if failure in _REFUSALS:
                status, body, more = _REFUSALS[failure]
                return _whole(served, status, body, more)
            try:
                return await answer(request, served, failure)
            except KeyError as error:
                return _whole(served, 422, {"detail": [{"loc": ["body", str(error)], "msg": "Field required", "type": "missing"}]})

        return handle

    def _is_known(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        return scheme == "Bearer" and (given == API_KEY or (given.startswith("eyJ.") and given not in self.tokens_revoked))

    async def _token(self, request: web.Request) -> web.StreamResponse:
        """Docs tutorials/authentication: Basic; cookbook completions-grounded/python/main.py: in the body, without a scope."""
        form = {name: values[0] for name, values in parse_qs((await request.read()).decode()).items()}
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        pair: list[str | None] = [form.get("client_id"), form.get("client_secret")]
        if scheme == "Basic":
            pair = [*base64.b64decode(given).decode().split(":", 1)]
        if pair != [CLIENT_ID, CLIENT_SECRET] or form.get("grant_type") != "client_credentials":
            return web.json_response({"error": "invalid_client"}, status=401)
        self.tokens_issued += 1
        return web.json_response({"access_token": f"eyJ.{self.tokens_issued}", "expires_in": 3600, "token_type": "Bearer"})

    async def _public_models(self, request: web.Request) -> web.StreamResponse:
        """Without a key: docs api-reference/general/overview."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.served.append(Served(method=request.method, path=request.raw_path, headers=headers, body=b""))
        return _whole(self.served[-1], 200, CATALOGUE)

    async def _chat(self, request: web.Request, served: Served, failure: str) -> web.StreamResponse:
        return await _chat(request, served, failure, Usage(prompt=25, completion=150))

    async def _grounded(self, request: web.Request, served: Served, failure: str) -> web.StreamResponse:
        """Sources are input tokens: docs api-guides/grounded-completions. Messages may be left out, but not be empty."""
        asked = json.loads(served.body)
        if asked.get("messages") == []:
            return _whole(served, 400, {"detail": "messages must not be empty"})
        first = {"citations": [{"item_title": "Ruth", "publisher": "Bezalel"}]} if asked.get("include_citations") else {}
        usage = Usage(prompt=25 + 400 * asked.get("sources_limit", 3), completion=150)
        return await _chat(request, served, failure, usage, first, {"sources_returned": True})

    async def _chat_v1(self, request: web.Request, served: Served, failure: str) -> web.StreamResponse:
        return await _chat(request, served, failure, Usage(prompt=25, completion=150), default=V1_DEFAULT)

    async def _responses(self, request: web.Request, served: Served, failure: str) -> web.StreamResponse:
        return await _responses(request, served, failure, Usage(prompt=25, completion=150))

    async def _grounded_responses(self, request: web.Request, served: Served, failure: str) -> web.StreamResponse:
        return await _responses(request, served, failure, Usage(prompt=1_225, completion=150), sources_returned=True)

    async def _embeddings(self, request: web.Request, served: Served, failure: str) -> web.StreamResponse:
        """Docs api-guides/embeddings: OpenAI's shape. Four tokens for each text, which is chosen."""
        del request, failure
        asked = json.loads(served.body)
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        served.model, served.usage = asked["model"], Usage(prompt=4 * len(texts))
        vector: Any = [0.25, -0.5] if asked.get("encoding_format") != "base64" else "AACAPgAAAL8="
        data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(texts))]
        counts = {"prompt_tokens": served.usage.prompt, "total_tokens": served.usage.prompt}
        return _whole(served, 200, {"object": "list", "data": data, "model": served.model, "usage": counts})

    async def _ingest(self, request: web.Request, served: Served, failure: str) -> web.StreamResponse:
        """Docs api-reference/ingestion/v2; the identifiers count up, so that a test can name them."""
        del failure
        count = max(1, served.body.count(b"filename="))
        updated = request.query.get("update")
        made = [updated] if updated else [item_id(self.items + number) for number in range(1, count + 1)]
        self.items += 0 if updated else count
        answer = {"success": True, "message": "File processing started in background.", "ingesting": made, "duplicates": []}
        return _whole(served, 200, answer)


Answerer = Callable[[web.Request, Served, str], Awaitable[web.StreamResponse]]


def item_id(number: int) -> str:
    return f"c999008e-0000-4000-8000-{number:012d}"


def _row(name: str, family: str, paid_in: str, paid_out: str, longest: int, modality: str, is_deprecated: bool) -> dict[str, Any]:
    rates = {
        side: {"rate_per_1k_tokens": str(Decimal(rate) / 1_000), "rate_per_1m_tokens": rate}
        for side, rate in (("input", paid_in), ("output", paid_out))
        if rate
    }
    return {
        "id": name,
        "name": name.removeprefix("gloo-"),
        "family": family,
        "provider_id": name.removeprefix("gloo-").replace("-", "/", 1),
        "context_window": 400_000,
        "max_output_tokens": longest or None,
        "input_modalities": ["text"],
        "output_modalities": [modality] if modality else [],
        "supports_tools": True,
        "supports_reasoning": False,
        "is_deprecated": is_deprecated,
        "pricing": rates,
    }


CATALOGUE: Final = {"object": "list", "data": [_row(*model) for model in MODELS]}

# Before any output. Docs api-reference/general/errors and /limits; the 403 of example:canary/src/probes/ingestion.ts; of the
# spending limit only its name, its status and that it is not retryable are public.
_REFUSALS: Final[Mapping[str, tuple[int, Any, Mapping[str, str]]]] = {
    "rate": (429, {"error": "Rate limit exceeded", "code": "too_many_requests"}, {"X-RateLimit-Reset": "1768500900"}),
    "spending": (
        429,
        {"error": {"name": "SPENDING_LIMIT_EXCEEDED", "type": "limit_error", "category": "billing", "retryable": False}},
        {},
    ),
    "entitlement": (403, {"detail": "Missing entitlement: ingestion_access"}, {}),
    "guardrail": (403, {"detail": "Request blocked by guardrails"}, {}),
    "provider": (
        503,
        {"error": {"type": "service_unavailable_error", "code": 2006, "fault": "provider", "retryable": True, "trace_id": "t1"}},
        {},
    ),
    "timeout": (408, {"error": {"name": "PROVIDER_TIMEOUT", "code": 2001, "fault": "provider", "retryable": True}}, {}),
    "invalid": (422, {"detail": [{"loc": ["body", "temperature"], "msg": "Input should be less than 2", "type": "less_than"}]}, {}),
    "not_found": (404, {"detail": {"code": "ITEM_NOT_FOUND", "message": "Item not found"}}, {}),
}


def _whole(served: Served, status: int, value: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    served.status, served.answer = status, json.dumps(value).encode()
    own = {"x-request-id": "req-of-gloo", **(headers or {})}
    return web.Response(status=status, body=served.answer, content_type="application/json", headers=own)


async def _stream(request: web.Request, served: Served, chunks: Iterator[bytes], *, drops: bool) -> web.StreamResponse:
    """Server-sent events. drops: the connection goes away before their end: best-practices/completions-streaming-failures."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "x-request-id": "req-of-gloo"})
    served.status = 200
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
    if drops and request.transport is not None:
        request.transport.close()
    return response


def _chosen(asked: Mapping[str, Any], default: str = "") -> tuple[str, dict[str, Any]]:
    """The model, and what the answer says of the choice: api-guides/completions-v2, "Response Metadata"."""
    family = str(asked.get("model_family") or "").lower()
    if asked.get("model"):
        model, mechanism, tier = asked["model"], "direct_model_selection", {}
    elif family:
        model, mechanism, tier = BY_FAMILY[family], "model_family", {"routing_tier": "tier_2", "routing_confidence": 0.555}
    elif default:
        return default, {}
    else:
        model, mechanism, tier = AUTO, "auto_routing", {"routing_tier": "tier_2", "routing_confidence": 0.557}
    told = {"provider": "Gloo AI", "model_family": RATES[model][0], "auto_routing": mechanism == "auto_routing"}
    tradition = {"tradition": asked["tradition"]} if "tradition" in asked else {}
    return model, {**told, "routing_mechanism": mechanism, **tier, **tradition}


async def _chat(
    request: web.Request,
    served: Served,
    failure: str,
    usage: Usage,
    first: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    *,
    default: str = "",
) -> web.StreamResponse:
    """Docs api-reference/completions/v2. first: the event before all others of a stream, a member of the whole answer otherwise."""
    asked = json.loads(served.body)
    served.model, routing = _chosen(asked, default)
    if served.model in NO_TEXT:  # refused, with any 4xx: example:canary/src/fixtures/v2-models.ts
        served.model = ""
        return _whole(served, 400, {"error": {"name": "INVALID_REQUEST", "code": 1001, "retryable": False}})
    if len(served.body) > LONG_BYTES:  # example:scripts/src/whats-new-2026-05-26.ts: what usage then tells
        usage = Usage(prompt=2_025, completion=150, cached=2_000)
    served.usage = usage
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
    }
    if usage.cached:
        counts |= {"cache_tokens": usage.cached, "cache_hit_rate": round(usage.cached / usage.prompt, 3)}
    head = {"id": f"gen-{CREATED}-fake", "created": CREATED, "model": served.model, **routing, **(more or {})}
    is_call = asked.get("tool_choice") == "required"
    call = {"id": "call_1", "type": "function", "function": {"name": TOOL, "arguments": TOOL_ARGUMENTS}}
    finish = failure or ("tool_calls" if is_call else "stop")
    if not asked.get("stream"):
        said = {"content": None, "tool_calls": [call]} if is_call else {"content": "".join(WORDS)}
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **said}}
        return _whole(served, 200, {**head, "object": "chat.completion", "choices": [choice], "usage": counts, **(first or {})})

    def chunks() -> Iterator[bytes]:
        def event(delta: Any, reason: str | None = None, **beside: Any) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            chunk = f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [choice], **beside})}\n\n".encode()
            served.answer += chunk
            return chunk

        if first:
            served.answer += f"data: {json.dumps(first)}\n\n".encode()
            yield served.answer
        if is_call:
            yield event({"role": "assistant", "content": None, "tool_calls": [{"index": 0, **call}]})
        else:
            for position, word in enumerate(WORDS):
                yield event({"content": word} if position else {"role": "assistant", "content": word})
        if failure == "drop":
            return
        yield event({}, finish, **({"error": STREAM_ERROR} if failure == "error" else {}))
        if failure == "error":
            return
        # No `[DONE]`: cookbook completions-streaming. Usage where it is asked for: api-reference/completions/v2/grounded.
        if (asked.get("stream_options") or {}).get("include_usage"):
            last = {**head, "object": "chat.completion.chunk", "choices": [], "usage": counts}
            served.usage_chunk = f"data: {json.dumps(last)}\n\n".encode()
            yield served.usage_chunk

    return await _stream(request, served, chunks(), drops=failure == "drop")


STREAM_ERROR: Final = {
    "type": "service_unavailable_error",
    "code": 2002,
    "name": "PROVIDER_UNAVAILABLE",
    "fault": "provider",
    "retryable": True,
}


async def _responses(request: web.Request, served: Served, failure: str, usage: Usage, **more: Any) -> web.StreamResponse:
    """Docs api-guides/responses-v1; cookbook responses/python/main.py: streams are flattened live, and nested in the docs."""
    asked = json.loads(served.body)
    served.model, _ = _chosen(asked)
    details: dict[str, Any] = {}
    if "reasoning" in asked:
        usage = Usage(prompt=usage.prompt, completion=usage.completion, reasoning=120)
        details = {"output_tokens_details": {"reasoning_tokens": 120}}
    served.usage = usage
    counts = {"input_tokens": usage.prompt, "output_tokens": usage.completion, "total_tokens": usage.prompt + usage.completion}
    counts |= details
    item: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    item["content"] = [{"type": "output_text", "text": "".join(WORDS), "annotations": []}]
    if served.model.endswith("-image"):
        item = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "iVBORw0KGgo="}
    elif asked.get("tool_choice") == "required":
        item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": TOOL, "arguments": TOOL_ARGUMENTS}
    whole = {"id": "resp_1", "object": "response", "created_at": CREATED, "model": served.model, **more}
    done = {**whole, "status": "completed", "output": [item], "usage": counts}
    if not asked.get("stream"):
        return _whole(served, 200, done)

    def chunks() -> Iterator[bytes]:
        def event(name: str, value: Any) -> bytes:
            chunk = f"event: {name}\ndata: {json.dumps({'type': name, **value})}\n\n".encode()
            served.answer += chunk
            return chunk

        yield event("response.created", {**whole, "status": "in_progress"})
        for word in WORDS:
            yield event("response.output_text.delta", {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": word})
        if failure == "drop":
            return
        if failure == "error":
            yield event("error", {"error": STREAM_ERROR})
            return
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        yield event("response.output_text.done", {**place, "text": "".join(WORDS)})
        if request.path.startswith("/ai/v1/"):  # which of them sends which form is chosen: clients accept both
            yield event("response.completed", {"response": done})
        else:
            yield event("response.completed", {key: done[key] for key in ("id", "object", "model", "status", "usage")})

    return await _stream(request, served, chunks(), drops=failure == "drop")


def _fixed(value: Any) -> Answerer:
    async def answer(request: web.Request, served: Served, failure: str) -> web.StreamResponse:
        del request, failure
        return _whole(served, 200, value)

    return answer


async def _nothing(request: web.Request, served: Served, failure: str) -> web.StreamResponse:
    del request, failure
    return _whole(served, 404, {"detail": "Not Found"})


_models = _fixed(CATALOGUE)
MESSAGE: Final = {  # docs api-reference/chat/post-message; cookbook chat-tutorial
    "chat_id": "cb26ddd31-0000-4000-8000-000000000001",
    "query_id": "q1",
    "message_id": "m1",
    "timestamp": "2026-01-15T18:29:42",
    "success": True,
    "message": "A Moabite.",
    "sources": [],
    "suggestions": ["Who was Naomi?"],
    "intent": 0,
}
_HIT: Final = {"uuid": "u1", "metadata": {"certainty": 0.9, "score": 0.5}, "properties": {"snippet": "Ruth 1"}}
_RECOMMENDED: Final = [{"item_id": "i1", "item_title": "Ruth", "snippet_count": 2, "cumulative_certainty": 1.44}]
ITEM: Final = {"status": "COMPLETED", "updated_at": "2026-01-15", "etag": "1", "item_title": "Ruth", "author": ["A"]}


async def _item(request: web.Request, served: Served, failure: str) -> web.StreamResponse:
    del failure
    return _whole(served, 200, {"item_id": request.match_info["item_id"], **ITEM})


async def _publisher_items(request: web.Request, served: Served, failure: str) -> web.StreamResponse:
    """Docs api-guides/manage-content, "List All Items"; the last one belongs to nobody who is known here."""
    del request, failure
    names = [*(item_id(number) for number in range(1, 3)), "ffffffff-0000-4000-8000-000000000000"]
    return _whole(served, 200, [{"item_id": name, "status": "COMPLETED", "filename": "ruth.txt"} for name in names])


async def _delete_items(request: web.Request, served: Served, failure: str) -> web.StreamResponse:
    """Docs api-reference/content-controls/delete-item."""
    del request, failure
    gone = json.loads(served.body)["item_ids"]
    told = [{"item_id": name, "success": True, "error": None} for name in gone]
    counts = {"total_requested": len(gone), "total_deleted": len(gone), "total_failed": 0}
    return _whole(served, 200, {"success": True, "mode": "hard", **counts, "results": told, "message": "Deleted."})


_PATCHED: Final = {"success": True, "total_matched": 1, "total_patched": 1, "total_failed": 0, "results": [], "message": "Patched."}
_UNMETERED: Final[tuple[tuple[str, str, Answerer], ...]] = (
    ("POST", "/ai/v1/message", _fixed(MESSAGE)),
    ("GET", "/ai/v1/chat", _fixed({"chat_id": MESSAGE["chat_id"], "messages": [], "title": "Ruth"})),  # api-reference/chat/get-chat
    ("POST", "/ai/data/v1/search", _fixed({"data": [_HIT], "intent": 1})),  # example:scripts/src/search.ts
    ("POST", "/ai/v1/kallm/search", _fixed({"data": [_HIT], "intent": 1})),  # deprecated: docs api-reference/core/search
    *(
        ("POST", f"{base}/{path}", _fixed(_RECOMMENDED))  # cookbook recommendations; the second base: general/overview
        for base in ("/ai/v1/data", "/ai/data/v1")
        for path in ("items/recommendations/base", "items/recommendations/verbose", "affiliates/referenced-items")
    ),
    ("GET", "/engine/v2/items/{item_id}", _item),
    ("POST", "/engine/v2/item", _fixed({"success": True, "message": "Item has been updated."})),  # cookbook upload-files
    ("PATCH", "/engine/v2/item", _fixed({"success": True, "message": "Item has been updated."})),
    ("PATCH", "/engine/v2/items", _fixed(_PATCHED)),
    ("DELETE", "/engine/v2/items", _delete_items),
    ("GET", "/engine/v2/publisher/{publisher_id}/items", _publisher_items),
    # example:canary/src/probes/ingestion.ts
    ("GET", "/engine/v1/files/{file_id}/snippets", _fixed({"snippets": [{"text": "Ruth 1"}]})),
)
