"""Keys that are looked up at a service: whom it admits, everything that it may answer, and what it is spared."""

import asyncio
import hashlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer
from jwt_world import NOW, Clock
from refused import awaited

from tallygate.config.client_policy import ClientPolicy, UnknownClients
from tallygate.config.directory import Directory
from tallygate.config.key_lookup import KeyLookup, Sends
from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.gateway.callers import key_answers, key_lookup
from tallygate.gateway.callers.clients import Clients
from tallygate.gateway.callers.key_answers import KeyAnswers, KnownKey
from tallygate.gateway.callers.key_lookup import ANSWER_BYTES_MAX, FAILED_MS, LOOKUP_FAILED, LOOKUPS_BUSY, LookedUpKeys
from tallygate.gateway.callers.keys import UNKNOWN_KEY
from tallygate.outbound.session import open_session
from tallygate.outbound.way_out import WayOut

KEY = "gloo-opaque-key-1"
ADDRESS = "203.0.113.7"


def sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass
class Service:
    """An introspection endpoint. keys: what is answered, by digest; others are inactive. gate: closed, it keeps callers waiting."""

    keys: dict[str, Any] = field(default_factory=lambda: {sha(KEY): {"active": True, "client_id": "acme-prod"}})
    asked: list[dict[str, str]] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    failures: list[Callable[[], web.StreamResponse]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    late: dict[int, asyncio.Event] = field(default_factory=dict)  # by number of the question
    open: int = 0
    most_open: int = 0
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = dict(await request.post())
        self.asked.append({name: str(value) for name, value in form.items()})
        self.headers.append(request.headers)
        number = len(self.asked)
        token = str(form["token"])
        answer = self.keys.get(token) or self.keys.get(sha(token)) or {"active": False}
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            await self.gate.wait()
            await self.late.get(number, self.gate).wait()
        finally:
            self.open -= 1
        if self.failures:
            return self.failures.pop(0)()
        return web.json_response(answer)

    async def elsewhere(self, _request: web.Request) -> web.Response:
        return web.json_response({"active": True, "client_id": "acme-prod"})


@pytest.fixture
async def service(aiohttp_server: Any) -> Service:
    service = Service()
    service.gate.set()
    app = web.Application()
    app.router.add_post("/introspect", service.handle)
    app.router.add_route("*", "/elsewhere", service.elsewhere)
    service.url = str((await aiohttp_server(app)).make_url("/introspect"))
    return service


@dataclass
class World:
    keys: LookedUpKeys
    clients: Clients
    directory: Directory
    clock: Clock
    results: list[str]

    async def find(self, key: str = KEY, address: str = ADDRESS) -> Any:
        found = await awaited(self.keys.find(key, address, self.clients))
        return found if isinstance(found, Refusal) else (found[0].id, found[1].id)


ACME = ("acme", "acme-prod")
Make = Callable[..., World]


def a_directory() -> Directory:
    return Directory(
        [
            Organization(id=org, name=org, plan=Plan(id="p"), credentials=(Credential(id=f"{org}-prod", org=org, key_sha256=b""),))
            for org in ("acme", "big")
        ]
    )


@pytest.fixture
async def make(service: Service) -> AsyncIterator[Make]:
    session = open_session(WayOut())
    made: list[LookedUpKeys] = []

    def make(policy: dict[str, Any] | None = None, **changes: Any) -> World:
        config = KeyLookup(**{"url": service.url, "clients": ClientPolicy(source=service.url, **(policy or {}))} | changes)
        clock, results, directory = Clock(), [], a_directory()
        loop = asyncio.get_running_loop()
        keys = LookedUpKeys(config, session, now_ms=clock, clock_ms=clock, count=results.append, loop=loop)
        made.append(keys)
        return World(keys, Clients(directory), directory, clock, results)

    yield make
    for keys in made:
        keys.abandon()
    await session.close()


async def test_a_key_is_asked_about_by_its_digest_and_its_answer_holds_for_a_while(make: Make, service: Service) -> None:
    world = make(secret="the-gateway's")

    assert [await world.find() for _ in range(3)] == [ACME] * 3
    assert service.asked == [{"token": sha(KEY), "token_type_hint": "key_sha256"}]
    assert service.headers[0]["Authorization"] == "Bearer the-gateway's"
    assert service.headers[0]["Content-Type"] == "application/x-www-form-urlencoded"
    assert (await world.find("another-key-0123456"), world.results) == (UNKNOWN_KEY, ["active", "inactive"])


async def test_a_service_that_needs_the_key_itself_gets_it_and_nothing_of_us_without_a_secret(make: Make, service: Service) -> None:
    assert await make(sends=Sends.KEY).find() == ACME
    assert service.asked == [{"token": KEY}]
    assert "Authorization" not in service.headers[0]


async def test_a_thousand_callers_of_one_new_key_ask_once_and_who_leaves_ends_nothing(make: Make, service: Service) -> None:
    world = make()
    service.gate.clear()
    callers = [asyncio.ensure_future(world.find()) for _ in range(1_000)]
    while not service.asked:
        await asyncio.sleep(0)
    callers[0].cancel()
    service.gate.set()

    found = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [ACME] * 999
    assert (len(service.asked), world.results) == (1, ["active"])


async def test_a_revoked_key_stops_within_the_time_that_answers_hold(make: Make, service: Service) -> None:
    world = make(ttl_ms=30_000, refused_ttl_ms=5_000)
    assert await world.find() == ACME
    service.keys.clear()
    world.clock.forward(seconds=29.999)
    assert await world.find() == ACME
    world.clock.forward(seconds=0.001)
    assert await world.find() is UNKNOWN_KEY

    service.keys[sha(KEY)] = {"active": True, "client_id": "acme-prod"}
    world.clock.forward(seconds=4.999)
    assert await world.find() is UNKNOWN_KEY
    world.clock.forward(seconds=0.001)
    assert await world.find() == ACME


async def test_a_reload_forgets_at_once_also_what_is_being_asked(make: Make, service: Service) -> None:
    world = make()
    assert await world.find() == ACME
    assert await world.find("another-key-0123456") is UNKNOWN_KEY
    service.keys = {sha("another-key-0123456"): {"active": True, "client_id": "big-prod"}}
    world.keys.forget()
    assert await world.find() is UNKNOWN_KEY
    assert await world.find("another-key-0123456") == ("big", "big-prod")


async def test_what_was_asked_before_everything_was_forgotten_is_not_remembered(make: Make, service: Service) -> None:
    world, said = make(), asyncio.Event()
    service.late = {1: said}
    early = asyncio.ensure_future(world.find())
    while service.open == 0:
        await asyncio.sleep(0)
    service.keys.clear()  # revoked, while the answer is on its way
    world.keys.forget()
    assert await world.find() is UNKNOWN_KEY
    said.set()
    assert await early == ACME
    assert await world.find() is UNKNOWN_KEY


async def test_what_a_service_says_of_times_is_kept_to(make: Make, service: Service) -> None:
    world = make()
    for claims, found in (
        ({"exp": NOW}, UNKNOWN_KEY),
        ({"nbf": NOW + 1}, UNKNOWN_KEY),
        ({"exp": NOW + 10, "nbf": NOW}, ACME),
        ({"exp": NOW + 10.5}, ACME),
    ):
        service.keys[sha(KEY)] = {"active": True, "client_id": "acme-prod"} | claims
        world.keys.forget()
        assert await world.find() == found
    world.clock.forward(seconds=10.5)
    assert await world.find() is UNKNOWN_KEY  # before its answer is too old


ADMITS = {"active": True, "client_id": "acme-prod"}


def redirect() -> web.Response:
    return web.Response(status=307, headers={"Location": "/elsewhere"})


@pytest.mark.parametrize(
    "answer",
    [
        *(lambda status=status: web.json_response(ADMITS, status=status) for status in (201, 400, 401, 403, 404, 429, 500, 503)),
        redirect,
        lambda: web.Response(text="yes"),
        lambda: web.Response(body=b"\xff\xfe"),
        lambda: web.json_response([{"active": True}]),
        lambda: web.json_response({"client_id": "acme-prod"}),
        lambda: web.json_response({"active": "true", "client_id": "acme-prod"}),
        lambda: web.json_response({"active": 1, "client_id": "acme-prod"}),
        lambda: web.json_response({"active": None, "client_id": "acme-prod"}),
        lambda: web.json_response({"active": True}),
        lambda: web.json_response({"active": True, "client_id": ["acme-prod"]}),
        lambda: web.json_response({"active": True, "client_id": 7}),
        lambda: web.json_response({"active": True, "client_id": "acme-prod", "exp": "never"}),
        lambda: web.json_response({"active": True, "client_id": "acme-prod", "exp": True}),
        lambda: web.json_response({"active": True, "client_id": "acme-prod", "exp": -1}),
        lambda: web.json_response({"active": True, "client_id": "acme-prod", "x": "y" * ANSWER_BYTES_MAX}),
        lambda: web.Response(text="[" * 50_000),
    ],
)
async def test_whatever_is_no_answer_admits_nobody_and_is_soon_tried_again(make: Make, service: Service, answer: Any) -> None:
    world = make()
    service.failures = [answer]
    found = await world.find()
    assert found is LOOKUP_FAILED
    assert (found.status, found.code, found.should_retry) == (503, ErrorCode.AUTHENTICATION_UNAVAILABLE, True)
    assert await world.find() is LOOKUP_FAILED
    assert len(service.asked) == 1  # not hammered

    world.clock.forward(seconds=FAILED_MS / 1000)
    assert await world.find() == ACME
    assert world.results == ["failed", "active"]


async def test_a_failing_service_admits_those_with_a_fresh_answer_alone(make: Make, service: Service) -> None:
    world = make()
    assert await world.find() == ACME
    service.failures = [lambda: web.Response(status=500)] * 9
    assert await world.find("another-key-0123456") is LOOKUP_FAILED
    assert await world.find() == ACME
    world.clock.forward(seconds=30)
    assert await world.find() is LOOKUP_FAILED


async def test_a_slow_or_absent_service_is_given_up(
    make: Make, service: Service, unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    service.gate.clear()
    caplog.set_level(logging.INFO)
    assert await make(timeout_ms=100).find() is LOOKUP_FAILED
    assert await make(url=f"http://127.0.0.1:{unused_tcp_port}/").find() is LOOKUP_FAILED
    service.gate.set()
    texts = [record.getMessage() for record in caplog.records if record.name == key_lookup.__name__]
    assert len(texts) == 2
    assert all(KEY not in text and sha(KEY) not in text for text in texts)


async def test_a_certificate_that_nobody_vouches_for_is_not_believed(make: Make, service: Service) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    app = web.Application()
    app.router.add_post("/introspect", service.handle)
    server = TestServer(app)
    await server.start_server(ssl=context)
    try:
        assert await make(url=f"https://localhost:{server.port}/introspect").find() is LOOKUP_FAILED
    finally:
        await server.close()
    assert service.asked == []


@pytest.mark.parametrize(
    "key",
    [
        "tg_acme-prod_abcdefgh",
        "tga_abcdefghijklmnop",
        "k" * 4_097,
        "kéy-0123456789abcdef",
        "key\x7f0123456789",
        "key\udcff0123456789",
    ],
)
async def test_keys_of_ours_and_what_is_no_key_are_not_asked_about(make: Make, service: Service, key: str) -> None:
    assert await make().find(key) is UNKNOWN_KEY
    assert service.asked == []


OPTIONAL_ORG = {"org_claim": "org_id", "is_org_optional": True, "org_ids": {"uuid-of-big": "big"}}


@pytest.mark.parametrize(
    ("policy", "claims", "found"),
    [
        ({}, {}, ACME),
        ({}, {"client_id": "stranger"}, "not known here"),
        ({"unknown_clients": UnknownClients.ORGANIZATION, "unknown_clients_org": "big"}, {"client_id": "new"}, ("big", "new")),
        ({"organizations": frozenset({"big"})}, {}, "belongs to another organization"),
        ({}, {"client_id": "no id"}, "has no claim 'client_id' that could be a Client ID"),
        ({"org_claim": "org_id"}, {}, "is of an organization that is not known here"),
        (OPTIONAL_ORG, {}, ACME),
        (OPTIONAL_ORG, {"org_id": "acme"}, ACME),
        (OPTIONAL_ORG, {"org_id": "uuid-of-big"}, "belongs to another organization"),
        (OPTIONAL_ORG, {"org_id": ["acme"]}, "that is not text"),
    ],
)
async def test_whom_the_service_may_speak_for_is_one_policy_with_tokens(
    make: Make, service: Service, policy: dict[str, Any], claims: dict[str, Any], found: Any
) -> None:
    service.keys[sha(KEY)] = {"active": True, "client_id": "acme-prod"} | claims
    answer = await make(policy=policy).find()
    if isinstance(found, tuple):
        assert answer == found
    else:
        assert answer.status == 401
        assert found in answer.message


async def test_a_revoked_credential_ends_at_once_whatever_was_answered(make: Make) -> None:
    world = make()
    assert await world.find() == ACME
    world.directory.remove("acme")
    world.clients.directory_changed()
    assert "not known here" in (await world.find()).message


async def test_invented_keys_are_throttled_by_network_and_known_ones_are_not(make: Make, service: Service) -> None:
    world = make()
    assert await world.find() == ACME
    found = [await world.find(f"invented-{number:08}") for number in range(key_lookup.NEW_BURST + 5)]
    assert (found.count(UNKNOWN_KEY), found.count(LOOKUPS_BUSY)) == (key_lookup.NEW_BURST, 5)
    assert await world.find("invented-00000000") is UNKNOWN_KEY  # remembered: not asked, not counted
    assert world.results.count("busy") == 5

    world.clock.forward(seconds=30)  # the known key is due, from the same network, whose strangers were too many
    for number in range(key_lookup.NEW_BURST):
        await world.find(f"again-{number:08}")
    assert await world.find("again-last") is LOOKUPS_BUSY
    assert await world.find() == ACME
    assert await world.find("new-from-elsewhere", "2001:db8::1") is UNKNOWN_KEY
    world.clock.forward(seconds=1)
    assert [await world.find(f"later-{number:08}") for number in range(21)].count(UNKNOWN_KEY) == key_lookup.NEW_PER_SECOND


async def test_good_new_keys_use_up_nothing(make: Make, service: Service) -> None:
    world = make()
    service.keys |= {sha(f"good-{number:08}"): {"active": True, "client_id": "acme-prod"} for number in range(300)}
    assert {await world.find(f"good-{number:08}") for number in range(300)} == {ACME}


async def test_questions_that_are_open_at_once_are_bounded(make: Make, service: Service) -> None:
    world = make()
    service.gate.clear()
    callers = [asyncio.ensure_future(world.find(f"new-{number:08}")) for number in range(120)]
    while service.open < 24:  # three quarters of the places are one network's
        await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)
    other = asyncio.ensure_future(world.find(KEY, "198.51.100.1"))
    while service.open < 25:
        await asyncio.sleep(0)
    service.gate.set()
    assert await asyncio.gather(*callers) == [UNKNOWN_KEY] * 120
    assert await other == ACME
    assert service.most_open <= key_lookup.OPEN_MAX


def known(org: str) -> KnownKey:
    client = key_answers.VerifiedClient(policy=ClientPolicy(), client_id="c", org="", expires_at_ms=0)
    return KnownKey(client=client, org=org, until_ms=0)


def test_what_is_remembered_is_bounded_and_fair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_answers, "KNOWN_MAX", 8)
    monkeypatch.setattr(key_answers, "REFUSED_MAX", 4)
    answers = KeyAnswers(lambda: 0)
    for number in range(20):
        answers.admit(b"acme%d" % number, known("acme"))
    assert [number for number in range(20) if answers.known(b"acme%d" % number)] == [14, 15, 16, 17, 18, 19]
    answers.admit(b"big", known("big"))
    answers.admit(b"acme20", known("acme"))
    assert answers.known(b"big")
    for number in range(20):
        answers.refuse(b"wrong%d" % number, UNKNOWN_KEY, until_ms=1)
        answers.admit(b"org%d" % number, known(f"org{number}"))
    assert [number for number in range(20) if answers.refusal(b"wrong%d" % number)] == [16, 17, 18, 19]
    assert len(answers._known) <= 8
    answers.admit(b"org19", known("org19"))
    assert answers.known(b"org19")
    assert sum(len(keys) for keys in answers._by_org.values()) == len(answers._known) == answers._shares.taken
