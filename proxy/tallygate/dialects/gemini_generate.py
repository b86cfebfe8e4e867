"""The Gemini API's generateContent and streamGenerateContent, and the free countTokens."""

import re
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from tallygate.dialects.body import parse_body, with_member
from tallygate.dialects.dialect import FormDialect, RequestFacts, ResponseMeter, UsageReporting
from tallygate.dialects.errors import JSON_CONTENT_TYPE, problem_members
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.gemini_meter import GeminiAnswer, GeminiArrayMeter, GeminiEventMeter, GeminiJsonMeter
from tallygate.dialects.gemini_request import (
    Json,
    check_body_model,
    gemini_vocabulary,
    output_maximum_path,
    path_model,
    read_generate,
)
from tallygate.dialects.limits import LimitHeaders
from tallygate.dialects.references import stored_references
from tallygate.dialects.unbilled import UnbilledMeter
from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.domain.prompt import PromptShape

ERROR_DOMAIN: Final = "tallygate"  # of the ErrorInfo detail, whose reason is our stable code

_TYPES: Final = "type.googleapis.com/google.rpc."
_STATUSES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_QUOTAS: Final = frozenset({ErrorCode.RATE_LIMIT_EXCEEDED, ErrorCode.SPEND_LIMIT_EXCEEDED})


class GeminiDialect:
    """The common part of the Gemini API's endpoints: errors, and no rate-limit headers of their own."""

    name = "gemini"
    is_billed = True
    generates = True
    own_paths: re.Pattern[str] | None = re.compile(
        r"/(?:upload/|download/)?v1(?:beta1?|alpha)/(?!openai/)|/v1/(?:projects|publishers)/"  # the latter at Vertex AI
    )
    own_header: str | None = None
    has_version_in_base = False
    usage_reporting = UsageReporting.ALWAYS
    key_header: str | None = "x-goog-api-key"
    not_keys: Collection[str] = ()
    request_id_header: bytes | None = None
    reset_header: bytes | None = None
    query_values: Mapping[str, re.Pattern[str]] = {"alt": re.compile(r"json"), "prettyPrint": re.compile(r"true|false")}
    form: FormDialect | None = None
    answers_media = False
    limit_headers: LimitHeaders | None = None
    allows_comments = False  # google-genai 2.x takes one for an error (`_iter_response_stream`)

    __slots__ = ("_answers", "_requests", "_vocabulary")

    def __init__(self) -> None:
        self._requests = msgspec.json.Decoder(Json)
        self._vocabulary = gemini_vocabulary()
        self._answers = msgspec.json.Decoder(GeminiAnswer)

    def rewrite_request(
        self,
        body: bytes,
        facts: RequestFacts,  # noqa: ARG002
        *,
        ask_usage: bool,  # noqa: ARG002 - answers always tell it
        max_output_tokens: int | None,  # noqa: ARG002 - only generateContent has a maximum
    ) -> bytes:
        return body

    def error(self, refusal: Refusal, *, request_id: str) -> tuple[str, bytes]:
        """A google.rpc.Status; its details have the code and the refusal's own details.

        google-genai sets two rules. `error` comes first, because only a piece of a stream that begins with it is read as an error.
        And the top level has no `status`, where RFC 9457 has one, because it would be read as Google's.
        """
        error = {
            "code": refusal.status,
            "message": refusal.message,
            "status": _status_name(refusal.status),
            "details": _details(refusal),
        }
        problem = problem_members(refusal, request_id=request_id)
        del problem["status"]
        return JSON_CONTENT_TYPE, msgspec.json.encode({"error": error} | problem)

    def stream_error(self, refusal: Refusal, *, request_id: str) -> bytes:
        """An error for an event stream. A JSON array needs none: cut short, it does not parse, and no client accepts it."""
        _, body = self.error(refusal, request_id=request_id)
        return b"data: " + body + b"\r\n\r\n"


class GeminiGenerate(GeminiDialect):
    """`:generateContent`, answered with one object."""

    name = "gemini_generate"
    query_values: Mapping[str, re.Pattern[str]] = {**GeminiDialect.query_values, "alt": re.compile(r"json|sse")}

    __slots__ = ()

    _streams = False

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:  # noqa: ARG002
        return read_generate(body, self._requests, self._vocabulary, path=path, stream=self._streams)

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:  # noqa: ARG002
        if max_output_tokens is None:
            return body
        return with_member(body, output_maximum_path(body, self._requests), b"%d" % max_output_tokens)

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:  # noqa: ARG002
        whole = GeminiArrayMeter if facts.stream else GeminiJsonMeter
        return FirstBytes(
            content_type,
            stream=facts.stream,
            events=lambda: GeminiEventMeter(facts, self._answers),
            whole=lambda: whole(facts, self._answers),
        )


class GeminiStreamGenerate(GeminiGenerate):
    """`:streamGenerateContent`, answered with events for `alt=sse`, else with a JSON array sent in pieces."""

    name = "gemini_stream_generate"

    __slots__ = ()

    _streams = True


class GeminiCountTokens(GeminiDialect):
    """`:countTokens`: the request counts, its tokens do not, since the provider does not bill them."""

    name = "gemini_count_tokens"
    is_billed = False
    generates = False

    __slots__ = ()

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:  # noqa: ARG002
        parsed = parse_body(body, self._requests)
        self._vocabulary.check(parsed)
        request = parsed.fields
        check_body_model(request, path)
        inner = request.get("generateContentRequest") or request.get("generate_content_request")
        if isinstance(inner, dict):
            check_body_model(inner, path)
        return RequestFacts(model=path_model(path), prompt=PromptShape(), has_output=False, references=stored_references(request))

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:  # noqa: ARG002
        return UnbilledMeter()


def _status_name(status: int) -> str:
    known = _STATUSES.get(status)
    if known is not None:
        return known
    return "INTERNAL" if status >= 500 else "INVALID_ARGUMENT"


def _details(refusal: Refusal) -> list[dict[str, object]]:
    metadata = {name: str(value) for name, value in refusal.details.items() if value is not None}  # ErrorInfo has strings only
    details: list[dict[str, object]] = [
        {"@type": _TYPES + "ErrorInfo", "reason": refusal.code.value, "domain": ERROR_DOMAIN, "metadata": metadata},
    ]
    if refusal.code in _QUOTAS:
        violation = {"subject": refusal.code.value, "description": refusal.message}
        details.append({"@type": _TYPES + "QuotaFailure", "violations": [violation]})
    if refusal.param is not None:
        violation = {"field": refusal.param, "description": refusal.message}
        details.append({"@type": _TYPES + "BadRequest", "fieldViolations": [violation]})
    if refusal.retry_after_ms is not None:
        details.append({"@type": _TYPES + "RetryInfo", "retryDelay": _duration(refusal.retry_after_ms)})
    return details


def _duration(duration_ms: int) -> str:
    """A google.protobuf.Duration, exact: "58s", "0.250s"."""
    seconds, rest_ms = divmod(max(duration_ms, 0), 1000)
    return f"{seconds}.{rest_ms:03d}s" if rest_ms else f"{seconds}s"
