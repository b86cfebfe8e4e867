"""Azure OpenAI: OpenAI's bodies, with the deployment in some paths, and the version of the API in the query.

Microsoft, "Azure OpenAI in Azure AI Foundry Models REST API reference": `/openai/deployments/{deployment-id}/chat/completions` and
its siblings have no model in their bodies; `/openai/v1/...` and `/openai/responses` do. The deployment is the model that is priced.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tallygate.dialects.body import with_member
from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.dialects.openai_completions import OpenAiCompletions
from tallygate.dialects.openai_embeddings import OpenAiEmbeddings
from tallygate.dialects.openai_image_edits import OpenAiImageEdits
from tallygate.dialects.openai_images import OpenAiImages
from tallygate.dialects.openai_responses import OpenAiResponses
from tallygate.dialects.openai_responses_socket import OpenAiResponsesSocket
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.openai_speech import OpenAiSpeech
from tallygate.dialects.openai_transcription import OpenAiTranscription, OpenAiTranslation

# Microsoft, "Azure OpenAI API preview lifecycle": `stream_options` and `include_usage` are added in 2024-09-01-preview.
_USAGE_SINCE: Final = "2024-09-01"
_DATED: Final = re.compile(r"\d{4}-\d\d-\d\d")
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class AzureShape(OpenAiShape):
    """A mixin that precedes an OpenAI-shaped dialect, whose requests it reads and rewrites with the path's deployment."""

    own_paths: re.Pattern[str] | None = re.compile("/openai/")
    key_header: str | None = "api-key"

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        facts: RequestFacts = super().read_request(_named(body, path), path=path, query=query)  # type: ignore[misc]  # the dialect's
        return _with_deployment(facts, body, query)

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        return super().rewrite_request(_own_model(body, facts), facts, ask_usage=ask_usage, max_output_tokens=max_output_tokens)


class AzureChat(AzureShape, OpenAiChat):
    """POST /openai/deployments/{model}/chat/completions and /openai/v1/chat/completions."""

    name = "azure_chat"


class AzureCompletions(AzureShape, OpenAiCompletions):
    """POST /openai/deployments/{model}/completions and /openai/v1/completions."""

    name = "azure_completions"


class AzureEmbeddings(AzureShape, OpenAiEmbeddings):
    """POST /openai/deployments/{model}/embeddings and /openai/v1/embeddings."""

    name = "azure_embeddings"


class AzureImages(AzureShape, OpenAiImages):
    """POST /openai/deployments/{model}/images/generations and /openai/v1/images/generations."""

    name = "azure_images"


class AzureImageEdits(AzureShape, OpenAiImageEdits):
    """POST /openai/deployments/{model}/images/edits and /openai/v1/images/edits."""

    name = "azure_image_edits"


class AzureResponses(AzureShape, OpenAiResponses):
    """POST /openai/responses, /openai/v1/responses and /openai/deployments/{model}/responses."""

    name = "azure_responses"


class AzureResponsesSocket(AzureShape, OpenAiResponsesSocket):
    """GET /openai/v1/responses with an offer to speak WebSocket. Microsoft, "Use the Responses API in WebSocket mode"."""

    name = "azure_responses_socket"


class AzureSpeech(AzureShape, OpenAiSpeech):
    """POST /openai/deployments/{model}/audio/speech and /openai/v1/audio/speech."""

    name = "azure_speech"


class AzureTranscription(AzureShape, OpenAiTranscription):
    """POST /openai/deployments/{model}/audio/transcriptions and /openai/v1/audio/transcriptions."""

    name = "azure_transcription"


class AzureTranslation(AzureShape, OpenAiTranslation):
    """POST /openai/deployments/{model}/audio/translations and /openai/v1/audio/translations."""

    name = "azure_translation"


def _named(body: bytes, path: Mapping[str, str]) -> bytes:
    """The body to parse, with the path's deployment as its model. A body that is no JSON object stays as it is, to be refused."""
    model = path.get("model")
    if not model or _model_of(body) is None:
        return body
    return with_member(body, ("model",), msgspec.json.encode(model))


def _with_deployment(facts: RequestFacts, body: bytes, query: Mapping[str, str]) -> RequestFacts:
    """The facts, noting whether the body's model must be replaced: a model other than the deployment is not what was priced."""
    version = query.get("api-version", "")
    return msgspec.structs.replace(
        facts,
        can_ask_usage=_DATED.match(version) is None or version[:10] >= _USAGE_SINCE,
        replaces_model=_model_of(body) not in ("", facts.model),
    )


def _own_model(body: bytes, facts: RequestFacts) -> bytes:
    return with_member(body, ("model",), msgspec.json.encode(facts.model)) if facts.replaces_model else body


def _model_of(body: bytes) -> Any:
    """The model in the body: "" for none; None if the body is no JSON object."""
    try:
        stated = _members(body).get("model")
        return "" if stated is None else msgspec.json.decode(stated)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
