import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.dialects.body import (
    DEPTH_MAX,
    ENTRIES_MAX,
    SLICE_BYTES,
    TOKEN_IDS_ENTRIES_MAX,
    member_start,
    parse_body,
    with_member,
)
from tallygate.dialects.registry import dialects
from tallygate.domain.errors import RequestRejectedError


class Options(msgspec.Struct):
    include_usage: bool | None = None


class Message(msgspec.Struct):
    content: str | None = None


class Request(msgspec.Struct):
    model: str | None = None
    max_tokens: int | None = None
    messages: list[Message] | None = None
    stream_options: Options | None = None


DECODER = msgspec.json.Decoder(Request)
DECODER_OF_ANY = msgspec.json.Decoder(dict[str, Any])


def rejection(body: bytes) -> RequestRejectedError:
    with pytest.raises(RequestRejectedError) as caught:
        parse_body(body, DECODER)
    return caught.value


def nested(levels: int) -> bytes:
    return b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)


def test_a_valid_body_is_decoded() -> None:
    body = b' {"model" : "m", "other": {"model": [1, {"model": 2}]}, "messages": [{"content":"a"},{"content":"b"}]} '
    assert parse_body(body, DECODER).fields == Request(model="m", messages=[Message(content="a"), Message(content="b")])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model":1}', "model"),
        (b'{"max_tokens":"5"}', "max_tokens"),
        (b'{"max_tokens":true}', "max_tokens"),
        (b'{"max_tokens":1.5}', "max_tokens"),
        (b'{"stream_options":[]}', "stream_options"),
        (b'{"stream_options":{"include_usage":"yes"}}', "stream_options.include_usage"),
        (b'{"messages":[{"content":"a"},{"content":{}}]}', "messages[1].content"),
    ],
)
def test_a_wrong_type_is_refused_with_its_field(body: bytes, param: str) -> None:
    assert rejection(body).param == param


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"1", b"null"])
def test_anything_but_an_object_is_refused(body: bytes) -> None:
    assert "must be a JSON object" in rejection(body).message
    assert rejection(body).param is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model":"m"} {}',
        b"\xef\xbb\xbf{}",
        b'{"a":NaN}',
        b'{"a":01}',
        b"{'a':1}",
        b'{"a":"\x01"}',
        b'{"model":"\\ud800"}',
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    assert "not valid JSON" in rejection(body).message


def test_bytes_that_are_not_utf8_are_refused_also_where_nobody_looks() -> None:
    assert "UTF-8 (byte 6)" in rejection(b'{"a":"\xff"}').message


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model" : "a", "model":"b"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"x":{"model":1,"y":[{"model":2}],"model":3}}',
        b'{"x":[{"model":1,"model":1}]}',
    ],
)
def test_a_key_twice_in_one_object_is_refused_in_any_spelling(body: bytes) -> None:
    assert rejection(body).param == "model"


def test_a_lone_surrogate_is_refused_also_where_nobody_looks() -> None:
    assert "not valid JSON" in rejection(b'{"x":{"\\ud800":1}}').message
    assert "not valid JSON" in rejection(b'{"x":["\\ud800"]}').message


def test_strings_that_look_like_structure_are_only_strings() -> None:
    parse_body(rb'{"a":"{\"model\":1,\"model\":1","b":"[[[","c\"":"\\","d":"\"a\":"}', DECODER)


def test_nesting_is_allowed_to_its_maximum() -> None:
    parse_body(nested(DEPTH_MAX), DECODER)
    assert "nested deeper than 64" in rejection(nested(DEPTH_MAX + 1)).message
    assert "nested deeper than 64" in rejection(nested(100_000)).message
    parse_body(b'{"a":"' + b"[" * 1000 + b'"}', DECODER)


