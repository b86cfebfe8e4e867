import json
from typing import Any

import httpx2
import openai
import pytest
from openai_wire import chunk, named_sse, sse

from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.dialects.openai_responses import OpenAiResponses
from tallygate.dialects.openai_shape import OpenAiShape, duration_text
from tallygate.domain.errors import ErrorCode, Refusal

SHAPE = OpenAiShape()
SPEND = Refusal(
    status=429,
    code=ErrorCode.SPEND_LIMIT_EXCEEDED,
    message="Spend limit reached.",
    retry_after_ms=90_000,
    should_retry=False,
    details={
        "limit": "spend_7d",
        "spent_usd": "25.00",
        "held_usd": "0.00",
        "limit_usd": "25.00",
        "resumes_at": "2026-11-29T00:00:00Z",
    },
)
RATE = Refusal(status=429, code=ErrorCode.RATE_LIMIT_EXCEEDED, message="Slow down.", details={"quantity": "tokens", "code": "x"})
INTERNAL = Refusal(status=500, code=ErrorCode.UPSTREAM_INVALID_RESPONSE, message="The upstream broke off.")


def body_of(refusal: Refusal) -> dict[str, Any]:
    content_type, body = SHAPE.error(refusal, request_id="req_1")
    assert content_type == "application/json"
    parsed: dict[str, Any] = json.loads(body)
    return parsed


def test_an_error_has_openais_object_with_problem_members_beside_it() -> None:
    refusal = Refusal(status=400, code=ErrorCode.INVALID_REQUEST, message="Bad n.", param="n")
    assert body_of(refusal) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "Bad n.",
        "request_id": "req_1",
        "error": {"message": "Bad n.", "type": "invalid_request_error", "param": "n", "code": "invalid_request"},
    }


def test_a_spend_refusal_says_how_much_and_until_when_inside_the_error() -> None:
    body = body_of(SPEND)
    assert body["error"] == {
        "message": "Spend limit reached.",
        "type": "insufficient_quota",
        "param": None,
        "code": "spend_limit_exceeded",
        **SPEND.details,
    }
    assert body["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"


def test_details_never_replace_what_sdks_read() -> None:
    assert body_of(RATE)["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("status", "code", "details", "kind"),
    [
        (401, ErrorCode.INVALID_API_KEY, {}, "invalid_request_error"),
        (403, ErrorCode.MODEL_NOT_ALLOWED, {}, "insufficient_permissions"),
        (404, ErrorCode.UNKNOWN_ENDPOINT, {}, "invalid_request_error"),
        (429, ErrorCode.RATE_LIMIT_EXCEEDED, {"quantity": "tokens"}, "tokens"),
        (429, ErrorCode.RATE_LIMIT_EXCEEDED, {"quantity": "requests"}, "requests"),
        (429, ErrorCode.RATE_LIMIT_EXCEEDED, {"quantity": "open_requests"}, "requests"),
        (502, ErrorCode.UPSTREAM_UNREACHABLE, {}, "server_error"),
        (503, ErrorCode.LIMITER_UNAVAILABLE, {}, "server_error"),
    ],
)
def test_the_type_names_the_kind_of_fault(status: int, code: ErrorCode, details: dict[str, Any], kind: str) -> None:
    error = body_of(Refusal(status=status, code=code, message="m", details=details))["error"]
    assert (error["type"], error["code"]) == (kind, code.value)
    assert {"message", "type", "param", "code"} <= error.keys()


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (1, "1ms"),
        (120, "120ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1001, "2s"),
        (59_001, "1m0s"),
        (360_000, "6m0s"),
        (3_661_000, "1h1m1s"),
    ],
)
def test_a_reset_is_a_relative_duration(duration_ms: int, text: str) -> None:
    assert duration_text(duration_ms) == text


def client(status: int, content_type: str, body: bytes) -> openai.OpenAI:
    answer = httpx2.MockTransport(lambda _: httpx2.Response(status, headers={"content-type": content_type}, content=body))
    return openai.OpenAI(api_key="k", base_url="http://gateway.test/v1", max_retries=0, http_client=httpx2.Client(transport=answer))


def test_openais_sdk_raises_its_rate_limit_error_with_our_code_and_details() -> None:
    with client(429, *SHAPE.error(SPEND, request_id="req_1")) as sdk, pytest.raises(openai.RateLimitError) as caught:
        sdk.chat.completions.create(model="m", messages=[])
    assert (caught.value.code, caught.value.type) == ("spend_limit_exceeded", "insufficient_quota")
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["resumes_at"] == "2026-11-29T00:00:00Z"


def test_openais_sdk_raises_on_an_error_inside_a_chat_stream() -> None:
    body = sse(chunk({"content": "Hel"})) + OpenAiChat().stream_error(INTERNAL, request_id="req_1")
    with client(200, "text/event-stream", body) as sdk:
        stream = sdk.chat.completions.create(model="m", messages=[], stream=True)
        assert next(stream).choices[0].delta.content == "Hel"
        with pytest.raises(openai.APIError, match="The upstream broke off") as caught:
            next(stream)
    assert caught.value.code == "upstream_invalid_response"


def test_openais_sdk_raises_on_an_error_inside_a_responses_stream() -> None:
    delta = {"type": "response.output_text.delta", "delta": "Hel", "item_id": "i", "output_index": 0, "content_index": 0}
    body = named_sse(delta) + OpenAiResponses().stream_error(INTERNAL, request_id="req_1")
    with client(200, "text/event-stream", body) as sdk:
        stream = sdk.responses.create(model="m", input="Hi", stream=True)
        assert next(stream).type == "response.output_text.delta"
        with pytest.raises(openai.APIError, match="The upstream broke off") as caught:
            next(stream)
    assert caught.value.code == "upstream_invalid_response"


def test_names_below_a_long_key_are_looked_at_without_copying_it() -> None:
    body = {"model": "gpt-5", "messages": [], "metadata": {"MODEL": "x"}, "k" * 8_000_000: {str(n): 1 for n in range(100_000)}}
    assert OpenAiChat().read_request(json.dumps(body).encode(), path={}, query={}).model == "gpt-5"
