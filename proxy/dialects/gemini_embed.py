"""The Gemini API's embedContent and batchEmbedContents."""

from collections.abc import Mapping
from typing import Any

from proxy.dialects.body import read_body
from proxy.dialects.dialect import RequestFacts, ResponseMeter
from proxy.dialects.gemini_generate import GeminiDialect
from proxy.dialects.gemini_meter import GeminiJsonMeter
from proxy.dialects.gemini_request import add_content, path_model
from proxy.dialects.meters import Framing, UnreadMeter, framing
from proxy.dialects.prompt_parts import PromptParts


class GeminiEmbed(GeminiDialect):
    """`:embedContent`, one content. Older models answer without usage: then the request's own tokens are counted."""

    name = "gemini_embed"

    __slots__ = ()

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:  # noqa: ARG002
        parts = PromptParts()
        for asked in self._embedded(read_body(body, self._requests)):
            add_content(parts, asked.get("content"))
            parts.add_text(asked.get("title"))
        parts.messages = 0  # embeddings frame nothing
        return RequestFacts(
            model=path_model(path),
            prompt=parts.shape(),
            has_output=False,
            audio_input=parts.audio_input,
            has_unknown_input=parts.has_unknown_input,
        )

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage: bool) -> ResponseMeter:  # noqa: ARG002
        if framing(content_type, stream=False) is Framing.JSON:
            return GeminiJsonMeter(facts, self._answers)
        return UnreadMeter()

    def _embedded(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        return [asked]


class GeminiBatchEmbed(GeminiEmbed):
    """`:batchEmbedContents`, a list of requests like the one of embedContent."""

    name = "gemini_batch_embed"

    __slots__ = ()

    def _embedded(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        requests = asked.get("requests")
        return [each for each in requests if isinstance(each, dict)] if isinstance(requests, list) else []
