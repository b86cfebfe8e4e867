"""Who may do what: the table of callers, keys and answers."""

import hashlib

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict
from refused import awaited, refusal_of

from tallygate.config.directory import Directory
from tallygate.domain.errors import ErrorCode, Refusal
from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.gateway.callers.clients import Clients
from tallygate.gateway.callers.foreign import ForeignCallers
from tallygate.gateway.callers.keys import check_caller, check_capability, check_model, presented_key

NOW = 1_800_000_000_000
CANARY = "canary5ecret"


def a_credential(name: str, **more) -> Credential:
    return Credential(id=name, org="acme", key_sha256=hashlib.sha256(f"{CANARY}{name}".encode()).digest(), **more)


def a_key(name: str) -> str:
    return f"tg_{name}_{CANARY}{name}"


DIRECTORY = Directory(
    [
        Organization(
            id="acme",
            name="Acme",
            plan=Plan(id="pay_as_you_go"),
            credentials=(
                a_credential("prod"),
                a_credential("off", enabled=False),
                a_credential("old", expires_at_ms=NOW),
                a_credential("new", expires_at_ms=NOW + 1),
            ),
        ),
        Organization(id="hobby", name="Hobby", plan=Plan(id="free", api_access=False), credentials=(a_credential("hobby"),)),
    ]
)


def a_request(*headers: tuple[str, str], path: str = "/v1/x"):
    return make_mocked_request("POST", path, CIMultiDict(headers))


async def answer(*headers: tuple[str, str], path: str = "/v1/x"):
    """The identity of a request, or the refusal that it gets."""

    async def identify():
        key = presented_key(a_request(*headers, path=path))
        found = DIRECTORY.find(key) or await ForeignCallers(Clients(DIRECTORY)).find(key, "")
        check_caller(*found, NOW)
        return found

    return await awaited(identify())


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", f"Bearer {a_key('prod')}")],
        [("authorization", f"bearer   {a_key('prod')}  ")],
        [("x-api-key", a_key("prod"))],
        [("X-Goog-Api-Key", a_key("prod"))],
        [("Authorization", f"Bearer {a_key('prod')}"), ("x-api-key", a_key("prod"))],
        [("Authorization", ""), ("x-api-key", a_key("prod"))],
        [("Authorization", "Bearer "), ("x-api-key", a_key("prod")), ("x-goog-api-key", " ")],
        [("x-api-key", a_key("prod")), ("x-api-key", a_key("prod"))],
    ],
)
async def test_a_key_is_recognized_wherever_sdks_put_it(headers: list[tuple[str, str]]) -> None:
    found = await answer(*headers)

    assert not isinstance(found, Refusal)
    assert (found[0].id, found[1].id) == ("acme", "prod")


@pytest.mark.parametrize("path", [f"/v1beta/models/m:generateContent?key={a_key('prod')}", f"/x?alt=sse&key={a_key('prod')}"])
async def test_a_key_in_the_query_is_recognized(path: str) -> None:
    found = await answer(path=path)
    assert not isinstance(found, Refusal)
    assert found[1].id == "prod"


@pytest.mark.parametrize(
    ("headers", "path", "status", "code", "says"),
    [
        ([], "/x", 401, ErrorCode.INVALID_API_KEY, "No API key was sent"),
        ([("Authorization", "Bearer")], "/x", 401, ErrorCode.INVALID_API_KEY, "No API key was sent"),
        ([("Authorization", f"Basic {a_key('prod')}")], "/x", 401, ErrorCode.INVALID_API_KEY, "must be `Bearer"),
        ([("Authorization", a_key("prod"))], "/x", 401, ErrorCode.INVALID_API_KEY, "must be `Bearer"),
        ([("x-api-key", f"{a_key('prod')}x")], "/x", 401, ErrorCode.INVALID_API_KEY, "not known here"),
        ([("x-api-key", f"tg_nobody_{CANARY}")], "/x", 401, ErrorCode.INVALID_API_KEY, "not known here"),
        ([("x-api-key", a_key("off"))], "/x", 401, ErrorCode.INVALID_API_KEY, "'off' is disabled"),
        ([("x-api-key", a_key("old"))], "/x", 401, ErrorCode.INVALID_API_KEY, "'old' has expired"),
        ([("x-api-key", a_key("hobby"))], "/x", 403, ErrorCode.PLAN_WITHOUT_API_ACCESS, "'free' of organization 'Hobby'"),
        (
            [("Authorization", f"Bearer {a_key('prod')}"), ("x-api-key", a_key("new"))],
            "/x",
            401,
            ErrorCode.INVALID_API_KEY,
            "two different API keys",
        ),
        ([("x-api-key", a_key("prod")), ("x-api-key", a_key("new"))], "/x", 401, ErrorCode.INVALID_API_KEY, "two different"),
        ([("x-api-key", a_key("prod"))], f"/x?key={a_key('new')}", 401, ErrorCode.INVALID_API_KEY, "two different API keys"),
        ([], f"/x?key={a_key('prod')}&key={a_key('new')}", 401, ErrorCode.INVALID_API_KEY, "two different API keys"),
        ([], f"/x?monkey={a_key('prod')}", 401, ErrorCode.INVALID_API_KEY, "No API key was sent"),
    ],
)
async def test_a_refusal_has_its_status_and_code_and_never_the_key(headers, path, status, code, says) -> None:
    refusal = await answer(*headers, path=path)

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (status, code)
    assert says in refusal.message
    assert CANARY not in repr(refusal)
    assert refusal.should_retry is False


