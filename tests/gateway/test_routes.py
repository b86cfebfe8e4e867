"""The route table: only what it holds exists, and nothing of a client's path reaches an upstream unchecked."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import outcome_of, refusal_of
from search import cases

from tallygate.config.model import Route
from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.gateway.request_checks import check_target
from tallygate.gateway.routes import PARAMETER_CHARS_MAX, RouteTable
from tallygate.http1.request_head import build_request_head


def a_route(method: str, path: str, **named) -> Route:
    return Route(method=method, path=path, capability="chat", **named)


CHAT = a_route("POST", "/v1/chat/completions")
MODELS = a_route("GET", "/v1/models")
MODEL = a_route("GET", "/v1/models/{model*}")
DELETE_MODEL = a_route("DELETE", "/v1/models/{name}")
COUNT = a_route("POST", "/v1/responses/input_tokens")
RESPONSE = a_route("GET", "/v1/responses/{response_id}")
ITEMS = a_route("GET", "/v1/responses/{response_id}/input_items", upstream="prefixed")
GENERATE = a_route("POST", "/v1beta/models/{model}:generateContent")
ANY_GEMINI = a_route("POST", "/v1beta/models/{anything}")
ROUTES = (ANY_GEMINI, CHAT, MODELS, MODEL, DELETE_MODEL, COUNT, RESPONSE, ITEMS, GENERATE)


@pytest.fixture(scope="module")
def table() -> RouteTable:
    return RouteTable(ROUTES, {"default": "", "prefixed": "/api/v2"})


@pytest.mark.parametrize(
    ("method", "target", "route", "params"),
    [
        ("POST", "/v1/chat/completions", CHAT, {}),
        ("POST", "/v1/chat/completions?x=/v1/models", CHAT, {}),
        ("GET", "/v1/models", MODELS, {}),
        ("GET", "/v1/models/ft:gpt-4o:acme::7p4", MODEL, {"model": "ft:gpt-4o:acme::7p4"}),
        ("GET", "/v1/models/gpt%2D4o", MODEL, {"model": "gpt-4o"}),
        ("GET", "/v1/models/meta-llama/Llama-3.3-70B", MODEL, {"model": "meta-llama/Llama-3.3-70B"}),
        ("GET", "/v1/models/meta%2Dllama%2FLlama-3.3-70B", MODEL, {"model": "meta-llama%2FLlama-3.3-70B"}),
        ("GET", "/v1/models/@cf/meta%2fllama:free", MODEL, {"model": "@cf/meta%2fllama:free"}),
        ("HEAD", "/v1/models/a/b", MODEL, {"model": "a/b"}),
        ("HEAD", "/v1/models", MODELS, {}),
        ("DELETE", "/v1/models/gpt-4o", DELETE_MODEL, {"name": "gpt-4o"}),
        ("GET", "/v1/responses/input_tokens", RESPONSE, {"response_id": "input_tokens"}),
        ("GET", "/v1/responses/r_1/input_items", ITEMS, {"response_id": "r_1"}),
        ("POST", "/v1beta/models/gemini-2.5-pro:generateContent", GENERATE, {"model": "gemini-2.5-pro"}),
        ("POST", "/v1beta/models/gemini-2.5-pro%3AgenerateContent", GENERATE, {"model": "gemini-2.5-pro"}),
        ("POST", "/v1beta/models/gemini-2.5-pro:other", ANY_GEMINI, {"anything": "gemini-2.5-pro:other"}),
        ("GET", f"/v1/models/{'m' * PARAMETER_CHARS_MAX}", MODEL, {"model": "m" * PARAMETER_CHARS_MAX}),
    ],
)
def test_a_request_finds_its_route_and_parameters(table: RouteTable, method: str, target: str, route: Route, params: dict) -> None:
    assert table.match(method, target) == (route, params)


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/",
            "",
            "/v1",
            "/v1/",
            "/v1/models/",
            "/v1//models",
            "//v1/models",
            "/V1/models",
            "/v1/chat/completions/",
            "/v1/mode%6cs",
        ),
        *("/v1/models/a//b", "/v1/models/a%2f%2fb", "/v1/models/a/%2Fb", "/v1/models/a/", "/v1/models/%2Fa", "/v1/models%2Fa"),
        *("/v1/responses/a/b", "/v1/responses/a%2fb", "/v1/responses/a%2Finput_items", "/v1%2Fmodels", "/v1/models/a%2F"),
        *("/v1/models/.", "/v1/models/..", "/v1/models/%2e%2e", "/v1/models/a%00", f"/v1/models/{'m/' * 101}m"),
        *("/v1/models/a%3fkey=x", "/v1/models/a%23", "/v1/models/a%20b", "/v1/models/%ff", "/v1/models/é", "/v1/models/{model}"),
        *(f"/v1/models/{'m' * (PARAMETER_CHARS_MAX + 1)}", "/v1/responses//input_items", "/a" * 4000, "http://x/v1/models"),
    ],
)
def test_whatever_is_not_in_the_table_is_unknown(table: RouteTable, target: str) -> None:
    found = outcome_of(table.match, "GET", target)
    assert isinstance(found, Refusal)
    assert (found.status, found.code) == (404, ErrorCode.UNKNOWN_ENDPOINT)


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/models/gpt-4o", "DELETE, GET, HEAD"),
        ("PUT", "/v1/responses/input_tokens", "GET, HEAD, POST"),
        ("HEAD", "/v1/chat/completions", "POST"),
        ("get", "/v1/models", "GET, HEAD"),
    ],
)
def test_an_unknown_method_is_told_the_known_ones(table: RouteTable, method: str, target: str, allow: str) -> None:
    found = outcome_of(table.match, method, target)
    assert isinstance(found, Refusal)
    assert (found.status, found.code, found.details) == (405, ErrorCode.METHOD_NOT_ALLOWED, {"allow": allow})


def test_a_parameter_ends_where_its_next_literal_begins() -> None:
    table = RouteTable((GENERATE,), {"default": ""})
    found = outcome_of(table.match, "POST", "/v1beta/models/a:generateContent:generateContent")
    assert isinstance(found, Refusal)


@pytest.mark.parametrize(
    ("route", "params", "query", "target"),
    [
        (CHAT, {}, "", "/v1/chat/completions"),
        (ITEMS, {"response_id": "r_1"}, "limit=2&after=%2f", "/api/v2/v1/responses/r_1/input_items?limit=2&after=%2f"),
        (GENERATE, {"model": "g"}, "alt=sse", "/v1beta/models/g:generateContent?alt=sse"),
    ],
)
def test_a_target_is_the_template_filled_in_and_the_query(table: RouteTable, route, params, query: str, target: str) -> None:
    assert table.target(route, params, query) == target


@pytest.mark.parametrize(
    "path",
    [
        *("v1", "", "/a b", "/a/../b", "/./a", "/a?b", "/{a}{b}", "/{a}/{a}", "/{A}", "/{a", "/a}", "/%2e", "/é", "/{a}/../b"),
        *("/{a*}/b", "/{a*}:x/{b}", "/{a*}:{b}", "/{a**}", "/{*}"),
    ],
)
def test_an_impossible_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="route GET"):
        RouteTable((a_route("GET", path),), {"default": ""})


@pytest.mark.parametrize("other", [a_route("GET", "/v1/models"), a_route("GET", "/v1/models/{other*}")])
def test_a_repeated_route_is_refused(other: Route) -> None:
    with pytest.raises(ValueError, match="repeated"):
        RouteTable((*ROUTES, other), {"default": "", "prefixed": ""})


def test_a_route_to_an_unknown_upstream_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown upstream"):
        RouteTable((a_route("GET", "/x", upstream="nowhere"),), {"default": ""})


HOSTILE = st.lists(
    st.one_of(
        st.sampled_from(
            ["/", "..", ".", "%2e", "%2F", "%5c", "\\", "%00", "%25", ";", ":", "//", "?", "#", "{model}", "\r\n", " "]
        ),
        st.sampled_from(["/v1/models/", "/v1beta/models/", ":generateContent", "/v1/responses/", "/input_items"]),
        st.text(max_size=4),
    ),
    max_size=8,
).map("".join)


@given(HOSTILE, st.sampled_from(["GET", "POST", "DELETE"]))
@settings(max_examples=cases(short=100, steady=500, deep=1_000), deadline=None)
def test_no_checked_target_leaves_its_template(raw: str, method: str) -> None:
    table = RouteTable(ROUTES, {"default": "", "prefixed": "/api/v2"})
    target = "/" + raw
    if refusal_of(check_target, target) is not None:
        return
    found = outcome_of(table.match, method, target)
    if isinstance(found, Refusal):
        return
    route, params = found
    built = table.target(route, params, target.partition("?")[2])
    build_request_head(method, built, "upstream.test", [])  # it can stand in a request
    path = built.partition("?")[0]
    shape = re.sub(r"\{\w+\*\}", "[^/%?#]+(?:(?:/|%2[Ff])[^/%?#]+)*", route.path)
    shape = re.sub(r"\{\w+\}", "[^/%?#]+", shape)
    assert re.fullmatch(("/api/v2" if route is ITEMS else "") + shape, path)
    assert not {".", ".."} & set(re.split("/|%2[Ff]", path))


SLASHED = (
    a_route("POST", "/v1/models/{any*}"),
    a_route("GET", "/v1/responses/{any*}"),
    a_route("POST", "/v1beta/models/{model*}:generateContent"),
    a_route("POST", "/v1beta/models/{model*}:countTokens"),
    a_route("POST", "/v1beta/{any*}"),
    a_route("GET", "/v1/models/{model}/parts"),
    a_route("POST", "/v1/models/{model}:generateContent"),
    a_route("GET", "/v1/responses/{response_id}/input_items"),
    a_route("POST", "/v1beta/models/list"),
)
NAMES = st.lists(
    st.sampled_from(["a", "models", "v1", ":generateContent", "x:countTokens", "input_items", "parts", "list", "b.c", "@d"]),
    min_size=1,
    max_size=5,
)


@given(
    st.sampled_from(["/v1/models/", "/v1/responses/", "/v1beta/models/", "/v1beta/"]),
    NAMES,
    st.lists(st.sampled_from(["/", "%2F", "%2f"]), min_size=4, max_size=4),
    st.sampled_from(["", ":generateContent", ":countTokens", "/input_items", "%2Finput_items", "/parts"]),
    st.sampled_from(["GET", "POST"]),
)
@settings(max_examples=cases(short=100, steady=500, deep=1_000), deadline=None)
def test_slashes_lead_no_request_past_another_route(prefix: str, names: list, slashes: list, end: str, method: str) -> None:
    """However a server reads the slashes of a path that one with a star took, it is that route's."""
    table = RouteTable(SLASHED, {"default": ""})
    target = prefix + "".join(name + slash for name, slash in zip(names, [*slashes[: len(names) - 1], ""], strict=True)) + end
    found = outcome_of(table.match, method, target)
    if isinstance(found, Refusal):
        return
    route, params = found
    assert table.target(route, params, "") == target  # as it came
    if "*" not in route.path:
        return
    ((_, value),) = params.items()
    plain = re.sub(r"\{\w+\*\}", re.sub("/|%2[Ff]", "-", value), route.path)
    for read in (target.replace("%2F", "/").replace("%2f", "/"), plain):
        assert table.match(method, read)[0] is route


def test_a_metered_verb_behind_slashes_is_no_unmetered_routes() -> None:
    table = RouteTable(SLASHED, {"default": ""})
    assert isinstance(outcome_of(table.match, "POST", "/v1/models/a/b:generateContent"), Refusal)
    assert isinstance(outcome_of(table.match, "POST", "/v1/models/a%2Fb:generateContent"), Refusal)
    assert isinstance(outcome_of(table.match, "GET", "/v1/responses/a%2Finput_items"), Refusal)
    assert isinstance(outcome_of(table.match, "POST", "/v1beta/models%2Flist"), Refusal)
