"""What configuration files come to."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tallygate.config.document import FILE_BYTES_MAX
from tallygate.config.load import ConfigSource, load_config
from tallygate.config.model import AuthKind, OnDisconnect, Upstream
from tallygate.config.problems import PROBLEMS_MAX
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.domain.billing import PeriodKind
from tallygate.domain.declared import Chosen
from tallygate.domain.errors import ConfigError
from tallygate.domain.organization import Organization, Plan, UnknownModelPolicy
from tallygate.domain.rate_limit import LimitScope, Quantity, RateLimit
from tallygate.domain.spend_limit import SpendLimit
from tallygate.gateway.routes import RouteTable

DIALECTS = dialects()

DAY_MS = 86_400_000


def names(limits):
    return [limit.name for limit in limits]


def an_org(body="", plan="pay_as_you_go"):
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"organizations:\n  - id: acme\n    plan: {plan}\n{lines}"


def a_digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def problems_of(load, **files) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(**files)
    return caught.value.problems


def test_the_shipped_plans_are_those_of_the_product(load) -> None:
    plans = load().plans
    month = SpendLimit(
        name="spend_month",
        limit_nano_usd=800 * 10**9,
        window_ms=0,
        warn_at_permille=(500, 800, 950),
    )
    assert plans == {
        "free": Plan(id="free", api_access=False),
        "pro": replace(plans["pay_as_you_go"], id="pro", capabilities=None, spend_limits=(month,), billing=PeriodKind.MONTH),
        "pay_as_you_go": Plan(
            id="pay_as_you_go",
            capabilities=frozenset(
                {"audio", "batches", "chat", "completions", "embeddings", "files", "images", "models", "moderations"}
                | {"assistants", "containers", "evals", "fine_tuning", "rerank", "vector_stores", "videos"}
            ),
            rate_limits=(
                RateLimit(name="requests_per_1m", quantity=Quantity.REQUESTS, capacity=60, refill_units=60, window_ms=60_000),
                RateLimit(
                    name="requests_per_1h", quantity=Quantity.REQUESTS, capacity=1000, refill_units=1000, window_ms=3_600_000
                ),
                RateLimit(name="tokens_per_1m", quantity=Quantity.TOKENS, capacity=100_000, refill_units=100_000, window_ms=60_000),
                RateLimit(
                    name="open_requests",
                    quantity=Quantity.OPEN_REQUESTS,
                    capacity=50,
                    refill_units=0,
                    window_ms=0,
                    scope=LimitScope.CREDENTIAL,
                ),
            ),
            spend_limits=(SpendLimit(name="spend_7d", limit_nano_usd=100 * 10**9, warn_at_permille=(500, 800, 950)),),
            history_days=90,
            billing=PeriodKind.WEEK,
        ),
        "enterprise": Plan(
            id="enterprise",
            rate_limits=(
                RateLimit(name="requests_per_1m", quantity=Quantity.REQUESTS, capacity=6000, refill_units=6000, window_ms=60_000),
                RateLimit(
                    name="tokens_per_1m",
                    quantity=Quantity.TOKENS,
                    capacity=10_000_000,
                    refill_units=10_000_000,
                    window_ms=60_000,
                ),
            ),
            export=True,
            billing=PeriodKind.MONTH,
        ),
    }


def test_the_example_organizations_load_with_the_shipped_plans(load) -> None:
    config = load(organizations=(shipped_directory() / "organizations.example.yaml").read_text())

    acme, globex = config.organizations
    assert (acme.id, acme.time_zone, names(acme.plan.spend_limits)) == ("acme", "America/New_York", ["spend_7d"])
    assert acme.plan.spend_limits[0].limit_nano_usd == 25 * 10**9
    assert names(globex.plan.spend_limits) == ["spend_month", "spend_7d"]
    assert names(globex.plan.rate_limits) == ["requests_per_1m", "tokens_per_1m"]
    assert globex.plan.rate_limits[0].capacity == 20_000


def test_organizations_are_never_taken_from_the_shipped_directory(load, tmp_path: Path, source: ConfigSource) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    for file in shipped_directory().glob("*.yaml"):
        (shipped / file.name.replace(".example", "")).write_text(file.read_text())

    config = load_config(
        None, shipped_dir=shipped, known_dialects=source.known_dialects, environ={}, default_url="https://up.example.com"
    )

    assert config.organizations == ()


def test_a_missing_file_is_taken_from_the_shipped_set(load) -> None:
    config = load(plans="plans:\n  only: {}\n")

    assert list(config.plans) == ["only"]
    assert len(config.routes) > 50


def test_the_shipped_routes_serve_every_dialect_and_make_a_route_table(load) -> None:
    config = load()
    routes = {(route.method, route.path): route for route in config.routes}

    assert {route.dialect for route in config.routes} == {None, *DIALECTS}
    RouteTable(config.routes, {"default": ""})
    assert routes["POST", "/v1/chat/completions"].dialect == "openai_chat"
    assert routes["POST", "/v1/messages"].dialect == "anthropic_messages"
    assert routes["POST", "/v1beta/models/{model*}:streamGenerateContent"].dialect == "gemini_stream_generate"
    assert routes["POST", "/ai/v2/chat/completions/grounded"].dialect == "gloo_grounded_chat"
    assert routes["POST", "/ai/data/v1/search"].capability == "search"
    assert routes["POST", "/ingestion/v2/files"].dialect is None
    assert ("POST", "/oauth2/token") not in routes


@pytest.mark.parametrize("dialect", ["chat", "responses", "messages", "embed", "generate"])
def test_no_generating_endpoint_of_the_shipped_table_is_unmetered_by_mistake(load, dialect: str) -> None:
    """Paths whose last word says that a model answers have a dialect, but for reading and managing what is stored."""
    endings = {
        "chat": "/chat/completions",
        "responses": "/responses",
        "messages": "/messages",
        "embed": "embeddings",
        "generate": "enerateContent",
    }
    found = [route for route in load().routes if route.method == "POST" and route.path.endswith(endings[dialect])]

    assert found
    assert [route.path for route in found if route.dialect is None and route.enabled] == []


def test_the_default_upstream_passes_keys_through_unless_the_settings_hold_one(source: ConfigSource) -> None:
    without = source.load().upstreams["default"]
    with_key = load_config(
        None,
        shipped_dir=source.shipped_dir,
        known_dialects=source.known_dialects,
        environ={},
        default_url="https://up.example.com/",
        default_api_key="sk-upstream",
    ).upstreams["default"]

    assert without == Upstream(name="default", base_url="https://up.example.com")
    assert (with_key.auth.kind, with_key.auth.secret, with_key.base_url) == (
        AuthKind.BEARER,
        "sk-upstream",
        "https://up.example.com",
    )
    assert "sk-upstream" not in repr(with_key)


def test_without_an_upstream_url_the_problem_says_what_to_set(source: ConfigSource) -> None:
    (problem,) = replace(source, directory=None, default_url="", environ={}).problems()

    assert problem.startswith("upstreams.yaml:")
    assert problem.endswith("upstreams.default has no base_url: set TALLYGATE_UPSTREAM_URL or write a base_url")


def test_an_upstream_with_everything(load, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file\n")
    config = load(
        upstreams=f"""
