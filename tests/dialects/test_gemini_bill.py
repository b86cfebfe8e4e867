"""What Google bills besides plain tokens: answers whole, in events, in an array, split at every byte; costs worked out by hand."""

import json
from typing import Any

import pytest
from msgspec.structs import replace
from splits import Metered, assert_split_invariant, metered, run

from tallygate.config.document import read_document
from tallygate.config.prices import read_prices
from tallygate.config.problems import Problems
from tallygate.dialects.dialect import MeterReading, RequestFacts
from tallygate.dialects.gemini_embed import GeminiEmbed
from tallygate.dialects.gemini_generate import GeminiGenerate, GeminiStreamGenerate
from tallygate.dialects.gemini_grounding import QUERIES_MAX, QUERIES_READ_MAX
from tallygate.dialects.json_objects import OBJECT_BYTES_MAX
from tallygate.domain.charge import charge_of
from tallygate.domain.organization import Plan
from tallygate.domain.price import Price
from tallygate.domain.unit import Unit
from tallygate.domain.usage import STANDARD, Conditions, Usage
from tallygate.gateway.exchange.estimate import estimate
from tallygate.gateway.exchange.metering import charged_conditions

# USD per million tokens, and per thousand of what is none (Google, "Gemini Developer API pricing").
ROWS: list[dict[str, Any]] = [
    {
        "model": "gemini-2.5-flash",
        "input": "0.3",
        "input_audio": "1",
        "cached_input": "0.03",
        "cached_input_audio": "0.1",
        "output": "2.5",
    },
    {
        "model": "gemini-3-flash",
        "input": "0.5",
        "input_audio": "1",
        "cached_input": "0.05",
        "cached_input_audio": "0.1",
        "output": "3",
    },
    {
        "model": "gemini-3-pro",
        "input": "2",
        "cached_input": "0.2",
        "output": "12",
        "input_above_200k": "4",
        "output_above_200k": "18",
        "when": [{"service_tier": "priority", "times": "1.8"}, {"service_tier": "flex", "times": "0.5"}],
    },
    {"model": "gemini-3-pro-image", "input": "2", "output": "12", "output_image": "120"},
    {"model": "gemini-omni", "input": "1.5", "output": "9", "output_video": "17.5"},
    {
        "model": "gemini-embedding-2",
        "input": "0.2",
        "input_image": "0.45",
        "input_audio": "6.5",
        "input_video": "12",
        "output": "0",
    },
]
CALLS = [
    {"models": ["gemini-2*"], "grounded_prompt": "35", "grounded_prompt:maps": "25"},
    {"models": ["gemini-*"], "grounding_query": "14"},
]
PLAN = Plan(id="p", api_access=True)
DIALECT, STREAMING = GeminiGenerate(), GeminiStreamGenerate()
SEARCH, MAPS, CODE, URL = {"googleSearch": {}}, {"googleMaps": {}}, {"codeExecution": {}}, {"urlContext": {}}


def price_of(model: str, rows: list[dict[str, Any]] = ROWS, calls: list[dict[str, Any]] = CALLS) -> Price:
    stated = {"prices": [{"effective": "2026-01-01", "max_input_tokens": 1_000_000, **row} for row in rows], "calls": calls}
    problems = Problems()
    document = read_document("prices.yaml", json.dumps(stated).encode(), problems)
    assert document is not None
    price = read_prices(document).find(model, 10**13)
    assert price is not None, problems
    return price


def facts_of(model: str, dialect: Any = DIALECT, **members: Any) -> RequestFacts:
    body = json.dumps({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], **members}).encode()
    facts: RequestFacts = dialect.read_request(body, path={"model": model}, query={})
    return facts


def piece(text: str = "", *, finish: str | None = None, index: int = 0, **members: Any) -> dict[str, Any]:
    """A piece of one candidate; `usageMetadata` among its members belongs to the answer."""
    usage = {name: members.pop(name) for name in ("usageMetadata",) if name in members}
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": index, **members}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})], **usage}


