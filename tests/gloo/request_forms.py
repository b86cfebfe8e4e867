"""Every public form of a request to Gloo AI, and what is to come of it, reckoned by hand.

The forms are facts of the wire, each with where it is public: docs.gloo.com (pages by their path), the repository
GlooDeveloper/gloo-ai-docs-cookbook ("cookbook"), glooai/typescript-example ("example"), or other public clients ("clients"). Of
languages and SDKs only what differs on the wire. Rates are nano-USD for a token, those of the fake's catalogue: GPT-5.2 costs
1,750 in and 14,000 out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fake_gloo import PUBLISHER, V1_DEFAULT, item_id

AUTO: Final = "gloo-openai-gpt-5.2"
SONNET: Final = "gloo-anthropic-claude-sonnet-4.5"
HAIKU: Final = "gloo-anthropic-claude-haiku-4.5"
FLASH: Final = "gloo-google-gemini-2.5-flash"
OPEN: Final = "gloo-openai-gpt-oss-120b"
NANO: Final = "gloo-openai-gpt-4.1-nano"
IMAGE: Final = "gloo-google-gemini-2.5-flash-image"
BGE: Final = "gloo-baai-bge-base-en-v1.5"
GEMINI_EMBEDDING: Final = "gloo-google-gemini-embedding-001"

ASKS_USAGE: Final = '"stream_options":{"include_usage":true}'
# The most that each of the models that routing reaches can answer with, GPT-4.1 nano's: of the dearest, GPT-5 Pro, it costs 3.93
# USD, which is within the twenty-fifth of a limit of 100 USD that a routed request may take.
ROUTED_MAXIMUM: Final = '"max_tokens":32768'


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A request, and what is to come of it.

    body      a JSON value; bytes go as they are, with their content_type
    adds      members that the gateway puts before the body's own; all else of it goes up byte by byte
    replaces  what it changes in the body, and into what
    query_up  the query that goes up, where it is not the client's
    endpoint  of the usage event, where it is not the path
    tokens    prompt, completion, cached, reasoning; None where the answer tells none
    answer    what the client gets, where it is not what Gloo answers
    made      how many items the answer tells to be the caller's own
    """

    name: str
    source: str
    method: str = "POST"
    path: str
    query: str = ""
    body: Any = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    adds: str = ""
    replaces: tuple[bytes, bytes] = (b"", b"")
    query_up: str | None = None
    endpoint: str = ""
    capability: str = "chat"
    dialect: str | None = None
    model: str | None = None
    tokens: tuple[int, int, int, int] | None = None
    cost: int = 0
    answer: bytes = b""
    made: int = 0

    @property
    def body_bytes(self) -> bytes:
        if self.body is None or isinstance(self.body, bytes):
            return self.body or b""
        return json.dumps(self.body).encode()

    @property
    def body_up(self) -> bytes:
        body = self.body_bytes.replace(*self.replaces, 1) if self.replaces[0] else self.body_bytes
        return b"{" + self.adds.encode() + b"," + body[1:] if self.adds else body

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def target_up(self) -> str:
        query = self.query if self.query_up is None else self.query_up
        return f"{self.path}?{query}" if query else self.path

    @property
    def asks_usage(self) -> bool:
        """Whether the client itself wants the usage chunk of a stream."""
        options = self.body.get("stream_options") if isinstance(self.body, dict) else None
        return bool(options) and options["include_usage"]


SAID: Final = [{"role": "user", "content": "Who was Ruth?"}]
LONG: Final = [{"role": "system", "content": "Answer kindly, and briefly. " * 400}, *SAID]
PLAN_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "create_growth_plan",
        "description": "Make a plan.",
        "parameters": {"type": "object", "properties": {"goal_title": {"type": "string"}}, "required": ["goal_title"]},
    },
}
V2: Final = "/ai/v2/chat/completions"
GUARDED: Final = "/ai/v2/guarded/chat/completions"
DIRECT: Final = "/ai/v2/direct/chat/completions"
GROUNDED: Final = "/ai/v2/chat/completions/grounded"
GROUNDED_FIRST: Final = "/ai/v2/grounded/chat/completions"
TOKENS: Final = (25, 150, 0, 0)
AUTO_COST: Final = 25 * 1_750 + 150 * 14_000
COST: Final[Mapping[str, int]] = {
    AUTO: AUTO_COST,
    SONNET: 25 * 3_000 + 150 * 15_000,
    HAIKU: 25 * 1_000 + 150 * 5_000,
    FLASH: 25 * 300 + 150 * 2_500,
    OPEN: 25 * 39 + 150 * 190,
    NANO: 25 * 100 + 150 * 400,
    V1_DEFAULT: 25 * 3_000 + 150 * 15_000,
}


