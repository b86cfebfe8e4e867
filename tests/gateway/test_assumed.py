"""The arithmetic of what is charged where the exact usage cannot be had."""

import pytest
from prices import price_of

from tallygate.config.model import OnDisconnect, Upstream
from tallygate.dialects.dialect import RequestFacts, units_of
from tallygate.domain.organization import Plan
from tallygate.domain.prompt import PromptShape
from tallygate.domain.unit import Unit
from tallygate.domain.usage import UsageSource, usage_of_totals
from tallygate.gateway.exchange.assumed import Unseen, floor_of, tokens_within, with_unseen
from tallygate.gateway.exchange.estimate import estimate
from tallygate.gateway.exchange.metering import Metered

UPSTREAM = Upstream(name="default", base_url="http://upstream", tokens_per_second_max=1_000)
PRICE = price_of(model="m", version="m@1", effective_ms=0, input=1_000, output=8_000)  # pico-USD of a token
SEEN = Metered(usage=usage_of_totals(prompt=100, completion=50), source=UsageSource.COUNTED, flags=("odd",))
PLAN = Plan(id="plan", api_access=True)


def facts(**members: object) -> RequestFacts:
    return RequestFacts(model="m", prompt=PromptShape(), **members)  # type: ignore[arg-type]  # the fields' own types


def unseen(tokens: int, output_max: int = 10_000, held: int = 10**12) -> Unseen:
    return Unseen(tokens=tokens, output_max=output_max, held=held)


def test_what_was_not_seen_comes_on_top_of_what_was_counted() -> None:
    found = with_unseen(SEEN, unseen(200), facts(), PRICE)
    assert found == Metered(usage=usage_of_totals(prompt=100, completion=250), source=UsageSource.ASSUMED, flags=("odd", "assumed"))


@pytest.mark.parametrize(("output_max", "expected"), [(120, 120), (50, 50), (10, 50)])
def test_the_maximum_of_the_request_caps_it_but_takes_nothing_from_what_was_counted(output_max: int, expected: int) -> None:
    assert with_unseen(SEEN, unseen(200, output_max), facts(), PRICE).usage.completion == expected
    assert with_unseen(SEEN, unseen(200, output_max), facts(), None).usage.completion == expected


@pytest.mark.parametrize(("held", "expected"), [(100 + 8 * 99, 99), (100 + 8 * 99 + 7, 99), (10, 50), (10**9, 250)])
def test_the_hold_caps_it_to_the_token(held: int, expected: int) -> None:
    found = with_unseen(SEEN, unseen(200, held=held), facts(), PRICE)
    assert found.usage.completion == expected
    assert expected == 50 or PRICE.cost_nano_usd(found.usage) <= held


def test_it_is_of_the_dearest_kind_that_the_request_can_use() -> None:
    price = price_of(
        model="m",
        version="m@1",
        effective_ms=0,
        input=1_000,
        output=8_000,
        reasoning_output=9_000,
        output_audio=20_000,
        cache_write_1h=2_000,
    )
    found = with_unseen(SEEN, unseen(10), facts(), price).usage
    assert found == SEEN.usage.plus(Unit.REASONING_OUTPUT, 10)
    found = with_unseen(
        SEEN, unseen(10), facts(units=units_of(audio_output=True, cache_write_1h=True, cache_write_5m=True)), price
    ).usage
    assert found.quantities == {Unit.CACHE_WRITE_1H: 100, Unit.OUTPUT: 50, Unit.OUTPUT_AUDIO: 10}
    told = Metered(usage=SEEN.usage, source=UsageSource.UPSTREAM)
    assert (
        with_unseen(told, unseen(10), facts(units=units_of(cache_write_1h=True)), price).usage.cache_write == 0
    )  # the provider told its input


def test_a_second_that_has_begun_counts_whole_and_choices_side_by_side() -> None:
    assert tokens_within(1.5, facts(), UPSTREAM) == 2_000
    assert tokens_within(1.5, facts(choices=3), UPSTREAM) == 6_000
    assert tokens_within(0.0, facts(), UPSTREAM) == 1_000


@pytest.mark.parametrize(
    ("stream", "policy", "expected"),
    [(True, OnDisconnect.GRACE, 3_000), (False, OnDisconnect.GRACE, 8_000), (False, OnDisconnect.CANCEL, 3_000)],
)
def test_the_floor_covers_a_lease_or_all_that_the_provider_goes_on_to_generate(
    stream: bool, policy: OnDisconnect, expected: int
) -> None:
    upstream = Upstream(name="default", base_url="http://upstream", tokens_per_second_max=1_000, on_disconnect=policy)
    asking = facts(max_output_tokens=8_000, stream=stream)
    asked = estimate(asking, PLAN, PRICE, 100)
    assert floor_of(asked, asking, upstream, lease_ms=3_000) == (100 + 8 * expected, expected)
    assert floor_of(asked, asking, upstream, lease_ms=30_000)[0] == asked.hold_nano_usd