def usage(prompt: int, candidates: int, **members: Any) -> dict[str, Any]:
    total = prompt + candidates + members.get("thoughtsTokenCount", 0) + members.get("toolUsePromptTokenCount", 0)
    return {"promptTokenCount": prompt, "candidatesTokenCount": candidates, "totalTokenCount": total, **members}


def of(**tokens: int) -> list[dict[str, Any]]:
    return [{"modality": modality, "tokenCount": number} for modality, number in tokens.items()]


def events(*pieces: object) -> bytes:
    return b"".join([b"data: " + json.dumps(each).encode() + b"\r\n\r\n" for each in pieces])


def array(*pieces: object) -> bytes:
    return b"[" + b"\n,\r\n".join([json.dumps(each).encode() for each in pieces]) + b"\n]\n"


def read(pieces: list[dict[str, Any]], model: str, **members: Any) -> tuple[RequestFacts, Metered]:
    """The reading of an answer in pieces, in all three forms, which must agree; whole it is all candidates and the last usage."""
    facts, streaming = facts_of(model, **members), facts_of(model, STREAMING, **members)
    whole = {name: value for each in pieces for name, value in each.items()} | {
        "candidates": [candidate for each in pieces for candidate in each.get("candidates", [])]
    }
    found = [
        assert_split_invariant(DIALECT, facts, json.dumps(whole).encode(), content_type="application/json"),
        assert_split_invariant(STREAMING, streaming, events(*pieces)),
        assert_split_invariant(STREAMING, streaming, array(*pieces), content_type="application/json"),
    ]
    for name in ("usage", "billed_calls", "conditions", "flags"):
        assert len({repr(getattr(each, name)) for each in found}) == 1, name
    return facts, found[0]


def cost(facts: RequestFacts, got: Metered, price: Price) -> tuple[int, bool]:
    """Nano-USD, and whether a rate was missing: no more than is held for such a prompt, if the answer keeps to its maximum."""
    assert got.usage is not None
    billed = got.usage.with_calls(got.billed_calls)
    charge = charge_of(
        billed, charged_conditions(facts, MeterReading(conditions=got.conditions), billed, price), price, lambda _: None
    )
    held = estimate(replace(facts, max_output_tokens=billed.completion), PLAN, price, billed.prompt).hold_nano_usd
    assert charge.cost_nano_usd <= held
    return charge.cost_nano_usd, charge.lacks_rates


def billed_cost(pieces: list[dict[str, Any]], model: str, **members: Any) -> int:
    facts, got = read(pieces, model, **members)
    nano_usd, lacks_rates = cost(facts, got, price_of(model))
    assert not lacks_rates
    return nano_usd


# --- tokens by modality


