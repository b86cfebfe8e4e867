"""Signed tokens through the whole data plane."""

import hashlib
import secrets
import time
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from gateway_harness import ACME_KEY, Harness, organizations, running_gateway
from jwt_world import ISSUER, AuthorizationServer, a_token, public_jwk
from new_ledger import new_ledger

from tallygate.config.directory import StoredSource
from tallygate.gateway.stored_directory import NoStoredDirectory
from tallygate.ledger.directory.book import directory_book
from tallygate.ledger.directory.replica import DirectoryReplica
from tallygate.telemetry.metrics import KEY_LOOKUPS

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}


async def ask(gateway: Harness, key: str, header: str = "Authorization", model: str = "gpt-4o-mini") -> tuple[int, dict[str, Any]]:
    value = f"Bearer {key}" if header == "Authorization" else key
    async with (
        ClientSession() as session,
        session.post(f"{gateway.url}/v1/chat/completions", json=CHAT | {"model": model}, headers={header: value}) as answer,
    ):
        return answer.status, await answer.json()


def a_current_token(**claims: Any) -> str:
    kid = claims.pop("kid", "k1")
    return a_token(kid, **{"exp": int(time.time()) + 600} | claims)


async def authorization_server(aiohttp_server: Any) -> AuthorizationServer:
    server = AuthorizationServer()
    server.gate.set()
    app = web.Application()
    app.router.add_get("/keys", server.handle)
    running: TestServer = await aiohttp_server(app)
    server.url = str(running.make_url("/keys"))
    return server


def config(server: AuthorizationServer, **changes: Any) -> dict[str, Any]:
    orgs = organizations()
    orgs["organizations"][1]["credentials"].append({"id": "big-token", "name": "Only by token"})
    return {"authentication": {"jwt_issuers": [{"issuer": ISSUER, "jwks_url": server.url} | changes]}, "organizations": orgs}


async def test_a_token_is_metered_as_its_credential_and_keys_still_work(tmp_path: Path, aiohttp_server: Any) -> None:
    server = await authorization_server(aiohttp_server)
    async with running_gateway(tmp_path, config=config(server)) as gateway:
        assert (await ask(gateway, ACME_KEY))[0] == 200
        assert (await ask(gateway, a_current_token()))[0] == 200
        assert (await ask(gateway, a_current_token(client_id="big-token"), header="x-api-key"))[0] == 200
        status, body = await ask(gateway, a_current_token(client_id="stranger"))
        await gateway.at_rest()

        assert (status, body["error"]["code"]) == (401, "invalid_api_key")
        assert [(event["org"], event["credential"]) for event in gateway.events()] == [
            ("acme", "acme-prod"),
            ("acme", "acme-prod"),
            ("big", "big-token"),
        ]
        assert server.fetches == 1


async def test_the_plan_and_the_credential_bind_a_token_like_a_key(tmp_path: Path, aiohttp_server: Any) -> None:
    server = await authorization_server(aiohttp_server)
    async with running_gateway(tmp_path, config=config(server)) as gateway:
        assert (await ask(gateway, a_current_token(client_id="free-prod")))[1]["error"]["code"] == "plan_without_api_access"
        assert (await ask(gateway, a_current_token(client_id="big-narrow")))[0] == 200
        assert (await ask(gateway, a_current_token(client_id="big-narrow"), model="gpt-4o"))[1]["error"][
            "code"
        ] == "model_not_allowed"


async def test_clients_of_one_name_in_two_organizations_have_each_their_own_limits(tmp_path: Path, aiohttp_server: Any) -> None:
    server = await authorization_server(aiohttp_server)
    policy = {"unknown_clients": "claimed_organization", "org_claim": "org_id"}
    async with running_gateway(tmp_path, config=config(server, **policy)) as gateway:
        of_free = a_current_token(client_id="same", org_id="free")
        of_big = a_current_token(client_id="same", org_id="big")
        assert (await ask(gateway, of_free))[1]["error"]["code"] == "plan_without_api_access"
        assert (await ask(gateway, of_big))[0] == 200
        await gateway.at_rest()
        assert [event["flags"] for event in gateway.events()] == [["unregistered"]]
        assert gateway.gateway.services.used.collect() == {}
        limits = gateway.gateway.services.view._limits
        assert {key[:2] for key in limits} == {("free", "same"), ("big", "same")}


