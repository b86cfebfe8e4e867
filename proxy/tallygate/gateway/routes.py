"""The closed table of endpoints: no other endpoint exists.

An upstream's target is built from the table, never from the client's path: it is the template, with checked parameters.
A parameter `{model*}` matches slashes, raw or as `%2F`, for names such as `org/model`; they are forwarded as they came.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from tallygate.config.model import RESERVED_PATH, WEBSOCKET, Route
from tallygate.domain.errors import ErrorCode, PathRefused, Refusal

# The gateway's own endpoint, which has no upstream; configuration reserves its path.
ME: Final = Route(method="GET", path=f"{RESERVED_PATH}/me", capability="", weight=0)
PARAMETER_CHARS_MAX: Final = 200
SEGMENTS_MAX: Final = 32

_PLACEHOLDER: Final = re.compile(r"\{([a-z][a-z0-9_]*)(\*?)\}")
_LITERAL: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/-]*")
_PARAMETER: Final = "A-Za-z0-9._~!$&'()*+,;=:@-"  # characters of a parameter: RFC 3986 pchar without encoding

_ENCODED_SLASH: Final = re.compile("%2f", re.IGNORECASE)
_SLASH: Final = re.compile("/|%2f", re.IGNORECASE)
_PLAIN: Final = "-"  # replaces a slash in a parameter to match the path without it

_NO_METHODS: Final[Mapping[str, Route]] = {}

UNKNOWN_ENDPOINT: Final = Refusal(code=ErrorCode.UNKNOWN_ENDPOINT, message="This gateway has no such endpoint.", should_retry=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    """A path with parameters.

    prefix   its literal beginning, up to and including the last slash before the first parameter
    slashed  the parameter that matches slashes, which is the last one; "" for none
    """

    route: Route
    prefix: str
    pattern: re.Pattern[str]
    literal_chars: int
    slashed: str


class RouteTable:
    """Finds the route of a request: literal paths by one dict lookup, templates by their prefix, the most literal first."""

    def __init__(self, routes: Iterable[Route], path_prefixes: Mapping[str, str]) -> None:
        """Build the table. path_prefixes: of upstreams' base URLs, "" or "/v1". Raises ValueError for invalid or repeated paths."""
        self.routes = tuple(routes)
        self._literal: dict[str, dict[str, Route]] = {}
        self._templates: dict[str, list[_Template]] = {}
        self._path_prefixes = dict(path_prefixes)
        seen: set[tuple[str, str]] = set()
        for route in self.routes:
            shape = (route.method, _PLACEHOLDER.sub(r"{\2}", route.path))
            if shape in seen:
                raise ValueError(f"route {route.method} {route.path} is repeated")
            seen.add(shape)
            if route.upstream not in self._path_prefixes:
                raise ValueError(f"route {route.method} {route.path} names the unknown upstream {route.upstream}")
            if "{" not in route.path and "}" not in route.path:
                _check_literal(route, route.path)
                self._literal.setdefault(route.path, {})[route.method] = route
            else:
                template = _compiled(route)
                self._templates.setdefault(template.prefix, []).append(template)
        for templates in self._templates.values():
            templates.sort(key=lambda template: (-template.literal_chars, bool(template.slashed)))

    def match(self, method: str, raw_target: str) -> tuple[Route, Mapping[str, str]] | None:
        """The route and its parameters; None for the gateway's own endpoint (`ME`).

        Raises PathRefused: 404 for an unknown path, 405 with details["allow"] for a method.

        Parameters are decoded except for slashes, which stay as they came (`decoded`). HEAD matches wherever GET does (RFC 9110
        section 9.3.2). raw_target: as received, already checked by `check_target`; a query is ignored.
        """
        found = self.find(method, raw_target.partition("?")[0])
        if found is not None:
            return found
        methods = self.methods(raw_target)
        if not methods:
            raise PathRefused(UNKNOWN_ENDPOINT)
        if method in methods:  # none of the table's, so it is ours
            return None
        raise PathRefused(
            Refusal(
                code=ErrorCode.METHOD_NOT_ALLOWED,
                message="This endpoint does not take this method.",
                should_retry=False,
                details={"allow": ", ".join(methods)},
            )
        )

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
        """Match a path alone; None if `match` would refuse."""
        route = self._literal.get(path, _NO_METHODS).get(method)
        if route is not None:
            return route, {}
        if method == "HEAD" and (found := self.find("GET", path)) is not None:
            return found
        for template, params in self._matching(path):
            if template.route.method == method:
                return template.route, params
        return None

    def methods(self, raw_target: str) -> list[str]:
        """The methods of a path, in order; none if it is unknown. WEBSOCKET is none: it comes as a GET."""
        path = raw_target.partition("?")[0]
        if path == ME.path:
            return ["GET", "HEAD"]
        found = {*self._literal.get(path, _NO_METHODS), *(template.route.method for template, _ in self._matching(path))}
        found.discard(WEBSOCKET)
        return sorted(found | {"HEAD"} if "GET" in found else found)

    def target(self, route: Route, params: Mapping[str, str], query: str) -> str:
        """The upstream's target: its base URL's path, the template filled in, and the query that may pass (`query.py`).

        params: as `match` returned them, in their original encoding.
        """
        path = _PLACEHOLDER.sub(lambda found: params[found[1]], route.path) if params else route.path
        return f"{self._path_prefixes[route.upstream]}{path}{'?' if query else ''}{query}"

    def _matching(self, path: str) -> Iterator[tuple[_Template, dict[str, str]]]:
        end = len(path)
        read = _read_but_slashes(path) if "%" in path else path
        for _ in range(SEGMENTS_MAX):
            end = path.rfind("/", 0, end)
            if end < 0:
                return
            for template in self._templates.get(path[: end + 1], ()):
                params = _params(template, read)
                if params is not None and not self._is_anothers(template, params, read):
                    yield template, params

    def _is_anothers(self, template: _Template, params: Mapping[str, str], read: str) -> bool:
        """Return whether a path matches only because of its slashes, and would be another endpoint's if they were read differently.

        `/v1/models/a/b:generateContent` belongs to the metered endpoint or to none, whatever else matches slashes after
        `/v1/models/`; `/v1/responses/a%2Finput_items` is treated like its decoded form.
        """
        named = params[template.slashed] if template.slashed else ""
        if _SLASH.search(named) is None:
            return False
        plain = _PLACEHOLDER.sub(
            lambda found: _SLASH.sub(_PLAIN, params[found[1]]) if found[1] == template.slashed else params[found[1]],
            template.route.path,
        )
        return any(self._first(template.route.method, path) is not template for path in (plain, _ENCODED_SLASH.sub("/", read)))

    def _first(self, method: str, path: str) -> _Template | None:
        """The first template that matches a path, slashes aside."""
        if method in self._literal.get(path, ()):
            return None
        end = len(path)
        for _ in range(SEGMENTS_MAX):
            end = path.rfind("/", 0, end)
            if end < 0:
                break
            for template in self._templates.get(path[: end + 1], ()):
                if template.route.method == method and _params(template, path) is not None:
                    return template
        return None