@pytest.mark.parametrize(
    ("model", "micro_usd"),
    [
        # 1,000 text, 3,000 audio, 1,000 cached text, 5,000 cached audio, 500 out
        ("gemini-2.5-flash", 1_000 * 0.3 + 3_000 * 1 + 1_000 * 0.03 + 5_000 * 0.1 + 500 * 2.5),
        ("gemini-3-flash", 1_000 * 0.5 + 3_000 * 1 + 1_000 * 0.05 + 5_000 * 0.1 + 500 * 3),
    ],
)
def test_cached_audio_has_a_rate_of_its_own(model: str, micro_usd: float) -> None:
    stated = usage(
        10_000,
        500,
        cachedContentTokenCount=6_000,
        promptTokensDetails=of(TEXT=2_000, AUDIO=8_000),
        cacheTokensDetails=of(TEXT=1_000, AUDIO=5_000),
    )
    pieces = [piece("He"), piece("llo", finish="STOP", usageMetadata=stated)]
    audio = {"contents": [{"parts": [{"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}}]}]}
    _, got = read(pieces, model, **audio)
    assert got.usage is not None
    assert (got.usage.cached, got.usage.audio_prompt, got.usage.prompt) == (6_000, 8_000, 10_000)
    assert billed_cost(pieces, model, **audio) == round(micro_usd * 1_000)


def test_cached_audio_that_no_detail_tells_from_text_is_cached() -> None:
    stated = usage(1_010, 1, cachedContentTokenCount=800, promptTokensDetails=of(TEXT=10, AUDIO=1_000))
    _, got = read([piece("a", finish="STOP", usageMetadata=stated)], "gemini-2.5-flash")
    assert got.usage == Usage({Unit.INPUT_AUDIO: 210, Unit.CACHED_INPUT_AUDIO: 790, Unit.CACHED_INPUT: 10, Unit.OUTPUT: 1})


def test_an_image_is_charged_by_its_tokens_and_the_rest_as_text() -> None:
    stated = usage(
        660,
        1_200,
        thoughtsTokenCount=200,
        promptTokensDetails=of(TEXT=100, IMAGE=560),
        candidatesTokensDetails=of(IMAGE=1_120, TEXT=80),
    )
    pieces = [piece("Look"), piece("!", finish="STOP", usageMetadata=stated)]
    _, got = read(pieces, "gemini-3-pro-image")
    assert got.usage == Usage(
        {Unit.INPUT: 100, Unit.INPUT_IMAGE: 560, Unit.REASONING_OUTPUT: 200, Unit.OUTPUT: 80, Unit.OUTPUT_IMAGE: 1_120}
    )
    assert not got.flags
    # 660 * 2 + 1,120 * 120 (0.1344 an image) + 280 * 12 micro-USD
    assert billed_cost(pieces, "gemini-3-pro-image") == (1_320 + 134_400 + 3_360) * 1_000


def test_an_image_whose_usage_names_no_modality_is_charged_as_one() -> None:
    image = {"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}}]}
    _, got = read([image, piece("", finish="STOP", usageMetadata=usage(10, 1_290))], "gemini-3-pro-image")
    assert got.usage == Usage({Unit.INPUT: 10, Unit.OUTPUT_IMAGE: 1_290})


def test_video_in_and_out_has_rates_of_its_own() -> None:
    stated = usage(100, 60_000, promptTokensDetails=of(TEXT=100), candidatesTokensDetails=of(VIDEO=57_000, TEXT=3_000))
    pieces = [piece("a", finish="STOP", usageMetadata=stated)]
    # 100 * 1.5 + 57,000 * 17.5 + 3,000 * 9 micro-USD
    assert billed_cost(pieces, "gemini-omni") == (150 + 997_500 + 27_000) * 1_000


def test_cached_video_is_counted_once() -> None:
    stated = usage(
        3_000,
        100,
        cachedContentTokenCount=2_600,
        promptTokensDetails=of(TEXT=40, VIDEO=2_800, AUDIO=160),
        cacheTokensDetails=of(TEXT=30, VIDEO=2_450, AUDIO=120),
    )
    pieces = [piece("a", finish="STOP", usageMetadata=stated)]
    _, got = read(pieces, "gemini-2.5-flash")
    assert got.usage is not None
    assert (got.usage.prompt, got.usage.cached) == (3_000, 2_600)
    # 360 * 0.3 + 40 * 1 + 2,480 * 0.03 + 120 * 0.1 + 100 * 2.5 micro-USD
    assert billed_cost(pieces, "gemini-2.5-flash") == 108_000 + 40_000 + 74_400 + 12_000 + 250_000


@pytest.mark.parametrize("spelled", ["promptTokensDetails", "prompt_tokens_details"])
def test_an_embedding_is_charged_by_modality(spelled: str) -> None:
    details = of(TEXT=100, IMAGE=258, AUDIO=320, VIDEO=2_580)
    number, total = ("promptTokenCount", "totalTokenCount") if "Tokens" in spelled else ("prompt_token_count", "total_token_count")
    body = json.dumps({"embedding": {"values": [0.1]}, "usageMetadata": {number: 3_258, total: 3_258, spelled: details}}).encode()
    dialect = GeminiEmbed()
    content = {
        "parts": [
            {"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}},
            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        ]
    }
    facts = dialect.read_request(json.dumps({"content": content}).encode(), path={"model": "gemini-embedding-2"}, query={})
    got = assert_split_invariant(dialect, facts, body, content_type="application/json")
    assert got.usage == Usage({Unit.INPUT: 100, Unit.INPUT_IMAGE: 258, Unit.INPUT_AUDIO: 320, Unit.INPUT_VIDEO: 2_580})
    # 100 * 0.2 + 258 * 0.45 + 320 * 6.5 + 2,580 * 12 micro-USD
    assert cost(facts, got, price_of("gemini-embedding-2")) == (33_176_100, False)


def test_the_hold_takes_the_dearest_modality_that_the_request_allows() -> None:
    price = price_of("gemini-3-pro-image")
    limited = {"maxOutputTokens": 2_000}

    def held(**config: Any) -> int:
        return estimate(facts_of("gemini-3-pro-image", generationConfig=limited | config), PLAN, price, 100).hold_nano_usd

    assert held() == held(responseModalities=["TEXT", "IMAGE"]) == 100 * 2_000 + 2_000 * 120_000
    assert held(responseModalities=["TEXT"]) == 100 * 2_000 + 2_000 * 12_000
    assert held(responseModalities=["TEXT", 2]) == held()  # by its number
    embedding = price_of("gemini-embedding-2")
    dialect = GeminiEmbed()
    for kind, rate in (("image/png", 450), ("video/mp4", 12_000), ("audio/mp3", 12_000), ("text/plain", 200)):
        content = {"content": {"parts": [{"inlineData": {"mimeType": kind, "data": "AAAA"}}]}}
        facts = dialect.read_request(json.dumps(content).encode(), path={"model": "gemini-embedding-2"}, query={})
        assert estimate(facts, PLAN, embedding, 1_000).hold_nano_usd == 1_000 * rate, kind


# --- service tiers


@pytest.mark.parametrize(
    ("asked", "answered", "nano_usd"),
    [  # 10,000 * 2 + 1,000 * 12 micro-USD at standard
        ({}, {}, 32_000_000),
        ({"serviceTier": "standard"}, {"serviceTier": "standard"}, 32_000_000),
        ({"serviceTier": "priority"}, {"serviceTier": "priority"}, 57_600_000),
        ({"serviceTier": "SERVICE_TIER_PRIORITY"}, {"serviceTier": "SERVICE_TIER_PRIORITY"}, 57_600_000),
        ({"service_tier": "PRIORITY"}, {"service_tier": "priority"}, 57_600_000),
        ({"serviceTier": "priority"}, {"serviceTier": "standard"}, 32_000_000),  # downgraded
        ({"serviceTier": "priority"}, {"trafficType": "ON_DEMAND"}, 32_000_000),
        ({"serviceTier": "priority"}, {"trafficType": "ON_DEMAND_PRIORITY"}, 57_600_000),
        ({"serviceTier": "priority"}, {}, 57_600_000),  # nothing states which it was
        ({"serviceTier": "flex"}, {"serviceTier": "flex"}, 16_000_000),
        ({"serviceTier": "flex"}, {"trafficType": "ON_DEMAND_FLEX"}, 16_000_000),
        ({"serviceTier": "flex"}, {}, 32_000_000),
        ({"serviceTier": "unspecified"}, {}, 32_000_000),
        ({"serviceTier": "SERVICE_TIER_UNSPECIFIED"}, {"serviceTier": 7}, 32_000_000),
    ],
)
def test_a_service_tier_is_charged_as_the_answer_states_it(asked: dict[str, Any], answered: dict[str, Any], nano_usd: int) -> None:
    pieces = [
        piece("a", usageMetadata=usage(10_000, 1, **answered)),
        piece("b", finish="STOP", usageMetadata=usage(10_000, 1_000, **answered)),
    ]
    assert billed_cost(pieces, "gemini-3-pro", **asked) == nano_usd


def test_the_hold_takes_the_dearest_tier_that_the_answer_may_have() -> None:
    price = price_of("gemini-3-pro")
    standard = 10_000 * 2_000 + 1_000 * 12_000
    dearest = standard * 18 // 10
    for tier, held in (("standard", standard), ("flex", standard), ("priority", dearest), (3, dearest)):
        facts = facts_of("gemini-3-pro", serviceTier=tier, generationConfig={"maxOutputTokens": 1_000})
        assert estimate(facts, PLAN, price, 10_000).hold_nano_usd == held
        if isinstance(tier, int):
            continue  # by its number
        assert facts.conditions == ((STANDARD,) if tier == "standard" else (STANDARD, Conditions(service_tier=tier)))


def test_an_odd_tier_is_charged_at_standard_rates_and_flagged() -> None:
    facts, got = read([piece("a", finish="STOP", usageMetadata=usage(10_000, 1_000, serviceTier="turbo"))], "gemini-3-pro")
    assert cost(facts, got, price_of("gemini-3-pro")) == (32_000_000, True)


# --- grounding


def grounded(*queries: Any, **more: Any) -> dict[str, Any]:
    return {"groundingMetadata": {"webSearchQueries": list(queries), **more}}


TOLD = usage(1_000, 200)
IN_PIECES = [  # three different queries that are not empty, the second again in another piece
    piece("a", **grounded("", "best platforms 2026", "Wefunder vs Republic", "")),
    piece("b", **grounded("Wefunder vs Republic", "  ")),
    piece("c", finish="STOP", usageMetadata=TOLD, **grounded("Republic fees")),
]


def done(*queries: Any, **metadata: Any) -> list[dict[str, Any]]:
    return [piece("a", finish="STOP", usageMetadata=TOLD, **grounded(*queries, **metadata))]


MAPS_CHUNKS = {"groundingChunks": [{"web": {"uri": "u"}}, {"maps": {"uri": "u", "title": "t"}}]}


@pytest.mark.parametrize(
    ("model", "tools", "pieces", "micro_usd"),
    [
        # Gemini 3: $14 for 1,000 queries; 1,000 * 0.5 + 200 * 3 micro-USD
        ("gemini-3-flash", [SEARCH], IN_PIECES, 1_100 + 3 * 14_000),
        ("gemini-3-flash", [SEARCH, URL], IN_PIECES, 1_100 + 3 * 14_000),
        ("gemini-3-flash", [SEARCH], [piece("a", finish="STOP", usageMetadata=TOLD)], 1_100),
        ("gemini-3-flash", [SEARCH], done("", ""), 1_100),
        ("gemini-3-flash", [SEARCH], done("x", imageSearchQueries=["y", "x"]), 1_100 + 3 * 14_000),
        # Gemini 2: $35 for 1,000 prompts; 1,000 * 0.3 + 200 * 2.5 micro-USD
        ("gemini-2.5-flash", [SEARCH], IN_PIECES, 800 + 35_000),
        ("gemini-2.5-flash", [{"google_search_retrieval": {}}], IN_PIECES, 800 + 35_000),
        ("gemini-2.5-flash", [SEARCH], [piece("a", finish="STOP", usageMetadata=TOLD, groundingMetadata={})], 800),
        # Maps: $25 for 1,000 prompts, $14 for 1,000 queries
        ("gemini-2.5-flash", [MAPS], done(**MAPS_CHUNKS), 800 + 25_000),
        ("gemini-2.5-flash", [MAPS], done("cafés"), 800 + 25_000),
        ("gemini-2.5-flash", [MAPS, SEARCH], done("x", **MAPS_CHUNKS), 800 + 60_000),
        ("gemini-2.5-flash", [MAPS, SEARCH], done(googleMapsWidgetContextToken="t"), 800 + 25_000),
        ("gemini-3-flash", [MAPS], done("x", "y"), 1_100 + 2 * 14_000),
        ("gemini-3-flash", [MAPS], done(**MAPS_CHUNKS), 1_100 + 14_000),
        ("gemini-3-flash", [MAPS, SEARCH], done("x", **MAPS_CHUNKS), 1_100 + 2 * 14_000),
        # the tools of cached content, which the request does not show
        ("gemini-3-flash", [], IN_PIECES, 1_100 + 3 * 14_000),
    ],
)  # fmt: skip
def test_grounding_is_charged_by_query_or_by_prompt(model: str, tools: list[Any], pieces: list[Any], micro_usd: int) -> None:
    facts, got = read(pieces, model, tools=tools)
    billed = (got.usage or Usage()).with_calls(got.billed_calls)
    assert charge_of(billed, STANDARD, price_of(model), lambda _: None).cost_nano_usd == micro_usd * 1_000
    assert not price_of(model).lacks(billed.quantities)
    if tools:
        assert cost(facts, got, price_of(model)) == (micro_usd * 1_000, False)


def test_queries_of_two_candidates_count_once_where_they_are_the_same() -> None:
    first = piece("a", finish="STOP", **grounded("x", "y"))
    second = piece("b", index=1, finish="STOP", usageMetadata=TOLD, **grounded("y", "z"))
    _, got = read([first, second], "gemini-3-flash", tools=[SEARCH], generationConfig={"candidateCount": 2})
    assert got.billed_calls == {Unit.GROUNDED_PROMPT: 1, Unit.GROUNDING_QUERY: 3}


def test_grounding_in_the_spelling_of_a_library_is_read() -> None:
    metadata = {"web_search_queries": ["x"], "grounding_chunks": [{"maps": {}}]}
    body = json.dumps({"candidates": [{"finish_reason": "STOP", "grounding_metadata": metadata}]}).encode()
    got = metered(DIALECT, facts_of("gemini-3-flash", tools=[SEARCH, MAPS]), body, content_type="application/json")
    assert got.billed_calls == {
        Unit.GROUNDED_PROMPT: 1,
        Unit.GROUNDING_QUERY: 1,
        "grounded_prompt:maps": 1,
        "grounding_query:maps": 1,
    }


@pytest.mark.parametrize(
    "odd", [7, "x", [1], {"webSearchQueries": "x"}, {"webSearchQueries": [None, 3, {}]}, {"groundingChunks": [3, None]}]
)
def test_odd_grounding_is_none(odd: Any) -> None:
    _, got = read([piece("a", finish="STOP", usageMetadata=TOLD, groundingMetadata=odd)], "gemini-3-flash", tools=[SEARCH])
    assert got.billed_calls == {}


def test_the_queries_of_an_answer_are_bounded() -> None:
    answer = piece("a", finish="STOP", **grounded(*[f"q{number}" for number in range(QUERIES_READ_MAX + 50)]))
    got = metered(DIALECT, facts_of("gemini-3-flash", tools=[SEARCH]), json.dumps(answer).encode(), content_type="application/json")
    assert got.billed_calls[Unit.GROUNDING_QUERY] == QUERIES_READ_MAX


def test_what_may_have_been_searched_in_a_part_that_cannot_be_read_is_charged() -> None:
    most = {Unit.GROUNDED_PROMPT: 1, Unit.GROUNDING_QUERY: QUERIES_MAX}
    streaming = facts_of("gemini-3-flash", STREAMING, tools=[SEARCH])
    last = piece("c", finish="STOP", usageMetadata=TOLD, **grounded("x"))
    too_large = piece("x" * OBJECT_BYTES_MAX)
    for body, content_type in (
        (events(piece("a")) + b"data: {oops\r\n\r\n" + events(last), "text/event-stream"),
        (events(too_large, last), "text/event-stream"),
        (array(too_large, last), "application/json"),
    ):
        pieces = [body[at : at + 1_000_000] for at in range(0, len(body), 1_000_000)]
        assert run(STREAMING.meter(streaming, content_type=content_type, hide_usage_chunk=False), pieces).billed_calls == most
    whole = json.dumps({**piece("x" * 17 * 1024 * 1024, finish="STOP"), "usageMetadata": TOLD}).encode()
    got = metered(DIALECT, facts_of("gemini-3-flash", tools=[SEARCH]), whole, content_type="application/json")
    assert got.billed_calls == most
    assert metered(DIALECT, facts_of("gemini-3-flash"), whole, content_type="application/json").billed_calls == {}


@pytest.mark.parametrize(
    ("tools", "candidates", "calls"),
    [
        ([], 1, {}),
        ([CODE, URL, {"fileSearch": {}}, {"functionDeclarations": [{"name": "f"}]}, {"computerUse": {}}], 1, {}),
        ([SEARCH], 1, {Unit.GROUNDED_PROMPT: 1, Unit.GROUNDING_QUERY: QUERIES_MAX}),
        ([{"google_search": {}, "url_context": {}}], 2, {Unit.GROUNDED_PROMPT: 1, Unit.GROUNDING_QUERY: 2 * QUERIES_MAX}),
        ([{"google_maps": {}}], 1, {"grounded_prompt:maps": 1, "grounding_query:maps": QUERIES_MAX}),
        ([{"exaAiSearch": {}}, {"enterpriseWebSearch": {}}], 1, {Unit.SERVER_TOOL: 1}),
        ([{"functionDeclarations": [{"name": "f"}], "googleSearch": None, "exaAiSearch": None}], 1, {}),
    ],
)
def test_a_request_states_what_its_tools_can_cause(tools: list[Any], candidates: int, calls: dict[str, int]) -> None:
    facts = facts_of("gemini-3-flash", tools=tools, generationConfig={"candidateCount": candidates})
    assert facts.calls == calls


def test_a_tool_that_no_answer_shows_counts_once() -> None:
    _, got = read([piece("a", finish="STOP", usageMetadata=TOLD)], "gemini-3-flash", tools=[{"exaAiSearch": {}}])
    assert got.billed_calls == {Unit.SERVER_TOOL: 1}


def test_a_price_bills_grounding_in_one_of_its_two_units() -> None:
    both = {"grounded_prompt": 1, "grounding_query": 3, "grounded_prompt:maps": 1, "grounding_query:maps": 2}
    older, newer = price_of("gemini-2.5-flash"), price_of("gemini-3-flash")
    assert not older.lacks(both)
    assert not newer.lacks(both)
    assert older.cost_nano_usd(Usage(both)) == 60_000_000
    assert newer.cost_nano_usd(Usage(both)) == 5 * 14_000_000
    none = price_of("gemini-3-flash", calls=[])
    assert none.lacks(both) == list(both)
    maps_alone = price_of("gemini-3-flash", calls=[{"models": ["*"], "grounding_query:maps": "14"}])
    assert maps_alone.lacks(both) == ["grounded_prompt", "grounding_query"]
    # a row's own unit leaves no place for the other one's rate among those of many models
    own = price_of("gemini-2.5-flash", rows=[ROWS[0] | {"grounding_query": "10"}])
    assert own.cost_nano_usd(Usage(both)) == 5 * 10_000_000


# --- results of tools


@pytest.mark.parametrize(
    ("tools", "more", "prompt", "flags"),
    [
        ([SEARCH], {}, 1_000, set()),
        ([SEARCH, {"functionDeclarations": [{"name": "f"}]}], {}, 1_000, set()),
        ([CODE], {}, 1_500, set()),
        ([URL], {}, 1_500, set()),
        ([MAPS], {}, 1_500, set()),
        ([SEARCH, CODE], {}, 1_500, {"search_results_charged"}),
        ([{"googleSearch": {}, "urlContext": {}}], {}, 1_500, {"search_results_charged"}),
        ([SEARCH], {"cachedContent": "cachedContents/1"}, 1_500, {"search_results_charged"}),
    ],
)
def test_what_a_search_alone_brought_in_is_no_input(tools: list[Any], more: dict[str, Any], prompt: int, flags: set[str]) -> None:
    stated = usage(1_000, 200, toolUsePromptTokenCount=500, toolUsePromptTokensDetails=of(TEXT=500))
    metadata = {} if tools in ([CODE], [URL]) else grounded("x")
    facts, got = read([piece("a", finish="STOP", usageMetadata=stated, **metadata)], "gemini-3-flash", tools=tools, **more)
    assert got.usage == Usage({Unit.INPUT: prompt, Unit.OUTPUT: 200})
    assert got.flags == flags
    assert facts.has_unseen_input


def test_a_search_s_results_in_a_library_s_spelling_are_no_input() -> None:
    stated = {"prompt_token_count": 10, "candidates_token_count": 2, "tool_use_prompt_token_count": 50}
    for total in (62, 12):  # with them, or without
        answer = {"candidates": [{"finish_reason": "STOP"}], "usage_metadata": {**stated, "total_token_count": total}}
        body = json.dumps(answer).encode()
        got = metered(DIALECT, facts_of("gemini-3-flash", tools=[SEARCH]), body, content_type="application/json")
        assert got.usage == Usage({Unit.INPUT: 10, Unit.OUTPUT: 2})
        assert not got.flags
