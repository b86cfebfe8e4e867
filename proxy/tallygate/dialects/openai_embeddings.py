"""OpenAI's embeddings: text in, vectors out, no output tokens."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tallygate.dialects.body import TOKEN_IDS_ENTRIES_MAX, keys_of, read_body
from tallygate.dialects.dialect import RequestFacts, ResponseMeter
from tallygate.dialects.lenient import lenient_decode, name_or_none
from tallygate.dialects.meters import Framing, JsonMeter, UnreadMeter, framing
from tallygate.dialects.openai_completions import TextInput, add_input
from tallygate.dialects.openai_prompt import OpenAiPrompt
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.openai_usage import embedding_counts
from tallygate.dialects.other_bounds import MAXIMA, OtherBounds
from tallygate.dialects.references import body_references
from tallygate.dialects.vocabulary import Vocabulary
from tallygate.domain.errors import RequestRejectedError


class EmbeddingsRequest(msgspec.Struct, gc=False):
    """The fields acted on."""

    model: str | None = None
    input: TextInput | None = None


_READ: Final = frozenset(EmbeddingsRequest.__struct_fields__)
_READ_KEYS: Final = keys_of(_READ)


class EmbeddingsAnswer(msgspec.Struct, gc=False):
    """The fields acted on, each open to any value; the vectors are skipped."""

    model: Any = None
    usage: Any = None
    error: Any = None


class OpenAiEmbeddings(OpenAiShape):
    """POST /v1/embeddings."""

    name = "openai_embeddings"

    def __init__(self) -> None:
        self._requests = msgspec.json.Decoder(EmbeddingsRequest)
        self._vocabulary = Vocabulary(_READ)
        self._bounds = OtherBounds(MAXIMA)  # nothing is generated
        self._answers = msgspec.json.Decoder(EmbeddingsAnswer)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        del path, query
        read = read_body(body, self._requests, entries_max=TOKEN_IDS_ENTRIES_MAX)
        request = read.asked
        if not request.model:
            raise RequestRejectedError("You must provide a model parameter.", param="model")
        if request.input is None:
            raise RequestRejectedError("Missing required parameter: 'input'.", param="input")
        self._vocabulary.check(read)
        self._bounds.check(read.keys)
        draft = OpenAiPrompt()
        draft.add_others(read.others(_READ_KEYS), _READ, is_request=True)
        add_input(draft, request.input)
        return RequestFacts(model=request.model, prompt=draft.shape(), has_output=False, references=body_references(read))

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        """`body`: embeddings neither stream nor generate."""
        del facts, ask_usage, max_output_tokens
        return body

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del hide_usage_chunk
        is_json = framing(content_type, stream=facts.stream) is Framing.JSON
        return EmbeddingsMeter(self._answers) if is_json else UnreadMeter()


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
        return True
