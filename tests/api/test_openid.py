"""Signing in at an OpenID provider: who comes in and sees what, and everything that is refused."""

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from aiohttp import ClientSession, DummyCookieJar, web
from api_world import World
from browser import SAME, Browser
from openid_provider import CLIENT_ID, NOW, Provider, private_key, running_provider

from tallygate.console.openid import CALLBACK_PATH, START_PATH


@pytest.fixture
async def provider(world: World) -> AsyncIterator[Provider]:
    await world.keep("acme", "globex")
    async with running_provider() as provider:
        world.openid = provider.config()
        yield provider


class SsoBrowser(Browser):
    """Keeps every cookie, follows nothing by itself."""

    def __init__(self, world: World, http: ClientSession) -> None:
        super().__init__(world, http)
        self.jar: dict[str, str] = {}
        self.set_cookies: dict[str, Any] = {}

    async def visit(self, location: str, **headers: str) -> str:
        """Where it is sent, "" for nowhere."""
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.jar.items())} if self.jar else {}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._http.get(location, headers=cookie | given, allow_redirects=False) as answer:
            self.status = answer.status
            for text in answer.headers.getall("Set-Cookie", ()):
                ((name, morsel),) = SimpleCookie(text).items()
                self.set_cookies[name] = morsel
                self.jar[name] = morsel.value
            return answer.headers.get("Location", "")

    async def sign_in_at(self, provider: Provider) -> str:
        """Where it lands in the end."""
        return await self.visit(provider.authorize(await self.visit(START_PATH)), Sec_Fetch_Site="cross-site")

    async def session(self) -> tuple[int, Any]:
        self.cookie = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        return await self("GET", "/api/session")


@pytest.fixture
async def browser(world: World) -> AsyncIterator[SsoBrowser]:
    async with ClientSession(world.url, cookie_jar=DummyCookieJar()) as session:
        yield SsoBrowser(world, session)


async def test_who_signs_in_sees_what_the_claim_says(browser: SsoBrowser, provider: Provider) -> None:
    shown = {"name": "Acme SSO", "path": START_PATH}
    assert (await browser.session())[1]["sign_in"] == {"by": None, "openid": shown}

    assert await browser.sign_in_at(provider) == "/"

    status, found = await browser.session()
    assert (status, found["name"], found["access"], found["organizations"]) == (200, "ada@acme.example", "read", ["acme"])
    assert found["sign_in"] == {"by": "openid", "openid": shown}
    assert (await browser("GET", "/api/organizations/globex"))[0] == 404
    port = browser.world.url.rpartition(":")[2]
    session = browser.set_cookies[f"tallygate_session_{port}"]
    assert (session["samesite"], session["httponly"]) == ("Strict", True)
    assert browser.set_cookies[f"tallygate_sign_in_{port}"]["max-age"] == "0"  # used up


async def test_the_request_is_bound_to_this_browser(browser: SsoBrowser, provider: Provider) -> None:
    location = await browser.visit(START_PATH)
    asked = {name: value for name, (value,) in parse_qs(urlsplit(location).query).items()}

    assert asked["response_type"] == "code"
    assert asked["client_id"] == CLIENT_ID
    assert asked["redirect_uri"] == browser.world.url + CALLBACK_PATH
    assert asked["scope"] == "openid profile email"
    assert asked["code_challenge_method"] == "S256"
    secret = browser.jar[f"tallygate_sign_in_{browser.world.url.rpartition(':')[2]}"]
    assert secret not in location
    assert len({asked["state"], asked["nonce"], asked["code_challenge"], secret}) == 4
    cookie = browser.set_cookies[f"tallygate_sign_in_{browser.world.url.rpartition(':')[2]}"]
    assert (cookie["samesite"], cookie["httponly"], cookie["max-age"]) == ("Lax", True, "600")
    again = await browser.visit(START_PATH)
    assert parse_qs(urlsplit(again).query)["state"] != [asked["state"]]


SEEN = [
    ({"groups": ["both", "other"]}, ["acme", "globex"], "read"),
    ({"groups": "both", "roles": ["admin"]}, ["acme", "globex"], "write"),
    ({"groups": ["staff"]}, None, "read"),
    ({"groups": ["staff", "acme-finance"], "roles": "admin"}, None, "write"),
    ({"groups": ["acme-finance", "ghosts"]}, ["acme"], "read"),
    ({"groups": ["acme-finance"], "roles": [["admin"], {"admin": True}, "administrator"]}, ["acme"], "read"),
]


