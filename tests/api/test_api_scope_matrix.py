"""Every endpoint under every scope: a token sees its organizations and no trace of the others."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from api_values import ACME, ENTERPRISE, NOW_MS, TOKENS, a_refusal, an_entry
from api_world import World, served
from new_ledger import new_ledger
from notice_values import a_notice

ORGS = ("acme", "globex", "initech")
START = NOW_MS // 1000 - 86_400
ONE_ORG_ONLY = ("/api/spend", "/api/limits")
# path, what it needs besides, the parameter that names an organization, the one that names a credential
ENDPOINTS = [
    (
        "/v1/organization/usage/completions",
        {"start_time": START, "group_by": ["project_id", "api_key_id"]},
        "project_ids",
        "api_key_ids",
    ),
    (
        "/v1/organization/usage/completions",
        {"start_time": START, "group_by": ["project_id", "api_key_id"], "bucket_width": "1m", "limit": 1440},
        "project_ids",
        "api_key_ids",
    ),
    *(
        (
            f"/v1/organization/usage/{kind}",
            {"start_time": START, "group_by": ["project_id", "api_key_id"]},
            "project_ids",
            "api_key_ids",
        )
        for kind in ("embeddings", "moderations")
    ),
    ("/v1/organization/costs", {"start_time": START, "group_by": ["project_id", "api_key_id"]}, "project_ids", "api_key_ids"),
    ("/api/usage", {"group_by": ["org", "credential"]}, "org", "credential"),
    ("/api/usage", {"group_by": ["org", "credential"], "top": 5, "compare": "previous"}, "org", "credential"),
    ("/api/usage/values", {}, "org", "credential"),
    ("/api/events", {}, "org", "credential"),
    ("/api/refusals", {}, "org", "credential"),
    ("/api/notices", {}, "org", None),
    ("/api/spend", {}, "org", "credential"),
    ("/api/limits", {}, "org", "credential"),
    ("/api/credentials", {}, "org", None),
    ("/api/prices", {}, None, None),
    ("/api/capabilities", {}, None, None),
    ("/api/plans", {}, None, None),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A ledger with something of every organization; filled once, since that takes longer than what it is asked."""
    folder = tmp_path_factory.mktemp("filled")
    database = await new_ledger(folder)
    world = World(database)
    await world.keep(*ORGS)
    await world.record([an_entry(number, org=org) for number, org in enumerate(ORGS)])
    for first, capability in ((100, "embeddings"), (200, "moderations")):
        await world.record([an_entry(number, org=org, capability=capability) for number, org in enumerate(ORGS, first)])
    await world.note_refused([a_refusal(number, org=org) for number, org in enumerate(ORGS)])
    await world.notify([a_notice(number, org=org, at_ms=NOW_MS - 1_000 + number) for number, org in enumerate(ORGS)])
    await database.close()
    return (folder / "ledger.db").read_bytes()


