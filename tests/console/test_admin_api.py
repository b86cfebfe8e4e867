"""The admin API over HTTP: what each token may see and change, and the shape of every refusal."""

import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from gateway_harness import TIMEOUTS
from new_ledger import new_ledger

from tallygate.app.console_part import directory_routes
from tallygate.config.load import load_config
from tallygate.config.model import GatewayConfig
from tallygate.config.shipped import shipped_directory
from tallygate.console.api_access import PlatformToken
from tallygate.console.api_body import BODY_BYTES_MAX
from tallygate.console.api_routes import Api
from tallygate.console.directory_access import DirectoryTokens
from tallygate.console.readiness import Readiness
from tallygate.console.scrape import Scrape
from tallygate.console.server import ConsoleServer
from tallygate.dialects.registry import dialects
from tallygate.ledger.database import Database
from tallygate.ledger.directory.book import DirectoryBook, directory_book
from tallygate.ledger.directory.replica import DirectoryReplica
from tallygate.ledger.upkeep import write_last_used
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.last_used import record_last_used

ROOT = "root-token"
NOW = 1_800_000_000_000
_numbers = itertools.count(1)  # the random bytes of all books: no two of them make the same key
IN_FILE = {"id": "filed", "plan": "enterprise", "credentials": [{"id": "filed-prod", "key_sha256": "2c" * 32}]}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> GatewayConfig:
    directory = tmp_path_factory.mktemp("config")
    (directory / "organizations.yaml").write_text(yaml.safe_dump({"organizations": [IN_FILE]}))
    return load_config(
        directory,
        shipped_dir=shipped_directory(),
        known_dialects=dialects().traits,
        environ={},
        default_url="https://up.example",
    )


async def nobody_waits() -> None:
    """Who has a copy of the directory is told nothing here."""


def book_over(database: Database, config: GatewayConfig) -> DirectoryBook:
    return directory_book(
        database,
        lambda: config,
        now_ms=lambda: NOW,
        random_bytes=lambda size: next(_numbers).to_bytes(size),
        on_committed=nobody_waits,
    )


