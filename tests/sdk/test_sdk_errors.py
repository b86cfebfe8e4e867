"""Errors reach every SDK as its own exceptions: those of the provider as they came, those of the gateway in the same shape."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from gateway_harness import ACME_KEY, FREE_KEY, LIMITS
from google.genai import errors as gemini_errors
from sdk_sides import FLAVORS, Call, Side, World, running_world, user

from tallygate.telemetry.metrics import REFUSED

SDKS = ("openai", "gloo", "anthropic", "gemini")
STATUSES = (400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 502, 503, 504, 529)
ERRORS = (openai.APIError, anthropic.APIError, gemini_errors.APIError)
NARROW_KEY = "tg_big-narrow_narrowsecret"


def call(sdk: str, directive: str = "tokens=5", *, model: str = "", **more: Any) -> Call:
    """The plainest call of an SDK."""
    match sdk:
        case "anthropic":
            arguments = {"model": model or "claude-haiku-4-5", "max_tokens": 60, "messages": user(directive)} | more
            return Call(sdk=sdk, method="messages.create", arguments=arguments)
        case "gemini":
            arguments = {"model": model or "gemini-2.5-flash", "contents": f"[[sim {directive}]] Hello"} | more
            return Call(sdk=sdk, method="models.generate_content", arguments=arguments)
        case _:
            known = "gloo-openai-gpt-5.2" if sdk == "gloo" else "gpt-4o-mini"
            arguments = {"model": model or known, "max_tokens": 60, "messages": user(directive)} | more
            return Call(sdk=sdk, method="chat.completions.create", arguments=arguments)


async def error_of(side: Side, what: Call, flavor: str) -> Any:
    with pytest.raises(ERRORS) as caught:
        await side.ask(what, flavor)
    return caught.value


def told(error: Any) -> tuple[Any, ...]:
    """What a program can read from an exception."""
    if isinstance(error, gemini_errors.APIError):
        return type(error), error.code, error.status, error.message, error.details
    return type(error), error.status_code, str(error), error.body, getattr(error, "code", None), getattr(error, "type", None)


def code_of(error: Any) -> str:
    """The stable code of a refusal, where each SDK's users find it."""
    if isinstance(error, gemini_errors.APIError):
        (info,) = [detail for detail in error.details["error"]["details"] if detail["@type"].endswith("ErrorInfo")]
        return str(info["reason"])
    if isinstance(error, anthropic.APIStatusError):
        assert isinstance(error.body, Mapping)
        return str(error.body["error"]["code"])
    return str(error.code)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("sdk", SDKS)
async def test_an_error_of_the_provider_is_the_same_exception(world: World, sdk: str, flavor: str) -> None:
    for status in STATUSES:
        what = call(sdk, f"fault=status:{status}")
        direct = await error_of(world.direct, what, flavor)
        through = await error_of(world.through, what, flavor)

        assert told(through) == told(direct)
        assert world.through.answers[-1].status == status
        assert bytes(world.through.answers[-1].body) == bytes(world.direct.answers[-1].body)
    events = await world.counted()
    assert [event["status"] for event in events] == list(STATUSES)
    assert {event["cost_nano_usd"] for event in events} == {0}
    assert {event["outcome"] for event in events} == {"client_error", "upstream_error"}


async def test_the_providers_retry_time_reaches_the_sdk(world: World) -> None:
    for sdk in SDKS:
        await error_of(world.through, call(sdk, "fault=status:429 retry_after=17"), "async")

        assert world.through.answers[-1].header("retry-after") == "17"
        assert world.through.answers[-1].header("x-should-retry") is None


OWN_ERRORS: dict[str, tuple[type[Exception], type[Exception], type[Exception], int]] = {
    "invalid_api_key": (openai.AuthenticationError, anthropic.AuthenticationError, gemini_errors.ClientError, 401),
    "plan_without_api_access": (openai.PermissionDeniedError, anthropic.PermissionDeniedError, gemini_errors.ClientError, 403),
    "model_not_allowed": (openai.PermissionDeniedError, anthropic.PermissionDeniedError, gemini_errors.ClientError, 403),
    "unknown_model": (openai.BadRequestError, anthropic.BadRequestError, gemini_errors.ClientError, 400),
    "request_too_large": (openai.APIStatusError, anthropic.ContentTooLargeError, gemini_errors.ClientError, 413),
    "rate_limit_exceeded": (openai.RateLimitError, anthropic.RateLimitError, gemini_errors.ClientError, 429),
    "spend_limit_exceeded": (openai.RateLimitError, anthropic.RateLimitError, gemini_errors.ClientError, 429),
}


