import struct
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.dialects.image_size import HEAD_BYTES_MAX, base64_bytes, base64_image_size, data_url_image_size, image_size

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
GIF = b"GIF89a" + struct.pack("<HH", 640, 480)
WEBP_LOSSY = b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 4 + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 640 | 1 << 14, 480 | 2 << 14)
WEBP_LOSSLESS = b"RIFF\0\0\0\0WEBPVP8L" + b"\0" * 4 + b"\x2f" + struct.pack("<I", 639 | 479 << 14 | 1 << 28)
WEBP_EXTENDED = b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 8 + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")
FRAME = b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", 480, 640)


def jpeg(segment_bytes: int, frame: bytes = FRAME) -> bytes:
    """A JPEG with a comment of that size and a Huffman table, which is no frame, before its frame."""
    comment = b"\xff\xfe" + struct.pack(">H", segment_bytes + 2) + b"\0" * segment_bytes
    return b"\xff\xd8" + comment + b"\xff\xff\xc4\x00\x04\x01\x02" + b"\xff\x01" + frame


@pytest.mark.parametrize(
    "image", [PNG, GIF, WEBP_LOSSY, WEBP_LOSSLESS, WEBP_EXTENDED, jpeg(0), jpeg(5000), jpeg(9, FRAME[:1] + b"\xc0" + FRAME[2:])]
)
def test_the_size_is_read_from_the_first_bytes(image: bytes) -> None:
    assert image_size(image + b"rest") == (640, 480)
    text = b64encode(image + b"rest!").decode()
    assert base64_image_size(text) == (640, 480)
    assert data_url_image_size(f"data:image/any;base64,{text}") == (640, 480)


@pytest.mark.parametrize("image", [PNG, GIF, WEBP_LOSSY, WEBP_LOSSLESS, WEBP_EXTENDED, jpeg(20)])
def test_a_head_that_is_too_short_tells_nothing(image: bytes) -> None:
    for end in range(len(image)):
        assert image_size(image[:end]) == (0, 0)


def test_a_size_past_the_head_is_not_looked_for() -> None:
    assert data_url_image_size("data:image/jpeg;base64," + b64encode(jpeg(HEAD_BYTES_MAX - 200)).decode()) == (640, 480)
    late = b"\xff\xd8" + (b"\xff\xfe\xff\xff" + b"\0" * 0xFFFD) * 2 + FRAME
    assert data_url_image_size("data:image/jpeg;base64," + b64encode(late).decode()) == (0, 0)


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", "data:image/png,abc", "data:image/png;base64", "data:image/png;base64,é!", "data:,", ""]
)
def test_other_urls_have_no_size(url: str) -> None:
    assert data_url_image_size(url) == (0, 0)


@given(
    head=st.binary(max_size=64)
    | st.sampled_from([PNG, GIF, b"\xff\xd8", b"RIFF\0\0\0\0WEBPVP8L"]).flatmap(
        lambda magic: st.binary(max_size=40).map(lambda rest: magic + rest)
    )
)
def test_no_bytes_raise(head: bytes) -> None:
    width, height = image_size(head)
    assert width >= 0
    assert height >= 0


@given(st.binary(max_size=300))
def test_base64_is_measured_without_decoding_it(data: bytes) -> None:
    assert len(data) <= base64_bytes(b64encode(data).decode()) <= len(data) + 2
