"""routes.yaml: the closed table of endpoints."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tallygate.config.model import RESERVED_PATH, WEBSOCKET, Route
from tallygate.config.problems import nearest
from tallygate.config.route_objects import parameters_of, route_objects
from tallygate.config.section import Place, Section, is_identifier, show
from tallygate.domain.dialect_traits import DialectTraits
from tallygate.domain.money import NANO_PER_USD, nano_usd_from_usd, usd_text
from tallygate.domain.ratio import percent

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", WEBSOCKET)
_PARAMETER: Final = re.compile(r"\{([a-z][a-z0-9_]{0,31}\*?)\}", re.ASCII)  # with a star it matches slashes
_LITERAL: Final = re.compile(r"[A-Za-z0-9._~:@-]*", re.ASCII)
_KIND: Final = re.compile(r"[a-z][a-z_]{0,31}", re.ASCII)
PATH_CHARS_MAX: Final = 512
PASSING_MAX: Final = 50  # names of one route
WEIGHT_MAX: Final = 1_000_000
FEE_MAX_NANO_USD: Final = 10_000 * NANO_PER_USD  # far above what one request of any service costs
_QUERY_NAME: Final = re.compile(r"[A-Za-z0-9$._\[\]-]{1,64}", re.ASCII)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
# Never let through: framing, keys, cookies, and headers that the gateway itself sets. Any other header may be.
_OURS: Final = frozenset(
    {"connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "host"}
    | {"expect", "authorization", "proxy-authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie", "accept-encoding"}
    | {"x-request-id", "forwarded", "http2-settings"}
)
_OURS_PREFIXES: Final = ("x-forwarded-", "tallygate-", "proxy-")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRoute:
    route: Route
    place: Place


def read_routes(
    document: Section, *, known_dialects: Mapping[str, DialectTraits], shipped: Sequence[PlacedRoute] = ()
) -> tuple[PlacedRoute, ...]:
    """Parse the routes, in file order. If two routes have the same method and shape of path, the second is a problem.

    known_dialects  names that routes may use, each with what decides which routes may
    shipped   the shipped table, to which a file with `with_shipped` adds; its own routes take precedence
    """
    found: list[PlacedRoute] = []
    first_lines: dict[tuple[str, str], int] = {}
    document.require("routes")
    for item in document.sections("routes"):
        route = _read_route(item, known_dialects)
        item.close()
        if route is None:
            continue
        shape = _shape(route)
        if shape in first_lines:
            item.place.problem(f"answers the same requests as the route on line {first_lines[shape]}")
        else:
            first_lines[shape] = item.place.line
            found.append(PlacedRoute(route=route, place=item.place))
    if document.boolean("with_shipped", default=False):
        place = document.place_of("with_shipped")
        found += [replace(placed, place=place) for placed in shipped if _shape(placed.route) not in first_lines]
    document.close()
    return tuple(found)


def _shape(route: Route) -> tuple[str, str]:
    return route.method, _PARAMETER.sub(lambda found: "{*}" if found[1].endswith("*") else "{}", route.path)


def _read_route(item: Section, known_dialects: Mapping[str, DialectTraits]) -> Route | None:
    complete = item.require("method", "path", "capability")
    stated = _StatedObjects.of(item)
    method = item.choice("method", METHODS)
    path = item.parsed("path", _path)
    capability = item.identifier("capability")
    upstream = item.identifier("upstream") or "default"

    def known_dialect(name: str) -> str:
        if name not in known_dialects:
            raise ValueError(f"{show(name)} is not a dialect{nearest(name, known_dialects)}")
        return name

    dialect = item.parsed("dialect", known_dialect)
    enabled = item.boolean("enabled", default=True)
    weight = item.integer("weight", 1, minimum=0, maximum=WEIGHT_MAX)
    if weight == 0 and dialect is not None and known_dialects[dialect].is_billed:
        item.place_of("weight").problem(f"must be at least 1: what {dialect} meters costs, and a spend limit has to stop it")
    speaks_frames = dialect is not None and known_dialects[dialect].speaks_frames
    if method == WEBSOCKET and not speaks_frames:
        framed = ", ".join(name for name, traits in known_dialects.items() if traits.speaks_frames)
        item.place_of("method").problem(f"needs a dialect that is spoken over a WebSocket: {framed}")
    elif method and method != WEBSOCKET and speaks_frames:
        item.place_of("method").problem(f"must be {WEBSOCKET}: {dialect} is spoken over nothing else")
    fee_nano_usd = item.money("fee_usd", _fee) or 0
    if weight == 0 and fee_nano_usd:
        item.place_of("weight").problem("must be at least 1: the route has a fee, and a spend limit has to stop it")
    markup = item.money("markup_percent", percent)
    if markup is not None and dialect is None:
        item.place_of("markup_percent").problem("is of no use: a route without a dialect is not metered")
    query = _names(item, "query", _QUERY_NAME)
    headers = frozenset(name.lower().encode() for name in _names(item, "headers", _HEADER_NAME))
    if not complete or not method or path is None or capability is None:
        return None
    for name in stated.names:
        if name not in parameters_of(path):
            item.place_of("names").problem(f"names {{{name}}}, which the path does not have")
    objects = route_objects(
        "POST" if method == WEBSOCKET else method,
        path,
        makes=stated.makes,
        lists=stated.lists,
        names=stated.names,
        deletes=stated.deletes,
    )
    return Route(
        method=method,
        path=path,
        capability=capability,
        dialect=dialect,
        upstream=upstream,
        enabled=enabled,
        weight=weight,
        fee_nano_usd=fee_nano_usd,
        markup=markup,
        query=query,
        headers=headers,
        objects=objects,
    )


def _fee(text: str) -> int:
    fee_nano_usd = nano_usd_from_usd(text)
    if fee_nano_usd > FEE_MAX_NANO_USD:
        raise ValueError(f"must be at most {usd_text(FEE_MAX_NANO_USD)} USD, got {show(text)}")
    return fee_nano_usd


def _names(item: Section, key: str, pattern: re.Pattern[str]) -> frozenset[str]:
    """Parse names that the route lets through."""
    found = set()
    for place, name in item.scalars(key, items_max=PASSING_MAX) or ():
        if pattern.fullmatch(name) is None:
            place.problem(f"must be a name such as X-Own or api-version, got {show(name)}")
        elif key == "headers" and (name.lower() in _OURS or name.lower().startswith(_OURS_PREFIXES)):
            place.problem(f"names a header that never passes: {show(name)}")
        else:
            found.add(name)
    return frozenset(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StatedObjects:
    """A route's own statements about stored objects; None if its path decides."""

    makes: str | None
    lists: str | None
    names: Mapping[str, str]
    deletes: bool | None

    @classmethod
    def of(cls, item: Section) -> "_StatedObjects":
        names: dict[str, str] = {}
        section = item.section("names")
        if section is not None:
            for key in tuple(section.keys()):
                names[key] = section.parsed(key, _kind) or ""
            section.close()
        return cls(
            makes=item.parsed("makes", _kind),
            lists=item.parsed("lists", _kind),
            names=names,
            deletes=item.boolean("deletes", default=False) if "deletes" in item else None,
        )


