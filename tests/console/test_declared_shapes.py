"""Limits and plans, declared once: what is read, shown, and stated by the API's document is the same."""

from typing import Any

import msgspec
import pytest

from tallygate.config.limits import read_rate_limits, read_spend_limits
from tallygate.config.plain_values import FieldProblems, section_of
from tallygate.console.api_directory import RateLimitLine, SpendLimitLine
from tallygate.console.directory_shapes import OrganizationLimits, RateLimitGiven, RateLimitShown, SpendLimitGiven, SpendLimitShown
from tallygate.domain.organization import PLAN_FIELDS
from tallygate.domain.rate_limit import RATE_LIMIT_FIELDS, Quantity
from tallygate.ledger.directory.shown import rate_shown, spend_shown

RATE_LIMITS: list[dict[str, Any]] = [
    *(
        {str(quantity): 7, **({"window": "1m"} if "window" in keys else {})}
        for quantity, keys in ((quantity, {declared.key for declared in fields}) for quantity, fields in RATE_LIMIT_FIELDS.items())
    ),
    {"requests": 60, "window": "90s", "burst": 5, "per": "credential", "capability": "chat", "shadow": True},
]
SPEND_LIMITS: list[dict[str, Any]] = [
    {"usd": "5"},
    {"usd": "0.000000001", "window": "month", "warn_at": [0.125, 1.0], "per": "credential", "shadow": True},
    {"usd": "25.5", "window": "12h"},
]


def schema_of(shape: Any) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([shape])
    found: dict[str, Any] = components[shape.__name__]
    return found


def read(key: str, given: dict[str, Any]) -> Any:
    problems = FieldProblems()
    section = section_of({key: [given]}, problems)
    (limit,) = read_rate_limits(section) if key == "rate_limits" else [each.limit for each in read_spend_limits(section)]
    assert problems.texts() == ()
    return limit


@pytest.mark.parametrize("given", RATE_LIMITS)
def test_a_rate_limit_that_is_shown_can_be_given_and_is_the_same(given: dict[str, Any]) -> None:
    limit = read("rate_limits", given)
    shown = rate_shown(limit)

    assert given.items() <= shown.items()
    assert read("rate_limits", {key: value for key, value in shown.items() if key != "name" and value is not None}) == limit
    assert set(shown) - {"name"} <= schema_of(RateLimitGiven)["properties"].keys()
    assert set(shown) >= set(schema_of(RateLimitShown)["required"])


@pytest.mark.parametrize("given", SPEND_LIMITS)
def test_a_spend_limit_that_is_shown_can_be_given_and_is_the_same(given: dict[str, Any]) -> None:
    limit = read("spend_limits", given)
    shown = spend_shown(limit)

    assert read("spend_limits", {key: value for key, value in shown.items() if key != "name"}) == limit
    assert set(shown) - {"name"} == schema_of(SpendLimitGiven)["properties"].keys()
    assert set(shown) == set(schema_of(SpendLimitShown)["required"])


def test_the_document_states_bounds_words_and_what_each_field_is() -> None:
    given = schema_of(RateLimitGiven)
    assert set(Quantity) < given["properties"].keys()
    assert not given["required"]
    assert {key: given["properties"]["tokens"][key] for key in ("type", "minimum", "maximum")} == {
        "type": "integer",
        "minimum": 1,
        "maximum": 2**53 - 1,
    }
    assert given["properties"]["per"]["enum"] == ["credential", "organization"]
    assert all(stated["description"] for stated in given["properties"].values())
    assert set(schema_of(RateLimitShown)["required"]) == {"name", "per", "capability", "shadow"}


def test_the_document_of_an_organization_has_every_field_of_its_plan() -> None:
    assert set(schema_of(OrganizationLimits)["required"]) == {
        *(declared.attribute for declared in PLAN_FIELDS),
        "rate_limits",
        "spend_limits",
        "lowered",
    }


def test_the_document_states_a_choice_that_may_have_a_text() -> None:
    _, components = msgspec.json.schema_components([OrganizationLimits])
    stated = components["OrganizationLimits"]["properties"]["unknown_model"]
    words, with_text = stated["anyOf"]
    assert words == {"enum": ["refuse", "unpriced"]}
    assert components[with_text["$ref"].rpartition("/")[2]]["required"] == ["price_as"]


def test_lines_name_their_units_and_have_every_member() -> None:
    assert set(schema_of(RateLimitLine)["required"]) == {
        "name",
        "quantity",
        "refill_units",
        "window_seconds",
        "capacity",
        "scope",
        "capability",
        "is_shadow",
    }
    assert set(schema_of(SpendLimitLine)["required"]) == {
        "name",
        "kind",
        "limit",
        "window_seconds",
        "warn_at",
        "scope",
        "is_shadow",
    }