def api_over(book: DirectoryBook) -> web.Application:
    platform = PlatformToken(hashlib.sha256(ROOT.encode()).digest())
    app = web.Application(client_max_size=1024)
    Api(directory_routes(book), DirectoryTokens(platform, book.tokens)).add_to(app)
    return app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled_file(config: GatewayConfig, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A ledger with two organizations, made over HTTP once: that takes longer than most of the tests."""
    folder = tmp_path_factory.mktemp("filled")
    database = await new_ledger(folder)
    async with TestClient(TestServer(api_over(book_over(database, config)))) as client:
        caller = Caller(client)
        for org in ("acme", "big"):
            assert (await caller("POST", "/api/organizations", {"id": org, "plan": "enterprise"}))[0] == 201
            assert (await caller("POST", f"/api/organizations/{org}/credentials", {"id": f"{org}-prod"}))[0] == 201
    await database.close()
    return (folder / "ledger.db").read_bytes()


@pytest.fixture
async def book(tmp_path: Path, config: GatewayConfig, filled_file: bytes) -> AsyncIterator[DirectoryBook]:
    (tmp_path / "ledger.db").write_bytes(filled_file)
    database = await new_ledger(tmp_path)
    yield book_over(database, config)
    await database.close()


class Caller:
    def __init__(self, client: TestClient) -> None:
        self._client = client

    async def __call__(self, method: str, path: str, body: Any = None, *, token: str = ROOT) -> tuple[int, Any]:
        async with self._client.request(method, path, json=body, headers={"Authorization": f"Bearer {token}"}) as answer:
            return answer.status, await answer.json()

    async def raw(self, path: str, data: bytes) -> tuple[int, Any]:
        async with self._client.post(path, data=data, headers={"Authorization": f"Bearer {ROOT}"}) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def call(book: DirectoryBook, aiohttp_client: Callable[..., Awaitable[TestClient]]) -> Caller:
    return Caller(await aiohttp_client(api_over(book)))


async def a_token(call: Caller, **fields: Any) -> str:
    status, made = await call("POST", "/api/tokens", {"name": "t", "access": "write"} | fields)
    assert status == 201, made
    return str(made["token"])


async def test_a_write_answers_with_the_limits_in_effect(call: Caller) -> None:
    status, made = await call(
        "PATCH",
        "/api/organizations/acme",
        {"plan": "pay_as_you_go", "spend_limit": {"usd": "12.5"}, "time_zone": "Asia/Tokyo", "billing_day": 15},
    )

    assert status == 200
    assert (made["time_zone"], made["billing_day"], made["effective"]["lowered"]) == ("Asia/Tokyo", 15, [])
    assert made["effective"]["unknown_model"] == "refuse"
    assert made["effective"]["spend_limits"] == [
        {"name": "spend_7d", "usd": "12.50", "window": "7d", "warn_at": [0.5, 0.8, 0.95], "per": "organization", "shadow": False}
    ]
    assert (await call("GET", "/api/organizations/acme"))[1] == made


async def test_organizations_of_file_and_database_are_listed_in_pages(call: Caller) -> None:
    _, first = await call("GET", "/api/organizations?limit=2")
    _, rest = await call("GET", f"/api/organizations?limit=2&cursor={first['next_cursor']}")

    assert [(item["id"], item["managed_by"]) for item in first["organizations"]] == [("acme", "database"), ("big", "database")]
    assert [(item["id"], item["managed_by"]) for item in rest["organizations"]] == [("filed", "file")]
    assert rest["next_cursor"] is None
    assert (await call("GET", "/api/organizations/filed"))[1]["effective"]["api_access"] is True
    assert (await call("GET", "/api/organizations/filed/credentials"))[1]["credentials"][0]["id"] == "filed-prod"
    assert (await call("GET", "/api/organizations/filed/credentials/filed-prod"))[1]["managed_by"] == "file"


async def test_a_key_is_in_the_answer_that_makes_it_and_in_no_other(call: Caller) -> None:
    _, made = await call("POST", "/api/organizations/acme/credentials", {"id": "new", "capabilities": ["chat"]})
    _, rotated = await call("POST", "/api/organizations/acme/credentials/new/rotate", {"overlap": "2h"})
    assert made["api_key"].startswith("tg_new_")
    assert rotated["api_key"] != made["api_key"]
    assert rotated["old_key_until"] == "2027-01-15T10:00:00Z"

    for path in (
        "/api/organizations/acme/credentials/new",
        "/api/organizations/acme/credentials",
        "/api/audit",
        "/api/organizations",
    ):
        text = repr(await call("GET", path))
        for key in (made["api_key"], rotated["api_key"]):
            assert key.rpartition("_")[2] not in text
    assert (await call("POST", "/api/organizations/acme/credentials/new/revoke"))[1]["status"] == "revoked"
    assert (await call("PATCH", "/api/organizations/acme/credentials/new", {"enabled": True}))[0] == 409


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "param"),
    [
        ("POST", "/api/organizations", {"id": "acme", "plan": "enterprise"}, 409, "conflict", "id"),
        ("POST", "/api/organizations", {"id": "x", "plan": "gold"}, 400, "invalid_request", "plan"),
        ("POST", "/api/organizations", {"id": "x", "plan": "enterprise", "colour": 1}, 400, "invalid_request", "colour"),
        ("PATCH", "/api/organizations/filed", {"name": "x"}, 409, "managed_by_file", "id"),
        ("PATCH", "/api/organizations/acme", {"billing_day": 32}, 400, "invalid_request", "billing_day"),
        (
            "PATCH",
            "/api/organizations/acme",
            {"plan": "pro", "spend_limit": {"usd": "801", "window": "month"}},
            400,
            "invalid_request",
            "spend_limit",
        ),
        ("GET", "/api/organizations/gone", None, 404, "not_found", None),
        ("GET", "/api/organizations?colour=red", None, 400, "invalid_parameter", "colour"),
        ("GET", "/api/organizations?limit=0", None, 400, "invalid_parameter", "limit"),
        ("POST", "/api/organizations/acme/credentials", {"id": "x", "models": ["a b"]}, 400, "invalid_request", "models[0]"),
        ("POST", "/api/organizations/acme/credentials/acme-prod/rotate", {"overlap": "soon"}, 400, "invalid_request", "overlap"),
        ("POST", "/api/organizations/acme/credentials/acme-prod/rotate", {"overlap": "91d"}, 400, "invalid_request", "overlap"),
        ("POST", "/api/organizations/acme/credentials/acme-prod/rotate", {"when": "now"}, 400, "invalid_request", "when"),
        ("POST", "/api/tokens", {"name": "x", "access": "all"}, 400, "invalid_request", "access"),
        ("POST", "/api/tokens", {"name": 1, "access": "read"}, 400, "invalid_request", "name"),
        ("POST", "/api/tokens", {"name": "x", "access": "read", "organizations": "acme"}, 400, "invalid_request", "organizations"),
        ("POST", "/api/tokens", {"name": "x", "access": "read", "expires": 5}, 400, "invalid_request", "expires"),
        ("POST", "/api/tokens", {"name": "x", "access": "read", "orgs": []}, 400, "invalid_request", "orgs"),
        ("POST", "/api/tokens/tok_x/revoke", None, 404, "not_found", None),
        ("POST", "/api/organizations/acme/objects/adopt", {"kind": "file"}, 400, "invalid_request", "ids"),
        ("POST", "/api/apply", {}, 400, "invalid_request", "organizations"),
        ("POST", "/api/apply", {"organizations": {}}, 400, "invalid_request", "organizations"),
        ("POST", "/api/apply", {"organizations": [7]}, 400, "invalid_request", "organizations[0]"),
        ("POST", "/api/apply", {"organizations": [], "prune": True}, 400, "invalid_request", "organizations"),
        ("POST", "/api/apply", {"organizations": [], "prune": 1}, 400, "invalid_request", "prune"),
        ("POST", "/api/apply", {"organizations": [], "overlap": "x"}, 400, "invalid_request", "overlap"),
        ("POST", "/api/apply", {"organizations": [], "delete": True}, 400, "invalid_request", "delete"),
        ("POST", "/api/organizations/acme/objects/adopt", {"kind": "file", "ids": []}, 400, "invalid_request", "ids"),
        ("POST", "/api/organizations/acme/objects/adopt", {"kind": 5, "ids": ["x"]}, 400, "invalid_request", "kind"),
        ("POST", "/api/organizations/acme/objects/adopt", {"kind": "file", "ids": ["x"], "up": 1}, 400, "invalid_request", "up"),
        ("POST", "/api/organizations/gone/objects/adopt", {"kind": "file", "ids": ["x"]}, 404, "not_found", None),
        ("GET", "/api/organizations/acme/objects?cursor=x", None, 400, "invalid_parameter", "cursor"),
    ],
)
async def test_every_refusal_has_a_code_and_names_the_field(
    call: Caller, method: str, path: str, body: Any, status: int, code: str, param: str | None
) -> None:
    answered, answer = await call(method, path, body)

    assert (answered, answer["error"]["code"], answer["error"]["param"]) == (status, code, param)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"id": "x", "id": "y"}', 400),
        (b'{"a": NaN}', 400),
        (b"[" * 100_000, 400),
        (b" " * (BODY_BYTES_MAX + 1), 413),
    ],
)
async def test_a_body_that_is_no_plain_object_is_refused(call: Caller, data: bytes, status: int) -> None:
    answered, answer = await call.raw("/api/organizations", data)

    assert answered == status
    assert answer["error"]["code"] in {"invalid_body", "body_too_large"}


EVERYTHING = [
    ("GET", "/api/plans"),
    ("GET", "/api/organizations"),
    ("POST", "/api/organizations"),
    ("GET", "/api/organizations/acme"),
    ("PATCH", "/api/organizations/acme"),
    ("DELETE", "/api/organizations/acme"),
    ("GET", "/api/organizations/acme/credentials"),
    ("POST", "/api/organizations/acme/credentials"),
    ("GET", "/api/organizations/acme/credentials/acme-prod"),
    ("PATCH", "/api/organizations/acme/credentials/acme-prod"),
    ("POST", "/api/organizations/acme/credentials/acme-prod/rotate"),
    ("POST", "/api/organizations/acme/credentials/acme-prod/revoke"),
    ("POST", "/api/client-ids/acme-prod/release"),
    ("POST", "/api/apply"),
    ("GET", "/api/organizations/acme/objects"),
    ("POST", "/api/organizations/acme/objects/adopt"),
    ("POST", "/api/organizations/acme/objects/forget"),
    ("GET", "/api/tokens"),
    ("POST", "/api/tokens"),
    ("POST", "/api/tokens/tok_x/revoke"),
    ("GET", "/api/audit"),
]


def test_the_table_below_misses_no_route(book: DirectoryBook) -> None:
    named = {"org": "acme", "credential": "acme-prod", "token": "tok_x"}

    assert {(route.method, route.path.format(**named)) for route in directory_routes(book)} == set(EVERYTHING)


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
async def test_no_route_answers_without_a_valid_token(call: Caller, method: str, path: str) -> None:
    for token in ("", "wrong", "tga_wrong", "x" * 600):
        assert (await call(method, path, {}, token=token))[0] == 401


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path in EVERYTHING if method != "GET"])
async def test_a_token_that_may_read_changes_nothing(call: Caller, method: str, path: str) -> None:
    token = await a_token(call, access="read")
    before = (await call("GET", "/api/audit"))[1]

    status, answer = await call(method, path, {}, token=token)
    assert (status, answer["error"]["code"]) == (403, "read_only_token")
    assert (await call("GET", "/api/audit"))[1] == before


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
async def test_a_token_for_metrics_reads_nothing_else(call: Caller, method: str, path: str) -> None:
    token = await a_token(call, access="metrics")

    status, answer = await call(method, path, {}, token=token)
    assert (status, answer["error"]["code"]) == (403, "metrics_only_token")


@pytest.mark.parametrize(
    ("made", "status"),
    [
        ({"access": "metrics"}, 200),
        ({"access": "read"}, 200),
        ({"access": "write"}, 200),
        ({"access": "read", "organizations": ["acme"]}, 403),
        ({"access": "write", "organizations": ["acme"]}, 403),
    ],
)
async def test_metrics_are_for_tokens_of_all_organizations(
    call: Caller, book: DirectoryBook, config: GatewayConfig, aiohttp_client: Any, made: dict[str, Any], status: int
) -> None:
    token = await a_token(call, **made)
    scrape = Scrape(config=lambda: config, version="1", now_ms=lambda: NOW)
    tokens = DirectoryTokens(None, book.tokens)
    console = ConsoleServer(timeouts=TIMEOUTS, scrape=scrape, readiness=Readiness([]), token_sha256=b"", tokens=tokens)
    client = await aiohttp_client(console._runner.app)

    async with client.get("/metrics", headers={"Authorization": f"Bearer {token}"}) as answer:
        assert answer.status == status
    async with client.get("/metrics") as answer:
        assert answer.status == 401


async def test_a_token_for_metrics_is_of_no_organization(call: Caller) -> None:
    status, answer = await call("POST", "/api/tokens", {"name": "p", "access": "metrics", "organizations": ["acme"]})
    assert (status, answer["error"]["param"]) == (400, "organizations")


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path in EVERYTHING if "organizations/acme" in path])
async def test_another_organization_is_not_there_for_a_token_of_one(call: Caller, method: str, path: str) -> None:
    token = await a_token(call, organizations=["big"])
    status, answer = await call(method, path, {"name": "x"} if method == "PATCH" else {}, token=token)

    assert (status, answer["error"]["code"]) == (404, "unknown_organization")
    _, gone = await call(method, path.replace("acme", "never", 1), {"name": "x"} if method == "PATCH" else {}, token=token)
    assert gone == answer  # the same for one that does not exist


async def test_a_client_id_that_an_organization_chose_itself_is_known_as_such(
    call: Caller, book: DirectoryBook, config: GatewayConfig
) -> None:
    replica = DirectoryReplica(book.database, lambda: config)
    token = await a_token(call, organizations=["acme"])
    assert (await call("POST", "/api/organizations/acme/credentials", {"id": "own"}, token=token))[0] == 201
    assert (await call("POST", "/api/organizations/acme/credentials", {"id": "given"}))[0] == 201
    assert (await call("PATCH", "/api/organizations/acme/credentials/own", {"name": "Own"}))[0] == 200
    await replica.refresh()

    made = {credential.id: credential.is_self_made for credential in replica.organizations["acme"].credentials}
    assert made["own"] is True
    assert made["given"] is False


async def test_a_token_of_one_organization_runs_its_credentials_and_not_its_plan(call: Caller) -> None:
    token = await a_token(call, organizations=["acme"])
    assert [item["id"] for item in (await call("GET", "/api/organizations", token=token))[1]["organizations"]] == ["acme"]
    assert (await call("POST", "/api/organizations/acme/credentials", {"id": "own"}, token=token))[0] == 201
    assert (await call("PATCH", "/api/organizations/acme", {"name": "Acme Inc"}, token=token))[0] == 200
    for method, path, body in (
        ("PATCH", "/api/organizations/acme", {"plan": "enterprise"}),
        ("PATCH", "/api/organizations/acme", {"name": "x", "rate_limits": []}),
        ("DELETE", "/api/organizations/acme", {}),
        ("POST", "/api/organizations", {"id": "more", "plan": "enterprise"}),
        ("GET", "/api/tokens", None),
        ("POST", "/api/tokens", {"name": "x", "access": "write"}),
    ):
        status, answer = await call(method, path, body, token=token)
        assert (status, answer["error"]["code"]) == (403, "platform_token_needed")

    _, log = await call("GET", "/api/audit?limit=2", token=token)
    assert [entry["action"] for entry in log["entries"]] == ["organization.changed", "credential.created"]
    assert {entry["actor"] for entry in log["entries"]} != {"platform"}
    assert (await call("GET", "/api/audit?limit=2&org=acme"))[1]["entries"] == log[
        "entries"
    ]  # the platform sees others, unless it names one
    assert (await call("GET", "/api/audit?org=big", token=token))[0] == 404
    _, older = await call("GET", f"/api/audit?cursor={log['next_cursor']}", token=token)
    assert {entry["organization"] for entry in older["entries"]} == {"acme"}


async def test_a_token_of_one_organization_lowers_its_spend_limit_and_never_raises_it(call: Caller) -> None:
    token = await a_token(call, organizations=["acme"])

    async def change(spend_limit: object) -> tuple[int, Any]:
        status, answer = await call("PATCH", "/api/organizations/acme", {"spend_limit": spend_limit}, token=token)
        return status, answer["error"] if status >= 400 else answer["effective"]["spend_limits"]

    assert (await call("PATCH", "/api/organizations/acme", {"plan": "pay_as_you_go"}))[0] == 200
    assert (await change({"usd": "100.000000001"}))[0] == 400  # above the plan's maximum
    status, (limit,) = await change({"usd": "20", "warn_at": [0.25]})
    assert (status, limit["usd"], limit["warn_at"]) == (200, "20.00", [0.25])
    for looser in ({"usd": "20.000000001"}, None):
        status, refused = await change(looser)
        assert (status, refused["code"], refused["param"]) == (403, "platform_token_needed", "spend_limit")
    for other in ({"usd": "20", "shadow": True}, {"usd": "19", "window": "1d"}, {"usd": "1", "per": "credential"}):
        assert (await change(other))[0] in {400, 403}
    assert (await change({"usd": "20", "warn_at": [0.5, 0.9]}))[0] == 200
    assert (await call("PATCH", "/api/organizations/acme", {"spend_limit": {"usd": "25"}}))[0] == 200  # the platform may
    status, (limit,) = await change({"usd": "24"})
    assert (status, limit["usd"]) == (200, "24.00")


async def test_a_revoked_token_ends_at_once(call: Caller) -> None:
    token = await a_token(call)
    assert (await call("GET", "/api/tokens", token=token))[0] == 200
    (shown,) = (await call("GET", "/api/tokens"))[1]["tokens"]
    assert "token" not in shown
    assert (await call("POST", f"/api/tokens/{shown['id']}/revoke", token=token))[0] == 200
    assert (await call("GET", "/api/tokens", token=token))[0] == 401


async def test_last_use_reaches_the_database_and_never_goes_back(call: Caller, book: DirectoryBook, valkey_url: str) -> None:
    store = RedisConnection(parse_address(valkey_url), timeout_ms=10_000)
    await store.open()
    await record_last_used(store, {"acme-prod": NOW, "gone": NOW})
    await record_last_used(store, {"big-prod": NOW - 5})
    assert await write_last_used(store, book.credentials) == 3
    assert await write_last_used(store, book.credentials) == 0
    await record_last_used(store, {"acme-prod": NOW - 1})
    await write_last_used(store, book.credentials)
    await store.close()

    assert (await book.credentials.get("acme", "acme-prod")).stored.last_used_at_ms == NOW
    assert (await book.credentials.get("big", "big-prod")).stored.last_used_at_ms == NOW - 5


async def test_last_use_that_cannot_be_written_is_kept_for_later(
    call: Caller, book: DirectoryBook, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RedisConnection(parse_address(valkey_url), timeout_ms=10_000)
    await store.open()
    await record_last_used(store, {"acme-prod": NOW})

    async def fail(*_: object) -> None:
        raise RuntimeError("the console died here")

    with monkeypatch.context() as patched:
        patched.setattr(type(book.credentials), "record_used", fail)
        with pytest.raises(RuntimeError):
            await write_last_used(store, book.credentials)
    await record_last_used(store, {"big-prod": NOW})
    assert await write_last_used(store, book.credentials) == 1
    assert await write_last_used(store, book.credentials) == 1
    await store.close()

    assert (await book.credentials.get("acme", "acme-prod")).stored.last_used_at_ms == NOW


async def test_objects_are_adopted_listed_in_pages_and_forgotten_by_the_platform_alone(call: Caller) -> None:
    named = {"kind": "file", "ids": ["file-1", "file-2", "file-3"]}
    assert await call("POST", "/api/organizations/acme/objects/adopt", named) == (200, {"org": "acme", "adopted": 3})

    _, page = await call("GET", "/api/organizations/acme/objects?limit=2")
    _, rest = await call("GET", f"/api/organizations/acme/objects?limit=2&cursor={page['next_cursor']}")
    assert [found["id"] for found in (*page["objects"], *rest["objects"])] == named["ids"]
    assert rest["next_cursor"] is None

    forgotten = await call("POST", "/api/organizations/acme/objects/forget", named | {"ids": ["file-1", "file-9"]})
    assert forgotten == (200, {"org": "acme", "forgotten": 1})
    own = await a_token(call, access="write", organizations=["acme"])
    for method, path in (("GET", ""), ("POST", "/adopt"), ("POST", "/forget")):
        status, answer = await call(method, f"/api/organizations/acme/objects{path}", named, token=own)
        assert (status, answer["error"]["code"]) == (403, "platform_token_needed")
    actions = [entry["action"] for entry in (await call("GET", "/api/audit"))[1]["entries"]]
    assert {"objects.adopted", "objects.forgotten"} <= set(actions)


async def test_a_deleted_organizations_objects_are_not_its_successors(call: Caller) -> None:
    await call("POST", "/api/organizations/big/objects/adopt", {"kind": "file", "ids": ["file-1"]})
    await call("DELETE", "/api/organizations/big")
    await call("POST", "/api/organizations", {"id": "big", "plan": "enterprise"})

    assert (await call("GET", "/api/organizations/big/objects"))[1]["objects"] == []


async def test_who_is_answered_is_told_to_the_ledger(book: DirectoryBook) -> None:
    asked: list[bool] = []
    app = web.Application()
    platform = PlatformToken(hashlib.sha256(ROOT.encode()).digest())
    api = Api(directory_routes(book), DirectoryTokens(platform, book.tokens))
    api.add_to(app, [lambda: asked.append(True)])
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/api/organizations")).status == 401
        assert asked == []
        assert (await client.get("/api/organizations", headers={"Authorization": f"Bearer {ROOT}"})).status == 200
    assert asked == [True]