@pytest.mark.parametrize(("claims", "organizations", "access"), SEEN)
async def test_claims_give_organizations_and_access(
    browser: SsoBrowser, provider: Provider, claims: Any, organizations: Any, access: str
) -> None:
    provider.claims |= claims
    assert await browser.sign_in_at(provider) == "/"

    _, found = await browser.session()
    assert (found["organizations"], found["access"]) == (organizations, access)


@pytest.mark.parametrize("groups", [None, [], "", "nobody", ["ghosts"], 7, {"acme-finance": True}, [["acme-finance"]], ["acme"]])
async def test_who_has_no_organization_here_is_told_so(browser: SsoBrowser, provider: Provider, groups: Any) -> None:
    provider.claims["groups"] = groups

    assert await browser.sign_in_at(provider) == "/#sign_in=no_organization"
    assert (await browser.session())[0] == 401


async def test_a_claim_may_name_organizations_by_their_ids_within_mappings(browser: SsoBrowser, provider: Provider) -> None:
    browser.world.openid = provider.config(
        organizations_claim="realm_access.roles", organizations=None, all_organizations=frozenset()
    )
    provider.claims["realm_access"] = {"roles": ["globex", "no id", "gone", "staff"]}

    assert await browser.sign_in_at(provider) == "/"
    assert (await browser.session())[1]["organizations"] == ["globex"]


def forged(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, private_key("other"), algorithm="RS256", headers={"kid": "k1"})


def unsigned(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, None, algorithm="none", headers={"kid": "k1"})


def signed_with_the_public_key(claims: dict[str, Any]) -> str:
    import base64
    import hashlib
    import hmac

    from cryptography.hazmat.primitives import serialization

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    public = private_key("k1").public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = f"{part(json.dumps({'alg': 'HS256', 'kid': 'k1'}).encode())}.{part(json.dumps(claims).encode())}"
    return f"{text}.{part(hmac.digest(pem, text.encode(), hashlib.sha256))}"


WRONG = {
    "nonce": {"claims": {"nonce": "another"}},
    "no nonce": {"claims": {"nonce": None}},
    "nonce of another kind": {"claims": {"nonce": ["x"]}},
    "issuer": {"claims": {"iss": "https://evil.example"}},
    "audience": {"claims": {"aud": "another"}},
    "audiences without a party": {"claims": {"aud": [CLIENT_ID, "another"]}},
    "party": {"claims": {"azp": "another"}},
    "expired": {"claims": {"exp": NOW - 31}},
    "expired as text": {"claims": {"exp": str(NOW + 300)}},
    "old": {"claims": {"iat": NOW - 631, "exp": NOW + 9_999}},
    "future": {"claims": {"iat": NOW + 31}},
    "not yet": {"claims": {"nbf": NOW + 31}},
    "no subject": {"claims": {"sub": None}},
    "subject of another kind": {"claims": {"sub": 7}},
    "long subject": {"claims": {"sub": "x" * 256}},
    "key": {"signed": forged},
    "alg none": {"signed": unsigned},
    "alg HS256 with the public key": {"signed": signed_with_the_public_key},
    "no token": {"signed": lambda _claims: "nonsense"},
    "encrypted": {"signed": lambda _claims: "a.b.c.d.e"},
    "endless": {"signed": lambda claims: "e" * 100_000},
    "no ID token": {"token_answer": lambda: web.json_response({"access_token": "at"})},
    "no JSON": {"token_answer": lambda: web.Response(text="<html>")},
    "code": {"token_answer": lambda: web.json_response({"error": "invalid_grant"}, status=400)},
}


