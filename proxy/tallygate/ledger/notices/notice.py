"""A notice, by which the limiter announces a change of a spend limit, and its conversion from a stream entry."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from tallygate.domain.money import MONEY_MAX_NANO_USD
from tallygate.ledger.entry import MalformedEntryError

NOTICE_KIND: Final = b"notice"  # of a stream entry, where a usage event has its own kind
TIME_MAX_MS: Final = 4_102_444_800_000  # 2100-01-01
# An event id contains an organization's id (the limiter accepts up to 128), a Client ID (64), a limit's name and the time.
WORD_CHARS_MAX: Final = 320
_WORD: Final = re.compile(rf"[!-~]{{1,{WORD_CHARS_MAX}}}", re.ASCII)  # ids become HTTP headers: no blanks, nothing but ASCII


class NoticeType(StrEnum):
    WARNING = "spend.warning"  # a threshold was crossed, once per crossing
    PAUSED = "spend.paused"  # requests are refused until the window has room again
    RESUMED = "spend.resumed"  # only after a pause that was announced


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A row of `notices`, whose columns have these names. It never changes.

    limit_key           the limiter's name of the spend window: "org:spend_7d"
    threshold_permille  for a warning: the crossed fraction of the limit
    refused_nano_usd    for a pause: the least that the refused request needed
    resumes_at_ms       for a pause: when the window has room for it
    """

    event_id: str
    type: NoticeType
    org: str
    limit_key: str
    threshold_permille: int | None = None
    spent_nano_usd: int
    held_nano_usd: int
    limit_nano_usd: int
    refused_nano_usd: int | None = None
    resumes_at_ms: int | None = None
    at_ms: int


class _Announced(msgspec.Struct, frozen=True, kw_only=True):
    """A notice in the form of the limiter's script."""

    type: NoticeType
    org: str
    limit: str
    threshold_permille: int | None = None
    spent_nano_usd: int
    held_nano_usd: int
    limit_nano_usd: int
    refused_nano_usd: int | None = None
    resumes_at_ms: int | None = None
    at_ms: int


_DECODER: Final = msgspec.json.Decoder(_Announced)
_NEEDED: Final = {NoticeType.WARNING: ("threshold_permille",), NoticeType.PAUSED: ("refused_nano_usd", "resumes_at_ms")}


def notice_of_stream(words: Mapping[bytes, bytes]) -> Notice:
    """The notice in a stream entry of kind `notice`. Raises MalformedEntryError."""
    try:
        decoded = _DECODER.decode(words[b"event"])
        event_id = words[b"event_id"].decode()
    except (KeyError, ValueError, RecursionError) as error:
        raise MalformedEntryError(f"{type(error).__name__}: {error}"[:1_024]) from error
    for name, text in (("event_id", event_id), ("org", decoded.org), ("limit", decoded.limit)):
        if _WORD.fullmatch(text) is None:
            raise MalformedEntryError(f"a notice's {name} is not 1 to {WORD_CHARS_MAX} plain characters")
    for name in decoded.__struct_fields__:
        number = getattr(decoded, name)
        most = TIME_MAX_MS if name.endswith("_at_ms") or name == "at_ms" else MONEY_MAX_NANO_USD
        if isinstance(number, int) and not 0 <= number <= most:
            raise MalformedEntryError(f"{name} is {number}")
    for name in _NEEDED.get(decoded.type, ()):
        if getattr(decoded, name) is None:
            raise MalformedEntryError(f"a notice of {decoded.type} has no {name}")
    return Notice(
        event_id=event_id,
        type=decoded.type,
        org=decoded.org,
        limit_key=decoded.limit,
        threshold_permille=decoded.threshold_permille,
        spent_nano_usd=decoded.spent_nano_usd,
        held_nano_usd=decoded.held_nano_usd,
        limit_nano_usd=decoded.limit_nano_usd,
        refused_nano_usd=decoded.refused_nano_usd,
        resumes_at_ms=decoded.resumes_at_ms,
        at_ms=decoded.at_ms,
    )
