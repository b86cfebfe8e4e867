"""Signed tokens: who they identify, everything that makes them identify nobody, and where their issuer's keys come from."""

import asyncio
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from jwt.utils import base64url_encode
from jwt_world import ISSUER, NOW, NULL, AuthorizationServer, Clock, a_token, part, private_key, public_jwk, public_pem
from refused import awaited

from tallygate.config.authentication import read_authentication
from tallygate.config.client_policy import ClientPolicy, UnknownClients
from tallygate.config.directory import EVERYWHERE, KEY_CHARS_MAX, Directory
from tallygate.config.document import read_document
from tallygate.config.jwt_issuer import JwtIssuer
from tallygate.config.key_set import KEY_SET_BYTES_MAX, read_key_set
from tallygate.config.problems import Problems
from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.gateway.callers import clients as clients_module
from tallygate.gateway.callers import jwt_bearer
from tallygate.gateway.callers.clients import Clients
from tallygate.gateway.callers.foreign import UNAVAILABLE, JwtIdentities
from tallygate.gateway.callers.jwt_bearer import IssuerVerifier, JwtRefusedError, JwtVerifier, looks_like_jwt
from tallygate.gateway.callers.jwt_keys import RETRY_MS, STALE_MAX_MS, UNKNOWN_KEY_PAUSE_MS, JwtKeys, KeysUnavailableError

UUID_OF_ACME, UUID_OF_BIG = "0b1e6c2a-7f0d-4a51-9a43-3d1f7d0c9e11", "c7a1f7de-6a0b-4c0a-8d0e-5b7f3c1b2a22"
UUIDS = {UUID_OF_ACME: "acme", UUID_OF_BIG: "big"}


@pytest.fixture
async def server(aiohttp_server: Callable[..., Awaitable]) -> AuthorizationServer:
    server = AuthorizationServer()
    server.gate.set()
    app = web.Application()
    app.router.add_get("/keys", server.handle)
    server.url = str((await aiohttp_server(app)).make_url("/keys"))
    return server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


Make = Callable[..., JwtVerifier]


@pytest.fixture
async def make(server: AuthorizationServer, clock: Clock, session: aiohttp.ClientSession) -> AsyncIterator[Make]:
    made: list[JwtKeys] = []

    def make(**changes: Any) -> JwtVerifier:
        own = {name: value for name, value in changes.items() if name in JwtIssuer.__dataclass_fields__}
        policy = {"source": own.get("issuer", ISSUER)} | {name: value for name, value in changes.items() if name not in own}
        plain = {"issuer": ISSUER, "jwks_url": "" if changes.get("key_set") else server.url}
        config = JwtIssuer(**plain | own, clients=ClientPolicy(**policy))
        keys = JwtKeys(config, session, now_ms=clock, timeout_ms=5_000)
        made.append(keys)
        return JwtVerifier({config.issuer: IssuerVerifier(config, keys, now_ms=clock)})

    yield make
    for keys in made:
        keys.abandon()


async def refused(verifier: JwtVerifier, token: str) -> str:
    with pytest.raises(JwtRefusedError) as caught:
        await verifier.verify(token)
    assert verifier.recall(token) is None
    return str(caught.value)


