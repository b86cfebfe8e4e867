"""What the batch APIs of providers have in common: requests in lines, results in lines, and a status that becomes final."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from tallygate.dialects.body import keys_of
from tallygate.dialects.dialect import Dialect, JobKind, MeterReading, RequestFacts, ResponseMeter
from tallygate.dialects.lenient import lenient_decode
from tallygate.dialects.meters import JsonMeter
from tallygate.dialects.references import folded
from tallygate.dialects.vocabulary import folded_key
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.usage import Conditions

BATCH: Final = Conditions(service_tier="batch")  # under which providers bill the lines of a batch
CUSTOM_ID_CHARS_MAX: Final = 512
_ANYTHING: Final = msgspec.json.Decoder()


class BatchLine(msgspec.Struct, frozen=True, kw_only=True):
    """A request of a batch. custom_id: the client's own name for it, by which its result is found."""

    custom_id: str
    body: bytes


class BatchState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a batch.

    id         of the batch that the answer is about; None if it does not say
    is_final   nothing of it runs any more
    targets    path and query of each list of results, which has one in each line
    inlined    results that the answer itself has
    succeeded  how many lines the provider counts as answered; None if it does not say
    """

    is_final: bool
    id: str | None = None
    targets: tuple[str, ...] = ()
    inlined: tuple[bytes, ...] = ()
    succeeded: int | None = None


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one line.

    custom_id  None if the result does not say
    answer     as the line's dialect reads it; None if there is none, so that nothing is billed
    is_odd     it cannot be read: what became of the line is not known
    """

    custom_id: str | None = None
    answer: bytes | None = None
    is_odd: bool = False


ODD_RESULT: Final = BatchResult(is_odd=True)


class BatchDialect(Dialect, Protocol):
    """A dialect whose requests order a batch, and whose answers tell what becomes of it.

    kind         of its jobs
    own_headers  that the provider requires of every request
    lines_max    of one batch, and bytes_max of its lines together: more is refused by the provider as well
    """

    kind: JobKind
    own_headers: Mapping[str, str]
    lines_max: int
    bytes_max: int

    def lines_of(self, body: bytes, *, path: Mapping[str, str]) -> Iterator[BatchLine]:
        """The lines that stand in the request itself, in order. Raises RequestRejectedError."""

    def input_target(self, created_at: str, input_file: str) -> str:
        """Path and query of the file that has the lines, from those of the request."""

    def line_of(self, line: bytes, order_path: str) -> BatchLine:
        """A line of such a file. Raises RequestRejectedError."""

    def state_of(self, answer: bytes, target: str) -> BatchState | None:
        """The state of a batch, from the answer at `target`; None if it cannot be read."""

    def result_of(self, line: bytes) -> BatchResult:
        """One result."""


class BatchMeter(JsonMeter):
    """Reads the id of a batch that has been created."""

    __slots__ = ("_member",)

    def __init__(self, member: str) -> None:
        super().__init__()
        self._member = member

    def _read(self, body: bytes) -> bool:
        answer = lenient_decode(body, _ANYTHING)
        found = answer.get(self._member) if isinstance(answer, dict) else None
        reading = self.reading
        reading.ended = True
        if isinstance(found, str) and found:
            reading.job_id, reading.awaits_final_usage = found, True
        return isinstance(answer, dict)


class BatchShape:
    """A mixin that precedes the shape of an API: what is the same in all dialects of batches."""

    id_member = "id"
    is_billed = True
    generates = False  # its lines do, under endpoints of their own

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        """`body` itself: its lines are stored where nobody can change them."""
        del facts, ask_usage, max_output_tokens
        return body

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del facts, content_type, hide_usage_chunk
        return BatchMeter(self.id_member)


def with_batch_tier(reading: MeterReading) -> MeterReading:
    """A line's reading at the price of batches: the answers of some providers state the tier at which they were computed."""
    reading.conditions["service_tier"] = BATCH.service_tier
    return reading


def decoded_or_none(data: bytes) -> dict[str, Any] | None:
    """A JSON object; None for anything else."""
    value = lenient_decode(data, _ANYTHING)
    return value if isinstance(value, dict) else None


def check_spelling(keys: Iterable[bytes], struct: type[msgspec.Struct]) -> None:
    """Refuse a member of a line that differs from the struct's own only in its spelling. Raises RequestRejectedError.

    Some servers would read it as that (`dialects/vocabulary.py`). keys: in the form of `ParsedBody.keys`
    """
    names = struct.__struct_fields__
    known, folds = keys_of(names), set(map(folded, names))
    if odd := next((key for key in keys if key not in known and folded_key(key) in folds), None):
        raise RequestRejectedError(f"Unknown member {odd[:100].decode(errors='replace')} some servers would read it as another.")


def id_or_none(value: object) -> str | None:
    """An id of a batch or a line; None for anything else."""
    return value if isinstance(value, str) and value else None


def int_or_none(value: object) -> int | None:
    """A count or a status; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def checked_id(value: object) -> str:
    """The client's name for a line. Raises RequestRejectedError."""
    if isinstance(value, str) and 0 < len(value) <= CUSTOM_ID_CHARS_MAX:
        return value
    message = f"Each request of a batch needs a 'custom_id' of its own, a text of 1 to {CUSTOM_ID_CHARS_MAX} characters."
    raise RequestRejectedError(message, param="custom_id")