upstreams:
  default:
    base_url: https://platform.example.com/prefix/
    auth: {{kind: oauth2_client_credentials, token_url: https://login.example.com/oauth2/token, client_id_env: A_SECRET,
            secret_file: {tmp_path / "secret"}, scope: api/access}}
    ask_usage: false
    on_disconnect: drain
    connect_timeout: 2s
    first_byte_timeout: 100s
    idle_timeout: 1m
    pool_max: 7
    pool_idle: 500ms
    drain_timeout: 30s
    grace: 2s
    drain_max: 3
    drain_org_max: 2
    drain_bytes: 1000
    drain_org_bytes: 500
    catalogue_path: /platform/v2/models
    catalogue_ttl: 5m
"""
    )
    upstream = config.upstreams["default"]

    assert (upstream.base_url, upstream.ask_usage, upstream.on_disconnect) == (
        "https://platform.example.com/prefix",
        False,
        OnDisconnect.DRAIN,
    )
    assert (upstream.auth.client_id, upstream.auth.secret, upstream.auth.scope) == ("s3cret", "from-file", "api/access")
    assert (upstream.connect_ms, upstream.first_byte_ms, upstream.idle_ms, upstream.pool_idle_ms) == (2_000, 100_000, 60_000, 500)
    assert (upstream.pool_max, upstream.grace_ms, upstream.drain_ms) == (7, 2_000, 30_000)
    assert (upstream.drain_max, upstream.drain_org_max, upstream.drain_bytes, upstream.drain_org_bytes) == (3, 2, 1_000, 500)
    assert (upstream.catalogue_path, upstream.catalogue_ttl_ms) == ("/platform/v2/models", 300_000)
    assert "from-file" not in repr(config)


def test_limits_that_share_a_name_are_told_apart_by_capability_and_then_by_credential(load) -> None:
    plan = """