async def settle() -> None:
    """Let background fetches on the loopback end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    fetches = [task for task in others if "_renew" in repr(task.get_coro())]
    if fetches:
        await asyncio.wait(fetches)


async def test_a_token_identifies_its_client_and_is_remembered(make: Make) -> None:
    verifier, token = make(), a_token()
    assert verifier.recall(token) is None

    client = await verifier.verify(token)

    assert (client.client_id, client.org, client.expires_at_ms) == ("acme-prod", "", (NOW + 3600) * 1000 + 30_000)
    assert verifier.recall(token) is client


@pytest.mark.parametrize(
    ("kind", "alg"), [("rsa", "RS256"), ("rsa", "RS512"), ("rsa", "PS256"), ("ec", "ES256"), ("p384", "ES384"), ("ed", "EdDSA")]
)
async def test_each_allowed_algorithm_verifies(make: Make, server: AuthorizationServer, kind: str, alg: str) -> None:
    server.keys = [public_jwk("k", kind)]

    assert await make(algorithms=(alg,)).verify(a_token("k", kind=kind, alg=alg))


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"exp": NOW - 31}, "expired"),
        ({"exp": NOW - 30}, "expired"),
        ({"exp": None}, "lacks a claim"),
        ({"exp": "soon"}, "times are not numbers"),
        ({"exp": True}, "times are not numbers"),
        ({"exp": 1e300}, "times are not numbers"),
        ({"exp": float("nan")}, "well-formed|times are not numbers"),
        ({"nbf": NOW + 31}, "not valid yet"),
        ({"nbf": "x"}, "times are not numbers"),
        ({"iss": "https://evil.example.com"}, "not one that this gateway trusts"),
        ({"iss": f"{ISSUER}/"}, "not one that this gateway trusts"),
        ({"iss": None}, "well-formed"),
        ({"client_id": None}, "no claim 'client_id'"),
        ({"client_id": ""}, "no claim 'client_id'"),
        ({"client_id": "a b"}, "no claim 'client_id'"),
        ({"client_id": "x" * 65}, "no claim 'client_id'"),
        ({"client_id": ["acme-prod"]}, "no claim 'client_id'"),
        ({"client_id": 7}, "no claim 'client_id'"),
        ({"client_id": {"id": "acme-prod"}}, "no claim 'client_id'"),
    ],
)
async def test_a_token_with_wrong_claims_identifies_nobody(make: Make, claims: dict[str, Any], says: str) -> None:
    assert re.search(says, await refused(make(), a_token(**claims)))


@pytest.mark.parametrize(
    "claims", [{"exp": NOW - 29}, {"nbf": NOW + 30}, {"iat": NOW + 500}, {"aud": "anyone"}, {"exp": NOW + 0.5}]
)
async def test_clocks_may_differ_by_the_leeway_and_unasked_claims_do_not_matter(make: Make, claims: dict[str, Any]) -> None:
    assert await make().verify(a_token(**claims))


@pytest.mark.parametrize(
    ("changes", "claims", "says"),
    [
        ({"audiences": ("api",)}, {}, "lacks a claim"),
        ({"audiences": ("api",)}, {"aud": ["web", "mobile"]}, "another audience"),
        ({"required_claims": (("token_use", "access"),)}, {"token_use": "id"}, "'token_use'"),
        ({"required_claims": (("token_use", "access"),)}, {"token_use": None}, "'token_use'"),
        ({"required_claims": (("verified", True),)}, {"verified": 1}, "'verified'"),
        ({"required_claims": (("verified", True),)}, {"verified": "true"}, "'verified'"),
        ({"required_claims": (("verified", 1),)}, {"verified": True}, "'verified'"),
        ({"required_claims": (("verified", 1),)}, {"verified": 1.0}, "'verified'"),
        ({"required_claims": (("verified", False),)}, {"verified": 0}, "'verified'"),
        ({"required_claims": (("verified", False),)}, {"verified": None}, "'verified'"),
        ({"required_claims": (("verified", "1"),)}, {"verified": 1}, "'verified'"),
        ({"scopes": ("api/access", "api/chat")}, {"scope": "api/access api/chats"}, "lacks a scope"),
        ({"scopes": ("api/access",)}, {"scope": None}, "lacks a scope"),
        ({"scopes": ("api/access",)}, {"scope": ["api/access"]}, "lacks a scope"),
        ({"org_claim": "org_id"}, {"org_id": 7}, "'org_id' that is not text"),
        ({"org_claim": "org_id"}, {"org_id": ["acme"]}, "'org_id' that is not text"),
        ({"org_claim": "org_id"}, {}, "'org_id' names none"),
        ({"org_claim": "org_id"}, {"org_id": ""}, "'org_id' names none"),
        ({"org_claim": "org_id"}, {"org_id": " "}, "'org_id' names none"),
        ({"org_claim": "org_id"}, {"org_id": "a" * 65}, "'org_id' names none"),
        ({"org_claim": "org_id"}, {"org_id": "ac\u0440e"}, "'org_id' names none"),
        ({"org_claim": "org_id", "is_org_optional": True}, {"org_id": ["acme"]}, "'org_id' that is not text"),
        ({"org_claim": "org_id", "is_org_optional": True}, {"org_id": ""}, "'org_id' names none"),
        ({"org_claim": "org_id", "is_org_optional": True}, {"org_id": NULL}, "'org_id' names none"),
    ],
)
async def test_what_the_configuration_asks_for_must_be_there(
    make: Make, changes: dict[str, Any], claims: dict[str, Any], says: str
) -> None:
    assert says in await refused(make(**changes), a_token(**claims))


async def test_an_audience_among_several_is_enough(make: Make) -> None:
    assert await make(audiences=("api", "other")).verify(a_token(aud=["web", "api"]))


def unsigned(alg: str, signature: str = "") -> str:
    claims = {"iss": ISSUER, "client_id": "acme-prod", "exp": NOW + 60}
    return f"{part({'alg': alg, 'kid': 'k1', 'typ': 'JWT'})}.{part(claims)}.{signature}"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", "HS256", "HS512", "ES256", "RS1", "rs256", "RS256 "])
async def test_an_unsigned_or_otherwise_signed_token_is_refused_whatever_its_header_says(make: Make, alg: str) -> None:
    assert await refused(make(), unsigned(alg))
    assert await refused(make(), unsigned(alg, "AAAA"))


async def test_a_public_key_is_no_secret_to_sign_with(make: Make, server: AuthorizationServer) -> None:
    """The classic: HS256 with the public key's text as its secret."""
    for secret in (public_pem("k1"), json.dumps(server.keys[0]).encode(), server.keys[0]["n"].encode()):
        signed = unsigned("HS256")[:-1]
        token = f"{signed}.{base64url_encode(hmac.digest(secret, signed.encode(), hashlib.sha256)).decode()}"
        assert "algorithm" in await refused(make(), token)


