"""Signing in at the console: who a browser is, what ends a session, and what another site cannot do with its cookie."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, DummyCookieJar
from api_values import NOW_MS
from api_world import World, served
from browser import SAME, Browser
from new_ledger import new_ledger
from sqlalchemy import select

from tallygate.console import api_access
from tallygate.console.api_access import PlatformToken
from tallygate.console.directory_access import DirectoryTokens
from tallygate.ledger.database import Database
from tallygate.ledger.directory.records import Access
from tallygate.ledger.directory.schema import CONSOLE_SESSIONS
from tallygate.ledger.directory.sign_ins import (
    CLOCK_STEP_MS,
    IDLE_MS,
    LIFETIME_MS,
    LINK_MS,
    SEEN_EVERY_MS,
    Method,
    SignedIn,
    digest_of,
)


@pytest.fixture
async def http(world: World) -> AsyncIterator[ClientSession]:
    async with ClientSession(world.url, cookie_jar=DummyCookieJar()) as session:
        yield session


@pytest.fixture
def browser(world: World, http: ClientSession) -> Browser:
    return Browser(world, http)


async def test_a_token_signs_in_and_is_not_needed_again(browser: Browser) -> None:
    assert (await browser("GET", "/api/session"))[0] == 401
    assert await browser("GET", "/api/sign-in") == (200, {"session": None, "openid": None})

    found = await browser.sign_in("one")

    assert found == {
        "name": "one",
        "access": "read",
        "organizations": ["acme"],
        "expires_at": "2026-09-02T00:00:00Z",
        "sign_in": {"by": "token", "openid": None},
    }
    assert (await browser("GET", "/api/session")) == (200, found)
    assert await browser("GET", "/api/sign-in") == (200, {"session": found, "openid": None})
    assert (await browser("GET", "/api/usage"))[0] == 200


async def test_the_cookie_is_for_scripts_and_other_sites_out_of_reach(browser: Browser) -> None:
    await browser.sign_in("platform")

    assert (browser.set["httponly"], browser.set["samesite"], browser.set["path"]) == (True, "Strict", "/")
    assert (browser.set["secure"], browser.set["domain"]) == ("", "")
    assert browser.set["max-age"] == str(LIFETIME_MS // 1000)
    port = browser.world.url.rpartition(":")[2]
    assert browser.cookie.startswith(f"tallygate_session_{port}=tgs_")


async def test_behind_https_the_cookie_is_of_this_host_alone(tmp_path: Path) -> None:
    database = await new_ledger(tmp_path)
    async with (
        served(database, url="https://usage.example") as world,
        ClientSession(world.url, cookie_jar=DummyCookieJar()) as http,
    ):
        browser = Browser(world, http)
        headers = {"Host": "usage.example", "Origin": "https://usage.example"}
        status, _ = await browser.raw("POST", "/api/session", headers, json={"token": "one"})

        assert status == 201
        assert browser.set["secure"] is True
        assert browser.cookie.startswith("__Host-tallygate_session=")
        assert (await browser.raw("GET", "/api/session", {"Host": "usage.example"}))[0] == 200
        plain = {"Host": "usage.example", "Origin": "http://usage.example"}  # as who stands between could make one
        assert (await browser.raw("DELETE", "/api/session", plain))[1]["error"]["code"] == "cross_origin"
        browser.cookie = browser.cookie.removeprefix("__Host-")  # as a neighbour's host could set it
        assert (await browser.raw("GET", "/api/session", {"Host": "usage.example"}))[0] == 401
    await database.close()


async def test_without_a_session_the_answer_says_so_as_every_endpoint_does(browser: Browser) -> None:
    status, body = await browser("GET", "/api/session")

    assert (status, body["error"]["code"], body["sign_in"]) == (401, "invalid_admin_token", {"by": None, "openid": None})
    assert (await browser("GET", "/api/session", Authorization="Bearer one"))[1]["organizations"] == ["acme"]


@pytest.mark.parametrize(
    "body", [{"token": "wrong"}, {"token": "\ud800"}, {"token": "x" * 600}, {"link": "tgl_wrong"}, {"token": ""}]
)
async def test_what_is_wrong_signs_nobody_in_and_counts_as_a_wrong_token(browser: Browser, body: dict[str, str]) -> None:
    before = browser.world.wrong_tokens.count
    assert (await browser("POST", "/api/session", body))[0] == 401
    assert browser.cookie == ""
    assert browser.world.wrong_tokens.count == before + 1


@pytest.mark.parametrize("body", [{}, {"token": 1}, {"token": "one", "link": "x"}, {"user": "me"}, []])
async def test_a_body_that_is_no_sign_in_is_refused(browser: Browser, body: Any) -> None:
    assert (await browser("POST", "/api/session", body))[0] == 400


async def test_a_body_without_end_is_not_read_to_its_end(browser: Browser) -> None:
    assert (await browser.raw("POST", "/api/session", SAME | {"Content-Type": "application/json"}, data=b" " * 300_000))[0] == 413


async def test_a_token_for_metrics_signs_nobody_in(browser: Browser) -> None:
    known = browser.world.tokens.known
    known["scraper"] = replace(known["platform"], access=api_access.Access.METRICS)

    status, body = await browser("POST", "/api/session", {"token": "scraper"})

    assert (status, body["error"]["code"], browser.cookie) == (403, "metrics_only_token", "")


async def test_a_session_is_always_a_new_one_and_ends_the_one_before(browser: Browser, http: ClientSession) -> None:
    browser.cookie = f"tallygate_session_{browser.world.url.rpartition(':')[2]}=tgs_{'a' * 48}"  # planted
    await browser.sign_in("one")
    assert "a" * 48 not in browser.cookie
    first = Browser(browser.world, http)
    first.cookie = browser.cookie

    await browser.sign_in("two")

    assert (await browser("GET", "/api/session"))[1]["name"] == "two"
    assert (await first("GET", "/api/session"))[0] == 401


async def test_signing_out_ends_the_session_and_takes_the_cookie_away(browser: Browser, http: ClientSession) -> None:
    await browser.sign_in("platform")
    copy = Browser(browser.world, http)
    copy.cookie = browser.cookie

    assert await browser("DELETE", "/api/session") == (204, "")

    assert (browser.set.value, browser.set["max-age"]) == ("", "0")
    assert (await copy("GET", "/api/session"))[0] == 401
    assert (await browser("DELETE", "/api/session"))[0] == 204


async def test_signing_out_everywhere_ends_all_of_ones_own_sessions_and_nobody_elses(browser: Browser, http: ClientSession) -> None:
    others = [Browser(browser.world, http) for _ in range(3)]
    for other, token in zip(others, ("one", "one", "two"), strict=True):
        await other.sign_in(token)
    await browser.sign_in("one")

    assert (await browser("DELETE", "/api/session?everywhere=true"))[0] == 204

    assert [(await other("GET", "/api/session"))[0] for other in others] == [401, 401, 200]


async def test_a_session_ends_with_its_token(browser: Browser) -> None:
    await browser.sign_in("one")

    known = browser.world.tokens.known
    known["one"] = replace(known["one"], orgs=frozenset({"initech"}))
    assert (await browser("GET", "/api/session"))[1]["organizations"] == ["initech"]
    del known["one"]

    assert (await browser("GET", "/api/session"))[0] == 401
    assert (await browser("GET", "/api/usage"))[0] == 401


async def test_no_session_outlives_its_token(browser: Browser) -> None:
    known = browser.world.tokens.known
    known["one"] = replace(known["one"], expires_at_ms=NOW_MS + 60_000)

    assert (await browser.sign_in("one"))["expires_at"] == "2026-09-01T12:01:00Z"


async def test_a_session_ends_when_it_is_idle_and_at_its_end_however_it_is_used(browser: Browser) -> None:
    await browser.sign_in("platform")
    world = browser.world

    world.now_ms += IDLE_MS - 1
    assert (await browser("GET", "/api/session"))[0] == 200  # and noted
    world.now_ms += IDLE_MS - 1
    assert (await browser("GET", "/api/session"))[0] == 200
    world.now_ms += IDLE_MS
    assert (await browser("GET", "/api/session"))[0] == 401

    await browser.sign_in("platform")
    began = world.now_ms
    while world.now_ms < began + LIFETIME_MS:
        assert (await browser("GET", "/api/session"))[0] == 200
        world.now_ms += IDLE_MS // 2
    assert (await browser("GET", "/api/session"))[0] == 401


async def test_a_clock_that_is_set_back_prolongs_no_session(browser: Browser) -> None:
    await browser.sign_in("platform")

    browser.world.now_ms -= CLOCK_STEP_MS
    assert (await browser("GET", "/api/session"))[0] == 200
    browser.world.now_ms -= 1
    assert (await browser("GET", "/api/session"))[0] == 401


async def test_use_is_noted_once_a_minute_at_most(browser: Browser) -> None:
    await browser.sign_in("platform")

    async def seen() -> int:
        async with browser.world.database.read() as connection:
            return int((await connection.execute(select(CONSOLE_SESSIONS.c.seen_at_ms))).scalar_one())

    browser.world.now_ms += SEEN_EVERY_MS - 1
    await browser("GET", "/api/session")
    assert await seen() == NOW_MS
    browser.world.now_ms += 1
    await browser("GET", "/api/session")
    assert await seen() == NOW_MS + SEEN_EVERY_MS


async def test_one_token_has_a_bounded_number_of_sessions_and_takes_nobody_elses(
    browser: Browser, http: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallygate.ledger.directory.sign_ins.SESSIONS_OF_ONE_MAX", 3)
    other, first = Browser(browser.world, http), Browser(browser.world, http)
    await other.sign_in("two")
    await first.sign_in("one")
    for _ in range(3):
        browser.world.now_ms += 1
        await browser.sign_in("one")
        browser.cookie = ""

    async with browser.world.database.read() as connection:
        actors = list((await connection.execute(select(CONSOLE_SESSIONS.c.actor))).scalars())
    assert (actors.count("one"), actors.count("two")) == (3, 1)
    assert (await first("GET", "/api/session"))[0] == 401
    assert (await other("GET", "/api/session"))[0] == 200


async def test_all_sessions_together_are_bounded(browser: Browser, http: ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallygate.ledger.directory.sign_ins.SESSIONS_MAX", 2)
    browsers = [Browser(browser.world, http) for _ in range(3)]
    for each, token in zip(browsers, ("one", "two", "platform"), strict=True):
        browser.world.now_ms += 1
        await each.sign_in(token)

    assert [(await each("GET", "/api/session"))[0] for each in browsers] == [401, 200, 200]


async def test_the_database_has_digests_alone(browser: Browser) -> None:
    await browser.sign_in("platform")
    secret = browser.cookie.partition("=")[2]

    async with browser.world.database.read() as connection:
        row = (await connection.execute(select(CONSOLE_SESSIONS))).mappings().one()
    assert row["secret_sha256"] == digest_of(secret)
    assert secret not in str(dict(row))


FOREIGN = [
    {},  # no browser at all
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "OWN"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_another_site_signs_nobody_in_and_changes_nothing(browser: Browser, headers: dict[str, str]) -> None:
    headers = {name: value.replace("OWN", browser.world.url) for name, value in headers.items()}
    status, body = await browser.raw("POST", "/api/session", headers, json={"token": "platform"})
    assert (status, body["error"]["code"], browser.cookie) == (403, "cross_origin", "")
    await browser.sign_in("platform")

    for method, path, options in (
        ("POST", "/api/tokens", {"json": {"name": "x", "access": "read"}}),
        ("POST", "/api/tokens/tok_x/revoke", {}),
        ("DELETE", "/api/organizations/acme", {}),
        ("DELETE", "/api/session", {}),
    ):
        status, body = await browser.raw(method, path, headers, **options)
        assert (status, body["error"]["code"]) == (403, "cross_origin"), path


async def test_a_page_of_the_console_changes_things_in_older_browsers_too(browser: Browser) -> None:
    own = {"Origin": browser.world.url}
    assert (await browser.raw("POST", "/api/session", own, json={"token": "platform"}))[0] == 201
    assert (await browser.raw("POST", "/api/tokens", own, json={"name": "x", "access": "read"}))[0] == 201


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
async def test_what_a_form_can_send_is_no_change(browser: Browser, content_type: str) -> None:
    await browser.sign_in("platform")
    headers = SAME | {"Content-Type": content_type}

    for path in ("/api/session", "/api/tokens"):
        status, body = await browser.raw("POST", path, headers, data=b'{"name": "x", "access": "read"}')
        assert (status, body["error"]["code"]) == (415, "not_json"), path


async def test_a_token_in_the_header_needs_no_page_and_is_not_helped_by_a_cookie(browser: Browser) -> None:
    await browser.sign_in("platform")
    token = {"name": "x", "access": "read"}

    assert (await browser.raw("POST", "/api/tokens", {"Authorization": "Bearer platform"}, json=token))[0] == 201
    assert (await browser("GET", "/api/tokens", Authorization="Bearer wrong"))[0] == 401
    assert (await browser("GET", "/api/session", Authorization="Bearer one"))[1]["name"] == "one"


async def test_a_session_that_may_only_read_changes_nothing(browser: Browser) -> None:
    await browser.sign_in("one")

    status, body = await browser("POST", "/api/organizations/acme/credentials", {"id": "more"})

    assert (status, body["error"]["code"]) == (403, "read_only_token")


async def test_a_name_that_was_made_to_resolve_here_gets_no_page_and_no_session(browser: Browser) -> None:
    await browser.sign_in("platform")
    rebound = {"Host": f"evil.example:{browser.world.url.rpartition(':')[2]}"}

    for method, path in (("GET", "/"), ("GET", "/page/main.js"), ("POST", "/api/session"), ("DELETE", "/api/session")):
        status, body = await browser.raw(method, path, SAME | rebound, json={"token": "one"} if method == "POST" else None)
        assert (status, body["error"]["code"]) == (403, "unknown_host"), path
    assert (await browser.raw("GET", "/api/usage", rebound))[0] == 401
    assert (await browser.raw("GET", "/api/usage", rebound | {"Authorization": "Bearer one"}))[0] == 200


async def test_a_link_signs_in_once_within_its_time(browser: Browser, http: ClientSession) -> None:
    await browser.world.keep("acme")
    links = browser.world.directory.sign_ins
    made = await links.create_link("cli:me", name="Me", access=Access.WRITE, orgs=["acme"])

    browsers = [Browser(browser.world, http) for _ in range(8)]
    found = await asyncio.gather(*(each("POST", "/api/session", {"link": made.secret}) for each in browsers))
    assert sorted(status for status, _ in found) == [201] + [401] * 7
    ((_, body),) = [answer for answer in found if answer[0] == 201]
    assert (body["name"], body["access"], body["organizations"], body["sign_in"]["by"]) == ("Me", "write", ["acme"], "link")

    early = await links.create_link("cli:me", name="Me", access=Access.READ, orgs=None)
    browser.world.now_ms -= CLOCK_STEP_MS + 1  # a clock that is set back must not prolong it
    assert (await browser("POST", "/api/session", {"link": early.secret}))[0] == 401
    late = await links.create_link("cli:me", name="Me", access=Access.READ, orgs=None)
    browser.world.now_ms += LINK_MS
    status, body = await browser("POST", "/api/session", {"link": late.secret})
    assert (status, body["error"]["code"]) == (401, "invalid_link")


async def test_unopened_links_are_bounded_and_the_oldest_goes(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallygate.ledger.directory.sign_ins.LINKS_MAX", 2)
    made = []
    for _ in range(3):
        browser.world.now_ms += 1
        made.append(await browser.world.directory.sign_ins.create_link("cli:me", name="Me", access=Access.READ, orgs=None))

    assert [(await browser("POST", "/api/session", {"link": link.secret}))[0] for link in made] == [401, 201, 201]


async def test_a_deleted_organization_leaves_sessions_and_links(browser: Browser, http: ClientSession) -> None:
    world = browser.world
    await world.keep("acme", "globex")
    links = world.directory.sign_ins
    for_both = await links.create_link("cli:me", name="Both", access=Access.READ, orgs=["acme", "globex"])
    unused = await links.create_link("cli:me", name="Acme", access=Access.READ, orgs=["acme"])
    of_one = await links.create_link("cli:me", name="Acme", access=Access.READ, orgs=["acme"])
    both, one = Browser(world, http), Browser(world, http)
    await both("POST", "/api/session", {"link": for_both.secret})
    await one("POST", "/api/session", {"link": of_one.secret})

    await world.directory.organizations.delete("test", "acme")

    assert (await both("GET", "/api/session"))[1]["organizations"] == ["globex"]
    assert (await one("GET", "/api/session"))[0] == 401
    assert (await browser("POST", "/api/session", {"link": unused.secret}))[0] == 401


async def test_one_organizations_session_reaches_no_other(browser: Browser) -> None:
    await browser.world.keep("acme", "globex")
    await browser.sign_in("one")

    for path in ("/api/organizations/globex", "/api/usage?org=globex", "/api/spend?org=globex", "/api/events?org=globex"):
        assert (await browser("GET", path))[0] == 404, path
    assert [each["id"] for each in (await browser("GET", "/api/organizations"))[1]["organizations"]] == ["acme"]
    assert (await browser("GET", "/api/tokens"))[1]["error"]["code"] == "platform_token_needed"


@pytest.mark.parametrize(("token", "refusal"), [("platform", None), ("two", 403), (None, 401)])
async def test_metrics_are_for_sessions_that_see_everything(database: Database, token: str | None, refusal: int | None) -> None:
    async with served(database, metrics_sha256=b"") as world, ClientSession(world.url, cookie_jar=DummyCookieJar()) as http:
        browser = Browser(world, http)
        if token is not None:
            await browser.sign_in(token)
        status, _ = await browser("GET", "/metrics")
    assert status == (refusal or 500)  # there is nothing to show in this world


async def test_on_postgresql_one_of_many_opens_a_link_and_the_bound_holds(
    postgres_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallygate.ledger.directory.sign_ins.SESSIONS_OF_ONE_MAX", 3)
    sign_ins = postgres_world.directory.sign_ins
    made = await sign_ins.create_link("cli:me", name="Me", access=Access.READ, orgs=None)
    found = await asyncio.gather(*(sign_ins.begin_by_link(made.secret) for _ in range(8)))
    (won,) = [each for each in found if each is not None]

    await asyncio.gather(*(sign_ins.begin(won.session) for _ in range(8)))

    assert len(await sign_ins.list()) == 3


async def test_a_revoked_token_takes_its_sessions_out_of_the_database(world: World) -> None:
    book = world.directory
    made = await book.tokens.create("test", name="t", access=Access.READ, orgs=None)
    who = SignedIn(method=Method.TOKEN, actor=made.token.id, source=made.token.id, name="t", access=Access.READ, orgs=None)
    await book.sign_ins.begin(who)

    await book.tokens.revoke("test", made.token.id)

    assert await book.sign_ins.list() == ()


async def test_a_token_is_found_again_by_its_source_until_it_ends(world: World) -> None:
    stored = world.directory.tokens
    made = await stored.create("test", name="t", access=Access.READ, orgs=["acme"], expires_at_ms=NOW_MS + 1)
    other = await stored.create("test", name="o", access=Access.READ, orgs=None)

    def tokens(secret: str) -> DirectoryTokens:
        return DirectoryTokens(PlatformToken(hashlib.sha256(secret.encode()).digest()), stored)

    async def again(secret: str) -> Any:
        found = await tokens("first").find(secret)
        assert found is not None
        assert secret not in found.source
        return await tokens("first").of_source(found.source)

    assert (await again("first")).actor == "platform"
    assert ((await again(made.secret)).orgs, (await again(made.secret)).name) == (frozenset({"acme"}), "t")
    platform = await tokens("first").find("first")
    assert platform is not None
    assert await tokens("changed").of_source(platform.source) is None
    await stored.revoke("test", other.token.id)
    assert await tokens("first").of_source(other.token.id) is None
    world.now_ms += 1
    assert await tokens("first").of_source(made.token.id) is None
    assert await tokens("first").of_source("") is None


async def test_edited_cookies_are_nobodys(browser: Browser) -> None:
    await browser.sign_in("one")
    name, _, secret = browser.cookie.partition("=")

    for edited in (secret[:-1], f"{secret}a", secret.upper(), "", "tga_platform", "platform", "x" * 5_000):
        browser.cookie = f"{name}={edited}"
        assert (await browser("GET", "/api/usage"))[0] == 401, edited


async def test_the_sessions_are_those_of_every_console(browser: Browser, http: ClientSession) -> None:
    await browser.sign_in("one")
    async with served(browser.world.database) as another, ClientSession(another.url, cookie_jar=DummyCookieJar()) as there:
        elsewhere = Browser(another, there)
        ports = [world.url.rpartition(":")[2] for world in (browser.world, another)]
        elsewhere.cookie = browser.cookie.replace(*ports)

        assert (await elsewhere("GET", "/api/session"))[1]["name"] == "one"
