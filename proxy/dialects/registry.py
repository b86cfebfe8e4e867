"""Every dialect under the name that routes use."""

from collections.abc import Mapping

from proxy.dialects.anthropic_complete import AnthropicComplete
from proxy.dialects.anthropic_messages import AnthropicCountTokens, AnthropicMessages
from proxy.dialects.azure import AzureChat, AzureCompletions, AzureEmbeddings, AzureResponses
from proxy.dialects.dialect import Dialect
from proxy.dialects.gemini_embed import GeminiEmbed
from proxy.dialects.gemini_generate import GeminiCountTokens, GeminiGenerate, GeminiStreamGenerate
from proxy.dialects.gloo import GlooChat, GlooChatV1, GlooEmbeddings, GlooGroundedChat, GlooGroundedResponses, GlooResponses
from proxy.dialects.openai_chat import OpenAiChat
from proxy.dialects.openai_compact import OpenAiCompact
from proxy.dialects.openai_completions import OpenAiCompletions
from proxy.dialects.openai_embeddings import OpenAiEmbeddings
from proxy.dialects.openai_responses import OpenAiResponses


def dialects() -> Mapping[str, Dialect]:
    """A new registry; dialects hold no state beyond their decoders, so one serves a whole process."""
    known: tuple[Dialect, ...] = (
        OpenAiChat(),
        OpenAiResponses(),
        OpenAiCompact(),
        OpenAiCompletions(),
        OpenAiEmbeddings(),
        AzureChat(),
        AzureResponses(),
        AzureCompletions(),
        AzureEmbeddings(),
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
    return {dialect.name: dialect for dialect in known}