async def test_an_algorithm_that_is_allowed_is_not_allowed_with_a_key_of_another_kind(
    make: Make, server: AuthorizationServer
) -> None:
    server.keys = [public_jwk("k1"), public_jwk("e1", "ec")]
    verifier = make(algorithms=("RS256", "ES256"))

    assert "does not publish" in await refused(verifier, a_token("e1", kind="ec", alg="ES256", headers={"kid": "k1"}))
    assert "does not publish" in await refused(verifier, a_token("k1", headers={"kid": "e1"}))


async def test_a_key_bound_to_one_algorithm_verifies_no_other(make: Make, server: AuthorizationServer) -> None:
    server.keys = [public_jwk("k1", alg="RS256")]

    assert "does not publish" in await refused(make(algorithms=("RS256", "PS256")), a_token(alg="PS256"))


async def test_keys_that_the_token_brings_along_are_not_believed(make: Make) -> None:
    evil = public_jwk("evil")
    for headers in (
        {"jwk": evil, "kid": "k1"},
        {"jku": "https://evil.example.com/keys", "kid": "k1"},
        {"x5c": ["AA"], "kid": "k1"},
    ):
        token = jwt.encode(
            {"iss": ISSUER, "client_id": "acme-prod", "exp": NOW + 60}, private_key("evil"), algorithm="RS256", headers=headers
        )
        assert "signature" in await refused(make(), token)


async def test_a_token_that_was_changed_anywhere_is_refused(make: Make) -> None:
    head, payload, signature = a_token().split(".")
    forged = part({"iss": ISSUER, "client_id": "big-prod", "exp": NOW + 60})
    for token in (
        f"{head}.{forged}.{signature}",
        f"{head}.{payload}.{signature[:-4]}AAAA",
        f"{head}.{payload}.",
        f"{head}..{signature}",
    ):
        assert await refused(make(), token)


@pytest.mark.parametrize(
    "kid", ["", "k2", "../k1", "/dev/null", "k1\x00", "' OR 1=1 --", "https://evil.example.com/keys", "k" * 3_000]
)
async def test_a_key_id_is_only_ever_a_name_in_the_issuers_set(make: Make, server: AuthorizationServer, kid: str) -> None:
    server.keys.append(public_jwk("k3"))
    assert await refused(make(), a_token("mine", headers={"kid": kid}))


@pytest.mark.parametrize("kid", [7, ["k1"], {"k": 1}, None])
async def test_a_key_id_that_is_no_text_is_refused(make: Make, kid: Any) -> None:
    _, payload, signature = a_token().split(".")
    assert "well-formed" in await refused(make(), f"{part({'alg': 'RS256', 'kid': kid})}.{payload}.{signature}")