plans:
  p:
    rate_limits:
      - {requests: 60, window: 1m}
      - {requests: 10, window: 1m, per: credential}
      - {requests: 30, window: 60s, capability: chat}
      - {requests: 5, window: 1m, capability: chat, per: credential}
      - {tokens: 100, window: 90s, capability: chat}
      - {open_requests: 5}
"""
    assert names(load(plans=plan).plans["p"].rate_limits) == [
        "requests_per_1m",
        "requests_per_1m:credential",
        "requests_per_1m:chat",
        "requests_per_1m:chat:credential",
        "tokens_per_90s",
        "open_requests",
    ]


def test_a_spend_limits_name_does_not_depend_on_other_limits_since_it_keys_the_window(load) -> None:
    plan = "plans:\n  p:\n    spend_limits: [{usd: '5', per: credential}, {usd: '9', window: month, per: credential}]\n"
    both = "plans:\n  p:\n    spend_limits: [{usd: '5', per: credential}, {usd: '50'}]\n"

    assert names(load(plans=plan).plans["p"].spend_limits) == ["spend_7d:credential", "spend_month:credential"]
    assert names(load(plans=both).plans["p"].spend_limits) == ["spend_7d:credential", "spend_7d"]


def test_a_plan_with_every_option(load) -> None:
    plan = load(
        plans="""
plans:
  p:
    rate_limits: [{tokens: 1000, window: 1h, burst: 50, shadow: true, capability: embeddings}]
    spend_limits:
      - {usd: "0.5", window: 1d, warn_at: [0.125, 1.0]}
      - {usd: "100", window: month, shadow: true}
    history: unlimited
    export: true
    default_output_tokens: 77
    unknown_input_tokens: 0
    clamp: true
    unknown_model: {price_as: gpt-4o}