def _kind(text: str) -> str:
    if _KIND.fullmatch(text) is None:
        raise ValueError(f"must be one word of a to z and _, such as file, got {show(text)}")
    return text


def _path(text: str) -> str:
    """Parse a path template. Segments have literals and `{parameters}`; two parameters need a literal between them.

    A parameter with a star, `{model*}`, matches slashes: it must be the last one, in the last segment.
    """
    if not text.startswith("/") or len(text) > PATH_CHARS_MAX:
        raise ValueError(f"must start with / and have at most {PATH_CHARS_MAX} characters, got {show(text)}")
    if _may_be_reserved(text):
        raise ValueError(f"must not match {RESERVED_PATH} and what lies below it, the gateway's own endpoints, got {show(text)}")
    names: list[str] = []
    for segment in text[1:].split("/"):
        literals = _PARAMETER.split(segment)[::2]
        names += _PARAMETER.findall(segment)
        if segment in ("", ".", ".."):
            raise ValueError(f"must not have empty or dot segments, got {show(text)}")
        if not all(_LITERAL.fullmatch(literal) for literal in literals):
            raise ValueError(f"may hold letters, digits, . _ ~ : @ - and {{parameters}}, got {show(text)}")
        if "" in literals[1:-1]:
            raise ValueError(f"needs text between two parameters, got {show(text)}")
    if any(name.endswith("*") for name in names[:-1]) or "*" in text.rpartition("/")[0]:
        raise ValueError(f"may have a parameter that takes slashes in its end alone, got {show(text)}")
    names = [name.rstrip("*") for name in names]
    if len(names) != len(set(names)):
        raise ValueError(f"names a parameter twice, got {show(text)}")
    return text


def _may_be_reserved(path: str) -> bool:
    """Return whether a path lies below RESERVED_PATH, or matches an endpoint there with its parameters."""
    pattern = _PARAMETER.sub(lambda found: ".+" if found[1].endswith("*") else "[^/]+", re.sub(r"[.+]", r"\\\g<0>", path))
    return f"{path}/".startswith(f"{RESERVED_PATH}/") or re.fullmatch(pattern, f"{RESERVED_PATH}/me") is not None


def capabilities_of(routes: Collection[PlacedRoute]) -> frozenset[str]:
    return frozenset(placed.route.capability for placed in routes)


def report_unknown_upstreams(routes: Collection[PlacedRoute], upstreams: Collection[str]) -> None:
    for placed in routes:
        name = placed.route.upstream
        if name not in upstreams and is_identifier(name):
            placed.place.problem(f"names the unknown upstream {name!r}{nearest(name, upstreams)}")