@pytest.mark.parametrize("headers", [{"crit": ["exp"]}, {"typ": "dpop+jwt"}, {"typ": "logout+jwt"}])
async def test_a_token_of_another_kind_is_refused(make: Make, headers: dict[str, Any]) -> None:
    assert "of a kind" in await refused(make(), a_token(headers=headers))


async def test_a_key_that_only_encrypts_or_is_private_or_short_verifies_nothing() -> None:
    for jwk in (
        public_jwk("k1", use="enc"),
        public_jwk("k1", key_ops=["encrypt"]),
        public_jwk("k1", key_ops="verify"),
        public_jwk("k1") | {"d": "AQAB"},
        public_jwk("s", "small-rsa"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k1"},
        {"kty": "RSA", "kid": "k1"},
        {"kty": "RSA", "n": 1, "e": 2, "kid": "k1"},
        "k1",
    ):
        with pytest.raises(ValueError, match="holds no public key"):
            read_key_set(json.dumps({"keys": [jwk]}).encode(), ("RS256",))


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"keys": {}}', b"<html>", b'{"keys": [' + b"[" * 100_000, b" " * (KEY_SET_BYTES_MAX + 1)]
)
def test_what_is_no_key_set_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"is not a|is larger"):
        read_key_set(body, ("RS256",))


@pytest.mark.parametrize(
    ("key", "looks"),
    [
        ("ey.x.y", True),
        ("tg_ey.a.b_c", False),
        ("eyJ.a", False),
        ("eyJ.a.b.c.d", False),
        ("ey." + "x" * (KEY_CHARS_MAX - 5) + ".y", True),
        ("ey." + "x" * (KEY_CHARS_MAX - 4) + ".y", False),
    ],
)
def test_only_what_has_the_form_of_a_token_is_looked_at(key: str, looks: bool) -> None:
    assert looks_like_jwt(key) is looks


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
async def test_no_text_makes_it_fail_otherwise_than_by_refusing(one: str, two: str, three: str) -> None:
    for token in (f"ey{one}.{two}.{three}".replace("..", "."), f"{part({'alg': one, 'kid': two})}.{part({'iss': three})}.x"):
        if token.count(".") == 2:
            with pytest.raises(JwtRefusedError):
                await JwtVerifier({}).verify(token)


async def test_refusals_repeat_nothing_of_the_token(make: Make) -> None:
    canary = "canary"
    for token in (
        a_token(client_id=f"{canary} x"),
        a_token(iss=canary),
        a_token(alg="RS512"),
        a_token(canary, headers={"kid": canary}),
    ):
        assert canary not in await refused(make(), token)


async def test_a_remembered_token_expires_with_its_leeway(make: Make, clock: Clock) -> None:
    verifier, token = make(), a_token()
    await verifier.verify(token)
    clock.forward(seconds=3629)
    assert verifier.recall(token)
    clock.forward(seconds=1)

    assert verifier.recall(token) is None
    assert "expired" in await refused(verifier, token)


async def test_what_is_remembered_is_bounded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt_bearer, "VERIFIED_MAX", 3)
    verifier, tokens = make(), [a_token(jti=str(number)) for number in range(5)]
    for token in tokens:
        await verifier.verify(token)

    assert [verifier.recall(token) is not None for token in tokens] == [False, False, True, True, True]


async def test_many_at_once_fetch_the_keys_once_and_a_known_token_waits_for_nothing(
    make: Make, server: AuthorizationServer, clock: Clock
) -> None:
    verifier, token = make(), a_token()
    await asyncio.gather(*(verifier.verify(a_token(jti=str(number))) for number in range(20)))
    await verifier.verify(token)
    assert server.fetches == 1

    server.gate.clear()
    clock.forward(seconds=3600)  # the keys are due, and their server hangs
    assert verifier.recall(token)
    assert await verifier.verify(a_token(jti="another"))
    server.gate.set()
    await settle()
    assert server.fetches == 2


async def test_a_new_key_is_fetched_when_a_token_names_it(make: Make, server: AuthorizationServer) -> None:
    verifier = make()
    await verifier.verify(a_token())
    server.keys.append(public_jwk("k2"))

    assert await verifier.verify(a_token("k2"))
    assert server.fetches == 2