@pytest.fixture
async def filled(filled_file: bytes, tmp_path: Path) -> AsyncIterator[World]:
    """Of this test alone: it may change what it likes."""
    async with filled_world(filled_file, tmp_path) as world:
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown(filled_file: bytes, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The same for tests that only read, on the module's loop."""
    async with filled_world(filled_file, tmp_path_factory.mktemp("shown")) as world:
        yield world


@asynccontextmanager
async def filled_world(file: bytes, folder: Path) -> AsyncIterator[World]:
    (folder / "ledger.db").write_bytes(file)
    database = await new_ledger(folder)
    async with served(database) as world:
        yield world
    await database.close()


def visible(token: str) -> set[str]:
    return {org for org in ORGS if TOKENS[token].sees(org)}


def traces(body: object) -> set[str]:
    """Organizations of which anything is to be seen in an answer: ids, names, credentials."""
    text = json.dumps(body).lower()
    return {org for org in ORGS if org in text}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(("path", "needs", "org_name", "credential_name"), ENDPOINTS)
async def test_without_a_filter_exactly_the_scope_is_shown(shown: World, path, needs, org_name, credential_name, token) -> None:
    status, body = await shown.get(path, token=token, **needs)

    if path in ONE_ORG_ONLY and len(visible(token)) != 1:
        assert (status, body["error"]["param"]) == (400, "org")
        assert traces(body) == set()
        return
    assert status == 200, body
    assert traces(body) == (set() if org_name is None else visible(token))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(("path", "needs", "org_name", "credential_name"), [line for line in ENDPOINTS if line[2]])
@pytest.mark.parametrize("org", ORGS)
async def test_an_organization_can_be_named_only_within_the_scope(
    shown: World, path, needs, org_name, credential_name, token, org
) -> None:
    status, body = await shown.get(path, token=token, **needs, **{org_name: org})

    if org in visible(token):
        assert status == 200, body
        assert traces(body) == {org}
    else:
        unknown = await shown.get(path, token=token, **needs, **{org_name: "never-existed"})
        assert (status, body) == unknown  # foreign and unknown are told apart by nothing
        assert (status, body["error"]["param"]) == (404, org_name)


# Spend is of one organization: only a token that sees just one can name a credential without it.
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("path", "needs", "credential_name", "token"),
    [
        (line[0], line[1], line[3], token)
        for line in ENDPOINTS
        if line[3]
        for token in TOKENS
        if line[0] not in ONE_ORG_ONLY or token == "one"
    ],
)
@pytest.mark.parametrize("org", ORGS)
async def test_a_credential_can_be_named_only_within_the_scope(shown: World, path, needs, credential_name, token, org) -> None:
    status, body = await shown.get(path, token=token, **needs, **{credential_name: f"{org}-prod"})

    if org in visible(token):
        assert status == 200, body
        assert traces(body) == {org}
    else:
        unknown = await shown.get(path, token=token, **needs, **{credential_name: "never-existed"})
        assert (status, body) == unknown
        assert (status, body["error"]["param"]) == (404, credential_name)


@pytest.mark.parametrize("path", ["/api/usage", "/api/events", "/api/refusals", "/api/notices", "/api/credentials"])
async def test_a_cursor_of_another_token_shows_nothing_more(filled: World, path: str) -> None:
    await filled.record([an_entry(number, org=org, settled_at_ms=NOW_MS - 200_000_000) for number, org in enumerate(ORGS, 10)])
    cursor = (await filled.ok(path, limit=1))["next_cursor"]

    status, body = await filled.get(path, token="one", cursor=cursor, limit=1000)
    assert status == 200
    assert traces(body) <= {"acme"}


async def test_an_organization_that_is_gone_is_shown_to_who_names_it_and_may_see_all(filled: World) -> None:
    del filled.organizations["acme"]

    assert traces(await filled.ok("/api/usage", group_by="org")) == {"globex", "initech"}
    assert (await filled.ok("/api/usage", org="acme"))["retired"] == ["acme"]
    assert (await filled.get("/api/usage", org="acme", token="one"))[0] == 404
    assert traces(await filled.ok("/api/usage", group_by="org", token="one")) == set()


async def test_a_scope_that_changes_counts_at_once(filled: World) -> None:
    assert traces(await filled.ok("/api/usage", group_by="org", token="one")) == {ACME.id}
    filled.tokens.known["one"] = TOKENS["gone"]
    assert traces(await filled.ok("/api/usage", group_by="org", token="one")) == set()


