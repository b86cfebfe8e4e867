"""Errors in Gemini's shape, as its own SDK understands them."""

import json

import httpx2
import pytest
from google import genai
from google.genai import errors, types

from tallygate.dialects.gemini_generate import GeminiStreamGenerate
from tallygate.domain.errors import ErrorCode, Refusal

DIALECT = GeminiStreamGenerate()
LIMITED = Refusal(
    status=429,
    code=ErrorCode.RATE_LIMIT_EXCEEDED,
    message="Too many requests.",
    retry_after_ms=58_000,
    details={"limit": 60, "resumes_at": None},
)


def client_of(status: int, content_type: str, body: bytes) -> genai.Client:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": content_type}, content=body)

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    return genai.Client(api_key="k", http_options=types.HttpOptions(httpx_client=http_client))


def test_an_error_has_the_members_of_both_worlds() -> None:
    content_type, body = DIALECT.error(LIMITED, request_id="req_1")
    assert content_type == "application/json"
    assert json.loads(body) == {
        "error": {
            "code": 429,
            "message": "Too many requests.",
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "rate_limit_exceeded",
                    "domain": "tallygate",
                    "metadata": {"limit": "60"},
                },
                {
                    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                    "violations": [{"subject": "rate_limit_exceeded", "description": "Too many requests."}],
                },
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "58s"},
            ],
        },
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Too Many Requests",
        "detail": "Too many requests.",
        "request_id": "req_1",
    }


def test_a_field_at_fault_is_a_bad_request_detail() -> None:
    refusal = Refusal(status=400, code=ErrorCode.INVALID_REQUEST, message="m", param="contents")
    _, body = DIALECT.error(refusal, request_id="r")
    assert json.loads(body)["error"]["details"][1:] == [
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "contents", "description": "m"}]}
    ]


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (405, "INVALID_ARGUMENT"),
        (413, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (508, "INTERNAL"),
    ],
)
def test_statuses_have_their_names(status: int, name: str) -> None:
    _, body = DIALECT.error(Refusal(status=status, code=ErrorCode.INTERNAL_ERROR, message="m"), request_id="r")
    error = json.loads(body)["error"]
    assert (error["code"], error["status"]) == (status, name)


@pytest.mark.parametrize(("retry_after_ms", "delay"), [(0, "0s"), (250, "0.250s"), (1_000, "1s"), (61_001, "61.001s")])
def test_a_delay_is_told_exactly(retry_after_ms: int, delay: str) -> None:
    refusal = Refusal(status=503, code=ErrorCode.OVERLOADED, message="m", retry_after_ms=retry_after_ms)
    _, body = DIALECT.error(refusal, request_id="r")
    assert json.loads(body)["error"]["details"][-1]["retryDelay"] == delay


def test_the_sdk_raises_its_own_error_for_ours() -> None:
    content_type, body = DIALECT.error(LIMITED, request_id="req_1")
    with pytest.raises(errors.ClientError) as raised:
        client_of(429, content_type, body).models.generate_content(model="gemini-2.5-flash", contents="hi")
    assert (raised.value.code, raised.value.status, raised.value.message) == (429, "RESOURCE_EXHAUSTED", "Too many requests.")


def test_the_sdk_raises_for_an_error_inside_a_stream() -> None:
    first = {"candidates": [{"content": {"parts": [{"text": "Hel"}], "role": "model"}, "index": 0}]}
    refusal = Refusal(status=504, code=ErrorCode.UPSTREAM_TIMEOUT, message="The upstream is silent.")
    body = f"data: {json.dumps(first)}\r\n\r\n".encode() + DIALECT.stream_error(refusal, request_id="r")
    stream = client_of(200, "text/event-stream", body).models.generate_content_stream(model="gemini-2.5-flash", contents="hi")
    texts: list[str | None] = []
    with pytest.raises(errors.ServerError, match="The upstream is silent"):
        texts.extend(chunk.text for chunk in stream)
    assert texts == ["Hel"]