def expected(code: str, sdk: str) -> tuple[type[Exception], int]:
    ours, theirs, googles, status = OWN_ERRORS[code]
    return {"anthropic": theirs, "gemini": googles}.get(sdk, ours), status


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("sdk", SDKS)
async def test_a_refusal_of_the_gateway_is_the_sdks_own_exception(tmp_path: Path, sdk: str, flavor: str) -> None:
    plans = {
        "plans": {
            "pay_as_you_go": {"spend_limit": {"usd": "1", "window": "7d"}, "rate_limits": [{"requests": 9, "window": "1h"}]},
            "enterprise": {},
            "free": {"api_access": False},
        }
    }
    limits = replace(LIMITS, body_bytes_max=2_000)
    dear = {"max_tokens": 60} if sdk != "gemini" else {"config": {"max_output_tokens": 60}}
    cases = [
        ("invalid_api_key", "tg_acme-prod_wrong", call(sdk)),
        ("invalid_api_key", "sk-nobody-knows", call(sdk)),
        ("plan_without_api_access", FREE_KEY, call(sdk)),
        ("model_not_allowed", NARROW_KEY, call(sdk, model="gloo-anthropic-claude-sonnet-4.5")),
        ("unknown_model", ACME_KEY, call(sdk, model="nobody-knows-me")),
        ("request_too_large", ACME_KEY, call(sdk, "tokens=5]]" + "x" * 3_000 + "[[")),
        ("spend_limit_exceeded", ACME_KEY, call(sdk, **dear)),
    ]
    async with running_world(tmp_path, config={"plans": plans}, acme_usd="0.000001", limits=limits) as world:
        for code, key, what in cases:
            world.through.key = key
            error = await error_of(world.through, what, flavor)

            assert (type(error), code_of(error)) == (expected(code, sdk)[0], code)
            assert world.through.answers[-1].status == expected(code, sdk)[1]
            assert world.harness.metrics.counted[REFUSED][-1][3] == ("spend_7d" if code == "spend_limit_exceeded" else code)
            assert world.through.answers[-1].header("x-should-retry") in {"false", None}
            if sdk != "gemini":  # its exceptions have no such member
                assert error.request_id == world.through.answers[-1].header("x-request-id")
        assert not world.harness.ledger.records
        assert await world.counted() == []


@pytest.mark.parametrize("sdk", SDKS)
async def test_a_rate_limit_is_the_sdks_own_exception_and_says_when(tmp_path: Path, sdk: str) -> None:
    plans = {"plans": {"pay_as_you_go": {"rate_limits": [{"requests": 1, "window": "20s"}]}, "enterprise": {}, "free": {}}}
    async with running_world(tmp_path, config={"plans": plans}) as world:
        await world.through.ask(call(sdk))
        error = await error_of(world.through, call(sdk), "async")

        assert (type(error), code_of(error)) == (expected("rate_limit_exceeded", sdk)[0], "rate_limit_exceeded")
        answer = world.through.answers[-1]
        assert answer.header("x-should-retry") == "true"
        assert 0 < int(answer.header("retry-after-ms") or 0) <= 20_000
        world.harness.clock.offset_ms += int(answer.header("retry-after-ms") or 0)
        await world.through.ask(call(sdk))
        assert len(world.harness.ledger.records) == 2


@pytest.mark.parametrize(
    ("sdk", "method", "error"),
    [
        ("openai", "fine_tuning.jobs.list", openai.NotFoundError),
        ("anthropic", "beta.skills.list", anthropic.NotFoundError),
        ("gemini", "caches.list", gemini_errors.ClientError),
    ],
)
async def test_an_endpoint_outside_the_table_is_not_found(world: World, sdk: str, method: str, error: type[Exception]) -> None:
    caught = await error_of(world.through, Call(sdk=sdk, method=method, arguments={}), "async")

    assert (type(caught), world.through.answers[-1].status) == (error, 404)
    assert not world.harness.ledger.records


async def test_a_request_that_cannot_be_read_names_its_field(world: World) -> None:
    error = await error_of(world.through, call("openai", n=0), "async")
    assert (type(error), error.code, error.param) == (openai.BadRequestError, "invalid_request", "n")

    error = await error_of(world.through, call("anthropic", max_tokens="many"), "async")
    assert (type(error), code_of(error)) == (anthropic.BadRequestError, "invalid_request")
    assert not world.harness.ledger.records


@pytest.mark.parametrize(
    ("sdk", "unreachable", "timeout"),
    [
        ("openai", openai.InternalServerError, openai.InternalServerError),
        ("anthropic", anthropic.InternalServerError, anthropic.GatewayTimeoutError),
        ("gemini", gemini_errors.ServerError, gemini_errors.ServerError),
    ],
)
async def test_an_upstream_that_does_not_answer_is_a_server_error(
    tmp_path: Path, sdk: str, unreachable: type[Exception], timeout: type[Exception]
) -> None:
    async with running_world(tmp_path, upstream_url="http://127.0.0.1:9") as world:
        error = await error_of(world.through, call(sdk), "async")
        assert (type(error), code_of(error)) == (unreachable, "upstream_unreachable")
        assert world.through.answers[-1].header("x-should-retry") == "true"
    upstreams = {"upstreams": {"default": {"first_byte_timeout": "1s"}}}
    async with running_world(tmp_path, config={"upstreams": upstreams}) as world:
        error = await error_of(world.through, call(sdk, "fault=stall"), "async")
        assert (type(error), code_of(error)) == (timeout, "upstream_timeout")
        assert world.through.answers[-1].status == 504
        assert world.through.answers[-1].header("x-should-retry") is None  # it may have been billed


@pytest.mark.parametrize("sdk", SDKS)
async def test_a_body_that_is_cut_is_a_server_error_and_its_prompt_is_owed_at_least(world: World, sdk: str) -> None:
    error = await error_of(world.through, call(sdk, "tokens=9 fault=cut byte=40"), "async")

    assert code_of(error) == "upstream_invalid_response"
    assert world.through.answers[-1].status == 502
    await world.harness.at_rest()
    (event,) = world.harness.events()
    (served,) = world.harness.ledger.records
    assert (event["outcome"], event["usage_source"]) == ("truncated", "assumed")
    assert {"body_unreadable", "uncertain", "assumed"} <= set(event["flags"])
    assert event["completion_tokens"] >= served.generated_tokens
    assert event["cost_nano_usd"] > 0
    if sdk == "openai":  # whose prompts can be counted exactly
        assert event["prompt_tokens"] == served.prompt_tokens