async def test_invented_keys_make_one_fetch_in_a_while(make: Make, server: AuthorizationServer, clock: Clock) -> None:
    verifier = make()
    await verifier.verify(a_token())
    for number in range(50):
        await refused(verifier, a_token("evil", headers={"kid": f"invented-{number}"}))
    assert server.fetches == 2

    clock.forward(seconds=UNKNOWN_KEY_PAUSE_MS / 1000)
    await refused(verifier, a_token("evil"))
    assert server.fetches == 3


async def test_a_key_that_is_taken_back_ends_what_it_verified(make: Make, server: AuthorizationServer, clock: Clock) -> None:
    verifier, token = make(), a_token()
    await verifier.verify(token)
    server.keys = [public_jwk("k2")]
    clock.forward(seconds=3600)
    verifier.recall(token)  # begins the fetch that is due
    await settle()

    assert verifier.recall(token) is None
    assert "does not publish" in await refused(verifier, a_token(exp=NOW + 9_000))


async def test_keys_outlive_an_outage_of_their_server_but_not_for_ever(
    make: Make, server: AuthorizationServer, clock: Clock
) -> None:
    verifier = make()
    await verifier.verify(a_token())
    server.is_down = True
    clock.forward(seconds=STALE_MAX_MS / 1000 - 1)
    assert await verifier.verify(a_token(exp=NOW + 10**6))
    await settle()
    clock.forward(seconds=1)

    with pytest.raises(KeysUnavailableError):
        await verifier.verify(a_token(exp=NOW + 10**6))


@pytest.mark.parametrize(
    "failure",
    [
        web.Response(status=500),
        web.Response(text="<html>"),
        web.Response(status=302, headers={"Location": "/elsewhere"}),
        web.Response(body=b" " * (KEY_SET_BYTES_MAX + 1)),
    ],
    ids=["error", "html", "redirect", "too-long"],
)
async def test_without_keys_a_token_is_neither_believed_nor_refused_and_soon_tried_again(
    make: Make, server: AuthorizationServer, clock: Clock, failure: web.Response
) -> None:
    server.failures = [failure]
    verifier = make()
    for _ in range(3):
        with pytest.raises(KeysUnavailableError):
            await verifier.verify(a_token())
    assert server.fetches == 1
    clock.forward(seconds=RETRY_MS / 1000)

    assert await verifier.verify(a_token())


async def test_keys_from_a_file_need_no_server(make: Make, server: AuthorizationServer, clock: Clock) -> None:
    verifier = make(key_set=json.dumps({"keys": [public_jwk("k1")]}).encode())
    clock.forward(seconds=3000)
    assert await verifier.verify(a_token())
    await refused(verifier, a_token("k2"))
    assert server.fetches == 0


async def test_a_token_without_key_id_fits_a_set_of_one_key(make: Make, server: AuthorizationServer) -> None:
    claims = {"iss": ISSUER, "client_id": "acme-prod", "exp": NOW + 60}
    token = jwt.encode(claims, private_key("k1"), algorithm="RS256")
    assert await make().verify(token)
    server.keys.append(public_jwk("k2"))
    assert "does not publish" in await refused(make(), token)


OF_BIG: dict[str, Any] = {"unknown_clients": UnknownClients.ORGANIZATION, "unknown_clients_org": "big"}


def a_directory() -> Directory:
    return Directory(
        [
            Organization(
                id=org,
                name=org,
                plan=Plan(id="p"),
                credentials=(Credential(id=f"{org}-prod", org=org, key_sha256=b""),),
            )
            for org in ("acme", "big")
        ]
    )


class Identities:
    """Of a verifier and a directory; what is refused comes as a value."""

    def __init__(self, verifier: JwtVerifier, directory: Directory) -> None:
        self.clients = Clients(directory)
        self._tokens = JwtIdentities(verifier, self.clients)

    async def find(self, token: str) -> Any:
        return await awaited(self._tokens.find(token))


def identities(verifier: JwtVerifier, directory: Directory) -> Identities:
    return Identities(verifier, directory)


def found(identity: Any) -> tuple[str, str]:
    assert not isinstance(identity, Refusal), identity.message
    return identity[0].id, identity[1].id


