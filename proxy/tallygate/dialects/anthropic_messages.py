"""Anthropic's Messages API: `/v1/messages`, and `/v1/messages/count_tokens`, which is free."""

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from tallygate.dialects.anthropic_meter import AnthropicEvent, AnthropicEventMeter, AnthropicJsonMeter
from tallygate.dialects.anthropic_request import MEMBERS, read_messages, required_model
from tallygate.dialects.body import with_member
from tallygate.dialects.dialect import FormDialect, RequestFacts, ResponseMeter, UsageReporting
from tallygate.dialects.errors import error_body
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.limits import LimitHeaders
from tallygate.dialects.references import body_references
from tallygate.dialects.unbilled import UnbilledMeter
from tallygate.domain.errors import Refusal
from tallygate.domain.prompt import PromptShape

_ERROR_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _instant(now_ms: int, reset_ms: int) -> bytes:
    """When a limit is full again, rounded up to the second."""
    reset_s = -(-(now_ms + reset_ms) // 1000)
    return datetime.fromtimestamp(reset_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


_LIMIT_HEADERS: Final = LimitHeaders(
    {
        kind: (prefix + b"limit", prefix + b"remaining", prefix + b"reset")
        for kind, prefix in (("requests", b"anthropic-ratelimit-requests-"), ("tokens", b"anthropic-ratelimit-tokens-"))
    },
    reset=_instant,
)


class AnthropicMessages:
    """`/v1/messages`, streamed or whole."""

    name = "anthropic_messages"
    is_billed = True
    generates = True
    own_paths: re.Pattern[str] | None = None
    own_header: str | None = "anthropic-version"
    has_version_in_base = False
    key_header: str | None = "x-api-key"
    not_keys: Collection[str] = ()
    usage_reporting = UsageReporting.ALWAYS
    request_id_header: bytes | None = b"request-id"
    reset_header: bytes | None = None
    query_values: Mapping[str, re.Pattern[str]] = {"beta": re.compile(r"true|false")}  # of the SDKs' `client.beta`
    form: FormDialect | None = None
    answers_media = False
    limit_headers: LimitHeaders | None = _LIMIT_HEADERS
    allows_comments = True

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events = msgspec.json.Decoder(AnthropicEvent)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:  # noqa: ARG002
        return read_messages(body)

    def rewrite_request(
        self,
        body: bytes,
        facts: RequestFacts,  # noqa: ARG002
        *,
        ask_usage: bool,  # noqa: ARG002 - streams always tell it
        max_output_tokens: int | None,
    ) -> bytes:
        return body if max_output_tokens is None else with_member(body, ("max_tokens",), b"%d" % max_output_tokens)

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:  # noqa: ARG002
        return FirstBytes(
            content_type,
            stream=facts.stream,
            events=lambda: AnthropicEventMeter(facts, self._events),
            whole=lambda: AnthropicJsonMeter(facts, self._events),
        )

    def error(self, refusal: Refusal, *, request_id: str) -> tuple[str, bytes]:
        """Content type and body. The top-level `type` is Anthropic's "error", which leaves no place for RFC 9457's problem type."""
        error: dict[str, object] = dict(refusal.details)
        if refusal.param is not None:
            error["param"] = refusal.param
        error |= {"type": _error_type(refusal.status), "message": refusal.message, "code": refusal.code.value}
        return error_body(refusal, error, request_id=request_id, type="error")

    def stream_error(self, refusal: Refusal, *, request_id: str) -> bytes:
        _, body = self.error(refusal, request_id=request_id)
        return b"event: error\ndata: " + body + b"\n\n"


class AnthropicCountTokens(AnthropicMessages):
    """`/v1/messages/count_tokens`: the request counts, its tokens do not, since the provider does not bill them."""

    name = "anthropic_count_tokens"
    is_billed = False
    generates = False

    __slots__ = ()

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:  # noqa: ARG002
        parsed = MEMBERS.parse(body)
        return RequestFacts(
            model=required_model(parsed.fields.model), prompt=PromptShape(), has_output=False, references=body_references(parsed)
        )

    def rewrite_request(
        self,
        body: bytes,
        facts: RequestFacts,  # noqa: ARG002
        *,
        ask_usage: bool,  # noqa: ARG002
        max_output_tokens: int | None,  # noqa: ARG002 - there is no output
    ) -> bytes:
        return body

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:  # noqa: ARG002
        return UnbilledMeter()


def _error_type(status: int) -> str:
    known = _ERROR_TYPES.get(status)
    if known is not None:
        return known
    return "api_error" if status >= 500 else "invalid_request_error"