async def test_a_revoked_client_stays_revoked_when_its_organization_is_deleted_and_made_again(
    tmp_path: Path, aiohttp_server: Any
) -> None:
    server = await authorization_server(aiohttp_server)
    database = await new_ledger(tmp_path)
    stored = NoStoredDirectory()
    policy = {"unknown_clients": {"organization": "stored"}}
    async with running_gateway(tmp_path, config=config(server, **policy), stored=stored) as gateway:
        holder, token = gateway.gateway._parts.holder, a_current_token(client_id="phone")
        book = directory_book(
            database, lambda: holder.current, now_ms=lambda: 1, random_bytes=secrets.token_bytes, on_committed=_announce_to_nobody
        )
        replica = DirectoryReplica(database, lambda: holder.current)

        async def status() -> int:
            changed = await replica.refresh()
            stored.organizations, stored.retired = replica.organizations, replica.retired
            gateway.gateway.follow_directory(changed)
            return (await ask(gateway, token))[0]

        await book.organizations.create("test", {"id": "stored", "plan": "enterprise"})
        assert await status() == 200  # attached
        await book.credentials.create("test", "stored", {"id": "phone", "has_key": False})
        assert await status() == 200
        await book.credentials.revoke("test", "stored", "phone")
        assert await status() == 401
        await book.organizations.delete("test", "stored")
        assert await status() == 401
        await book.organizations.create("test", {"id": "stored", "plan": "enterprise"})
        assert await status() == 401
        file = gateway.config_dir / "organizations.yaml"
        changed_file = yaml.safe_load(file.read_text())
        changed_file["organizations"][0]["name"] = "Another name"
        file.write_text(yaml.safe_dump(changed_file))
        await gateway.gateway.read_again()
        assert (await ask(gateway, token))[0] == 401
        await book.credentials.release("test", "phone")
        assert await status() == 200
    await database.close()


async def _announce_to_nobody() -> None:
    return


