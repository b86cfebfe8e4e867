"""What is spoken at routes whose requests and answers nobody reads."""

from collections.abc import Mapping, Sequence
from re import Pattern
from typing import Final

from tallygate.dialects.dialect import Dialect, NamedRate, RequestFacts, ResponseMeter, UsageReporting
from tallygate.dialects.meters import NO_METER
from tallygate.domain.admission import Decision
from tallygate.domain.errors import Refusal
from tallygate.domain.prompt import PromptShape

UNREAD: Final = RequestFacts(model=None, prompt=PromptShape(), has_output=False)


class Unmetered:
    """Implements `Dialect` for a route without one: bodies and answers pass as they are, and errors have the shape of `api`."""

    usage_reporting = UsageReporting.NOT_PROMISED
    query_values: Mapping[str, Pattern[str]] = {}

    def __init__(self, api: Dialect) -> None:
        self.name = f"unmetered:{api.name}"
        self.key_header = api.key_header
        self.request_id_header = api.request_id_header
        self.reset_header = api.reset_header
        self.error = api.error

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        del body, path, query
        return UNREAD

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        del facts, ask_usage, max_output_tokens
        return body

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del facts, content_type, hide_usage_chunk
        return NO_METER

    def stream_error(self, refusal: Refusal, *, request_id: str) -> bytes:
        """Nothing: in what framing the answer comes is not known."""
        del refusal, request_id
        return b""

    def limit_headers(self, decision: Decision, rate: Sequence[NamedRate]) -> list[tuple[bytes, bytes]]:
        del decision, rate
        return []