def turned_away(identity: Any) -> str:
    assert isinstance(identity, Refusal)
    assert (identity.status, identity.code) == (401, ErrorCode.INVALID_API_KEY)
    return identity.message


async def test_a_clients_token_is_its_credential(make: Make) -> None:
    assert found(await identities(make(), a_directory()).find(a_token())) == ("acme", "acme-prod")


@pytest.mark.parametrize(
    ("changes", "claims", "says"),
    [
        ({}, {"client_id": "stranger"}, "not known here"),
        ({"org_claim": "org_id"}, {"org_id": "big"}, "another organization"),
        ({"org_claim": "org_id", "is_org_optional": True}, {"org_id": "big"}, "another organization"),
        ({"org_claim": "org_id", "is_org_optional": True, "org_ids": UUIDS}, {"org_id": UUID_OF_BIG}, "another organization"),
        ({"org_claim": "org_id", "is_org_optional": True, "org_ids": UUIDS}, {"org_id": "0" * 36}, "another organization"),
        ({"organizations": frozenset({"big"})}, {}, "another organization"),
        ({"org_claim": "org_id"}, {"org_id": ""}, "not known here"),
        ({"org_claim": "org_id"}, {"org_id": "Acme"}, "another organization"),
        ({"unknown_clients": UnknownClients.ORGANIZATION, "unknown_clients_org": "big"}, {}, "another organization"),
        (
            {"unknown_clients": UnknownClients.ORGANIZATION, "unknown_clients_org": "gone"},
            {"client_id": "stranger"},
            "not known here",
        ),
        (
            {"unknown_clients": UnknownClients.CLAIMED_ORGANIZATION, "org_claim": "org_id"},
            {"client_id": "stranger"},
            "not known here",
        ),
        (
            {"unknown_clients": UnknownClients.CLAIMED_ORGANIZATION, "org_claim": "org_id", "organizations": frozenset({"acme"})},
            {"client_id": "stranger", "org_id": "big"},
            "another organization",
        ),
        (
            {"unknown_clients": UnknownClients.ORGANIZATION, "unknown_clients_org": "big", "org_claim": "org_id"},
            {"client_id": "stranger", "org_id": "acme"},
            "another organization",
        ),
    ],
)
async def test_a_valid_token_of_the_wrong_client_is_refused(
    make: Make, changes: dict[str, Any], claims: dict[str, Any], says: str
) -> None:
    refusal = await identities(make(**changes), a_directory()).find(a_token(**claims))

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (401, ErrorCode.INVALID_API_KEY)
    assert says in refusal.message


async def test_unknown_clients_are_attached_where_the_policy_says_so(make: Make, server: AuthorizationServer) -> None:
    named = identities(make(**OF_BIG), a_directory())
    claimed = identities(make(unknown_clients=UnknownClients.CLAIMED_ORGANIZATION, org_claim="org_id"), a_directory())

    assert found(await named.find(a_token(client_id="stranger"))) == ("big", "stranger")
    assert found(await named.find(a_token(client_id="big-prod"))) == ("big", "big-prod")
    assert found(await claimed.find(a_token(client_id="stranger", org_id="acme"))) == ("acme", "stranger")


async def test_an_organization_that_a_token_may_name_binds_it_only_where_it_is_named(make: Make) -> None:
    policy = {"org_claim": "org_id", "is_org_optional": True, "org_ids": UUIDS}
    tokens = identities(make(**policy), a_directory())
    assert found(await tokens.find(a_token())) == ("acme", "acme-prod")
    assert found(await tokens.find(a_token(org_id=UUID_OF_ACME))) == ("acme", "acme-prod")
    assert found(await tokens.find(a_token(org_id="acme"))) == ("acme", "acme-prod")

    claimed = identities(make(unknown_clients=UnknownClients.CLAIMED_ORGANIZATION, **policy), a_directory())
    assert found(await claimed.find(a_token(client_id="stranger", org_id=UUID_OF_BIG))) == ("big", "stranger")
    assert "not known here" in turned_away(await claimed.find(a_token(client_id="stranger")))


