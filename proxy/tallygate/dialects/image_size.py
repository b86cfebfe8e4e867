"""Width and height of an image from its first bytes, since its tokens depend on its size. Nothing is decoded or fetched."""

import binascii
import struct
from base64 import b64decode
from typing import Final

HEAD_BYTES_MAX: Final = 64 * 1024  # of an image; if a JPEG states its size later, the size is unknown

_JPEG_SIZES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers (ITU T.81, table B.1)
_JPEG_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def base64_image_size(text: str) -> tuple[int, int]:
    """Width and height of a PNG, GIF, WebP or JPEG given in base64; (0, 0) if unknown."""
    head_chars = HEAD_BYTES_MAX // 3 * 4
    try:
        head = b64decode(text[: min(head_chars, len(text) // 4 * 4)])
    except (binascii.Error, ValueError):
        return 0, 0
    return image_size(head)


def data_url_image_size(url: str) -> tuple[int, int]:
    """Do as base64_image_size does, for a `data:…;base64,…` URL; (0, 0) for any other."""
    header, comma, text = url.partition(",") if url[:5] == "data:" else ("", "", "")
    return base64_image_size(text) if comma and header.endswith(";base64") else (0, 0)


def base64_bytes(text: str) -> int:
    """The number of bytes that base64 text encodes, without decoding it."""
    return len(text) * 3 // 4


def image_size(head: bytes) -> tuple[int, int]:
    """Width and height stated in the first bytes of an image; (0, 0) if they are not."""
    try:
        if head[:8] == b"\x89PNG\r\n\x1a\n":
            return _size(struct.unpack_from(">II", head, 16))
        if head[:6] in (b"GIF87a", b"GIF89a"):
            return _size(struct.unpack_from("<HH", head, 6))
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return _webp_size(head)
        if head[:2] == b"\xff\xd8":
            return _jpeg_size(head)
    except struct.error:  # the head ends before the size
        pass
    return 0, 0


def _size(pair: tuple[int, ...]) -> tuple[int, int]:
    width, height = pair
    return width, height


def _webp_size(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X" and len(head) >= 30:
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    return 0, 0


def _jpeg_size(head: bytes) -> tuple[int, int]:
    position = 2
    while position + 4 <= len(head) and head[position] == 0xFF:
        marker = head[position + 1]
        if marker == 0xFF or marker in _JPEG_BARE:  # fill byte, or a marker alone
            position += 1 if marker == 0xFF else 2
        elif marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", head, position + 5)
            return width, height
        else:
            (length,) = struct.unpack_from(">H", head, position + 2)
            position += 2 + max(length, 2)
    return 0, 0
