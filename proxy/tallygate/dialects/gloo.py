"""Gloo AI: OpenAI's shapes, with routing and added content by the provider.

With auto_routing or model_family, only the answer names the model to price. Chat streams need no
`[DONE]`, and errors may come inside a 200. `tradition` and everything else pass through.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from tallygate.dialects.errors import error_body
from tallygate.dialects.limits import RESET_HEADER
from tallygate.dialects.openai_chat import ChatRequest, OpenAiChat
from tallygate.dialects.openai_embeddings import OpenAiEmbeddings
from tallygate.dialects.openai_responses import OpenAiResponses, ResponsesRequest
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.domain.errors import ErrorCode, Refusal, RequestRejectedError

_NAMES: Final[Mapping[ErrorCode, str]] = {  # others: our own code in capitals
    ErrorCode.SPEND_LIMIT_EXCEEDED: "SPENDING_LIMIT_EXCEEDED",
    ErrorCode.UPSTREAM_TIMEOUT: "PROVIDER_TIMEOUT",
    ErrorCode.UPSTREAM_UNREACHABLE: "PROVIDER_UNAVAILABLE",
    ErrorCode.UPSTREAM_INVALID_RESPONSE: "PROVIDER_UNAVAILABLE",
}
_FLAT_CODES: Final[Mapping[ErrorCode, str]] = {ErrorCode.RATE_LIMIT_EXCEEDED: "too_many_requests"}  # others are the name
_PROVIDERS: Final = frozenset(
    {
        ErrorCode.UPSTREAM_TIMEOUT,
        ErrorCode.UPSTREAM_UNREACHABLE,
        ErrorCode.UPSTREAM_INVALID_RESPONSE,
        ErrorCode.UPSTREAM_KEY_REFUSED,
    }
)
_ONE_OF: Final = "Give exactly one of 'auto_routing': true, 'model' and 'model_family'"


def routed_model(request: ChatRequest | ResponsesRequest, *, is_optional: bool = False) -> tuple[str | None, str | None]:
    """The model, or the family in lower case; both are None if Gloo routes.

    Raises RequestRejectedError unless exactly one way to choose is given; with is_optional, none may be given.
    """
    ways = [
        name
        for name, is_given in (
            ("auto_routing", request.auto_routing is True),
            ("model", bool(request.model)),
            ("model_family", bool(request.model_family)),
        )
        if is_given
    ]
    if len(ways) > 1:
        raise RequestRejectedError(f"{_ONE_OF}, not {' and '.join(repr(way) for way in ways)}.", param=ways[1])
    if not ways and not is_optional:
        raise RequestRejectedError(f"{_ONE_OF}.", param="model")
    return request.model or None, request.model_family.lower() if request.model_family else None


class GlooShape(OpenAiShape):
    """A mixin that precedes an OpenAI-shaped dialect."""

    own_paths: re.Pattern[str] | None = re.compile("/(?:ai|engine|ingestion|platform)/")
    reset_header: bytes | None = RESET_HEADER

    def error_object(self, refusal: Refusal) -> dict[str, object]:
        error = super().error_object(refusal) | {"name": _name(refusal), "retryable": _is_retryable(refusal)}
        return error | {"fault": "provider"} if refusal.code in _PROVIDERS else error

    def error(self, refusal: Refusal, *, request_id: str) -> tuple[str, bytes]:
        """Content type and body; every dialect has `detail`."""
        error = self.error_object(refusal) | {"request_id": request_id}
        flat = _FLAT_CODES.get(refusal.code) or _name(refusal)
        return error_body(refusal, error, request_id=request_id, code=flat, retryable=_is_retryable(refusal))


class GlooChat(GlooShape, OpenAiChat):
    """POST /ai/v2/chat/completions, guarded or not."""

    name = "gloo_chat"
    default_maximum = "max_tokens"  # the only one in Gloo's reference

    def _model(self, request: ChatRequest) -> tuple[str | None, str | None]:
        return routed_model(request)

    def stream_error(self, refusal: Refusal, *, request_id: str) -> bytes:
        """A choice that ends with `error`, and why: docs.gloo.com, "Completions Streaming Failures", for failures after the 200."""
        error = self.error_object(refusal) | {"request_id": request_id}
        failed = {"index": 0, "delta": {}, "finish_reason": "error"}
        event = {"object": "chat.completion.chunk", "choices": [failed], "error": error}
        return b"data: " + msgspec.json.encode(event) + b"\n\n"


class GlooChatV1(GlooChat):
    """POST /ai/v1/chat/completions: the model is optional."""

    name = "gloo_chat_v1"

    def _model(self, request: ChatRequest) -> tuple[str | None, str | None]:
        return routed_model(request, is_optional=True)


class GlooGroundedChat(GlooChat):
    """POST /ai/v2/chat/completions/grounded and /ai/v2/grounded/chat/completions.

    The added sources are input that the gateway cannot see. Messages are optional (docs.gloo.com, "Grounded Completions V2").
    """

    name = "gloo_grounded_chat"
    adds_unknown_input = True
    needs_messages = False


class GlooResponses(GlooShape, OpenAiResponses):
    """POST /ai/v1/responses and /ai/v2/responses, guarded or not."""

    name = "gloo_responses"
    has_background = False  # its documentation names none

    def _model(self, request: ResponsesRequest) -> tuple[str | None, str | None]:
        return routed_model(request)


class GlooGroundedResponses(GlooResponses):
    """POST /ai/v1/grounded/responses."""

    name = "gloo_grounded_responses"
    adds_unknown_input = True


class GlooEmbeddings(GlooShape, OpenAiEmbeddings):
    """POST /ai/v2/direct/embeddings."""

    name = "gloo_embeddings"


def _name(refusal: Refusal) -> str:
    return _NAMES.get(refusal.code) or refusal.code.value.upper()


def _is_retryable(refusal: Refusal) -> bool:
    """Return whether the same request can succeed later by itself; not while a spend limit pauses."""
    if refusal.code is ErrorCode.RATE_LIMIT_EXCEEDED:
        return True
    if refusal.should_retry is not None:
        return refusal.should_retry
    return refusal.status >= 500 and refusal.code is not ErrorCode.UPSTREAM_KEY_REFUSED
