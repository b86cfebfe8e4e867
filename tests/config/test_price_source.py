"""Rows made of genai-prices data, as it is published."""

import json
from decimal import Decimal

import pytest

from tallygate.config.price_source import SourceError, SourceModel, models_of


def model_of(prices: object, **more: object) -> SourceModel:
    model = {"id": "m-1", "match": {"equals": "m-1"}, "prices": prices, **more}
    document = [{"id": "acme", "models": [model]}]
    # As it comes from a file: numbers are JSON's.
    [read] = models_of(json.loads(json.dumps(document), parse_float=Decimal))
    return read


def tiered(base: float, *tiers: tuple[int, float]) -> dict[str, object]:
    return {"base": base, "tiers": [{"start": start, "price": price} for start, price in tiers]}


def test_every_key_is_priced_by_its_unit() -> None:
    read = model_of(
        {
            "input_mtok": 2.5,
            "cache_read_mtok": 0.25,
            "cache_write_mtok": 3.125,
            "cache_write_1h_mtok": 5,
            "input_audio_mtok": 40,
            "cache_audio_read_mtok": 2.5,
            "input_image_mtok": 8,
            "cache_image_read_mtok": 2,
            "output_mtok": 10,
            "output_reasoning_mtok": 11,
            "output_audio_mtok": 80,
            "output_image_mtok": 32,
            "web_searches_kcount": 10,
            "storage_searches_kcount": 2.5,
            "requests_kcount": 12,
            "input_mchars": 15,
            "audio_hours": 0.111,
            "input_document_kpages": 4,
            "input_annotated_document_kpages": 5,
            "input_video_mtok": 12,
            "output_video_mtok": 17.5,
            "cache_video_read_mtok": 1,
        }
    )
    assert read.rows == (
        {
            "input": "2.5",
            "cached_input": "0.25",
            "cache_write_5m": "3.125",
            "cache_write_1h": "5",
            "input_audio": "40",
            "cached_input_audio": "2.5",
            "input_image": "8",
            "cached_input_image": "2",
            "input_video": "12",
            "output": "10",
            "reasoning_output": "11",
            "output_audio": "80",
            "output_image": "32",
            "output_video": "17.5",
            "web_search": "10",
            "file_search": "2.5",
            "character": "15",
            "request": "0.012",
            "audio_second": "0.000030833334",  # up
            "page": "0.004",
            "page:annotated": "0.005",
        },
    )
    assert read.left == ("its cache_video_read_mtok",)


def test_a_tier_states_all_rates_from_above_or_at_its_threshold() -> None:
    above = model_of({"input_mtok": tiered(5, (272_000, 10)), "cache_read_mtok": 0.5, "output_mtok": tiered(30, (272_000, 45))})
    at = model_of({"input_mtok": tiered(2, (199_999, 4)), "output_mtok": 6})
    odd = model_of({"input_mtok": tiered(2, (524_288, 4)), "output_mtok": 6})

    assert above.rows[0] == {
        "input": "5",
        "cached_input": "0.5",
        "output": "30",
        "input_above_272k": "10",
        "cached_input_above_272k": "0.5",
        "output_above_272k": "45",
    }
    assert (at.rows[0]["input_from_200k"], at.rows[0]["output_from_200k"]) == ("4", "6")
    assert odd.rows[0]["input_above_524k"] == "4"
    assert odd.left == ("that its next prices begin above 524288 tokens rather than 524k",)


def test_dates_are_rows_and_hours_are_rules_of_the_last_one_before() -> None:
    read = model_of(
        [
            {"prices": {"input_mtok": 0.14, "output_mtok": 0.28}},
            {"constraint": {"start_date": "2026-09-10"}, "prices": {"input_mtok": 0.15, "output_mtok": 0.6}},
            {
                "constraint": {"start_time": "01:00:00Z", "end_time": "04:00:00Z"},
                "prices": {"input_mtok": 0.3, "output_mtok": 1.2},
            },
        ]
    )
    assert read.rows == (
        {"input": "0.14", "output": "0.28"},
        {"effective": "2026-09-10", "input": "0.15", "output": "0.6", "when": [{"utc_hours": "01:00-04:00", "times": "2"}]},
    )