async def test_a_token_without_the_organization_that_it_may_name_confirms_no_client_id_that_was_taken(make: Make) -> None:
    directory = a_directory()
    acme = directory.organization("acme")
    assert acme is not None
    squatter = Credential(id="mobile", org="acme", key_sha256=b"", is_self_made=True)
    directory.put(replace(acme, credentials=(*acme.credentials, squatter)))
    tokens = identities(make(org_claim="org_id", is_org_optional=True), directory)

    assert found(await tokens.find(a_token(client_id="mobile", org_id="acme"))) == ("acme", "mobile")
    assert "not known here" in turned_away(await tokens.find(a_token(client_id="mobile")))


async def test_who_takes_a_client_id_for_itself_neither_becomes_that_client_nor_locks_it_out(make: Make) -> None:
    directory = a_directory()
    squatter = Credential(id="mobile", org="acme", key_sha256=b"", is_self_made=True)
    acme = directory.organization("acme")
    assert acme is not None
    directory.put(replace(acme, credentials=(*acme.credentials, squatter)))
    mobile = a_token(client_id="mobile", org_id="big")

    assert found(await identities(make(**OF_BIG), directory).find(mobile)) == ("big", "mobile")
    assert isinstance(await identities(make(), directory).find(mobile), Refusal)
    confirmed = a_token(client_id="mobile", org_id="acme")
    for changes in ({"org_claim": "org_id"}, {"organizations": frozenset({"acme"})}):
        assert found(await identities(make(**changes), directory).find(confirmed)) == ("acme", "mobile")


async def test_a_retired_client_id_is_attached_nowhere(make: Make) -> None:
    directory = a_directory()
    directory.retired = {("stranger", EVERYWHERE)}
    refusal = await identities(make(**OF_BIG), directory).find(a_token(client_id="stranger"))

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (401, ErrorCode.INVALID_API_KEY)


async def test_a_client_id_that_an_organization_took_for_itself_is_retired_there_alone(make: Make) -> None:
    directory = a_directory()
    directory.retired = {("mobile", "acme")}
    claimed = identities(make(unknown_clients=UnknownClients.CLAIMED_ORGANIZATION, org_claim="org_id"), directory)

    assert found(await identities(make(**OF_BIG), directory).find(a_token(client_id="mobile"))) == ("big", "mobile")
    assert found(await claimed.find(a_token(client_id="mobile", org_id="big"))) == ("big", "mobile")
    of_acme = a_token(client_id="mobile", org_id="acme")
    assert "revoked" in turned_away(await claimed.find(of_acme))

    # nor does it come back where another organization has the id meanwhile
    big = directory.organization("big")
    assert big is not None
    other = Credential(id="mobile", org="big", key_sha256=b"", is_self_made=True)
    directory.put(replace(big, credentials=(*big.credentials, other)))
    assert "revoked" in turned_away(await claimed.find(of_acme))


async def test_an_issuer_of_several_organizations_does_not_confirm_what_one_of_them_took_for_itself(make: Make) -> None:
    directory = a_directory()
    acme = directory.organization("acme")
    assert acme is not None
    squatter = Credential(id="mobile", org="acme", key_sha256=b"", is_self_made=True)
    directory.put(replace(acme, credentials=(*acme.credentials, squatter)))
    both = identities(make(organizations=frozenset({"acme", "big"})), directory)

    assert "not known here" in turned_away(await both.find(a_token(client_id="mobile")))


async def test_clients_of_one_name_from_two_issuers_are_two(make: Make) -> None:
    other = "https://other.example.com"
    verifier = JwtVerifier({**make(**OF_BIG).issuers, **make(**OF_BIG, issuer=other).issuers})
    tokens = identities(verifier, a_directory())

    assert found(await tokens.find(a_token(client_id="c"))) == ("big", "c")
    assert found(await tokens.find(a_token(client_id="c", iss=other))) == ("big", "other")
    assert found(await tokens.find(a_token(client_id="c"))) == ("big", "c")


async def test_clients_of_one_organization_do_not_use_up_the_names_of_another(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients_module, "ATTACHED_MAX", 2)
    policy = {"unknown_clients": UnknownClients.CLAIMED_ORGANIZATION, "org_claim": "org_id"}
    tokens = identities(make(**policy), a_directory())
    clients = [
        found(await tokens.find(a_token(client_id=client, org_id=org)))
        for client, org in (("a", "acme"), ("b", "acme"), ("c", "acme"), ("a", "big"))
    ]

    assert clients == [("acme", "a"), ("acme", "b"), ("acme", "other"), ("big", "a")]


