"""Which price applies to a name at an instant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.catalogue import LOOKUPS_MAX, PriceCatalogue
from proxy.domain.price import Price

NOW = 1_800_000_000_000


def a_price(model: str = "m", *, at: int = 0, **rates) -> Price:
    values = {"input": 1_000_000, "output": 2_000_000, **rates}
    return Price(model=model, version=f"{model}@{at}", effective_ms=at, **values)


def version(catalogue: PriceCatalogue, model: str, at_ms: int = NOW) -> str | None:
    price = catalogue.find(model, at_ms)
    return price.version if price is not None else None


def test_a_price_holds_from_its_very_instant_until_the_next_one() -> None:
    catalogue = PriceCatalogue([a_price(at=2_000), a_price(at=1_000), a_price(at=3_000)])

    assert [version(catalogue, "m", at) for at in (999, 1_000, 1_999, 2_000, 2_999, 3_000, NOW)] == [
        None,
        "m@1000",
        "m@1000",
        "m@2000",
        "m@2000",
        "m@3000",
        "m@3000",
    ]


@pytest.mark.parametrize(
    ("asked", "priced"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4-0613", "gpt-4"),
        ("mistral-large-2512", "mistral-large"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5-latest", "claude-sonnet-4-5"),
        ("gemini-2.5-flash-preview-09-2025", "gemini-2.5-flash"),
        ("gemini-2.5-pro-preview-05-06", "gemini-2.5-pro"),
        ("gemini-2.0-flash-001", "gemini-2.0-flash"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("openai/gpt-4o", "gpt-4o"),
        ("openrouter/openai/gpt-4o-2024-08-06", "gpt-4o"),
        ("publishers/google/models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("gloo-openai-gpt-5.2", "gpt-5.2"),
        ("gloo-anthropic-claude-sonnet-4.5", "claude-sonnet-4-5"),
        ("gloo-google-gemini-2.5-flash", "gemini-2.5-flash"),
        ("gloo-deepseek-v3.2", "deepseek-v3.2"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
    ],
)
def test_a_name_is_found_without_its_prefix_or_date(asked: str, priced: str) -> None:
    assert version(PriceCatalogue([a_price(priced)]), asked) == f"{priced}@0"


@pytest.mark.parametrize(
    "asked",
    [
        "gpt-4o-mini",
        "gpt-4o2024-08-06",
        "gpt-4o-audio-preview",
        "ft:gpt-4o-2024-08-06:acme::abc",
        "GPT-4O",
        "gpt-4o ",
        "",
        "/",
        "openai/",
        "-latest",
        "gpt-4o-latest" * 40,
        "gpt-4o\x00",
        "\udcff",
    ],
)
def test_another_model_is_not_taken_for_a_priced_one(asked: str) -> None:
    assert PriceCatalogue([a_price("gpt-4o")]).find(asked, NOW) is None


def test_an_exact_row_wins_over_the_upstreams_row_over_an_alias_over_a_guess() -> None:
    ours, theirs = a_price("x-latest", at=1), a_price("x-latest", at=2)
    guess, target = a_price("x", at=3), a_price("y", at=4)
    aliases = {"x-latest": "y"}

    def found(rows, upstream, aliases) -> str | None:
        return version(PriceCatalogue(rows, aliases, upstream_prices=upstream), "x-latest")

    assert found([ours, guess, target], [theirs], aliases) == "x-latest@1"
    assert found([guess, target], [theirs], aliases) == "x-latest@2"
    assert found([guess, target], [], aliases) == "y@4"
    assert found([guess, target], [], {}) == "x@3"


def test_an_alias_is_also_found_under_its_dated_name() -> None:
    assert version(PriceCatalogue([a_price("gpt-5-mini")], {"fast": "gpt-5-mini"}), "openai/fast-latest") == "gpt-5-mini@0"


def test_a_row_that_is_not_yet_in_force_does_not_hide_the_next_best_price() -> None:
    catalogue = PriceCatalogue([a_price("x"), a_price("x-2026-01-01", at=5_000)])

    assert version(catalogue, "x-2026-01-01", 4_999) == "x@0"
    assert version(catalogue, "x-2026-01-01", 5_000) == "x-2026-01-01@5000"


def test_lookups_stay_right_when_more_names_are_asked_for_than_are_remembered() -> None:
    catalogue = PriceCatalogue([a_price("x")])
    for number in range(LOOKUPS_MAX + 10):
        assert catalogue.find(f"junk-{number}", NOW) is None

    assert len(catalogue._lookups) <= LOOKUPS_MAX
    assert version(catalogue, "x") == "x@0"


def test_the_dearest_price_takes_the_dearest_of_each_rate_among_what_can_be_reached() -> None:
    catalogue = PriceCatalogue(
        [
            a_price("a-1", input=5, output=10, max_output_tokens=100),
            a_price("a-2", input=1, output=30),
            a_price("b-1", input=9, output=9, max_output_tokens=700),
            a_price("c-1", input=1000, output=1000),
        ],
        families={"A": ["a-*"], "b": ["b-1"]},
    )

    def rates(family: str | None) -> tuple[int, int, int | None]:
        price = catalogue.dearest(NOW, family=family)
        assert price is not None
        return price.input, price.output, price.max_output_tokens

    assert rates("a") == (5, 30, 100)
    assert rates("B") == (9, 9, 700)
    assert rates(None) == rates("no such family") == (9, 30, 700)


def test_the_dearest_price_follows_effective_dates() -> None:
    catalogue = PriceCatalogue([a_price("a", output=5), a_price("a", at=1_000, output=50), a_price("b", output=7)])

    bounds = [catalogue.dearest(at) for at in (999, 1_000, 999)]

    assert [bound.output for bound in bounds if bound is not None] == [7, 50, 7]
    assert PriceCatalogue([]).dearest(NOW) is None


def test_an_upstreams_families_replace_the_configured_ones() -> None:
    catalogue = PriceCatalogue([a_price("dear", output=100)], families={"x": ["dear"]})
    merged = catalogue.with_upstream([a_price("gloo-x", output=3)], {"x": ["gloo-x"]})

    bound, before = merged.dearest(NOW, family="x"), catalogue.dearest(NOW, family="x")

    assert before is not None
    assert bound is not None
    assert (before.output, bound.output) == (100, 3)


RATE = st.integers(0, 10**6)
OPTIONAL = st.none() | RATE


@st.composite
def prices(draw) -> Price:
    is_long = draw(st.booleans())
    return Price(
        model=draw(st.sampled_from(["a", "b", "c", "d"])),
        version="v",
        effective_ms=0,
        input=draw(RATE),
        output=draw(RATE),
        cached_input=draw(OPTIONAL),
        cache_write_5m=draw(OPTIONAL),
        cache_write_1h=draw(OPTIONAL),
        audio_input=draw(OPTIONAL),
        audio_output=draw(OPTIONAL),
        reasoning=draw(OPTIONAL),
        long_context_tokens=draw(st.integers(1, 1000)) if is_long else None,
        long_input=draw(RATE) if is_long else None,
        long_output=draw(RATE) if is_long else None,
    )


@given(st.lists(prices(), min_size=1, max_size=4), st.integers(0, 2000), st.integers(0, 2000), st.tuples(*[st.booleans()] * 4))
def test_no_worst_case_exceeds_that_of_the_dearest_price(rows, prompt, output, flags) -> None:
    bound = PriceCatalogue(rows).dearest(NOW)
    assert bound is not None
    kinds = dict(zip(("cache_write_5m", "cache_write_1h", "audio_input", "audio_output"), flags, strict=True))

    for price in rows:
        if price is PriceCatalogue(rows).find(price.model, NOW):
            worst = price.worst_case_nano_usd(prompt_tokens=prompt, output_tokens=output, **kinds)
            assert worst <= bound.worst_case_nano_usd(prompt_tokens=prompt, output_tokens=output, **kinds)
