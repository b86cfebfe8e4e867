import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.dialects.counts import CLAMPED, IMPOSSIBLE, INCONSISTENT, TOTAL_ONLY, lenient_count, token_counts
from tallygate.domain.usage import TOKENS_MAX, Usage, usage_of_totals

ODD = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just([]) | st.just({}) | st.integers(0, 500)
)


@pytest.mark.parametrize(
    ("value", "count", "is_flagged"),
    [
        (0, 0, False),
        (7, 7, False),
        (TOKENS_MAX, TOKENS_MAX, False),
        (None, None, False),
        (-1, 0, True),
        (2.0, 2, True),
        (2.1, 3, True),
        ("12", 12, True),
        ("12.5", 13, True),
        ("many", None, True),
        ("9" * 1000, None, True),
        ("1e999", TOKENS_MAX, True),
        (True, None, True),
        (TOKENS_MAX + 1, TOKENS_MAX, True),
        (10**400, TOKENS_MAX, True),
        (-(10**400), 0, True),
        (math.nan, None, True),
        (math.inf, TOKENS_MAX, True),
        ("nan", None, True),
        ([5], None, True),
        ({}, None, True),
    ],
)
def test_a_count_is_read_or_clamped_and_flagged(value: object, count: int | None, is_flagged: bool) -> None:
    flags: set[str] = set()
    assert lenient_count(value, flags) == count
    assert flags == ({CLAMPED} if is_flagged else set())


@pytest.mark.parametrize(
    ("sent", "counts", "flags"),
    [
        ({}, usage_of_totals(), set()),
        ({"prompt": 0, "completion": 0, "total": 0}, usage_of_totals(), set()),
        ({"prompt": 10, "completion": 5, "total": 15}, usage_of_totals(prompt=10, completion=5), set()),
        # reasoning counted outside the completion: 25 - 10 - 5 = 10 more
        (
            {"prompt": 10, "completion": 5, "total": 25, "reasoning": 10},
            usage_of_totals(prompt=10, completion=15, reasoning=10),
            {INCONSISTENT},
        ),
        (
            {"prompt": 12, "completion": 2, "total": 141, "reasoning": 127},
            usage_of_totals(prompt=12, completion=129, reasoning=127),
            {INCONSISTENT},
        ),
        # audio counted outside the prompt: 50 of the 60 left are it
        (
            {"prompt": 10, "completion": 5, "total": 75, "audio_prompt": 50},
            usage_of_totals(prompt=60, completion=15, audio_prompt=50),
            {INCONSISTENT},
        ),
        ({"prompt": 10, "completion": 5, "total": 3}, usage_of_totals(prompt=10, completion=5), {INCONSISTENT}),
        ({"total": 30}, usage_of_totals(completion=30), {INCONSISTENT, TOTAL_ONLY}),
        ({"prompt": 10, "completion": 5, "total": 10**30}, usage_of_totals(prompt=10, completion=5), {CLAMPED, INCONSISTENT}),
        ({"prompt": 10, "cached": 161}, usage_of_totals(prompt=10, cached=10), {CLAMPED}),
        (
            {"prompt": 10, "cached": 6, "cache_write_5m": 3, "cache_write_1h": 9},
            usage_of_totals(prompt=10, cached=6, cache_write_5m=3, cache_write_1h=1),
            {CLAMPED},
        ),
        (
            {"completion": 4, "reasoning": 5, "audio_completion": 6},
            usage_of_totals(completion=4, reasoning=4, audio_completion=4),
            {CLAMPED},
        ),
        ({"prompt": -5, "completion": "7"}, usage_of_totals(completion=7), {CLAMPED, IMPOSSIBLE}),
        ({"completion": 7}, usage_of_totals(completion=7), set()),
    ],
)
def test_counts_come_out_in_the_normal_form(sent: dict[str, object], counts: Usage, flags: set[str]) -> None:
    seen: set[str] = set()
    assert token_counts(seen, **sent) == counts
    assert seen == flags


@given(prompt=ODD, completion=ODD, total=ODD, cached=ODD, write=ODD, audio=ODD, reasoning=ODD)
def test_no_count_raises_or_breaks_the_normal_form(
    prompt: object, completion: object, total: object, cached: object, write: object, audio: object, reasoning: object
) -> None:
    counts = token_counts(
        set(),
        prompt=prompt,
        completion=completion,
        total=total,
        cached=cached,
        cache_write_5m=write,
        cache_write_1h=write,
        audio_prompt=audio,
        reasoning=reasoning,
        audio_completion=audio,
    )
    assert counts.total <= 4 * TOKENS_MAX
