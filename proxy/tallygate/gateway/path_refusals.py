"""Refusals of requests for their paths: the path asked for and the nearest endpoint, for the client and for the operator's log.

What was asked is shown in plain words alone. A path may hold a key that was pasted into it, userinfo, or what would act in a log
or a page; its query is never shown.
"""

import logging
import re
from collections.abc import Collection
from dataclasses import replace
from typing import Final
from urllib.parse import unquote

from tallygate.dialects.registry import Dialects
from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.gateway.callers.key_traces import gives_away
from tallygate.gateway.nearest_route import Nearest, NearestRoutes
from tallygate.gateway.routes import RouteTable

SHOWN_CHARS_MAX: Final = 200
SHOWN_SEGMENTS_MAX: Final = 10
LOGGED_EVERY_MS: Final = 60_000  # of one organization and one kind of mistake
KINDS_KEPT_MAX: Final = 1_000
HIDDEN: Final = "[...]"
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~:-]{1,48}")
_METHOD: Final = re.compile(r"[A-Za-z]{1,16}")
_KEY_BEGINS: Final = re.compile(
    r"(?:sk|pk|rk|ak|tg|tga|gsk|hf|xai|gh[a-z]|key|api-?key|token|secret|bearer|pass)[-_:]|eyJ|AIza|AKIA"
)
_KEY_CHARS_MIN: Final = 12  # from here on a word with digits may be a key
_KEY_DIGITS_MIN: Final = 3
_CUT_CHARS_MIN: Final = 4  # from here on a part of the caller's own key is one
_log: Final = logging.getLogger(__name__)


class PathRefusals:
    """Explains refusals. One per worker; its memory of log lines is bounded."""

    def __init__(self, dialects: Dialects) -> None:
        self._dialects = dialects
        self._nearest: NearestRoutes | None = None
        self._table: RouteTable | None = None
        self._logged: dict[tuple[str, str], tuple[int, int]] = {}  # when a kind was last logged, and the number since

    def explained(
        self, refusal: Refusal, *, method: str, target: str, table: RouteTable, keys: Collection[bytes], org: str, now_ms: int
    ) -> tuple[Refusal, Nearest | None]:
        """The refusal with what was asked and the nearest endpoint, which is also logged now and then.

        target   as received; keys: the words of the caller's own key; org: whose request it probably is, "" where that is not known
        """
        if self._nearest is None or self._table is not table:
            self._table, self._nearest = table, NearestRoutes(table, self._dialects)
        path = re.split("[?#]", target, maxsplit=1)[0]
        nearest = self._nearest.find(method, path)
        asked = f"{method if _METHOD.fullmatch(method) else HIDDEN} {shown_path(path, keys, self._nearest.words)}"
        self._log_now_and_then(refusal, asked, nearest, org, now_ms)
        return replace(refusal, message=_message(refusal, asked, nearest), details={**refusal.details, **_named(nearest)}), nearest

    def _log_now_and_then(self, refusal: Refusal, asked: str, nearest: Nearest | None, org: str, now_ms: int) -> None:
        kind = f"{refusal.status} {nearest.mistake.value if nearest is not None else ''}"
        last_ms, unlogged = self._logged.pop((org, kind), (None, 0))
        if last_ms is not None and 0 <= now_ms - last_ms < LOGGED_EVERY_MS:
            self._logged[org, kind] = last_ms, unlogged + 1
            return
        if len(self._logged) >= KINDS_KEPT_MAX:
            del self._logged[next(iter(self._logged))]
        self._logged[org, kind] = now_ms, 0
        _log.warning(
            "refused for its path, %d: %s (organization %s); the nearest endpoint is %s%s",
            refusal.status,
            asked,
            org or "unknown",
            nearest,
            f"; {unlogged} more like it since the last line" if unlogged else "",
        )


def shown_path(path: str, keys: Collection[bytes] = (), words: Collection[str] = ()) -> str:
    """A path as it may be shown: segments of plain characters, and none that could be a key or somebody's name.

    words   those of the table, which are always shown
    """
    segments = path[:SHOWN_CHARS_MAX].split("/")
    shown = []
    for index, segment in enumerate(segments[: SHOWN_SEGMENTS_MAX + 1]):
        word = unquote(segment, errors="replace")
        is_authority = index == 2 and path.startswith("//")  # RFC 3986 section 4.2: what follows two slashes is a host
        if not word or word.lower() in words or (not is_authority and _is_plain(word, keys)):
            shown.append(word)
        else:
            shown.append(HIDDEN)
    is_cut = len(path) > SHOWN_CHARS_MAX or len(segments) > SHOWN_SEGMENTS_MAX + 1
    if is_cut:  # in the middle of a word, perhaps of a key
        shown[-1] = HIDDEN
    return "/".join(shown)


def _is_plain(word: str, keys: Collection[bytes]) -> bool:
    if _PLAIN.fullmatch(word) is None or _KEY_BEGINS.match(word) is not None:
        return False
    if len(word) >= _KEY_CHARS_MIN and sum(each.isdigit() for each in word) >= _KEY_DIGITS_MIN:
        return False
    raw = word.encode()
    return not gives_away(raw, keys) and not (len(raw) >= _CUT_CHARS_MIN and any(raw in key for key in keys))


def _message(refusal: Refusal, asked: str, nearest: Nearest | None) -> str:
    match refusal.code:
        case ErrorCode.UNKNOWN_ENDPOINT:
            sentence = f"This gateway has no endpoint {asked}."
        case ErrorCode.METHOD_NOT_ALLOWED:
            sentence = f"This gateway has no endpoint {asked}: this path takes {refusal.details['allow']}."
        case _:
            sentence = f"{refusal.message} Asked was {asked}."
    if nearest is None or refusal.code is ErrorCode.ENDPOINT_NOT_ENABLED:
        return sentence
    hint = f"Did you mean {nearest}?" if nearest.is_sure else f"The nearest endpoint is {nearest}."
    return " ".join(each for each in (sentence, hint, nearest.advice) if each)


def _named(nearest: Nearest | None) -> dict[str, str | int | None]:
    return {} if nearest is None else {"nearest": str(nearest)}