@pytest.mark.parametrize("spoiled", WRONG.values(), ids=[*WRONG])
async def test_what_is_not_the_providers_answer_to_this_sign_in_is_refused(
    browser: SsoBrowser, provider: Provider, spoiled: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    provider.claims |= spoiled.get("claims", {})
    provider.signed, provider.token_answer = spoiled.get("signed"), spoiled.get("token_answer")

    with caplog.at_level(logging.INFO):
        assert await browser.sign_in_at(provider) == "/#sign_in=refused"

    assert (await browser.session())[0] == 401
    assert browser.world.wrong_tokens.count == 1
    shown = "".join(str(record.__dict__) for record in caplog.records)
    assert "nobody was signed in" in shown
    for secret in (*browser.jar.values(), "s3cret", "ada@acme.example"):
        assert not secret or secret not in shown


async def test_a_token_that_names_this_party_among_others_is_taken(browser: SsoBrowser, provider: Provider) -> None:
    provider.claims |= {"aud": [CLIENT_ID, "another"], "azp": CLIENT_ID}
    assert await browser.sign_in_at(provider) == "/"


async def test_a_code_is_good_once_and_only_where_it_was_asked_for(browser: SsoBrowser, provider: Provider, world: World) -> None:
    back = provider.authorize(await browser.visit(START_PATH))
    cookies = dict(browser.jar)
    stranger = SsoBrowser(world, browser._http)
    assert await stranger.visit(back) == "/#sign_in=expired"  # another browser's state
    assert await browser.visit(back) == "/"
    browser.jar = cookies  # who kept the cookie
    assert await browser.visit(back) == "/#sign_in=refused"


@pytest.mark.parametrize("change", [{"state": "x"}, {"state": "\u00e9"}, {"state": ""}])
async def test_another_state_is_refused_before_the_provider_is_asked(browser: SsoBrowser, provider: Provider, change: Any) -> None:
    back = provider.authorize(await browser.visit(START_PATH))
    path, _, query = back.partition("?")
    spoiled = {name: value for name, (value,) in parse_qs(query).items()} | change

    assert await browser.visit(f"{path}?{urlencode(spoiled)}") == "/#sign_in=expired"
    assert len(provider.codes) == 1  # not used


async def answered(browser: SsoBrowser, provider: Provider, **more: str) -> str:
    back = provider.authorize(await browser.visit(START_PATH))
    return await browser.visit(f"{back}&{urlencode(more)}")


async def test_an_answer_of_another_provider_is_refused(browser: SsoBrowser, provider: Provider) -> None:
    assert await answered(browser, provider, iss="https://evil.example") == "/#sign_in=refused"
    assert await answered(browser, provider, iss=provider.url) == "/"


async def test_a_provider_that_says_who_it_is_always_does(browser: SsoBrowser, provider: Provider) -> None:
    provider.described["authorization_response_iss_parameter_supported"] = True
    assert await browser.sign_in_at(provider) == "/#sign_in=refused"


async def test_errors_of_the_provider_are_not_repeated(browser: SsoBrowser, provider: Provider) -> None:
    evil = "<script>\r\nSet-Cookie: a=b"
    assert await answered(browser, provider, error="access_denied", error_description=evil) == "/#sign_in=cancelled"
    assert await answered(browser, provider, error=evil) == "/#sign_in=refused"


@pytest.mark.parametrize(
    "described",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://evil.example/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": "https://user:password@evil.example/"},
        {"jwks_uri": 7},
        {"x": "y" * 300_000},
    ],
)
async def test_a_description_that_is_not_the_providers_is_not_used(browser: SsoBrowser, provider: Provider, described: Any) -> None:
    provider.described = described
    assert await browser.visit(START_PATH) == "/#sign_in=unavailable"


async def test_a_provider_that_is_away_is_asked_again_after_a_while_and_not_each_time(
    browser: SsoBrowser, provider: Provider
) -> None:
    provider.is_down = True
    for _ in range(3):
        assert await browser.visit(START_PATH) == "/#sign_in=unavailable"
    assert len(provider.fetches) == 1

    provider.is_down = False
    browser.world.now_ms += 5_000
    assert await browser.sign_in_at(provider) == "/"
    assert await browser.sign_in_at(provider) == "/"
    assert len(provider.fetches) == 3


async def test_a_new_key_of_the_provider_is_fetched_and_unknown_ones_seldom(browser: SsoBrowser, provider: Provider) -> None:
    await browser.sign_in_at(provider)
    provider.keys = ["k2"]
    provider.signed = lambda claims: jwt.encode(claims, private_key("k2"), algorithm="RS256", headers={"kid": "k2"})
    assert await browser.sign_in_at(provider) == "/"

    fetched = len(provider.fetches)
    provider.signed = lambda claims: jwt.encode(claims, private_key("k3"), algorithm="RS256", headers={"kid": "k3"})
    for _ in range(3):
        assert await browser.sign_in_at(provider) == "/#sign_in=refused"
    assert len(provider.fetches) == fetched


