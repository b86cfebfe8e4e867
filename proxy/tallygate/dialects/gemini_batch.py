"""The Gemini API's batches: requests in one body for a model that the path names, answered at half their price.

Sources: Google, "Batch API" (guide and reference: `models.batchGenerateContent`, `models.asyncBatchEmbedContent`, `batches.get`):
inlined requests get inlined responses in the order of the requests; `inputConfig.fileName` names a file of further ones. "Files
API": an uploaded file cannot be downloaded, so that nobody but Google can read what stands there, and such a batch is refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tallygate.dialects.batch import (
    BATCH,
    ODD_RESULT,
    BatchLine,
    BatchResult,
    BatchShape,
    BatchState,
    decoded_or_none,
    id_or_none,
)
from tallygate.dialects.body import parse_body
from tallygate.dialects.dialect import BatchOrder, JobKind, RequestFacts, ResponseMeter
from tallygate.dialects.gemini_embed import GeminiEmbed
from tallygate.dialects.gemini_generate import GeminiDialect, GeminiGenerate
from tallygate.dialects.gemini_request import path_model
from tallygate.dialects.lenient import member
from tallygate.dialects.vocabulary import Vocabulary
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import PromptShape

LINES_MAX: Final = 20_000  # a body of 20 MB, the most that Google takes with inlined requests, has fewer
BYTES_MAX: Final = 20 << 20
_FINAL: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})


class Item(msgspec.Struct, gc=False):
    request: msgspec.Raw = msgspec.Raw()


class Items(msgspec.Struct, gc=False):
    requests: list[Item] | None = None


class Input(msgspec.Struct, gc=False):
    requests: Items | None = None
    fileName: Any = None  # noqa: N815 - as it is spelled
    file_name: Any = None


class Batch(msgspec.Struct, gc=False):
    inputConfig: Input | None = None  # noqa: N815
    input_config: Input | None = None


class BatchRequest(msgspec.Struct, gc=False):
    """The fields acted on; protobuf's JSON takes names in either case."""

    batch: Batch | None = None


class Output(msgspec.Struct, gc=False):
    """An inlined response, or the error in its place."""

    response: msgspec.Raw = msgspec.Raw()
    error: Any = None


class GeminiBatch(BatchShape, GeminiDialect):
    """POST /v1beta/models/{model}:batchGenerateContent."""

    name = "gemini_batch"
    kind = JobKind.GEMINI_BATCH
    id_member = "name"
    line_dialect = GeminiGenerate.name
    line_method = "generateContent"
    own_headers: Mapping[str, str] = {}
    lines_max = LINES_MAX
    bytes_max = BYTES_MAX

    def __init__(self) -> None:
        super().__init__()
        self._batches = msgspec.json.Decoder(BatchRequest)
        self._spelled = Vocabulary(("batch", "inputConfig", "input_config", "requests", "request", "fileName", "file_name"))
        self._outputs = msgspec.json.Decoder(Output)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        del query
        parsed = parse_body(body, self._batches)
        self._spelled.check(parsed)
        self._items(parsed.fields)
        model = path_model(path)
        return RequestFacts(
            model=model,
            prompt=PromptShape(messages=1),
            conditions=(BATCH,),
            job_kind=self.kind,
            batch=BatchOrder(dialect=self.line_dialect, path=f"/v1beta/models/{model}:{self.line_method}"),
        )

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        return BatchShape.meter(self, facts, content_type=content_type, hide_usage_chunk=hide_usage_chunk)

    def lines_of(self, body: bytes, *, path: Mapping[str, str]) -> Iterator[BatchLine]:
        del path
        for number, item in enumerate(self._items(self._batches.decode(body)), 1):
            yield BatchLine(custom_id=f"#{number}", body=bytes(item.request))

    def input_target(self, created_at: str, input_file: str) -> str:
        raise NotImplementedError  # lines stand in the request

    def line_of(self, line: bytes, order_path: str) -> BatchLine:
        raise NotImplementedError  # as above

    def state_of(self, answer: bytes, target: str) -> BatchState | None:
        del target
        batch = decoded_or_none(answer)
        metadata = {} if batch is None else batch.get("metadata") or {}
        state = member(metadata, "state")
        if batch is None or not isinstance(state, str):
            return None
        output = batch.get("response") or member(metadata, "output")
        inlined = member(member(output, "inlinedResponses"), "inlinedResponses")
        stated = member(member(metadata, "batchStats"), "successfulRequestCount")
        succeeded = int(stated) if isinstance(stated, int | str) and str(stated).isdecimal() else None
        status = state.rpartition("_")[2]
        return BatchState(
            is_final=status in _FINAL and not (status == "SUCCEEDED" and not inlined and succeeded is None),
            id=id_or_none(batch.get("name")),
            inlined=tuple([msgspec.json.encode(each) for each in inlined]) if isinstance(inlined, list) else (),
            succeeded=succeeded,
        )

    def result_of(self, line: bytes) -> BatchResult:
        """One response; it is named by its place, since the keys that a client gives need not differ."""
        try:
            output = self._outputs.decode(line)
        except (msgspec.MsgspecError, RecursionError):
            return ODD_RESULT
        if not output.response:
            return BatchResult(is_odd=not output.error)
        return BatchResult(answer=bytes(output.response))

    def _items(self, request: BatchRequest) -> list[Item]:
        """The inlined requests. Raises RequestRejectedError."""
        batch = request.batch or Batch()
        given = [each for each in (batch.inputConfig, batch.input_config) if each is not None]
        if len(given) != 1:
            raise RequestRejectedError("'batch.inputConfig' is required.", param="batch.inputConfig")
        (found,) = given
        if found.fileName is not None or found.file_name is not None:
            message = "A file's requests cannot be read at the AI service, so that nothing can be held for them: send them inlined."
            raise RequestRejectedError(message, param="batch.inputConfig.fileName")
        return [] if found.requests is None else found.requests.requests or []


class GeminiEmbedBatch(GeminiBatch):
    """POST /v1beta/models/{model}:asyncBatchEmbedContent."""

    name = "gemini_embed_batch"
    line_dialect = GeminiEmbed.name
    line_method = "embedContent"