V1_CHAT: Final = "/ai/v1/chat/completions"
_DIALECTS: Final = {GROUNDED: "gloo_grounded_chat", GROUNDED_FIRST: "gloo_grounded_chat", V1_CHAT: "gloo_chat_v1"}


def chat(
    name: str,
    source: str,
    path: str = V2,
    *,
    answers: str = "",
    adds: str = "",
    replaces: tuple[bytes, bytes] = (b"", b""),
    said: Any = SAID,
    headers: Mapping[str, str] | None = None,
    tokens: tuple[int, int, int, int] = TOKENS,
    cost: int | None = None,
    **body: Any,
) -> Form:
    """answers: the model that does, where it is neither asked for nor GPT-5.2."""
    model = answers or body.get("model") or AUTO
    return Form(
        name=name,
        source=source,
        path=path,
        body=({} if said is None else {"messages": said}) | body,
        headers=headers or {},
        adds=adds,
        replaces=replaces,
        dialect=_DIALECTS.get(path, "gloo_chat"),
        model=model,
        tokens=tokens,
        cost=COST[model] if cost is None else cost,
    )


COMPLETIONS: Final = "docs api-guides/completions-v2"
REFERENCE: Final = "docs api-reference/completions/v2"
CACHING: Final = "docs api-guides/prompt-caching"
CANARY: Final = "example:canary/src/fixtures/index.ts"
PARTS: Final = [{"role": "user", "content": [{"type": "text", "text": "Who was Ruth?"}]}]
SEARCHED: Final = [
    {"role": "system", "content": "Answer from the context."},
    {"role": "user", "content": "Context:\nRuth 1\n\nWho?"},
]
CALLED: Final = [
    *SAID,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "create_growth_plan", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "done"},
]
SCHEMA: Final = {"type": "json_schema", "json_schema": {"name": "who", "schema": {"type": "object", "properties": {}}}}
CACHED: Final = (2_025, 150, 2_000, 0)