def test_variants_are_rules_a_factor_where_one_holds_for_every_rate() -> None:
    read = model_of(
        {"input_mtok": 0.15, "cache_read_mtok": 0.075, "output_mtok": 0.6},
        price_variants=[
            {"when": {"service_tier": "default"}, "prices": {}},
            {"when": {"service_tier": "flex"}, "prices": {"input_mtok": 0.075, "cache_read_mtok": 0.0375, "output_mtok": 0.3}},
            {"when": {"service_tier": "priority"}, "prices": {"input_mtok": 0.25, "cache_read_mtok": 0.125, "output_mtok": 1}},
            {"when": {"service_tier": "fast"}, "prices": {"input_mtok": 0.25, "cache_read_mtok": 0.125, "output_mtok": 1}},
            {"when": {"processing": "batch"}, "prices": {"input_mtok": 0.075, "output_mtok": 0.3}},
            {"when": {"speed": "fast"}, "prices": {"input_mtok": 0.3, "cache_read_mtok": 0.15, "output_mtok": 1.2}},
            {"when": {"route": "eu"}, "prices": {"input_mtok": 1}},
        ],
    )
    assert read.rows[0]["when"] == [
        {"service_tier": "flex", "times": "0.5"},
        {"service_tier": "priority", "input": "0.25", "cached_input": "0.125", "output": "1"},  # 1.666…
        {"service_tier": "batch", "input": "0.075", "cached_input": "0.075", "output": "0.3"},
        {"speed": "fast", "times": "2"},
    ]
    assert read.left == ("its price under route: eu",)


def test_a_variant_has_applied_since_the_price_beside_which_it_was_first_seen() -> None:
    def batch(start: str, price: float) -> dict[str, object]:
        return {
            "when": {"processing": "batch"},
            "constraint": {"start_date": start},
            "prices": {"input_mtok": price, "output_mtok": price},
        }

    read = model_of(
        [
            {"prices": {"input_mtok": 1, "output_mtok": 1}},
            {"constraint": {"start_date": "2026-01-01"}, "prices": {"input_mtok": 2, "output_mtok": 2}},
            {"constraint": {"start_date": "2027-01-01"}, "prices": {"input_mtok": 4, "output_mtok": 4}},
        ],
        price_variants=[batch("2027-01-01", 2), batch("2026-10-14", 1)],
    )
    assert [(row.get("effective"), row["input"], row.get("when")) for row in read.rows] == [
        (None, "1", None),
        ("2026-01-01", "2", [{"service_tier": "batch", "times": "0.5"}]),
        ("2027-01-01", "4", [{"service_tier": "batch", "times": "0.5"}]),
    ]


def test_searches_of_gemini_count_by_prompt_or_by_query() -> None:
    def searched(model: str) -> dict[str, object]:
        prices = {"input_mtok": 1, "output_mtok": 1, "web_searches_kcount": 14}
        [read] = models_of([{"id": "google", "models": [{"id": model, "match": {"equals": model}, "prices": prices}]}])
        return read.rows[0]

    assert searched("gemini-2.5-pro")["grounded_prompt"] == "14"
    assert searched("gemini-3.8-flash")["grounding_query"] == "14"


def test_names_are_those_that_a_model_has_outright_and_others_match() -> None:
    match = {
        "or": [
            {"equals": "M-1"},
            {"starts_with": "m-1-turbo"},
            {"starts_with": "m-1:"},
            {"and": [{"contains": "m1"}, {"ends_with": "x"}]},
        ]
    }
    read = model_of({"input_mtok": 1, "output_mtok": 1}, match=match)

    assert read.names == ("m-1", "M-1", "m-1-turbo")
    assert [name for name in ("m-1-turbo-2", "m-1:free", "a-m1-x", "m-1-x", "am1") if read.matches(name)] == [
        *("m-1-turbo-2", "m-1:free", "a-m1-x"),
    ]


def test_an_embedding_has_no_output_to_charge_and_a_model_without_a_price_no_row() -> None:
    assert model_of({"input_mtok": 0.02}).rows == ({"input": "0.02", "output": "0"},)
    free = model_of({})
    assert (free.rows, free.left) == ((), ("it has no price",))


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({}, "the data must be a list of objects"),
        ([], "has no models"),
        ([{"models": []}], "an entry has no id"),
        ([{"id": "acme", "models": [{}]}], "an entry has no id"),
        ([{"id": "acme", "models": [{"id": "m", "prices": {"input_mtok": -1}}]}], "'m' of 'acme' cannot be read: -1 is no price"),
        ([{"id": "acme", "models": [{"id": "m", "prices": {"input_mtok": "NaN"}}]}], "NaN is no price"),
        ([{"id": "acme", "models": [{"id": "m", "prices": 7}]}], "'m' of 'acme' cannot be read"),
        ([{"id": "acme", "models": [{"id": "m"}]}], "'m' of 'acme' cannot be read"),
    ],
)
def test_data_that_cannot_be_read_is_refused_with_the_place(document: object, text: str) -> None:
    with pytest.raises(SourceError) as raised:
        models_of(document)
    assert text in str(raised.value)


def test_a_provider_that_is_not_there_is_refused() -> None:
    with pytest.raises(SourceError, match="has no provider 'nobody'; it has acme"):
        models_of([{"id": "acme", "models": []}], ["nobody"])
