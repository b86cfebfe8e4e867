"""OAuth2 client credentials against a real server on the loopback, on a clock that the tests move."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import aiohttp
import pytest
from aiohttp import web

from tallygate.config.model import AuthKind, UpstreamAuth
from tallygate.gateway.oauth2_token import ANSWER_BYTES_MAX, ATTEMPTS_MAX, OAuth2Token
from tallygate.outbound.session import FetchError


@dataclass
class AuthorizationServer:
    """Answers with what `answers` yields next, else with a token "t1", "t2" ... good for an hour."""

    answers: list[web.Response] = field(default_factory=list)
    requests: list[tuple[dict[str, str], dict[str, list[str]]]] = field(default_factory=list)
    arrivals: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    expires_in: object = 3600

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), parse_qs(await request.text())))
        number = len(self.requests)
        self.arrivals.release()
        await self.gate.wait()
        if self.answers:
            return self.answers.pop(0)
        return web.json_response({"access_token": f"t{number}", "expires_in": self.expires_in, "token_type": "Bearer"})


@dataclass
class Clock:
    now_ms: int = 1_000_000
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> int:
        return self.now_ms

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
async def server(aiohttp_server: Callable[..., Awaitable]) -> AuthorizationServer:
    server = AuthorizationServer()
    server.gate.set()
    app = web.Application()
    app.router.add_post("/oauth2/token", server.handle)
    server.url = str((await aiohttp_server(app)).make_url("/oauth2/token"))
    return server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def token(server: AuthorizationServer, clock: Clock) -> AsyncIterator[OAuth2Token]:
    auth = UpstreamAuth(
        kind=AuthKind.OAUTH2_CLIENT_CREDENTIALS,
        token_url=server.url,
        client_id="client:id",
        secret="s/e c+r%t",
        scope="api/access",
    )
    async with aiohttp.ClientSession() as session:
        yield OAuth2Token(auth, session, now_ms=clock, timeout_ms=5_000, sleep=clock.sleep)


async def test_the_request_is_what_the_rfc_asks_for(server: AuthorizationServer, token: OAuth2Token) -> None:
    assert await token.get() == "t1"
    headers, form = server.requests[0]

    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"client%3Aid:s%2Fe+c%2Br%25t"
    assert form == {"grant_type": ["client_credentials"], "scope": ["api/access"]}


async def test_a_token_is_kept_until_a_minute_before_its_end(server: AuthorizationServer, token: OAuth2Token, clock: Clock) -> None:
    found = [await token.get()]
    clock.now_ms += 3_540_000 - 1
    found.append(await token.get())
    clock.now_ms += 1
    found.append(await token.get())

    assert found == ["t1", "t1", "t2"]
    assert len(server.requests) == 2


async def test_a_short_token_is_kept_for_half_its_life(server: AuthorizationServer, token: OAuth2Token, clock: Clock) -> None:
    server.expires_in = "40"  # as some servers send it: text
    await token.get()
    clock.now_ms += 19_999
    assert await token.get() == "t1"
    clock.now_ms += 1
    assert await token.get() == "t2"


async def test_many_that_wait_share_one_fetch(server: AuthorizationServer, token: OAuth2Token) -> None:
    server.gate.clear()
    waiting = [asyncio.ensure_future(token.get()) for _ in range(50)]
    await server.arrivals.acquire()
    server.gate.set()

    assert set(await asyncio.gather(*waiting)) == {"t1"}
    assert len(server.requests) == 1


async def test_while_one_renews_the_others_go_on_with_the_old_token(
    server: AuthorizationServer, token: OAuth2Token, clock: Clock
) -> None:
    await token.get()
    clock.now_ms += 3_550_000
    server.gate.clear()
    renewing = asyncio.ensure_future(token.get())
    await server.arrivals.acquire()
    await server.arrivals.acquire()

    assert await token.get() == "t1"
    server.gate.set()
    assert await renewing == "t2"


async def test_one_that_leaves_does_not_take_the_others_fetch_with_it(server: AuthorizationServer, token: OAuth2Token) -> None:
    server.gate.clear()
    first, second = (asyncio.ensure_future(token.get()) for _ in range(2))
    await server.arrivals.acquire()
    first.cancel()
    server.gate.set()

    assert await second == "t1"
    assert len(server.requests) == 1


async def test_attempts_are_bounded_and_spaced(server: AuthorizationServer, token: OAuth2Token, clock: Clock) -> None:
    server.answers = [web.Response(status=503) for _ in range(ATTEMPTS_MAX)]

    with pytest.raises(FetchError, match="answered 503"):
        await token.get()

    assert len(server.requests) == ATTEMPTS_MAX
    assert clock.slept == [0.2, 1.0]


async def test_a_passing_fault_is_survived(server: AuthorizationServer, token: OAuth2Token) -> None:
    server.answers = [web.Response(status=500), web.Response(status=429)]
    assert await token.get() == "t3"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"status": 401, "text": '{"error": "invalid_client canary"}'}, "answered 401"),
        ({"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}}, "answered 302"),
        ({"status": 200, "text": "<html>canary"}, "is not a token"),
        ({"status": 200, "text": '{"access_token": 7}'}, "is not a token"),
        ({"status": 200, "text": '{"access_token": "canary", "token_type": "mac"}'}, "not a bearer token"),
        ({"status": 200, "text": '{"access_token": "canary\\r\\nX: y"}'}, "not a bearer token"),
        ({"status": 200, "text": "x" * (ANSWER_BYTES_MAX + 1)}, "too long"),
    ],
)
async def test_a_refusal_or_nonsense_is_not_repeated_and_not_echoed(
    server: AuthorizationServer, token: OAuth2Token, answer, says: str
) -> None:
    server.answers = [web.Response(**answer)]

    with pytest.raises(FetchError, match=says) as caught:
        await token.get()

    assert len(server.requests) == 1
    assert "canary" not in str(caught.value)
    assert "s/e" not in str(caught.value)


async def test_everyone_who_waited_for_a_failed_round_gets_its_error_without_a_round_of_their_own(
    server: AuthorizationServer, token: OAuth2Token
) -> None:
    server.answers = [web.Response(status=401)]
    server.gate.clear()
    waiting = [asyncio.ensure_future(token.get()) for _ in range(20)]
    await server.arrivals.acquire()
    server.gate.set()
    ends = await asyncio.gather(*waiting, return_exceptions=True)

    assert {type(end) for end in ends} == {FetchError}
    assert len(server.requests) == 1
    assert await token.get() == "t2"


async def test_a_renewal_that_fails_leaves_the_old_token_until_it_expires(
    server: AuthorizationServer, token: OAuth2Token, clock: Clock
) -> None:
    await token.get()
    clock.now_ms += 3_540_000
    server.answers = [web.Response(status=400), web.Response(status=400)]
    assert await token.get() == "t1"
    assert await token.get() == "t1"
    assert len(server.requests) == 2  # not again before half of what is left
    clock.now_ms += 60_000

    with pytest.raises(FetchError, match="answered 400"):
        await token.get()


async def test_a_refused_token_is_given_up_once_a_minute_at_most(
    server: AuthorizationServer, token: OAuth2Token, clock: Clock
) -> None:
    found = [await token.get()]
    for pause_ms in (0, 59_999, 1):
        clock.now_ms += pause_ms
        token.refuse(found[-1])
        found.append(await token.get())

    assert found == ["t1", "t2", "t2", "t3"]
    assert len(server.requests) == 3


async def test_a_token_that_was_accepted_is_given_up_whenever_it_is_refused(
    server: AuthorizationServer, token: OAuth2Token
) -> None:
    for number in (1, 2, 3):
        found = await token.get()
        assert found == f"t{number}"
        token.accept(found)
        assert token.refuse(found)
        assert token.refuse(found)  # by a request that was sent with it earlier: the next one is another already


async def test_a_server_that_cannot_be_reached_is_an_error_of_ours(clock: Clock) -> None:
    auth = UpstreamAuth(kind=AuthKind.OAUTH2_CLIENT_CREDENTIALS, token_url="http://127.0.0.1:1/token", client_id="c", secret="s")
    async with aiohttp.ClientSession() as session:
        token = OAuth2Token(auth, session, now_ms=clock, timeout_ms=1_000, sleep=clock.sleep)
        with pytest.raises(FetchError, match="could not be reached"):
            await token.get()

    assert len(clock.slept) == ATTEMPTS_MAX - 1


async def test_the_operator_is_told_once_why_there_is_no_token_and_again_when_the_reason_changes(
    server: AuthorizationServer, token: OAuth2Token, caplog: pytest.LogCaptureFixture
) -> None:
    refused = [web.json_response({"error": "invalid_client"}, status=status) for status in (401, 401, 403)]
    server.answers = [*refused, web.json_response({"access_token": "t", "expires_in": 3600}), web.Response(status=403)]

    for _ in refused:
        with pytest.raises(FetchError):
            await token.get()
    assert await token.get() == "t"
    token.refuse("t")
    with pytest.raises(FetchError):
        await token.get()

    told = [record.getMessage() for record in caplog.records if record.name == "tallygate.gateway.oauth2_token"]
    reason = f"no access token from {server.url}: the authorization server answered"
    assert told == [f"{reason} 401", f"{reason} 403", f"{reason} 403"]


async def test_the_token_shows_in_no_repr(token: OAuth2Token) -> None:
    await token.get()
    assert "t1" not in f"{token!r} {token._kept!r}"