CHAT_FORMS: Final = (
    chat("the recommended call", COMPLETIONS, auto_routing=True, adds=ROUTED_MAXIMUM),
    chat("auto routing, not streamed", COMPLETIONS, auto_routing=True, stream=False, adds=ROUTED_MAXIMUM),
    chat("auto routing with a maximum", "cookbook completions-grounded/python/main.py", auto_routing=True, max_tokens=500),
    *(
        chat(f"tradition {tradition}", REFERENCE, auto_routing=True, tradition=tradition, temperature=0.7, max_tokens=1024)
        for tradition in ("evangelical", "catholic", "mainline", "not_faith_specific")
    ),
    chat("family openai", REFERENCE, model_family="openai", adds=ROUTED_MAXIMUM),
    chat("family anthropic", COMPLETIONS, answers=HAIKU, model_family="anthropic", auto_routing=False),
    chat("family google", REFERENCE, answers=FLASH, model_family="google"),
    chat("family of two words", REFERENCE, answers=OPEN, model_family="open source"),
    chat("family in capitals", CANARY, answers=OPEN, model_family="Open Source", max_tokens=1024),
    chat("model", "cookbook completions-v2-tutorial/python/main.py", model=SONNET, temperature=0.7, max_tokens=500),
    chat("parts of text", "example:scripts/src/gloo-ai-sdk.ts", said=PARTS, model=SONNET, max_tokens=500, stream=False),
    chat("parallel tools without a choice", "docs api-guides/tool-use", model_family="openai", tools=[PLAN_TOOL], max_tokens=500),
    chat("model, auto_routing false", COMPLETIONS, model=FLASH, auto_routing=False),
    chat("a deprecated model", "example:canary/src/probes/v2-completions.ts", model=NANO, max_tokens=1024),
    chat(
        "searched context", "cookbook search-tutorial/python/search_advanced.py", said=SEARCHED, auto_routing=True, max_tokens=3000
    ),
    chat(
        "a tool that must be used",
        "cookbook completions-tool-use",
        auto_routing=True,
        tools=[PLAN_TOOL],
        tool_choice="required",
        adds=ROUTED_MAXIMUM,
    ),
    chat(
        "tools at will", "docs api-guides/tool-use", model=SONNET, tools=[PLAN_TOOL], tool_choice="auto", parallel_tool_calls=True
    ),
    chat("a tool's result", "docs api-guides/tool-use", said=CALLED, model=SONNET, tools=[PLAN_TOOL], tool_choice="none"),
    chat("stream", "cookbook completions-streaming", auto_routing=True, stream=True, adds=f"{ROUTED_MAXIMUM},{ASKS_USAGE}"),
    chat("stream with usage", "clients", auto_routing=True, max_tokens=500, stream=True, stream_options={"include_usage": True}),
    chat(
        "stream without usage",
        "clients",
        model=FLASH,
        stream=True,
        stream_options={"include_usage": False},
        replaces=(b'"include_usage": false', b'"include_usage": true'),
    ),
    chat(
        "stream of a family",
        "example:chatbot/app/api/chat/route.ts",
        answers=HAIKU,
        auto_routing=False,
        model_family="anthropic",
        tradition="catholic",
        stream=True,
        adds=ASKS_USAGE,
    ),
    chat(
        "stream of a tool call",
        "docs api-guides/tool-use",
        model=SONNET,
        tools=[PLAN_TOOL],
        tool_choice="required",
        stream=True,
        adds=ASKS_USAGE,
    ),
    chat(
        "caching for five minutes",
        CACHING,
        headers={"X-Cache-TTL": "5m"},
        said=LONG,
        model=SONNET,
        max_tokens=500,
        tokens=CACHED,
        cost=25 * 3_000 + 2_000 * 300 + 150 * 15_000,
    ),
    chat(
        "caching for an hour",
        CACHING,
        headers={"X-Cache-TTL": "1h"},
        said=LONG,
        model=SONNET,
        max_tokens=500,
        tokens=CACHED,
        cost=2_925_000,
    ),
    chat(
        "caching without being asked to",
        CACHING,
        said=LONG,
        model=AUTO,
        max_tokens=500,
        tokens=CACHED,
        cost=2_025 * 1_750 + 150 * 14_000,
    ),
    chat("guarded", "cookbook completions-v2-tutorial/go", GUARDED, auto_routing=True, adds=ROUTED_MAXIMUM),
    chat("guarded model", "clients", GUARDED, model=SONNET, max_tokens=500, tradition="mainline"),
    chat("guarded family", "clients", GUARDED, answers=FLASH, model_family="google", max_tokens=500),
    chat("guarded stream", "docs api-guides/sdks-and-libraries", GUARDED, model=FLASH, stream=True, adds=ASKS_USAGE),
    chat("direct", "clients", DIRECT, model=HAIKU, max_tokens=500),
    chat("direct with a schema", "clients", DIRECT, model=FLASH, response_format=SCHEMA, temperature=0),
    chat("direct stream", "clients", DIRECT, model=FLASH, stream=True, stream_options={"include_usage": True}),
    chat("v1", "cookbook completions-v1-tutorial/python/main.py", V1_CHAT, model=V1_DEFAULT),
    chat("v1 without a model", "docs tutorials/completions", V1_CHAT, answers=V1_DEFAULT, max_tokens=500),
)

