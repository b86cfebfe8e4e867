"""What comes as JSON or out of a database is read by the code that reads files, and refused in the same words."""

import json
from typing import Any

import pytest

from tallygate.config.document import DEPTH_MAX, read_document
from tallygate.config.plain_values import FieldProblems, section_of
from tallygate.config.section import Section

VALUES = [7, -1, 0.5, True, False, None, "text", "7", "", "no", [], [1, "a", None], [[]], [{}], {}, {"a": 1}, {"a": {"b": [None]}}]


def read_everything(section: Section) -> list[Any]:
    """Each key by each reader."""
    found: list[Any] = []
    for key in [*section.keys(), "absent"]:
        found += [
            key in section,
            section.is_mapping(key),
            section.plain(key),
            section.text(key),
            section.identifier(key),
            section.choice(key, ["text"]),
            section.integer(key, minimum=0, maximum=5),
            section.boolean(key, default=False),
            section.duration_ms(key, 5),
            section.instant_ms(key),
            section.money(key, int),
            [(place.path, text) for place, text in section.scalars(key, items_max=2, may_be_empty=False) or []],
            [sorted(item.keys()) for item in section.sections(key)],
            [name for name, _ in section.named_sections(key)],
        ]
        inner = section.section(key)
        found.append(None if inner is None else sorted(inner.keys()))
    section.require("a", "absent")
    section.close()
    return found


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_plain_value_is_read_as_a_file_has_it(value: Any) -> None:
    document = {"a": value, "b": {"inner": value}}
    plain, written = FieldProblems(), FieldProblems()
    file = read_document("a.yaml", json.dumps(document).encode(), written)
    assert file is not None

    assert read_everything(section_of(document, plain)) == read_everything(file)
    assert plain.texts() == written.texts()
    assert plain.paths == written.paths


def test_what_is_nested_too_deep_is_refused() -> None:
    value: Any = 1
    for _ in range(DEPTH_MAX - 1):
        value = {"a": value}
    section_of(value, FieldProblems())
    with pytest.raises(ValueError, match="nested deeper than"):
        section_of({"a": value}, FieldProblems())
