"""Gloo AI: OpenAI's shapes, with routing by the provider and content that it adds itself.

With auto_routing or model_family the model is unknown before the answer, which alone names the one to price. Chat streams need no
`[DONE]`, and errors may come inside a 200. `tradition` and all else pass through.
"""

from typing import Final

import msgspec

from tallygate.dialects.gloo_shape import GlooShape
from tallygate.dialects.openai_chat import ChatRequest, OpenAiChat
from tallygate.dialects.openai_embeddings import OpenAiEmbeddings
from tallygate.dialects.openai_responses import OpenAiResponses, ResponsesRequest
from tallygate.domain.errors import Refusal, RequestRejectedError

_ONE_OF: Final = "Give exactly one of 'auto_routing': true, 'model' and 'model_family'"


def routed_model(request: ChatRequest | ResponsesRequest, *, is_optional: bool = False) -> tuple[str | None, str | None]:
    """The model and the family, in lower case, of which at most one is there; both None where Gloo routes.

    Raises RequestRejectedError unless exactly one way to choose is given; with is_optional, none of them is one more way.
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


class GlooChat(GlooShape, OpenAiChat):
    """POST /ai/v2/chat/completions, guarded or not."""

    name = "gloo_chat"
    default_maximum = "max_tokens"  # the only one that Gloo's reference has

    def _model(self, request: ChatRequest) -> tuple[str | None, str | None]:
        return routed_model(request)

    def stream_error(self, refusal: Refusal, *, request_id: str) -> bytes:
        """A choice that ends with `error`, and why: docs.gloo.com, "Completions Streaming Failures", of a failure after the 200."""
        error = self.error_object(refusal) | {"request_id": request_id}
        failed = {"index": 0, "delta": {}, "finish_reason": "error"}
        event = {"object": "chat.completion.chunk", "choices": [failed], "error": error}
        return b"data: " + msgspec.json.encode(event) + b"\n\n"


class GlooChatV1(GlooChat):
    """POST /ai/v1/chat/completions: the model may be left out."""

    name = "gloo_chat_v1"

    def _model(self, request: ChatRequest) -> tuple[str | None, str | None]:
        return routed_model(request, is_optional=True)


class GlooGroundedChat(GlooChat):
    """POST /ai/v2/chat/completions/grounded and /ai/v2/grounded/chat/completions.

    The sources it adds are input that the gateway cannot see; it may be asked without messages (docs.gloo.com, "Grounded
    Completions V2": optional).
    """

    name = "gloo_grounded_chat"
    adds_unknown_input = True
    needs_messages = False


class GlooResponses(GlooShape, OpenAiResponses):
    """POST /ai/v1/responses and /ai/v2/responses, guarded or not."""

    name = "gloo_responses"

    def _model(self, request: ResponsesRequest) -> tuple[str | None, str | None]:
        return routed_model(request)


class GlooGroundedResponses(GlooResponses):
    """POST /ai/v1/grounded/responses."""

    name = "gloo_grounded_responses"
    adds_unknown_input = True


class GlooEmbeddings(GlooShape, OpenAiEmbeddings):
    """POST /ai/v2/direct/embeddings."""

    name = "gloo_embeddings"
