"""How long a recording plays, by what is in its bytes. A hostile one costs bounded work, and is no shorter than its size allows.

tinytag reads WAV, MP3, MP4/M4A, Ogg (Opus, Vorbis, Speex), FLAC, AIFF and WMA; where a recording's frames come to more than its
head says, they count. WebM, which it does not read, is walked here (RFC 8794, EBML, and RFC 9559, Matroska): browsers record it
without stating a duration.
"""

import io
import math
from typing import Final

from tinytag import TinyTag, TinyTagException

from tallygate.dialects.sound_frames import bytes_of_sound, opus_packet, seconds_of_frames

# What cannot be read, or cannot be true, counts as the slowest that the providers take: Opus, "6 kbit/s" (RFC 6716 section 2.1.1).
SLOWEST_BITS_PER_SECOND: Final = 6_000
# AAC of two channels at 48 kHz (ISO/IEC 14496-3, 6,144 bits of a block for each); MP3 ends at 320 kbit/s, Opus at 510.
FASTEST_BITS_PER_SECOND: Final = 576_000
READS_MAX: Final = 100_000  # of one file, each some 0.5 µs
_WAV: Final = "audio/wav"
_UNCOMPRESSED: Final = tuple([f'audio/wav; codecs="{tag}"' for tag in "1367"])  # PCM, floating point, A-law, µ-law
_WAV_FORMAT: Final = b"fmt "
_RAW_BITS_PER_SECOND_MAX: Final = 1 << 40  # AIFF's rate may have thousands of digits
_LOSSLESS: Final = ("audio/flac", 'audio/ogg; codecs="flac"', "audio/aiff")  # and what follows a semicolon
_NANOSECONDS: Final = 1_000_000_000

_EBML: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT, _CLUSTER, _INFO, _BLOCK_GROUP, _TRACKS, _TRACK = 0x18538067, 0x1F43B675, 0x1549A966, 0xA0, 0x1654AE6B, 0xAE
_ENTERED: Final = frozenset({_SEGMENT, _CLUSTER, _INFO, _BLOCK_GROUP, _TRACKS, _TRACK})
_TRACK_NUMBER, _TRACK_TYPE, _PICTURES = 0xD7, 0x83, 1  # sound is 2
_CODEC, _OPUS, _LACING = 0x86, b"A_OPUS", 0x06
_SCALE, _TIMESTAMP, _SIMPLE_BLOCK, _BLOCK = 0x2AD7B1, 0xE7, 0xA3, 0xA1
_SCALE_DEFAULT: Final = 1_000_000
_LAST_BLOCK_NS: Final = 120_000_000  # the longest packet of Opus (RFC 6716 section 2.1.4)


def seconds_of(content: bytes) -> int:
    """The seconds that a recording plays at most, rounded up; at least 1."""
    read = read_seconds(content)
    return max(math.ceil(len(content) * 8 / SLOWEST_BITS_PER_SECOND if read is None else read), 1)


def read_seconds(content: bytes) -> float | None:
    """The seconds that a recording plays, as it says itself; None if that cannot be read, or cannot be."""
    return _seconds_of_webm(content) if content.startswith(_EBML) else _seconds_by_tinytag(content)


class _Reads(io.BytesIO):
    """A file that may be read so often."""

    left = READS_MAX

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ValueError("it is read too often")
        return super().read(size)


def _seconds_by_tinytag(content: bytes) -> float | None:
    try:
        tag = TinyTag.get(file_obj=_Reads(content), tags=False)
    except TinyTagException:
        return None
    stated, mime = tag.duration or 0.0, tag.mime_type or ""
    if not math.isfinite(stated) or not content:
        return None
    raw = (tag.samplerate or 0) * (tag.channels or 0) * (-(-(tag.bitdepth or 0) // 8) * 8)
    if raw > _RAW_BITS_PER_SECOND_MAX or (mime.startswith(_WAV) and content.count(_WAV_FORMAT) > 1):  # decoders take the first
        return None
    if mime in _UNCOMPRESSED and raw:  # its head may state any size where it was streamed; what there is, is played
        whole = len(content) * 8 / raw
        return stated if whole - 1 <= stated <= whole else whole
    if mime.startswith(_WAV):
        return None
    played = seconds_of_frames(content, mime, tag.samplerate or 0)
    if played is None:
        return None
    size = bytes_of_sound(content)
    return _if_possible(max(stated, played), size, raw if mime.startswith(_LOSSLESS) and raw else FASTEST_BITS_PER_SECOND)


def _if_possible(seconds: float, size: int, bits_per_second: int = FASTEST_BITS_PER_SECOND) -> float | None:
    """The seconds; None if so many bytes of sound cannot be played in them, and one more for what is no sound."""
    return seconds if seconds > 0 and (seconds + 1) * bits_per_second >= size * 8 else None


def _seconds_of_webm(content: bytes) -> float | None:
    """The end of the last block, by the timestamps of clusters and blocks, or all packets of Opus where these play longer.

    What is of a video's pictures is no sound.
    """
    at, scale, cluster, last, end = 0, _SCALE_DEFAULT, 0, -1, len(content)
    track = 0
    has_opus = False
    played: dict[int, float] = {}  # by track, if it is of Opus
    kinds: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for _ in range(READS_MAX):
        if at >= end:
            pictures = {track for track, kind in kinds.items() if kind == _PICTURES}
            seconds = (last * scale + _LAST_BLOCK_NS) / _NANOSECONDS
            if has_opus:
                seconds = max(seconds, *[each for track, each in played.items() if track not in pictures], 0)
            return None if last < 0 else _if_possible(seconds, end - sum([sizes.get(track, 0) for track in pictures]))
        id_size = 9 - content[at].bit_length()
        sized = at + id_size
        if id_size > 4 or sized >= end:
            break
        kind = int.from_bytes(content[at:sized])
        size_size = 9 - content[sized].bit_length()
        at = sized + size_size
        if kind in _ENTERED:
            continue
        if size_size > 8:
            break
        size = int.from_bytes(content[sized:at]) & ((1 << 7 * size_size) - 1)
        if kind == _SCALE:
            scale = int.from_bytes(content[at : at + min(size, 8)])
        elif kind == _TIMESTAMP:
            cluster = int.from_bytes(content[at : at + min(size, 8)])
        elif kind == _TRACK_NUMBER:
            track = int.from_bytes(content[at : at + min(size, 8)])
        elif kind == _TRACK_TYPE:
            kinds[track] = max(kinds.get(track, 0), int.from_bytes(content[at : at + min(size, 8)]))
        elif kind == _CODEC:
            has_opus = has_opus or content.startswith(_OPUS, at)
        elif kind in (_SIMPLE_BLOCK, _BLOCK) and at < end:
            track_size = 9 - content[at].bit_length()
            of = int.from_bytes(content[at : at + track_size]) & ((1 << 7 * track_size) - 1)
            sizes[of] = sizes.get(of, 0) + min(size, end - at)
            played[of] = played.get(of, 0.0) + _seconds_of_block(content[at + track_size + 2 : at + track_size + 5])
            block = content[at + track_size : at + track_size + 2]
            last = max(last, cluster + int.from_bytes(block, signed=True))
        at += size
    return None


def _seconds_of_block(begun: bytes) -> float:
    """The seconds of Opus in a block by its flags and the bytes behind them: at most, where it has several packets."""
    if begun[:1] and begun[0] & _LACING:
        return (int.from_bytes(begun[1:2]) + 1) * _LAST_BLOCK_NS / _NANOSECONDS
    return opus_packet(begun[1:])