async def test_a_key_holds_until_the_instant_of_its_expiry() -> None:
    assert not isinstance(await answer(("x-api-key", a_key("new"))), Refusal)
    assert isinstance(await answer(("x-api-key", a_key("old"))), Refusal)


def test_a_key_may_hold_anything_but_is_compared_as_it_is() -> None:
    assert presented_key(a_request(("x-api-key", "a b"))) == "a b"
    assert presented_key(a_request(("Authorization", "BEARER tab\tin"))) == "tab\tin"


def test_a_capability_that_was_not_granted_is_refused_with_those_that_were() -> None:
    granted = a_credential("c", capabilities=frozenset({"models", "chat"}))
    anybody = Organization(id="acme", name="Acme", plan=Plan(id="all"))
    refusal = refusal_of(check_capability, anybody, granted, "embeddings")

    assert refusal_of(check_capability, anybody, granted, "chat") is None
    assert refusal_of(check_capability, anybody, a_credential("c"), "anything") is None
    assert refusal is not None
    assert (refusal.status, refusal.code) == (403, ErrorCode.CAPABILITY_NOT_ALLOWED)
    assert "may not use 'embeddings'; it may use: chat, models." in refusal.message


def test_what_the_plan_lacks_is_refused_whatever_the_credential_is_granted() -> None:
    plan = Plan(id="small", capabilities=frozenset({"models", "chat"}))
    acme = Organization(id="acme", name="Acme", plan=plan)
    refusal = refusal_of(check_capability, acme, a_credential("c", capabilities=frozenset({"search"})), "search")

    assert refusal_of(check_capability, acme, a_credential("c"), "chat") is None
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.should_retry) == (403, ErrorCode.CAPABILITY_NOT_IN_PLAN, False)
    assert "The plan 'small' of organization 'Acme' does not include 'search'; it includes: chat, models." in refusal.message
    narrowed = refusal_of(check_capability, acme, a_credential("c", capabilities=frozenset({"models"})), "chat")
    assert narrowed is not None
    assert narrowed.code == ErrorCode.CAPABILITY_NOT_ALLOWED, "a credential may narrow its plan"


@pytest.mark.parametrize(
    ("models", "model", "is_allowed"),
    [
        (None, "anything", True),
        (None, None, True),
        (("gpt-4o",), "gpt-4o", True),
        (("gpt-4o",), "gpt-4o-mini", False),
        (("gpt-4o*",), "gpt-4o-mini", True),
        (("claude-*", "gpt-4o"), "claude-haiku-4-5", True),
        (("claude-*",), "claude", False),
        (("gpt-4o",), None, False),
        (("*",), None, False),
        (("*",), "anything", True),
        ((), "gpt-4o", False),
    ],
)
def test_models_are_allowed_by_name_or_by_prefix(models, model, is_allowed: bool) -> None:
    refusal = refusal_of(check_model, a_credential("c", models=models), model)

    assert (refusal is None) is is_allowed
    if refusal is not None:
        assert (refusal.status, refusal.code, refusal.param) == (403, ErrorCode.MODEL_NOT_ALLOWED, "model")


def test_a_huge_model_name_is_cut_in_the_answer() -> None:
    refusal = refusal_of(check_model, a_credential("c", models=("gpt-4o",)), "x" * 100_000)
    assert refusal is not None
    assert len(refusal.message) < 400