BEZALEL: Final = {"rag_publisher": "Bezalel"}
RECIPE: Final = "cookbook completions-grounded/python/main.py"
GROUNDED_REFERENCE: Final = "docs api-reference/completions/v2/grounded"
THREE_SOURCES: Final = {"tokens": (1_225, 150, 0, 0), "cost": 1_225 * 1_750 + 150 * 14_000}
GROUNDED_FORMS: Final = (
    *(
        chat("grounded", RECIPE, path, auto_routing=True, **BEZALEL, sources_limit=3, max_tokens=500, **THREE_SOURCES)
        for path in (GROUNDED, GROUNDED_FIRST)
    ),
    chat(
        "grounded without messages",
        GROUNDED_REFERENCE,
        GROUNDED_FIRST,
        said=None,
        auto_routing=True,
        max_tokens=500,
        **THREE_SOURCES,
    ),
    chat(
        "grounded without messages, words in the other order",
        GROUNDED_REFERENCE,
        GROUNDED,
        said=None,
        model=SONNET,
        max_tokens=500,
        tokens=(1_225, 150, 0, 0),
        cost=1_225 * 3_000 + 150 * 15_000,
    ),
    chat(
        "grounded on one source",
        GROUNDED_REFERENCE,
        GROUNDED,
        auto_routing=True,
        sources_limit=1,
        max_tokens=500,
        tokens=(425, 150, 0, 0),
        cost=425 * 1_750 + 150 * 14_000,
    ),
    chat(
        "grounded on ten sources with citations",
        GROUNDED_REFERENCE,
        GROUNDED_FIRST,
        answers=HAIKU,
        model_family="anthropic",
        **BEZALEL,
        sources_limit=10,
        include_citations=True,
        max_tokens=500,
        tokens=(4_025, 150, 0, 0),
        cost=4_025 * 1_000 + 150 * 5_000,
    ),
    chat(
        "grounded stream with citations",
        GROUNDED_REFERENCE,
        GROUNDED,
        auto_routing=True,
        **BEZALEL,
        include_citations=True,
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=500,
        **THREE_SOURCES,
    ),
    chat(
        "grounded stream",
        "clients",
        GROUNDED_FIRST,
        auto_routing=True,
        include_citations=True,
        stream=True,
        tradition="evangelical",
        max_tokens=500,
        adds=ASKS_USAGE,
        **THREE_SOURCES,
    ),
)


def response(
    name: str,
    source: str,
    path: str = "/ai/v1/responses",
    *,
    said: Any = "Who was Ruth?",
    tokens: tuple[int, int, int, int] = TOKENS,
    cost: int | None = None,
    **body: Any,
) -> Form:
    model = body.setdefault("model", SONNET)
    return Form(
        name=name,
        source=source,
        path=path,
        body={"input": said} | body,
        dialect="gloo_grounded_responses" if "grounded" in path else "gloo_responses",
        model=model,
        tokens=tokens,
        cost=COST[model] if cost is None else cost,
    )


RESPONSES: Final = "docs api-guides/responses-v1"
RESPONSES_RECIPE: Final = "cookbook responses/python/main.py"
GUARDED_RESPONSES: Final = "/ai/v2/guarded/responses"
TURNS: Final = [*SAID, {"role": "assistant", "content": "A Moabite."}, {"role": "user", "content": "And Naomi?"}]
SEEN: Final = [
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What is this?"},
            {"type": "input_image", "image_url": "https://example.org/cat.jpg"},
        ],
    }
]
FLAT_TOOL: Final = {"type": "function", **PLAN_TOOL["function"]}
RESPONSES_FORMS: Final = (
    response("response", RESPONSES),
    response("response to turns", RESPONSES, said=TURNS, temperature=0.5, max_output_tokens=256),
    response("response with instructions", RESPONSES, instructions="Be brief.", model=AUTO, max_output_tokens=256),
    response("response by reasoning", RESPONSES, model=AUTO, reasoning={"effort": "high"}, tokens=(25, 150, 0, 120)),
    response("response with a tool", RESPONSES, tools=[FLAT_TOOL], tool_choice="required", max_output_tokens=256),
    response("response with a tool as chat has it", "clients", tools=[PLAN_TOOL], tool_choice="auto", max_output_tokens=256),
    response("response with a schema", "clients", response_format=SCHEMA, max_output_tokens=256),
    response("response that is an image", RESPONSES, model=IMAGE, cost=150 * 30_000),
    response("response as a stream, nested", RESPONSES, stream=True),
    response("v2", "clients", "/ai/v2/responses", tradition="evangelical", max_output_tokens=256),
    response("v2 stream, flattened", "clients", "/ai/v2/responses", stream=True, max_output_tokens=256),
    response("guarded", RESPONSES_RECIPE, GUARDED_RESPONSES, tradition="evangelical", max_output_tokens=256),
    response("guarded turns", RESPONSES_RECIPE, GUARDED_RESPONSES, said=TURNS, instructions="Be kind.", max_output_tokens=256),
    response("guarded stream, flattened", RESPONSES_RECIPE, GUARDED_RESPONSES, stream=True, max_output_tokens=256),
    response("guarded look", RESPONSES_RECIPE, GUARDED_RESPONSES, said=SEEN, model=FLASH, max_output_tokens=256),
    response("direct", "clients", "/ai/v2/direct/responses", model=HAIKU, max_output_tokens=256),
    response("direct stream", "clients", "/ai/v2/direct/responses", model=HAIKU, stream=True, max_output_tokens=256),
    response(
        "grounded response",
        "docs api-guides/grounded-responses",
        "/ai/v1/grounded/responses",
        **BEZALEL,
        sources_limit=3,
        max_output_tokens=256,
        tokens=(1_225, 150, 0, 0),
        cost=1_225 * 3_000 + 150 * 15_000,
    ),
)


