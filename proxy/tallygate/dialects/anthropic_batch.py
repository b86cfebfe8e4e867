"""Anthropic's Message Batches: requests for messages in one body, answered within a day at half their price.

Sources: Anthropic, API reference, "Create a Message Batch", "Retrieve a Message Batch" and "Retrieve Message Batch results", and
"Batch processing": at most 100,000 requests or 256 MB; a result is `succeeded`, or `errored`, `canceled` or `expired`, which are
not billed; results are in no order and matched by `custom_id`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tallygate.dialects.anthropic_messages import AnthropicMessages
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
from tallygate.dialects.dialect import BatchOrder, JobKind, RequestFacts, ResponseMeter
from tallygate.dialects.json_objects import JsonObjects
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import PromptShape

LINES_MAX: Final = 100_000
BYTES_MAX: Final = 256 << 20
VERSION: Final = "2023-06-01"
_PIECE_BYTES: Final = 65_536


class BatchRequest(msgspec.Struct, gc=False):
    """The fields acted on."""

    requests: msgspec.Raw = msgspec.Raw()


class Line(msgspec.Struct, gc=False):
    custom_id: Any = None
    params: msgspec.Raw = msgspec.Raw()


class Outcome(msgspec.Struct, gc=False):
    type: Any = None
    message: msgspec.Raw = msgspec.Raw()


class Output(msgspec.Struct, gc=False):
    """A line of the results."""

    custom_id: Any = None
    result: Outcome | None = None


class AnthropicBatch(BatchShape, AnthropicMessages):
    """POST /v1/messages/batches."""

    name = "anthropic_batch"
    kind = JobKind.ANTHROPIC_BATCH
    own_headers: Mapping[str, str] = {"anthropic-version": VERSION}
    lines_max = LINES_MAX
    bytes_max = BYTES_MAX

    def __init__(self) -> None:
        super().__init__()
        self._batches = msgspec.json.Decoder(BatchRequest)
        self._lines = msgspec.json.Decoder(Line)
        self._outputs = msgspec.json.Decoder(Output)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Facts of a batch. Its lines, which may be many, are checked one by one; here they are left out."""
        del path, query
        requests = self._requests_of(body)
        start = body.rindex(requests) if requests else 0
        check_spelling(parse_body(body[:start] + b"[]" + body[start + len(requests) :], self._batches).keys, BatchRequest)
        return RequestFacts(
            model=None,
            prompt=PromptShape(messages=1),
            conditions=(BATCH,),
            job_kind=self.kind,
            batch=BatchOrder(dialect=AnthropicMessages.name, path="/v1/messages"),
        )

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        return BatchShape.meter(self, facts, content_type=content_type, hide_usage_chunk=hide_usage_chunk)

    def lines_of(self, body: bytes, *, path: Mapping[str, str]) -> Iterator[BatchLine]:
        del path
        requests, objects = self._requests_of(body), JsonObjects()
        for start in range(0, len(requests), _PIECE_BYTES):
            for each in objects.feed(requests[start : start + _PIECE_BYTES]):
                yield self.line_of(each, "")
        if objects.gave_up:
            raise RequestRejectedError("A request of the batch is too long to be read.", param="requests")

    def input_target(self, created_at: str, input_file: str) -> str:
        raise NotImplementedError  # lines stand in the request

    def line_of(self, line: bytes, order_path: str) -> BatchLine:
        del order_path
        parsed = parse_body(line, self._lines)
        check_spelling(parsed.keys, Line)
        return BatchLine(custom_id=checked_id(parsed.fields.custom_id), body=bytes(parsed.fields.params))

    def state_of(self, answer: bytes, target: str) -> BatchState | None:
        batch = decoded_or_none(answer)
        status = None if batch is None else batch.get("processing_status")
        if batch is None or not isinstance(status, str):
            return None
        counts = batch.get("request_counts")
        succeeded = int_or_none(counts.get("succeeded")) if isinstance(counts, dict) else None
        path, mark, query = target.partition("?")
        results = f"{path}/results{mark}{query}"
        return BatchState(
            is_final=status == "ended",
            id=id_or_none(batch.get("id")),
            targets=() if succeeded == 0 else (results,),
            succeeded=succeeded,
        )

    def result_of(self, line: bytes) -> BatchResult:
        try:
            output = self._outputs.decode(line)
        except (msgspec.MsgspecError, RecursionError):
            return ODD_RESULT
        custom_id = id_or_none(output.custom_id)
        result = output.result
        if result is None or not isinstance(result.type, str):
            return BatchResult(custom_id=custom_id, is_odd=True)
        return BatchResult(custom_id=custom_id, answer=bytes(result.message) if result.type == "succeeded" else None)

    def _requests_of(self, body: bytes) -> bytes:
        """The text of the list of requests. Raises RequestRejectedError."""
        try:
            requests = bytes(self._batches.decode(body).requests)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise RequestRejectedError(f"The request body is not valid JSON: {error}.") from error
        if not requests.startswith(b"["):
            raise RequestRejectedError("'requests' must be a list of requests.", param="requests")
        return requests
