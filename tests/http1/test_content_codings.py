"""Bodies in gzip, deflate and zstd: whatever is made of them, no more comes out than is allowed, and nothing is guessed."""

import gzip
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from tallygate.domain.errors import Refused
from tallygate.http1.content_codings import PARTS_MAX, RATIO_FLOOR_BYTES, BodyDecoder, content_codings

TEXT = b'{"model": "gpt-4o-mini", "messages": []}' * 50


def raw_deflate(data: bytes) -> bytes:
    packing = zlib.compressobj(wbits=-15)
    return packing.compress(data) + packing.flush()


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "two gzip members": ("gzip", lambda data: gzip.compress(data[:99]) + gzip.compress(b"") + gzip.compress(data[99:])),
    "deflate": ("deflate", zlib.compress),
    "deflate without zlib's head": ("deflate", raw_deflate),
    "zstd": ("zstd", zstd.compress),
    "two zstd frames": ("zstd", lambda data: zstd.compress(data[:99]) + zstd.compress(data[99:])),
    "gzip around zstd": ("zstd, gzip", lambda data: gzip.compress(zstd.compress(data))),
    "deflate around gzip": ("gzip,deflate", lambda data: zlib.compress(gzip.compress(data))),
}


def codings(field: str) -> tuple[str, ...]:
    return content_codings(field)


def decoded(field: str, pieces: Iterable[bytes], *, bytes_max: int = 10_000_000, most: int = 1_000_000) -> bytes:
    decoder = BodyDecoder(codings(field), bytes_max=bytes_max)
    whole = b""
    for piece in pieces:
        decoder.feed(piece)
        while out := decoder.decode(most):
            assert len(out) <= most
            whole += out
    decoder.check_whole()
    return whole


def refusal_of(field: str, body: bytes, **bounds: int) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        decoded(field, [body], **bounds)
    return caught.value.refusal.status, caught.value.refusal.message


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize(("step", "most"), [(1, 7), (10_000, 1_000_000), (64, 1)])
def test_a_body_comes_out_as_it_went_in_however_it_is_cut(name: str, step: int, most: int) -> None:
    field, pack = PACKED[name]
    body = pack(TEXT)
    assert decoded(field, [body[start : start + step] for start in range(0, len(body), step)], most=most) == TEXT


@pytest.mark.parametrize("name", PACKED)
def test_what_is_cut_short_or_goes_on_is_refused(name: str) -> None:
    field, pack = PACKED[name]
    body = pack(TEXT)
    wrong = {cut: body[:cut] for cut in (1, 2, 9, len(body) // 3, len(body) - 1)}
    for cut, broken in wrong.items():
        assert refusal_of(field, broken)[0] == 400, cut
    for more in (b"\0", b"garbage", b"\0" * 100):
        assert refusal_of(field, body + more)[0] == 400, more


@pytest.mark.parametrize("name", PACKED)
@given(at=st.integers(0, 10_000), byte=st.integers(1, 255))
def test_damage_is_refused_or_harmless(name: str, at: int, byte: int) -> None:
    field, pack = PACKED[name]
    body = bytearray(pack(TEXT))
    body[at % len(body)] ^= byte
    with suppress(Refused):
        decoded(field, [bytes(body)])


@pytest.mark.parametrize("name", PACKED)
def test_nothing_is_nothing_in_any_coding(name: str) -> None:
    field, _ = PACKED[name]
    assert decoded(field, []) == b""


@pytest.mark.parametrize("name", PACKED)
def test_the_size_is_bounded_to_the_byte(name: str) -> None:
    field, pack = PACKED[name]
    assert decoded(field, [pack(TEXT)], bytes_max=len(TEXT)) == TEXT
    status, message = refusal_of(field, pack(TEXT), bytes_max=len(TEXT) - 1)
    assert (status, message) == (413, f"The request body is larger than {len(TEXT) - 1} bytes.")


@pytest.mark.parametrize("name", PACKED)
def test_a_small_body_may_be_packed_at_any_ratio_and_a_bomb_may_not(name: str) -> None:
    field, pack = PACKED[name]
    small = b" " * RATIO_FLOOR_BYTES
    assert decoded(field, [pack(small)]) == small
    status, message = refusal_of(field, pack(small * 5))
    assert status == 413
    assert "at least one in 100" in message


def test_a_bomb_inside_a_coding_is_seen_where_it_goes_off_though_nothing_comes_of_it() -> None:
    empty = zstd.compress(b"") * 500
    assert refusal_of("zstd, gzip", gzip.compress(empty * 1_000))[0] in {400, 413}
    padded = gzip.compress(bytes(20_000_000))
    assert refusal_of("gzip, gzip", gzip.compress(padded))[0] == 413


def test_a_bomb_is_refused_before_it_is_large() -> None:
    decoder = BodyDecoder(("gzip",), bytes_max=10**9)
    decoder.feed(gzip.compress(bytes(100_000_000)))
    with pytest.raises(Refused):
        all(iter(lambda: decoder.decode(100_000), b""))
    assert decoder.decoded < 101 * 100_000


@pytest.mark.parametrize(("field", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_parts_are_bounded_in_number(field: str, pack: Callable[[bytes], bytes]) -> None:
    assert decoded(field, [pack(b"") * PARTS_MAX]) == b""
    assert refusal_of(field, pack(b"") * (PARTS_MAX + 1))[0] == 400


def test_a_window_that_http_does_not_allow_is_refused() -> None:
    parameter = zstd.CompressionParameter
    body = bytes(range(256)) * 400  # a frame whose length is not known at its start states the window, whatever it holds
    packing = zstd.ZstdCompressor(options={parameter.window_log: 24, parameter.compression_level: 1})
    packed = packing.compress(body) + packing.flush()
    assert refusal_of("zstd", packed, bytes_max=10**8)[0] == 400


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("", ()),
        ("identity", ()),
        (" Identity , ,", ()),
        ("GZIP", ("gzip",)),
        ("x-gzip", ("gzip",)),
        ("identity, zstd", ("zstd",)),
        ("gzip,\tdeflate", ("gzip", "deflate")),
    ],
)
def test_codings_are_read_as_a_list_in_any_case(field: str, found: tuple[str, ...]) -> None:
    assert content_codings(field) == found


@pytest.mark.parametrize("field", ["br", "compress", "gzip, br", "gzip, gzip, gzip", "gzip;q=1", "*", "aes128gcm"])
def test_other_codings_are_refused_and_those_that_are_read_are_named(field: str) -> None:
    with pytest.raises(Refused) as caught:
        content_codings(field)
    assert caught.value.refusal.status == 415
    assert "gzip, deflate, zstd" in caught.value.refusal.message