STRUCTURE = {
    "numbers": b'{"messages":[{"content":[' + b"1," * 4_900_000 + b"1]}]}",
    "escaped keys": b'{"x":{' + b",".join([b'"\\u0061%06d":1' % n for n in range(490_000)]) + b"}}",
    "keys": b'{"x":{' + b",".join([b'"%06d":1' % n for n in range(490_000)]) + b"}}",
    "empty arrays": b'{"x":[' + b"[]," * 490_000 + b"[]]}",
    "nested arrays": b'{"x":' + b"[" * 4_900_000,
    "messages": b'{"messages":[' + b'{"content":"a"},' * 490_000 + b"{}]}",
    "quotes": b'"' * 9_800_000,
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_a_body_of_nothing_but_structure_is_refused_before_it_is_decoded(name: str) -> None:
    class Untouched:
        def decode(self, body: bytes) -> None:
            raise AssertionError(f"{len(body)} bytes are decoded")

    with pytest.raises(RequestRejectedError, match=f"more than {ENTRIES_MAX} members and elements"):
        parse_body(STRUCTURE[name], Untouched())  # type: ignore[arg-type]


def test_entries_are_allowed_to_their_maximum() -> None:
    body = b'{"x":[' + b"1," * (ENTRIES_MAX - 2) + b"1]}"  # beside them, the object and the array
    parse_body(body, DECODER)
    assert "members and elements" in rejection(body.replace(b"[1,", b"[1,1,")).message


TEXTS = {
    "commas and brackets": b",:[]{}",
    "escaped quotes": rb"\"",
    "escaped backslashes": rb"\\\\",
    "line feeds": rb"\n",
    "escaped letters": rb"\u0041",
    "pictures": "\U0001f600".encode(),
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_stands_in_strings_is_no_structure(name: str) -> None:
    text = TEXTS[name] * (4_000_000 // len(TEXTS[name]))
    parsed = parse_body(b'{"model":"' + text + b'"}', DECODER)
    assert parsed.fields.model == json.loads(b'"' + text + b'"')


def test_as_many_token_ids_as_openai_takes_are_read() -> None:
    ids = b"[" + b"12345," * 145 + b"1]"
    body = b'{"model":"text-embedding-3-small","input":[' + b",".join([ids] * 2_048) + b"]}"
    facts = dialects()["openai_embeddings"].read_request(body, path={}, query={})
    assert facts.prompt.tokens == 2_048 * 146 > 299_000
    assert TOKEN_IDS_ENTRIES_MAX > 300_000 + 2_048 + 4


ESCAPED = st.text(st.sampled_from('a"\\BQ\nu,:{}[]'), max_size=6)


@given(document=st.dictionaries(ESCAPED, ESCAPED | st.lists(ESCAPED, max_size=3), max_size=5), again=ESCAPED)
def test_a_key_twice_is_found_whatever_is_escaped(document: dict[str, Any], again: str) -> None:
    body = json.dumps(document).encode()
    assert parse_body(body, DECODER_OF_ANY).fields == document
    twice = body[:-1] + (b"," if document else b"") + json.dumps(again).encode() + b":1}"
    if again in document:
        with pytest.raises(RequestRejectedError, match="Duplicate key"):
            parse_body(twice, DECODER_OF_ANY)
    else:
        parse_body(twice, DECODER_OF_ANY)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", 'q"', "\\", "é"]), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["stream_options", "include_usage", "a", 'q"', "é", "x{"])
LAYOUTS = st.sampled_from([{"separators": (",", ":")}, {"indent": 2}, {"separators": (" , ", " : "), "ensure_ascii": False}])


@given(document=st.dictionaries(KEYS, JSON_VALUES, max_size=4), path=st.lists(KEYS, min_size=1, max_size=2), layout=LAYOUTS)
def test_setting_a_member_changes_that_member_and_no_other_byte(
    document: dict[str, Any], path: list[str], layout: dict[str, Any]
) -> None:
    body = json.dumps(document, **layout).encode()
    expected = json.loads(body)
    inner = expected
    for key in path[:-1]:
        if not isinstance(inner.get(key), dict):
            inner[key] = {}
        inner = inner[key]
    inner[path[-1]] = 4711

    edited = with_member(body, tuple(path), b"4711")

    assert json.loads(edited) == expected
    common = len(_common_prefix(body, edited))
    tail = len(_common_prefix(body[::-1], edited[::-1]))
    if path[0] not in document:
        assert common + tail >= len(body)  # an insertion: the old bytes are all there, in order


def _common_prefix(left: bytes, right: bytes) -> bytes:
    length = next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    return left[:length]


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (b"{}", b'{"s":{"u":true}}'),
        (b" { } ", b' {"s":{"u":true} } '),
        (b'{"n":1.0e5, "x":"\\u0041"}', b'{"s":{"u":true},"n":1.0e5, "x":"\\u0041"}'),
        (b'{"s":{ "u" : false , "v":1}}', b'{"s":{ "u" : true , "v":1}}'),
        (b'{"s":{}}', b'{"s":{"u":true}}'),
        (b'{"s":{"v":[{"u":1}]}}', b'{"s":{"u":true,"v":[{"u":1}]}}'),
        (b'{"a":1,"s":null,"b":2}', b'{"a":1,"s":{"u":true},"b":2}'),
        (b'{"\\u0073":{"u":0}}', b'{"\\u0073":{"u":true}}'),
        (b'{"x":{"s":1},"y":"\\"s\\":"}', b'{"s":{"u":true},"x":{"s":1},"y":"\\"s\\":"}'),
    ],
)
def test_setting_a_nested_member(body: bytes, edited: bytes) -> None:
    assert with_member(body, ("s", "u"), b"true") == edited


@pytest.mark.parametrize("value", [b"null", b"-1.5e3", b'"a,}]\\""', b'{"a":[1,"}"]}', b"[[],{}]", b"true"])
def test_a_value_of_any_kind_is_replaced_whole(value: bytes) -> None:
    assert with_member(b'{"a": ' + value + b' ,"b":2}', ("a",), b"0") == b'{"a": 0 ,"b":2}'
    assert with_member(b'{"a":' + value + b"}", ("a",), b"0") == b'{"a":0}'


def test_a_member_is_found_at_the_top_level_only() -> None:
    body = b'{"a":{"usage":1},"usage" : 2}'
    assert body[member_start(body, "usage") :] == b"2}"
    assert member_start(body, "b") == -1
    assert member_start(b"[]", "b") == -1


def test_a_member_is_found_beside_a_key_that_is_no_text() -> None:
    body = b'{"\\ud800":1,"\\u0062":2}'
    assert body[member_start(body, "b") :] == b"2}"


def test_structure_is_refused_as_soon_as_it_is_too_much_and_in_small_steps() -> None:
    body = b'{"x":[' + b"1," * 2_500_000 + b"1]}"
    tracemalloc.start()
    rejection(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * SLICE_BYTES
    assert "members and elements" in rejection(body + b"\xff").message  # what comes behind is not looked at


@pytest.mark.parametrize("fill", [rb"\\", rb"\"", rb"\\\"", rb"x\\\\\"", rb"\n,{"])
def test_where_a_large_body_is_cut_for_reading_changes_nothing(fill: bytes) -> None:
    """Cuts fall within an escape for some shift: a quote or a backslash read wrongly would begin or end the string."""
    for shift in range(4):
        body = b'{"a":["' + b" " * shift + fill * (2 * SLICE_BYTES // len(fill)) + b'"],"b":1}'
        assert parse_body(body, DECODER_OF_ANY).keys == {b'"a":', b'"b":'}
        assert with_member(body, ("b",), b"2").endswith(b'"],"b":2}')