def decoded(params: Mapping[str, str]) -> Mapping[str, str]:
    """Parameters fully decoded, slashes included."""
    if any("%" in value for value in params.values()):
        return {name: _ENCODED_SLASH.sub("/", value) for name, value in params.items()}
    return params


def _read_but_slashes(path: str) -> str:
    """The path decoded except for encoded slashes; `check_target` has left no encoded percent sign in it."""
    pieces = _ENCODED_SLASH.split(path)
    marks = [*_ENCODED_SLASH.findall(path), ""]
    return "".join(unquote(piece) + mark for piece, mark in zip(pieces, marks, strict=True))


def _params(template: _Template, read: str) -> dict[str, str] | None:
    found = template.pattern.fullmatch(read)
    if found is None:
        return None
    params = found.groupdict()
    if any(value in {".", ".."} for value in params.values()):
        return None
    return params if len(params.get(template.slashed, "")) <= PARAMETER_CHARS_MAX else None


def _compiled(route: Route) -> _Template:
    pattern, position, literal_chars, slashed = "", 0, 0, ""
    names: set[str] = set()
    for placeholder in _PLACEHOLDER.finditer(route.path):
        literal = route.path[position : placeholder.start()]
        _check_literal(route, literal)
        name, position = placeholder[1], placeholder.end()
        following = route.path[position : position + 1]
        if name in names or following == "{":
            raise ValueError(f"route {route.method} {route.path} repeats a parameter, or has two without a literal between them")
        if slashed:
            raise ValueError(f"route {route.method} {route.path} has a parameter after one that takes slashes")
        names.add(name)
        # A parameter ends where its next literal can begin, so gateway and upstream cannot read it differently.
        excluded = f"(?!{re.escape(following)})" if following not in {"", "/"} else ""
        word = f"(?:{excluded}[{_PARAMETER}])"
        if placeholder[2]:
            slashed = name
            value = f"{word}++(?:(?:/|%2[Ff]){word}++)*+"
        else:
            value = f"{word}{{1,{PARAMETER_CHARS_MAX}}}"
        pattern += f"{re.escape(literal)}(?P<{name}>{value})"
        literal_chars += len(literal)
    rest = route.path[position:]
    _check_literal(route, rest)
    if slashed and "/" in rest:
        raise ValueError(f"route {route.method} {route.path} has a segment after a parameter that takes slashes")
    first = route.path.index("{")
    return _Template(
        route=route,
        prefix=route.path[: route.path.rindex("/", 0, first) + 1],
        pattern=re.compile(pattern + re.escape(rest)),
        literal_chars=literal_chars + len(rest),
        slashed=slashed,
    )


def _check_literal(route: Route, literal: str) -> None:
    is_dotted = any(segment in {".", ".."} for segment in route.path.split("/"))
    if not route.path.startswith("/") or is_dotted or _LITERAL.fullmatch(literal) is None:
        raise ValueError(f"route {route.method} {route.path} must begin with / and have plain segments and {{parameters}}")
