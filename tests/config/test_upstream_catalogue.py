"""Reading an upstream's own price catalogue."""

import json
from typing import Any

import pytest

from tallygate.config.cache_ratios import DEFAULT_RATIOS
from tallygate.config.upstream_catalogue import PROBLEMS_MAX, read_upstream_catalogue
from tallygate.domain.unit import Unit

PRICED = {"input": {"rate_per_1m_tokens": "1"}, "output": {"rate_per_1m_tokens": "2"}}


def a_row(name: str = "gloo-openai-gpt-5.2", **more) -> dict[str, object]:
    return {
        "id": name,
        "family": "OpenAI",
        "context_window": 400_000,
        "max_output_tokens": 128_000,
        "pricing": {
            "input": {"rate_per_1k_tokens": "0.001750", "rate_per_1m_tokens": "1.75"},
            "output": {"rate_per_1k_tokens": "0.014000", "rate_per_1m_tokens": "14.00"},
        },
        **more,
    }


def read(*rows: object):
    return read_upstream_catalogue(json.dumps({"object": "list", "data": rows}).encode())


def test_a_row_becomes_a_price_that_always_holds() -> None:
    catalogue = read(a_row())
    (price,) = catalogue.prices

    assert (price.model, price.rates["input"], price.rates["output"], price.effective_ms) == (
        "gloo-openai-gpt-5.2",
        1_750_000,
        14_000_000,
        0,
    )
    assert (price.max_input_tokens, price.max_output_tokens) == (400_000, 128_000)
    assert price.version.startswith("gloo-openai-gpt-5.2@1970-01-01.")
    assert catalogue.families == {"openai": ("gloo-openai-gpt-5.2",)}
    assert catalogue.problems == ()


def test_a_changed_rate_changes_the_version() -> None:
    dearer = a_row(pricing={"input": {"rate_per_1m_tokens": "1.76"}, "output": {"rate_per_1m_tokens": "14.00"}})
    assert read(a_row()).prices[0].version != read(dearer).prices[0].version


def test_rates_per_thousand_are_read_where_there_are_none_per_million() -> None:
    pricing = {"input": {"rate_per_1k_tokens": "0.000100"}, "output": {"rate_per_1k_tokens": "0.014"}}
    (price,) = read(a_row(pricing=pricing)).prices

    assert (price.rates["input"], price.rates["output"]) == (100_000, 14_000_000)


def test_an_image_model_with_an_output_price_alone_has_free_input() -> None:
    (price,) = read(a_row(pricing={"output": {"rate_per_1m_tokens": "40"}})).prices

    assert (price.rates["input"], price.rates["output"]) == (0, 40_000_000)


@pytest.mark.parametrize("output", [{}, {"output": None}, {"output": {}}, {"output": {"rate_per_1m_tokens": None}}])
def test_a_model_with_an_input_price_alone_has_no_output_and_routing_does_not_pick_it(output: dict[str, Any]) -> None:
    row = a_row("gloo-baai-bge-base-en-v1.5", pricing={"input": {"rate_per_1k_tokens": "0.000020"}} | output)
    catalogue = read(row, a_row())
    price, chat = catalogue.prices

    assert (price.rates["input"], price.rates["output"], price.generates) == (20_000, 0, False)
    assert chat.generates
    assert catalogue.families == {"openai": ("gloo-openai-gpt-5.2",)}


@pytest.mark.parametrize(("modalities", "is_picked"), [(["image"], False), (["text", "image"], True), ([], True), (None, True)])
def test_routing_does_not_pick_a_model_whose_output_has_no_text(modalities: object, *, is_picked: bool) -> None:
    catalogue = read(a_row(output_modalities=modalities))
    assert catalogue.prices[0].generates
    assert bool(catalogue.families) is is_picked


