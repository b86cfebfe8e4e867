"""routes.yaml: the closed table of endpoints."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tallygate.config.declared import read_declared, read_field
from tallygate.config.kinds import Decimal, Identifier, Parsed, Words, declare
from tallygate.config.model import RESERVED_PATH, WEBSOCKET, Route
from tallygate.config.problems import nearest
from tallygate.config.route_objects import parameters_of, route_objects
from tallygate.config.section import Place, Section, is_identifier, show
from tallygate.domain.declared import Choice, Flag, WholeNumber
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
    if read_field(document, WITH_SHIPPED):
        place = document.place_of("with_shipped")
        found += [replace(placed, place=place) for placed in shipped if _shape(placed.route) not in first_lines]
    document.close()
    return tuple(found)


def _shape(route: Route) -> tuple[str, str]:
    return route.method, _PARAMETER.sub(lambda found: "{*}" if found[1].endswith("*") else "{}", route.path)


def _read_route(item: Section, known_dialects: Mapping[str, DialectTraits]) -> Route | None:
    stated = _StatedObjects.of(item)
    values = read_declared(item, ROUTE_FIELDS)
    method, path, weight, fee_nano_usd = values["method"], values["path"], values["weight"], values["fee_usd"]

    def known_dialect(name: str) -> str:
        if name not in known_dialects:
            raise ValueError(f"{show(name)} is not a dialect{nearest(name, known_dialects)}")
        return name

    dialect = item.parsed("dialect", known_dialect)
    if weight == 0 and dialect is not None and known_dialects[dialect].is_billed:
        item.place_of("weight").problem(f"must be at least 1: what {dialect} meters costs, and a spend limit has to stop it")
    speaks_frames = dialect is not None and known_dialects[dialect].speaks_frames
    if method == WEBSOCKET and not speaks_frames:
        framed = ", ".join(name for name, traits in known_dialects.items() if traits.speaks_frames)
        item.place_of("method").problem(f"needs a dialect that is spoken over a WebSocket: {framed}")
    elif method and method != WEBSOCKET and speaks_frames:
        item.place_of("method").problem(f"must be {WEBSOCKET}: {dialect} is spoken over nothing else")
    if weight == 0 and fee_nano_usd:
        item.place_of("weight").problem("must be at least 1: the route has a fee, and a spend limit has to stop it")
    if values["markup_percent"] is not None and dialect is None:
        item.place_of("markup_percent").problem("is of no use: a route without a dialect is not metered")
    if not method or not path or not values["capability"]:
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
        capability=values["capability"],
        dialect=dialect,
        upstream=values["upstream"],
        enabled=values["enabled"],
        weight=weight,
        fee_nano_usd=fee_nano_usd,
        markup=values["markup_percent"],
        query=frozenset(values["query"]),
        headers=frozenset(name.lower().encode() for name in values["headers"]),
        objects=objects,
    )


def _fee(text: str) -> int:
    fee_nano_usd = nano_usd_from_usd(text)
    if fee_nano_usd > FEE_MAX_NANO_USD:
        raise ValueError(f"must be at most {usd_text(FEE_MAX_NANO_USD)} USD, got {show(text)}")
    return fee_nano_usd


def _query_name(text: str) -> str:
    if _QUERY_NAME.fullmatch(text) is None:
        raise ValueError(f"must be a name such as X-Own or api-version, got {show(text)}")
    return text


def _header_name(text: str) -> str:
    if _HEADER_NAME.fullmatch(text) is None:
        raise ValueError(f"must be a name such as X-Own or api-version, got {show(text)}")
    if text.lower() in _OURS or text.lower().startswith(_OURS_PREFIXES):
        raise ValueError(f"names a header that never passes: {show(text)}")
    return text


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
            for name in tuple(section.keys()):
                names[name] = section.parsed(name, OBJECT_KIND.parse) or ""
            section.close()
        return cls(
            makes=read_field(item, MAKES),
            lists=read_field(item, LISTS),
            names=names,
            deletes=read_field(item, DELETES),
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


OBJECT_KIND: Final = Parsed(
    "The kind of the object that the parameter names.", parse=_kind, pattern=f"^{_KIND.pattern}$", example="file"
)
MAKES: Final = declare("makes", replace(OBJECT_KIND, help="The kind of stored object that its answers name as created."), None)
LISTS: Final = declare("lists", replace(OBJECT_KIND, help="The kind of stored object that its answers list."), None)
DELETES: Final = declare("deletes", Flag("Whether the object that the path names is gone after it."), None)
WITH_SHIPPED: Final = declare("with_shipped", Flag("Serve the shipped routes too; these take precedence."), default=False)
ROUTE_FIELDS: Final = (
    declare("method", Choice("Of HTTP, or WEBSOCKET.", words={method: method for method in METHODS}), is_required=True),
    declare(
        "path",
        Parsed(
            "A path with {parameters}; a last one with a star matches slashes.",
            parse=_path,
            pattern=rf"^(?!{RESERVED_PATH}(?:/|$))(?:/(?!\.{{1,2}}(?:/|$))[A-Za-z0-9._~:@{{}}*-]+)+$",
            example="/v1/chat/completions",
        ),
        is_required=True,
    ),
    declare("capability", Identifier("The capability that plans and credentials grant."), is_required=True),
    declare("upstream", Identifier("A server of upstreams.yaml."), "default"),
    declare("enabled", Flag("Serve it, or refuse its requests."), default=True),
    declare("weight", WholeNumber("The number of requests that one counts as, against limits of requests.", 0, WEIGHT_MAX), 1),
    declare("fee_usd", Decimal("What one request costs, beside its tokens.", parse=_fee), 0),
    declare(
        "markup_percent", Decimal("What the upstream bills above its list prices; else the upstream's own.", parse=percent), None
    ),
    declare(
        "query",
        Words(
            "Further query parameters that pass.",
            parse=_query_name,
            items_max=PASSING_MAX,
            empty="",
            pattern=f"^{_QUERY_NAME.pattern}$",
        ),
        (),
    ),
    declare(
        "headers",
        Words(
            "Further request headers that pass.",
            parse=_header_name,
            items_max=PASSING_MAX,
            empty="",
            pattern=f"^{_HEADER_NAME.pattern}$",
        ),
        (),
    ),
)
