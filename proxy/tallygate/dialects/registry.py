"""Every dialect under the name that routes use."""

from collections.abc import Mapping

from tallygate.dialects.anthropic_complete import AnthropicComplete
from tallygate.dialects.anthropic_messages import AnthropicCountTokens, AnthropicMessages
from tallygate.dialects.azure import AzureChat, AzureCompletions, AzureEmbeddings, AzureResponses
from tallygate.dialects.dialect import Dialect
from tallygate.dialects.gemini_embed import GeminiEmbed
from tallygate.dialects.gemini_generate import GeminiCountTokens, GeminiGenerate, GeminiStreamGenerate
from tallygate.dialects.gloo import GlooChat, GlooChatV1, GlooEmbeddings, GlooGroundedChat, GlooGroundedResponses, GlooResponses
from tallygate.dialects.mistral_fim import MistralFim
from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.dialects.openai_compact import OpenAiCompact
from tallygate.dialects.openai_completions import OpenAiCompletions
from tallygate.dialects.openai_embeddings import OpenAiEmbeddings
from tallygate.dialects.openai_responses import OpenAiResponses


def dialects() -> Mapping[str, Dialect]:
    """A new registry; dialects hold no state beyond their decoders, so one serves a whole process."""
    known: tuple[Dialect, ...] = (
        OpenAiChat(),
        OpenAiResponses(),
        OpenAiCompact(),
        OpenAiCompletions(),
        OpenAiEmbeddings(),
        MistralFim(),
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
