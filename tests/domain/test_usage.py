"""The normal form of a usage: every token in one unit; counts that cannot be are refused; events keep all of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.domain.billed import TokenColumns, billed_of, columns_of, usage_of_event
from tallygate.domain.unit import COMPLETION_UNITS, PROMPT_UNITS, TOKEN_UNITS, Unit
from tallygate.domain.usage import NO_USAGE, STANDARD, Conditions, Pass, Usage, summed, usage_of_totals

PARTS = (
    *("prompt", "completion", "cached", "cache_write_5m", "cache_write_1h", "cache_write_12h"),
    *("audio_prompt", "cached_audio", "reasoning", "audio_completion"),
)


def test_the_total_adds_the_wholes_and_not_their_parts() -> None:
    usage = usage_of_totals(prompt=100, completion=50, cached=40, cache_write_5m=10, audio_prompt=5, reasoning=30)
    assert usage.total == 150
    assert usage.quantities == {
        Unit.INPUT: 45,
        Unit.INPUT_AUDIO: 5,
        Unit.CACHED_INPUT: 40,
        Unit.CACHE_WRITE_5M: 10,
        Unit.REASONING_OUTPUT: 30,
        Unit.OUTPUT: 20,
    }


def test_no_usage_has_no_quantity() -> None:
    assert NO_USAGE.quantities == {}
    assert (NO_USAGE.prompt, NO_USAGE.completion, NO_USAGE.has_calls) == (0, 0, False)


@pytest.mark.parametrize("name", PARTS)
def test_a_negative_count_is_refused_in_any_field(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        usage_of_totals(**{"prompt": 10, "completion": 10, name: -1})


@pytest.mark.parametrize(
    "parts",
    [
        {"cached": 101},
        {"cache_write_5m": 101},
        {"cache_write_1h": 101},
        {"audio_prompt": 101},
        {"cached": 50, "cache_write_5m": 30, "cache_write_1h": 21},  # together above 100
        {"cached": 50, "cache_write_5m": 30, "cache_write_1h": 20, "cache_write_12h": 1},
        {"cached": 10, "audio_prompt": 20, "cached_audio": 11},
        {"cached": 20, "audio_prompt": 10, "cached_audio": 11},
    ],
)
def test_parts_above_the_prompt_are_refused(parts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exceed the prompt"):
        usage_of_totals(prompt=100, completion=50, **parts)


@pytest.mark.parametrize("parts", [{"reasoning": 51}, {"audio_completion": 51}])
def test_parts_above_the_completion_are_refused(parts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exceed the completion"):
        usage_of_totals(prompt=100, completion=50, **parts)


def test_audio_that_overlaps_the_cached_part_was_cached() -> None:
    usage = usage_of_totals(prompt=100, cached=80, audio_prompt=30)
    assert usage.quantities == {Unit.INPUT_AUDIO: 20, Unit.CACHED_INPUT_AUDIO: 10, Unit.CACHED_INPUT: 70}
    assert (usage.cached, usage.audio_prompt) == (80, 30)


def test_a_usage_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        NO_USAGE.passes = ()  # type: ignore[misc]


@given(st.fixed_dictionaries({name: st.integers(-2, 20) for name in PARTS}))
def test_whatever_is_accepted_has_every_token_once(values: dict[str, int]) -> None:
    try:
        usage = usage_of_totals(**values)
    except ValueError:
        return
    assert min(values.values()) >= 0
    assert (usage.prompt, usage.completion, usage.cached) == (values["prompt"], values["completion"], values["cached"])
    assert 0 not in usage.quantities.values()
    assert sum(usage.quantities.values()) == usage.total


quantities = st.dictionaries(st.sampled_from(sorted([*Unit, "image:high:1024x1024"])), st.integers(1, 1_000))
conditions = st.builds(Conditions, service_tier=st.sampled_from(["", "priority"]), geography=st.sampled_from(["", "us"]))


@given(quantities, conditions)
def test_an_event_keeps_all_of_a_usage(found: dict[str, int], under: Conditions) -> None:
    usage = Usage(found)
    columns = columns_of(usage)
    assert columns["prompt_tokens"] == usage.prompt
    assert columns["completion_tokens"] == usage.completion
    assert usage_of_event(TokenColumns(**columns), billed_of(usage, under)) == (usage, under)


@given(st.lists(st.dictionaries(st.sampled_from(sorted(TOKEN_UNITS)), st.integers(1, 100), min_size=1), min_size=1, max_size=4))
def test_an_event_keeps_passes_until_its_counts_are_corrected(parts: list[dict[str, int]]) -> None:
    usage = summed(tuple(Pass(model=f"m{index}" if index else None, quantities=each) for index, each in enumerate(parts)))
    columns = columns_of(usage)
    assert usage_of_event(TokenColumns(**columns), billed_of(usage)) == (usage, STANDARD)
    more = {**columns, "prompt_tokens": columns["prompt_tokens"] + 1}
    corrected, _ = usage_of_event(TokenColumns(**more), billed_of(usage))
    assert (corrected.passes, corrected.prompt) == ((), usage.prompt + 1)


def test_what_token_counts_show_is_not_said_twice() -> None:
    usage = usage_of_totals(prompt=100, completion=50, cached=40, cache_write_1h=10, audio_prompt=5, reasoning=30)
    assert billed_of(usage) is None
    assert billed_of(usage.with_calls({Unit.WEB_SEARCH: 3})) == '{"quantities":{"web_search":3}}'


def test_every_token_is_on_one_side() -> None:
    assert not PROMPT_UNITS & COMPLETION_UNITS
    assert TOKEN_UNITS == PROMPT_UNITS | COMPLETION_UNITS