def embeddings(name: str, source: str, texts: int = 1, *, model: str = BGE, rate: int = 20, **body: Any) -> Form:
    return Form(
        name=name,
        source=source,
        path="/ai/v2/direct/embeddings",
        body={"model": model, "input": "Who was Ruth?"} | body,
        capability="embeddings",
        dialect="gloo_embeddings",
        model=model,
        tokens=(4 * texts, 0, 0, 0),
        cost=4 * texts * rate,
    )


THREE: Final = ["Who was Ruth?", "Who was Naomi?", "Who was Boaz?"]
EMBEDDING_FORMS: Final = (
    embeddings("embedding", "docs api-guides/embeddings"),
    embeddings("embeddings", "docs api-guides/embeddings", 3, input=THREE),
    embeddings("embeddings as numbers", "clients", 3, input=THREE, encoding_format="float"),
    embeddings("embeddings in base64", "docs api-guides/sdks-and-libraries", encoding_format="base64"),
    embeddings(
        "embeddings of fewer dimensions", "clients", model=GEMINI_EMBEDDING, rate=150, dimensions=384, encoding_format="float"
    ),
)

SEARCH: Final = {"query": "Ruth", "collection": "GlooProd", "tenant": "Bezalel", "certainty": 0.5}
WANTED: Final = {"query": "Ruth", "collection": "GlooProd", "tenant": "Bezalel", "item_count": 5, "certainty_threshold": 0.75}
WANTED_OF_PUBLISHERS: Final = {"query": "Ruth", "collection": "GlooProd", "tenant": "Bezalel", "publishers": ["Bezalel"]} | {
    "max_snippet_count_overall": 50
}
AFFILIATES: Final = {"query": "Ruth", "media_types": ["article", "book"], "publishers": [], "min_snippet_count_per_item": 2}


def data(name: str, source: str, path: str, body: Any, capability: str = "recommendations") -> Form:
    return Form(name=name, source=source, path=path, body=body, capability=capability)


RETRIEVAL_FORMS: Final = (
    data("search", "example:scripts/src/search.ts", "/ai/data/v1/search", SEARCH, "search"),
    data(
        "search with a limit",
        "cookbook search-tutorial/python/search_basic.py",
        "/ai/data/v1/search",
        SEARCH | {"limit": 10},
        "search",
    ),
    data("search of before", "docs api-reference/core/search", "/ai/v1/kallm/search", SEARCH | {"limit": 10}, "search"),
    *(
        form
        for base in ("/ai/v1/data", "/ai/data/v1")
        for form in (
            data("recommendations", "cookbook recommendations/python", f"{base}/items/recommendations/base", WANTED),
            data("verbose", "docs api-guides/item-recommendations", f"{base}/items/recommendations/verbose", WANTED_OF_PUBLISHERS),
            data(
                "affiliates",
                "docs api-reference/data/get-affiliate-referenced-items",
                f"{base}/affiliates/referenced-items",
                AFFILIATES,
            ),
        )
    ),
)


def uploaded(*names: str, field: str = "files") -> bytes:
    """A multipart body with the boundary `gloo`."""
    publisher = b'--gloo\r\nContent-Disposition: form-data; name="publisher_id"\r\n\r\n' + PUBLISHER.encode() + b"\r\n"
    files = (
        b'--gloo\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\nContent-Type: text/plain\r\n\r\nRuth 1\r\n'
        % (field.encode(), name.encode())
        for name in names
    )
    return publisher + b"".join(files) + b"--gloo--\r\n"


def upload(name: str, source: str, *files: str, query: str = "", query_up: str | None = None) -> Form:
    return Form(
        name=name,
        source=source,
        path="/ingestion/v2/files",
        query=query,
        query_up=query_up,
        body=uploaded(*files),
        content_type="multipart/form-data; boundary=gloo",
        capability="ingestion",
        made=len(files),
    )


