"""OpenAI's moderations, and others' of that shape: something in, verdicts out, no output tokens. The model is optional.

OpenAI's API reference, "Create moderation": the answer has no usage, and the pricing page lists the models as free, which their
rows state. Mistral's (`mistral-moderation-latest`) has a usage, and a price by token.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tallygate.dialects.dialect import RequestFacts, ResponseMeter, UsageReporting
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.meters import UnreadMeter
from tallygate.dialects.openai_embeddings import EmbeddingsAnswer, EmbeddingsMeter
from tallygate.dialects.openai_prompt import OpenAiPrompt
from tallygate.dialects.openai_required import required
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.references import body_references
from tallygate.dialects.request_members import RequestMembers

DEFAULT_MODEL: Final = "omni-moderation-latest"


class ModerationRequest(msgspec.Struct, gc=False):
    """The fields acted on. input: a text, texts, or parts of one input."""

    model: str | None = None
    input: Any = None


_MEMBERS: Final = RequestMembers(ModerationRequest)


class OpenAiModeration(OpenAiShape):
    """POST /v1/moderations."""

    name = "openai_moderation"
    generates = False
    usage_reporting = UsageReporting.NOT_PROMISED

    def __init__(self) -> None:
        self._answers = msgspec.json.Decoder(EmbeddingsAnswer)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        del path, query
        parsed = _MEMBERS.parse(body)
        request = parsed.fields
        draft = OpenAiPrompt()
        _MEMBERS.add_unknown(parsed, draft)
        draft.add_content(required(request.input, "input"))
        references = body_references(parsed)
        return RequestFacts(
            model=request.model or DEFAULT_MODEL,
            prompt=draft.shape(),
            has_output=False,
            has_unknown_input=draft.has_unknown_input(references),
            has_unseen_input=draft.has_unseen_input,
            references=references,
        )

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del hide_usage_chunk
        return FirstBytes(content_type, stream=facts.stream, events=UnreadMeter, whole=lambda: EmbeddingsMeter(self._answers))
