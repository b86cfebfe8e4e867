"""Errors and headers in Anthropic's shape, as its own SDK understands them."""

import json

import anthropic
import httpx2
import pytest

from tallygate.dialects.anthropic_messages import AnthropicMessages
from tallygate.domain.errors import ErrorCode, Refusal

DIALECT = AnthropicMessages()
SPENT = Refusal(
    status=429,
    code=ErrorCode.SPEND_LIMIT_EXCEEDED,
    message="The spend limit is reached.",
    retry_after_ms=58_000,
    should_retry=False,
    details={"spent_usd": "99.99", "resumes_at": None, "type": "mine"},
)


def client_of(status: int, content_type: str, body: bytes) -> anthropic.Anthropic:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": content_type}, content=body)

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    return anthropic.Anthropic(api_key="k", max_retries=0, http_client=http_client)


def ask(client: anthropic.Anthropic, *, stream: bool = False) -> str:
    message = {"role": "user", "content": "hi"}
    if not stream:
        client.messages.create(model="m", max_tokens=5, messages=[message])  # type: ignore[typeddict-item]
        return ""
    with client.messages.stream(model="m", max_tokens=5, messages=[message]) as events:  # type: ignore[list-item]
        return "".join(events.text_stream)


def test_an_error_has_the_members_of_both_worlds() -> None:
    content_type, body = DIALECT.error(SPENT, request_id="req_1")
    assert content_type == "application/json"
    assert json.loads(body) == {
        "type": "error",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "The spend limit is reached.",
        "request_id": "req_1",
        "error": {
            "type": "rate_limit_error",
            "message": "The spend limit is reached.",
            "code": "spend_limit_exceeded",
            "spent_usd": "99.99",
            "resumes_at": None,
        },
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_statuses_have_their_types(status: int, kind: str) -> None:
    _, body = DIALECT.error(Refusal(status=status, code=ErrorCode.INTERNAL_ERROR, message="m", param="a.b"), request_id="r")
    assert json.loads(body)["error"] == {"type": kind, "message": "m", "code": "internal_error", "param": "a.b"}


def test_the_sdk_raises_its_own_error_for_ours() -> None:
    content_type, body = DIALECT.error(SPENT, request_id="req_1")
    with pytest.raises(anthropic.RateLimitError) as raised:
        ask(client_of(429, content_type, body))
    assert raised.value.body["error"]["code"] == "spend_limit_exceeded"  # type: ignore[index]


def test_the_sdk_raises_for_an_error_inside_a_stream() -> None:
    start = {"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": []}}
    start["message"]["usage"] = {"input_tokens": 1, "output_tokens": 1}  # type: ignore[index]
    refusal = Refusal(status=504, code=ErrorCode.UPSTREAM_TIMEOUT, message="The upstream is silent.")
    body = f"event: message_start\ndata: {json.dumps(start)}\n\n".encode() + DIALECT.stream_error(refusal, request_id="r")
    with pytest.raises(anthropic.APIStatusError, match="The upstream is silent"):
        ask(client_of(200, "text/event-stream", body), stream=True)
