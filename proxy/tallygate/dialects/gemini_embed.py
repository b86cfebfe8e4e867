"""The Gemini API's embedContent and batchEmbedContents."""

from collections.abc import Mapping
from typing import Final

from tallygate.dialects.body import parse_body
from tallygate.dialects.dialect import RequestFacts, ResponseMeter, UsageReporting
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.gemini_generate import GeminiDialect
from tallygate.dialects.gemini_meter import GeminiJsonMeter
from tallygate.dialects.gemini_request import add_content, check_body_model, media_units, path_model
from tallygate.dialects.lenient import items_of
from tallygate.dialects.meters import UnreadMeter
from tallygate.dialects.prompt_parts import PromptParts
from tallygate.dialects.references import stored_references

_KNOWN: Final = frozenset({"requests", "content", "title", "model", "taskType", "task_type"})


class GeminiEmbed(GeminiDialect):
    """`:embedContent`, one content, and `:batchEmbedContents`, `requests` of one content each.

    Older models answer without usage; the request's own tokens are then counted.
    """

    name = "gemini_embed"
    generates = False
    usage_reporting = UsageReporting.NOT_PROMISED

    __slots__ = ()

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:  # noqa: ARG002
        parts = PromptParts()
        parsed = parse_body(body, self._requests)
        self._vocabulary.check(parsed)
        request = parsed.fields
        for each in (request, *items_of(request.get("requests"))):
            if not isinstance(each, dict):
                parts.add_text(each)
                continue
            if each is not request:
                check_body_model(each, path)
            add_content(parts, each.get("content"))
            parts.add_text(each.get("title"))
            parts.add_unknown_members(each, _KNOWN)
        references = stored_references(request)
        parts.messages = 0  # embeddings have no framing tokens
        return RequestFacts(
            model=path_model(path),
            prompt=parts.shape(),
            has_output=False,
            units=media_units(parts),
            has_unknown_input=parts.has_unknown_input(references),
            has_unseen_input=parts.has_unseen_input,
            references=references,
        )

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:  # noqa: ARG002
        return FirstBytes(content_type, stream=False, events=UnreadMeter, whole=lambda: GeminiJsonMeter(facts, self._answers))
