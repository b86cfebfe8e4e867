"""Which parameters of a query go up."""

import pytest
from refused import refusal_of

from tallygate.dialects.anthropic_messages import AnthropicMessages
from tallygate.dialects.gemini_embed import GeminiEmbed
from tallygate.dialects.gemini_generate import GeminiGenerate
from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.gateway.query import metered_query, unmetered_query, without_keys

GEMINI, EMBED = GeminiGenerate.query_values, GeminiEmbed.query_values
OPENAI, ANTHROPIC = OpenAiChat.query_values, AnthropicMessages.query_values


@pytest.mark.parametrize(
    ("known", "query", "sent"),
    [
        (GEMINI, "alt=sse", "alt=sse"),
        (GEMINI, "%61lt=%73se&key=SECRET&&prettyPrint=false", "alt=sse&prettyPrint=false"),
        (GEMINI, "key=SECRET&%6bEy=S&+key=S&key&$key=S&access_token=S&oauth_token=S", ""),
        (EMBED, "alt=json", "alt=json"),
        (ANTHROPIC, "beta=true", "beta=true"),
        (OPENAI, "api-version=2024-10-21", "api-version=2024-10-21"),
    ],
)
def test_what_a_dialect_knows_passes_in_one_spelling(known, query: str, sent: str) -> None:
    assert metered_query(query, known) == sent


@pytest.mark.parametrize(
    ("known", "query", "name"),
    [
        (GEMINI, "fields=candidates", "fields"),
        (GEMINI, "$fields=candidates", "$fields"),
        (GEMINI, "%24fields=candidates", "$fields"),
        (GEMINI, "%66ields=candidates", "fields"),
        (GEMINI, "alt=sse&fields=candidates", "fields"),
        (GEMINI, "FIELDS=x", "FIELDS"),
        (GEMINI, "fields", "fields"),
        (GEMINI, "alt=proto", "alt"),
        (GEMINI, "alt=media", "alt"),
        (GEMINI, "alt=", "alt"),
        (GEMINI, "$alt=proto", "$alt"),
        (GEMINI, "alt=sse&alt=proto", "alt"),
        (GEMINI, "alt=sse&alt=sse", "alt"),
        (GEMINI, "alt=sse;fields=x", "alt"),
        (GEMINI, "a;fields=x", "a;fields"),
        (GEMINI, "callback=f", "callback"),
        (GEMINI, "$callback=f", "$callback"),
        (GEMINI, "$ct=application/x-protobuf", "$ct"),
        (GEMINI, "$httpMethod=GET", "$httpMethod"),
        (GEMINI, "$.xgafv=1", "$.xgafv"),
        (GEMINI, "prettyPrint=maybe", "prettyPrint"),
        (GEMINI, "uploadType=media", "uploadType"),
        (GEMINI, "upload_protocol=raw", "upload_protocol"),
        (GEMINI, "quotaUser=x", "quotaUser"),
        (GEMINI, "userProject=x", "userProject"),
        (EMBED, "alt=sse", "alt"),
        (OPENAI, "stream=true", "stream"),
        (OPENAI, "api-version=1;fields=x", "api-version"),
        (ANTHROPIC, "beta=1", "beta"),
        (ANTHROPIC, "alt=proto", "alt"),
    ],
)
def test_anything_else_is_refused_by_name(known, query: str, name: str) -> None:
    refusal = refusal_of(metered_query, query, known)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.param) == (400, ErrorCode.INVALID_REQUEST, name)
    assert name in refusal.message


def test_a_route_lets_more_through_by_name() -> None:
    assert metered_query("deployment=a%20b&alt=sse", GEMINI, {"deployment"}) == "deployment=a%20b&alt=sse"
    assert metered_query("fields=a%26alt%3Dproto", GEMINI, {"fields"}) == "fields=a%26alt%3Dproto"


def test_an_unmetered_query_passes_as_it_came_but_for_keys() -> None:
    query = "limit=2&after=%2f&a=1&a=2&&b"
    assert unmetered_query(query) == query
    assert unmetered_query("monkey=1&key=S&x;key=S") == "monkey=1"
    assert unmetered_query("a=my-own-key-1&b=1&c=%6dy-own-key-1", presented=[b"my-own-key-1"]) == "b=1"
    assert unmetered_query("a=tg_acme_aaaabbbb&b=1&c=tg%5Facme_aaaabbbb&tg_acme_aaaabbbb") == "b=1"
    assert without_keys("%6bEy=SECRET&+key=S&key&a=key&access_token=S&a;key=S") == "a=key"


@pytest.mark.parametrize("query", ["$httpMethod=DELETE", "%24HTTPMethod=DELETE", "a=1;_method=DELETE", "_method=DELETE"])
def test_no_query_asks_for_another_method(query: str) -> None:
    refusal = refusal_of(unmetered_query, query)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 400