async def test_a_client_may_prove_itself_in_the_form(browser: SsoBrowser, provider: Provider) -> None:
    provider.described["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    assert await browser.sign_in_at(provider) == "/"


async def test_another_site_begins_no_sign_in(browser: SsoBrowser, provider: Provider) -> None:
    for site in ("cross-site", "same-site"):
        assert await browser.visit(START_PATH, Sec_Fetch_Site=site) == "/#sign_in=elsewhere"
    assert provider.fetches == []


async def test_another_site_ends_no_sign_in_under_way(browser: SsoBrowser, provider: Provider) -> None:
    back = provider.authorize(await browser.visit(START_PATH))
    for location in (START_PATH, CALLBACK_PATH, f"{CALLBACK_PATH}?state=x&code=x", f"{CALLBACK_PATH}?state=x&error=access_denied"):
        assert (await browser.visit(location, Sec_Fetch_Site="cross-site")).startswith("/#sign_in=")
    assert await browser.visit(back, Sec_Fetch_Site="cross-site") == "/"


async def test_a_sign_in_that_the_provider_answered_is_over(browser: SsoBrowser, provider: Provider) -> None:
    assert await answered(browser, provider, iss="https://evil.example") == "/#sign_in=refused"
    assert [value for name, value in browser.jar.items() if "sign_in" in name] == [""]


@pytest.mark.parametrize("jar", [True, False])
async def test_a_wrong_state_counts_as_a_wrong_token(browser: SsoBrowser, provider: Provider, jar: bool) -> None:
    await browser.visit(START_PATH)
    if not jar:
        browser.jar = {}
    for _ in range(5):
        assert await browser.visit(f"{CALLBACK_PATH}?state=guessed&code=x") == "/#sign_in=expired"
    assert browser.world.wrong_tokens.count == 5


async def test_a_foreign_host_name_begins_and_ends_no_sign_in(browser: SsoBrowser, provider: Provider) -> None:
    back = provider.authorize(await browser.visit(START_PATH))
    for path in (START_PATH, back):
        assert await browser.visit(path, Host="evil.example") == ""
        assert browser.status == 403


async def test_without_a_provider_there_is_nothing(browser: SsoBrowser, world: World) -> None:
    for path in (START_PATH, CALLBACK_PATH):
        assert await browser.visit(path) == ""
        assert browser.status == 404
    assert (await browser.session())[1]["sign_in"]["openid"] is None


async def test_a_session_ends_with_the_rules_that_it_began_under(browser: SsoBrowser, provider: Provider) -> None:
    await browser.sign_in_at(provider)

    browser.world.openid = provider.config(name="Another name", client_secret="rotated")
    assert (await browser.session())[0] == 200
    browser.world.openid = provider.config(organizations={"acme-finance": ("globex",)})
    assert (await browser.session())[0] == 401
    browser.world.openid = None
    assert (await browser.session())[0] == 401


async def test_a_session_lasts_as_long_as_the_file_says(browser: SsoBrowser, provider: Provider) -> None:
    browser.world.openid = provider.config(session_ms=600_000)
    await browser.sign_in_at(provider)

    assert (await browser.session())[1]["expires_at"] == "2026-09-01T12:10:00Z"
    browser.world.now_ms += 600_000
    assert (await browser.session())[0] == 401


async def test_what_is_changed_is_logged_under_the_subject_and_not_under_a_name_of_ones_choice(
    browser: SsoBrowser, provider: Provider
) -> None:
    provider.claims |= {"email": "platform", "roles": ["admin"], "sub": "x" * 200}
    await browser.sign_in_at(provider)
    _, found = await browser.session()
    assert found["name"] == "platform"
    assert (await browser("POST", "/api/organizations/acme/credentials", {"id": "more"}))[0] == 201

    status, log = await browser.world.get("/api/audit", subject="more")
    assert status == 200
    assert log["entries"][0]["actor"].startswith("openid:")
    assert len(log["entries"][0]["actor"]) == 71


@pytest.mark.parametrize("name", [None, "", 7, "a\nb", "x" * 300])
async def test_a_name_that_is_none_is_not_shown(browser: SsoBrowser, provider: Provider, name: Any) -> None:
    provider.claims["email"] = name
    await browser.sign_in_at(provider)
    assert (await browser.session())[1]["name"] == "u1"


async def test_signing_in_ends_the_session_before_and_out_ends_this_one(browser: SsoBrowser, provider: Provider) -> None:
    assert (await browser("POST", "/api/session", {"token": "platform"}))[0] == 201
    before = browser.cookie
    name, _, value = before.partition("=")
    browser.jar = {name: value}

    await browser.sign_in_at(provider)

    assert (await browser.session())[1]["name"] == "ada@acme.example"
    browser.cookie = before
    assert (await browser("GET", "/api/session"))[0] == 401
    browser.cookie = f"{name}={browser.jar[name]}"
    assert (await browser.raw("DELETE", "/api/session", SAME))[0] == 204
    assert (await browser.session())[0] == 401


def test_a_provider_shows_no_secret() -> None:
    provider = Provider(url="https://a.example").config()
    assert "s3cret" not in repr(provider)
    assert replace(provider, client_secret="x").fingerprint == provider.fingerprint
    assert replace(provider, issuer="https://b.example").fingerprint != provider.fingerprint
