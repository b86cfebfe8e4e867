"""What each SDK does after a refusal: it gives up at once where waiting is useless, and comes back exactly when it was told to."""

import time
from pathlib import Path
from typing import Any

import anthropic
import anyio
import openai
import pytest
from google.genai import errors as gemini_errors
from sdk_sides import FLAVORS, Call, World, running_world, user

from tallygate.telemetry.metrics import REFUSED

RETRIES = 2
PLANS: dict[str, Any] = {
    "plans": {"pay_as_you_go": {"rate_limits": [{"requests": 1, "window": "1m"}]}, "enterprise": {}, "free": {"api_access": False}}
}


def call(sdk: str, directive: str) -> Call:
    match sdk:
        case "anthropic":
            arguments = {"model": "claude-haiku-4-5", "max_tokens": 60, "messages": user(directive)}
            return Call(sdk=sdk, method="messages.create", arguments=arguments)
        case "gemini":
            arguments = {"model": "gemini-2.5-flash", "contents": f"[[sim {directive}]] Hi", "config": {"max_output_tokens": 60}}
            return Call(sdk=sdk, method="models.generate_content", arguments=arguments)
        case _:
            arguments = {"model": "gpt-4o-mini", "max_completion_tokens": 60, "messages": user(directive)}
            return Call(sdk=sdk, method="chat.completions.create", arguments=arguments)


class ModuleWithSleep:
    """A module as it is, but for its `sleep`."""

    def __init__(self, module: Any, sleep: Any) -> None:
        self._module = module
        self.sleep = sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def sleeps_of_sdks(monkeypatch: pytest.MonkeyPatch, world: World) -> list[float]:
    """The SDKs' waiting between tries moves the limiter's clock instead; how long each wait was, in seconds."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        world.harness.clock.offset_ms += round(seconds * 1000)

    async def sleep_async(seconds: float) -> None:
        sleep(seconds)

    for module in (openai._base_client, anthropic._base_client):
        monkeypatch.setattr(module, "time", ModuleWithSleep(time, sleep))
        monkeypatch.setattr(module, "anyio", ModuleWithSleep(anyio, sleep_async))
    return slept


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize(
    ("sdk", "acme_usd", "error"),
    [
        ("openai", "0.00005", openai.RateLimitError),
        ("anthropic", "0.0004", anthropic.RateLimitError),
        ("gemini", "0.0002", gemini_errors.ClientError),
    ],
)
async def test_a_spend_pause_is_never_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sdk: str, flavor: str, acme_usd: str, error: type[Exception]
) -> None:
    async with running_world(tmp_path, acme_usd=acme_usd) as world:
        slept = sleeps_of_sdks(monkeypatch, world)
        await world.through.ask(call(sdk, "tokens=60"), flavor)
        with pytest.raises(error, match="access resumes at"):
            await world.through.ask(call(sdk, "tokens=60"), flavor, max_retries=RETRIES)

        assert [refusal[3] for refusal in world.harness.metrics.counted[REFUSED]] == ["spend_7d"]
        assert slept == []
        answer = world.through.answers[-1]
        assert answer.header("x-should-retry") == "false"
        assert int(answer.header("retry-after") or 0) > 6 * 86_400
        world.harness.clock.offset_ms += int(answer.header("retry-after-ms") or 0)
        await world.through.ask(call(sdk, "tokens=60"), flavor)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
async def test_a_rate_refusal_is_retried_once_at_the_stated_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sdk: str, flavor: str
) -> None:
    async with running_world(tmp_path, config={"plans": PLANS}) as world:
        slept = sleeps_of_sdks(monkeypatch, world)
        await world.through.ask(call(sdk, "tokens=5"), flavor)
        await world.through.ask(call(sdk, "tokens=6"), flavor, max_retries=RETRIES)

        _, refused, served = world.through.answers
        assert (refused.status, served.status) == (429, 200)
        assert slept == [int(refused.header("retry-after-ms") or 0) / 1000]
        assert 50 < slept[0] <= 60
        assert len(world.harness.metrics.counted[REFUSED]) == 1
        assert [event["completion_tokens"] for event in await world.counted()] == [5, 6]


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
async def test_a_rate_refusal_that_lasts_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sdk: str, flavor: str
) -> None:
    slow = {"plans": PLANS["plans"] | {"pay_as_you_go": {"rate_limits": [{"requests": 1, "window": "1h"}]}}}
    async with running_world(tmp_path, config={"plans": slow}) as world:
        slept = sleeps_of_sdks(monkeypatch, world)
        await world.through.ask(call(sdk, "tokens=5"), flavor)
        with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)):
            await world.through.ask(call(sdk, "tokens=5"), flavor, max_retries=RETRIES)

        assert slept == []
        assert len(world.harness.metrics.counted[REFUSED]) == 1


async def test_gemini_does_not_retry_by_itself(tmp_path: Path) -> None:
    async with running_world(tmp_path, config={"plans": PLANS}) as world:
        await world.through.ask(call("gemini", "tokens=5"))
        with pytest.raises(gemini_errors.ClientError) as caught:
            await world.through.ask(call("gemini", "tokens=5"))

        assert len(world.harness.metrics.counted[REFUSED]) == 1
        (delay,) = [detail["retryDelay"] for detail in caught.value.details["error"]["details"] if "retryDelay" in detail]
        assert round(float(delay.removesuffix("s")) * 1000) == int(world.through.answers[-1].header("retry-after-ms") or 0)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
async def test_a_provider_that_recovers_is_billed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sdk: str, flavor: str
) -> None:
    """Each try of an SDK is an exchange of its own; those that the provider refused cost nothing."""
    async with running_world(tmp_path) as world:
        slept = sleeps_of_sdks(monkeypatch, world)
        with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)):
            await world.through.ask(call(sdk, "fault=status:503"), flavor, max_retries=RETRIES)
        await world.through.ask(call(sdk, "tokens=5"), flavor, max_retries=RETRIES)

        assert len(slept) == RETRIES
        assert [event["status"] for event in await world.counted()] == [503, 503, 503, 200]
