"""OpenAI's batches, and those of Azure: a file of requests, which an endpoint answers within a day at half its price.

Sources: OpenAI, API reference, "Batch" (request, batch object, request input and output objects) and guide "Batch API": the
requests of a file name one model; of a batch that expires or is cancelled, the requests that were completed are charged, whose
results are in the output file; its lines are in no order. Microsoft, "Create a batch" and "Azure OpenAI batch": the same at
`/openai/batches` and `/openai/v1/batches`; jobs that take longer than a day do not expire.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from tallygate.dialects.azure import AzureShape
from tallygate.dialects.batch import (
    BATCH,
    ODD_RESULT,
    BatchLine,
    BatchResult,
    BatchShape,
    BatchState,
    check_spelling,
    checked_id,
    decoded_or_none,
    id_or_none,
    int_or_none,
)
from tallygate.dialects.body import parse_body
from tallygate.dialects.dialect import BatchOrder, JobKind, RequestFacts, UsageReporting
from tallygate.dialects.openai_required import required
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.references import body_references
from tallygate.dialects.vocabulary import Vocabulary
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import PromptShape

LINES_MAX: Final = 50_000  # OpenAI, "Create batch": the file can contain up to 50,000 requests, and can be up to 200 MB in size
BYTES_MAX: Final = 200 << 20
_FINAL: Final = frozenset({"completed", "failed", "expired", "cancelled"})
_DIALECTS: Final[Mapping[str, str]] = {
    "/v1/chat/completions": "openai_chat",
    "/v1/responses": "openai_responses",
    "/v1/completions": "openai_completions",
    "/v1/embeddings": "openai_embeddings",
    "/v1/moderations": "openai_moderation",
}
_BATCHES: Final = re.compile(r"/batches(?:/[^/]+)?$")


class BatchRequest(msgspec.Struct, gc=False):
    """The fields acted on."""

    input_file_id: str | None = None
    endpoint: str | None = None


class Line(msgspec.Struct, gc=False):
    """A line of the input file."""

    custom_id: Any = None
    method: Any = "POST"
    url: Any = None
    body: msgspec.Raw = msgspec.Raw()


class Response(msgspec.Struct, gc=False):
    status_code: Any = None
    body: msgspec.Raw = msgspec.Raw()


class Output(msgspec.Struct, gc=False):
    """A line of the output file."""

    custom_id: Any = None
    response: Response | None = None
    error: Any = None


class OpenAiBatch(BatchShape, OpenAiShape):
    """POST /v1/batches."""

    name = "openai_batch"
    kind = JobKind.OPENAI_BATCH
    usage_reporting = UsageReporting.NOT_PROMISED
    own_headers: Mapping[str, str] = {}
    lines_max = LINES_MAX
    bytes_max = BYTES_MAX

    def __init__(self) -> None:
        self._requests = msgspec.json.Decoder(BatchRequest)
        self._vocabulary = Vocabulary(BatchRequest.__struct_fields__)
        self._lines = msgspec.json.Decoder(Line)
        self._outputs = msgspec.json.Decoder(Output)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        del path, query
        parsed = parse_body(body, self._requests)
        self._vocabulary.check(parsed)
        request = parsed.fields
        input_file = required(request.input_file_id or None, "input_file_id")
        endpoint = self._endpoint(request.endpoint)
        dialect = self._dialect_of(endpoint)
        if dialect is None:
            served = ", ".join(sorted(_DIALECTS))
            message = f"Batches for {str(request.endpoint)[:100]!r} are not metered here: name one of {served}."
            raise RequestRejectedError(message, param="endpoint")
        return RequestFacts(
            model=None,
            prompt=PromptShape(messages=1),
            conditions=(BATCH,),
            references=body_references(parsed),
            job_kind=self.kind,
            batch=BatchOrder(dialect=dialect, path=endpoint, input_file=input_file),
        )

    def lines_of(self, body: bytes, *, path: Mapping[str, str]) -> Iterator[BatchLine]:
        raise NotImplementedError  # they stand in a file

    def input_target(self, created_at: str, input_file: str) -> str:
        return _file_target(created_at, input_file)

    def line_of(self, line: bytes, order_path: str) -> BatchLine:
        parsed = parse_body(line, self._lines)
        read = parsed.fields
        check_spelling(parsed.keys, Line)
        if read.method != "POST" or self._endpoint(read.url) != order_path:
            message = f"'method' must be POST, and 'url' the batch's endpoint, {order_path!r}."
            raise RequestRejectedError(message, param="url")
        return BatchLine(custom_id=checked_id(read.custom_id), body=bytes(read.body))

    def state_of(self, answer: bytes, target: str) -> BatchState | None:
        batch = decoded_or_none(answer)
        status = None if batch is None else batch.get("status")
        if batch is None or not isinstance(status, str):
            return None
        output, counts = batch.get("output_file_id"), batch.get("request_counts")
        completed = counts.get("completed") if isinstance(counts, dict) else None
        succeeded = int_or_none(completed)
        targets = (_file_target(target, output),) if isinstance(output, str) and output else ()
        return BatchState(
            is_final=status in _FINAL and not (status == "completed" and not targets and succeeded is None),
            id=id_or_none(batch.get("id")),
            targets=targets,
            succeeded=succeeded,
        )

    def result_of(self, line: bytes) -> BatchResult:
        try:
            output = self._outputs.decode(line)
        except (msgspec.MsgspecError, RecursionError):
            return ODD_RESULT
        custom_id = id_or_none(output.custom_id)
        response = output.response
        if response is None:
            return BatchResult(custom_id=custom_id, is_odd=not output.error)
        status = int_or_none(response.status_code)
        if status is None:
            return BatchResult(custom_id=custom_id, is_odd=True)
        is_answered = 200 <= status < 300
        return BatchResult(custom_id=custom_id, answer=bytes(response.body) if is_answered else None)

    def _endpoint(self, url: object) -> str:
        return url if isinstance(url, str) else ""

    def _dialect_of(self, endpoint: str) -> str | None:
        return _DIALECTS.get(endpoint)


class AzureBatch(OpenAiBatch):
    """POST /openai/batches and /openai/v1/batches; endpoints come with `/v1` and without, and a model is a deployment."""

    name = "azure_batch"
    own_paths = AzureShape.own_paths
    key_header = AzureShape.key_header

    def _endpoint(self, url: object) -> str:
        return f"/v1/{url.removeprefix('/v1').lstrip('/')}" if isinstance(url, str) else ""


def _file_target(batch_target: str, file_id: str) -> str:
    """Path and query of a file's content, from those of the batches beside it."""
    path, mark, query = batch_target.partition("?")
    return f"{_BATCHES.sub('', path)}/files/{quote(file_id, safe='')}/content{mark}{query}"
