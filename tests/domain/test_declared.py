"""Fields declared once: what is derived of their kinds."""

from dataclasses import dataclass, fields
from typing import Annotated

import pytest

from tallygate.domain.declared import (
    CapabilitySet,
    Choice,
    ChoiceOrText,
    Chosen,
    Declared,
    Duration,
    Flag,
    Instant,
    ModelPatterns,
    Text,
    Thousandths,
    TimeZone,
    Usd,
    WholeNumber,
    declared_fields,
    is_text,
)
from tallygate.domain.organization import (
    CREDENTIAL_FIELDS,
    ORGANIZATION_FIELDS,
    PLAN_FIELDS,
    CredentialFields,
    OrganizationFields,
    PlanFields,
)

BY_DEFAULT = Chosen(1)


@dataclass(frozen=True, kw_only=True)
class Shape:
    title: Annotated[str, Text("", chars_max=3)] = ""
    is_open: Annotated[bool, Flag("", "--open")] = True
    begins_at_ms: Annotated[int | None, Instant("")] = None
    granted: Annotated[frozenset[str] | None, CapabilitySet("", "grant")] = None
    models: Annotated[tuple[str, ...] | None, ModelPatterns("", "model")] = None
    count: Annotated[int, WholeNumber("", least=1, most=3)] = 1
    zone: Annotated[str, TimeZone("")] = "UTC"
    most_nano_usd: Annotated[int, Usd("", key="usd", most=10**12)]
    length_ms: Annotated[int, Duration("", key="length", least=1_000, most=60_000, zero="ever")] = 0
    fractions: Annotated[tuple[int, ...], Thousandths("", items_max=3)] = ()
    side: Annotated[int, Choice("", words={"left": 1, "right": 2})] = 2
    way: Annotated[Chosen, ChoiceOrText("", words={"in": 1, "out": 2}, with_text="via", for_text=3)] = BY_DEFAULT
    undeclared: int = 0


TITLE, IS_OPEN, BEGINS, GRANTED, MODELS, COUNT, ZONE, MOST, LENGTH, FRACTIONS, SIDE, WAY = declared_fields(Shape)


def test_a_field_has_the_key_and_the_default_of_its_declaration() -> None:
    assert [(each.attribute, each.key, each.default) for each in (TITLE, IS_OPEN, BEGINS)] == [
        ("title", "title", ""),
        ("is_open", "is_open", True),
        ("begins_at_ms", "begins", None),
    ]
    assert [(each.key, each.default, each.is_required) for each in (MOST, LENGTH)] == [("usd", None, True), ("length", 0, False)]


@pytest.mark.parametrize(
    ("declared", "shape"),
    [(CREDENTIAL_FIELDS, CredentialFields), (ORGANIZATION_FIELDS, OrganizationFields), (PLAN_FIELDS, PlanFields)],
)
def test_every_field_has_a_kind(declared: tuple[Declared, ...], shape: type) -> None:
    assert [each.attribute for each in declared] == [field.name for field in fields(shape)]


@pytest.mark.parametrize(
    ("field", "value", "cell", "shown"),
    [
        (TITLE, "abc", "abc", "abc"),
        (IS_OPEN, False, False, False),
        (BEGINS, 1_800_000_000_123, 1_800_000_000_123, "2027-01-15T08:00:00.123Z"),
        (BEGINS, None, None, None),
        (GRANTED, frozenset("ba"), '["a", "b"]', ["a", "b"]),
        (GRANTED, None, None, None),
        (MODELS, ("b*", "a"), '["b*", "a"]', ["b*", "a"]),
        (MODELS, (), "[]", []),
        (MOST, 500_000_000, 500_000_000, "0.50"),
        (LENGTH, 30_000, 30_000, "30s"),
        (LENGTH, 0, 0, "ever"),
        (FRACTIONS, (125, 1000), (125, 1000), [0.125, 1.0]),
        (SIDE, 1, 1, "left"),
        (WAY, Chosen(2), Chosen(2), "out"),
        (WAY, Chosen(3, "Rome"), Chosen(3, "Rome"), {"via": "Rome"}),
    ],
)
def test_a_value_is_kept_and_shown_by_its_kind(field: Declared, value: object, cell: object, shown: object) -> None:
    kind = field.kind
    assert (kind.cell(value), kind.shown(value)) == (cell, shown)
    assert kind.of_cell(cell) == value


@pytest.mark.parametrize(
    ("field", "value", "is_sound"),
    [
        (COUNT, 3, True),
        (COUNT, 4, False),
        (COUNT, 0, False),
        (ZONE, "Europe/Paris", True),
        (ZONE, "Mars", False),
        (ZONE, "right/UTC", False),
        (ZONE, "posix/UTC", False),
        (ZONE, "localtime", False),
        (ZONE, "posixrules", False),
        (ZONE, "Factory", False),
        (ZONE, "..", False),
        (TITLE, "abc", True),
        (TITLE, "", True),
        (TITLE, "abcd", False),
        (TITLE, "\0", False),
        (BEGINS, 0, True),
        (BEGINS, -1, False),
        (GRANTED, None, True),
        (GRANTED, frozenset({"chat"}), True),
        (GRANTED, frozenset({"chat", "telepathy"}), False),
        (MODELS, ("gpt-4o*",), True),
        (MODELS, ("gpt-4o*", "no model"), False),
    ],
)
def test_a_value_that_no_rule_is_against_is_sound(field: Declared, value: object, *, is_sound: bool) -> None:
    assert field.kind.is_sound(value, {"chat", "embeddings"}) is is_sound


@pytest.mark.parametrize(
    ("text", "is_shown"),
    [
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", True),
        ("\U0001f468\u200d\U0001f4bb", True),
        ("\u200d", False),
        ("a\u200bb", False),
        ("a\u202eb", False),
    ],
)
def test_what_joins_letters_and_emoji_is_text_but_not_alone(text: str, is_shown: bool) -> None:
    assert is_text(text) is is_shown