OWN, SECOND, GONE = item_id(1), item_id(2), item_id(3)  # uploaded before any form is sent; a form deletes the last
CONTROLS: Final = "docs api-reference/content-controls"
EDITED: Final = {"publisher_id": PUBLISHER, "item_id": OWN, "item_title": "Ruth", "author": ["A"], "item_tags": ["ruth"]}
CONTENT_FORMS: Final = (
    upload("a file", "cookbook upload-files/python/main.py", "ruth.txt"),
    replace(
        upload("a file as the guide names it", "docs api-guides/upload-content", "ruth.txt"),
        body=uploaded("ruth.txt", field="file"),
    ),
    upload("two files", "cookbook upload-files/python/main.py", "ruth.txt", "naomi.txt"),
    upload(
        "a file with an identifier of the client's",
        "docs api-guides/upload-content",
        "ruth.txt",
        query="producer_id=ruth-1",
        query_up="producer_id=partner:ruth-1",
    ),
    Form(
        name="a text at once",
        source="cookbook realtime-ingestion/python/main.py",
        path="/ingestion/v1/real_time_upload",
        body={"content": "Ruth 1", "publisherId": PUBLISHER, "item_title": "Ruth", "author": ["A"], "type": "Article"}
        | {"pub_type": "technical", "item_tags": ["a"], "evergreen": True, "drm": ["aspen", "kallm"]},
        capability="ingestion",
        made=1,
    ),
    Form(
        name="a text at once, at the path of the guide",
        source="docs api-guides/ingestion",
        path="/ai/ingestion/v1/real_time_upload",
        body={"content": "Ruth 1", "filename": "ruth.txt", "publisher_id": PUBLISHER, "tradition": "Catholic", "item_tags": ["a"]},
        capability="ingestion",
        made=1,
    ),
    upload("a file in place of another", "docs api-reference/ingestion/v2", "ruth.txt", query=f"update={OWN}"),
    *(
        Form(name=name, source=source, method=method, path=path, query=query, body=body, endpoint=endpoint, capability="content")
        for name, source, method, path, query, body, endpoint in (
            ("an item", f"{CONTROLS}/get-item-metadata", "GET", f"/engine/v2/items/{OWN}", "", None, "/engine/v2/items/{item_id}"),
            (
                "its text",
                "example:canary/src/probes/ingestion.ts",
                "GET",
                f"/engine/v1/files/{OWN}/snippets",
                "limit=25",
                None,
                "/engine/v1/files/{file_id}/snippets",
            ),
            ("an item, described", "cookbook upload-files/python/main.py", "POST", "/engine/v2/item", "", EDITED, ""),
            ("an item, changed", f"{CONTROLS}/single-item-patch", "PATCH", "/engine/v2/item", "", EDITED, ""),
            (
                "items, changed",
                "cookbook rag-pipeline-part-2/python/main.py",
                "PATCH",
                "/engine/v2/items",
                f"publisher_id={PUBLISHER}",
                {"filter": {"item_ids": [OWN]}, "ops": [{"op": "append", "field": "item_tags", "value": ["reviewed"]}]},
                "",
            ),
            ("items, deleted", f"{CONTROLS}/delete-item", "DELETE", "/engine/v2/items", "", {"item_ids": [GONE]}, ""),
        )
    ),
    Form(
        name="items of a publisher",
        source="example:scripts/src/items.ts",
        method="GET",
        path=f"/engine/v2/publisher/{PUBLISHER}/items",
        endpoint="/engine/v2/publisher/{publisher_id}/items",
        capability="content",
        answer=b"[%b]"
        % b",".join(b'{"item_id": "%b", "status": "COMPLETED", "filename": "ruth.txt"}' % item.encode() for item in (OWN, SECOND)),
    ),
)

MODEL_FORMS: Final = tuple(
    Form(name="models", source=source, method="GET", path=path, capability="models")
    for path, source in (("/platform/v2/models", "docs api-reference/general/overview"), ("/ai/v2/models", "clients"))
)

FORMS: Final = (
    *CHAT_FORMS,
    *GROUNDED_FORMS,
    *RESPONSES_FORMS,
    *EMBEDDING_FORMS,
    *RETRIEVAL_FORMS,
    *CONTENT_FORMS,
    *MODEL_FORMS,
)
NOT_IN_PAY_AS_YOU_GO: Final = frozenset(
    {"search", "recommendations", "ingestion", "content"}
)  # docs studio/billing: nor the data engine