@pytest.mark.parametrize(("cache_read", "rate"), [({"rate_per_1m_tokens": "0.03"}, 30_000), (None, 300_000)])
def test_a_rate_of_cached_tokens_wins_over_the_ratio(cache_read: object, rate: int) -> None:
    pricing = {"input": {"rate_per_1m_tokens": "3"}, "output": {"rate_per_1m_tokens": "15"}, "cache_read": cache_read}
    body = json.dumps({"data": [a_row(family="Anthropic", pricing=pricing)]}).encode()
    (price,) = read_upstream_catalogue(body, DEFAULT_RATIOS).prices
    assert (price.rates.get(Unit.CACHED_INPUT), price.rates[Unit.CACHE_WRITE_1H]) == (rate, 6_000_000)


def test_aliases_are_priced_too_but_never_over_an_id() -> None:
    other = {"output": {"rate_per_1m_tokens": "1"}}
    catalogue = read(a_row(aliases=["gpt-5.2", "two words", 7, "b"]), a_row("b", pricing=other))

    assert {price.model: price.rates["output"] for price in catalogue.prices} == {
        "gloo-openai-gpt-5.2": 14_000_000,
        "gpt-5.2": 14_000_000,
        "b": 1_000_000,
    }
    assert catalogue.families["openai"] == ("gloo-openai-gpt-5.2", "b")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("text", "has no `id`"),
        ({"id": 7}, "has no `id`"),
        (a_row("two words"), "must be a model name"),
        (a_row(pricing=None), "has no `pricing`"),
        (a_row(pricing={}), "has no price of its input or output"),
        (a_row(pricing={"input": {"rate_per_1m_tokens": "0"}}), "is listed as free"),
        (a_row(pricing={"output": {"rate_per_1m_tokens": 1.5}}), "output price must be text, got '1.5'"),
        (a_row(pricing={"output": {"rate_per_1m_tokens": "-1"}}), "must be a decimal number"),
        (a_row(pricing={"output": {"rate_per_1m_tokens": "999999"}}), "must be at most 100000"),
        (a_row(pricing={"output": {"rate_per_1k_tokens": "101"}}), "must be at most 100000"),
        (a_row(pricing={"output": {"rate_per_1m_tokens": "0"}}), "is listed as free"),
        (a_row(pricing=PRICED | {"output": {"rate_per_1m_tokens": "NaN"}}), "must be a decimal number"),
        (a_row(pricing=PRICED | {"output": {"rate_per_1m_tokens": "9" * 400}}), "must be a decimal number"),
        (a_row(pricing=PRICED | {"input": "0.10"}), "input price must be an object, got '0.10'"),
        (a_row(pricing=PRICED | {"input": []}), "input price must be an object"),
        (a_row(pricing=PRICED | {"input": {}}), "input price has no rate"),
        (a_row(pricing=PRICED | {"input": {"rate_per_1m_tokens": None}}), "input price has no rate"),
    ],
)
def test_a_row_that_cannot_be_priced_is_told_and_the_others_count(row: object, problem: str) -> None:
    catalogue = read(row, a_row("good"))

    assert [price.model for price in catalogue.prices] == ["good"]
    assert len(catalogue.problems) == 1
    assert catalogue.problems[0].startswith("data[0]: ")
    assert problem in catalogue.problems[0]


def test_odd_token_maxima_are_left_out() -> None:
    (price,) = read(a_row(max_output_tokens="many", context_window=True)).prices
    assert (price.max_output_tokens, price.max_input_tokens) == (None, None)


def test_problems_are_bounded() -> None:
    assert len(read(*["x"] * (PROBLEMS_MAX + 5), a_row()).problems) == PROBLEMS_MAX


def test_a_catalogue_of_which_no_row_can_be_priced_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"none of its 2 rows can be priced, the first because data\[0\]: a has no `pricing`"):
        read(a_row("a", pricing=None), a_row("b", pricing={}))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"data": {}}', b'{"data": []}', b"[" * 100_000, b"\xff"])
def test_a_body_that_is_no_catalogue_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="is not a model catalogue"):
        read_upstream_catalogue(body)