async def test_tokens_are_refused_like_unknown_keys_where_no_issuer_is_configured(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        status, body = await ask(gateway, a_current_token())

        assert (status, body["error"]["code"]) == (401, "invalid_api_key")
        assert "not known here" in body["error"]["message"]


async def test_an_issuer_taken_out_of_the_file_is_believed_no_longer_and_one_that_stays_keeps_its_keys(
    tmp_path: Path, aiohttp_server: Any
) -> None:
    server = await authorization_server(aiohttp_server)
    async with running_gateway(tmp_path, config=config(server)) as gateway:
        token = a_current_token()
        assert (await ask(gateway, token))[0] == 200
        await gateway.gateway.read_again()
        assert (await ask(gateway, token))[0] == 200
        assert server.fetches == 1

        (gateway.config_dir / "authentication.yaml").write_text("jwt_issuers: []\n")
        (gateway.config_dir / "organizations.yaml").write_text("organizations: [{id: another, plan: pay_as_you_go}]\n")
        await gateway.gateway.read_again()
        assert (await ask(gateway, token))[0] == 401


async def test_while_the_keys_cannot_be_had_tokens_wait_outside_and_keys_go_on(tmp_path: Path, aiohttp_server: Any) -> None:
    server = await authorization_server(aiohttp_server)
    server.is_down = True
    async with running_gateway(tmp_path, config=config(server)) as gateway:
        status, body = await ask(gateway, a_current_token())
        assert (status, body["error"]["code"]) == (503, "authentication_unavailable")
        assert (await ask(gateway, ACME_KEY))[0] == 200


async def test_a_rotated_key_of_the_issuer_is_taken_without_a_restart(tmp_path: Path, aiohttp_server: Any) -> None:
    server = await authorization_server(aiohttp_server)
    async with running_gateway(tmp_path, config=config(server)) as gateway:
        assert (await ask(gateway, a_current_token()))[0] == 200
        server.keys = [public_jwk("k2")]

        assert (await ask(gateway, a_current_token(kid="k2")))[0] == 200
        assert (await ask(gateway, a_current_token()))[0] == 401


async def test_a_token_longer_than_any_is_refused_without_being_read(tmp_path: Path, aiohttp_server: Any) -> None:
    server = await authorization_server(aiohttp_server)
    async with running_gateway(tmp_path, config=config(server)) as gateway:
        status, body = await ask(gateway, a_current_token(padding="x" * 4000))

        assert (status, body["error"]["code"]) == (401, "invalid_api_key")
        assert "not known here" in body["error"]["message"]


async def lookup_service(aiohttp_server: Any, known: dict[str, dict[str, Any]]) -> str:
    async def introspect(request: web.Request) -> web.Response:
        return web.json_response(known.get(str((await request.post())["token"]), {"active": False}))

    app = web.Application()
    app.router.add_post("/introspect", introspect)
    running: TestServer = await aiohttp_server(app)
    return str(running.make_url("/introspect"))


def sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def test_a_key_that_a_service_knows_is_metered_as_its_credential_until_it_is_revoked(
    tmp_path: Path, aiohttp_server: Any
) -> None:
    known = {sha("opaque-key-of-acme"): {"active": True, "client_id": "acme-prod"}}
    url = await lookup_service(aiohttp_server, known)
    async with running_gateway(tmp_path, config={"authentication": {"key_lookup": {"url": url}}}) as gateway:
        for header in ("Authorization", "x-api-key", "x-goog-api-key", "api-key"):
            assert (await ask(gateway, "opaque-key-of-acme", header=header))[0] == 200
        assert (await ask(gateway, ACME_KEY))[0] == 200
        assert gateway.metrics.counted[KEY_LOOKUPS] == ["active"]
        assert (await ask(gateway, "opaque-key-of-nobody"))[1]["error"]["code"] == "invalid_api_key"

        known.clear()
        await gateway.gateway.read_again()  # as SIGHUP asks for
        assert (await ask(gateway, "opaque-key-of-acme"))[0] == 401
        assert (await ask(gateway, ACME_KEY))[0] == 200
        await gateway.at_rest()
        assert [(event["org"], event["credential"]) for event in gateway.events()] == [("acme", "acme-prod")] * 6
        assert sorted(gateway.metrics.counted[KEY_LOOKUPS]) == ["active", "inactive", "inactive"]


async def test_tokens_of_an_issuer_and_looked_up_keys_stand_side_by_side(tmp_path: Path, aiohttp_server: Any) -> None:
    server = await authorization_server(aiohttp_server)
    known = {sha("opaque-key-of-gloo"): {"active": True, "client_id": "stranger"}}
    shared = {"shares_client_ids": True, "unknown_clients": {"organization": "big"}}
    files = config(server, **shared)
    files["authentication"]["key_lookup"] = {"url": await lookup_service(aiohttp_server, known), **shared}
    async with running_gateway(tmp_path, config=files) as gateway:
        assert (await ask(gateway, a_current_token(client_id="stranger")))[0] == 200
        assert (await ask(gateway, "opaque-key-of-gloo"))[0] == 200
        assert (await ask(gateway, a_current_token(iss="https://evil.example.com")))[0] == 401
        await gateway.at_rest()
        assert [(event["org"], event["credential"]) for event in gateway.events()] == [("big", "stranger")] * 2
        assert gateway.metrics.counted[KEY_LOOKUPS] == ["active"]


async def test_while_a_service_is_away_its_keys_wait_outside_and_keys_of_credentials_go_on(tmp_path: Path) -> None:
    away = {"authentication": {"key_lookup": {"url": "http://127.0.0.1:9/introspect"}}}
    async with running_gateway(tmp_path, config=away) as gateway:
        status, body = await ask(gateway, "opaque-key-of-acme")
        assert (status, body["error"]["code"]) == (503, "authentication_unavailable")
        assert (await ask(gateway, ACME_KEY))[0] == 200


async def test_a_client_that_may_be_in_the_database_is_not_attached_before_that_was_read(
    tmp_path: Path, aiohttp_server: Any
) -> None:
    server = await authorization_server(aiohttp_server)
    stored = NoStoredDirectory()
    stored.source = StoredSource.NOTHING
    async with running_gateway(tmp_path, config=config(server, unknown_clients={"organization": "big"}), stored=stored) as gateway:
        status, body = await ask(gateway, a_current_token(client_id="perhaps-revoked"))
        assert (status, body["error"]["code"]) == (503, "authentication_unavailable")
        assert (await ask(gateway, a_current_token(client_id="big-token")))[0] == 200
        stored.source = StoredSource.DATABASE
        gateway.gateway.follow_directory(frozenset())
        assert (await ask(gateway, a_current_token(client_id="perhaps-revoked")))[0] == 200
