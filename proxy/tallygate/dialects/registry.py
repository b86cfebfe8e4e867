"""Every dialect under the name that routes use, and the dialect of errors for routes without one."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

from tallygate.dialects.anthropic_batch import AnthropicBatch
from tallygate.dialects.anthropic_complete import AnthropicComplete
from tallygate.dialects.anthropic_messages import AnthropicCountTokens, AnthropicMessages
from tallygate.dialects.azure import (
    AzureChat,
    AzureCompletions,
    AzureEmbeddings,
    AzureImageEdits,
    AzureImages,
    AzureResponses,
    AzureResponsesSocket,
    AzureSpeech,
    AzureTranscription,
    AzureTranslation,
)
from tallygate.dialects.dialect import Dialect
from tallygate.dialects.gemini_batch import GeminiBatch, GeminiEmbedBatch
from tallygate.dialects.gemini_embed import GeminiEmbed
from tallygate.dialects.gemini_generate import GeminiCountTokens, GeminiGenerate, GeminiStreamGenerate
from tallygate.dialects.gemini_video import GeminiVideo, VertexVideo
from tallygate.dialects.gloo import GlooChat, GlooChatV1, GlooEmbeddings, GlooGroundedChat, GlooGroundedResponses, GlooResponses
from tallygate.dialects.mistral_fim import MistralFim
from tallygate.dialects.openai_batch import AzureBatch, OpenAiBatch
from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.dialects.openai_compact import OpenAiCompact
from tallygate.dialects.openai_completions import OpenAiCompletions
from tallygate.dialects.openai_embeddings import OpenAiEmbeddings
from tallygate.dialects.openai_image_edits import OpenAiImageEdits
from tallygate.dialects.openai_images import OpenAiImages
from tallygate.dialects.openai_moderation import OpenAiModeration
from tallygate.dialects.openai_realtime import OpenAiRealtime
from tallygate.dialects.openai_responses import OpenAiResponses
from tallygate.dialects.openai_responses_socket import OpenAiResponsesSocket
from tallygate.dialects.openai_speech import OpenAiSpeech
from tallygate.dialects.openai_transcription import OpenAiTranscription, OpenAiTranslation
from tallygate.dialects.rerank import Rerank
from tallygate.dialects.socket_dialect import SocketDialect
from tallygate.dialects.unmetered import Unmetered
from tallygate.dialects.xai_video import XaiVideo
from tallygate.domain.dialect_traits import DialectTraits

_PLAIN: Final = OpenAiChat.name  # the shape of errors if the client's API is unknown


class Dialects(dict[str, Dialect]):
    """Dialects by name.

    batches: the names of those whose requests order a batch (`BatchDialect`).
    An API that is identified by path or header is represented by its first dialect: the required members are equal in all.
    """

    def __init__(self, known: Iterable[Dialect]) -> None:
        super().__init__({dialect.name: dialect for dialect in known})
        self.plain = self[_PLAIN]
        self.sockets = {name: dialect for name, dialect in self.items() if isinstance(dialect, SocketDialect)}
        self.batches = frozenset({name for name, dialect in self.items() if hasattr(dialect, "lines_max")})
        self._by_path = {dialect.own_paths: dialect for dialect in reversed(self.values()) if dialect.own_paths is not None}
        self._by_header = {dialect.own_header: dialect for dialect in reversed(self.values()) if dialect.own_header is not None}
        self._unmetered: dict[tuple[str, str | None], Unmetered] = {}

    @property
    def traits(self) -> dict[str, DialectTraits]:
        """The names that routes may use, each with what decides which routes may."""
        return {
            name: DialectTraits(is_billed=dialect.is_billed, speaks_frames=name in self.sockets) for name, dialect in self.items()
        }

    def of_path(self, path: str) -> Dialect | None:
        """A dialect of the API to which a path belongs; None if several APIs share such paths."""
        for own_paths, dialect in self._by_path.items():
            if own_paths.match(path) is not None:
                return dialect
        return None

    def spoken(self, path: str, headers: Mapping[str, str]) -> Dialect:
        """The dialect of errors at routes without a dialect: files, batches, and paths that are not served."""
        return self._of_headers(headers) or self.of_path(path) or self.plain

    def unmetered(self, path: str, headers: Mapping[str, str]) -> Unmetered:
        """The null dialect for a route without one; its API shows in the path or in the request's headers."""
        of_path = self.of_path(path)
        api, key_header = self._of_headers(headers) or of_path or self.plain, None if of_path is None else of_path.key_header
        known = self._unmetered.get((api.name, key_header))
        if known is None:
            others = [dialect for name, dialect in self._by_header.items() if name != api.own_header]
            not_keys = {other.key_header for other in others if other.key_header is not None}
            known = self._unmetered[api.name, key_header] = Unmetered(api, key_header=key_header, not_keys=not_keys)
        return known

    def _of_headers(self, headers: Mapping[str, str]) -> Dialect | None:
        for own_header, dialect in self._by_header.items():
            if own_header in headers:
                return dialect
        return None


@cache
def dialects() -> Dialects:
    """The registry of this process. Dialects have no state beyond their decoders, so one of each serves every gateway."""
    known: tuple[Dialect, ...] = (
        OpenAiChat(),
        OpenAiResponses(),
        OpenAiCompact(),
        OpenAiResponsesSocket(),
        OpenAiRealtime(),
        OpenAiCompletions(),
        OpenAiEmbeddings(),
        OpenAiImages(),
        OpenAiImageEdits(),
        OpenAiSpeech(),
        OpenAiTranscription(),
        OpenAiTranslation(),
        OpenAiModeration(),
        Rerank(),
        MistralFim(),
        OpenAiBatch(),
        AnthropicBatch(),
        GeminiBatch(),
        GeminiEmbedBatch(),
        GeminiVideo(),
        VertexVideo(),
        XaiVideo(),
        AzureChat(),
        AzureResponses(),
        AzureResponsesSocket(),
        AzureCompletions(),
        AzureEmbeddings(),
        AzureImages(),
        AzureImageEdits(),
        AzureSpeech(),
        AzureTranscription(),
        AzureTranslation(),
        AzureBatch(),
        GlooChat(),
        GlooChatV1(),
        GlooGroundedChat(),
        GlooResponses(),
        GlooGroundedResponses(),
        GlooEmbeddings(),
        AnthropicMessages(),
        AnthropicCountTokens(),
        AnthropicComplete(),
        GeminiGenerate(),
        GeminiStreamGenerate(),
        GeminiCountTokens(),
        GeminiEmbed(),
    )
    return Dialects(known)