async def test_attached_clients_are_told_apart_up_to_a_bound(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients_module, "ATTACHED_MAX", 2)
    tokens = identities(make(unknown_clients=UnknownClients.ORGANIZATION, unknown_clients_org="big"), a_directory())
    clients = [found(await tokens.find(a_token(client_id=f"c{number}")))[1] for number in (1, 2, 3, 4, 1)]

    assert clients == ["c1", "c2", "other", "other", "c1"]


async def test_without_keys_the_answer_is_503_and_worth_a_retry(make: Make, server: AuthorizationServer) -> None:
    server.is_down = True

    assert await identities(make(), a_directory()).find(a_token()) is UNAVAILABLE
    assert (UNAVAILABLE.status, UNAVAILABLE.should_retry) == (503, True)


def test_a_file_of_keys_is_checked_with_the_configuration(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    text = f"jwt_issuers:\n  - issuer: {ISSUER}\n    jwks_file: {keys}\n    unknown_clients: {{organization: big}}\n"
    for body, expected in (
        ("{}", 1),
        (json.dumps({"keys": [public_jwk("k1")]}), 0),
        (json.dumps({"keys": [public_jwk("e", "ec")]}), 1),
    ):
        keys.write_text(body)
        problems = Problems()
        document = read_document("authentication.yaml", text.encode(), problems)
        assert document is not None
        (issuer,) = read_authentication(document, environ={}).jwt_issuers
        assert len(problems.texts()) == expected
        assert (issuer.clients.unknown_clients, issuer.clients.unknown_clients_org) == (UnknownClients.ORGANIZATION, "big")
    assert problems.lines[0].startswith("authentication.yaml:3: jwt_issuers[0].jwks_file holds no public key for RS256")


@pytest.mark.parametrize("value", [True, False, 0, 1, -7, "true", "1"])
async def test_a_required_claim_may_be_text_a_whole_number_or_true_or_false(make: Make, value: object) -> None:
    claims, problems = _required_claims(f"{{verified: {json.dumps(value)}}}")

    assert (repr(claims), problems) == (repr((("verified", value),)), ())
    assert await make(required_claims=claims).verify(a_token(verified=value))


@pytest.mark.parametrize("written", ["1.5", "null", "[true]", "{a: true}", "yes", "0x1", "2026-01-31"])
def test_a_required_claim_that_no_token_could_have_to_the_letter_is_a_mistake(written: str) -> None:
    _, (problem,) = _required_claims(f"{{verified: {written}}}")

    assert problem.startswith("authentication.yaml:4: jwt_issuers[0].required_claims.verified must be ")


def _required_claims(written: str) -> tuple[Any, tuple[str, ...]]:
    text = f"jwt_issuers:\n  - issuer: {ISSUER}\n    jwks_url: https://id.example/keys\n    required_claims: {written}\n"
    problems = Problems()
    document = read_document("authentication.yaml", text.encode(), problems)
    assert document is not None
    (issuer,) = read_authentication(document, environ={}).jwt_issuers
    return issuer.required_claims, problems.texts()


def test_an_issuer_whose_claim_changes_from_a_number_to_a_truth_is_another() -> None:
    one, true = (JwtIssuer(issuer=ISSUER, required_claims=(("verified", value),)) for value in (1, True))

    assert one.is_same_as(replace(one))
    assert not one.is_same_as(true)
    assert not one.is_same_as(replace(one, issuer="https://other.example"))


@pytest.mark.parametrize("key", ["organizations", "audiences", "scopes", "algorithms", "required_claims"])
def test_an_empty_restriction_is_a_mistake_and_not_a_licence(key: str) -> None:
    empty = "{}" if key == "required_claims" else "[]"
    text = f"jwt_issuers:\n  - issuer: {ISSUER}\n    jwks_url: https://id.example/keys\n    {key}: {empty}\n"
    problems = Problems()
    document = read_document("authentication.yaml", text.encode(), problems)
    assert document is not None
    read_authentication(document, environ={})
    assert problems.texts() == (
        f"authentication.yaml:4: jwt_issuers[0].{key} must not be empty: leave it out if nothing is asked for",
    )
