"""Filtering of queries. Names are compared as servers read them: decoded, and split at semicolons too.

At a metered route only declared parameters pass, since a parameter can remove the usage from an answer. Google, "System
parameters": `fields` and `$fields` filter it, `alt=proto` and `callback` change its form, `$ct` the request's.
"""

from collections.abc import Collection, Mapping
from re import Pattern
from typing import Final
from urllib.parse import quote, unquote_plus

from tallygate.dialects.unread_body import names_producer
from tallygate.domain.errors import ErrorCode, Refusal, Refused
from tallygate.gateway.callers.key_traces import gives_away

_CREDENTIALS: Final = frozenset(
    {"key", "$key", "api_key", "api-key", "apikey", "access_token", "oauth_token", "passwd", "password"}
)
_METHODS: Final = frozenset({"$httpmethod", "_method", "x-http-method-override"})  # would override the method that was checked
_NAME_CHARS_SHOWN: Final = 60
_VALUE_SAFE: Final = "-._~:/@,[]"


def metered_query(raw_query: str, known: Mapping[str, Pattern[str]], more: Collection[str] = ()) -> str:
    """The query to forward, written anew. Raises Refused.

    known   names with their allowed values; more: names that the route lets through with any value

    Keys are dropped without a refusal.
    """
    found: dict[str, str] = {}
    for pair in raw_query.split("&"):
        name, _, value = pair.partition("=")
        name, value = unquote_plus(name), unquote_plus(value)
        if not pair or name.strip().lower() in _CREDENTIALS or gives_away(pair.encode("utf-8", "surrogateescape"), ()):
            continue
        pattern = known.get(name)
        if name in found:
            raise _refused(name, "is given twice")
        if name not in more and (pattern is None or pattern.fullmatch(value) is None):
            raise _refused(name, "may give the answer a form that cannot be metered")
        found[name] = value
    return "&".join(f"{quote(name, safe=_VALUE_SAFE)}={quote(value, safe=_VALUE_SAFE)}" for name, value in found.items())


def unmetered_query(raw_query: str, more: Collection[str] = (), presented: Collection[bytes] = ()) -> str:
    """The query as it came, without keys; refused if it overrides the method. presented: the caller's own key."""
    for part in raw_query.replace(";", "&").split("&"):
        name = _name(part)
        if name in _METHODS and name not in more:
            raise _refused(name, "asks for another method")
    return without_keys(raw_query, presented)


def own_producers(query: str, org: str) -> str:
    """The query with the organization's prefix on every `producer_id` that its client chose, since all share one publisher.

    Gloo's tutorial "Build an End-to-End RAG Pipeline", part 1: an upload under an existing `producer_id` makes no new item.
    """
    pairs = query.replace(";", "&").split("&")
    if not any(_names_producer(pair) for pair in pairs):
        return query
    own = f"{org}:"
    return "&".join(_with_owner(pair, own) if _names_producer(pair) else pair for pair in pairs)


def _names_producer(pair: str) -> bool:
    return names_producer(_name(pair))


def _with_owner(pair: str, own: str) -> str:
    name, _, value = pair.partition("=")
    value = unquote_plus(value)
    spelled = quote(value if value.startswith(own) else own + value, safe=_VALUE_SAFE)
    return f"{quote(unquote_plus(name), safe=_VALUE_SAFE)}={spelled}"


def without_keys(raw_query: str, presented: Collection[bytes] = ()) -> str:
    """The query without keys: a key is either the client's for the gateway, or an attempt to replace the operator's upstream."""
    return "&".join(pair for pair in raw_query.split("&") if not _is_key(pair, presented))


def _is_key(pair: str, presented: Collection[bytes]) -> bool:
    is_named = any(_name(part) in _CREDENTIALS for part in pair.split(";"))
    return is_named or gives_away(pair.encode("utf-8", "surrogateescape"), presented)


def _name(pair: str) -> str:
    return unquote_plus(pair.partition("=")[0]).strip().lower()


def _refused(name: str, reason: str) -> Refused:
    shown = name[:_NAME_CHARS_SHOWN]
    return Refused(
        Refusal(
            code=ErrorCode.INVALID_REQUEST,
            message=f"The query parameter {shown!r} {reason}. Leave it out, or ask the operator to let it pass on this route.",
            param=shown,
            should_retry=False,
        )
    )