_ONE = "/api/organizations/{org}"
_CREDENTIAL = _ONE + "/credentials/{credential}"
# method, path, body: of one organization, which the path names
OF_ONE = [
    ("GET", _ONE, None),
    ("PATCH", _ONE, {"name": "Renamed"}),
    ("DELETE", _ONE, None),
    ("GET", _ONE + "/credentials", None),
    ("POST", _ONE + "/credentials", {"id": "another"}),
    ("GET", _CREDENTIAL, None),
    ("PATCH", _CREDENTIAL, {"name": "Renamed"}),
    ("POST", _CREDENTIAL + "/rotate", {}),
    ("POST", _CREDENTIAL + "/revoke", {}),
    ("GET", _ONE + "/objects", None),
    ("POST", _ONE + "/objects/adopt", {"kind": "file", "ids": ["file-1"]}),
    ("POST", _ONE + "/objects/forget", {"kind": "file", "ids": ["file-1"]}),
    ("GET", "/api/invoices/{org}/{month}", None),
    ("GET", "/api/statements/{org}/{week}", None),
    ("GET", "/v1/organization/projects/{project_id}", None),
]
# the platform's alone
PLATFORM = [
    ("POST", "/api/organizations", {"id": "made", "plan": "enterprise"}),
    ("GET", "/api/retired-organizations", None),
    ("GET", "/api/tokens", None),
    ("POST", "/api/tokens", {"name": "made", "access": "read"}),
    ("POST", "/api/tokens/{token}/revoke", None),
    ("POST", "/api/client-ids/{credential}/release", None),
    ("POST", "/api/apply", {"organizations": [{"id": "made", "plan": "enterprise"}]}),
]
# of all that are visible
LISTS = ["/api/organizations", "/api/audit", "/v1/organization/projects"]
EXPORT = "/api/export"


def named(path: str, org: str) -> str:
    return path.format(org=org, project_id=org, credential=f"{org}-prod", month="2026-08", week="2026-W32", token="none")


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(("method", "path", "body"), OF_ONE)
async def test_a_path_leads_nowhere_beyond_the_scope(filled: World, method, path, body, token) -> None:
    unknown = await filled.call(method, named(path, "never-existed"), body, token=token)
    for org in ORGS:
        status, answer = await filled.call(
            method, named(path, org), body | {"id": f"{org}-new"} if body and "id" in body else body, token=token
        )
        if org in visible(token):
            assert status in {200, 201, 403}, answer
            assert traces(answer) <= {org}
        else:
            assert (status, answer) == unknown
            assert status in {403, 404}, answer
            assert traces(answer) == set()


@pytest.mark.parametrize("token", [token for token in TOKENS if token != "platform"])
@pytest.mark.parametrize(("method", "path", "body"), PLATFORM)
async def test_what_concerns_all_organizations_is_the_platforms(filled: World, method, path, body, token) -> None:
    status, answer = await filled.call(method, named(path, "acme"), body, token=token)

    assert status == 403, answer
    assert traces(answer) == set()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("path", LISTS)
async def test_a_list_has_exactly_the_scope(shown: World, path, token) -> None:
    status, answer = await shown.call("GET", path, token=token)

    assert (status, traces(answer)) == (200, visible(token))


@pytest.mark.parametrize("token", TOKENS)
async def test_an_export_has_exactly_the_scope(filled: World, token) -> None:
    for org in ORGS:
        filled.organizations[org] = replace(filled.organizations[org], plan=ENTERPRISE)

    _, answer = await filled.call("GET", f"{EXPORT}?format=jsonl&from=2026-08-01", token=token)
    assert traces(answer) == visible(token)
    for org in set(ORGS) - visible(token):
        foreign = await filled.call("GET", f"{EXPORT}?format=jsonl&from=2026-08-01&org={org}", token=token)
        assert foreign == await filled.call("GET", f"{EXPORT}?format=jsonl&from=2026-08-01&org=never-existed", token=token)
        assert foreign[0] == 404


async def test_no_endpoint_is_missing_from_the_matrix(world: World) -> None:
    tried = {("GET", path) for path in (*(path for path, *_ in ENDPOINTS), *LISTS, EXPORT)}
    tried |= {(method, path) for method, path, _ in (*OF_ONE, *PLATFORM)}
    tried |= {("GET", "/api/events/{id}")}  # an event names its organization: test_api_event.py
    assert {(route.method, route.path) for route in world.routes if not (route.is_public or route.admits)} == tried


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("token", TOKENS)
async def test_plans_are_those_of_the_scope(shown: World, token) -> None:
    plans = {plan["id"] for plan in (await shown.ok("/api/plans", token=token))["plans"]}
    of_orgs = {org["plan"] for org in (await shown.ok("/api/organizations", token=token))["organizations"]}

    assert of_orgs <= plans
    assert (plans == of_orgs) is (TOKENS[token].orgs is not None), "one for all sees every plan"
