"""The normal form of token counts refuses what cannot be: negative counts and parts that exceed their whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.domain.token_counts import NO_TOKENS, TokenCounts

WHOLE = TokenCounts(prompt=100, completion=50)


def test_the_total_adds_the_wholes_and_not_their_parts() -> None:
    counts = TokenCounts(prompt=100, completion=50, cached=40, cache_write_5m=10, audio_prompt=5, reasoning=30)
    assert counts.total == 150


def test_no_tokens_is_all_zero() -> None:
    assert [getattr(NO_TOKENS, name) for name in NO_TOKENS.__struct_fields__] == [0] * len(NO_TOKENS.__struct_fields__)


@pytest.mark.parametrize("name", TokenCounts.__struct_fields__)
def test_a_negative_count_is_refused_in_any_field(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        TokenCounts(**{"prompt": 10, "completion": 10, name: -1})


@pytest.mark.parametrize(
    "parts",
    [
        {"cached": 101},
        {"cache_write_5m": 101},
        {"cache_write_1h": 101},
        {"audio_prompt": 101},
        {"cached": 50, "cache_write_5m": 30, "cache_write_1h": 21},  # together above 100
    ],
)
def test_parts_above_the_prompt_are_refused(parts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exceed the prompt"):
        TokenCounts(prompt=100, completion=50, **parts)


@pytest.mark.parametrize("parts", [{"reasoning": 51}, {"audio_completion": 51}])
def test_parts_above_the_completion_are_refused(parts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exceed the completion"):
        TokenCounts(prompt=100, completion=50, **parts)


def test_audio_may_overlap_the_cached_part() -> None:
    assert TokenCounts(prompt=100, cached=100, audio_prompt=100).cached == 100  # audio read from the cache is both


def test_counts_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        WHOLE.prompt = 1  # type: ignore[misc]


@given(st.fixed_dictionaries({name: st.integers(-2, 20) for name in TokenCounts.__struct_fields__}))
def test_whatever_is_accepted_is_consistent(values: dict[str, int]) -> None:
    try:
        counts = TokenCounts(**values)
    except ValueError:
        return
    assert min(values.values()) >= 0
    assert counts.cached + counts.cache_write_5m + counts.cache_write_1h <= counts.prompt
    assert counts.audio_prompt <= counts.prompt
    assert max(counts.reasoning, counts.audio_completion) <= counts.completion
