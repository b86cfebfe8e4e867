"""Objects cut out of a body at any split, with strings, escapes and brackets that only look like structure."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from splits import pieces_at

from tallygate.dialects.json_objects import JsonObjects

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\{}[],:é\n'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='k"\\{}[]'), inner, max_size=3),
    max_leaves=10,
)
json_objects = st.dictionaries(st.text(max_size=4), json_values, max_size=4)


def fed(pieces: list[bytes], objects: JsonObjects | None = None) -> list[bytes]:
    reader = JsonObjects() if objects is None else objects
    return [each for piece in pieces for each in reader.feed(piece)]


@given(st.lists(json_objects, max_size=4), st.sampled_from([None, 2]), st.lists(st.integers(0, 2000), max_size=8))
def test_an_array_gives_its_objects_at_any_split(values: list[object], indent: int | None, cuts: list[int]) -> None:
    reader = JsonObjects()
    found = fed(pieces_at(json.dumps(values, indent=indent).encode(), cuts), reader)
    assert [json.loads(each) for each in found] == values
    assert reader.is_closed
    assert not reader.gave_up


@given(json_objects, st.lists(st.integers(0, 2000), max_size=8))
def test_one_object_is_found_whole_and_closes_the_body(value: object, cuts: list[int]) -> None:
    reader = JsonObjects()
    assert [json.loads(each) for each in fed(pieces_at(b"\n \n" + json.dumps(value).encode() + b"\n", cuts), reader)] == [value]
    assert reader.is_closed


@given(json_objects)
def test_nothing_is_closed_while_a_byte_is_missing(value: object) -> None:
    for body in (json.dumps(value).encode(), json.dumps([value]).encode()):
        reader = JsonObjects()
        fed([body[:-1]], reader)
        assert not reader.is_closed


@given(st.lists(st.binary(max_size=30), max_size=6))
def test_any_bytes_are_survived_and_the_split_does_not_matter(pieces: list[bytes]) -> None:
    assert fed(pieces) == fed([b"".join(pieces)])
    assert fed(pieces) == fed([bytes([byte]) for byte in b"".join(pieces)])


@given(st.text(alphabet='{}[]"\\ ,', max_size=40))
def test_structure_alone_is_survived_and_the_split_does_not_matter(text: str) -> None:
    whole, single = JsonObjects(), JsonObjects()
    assert fed([text.encode()], whole) == fed([bytes([byte]) for byte in text.encode()], single)
    assert whole.is_closed == single.is_closed


def test_an_object_above_the_maximum_is_given_up_and_the_next_is_read() -> None:
    reader = JsonObjects(object_bytes_max=20)
    body = b'[{"a":"' + b"x" * 50 + b'"},{"b":1}]'
    assert fed([body], reader) == [b'{"b":1}']
    assert reader.gave_up
    reader = JsonObjects(object_bytes_max=20)
    assert fed([bytes([byte]) for byte in body], reader) == [b'{"b":1}']
    assert reader.gave_up


def test_an_object_of_exactly_the_maximum_is_kept() -> None:
    body = b'{"a":"' + b"x" * 12 + b'"}'
    assert len(body) == 20
    assert fed([body], JsonObjects(object_bytes_max=20)) == [body]
    assert fed([body[:5], body[5:]], JsonObjects(object_bytes_max=20)) == [body]
    assert fed([body], JsonObjects(object_bytes_max=19)) == []


@pytest.mark.parametrize("body", [b'"{\\"a\\":1}"', b'["{}", "]{"]', b"12", b"null", b""])
def test_braces_in_strings_outside_objects_are_text(body: bytes) -> None:
    assert fed([body]) == []
    assert fed([bytes([byte]) for byte in body]) == []


def test_a_stray_closing_brace_hides_nothing() -> None:
    assert fed([b'}]}{"a":1}']) == [b'{"a":1}']
