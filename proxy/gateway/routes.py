"""The closed table of endpoints: what is not in it does not exist.

An upstream's target is built from the table, never from the client's path: it is the template, with parameters that were checked.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from proxy.config.model import Route
from proxy.domain.errors import ErrorCode, Refusal

PARAMETER_CHARS_MAX: Final = 200
SEGMENTS_MAX: Final = 32

_PLACEHOLDER: Final = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_LITERAL: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/-]*")
_PARAMETER: Final = "A-Za-z0-9._~!$&'()*+,;=:@-"  # what a parameter may be made of: RFC 3986 pchar without encoding

_UNKNOWN: Final = Refusal(
    status=404, code=ErrorCode.UNKNOWN_ENDPOINT, message="This gateway has no such endpoint.", should_retry=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    """A path with parameters. prefix: its literal beginning, up to and with the last slash before the first parameter."""

    route: Route
    prefix: str
    pattern: re.Pattern[str]
    literal_chars: int


class RouteTable:
    """Finds the route of a request: literal paths by one dict lookup, templates by their prefix, the most literal first."""

    def __init__(self, routes: Iterable[Route], path_prefixes: Mapping[str, str]) -> None:
        """path_prefixes: of each upstream's base URL, "" or "/v1". Raises ValueError for a path that cannot be or is repeated."""
        self._literal: dict[str, dict[str, Route]] = {}
        self._templates: dict[str, list[_Template]] = {}
        self._path_prefixes = dict(path_prefixes)
        seen: set[tuple[str, str]] = set()
        for route in routes:
            shape = (route.method, _PLACEHOLDER.sub("{}", route.path))
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
            templates.sort(key=lambda template: -template.literal_chars)

    def match(self, method: str, raw_target: str) -> tuple[Route, Mapping[str, str]] | Refusal:
        """The route and its decoded parameters; 404 for an unknown path, 405 with details["allow"] for an unknown method.

        raw_target: as received, already found harmless by `check_target`; a query is ignored.
        """
        path = raw_target.partition("?")[0]
        by_method = self._literal.get(path)
        if by_method is not None and (route := by_method.get(method)) is not None:
            return route, {}
        allowed = set(by_method or ())
        for template, params in self._matching(path):
            if template.route.method == method:
                return template.route, params
            allowed.add(template.route.method)
        if not allowed:
            return _UNKNOWN
        return Refusal(
            status=405,
            code=ErrorCode.METHOD_NOT_ALLOWED,
            message="This endpoint does not take this method.",
            should_retry=False,
            details={"allow": ", ".join(sorted(allowed))},
        )

    def target(self, route: Route, params: Mapping[str, str], query: str) -> str:
        """The upstream's target: its base URL's path, the template filled in, and the query that may pass (`query.py`)."""
        path = route.path
        for name, value in params.items():
            path = path.replace(f"{{{name}}}", value)
        return f"{self._path_prefixes[route.upstream]}{path}{'?' if query else ''}{query}"

    def _matching(self, path: str) -> Iterator[tuple[_Template, dict[str, str]]]:
        end = len(path)
        for _ in range(SEGMENTS_MAX):
            end = path.rfind("/", 0, end)
            if end < 0:
                return
            for template in self._templates.get(path[: end + 1], ()):
                found = template.pattern.fullmatch(unquote(path) if "%" in path else path)
                if found is not None and not any(value in {".", ".."} for value in found.groups()):
                    yield template, found.groupdict()


def _compiled(route: Route) -> _Template:
    pattern, position, literal_chars = "", 0, 0
    names: set[str] = set()
    for placeholder in _PLACEHOLDER.finditer(route.path):
        literal = route.path[position : placeholder.start()]
        _check_literal(route, literal)
        name, position = placeholder[1], placeholder.end()
        following = route.path[position : position + 1]
        if name in names or following == "{":
            raise ValueError(f"route {route.method} {route.path} repeats a parameter, or has two without a literal between them")
        names.add(name)
        # A parameter ends where its next literal can begin: what the gateway and the upstream take for it cannot differ.
        excluded = f"(?!{re.escape(following)})" if following not in {"", "/"} else ""
        pattern += f"{re.escape(literal)}(?P<{name}>(?:{excluded}[{_PARAMETER}]){{1,{PARAMETER_CHARS_MAX}}})"
        literal_chars += len(literal)
    rest = route.path[position:]
    _check_literal(route, rest)
    first = route.path.index("{")
    return _Template(
        route=route,
        prefix=route.path[: route.path.rindex("/", 0, first) + 1],
        pattern=re.compile(pattern + re.escape(rest)),
        literal_chars=literal_chars + len(rest),
    )


def _check_literal(route: Route, literal: str) -> None:
    is_dotted = any(segment in {".", ".."} for segment in route.path.split("/"))
    if not route.path.startswith("/") or is_dotted or _LITERAL.fullmatch(literal) is None:
        raise ValueError(f"route {route.method} {route.path} must begin with / and have plain segments and {{parameters}}")
