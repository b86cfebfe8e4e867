"""OpenAI's embeddings: text in, vectors out, no output tokens."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tallygate.dialects.billed_members import MEMBERS, read_billed
from tallygate.dialects.body import TOKEN_IDS_ENTRIES_MAX
from tallygate.dialects.dialect import RequestFacts, ResponseMeter
from tallygate.dialects.first_bytes import FirstBytes
from tallygate.dialects.lenient import lenient_decode, name_or_none
from tallygate.dialects.meters import JsonMeter, UnreadMeter
from tallygate.dialects.openai_completions import TextInput, add_input
from tallygate.dialects.openai_prompt import OpenAiPrompt
from tallygate.dialects.openai_required import required, required_model
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.openai_usage import embedding_counts
from tallygate.dialects.other_api_fields import MAXIMA
from tallygate.dialects.references import body_references
from tallygate.dialects.request_members import RequestMembers
from tallygate.dialects.service_tiers import tier_conditions


class EmbeddingsRequest(msgspec.Struct, gc=False):
    """The fields acted on."""

    model: str | None = None
    input: TextInput | None = None
    service_tier: Any = None


_MEMBERS: Final = RequestMembers(EmbeddingsRequest, own=MAXIMA)  # nothing is generated


class EmbeddingsAnswer(msgspec.Struct, gc=False):
    """The fields acted on, each open to any value; the vectors are skipped."""

    model: Any = None
    usage: Any = None
    error: Any = None


class OpenAiEmbeddings(OpenAiShape):
    """POST /v1/embeddings."""

    name = "openai_embeddings"
    generates = False

    def __init__(self) -> None:
        self._answers = msgspec.json.Decoder(EmbeddingsAnswer)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        del path, query
        parsed = _MEMBERS.parse(body, entries_max=TOKEN_IDS_ENTRIES_MAX)
        request = parsed.fields
        model, text = required_model(request.model), required(request.input, "input")
        draft = OpenAiPrompt()
        _MEMBERS.add_unknown(parsed, draft)
        add_input(draft, text)
        return RequestFacts(
            model=model,
            prompt=draft.shape(),
            has_output=False,
            conditions=tier_conditions(request.service_tier),
            references=body_references(parsed),
        )

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del hide_usage_chunk
        return FirstBytes(content_type, stream=facts.stream, events=UnreadMeter, whole=lambda: EmbeddingsMeter(self._answers))


class EmbeddingsMeter(JsonMeter):
    """Reads the model and the usage beside the vectors."""

    __slots__ = ("_decoder",)

    def __init__(self, decoder: "msgspec.json.Decoder[EmbeddingsAnswer]") -> None:
        super().__init__()
        self._decoder = decoder

    def _read(self, body: bytes) -> bool:
        answer = lenient_decode(body, self._decoder)
        if answer is None:
            return False
        reading = self.reading
        reading.ended = True
        reading.failed = bool(answer.error)
        reading.response_model = name_or_none(answer.model)
        reading.usage = embedding_counts(answer.usage, reading.flags)
        if reading.usage is not None and not MEMBERS.isdisjoint(answer.usage):
            read_billed(reading, answer.usage)
        return True
