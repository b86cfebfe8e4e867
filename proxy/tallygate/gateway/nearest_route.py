"""The endpoint that a refused request was meant for. Only refusals ask, and whatever was sent, the answer costs a bounded time."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Final
from urllib.parse import unquote

from tallygate.config.model import WEBSOCKET, Route
from tallygate.dialects.registry import Dialects
from tallygate.gateway.routes import ME, RouteTable

CHARS_MAX: Final = 300  # of a path that are looked at
SEGMENTS_MAX: Final = 10  # of these; no endpoint has more
WORD_CHARS_MAX: Final = 32
GUESSED_MAX: Final = 3  # words that are compared letter by letter
_CLOSE: Final = 0.7
_VERSION: Final = re.compile(r"v\d{1,2}(?:(?:alpha|beta)\d{0,2})?")
_VERSIONS_TRIED: Final = ("v1", "v1beta")
_UPLOADS: Final = "upload"  # begins paths of Google's own, which are no paths below a base URL (Files API, "Upload a file")
_PARAMETER: Final = re.compile(r"\{[^}]*\}")


class Mistake(Enum):
    """The mistake in a path that is almost an endpoint's."""

    SLASHES = "slashes"
    CASE = "case"
    VERSION_TWICE = "version_twice"
    BASE = "base"
    NO_VERSION = "no_version"
    OTHER_VERSION = "other_version"
    METHOD = "method"
    WORDS = "words"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The endpoint that was probably meant; is_sure: all that is wrong is `mistake`. base: the base URL with which it is asked."""

    route: Route
    mistake: Mistake
    base: str

    @property
    def is_sure(self) -> bool:
        return self.mistake is not Mistake.WORDS

    def __str__(self) -> str:
        return f"{self.route.method} {self.route.endpoint}"

    @property
    def advice(self) -> str:
        """Advice on what to change; empty if the endpoint itself shows it."""
        match self.mistake:
            case Mistake.SLASHES:
                return "Its path has single slashes, no dots, and no slash at its end: look at both ends of the base URL."
            case Mistake.CASE:
                return "Paths are compared letter by letter."
            case Mistake.VERSION_TWICE:
                return f"The version stands twice in the path: set the client's base URL to {self.base}."
            case Mistake.BASE | Mistake.NO_VERSION:
                return f"Set the client's base URL to {self.base}."
            case Mistake.OTHER_VERSION:
                return "Its version is another: look at the client's setting of the API's version, and at its base URL."
            case Mistake.METHOD | Mistake.WORDS:
                return ""


class NearestRoutes:
    """Over one route table. words: all that its paths are made of, in lower case."""

    def __init__(self, table: RouteTable, dialects: Dialects) -> None:
        self._table = table
        self._dialects = dialects
        self._routes = [(route, _words_of(route)) for route in (*table.routes, ME) if route.method != WEBSOCKET]
        self.words = frozenset(word for _, words in self._routes for word in words)
        self._areas = frozenset(area for route, _ in self._routes if (area := _area(route)) and _VERSION.fullmatch(area) is None)

    def find(self, method: str, path: str) -> Nearest | None:
        """The endpoint that is nearest to a path, as received; None only for a table without routes.

        Small mistakes in an otherwise right path come first, in the order of `Mistake`; then as many words as there are in common.
        A path with the prefix of one API (`/ai/`, `/engine/`) is assumed to be meant for that API.
        """
        segments: list[str] = []
        for each in unquote(path[:CHARS_MAX]).split("/")[: SEGMENTS_MAX * 2]:
            if each == "..":
                del segments[-1:]
            elif each not in {"", "."}:
                segments.append(each)
        segments = segments[:SEGMENTS_MAX]
        area = segments[0].lower() if segments and segments[0].lower() in self._areas else ""
        for candidate, mistake in _candidates(segments):
            route = self._at(method, "/" + "/".join(candidate))
            if route is not None and (not area or _area(route) == area):
                is_whole = "/" + "/".join(candidate) == path
                return self._nearest(route, Mistake.METHOD if is_whole else mistake, version=candidate[0])
        return self._by_words(method, segments, area)

    def _at(self, method: str, path: str) -> Route | None:
        if path == ME.path:
            return ME
        found = self._table.find(method, path)
        if found is None and (others := self._table.methods(path)):
            found = self._table.find(min(others, key=lambda other: (other == "DELETE", other)), path)  # nobody means to delete
        return None if found is None else found[0]

    def _by_words(self, method: str, segments: Sequence[str], area: str) -> Nearest | None:
        words = {word for each in segments for word in each.lower().split(":") if len(word) <= WORD_CHARS_MAX}
        unknown = sorted(words - self.words)[:GUESSED_MAX]
        for word in unknown:
            words.update(get_close_matches(word, self.words, n=1, cutoff=_CLOSE))

        def likeness(item: tuple[Route, frozenset[str]]) -> tuple[bool, float, bool, bool, bool]:
            route, known = item
            alike = 2 * len(known & words) / (len(known) + len(words) or 1)
            return bool(area) and _area(route) == area, alike, route.method == method, route.enabled, route.dialect is not None

        best = max(self._routes, key=likeness, default=None)
        return None if best is None else self._nearest(best[0], Mistake.WORDS)

    def _nearest(self, route: Route, mistake: Mistake, *, version: str = "") -> Nearest:
        """The route and the base URL for clients of its API. A client that adds no version itself has to have it there."""
        base = "http(s)://host"
        if mistake is Mistake.NO_VERSION:
            base += f"/{version}"
        elif route.path.startswith("/v1/") and (route.dialect is None or self._dialects[route.dialect].has_version_in_base):
            base += "/v1"
        return Nearest(route=route, mistake=mistake, base=base)


def _area(route: Route) -> str:
    """The first segment of its path, unless that is a parameter."""
    first = route.path.split("/")[1]
    return "" if "{" in first else first


def _words_of(route: Route) -> frozenset[str]:
    return frozenset(word for word in re.split("[/:]", _PARAMETER.sub("", route.path).lower()) if word)


def _candidates(segments: list[str]) -> Iterator[tuple[list[str], Mistake]]:
    yield segments, Mistake.SLASHES
    lower = [each.lower() for each in segments]
    yield lower, Mistake.CASE
    for given in (segments, lower):
        once = given[:1]
        for each in given[1:]:
            if _VERSION.fullmatch(each) and _VERSION.fullmatch(once[-1]):
                once[-1] = each
            else:
                once.append(each)
        if len(once) < len(given):
            yield once, Mistake.VERSION_TWICE
    for first in range(0 if lower[:1] == [_UPLOADS] else len(segments)):
        is_versioned = first > 0 and _VERSION.fullmatch(lower[first - 1]) is not None
        for given in (segments, lower):
            if first:
                yield given[first:], Mistake.BASE
            for version in _VERSIONS_TRIED:
                yield [version, *given[first:]], Mistake.OTHER_VERSION if is_versioned else Mistake.NO_VERSION
