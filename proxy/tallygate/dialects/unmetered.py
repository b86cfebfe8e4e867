"""The null dialect, for routes whose requests and answers are not parsed."""

from collections.abc import Collection, Mapping
from re import Pattern
from typing import Final

from tallygate.dialects.dialect import Dialect, FormDialect, RequestFacts, ResponseMeter, UsageReporting
from tallygate.dialects.limits import LimitHeaders
from tallygate.dialects.meters import NO_METER
from tallygate.domain.errors import Refusal
from tallygate.domain.prompt import PromptShape

UNREAD: Final = RequestFacts(model=None, prompt=PromptShape(), has_output=False)


class Unmetered:
    """Implements `Dialect` for a route without one: bodies and answers pass as they are, and errors have the shape of `api`.

    key_header   of the API to which the path belongs; None if several APIs share such paths
    """

    usage_reporting = UsageReporting.NOT_PROMISED
    query_values: Mapping[str, Pattern[str]] = {}
    form: FormDialect | None = None
    answers_media = False
    allows_comments = False
    limit_headers: LimitHeaders | None = None

    def __init__(self, api: Dialect, *, key_header: str | None, not_keys: Collection[str]) -> None:
        self.name = f"unmetered:{api.name}"
        self.is_billed = False
        self.generates = False
        self.own_paths = api.own_paths
        self.own_header = api.own_header
        self.has_version_in_base = api.has_version_in_base
        self.key_header = key_header
        self.not_keys = not_keys
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
        """Nothing, since the framing of the answer is unknown."""
        del refusal, request_id
        return b""