"""
    ).plans["p"]

    assert plan.rate_limits == (
        RateLimit(
            name="tokens_per_1h",
            quantity=Quantity.TOKENS,
            capacity=50,
            refill_units=1000,
            window_ms=3_600_000,
            capability="embeddings",
            shadow=True,
        ),
    )
    assert plan.spend_limits == (
        SpendLimit(name="spend_1d", limit_nano_usd=500_000_000, window_ms=DAY_MS, warn_at_permille=(125, 1000)),
        SpendLimit(name="spend_month", limit_nano_usd=100 * 10**9, window_ms=0, shadow=True),
    )
    assert (plan.history_days, plan.export, plan.default_output_tokens, plan.unknown_input_tokens, plan.clamp) == (
        None,
        True,
        77,
        0,
        True,
    )
    assert plan.unknown_model == Chosen(UnknownModelPolicy.PRICE_AS, "gpt-4o")


def test_an_organization_may_set_its_limit_to_the_plans_maximum_and_no_nano_dollar_more(load) -> None:
    at = load(organizations=an_org('spend_limit: {usd: "100"}')).organizations[0]
    assert at.plan.spend_limits[0].limit_nano_usd == 100 * 10**9
    (problem,) = problems_of(load, organizations=an_org('spend_limit: {usd: "100.000000001"}'))
    assert "may only tighten" in problem


def test_an_organization_may_raise_a_limit_up_to_max_usd_where_the_plan_lets_it(load) -> None:
    plans = 'plans:\n  p:\n    spend_limit: {usd: "10", max_usd: "50"}\n'
    raised = load(plans=plans, organizations=an_org('spend_limit: {usd: "50"}', plan="p")).organizations[0]
    assert raised.plan.spend_limits[0].limit_nano_usd == 50 * 10**9
    assert load(plans=plans, organizations=an_org(plan="p")).organizations[0].plan.spend_limits[0].limit_nano_usd == 10 * 10**9


@pytest.mark.parametrize("window", ["7d", "1d", "month"])
@pytest.mark.parametrize("scope", ["organization", "credential"])
@pytest.mark.parametrize("form", ["spend_limit: {}", "spend_limits: [{}]"])
def test_each_limit_of_a_plan_has_a_maximum_of_its_own(load, window, scope, form) -> None:
    """Of any window, whether one is written or a list: up to it, and no nano-dollar more."""
    plans = (
        "plans:\n  p:\n    spend_limits:\n"
        f'      - {{usd: "10", max_usd: "50", window: {window}, per: {scope}}}\n      - {{usd: "7", window: 3d}}\n'
    )

    def own(usd):
        limit = f'{{usd: "{usd}", window: {window}, per: {scope}}}'
        return an_org(form.replace("{}", limit), plan="p")

    limits = load(plans=plans, organizations=own("50")).organizations[0].plan.spend_limits
    assert [limit.limit_nano_usd for limit in limits] == [50 * 10**9, 7 * 10**9]
    (problem,) = problems_of(load, plans=plans, organizations=own("50.000000001"))
    place = "spend_limit" if form.startswith("spend_limit:") else "spend_limits[0]"
    assert (
        problem
        == f"organizations.yaml:4: organizations[0].{place} may only tighten the plan's maximum of 50.00 USD, got 50.000000001"
    )


def test_a_maximum_that_is_lowered_below_an_organizations_limit_in_a_file_is_a_problem(load) -> None:
    plans = 'plans:\n  p:\n    spend_limit: {usd: "10", max_usd: "%s"}\n'
    organizations = an_org('spend_limit: {usd: "50"}', plan="p")
    assert load(plans=plans % "50", organizations=organizations).organizations[0].plan.lowered == ()
    (problem,) = problems_of(load, plans=plans % "40", organizations=organizations)
    assert "may only tighten the plan's maximum of 40.00 USD, got 50.00" in problem


def test_shipped_plans_have_the_limits_and_documents_of_gloos(load) -> None:
    """docs.gloo.com/studio/billing: $100 a week and weekly by card, $800 a month and monthly, and invoices by the month."""
    plans = load().plans
    found = {
        plan.id: ([(limit.name, limit.limit_nano_usd // 10**9) for limit in plan.spend_limits], plan.billing)
        for plan in plans.values()
    }
    assert found == {
        "free": ([], None),
        "pay_as_you_go": ([("spend_7d", 100)], PeriodKind.WEEK),
        "pro": ([("spend_month", 800)], PeriodKind.MONTH),
        "enterprise": ([], PeriodKind.MONTH),
    }
    for usd in ("0.01", "800"):
        load(organizations=an_org(f'spend_limit: {{usd: "{usd}", window: month}}', plan="pro"))
    assert problems_of(load, organizations=an_org('spend_limit: {usd: "800.01", window: month}', plan="pro"))


@pytest.mark.parametrize("day", [1, 15, 28, 29, 30, 31])
def test_an_organization_has_a_billing_day(load, day) -> None:
    assert load(organizations=an_org(f"billing_day: {day}")).organizations[0].billing_day == day
    assert load(organizations=an_org()).organizations[0].billing_day == 1


def test_an_organizations_limit_keeps_the_plans_warnings_unless_it_names_its_own(load) -> None:
    kept = load(organizations=an_org('spend_limit: {usd: "10"}')).organizations[0].plan
    own = load(organizations=an_org('spend_limit: {usd: "10", warn_at: [0.9]}')).organizations[0].plan

    assert kept.spend_limits[0].warn_at_permille == (500, 800, 950)
    assert own.spend_limits[0].warn_at_permille == (900,)


def test_a_limit_on_something_else_is_added_to_the_plans(load) -> None:
    body = 'spend_limit: {usd: "300", window: month}\nrate_limits: [{requests: 5, window: 1m}, {requests: 2, window: 1s}]'
    plan = load(organizations=an_org(body)).organizations[0].plan

    assert names(plan.spend_limits) == ["spend_7d", "spend_month"]
    assert {limit.name: limit.capacity for limit in plan.rate_limits} == {
        "requests_per_1m": 5,
        "requests_per_1h": 1000,
        "tokens_per_1m": 100_000,
        "open_requests": 50,
        "requests_per_1s": 2,
    }


def test_a_credential_carries_its_own_limits_beside_the_plans(load) -> None:
    body = f"""credentials:
  - id: prod
    key_sha256: {a_digest("one")}
    rate_limits: [{{requests: 5, window: 1m}}, {{requests: 5, window: 2m}}]
    spend_limit: {{usd: "1"}}
    capabilities: [chat]
    models: [gpt-4o, claude-*]
    expires: 2027-01-01
    enabled: false
    environment: staging"""
    organization: Organization = load(organizations=an_org(body)).organizations[0]
    (credential,) = organization.credentials

    assert names(credential.rate_limits) == ["requests_per_1m:own", "requests_per_2m"]
    assert {limit.scope for limit in (*credential.rate_limits, *credential.spend_limits)} == {LimitScope.CREDENTIAL}
    assert names(credential.spend_limits) == ["spend_7d:own"]
    assert (credential.org, credential.key_sha256.hex()) == ("acme", a_digest("one"))
    assert (credential.capabilities, credential.models) == (frozenset({"chat"}), ("gpt-4o", "claude-*"))
    assert (credential.enabled, credential.environment, credential.expires_at_ms) == (False, "staging", 1_798_761_600_000)


def test_omitted_capabilities_allow_all_and_an_empty_list_allows_none(load) -> None:
    body = "credentials:\n" + "".join(
        f"  - {{id: {name}, key_sha256: {a_digest(name)}{more}}}\n" for name, more in (("all", ""), ("none", ", capabilities: []"))
    )
    everything, nothing = load(organizations=an_org(body)).organizations[0].credentials

    assert everything.capabilities is None
    assert nothing.capabilities == frozenset()


def test_all_problems_of_all_files_are_told_at_once(load) -> None:
    problems = problems_of(
        load,
        plans="plans:\n  p: {exprt: true, clamp: 1}\n",
        routes="routes:\n  - {method: GET, path: x, capability: chat}\n",
        organizations="organizations:\n  - {id: acme, plan: q}\n",
    )

    assert [problem.partition(" ")[0] for problem in problems] == [
        "routes.yaml:2:",
        "plans.yaml:2:",
        "plans.yaml:2:",
        "organizations.yaml:2:",
    ]


def test_a_flood_of_problems_is_cut_and_counted(load) -> None:
    problems = problems_of(load, prices="prices:\n" + "  - {}\n" * 1000)

    assert len(problems) == PROBLEMS_MAX + 1
    assert problems[-1] == f"and {3 * 1000 - PROBLEMS_MAX} more"


def test_a_file_that_is_too_large_is_not_parsed(load, tmp_path: Path) -> None:
    with (tmp_path / "plans.yaml").open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)  # sparse

    assert problems_of(load) == (f"plans.yaml:1: is larger than {FILE_BYTES_MAX} bytes",)


def test_bytes_that_are_not_text_are_a_problem_not_a_crash(load, tmp_path: Path) -> None:
    for data in (b"\xff\xfe\x00", b"plans: \x00", b"\xc3\x28", b"a: !!python/object/apply:os.system [x]", b"? [a]\n: b"):
        (tmp_path / "plans.yaml").write_bytes(data)
        assert problems_of(load)[0].startswith("plans.yaml:1: ")


def test_a_pipe_in_place_of_a_file_is_a_problem_and_not_waited_for(load, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plans.yaml")
    assert problems_of(load) == (f"plans.yaml:1: cannot be read from {tmp_path}: it is no regular file",)


def test_a_directory_that_is_not_there_is_a_problem(source: ConfigSource, tmp_path: Path) -> None:
    (problem,) = replace(source, directory=tmp_path / "nowhere").problems()
    assert problem.endswith("is not a directory")


def test_aliases_may_share_limits_between_plans(load) -> None:
    plans = load(plans="plans:\n  a: {rate_limits: &shared [{requests: 1, window: 1m}]}\n  b: {rate_limits: *shared}\n").plans

    assert plans["a"].rate_limits == plans["b"].rate_limits


def test_the_version_changes_with_any_byte_and_only_then(load) -> None:
    first, again = load().version, load().version
    changed = load(plans=(shipped_directory() / "plans.yaml").read_text() + "#\n").version

    assert first == again
    assert first != changed


def test_the_shipped_tables_are_read_once_and_their_problems_are_each_configurations_own(load, source: ConfigSource) -> None:
    assert load().prices is load().prices
    for _ in range(2):
        with pytest.raises(ConfigError) as refused:
            load(upstreams="upstreams: [{name: other, base_url: 'https://up.example.com'}]\n")
        assert any(problem.startswith("routes.yaml:") and "unknown upstream" in problem for problem in refused.value.problems)
