"""Header fields that pass through the gateway, each way: by the plan for their names (`header_plans.py`), and by their values."""

from collections.abc import Collection, Iterable, Sequence
from http import HTTPStatus
from itertools import compress
from typing import Final

from tallygate.domain.errors import ErrorCode, Refusal, Refused
from tallygate.gateway.callers.key_traces import gives_away, key_words, may_give_away
from tallygate.gateway.header_plans import REQUEST_ID, VIA, downward_plan, form_places, upward_plan
from tallygate.gateway.passages import IDENTITY, Passage, readable_accept
from tallygate.http1.header import Header, Headers, Lines, http_date, names_of, text_of, values_of

VIA_PSEUDONYM: Final = "tallygate"
# RFC 9110 section 7.6.3: the version is that of the message as it was received, from the client or from the upstream.
_VIA: Final[Header] = (VIA, b"1.1 " + VIA_PSEUDONYM.encode())
_VIA_1_0: Final[Header] = (VIA, b"1.0 " + VIA_PSEUDONYM.encode())
_VIA_LINE, _VIA_LINE_1_0 = text_of([_VIA]), text_of([_VIA_1_0])
_TOO_MANY_REQUESTS: Final = HTTPStatus.TOO_MANY_REQUESTS.value  # read once: a member of this enum takes a call to look up
_NOT_WHOLE: Final = frozenset({b"accept-encoding", b"range", b"if-range", b"if-none-match", b"if-modified-since"})


def request_headers(
    client: Sequence[Header],
    *,
    credentials: Sequence[Header],
    request_id: str,
    passage: Passage,
    query_key: str = "",
    is_http_1_0: bool = False,
) -> list[Header]:
    """The headers to send upstream: the client's in order, then ours.

    client       as received, in order, repeated ones included
    credentials  the upstream's authentication headers; they replace the client's of the same name
    query_key    the caller's key in `?key=`
    is_http_1_0  how the request came
    A header in which a gateway key stands, the caller's own or another's, stays here whatever its name (`key_traces`).
    """
    plan = upward_plan(names_of(client), type(passage), passage.is_own_key, passage.more, names_of(credentials))
    headers = Headers(compress(client, plan.passes))
    for place in plan.accepts:
        name, value = headers[place]
        headers[place] = name, readable_accept(value)
    for place in plan.idempotent:
        headers[place] = passage.idempotent(headers[place])
    if plan.connections:
        headers = Headers(_without_named(headers, plan.lower, [client[place][1] for place in plan.connections]))
    keys = [query_key.encode("utf-8", "surrogateescape")] if query_key else []
    for place in plan.keys:
        keys += key_words(client[place][1])
    if may_give_away(b"\n".join(values_of(headers)), keys):
        headers = Headers(header for header in headers if not gives_away(header[1], keys))
    headers += passage.ours
    headers += credentials
    headers.append((REQUEST_ID, request_id.encode()))
    headers.append(_VIA_1_0 if is_http_1_0 else _VIA)
    if len(headers) == len(plan.sent):  # none stayed here for its value
        headers.names = plan.sent
    return headers


def read_whole(headers: Sequence[Header]) -> list[Header]:
    """The headers of a request whose answer is read although it is not metered: it must come plain, and not in parts."""
    return [header for header in headers if header[0].lower() not in _NOT_WHOLE] + [IDENTITY]


def check_form(client: Sequence[Header], more: Collection[bytes], *, is_media: bool = False) -> None:
    """Refuse a request at a metered route for a header that changes the form of the answer.

    more       names that pass all the same
    is_media   the answer may be of any type
    """
    forms, accepts = form_places(names_of(client))
    unreadable = [place for place in accepts if not is_media and client[place][1] and not readable_accept(client[place][1])]
    if not forms and not unreadable:
        return
    for place in sorted((*forms, *unreadable)):
        lower = client[place][0].lower()
        if lower not in more:
            name = lower.decode("latin-1")
            message = (
                f"The header {name!r} may change the form of the answer, which could then not be metered. "
                "Leave it out, or ask the operator to let it pass on this route."
            )
            raise Refused(Refusal(code=ErrorCode.INVALID_REQUEST, message=message, param=name, should_retry=False))


def response_headers(
    upstream: Sequence[Header], *, ours: Lines, status: int = 200, now_ms: int | None = None, is_http_1_0: bool = False
) -> bytes:
    """The lines of the headers to send to the client: the upstream's in order, then ours.

    now_ms       the Date of an answer that has none (RFC 9110 section 6.6.1); None leaves it without
    is_http_1_0  how the answer came

    A header of ours replaces the upstream's of the same name; if ours speak of rate limits, the upstream's do not go down at
    all, since two different answers to "how much is left" help nobody; but for the time until which its own 429 asks to wait.
    The upstream's x-request-id, which its support will ask for, goes down as x-upstream-request-id beside ours.
    """
    names, lines = ours
    plan = downward_plan(names_of(upstream), names, status == _TOO_MANY_REQUESTS)
    headers = list(compress(upstream, plan.passes))
    if plan.connections:
        headers = _without_named(headers, plan.lower, [upstream[place][1] for place in plan.connections])
    if plan.request_id >= 0:
        headers.append((b"x-upstream-request-id", upstream[plan.request_id][1]))
    if not plan.has_date and now_ms is not None:
        headers.append((b"date", http_date(now_ms)))
    return text_of(headers) + lines + (_VIA_LINE_1_0 if is_http_1_0 else _VIA_LINE)


def _without_named(headers: list[Header], lower: tuple[bytes, ...], connections: Iterable[bytes]) -> list[Header]:
    """`headers` without those that end at this hop, by the values of `Connection` (RFC 9110 section 7.6.1). lower: their names."""
    named = {token.strip().lower() for value in connections for token in value.split(b",")}
    if named.isdisjoint(lower):
        return headers
    return [header for name, header in zip(lower, headers, strict=True) if name not in named]
