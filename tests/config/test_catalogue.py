"""Which price applies to a name at an instant."""

from dataclasses import replace

import pytest
from prices import price_of

from tallygate.config.catalogue import LOOKUPS_MAX, PriceCatalogue
from tallygate.config.routing import Routing
from tallygate.domain.price import UNDATED_MS, Price
from tallygate.domain.routed_price import RoutedPrice

NOW = 1_800_000_000_000


def a_price(model: str = "m", *, at: int = 0, **rates) -> Price:
    values = {"input": 1_000_000, "output": 2_000_000, **rates}
    return price_of(model=model, version=f"{model}@{at}", effective_ms=at, **values)


def version(catalogue: PriceCatalogue, model: str, at_ms: int = NOW) -> str | None:
    price = catalogue.find(model, at_ms)
    return price.version if price is not None else None


def test_a_price_holds_from_its_very_instant_until_the_next_one() -> None:
    catalogue = PriceCatalogue([a_price(at=2_000), a_price(at=1_000), a_price(at=3_000)], listed=PriceCatalogue([]))

    assert [version(catalogue, "m", at) for at in (999, 1_000, 1_999, 2_000, 2_999, 3_000, NOW)] == [
        None,
        "m@1000",
        "m@1000",
        "m@2000",
        "m@2000",
        "m@3000",
        "m@3000",
    ]


def test_the_first_row_of_a_list_also_prices_what_came_before_it() -> None:
    catalogue = PriceCatalogue([a_price(at=2_000), a_price(at=1_000), a_price("m-2026-01-01", at=5_000)])

    assert [version(catalogue, "m", at) for at in (0, 999, 1_999, 2_000)] == ["m@1000", "m@1000", "m@1000", "m@2000"]
    assert version(catalogue, "m-2026-01-01", 4_999) == "m-2026-01-01@5000", "which says more of it than what a plainer name costs"


def test_a_row_of_the_operators_that_has_not_begun_leaves_the_list_price_even_one_from_before_its_date() -> None:
    catalogue = PriceCatalogue([a_price(at=3_000)], listed=PriceCatalogue([a_price(at=2_000)]))

    assert [version(catalogue, "m", at) for at in (0, 2_999, 3_000)] == ["m@2000", "m@2000", "m@3000"]


def test_a_name_is_priced_from_the_first_moment_of_any_layer() -> None:
    own, listed = a_price(at=3_000), PriceCatalogue([a_price("listed", at=2_000)])
    catalogue = PriceCatalogue([own, a_price("undated", at=UNDATED_MS)], listed=listed, upstream_prices=[a_price("theirs", at=0)])

    assert [catalogue.begins_ms(name) for name in ("m", "undated", "listed", "theirs", "nobody's")] == [3_000, 0, 0, 0, None]


def test_an_update_of_the_list_leaves_what_came_before_its_first_row() -> None:
    catalogue = PriceCatalogue([a_price(at=1_000), a_price(at=2_000), a_price("other")])
    updated = catalogue.updated([replace(a_price(at=2_000), version="new"), replace(a_price(at=4_000), version="newer")], None)

    assert [version(updated, "m", at) for at in (1_999, 2_000, 4_000)] == ["m@1000", "new", "newer"]
    assert version(updated, "other") == "other@0"
    assert updated.updated_since == {"m": 2_000}


@pytest.mark.parametrize(
    ("asked", "priced"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4-0613", "gpt-4"),
        ("mistral-large-2512", "mistral-large"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5-latest", "claude-sonnet-4-5"),
        ("anthropic/claude-4.5-sonnet-20250929", "claude-sonnet-4-5"),
        ("gpt-4:20230613-v2", "gpt-4"),
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
    catalogue = PriceCatalogue([a_price("x"), a_price("x-2026-01-01", at=5_000)], listed=PriceCatalogue([]))

    assert version(catalogue, "x-2026-01-01", 4_999) == "x@0"
    assert version(catalogue, "x-2026-01-01", 5_000) == "x-2026-01-01@5000"


def test_lookups_stay_right_when_more_names_are_asked_for_than_are_remembered() -> None:
    catalogue = PriceCatalogue([a_price("x")])
    for number in range(LOOKUPS_MAX + 10):
        assert catalogue.find(f"junk-{number}", NOW) is None

    assert len(catalogue._lookups) <= LOOKUPS_MAX
    assert version(catalogue, "x") == "x@0"


def models_of(bound: RoutedPrice | None) -> list[str]:
    return [] if bound is None else sorted(price.model for price in bound.prices)


def test_the_bound_is_of_what_can_be_reached() -> None:
    catalogue = PriceCatalogue(
        [
            a_price("a-1", input=5, output=10),
            a_price("a-2", input=1, output=30),
            a_price("b-1", input=9, output=9),
            a_price("c-1", input=1000, output=1000),
        ],
        routing=Routing(families={"a": ("a-*",), "b": ("b-1",)}),
    )

    assert models_of(catalogue.dearest(NOW, family="a")) == ["a-1", "a-2"]
    assert models_of(catalogue.dearest(NOW, family="B")) == ["b-1"]
    everything = ["a-1", "a-2", "b-1"]
    assert models_of(catalogue.dearest(NOW)) == models_of(catalogue.dearest(NOW, family="no such family")) == everything
    assert models_of(catalogue.dearest_of_all(NOW)) == ["c-1"], "which is dearer than all others in everything"


def test_the_bound_follows_effective_dates() -> None:
    catalogue = PriceCatalogue([a_price("a", output=5), a_price("a", at=1_000, output=50), a_price("b", output=7)])

    bounds = [catalogue.dearest(at) for at in (999, 1_000, 999)]

    assert [max(price.rates["output"] for price in bound.prices) for bound in bounds if bound is not None] == [7, 50, 7]
    assert PriceCatalogue([]).dearest(NOW) is None


def test_an_upstreams_families_replace_the_configured_ones() -> None:
    catalogue = PriceCatalogue([a_price("dear", output=100)], routing=Routing(families={"x": ("dear",)}))
    merged = catalogue.with_upstream([a_price("gloo-x", output=3)], {"x": ("gloo-x",)})

    bound, before = merged.dearest(NOW, family="x"), catalogue.dearest(NOW, family="x")

    assert before is not None
    assert bound is not None
    assert (models_of(before), models_of(bound)) == (["dear"], ["gloo-x"])


def test_a_catalogues_row_is_reached_by_its_plainer_names_and_at_its_own_price() -> None:
    catalogue = PriceCatalogue([a_price("gpt-5.2", output=14), a_price("gpt-5.2-2025-12-11", output=99)])
    merged = catalogue.with_upstream([a_price("gloo-openai-gpt-5.2", output=30)], {})
    merged.routing = Routing(families={"x": ("gpt-5.2",)}, are_families_own=True)

    bound = merged.dearest(NOW)

    assert bound is not None
    assert models_of(bound) == ["gloo-openai-gpt-5.2"]
    assert {"gpt-5.2", "gloo-openai-gpt-5.2"} <= set(merged.reachable_names())
