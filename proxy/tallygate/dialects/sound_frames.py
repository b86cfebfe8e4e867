"""The seconds in the frames of a recording: what a decoder plays, whatever its head says.

MPEG audio (ISO/IEC 11172-3 section 2.4.2.3 and 13818-3), FLAC (RFC 9639 section 9.1), Opus in Ogg (RFC 3533 section 6, RFC 6716
section 3.1, RFC 7845), the samples of MP4 (ISO/IEC 14496-12 sections 8.4.2, 8.6.1.2, 8.7.3 and 8.8), of AAC at
the rate of its decoder (ISO/IEC 14496-1 section 7.2.6.6 and 14496-3 section 1.6.2.1).
"""

import re
import sys
from array import array
from collections.abc import Iterator
from operator import mul
from typing import Final

FRAMES_MAX: Final = 400_000  # of one file, each well under a µs: 25 MB of the shortest frames of speech have 350,000
BOXES_MAX: Final = 20_000  # of an MP4, within one box; a fragment has a few, and lasts a second or more
_LAYER_3, _LAYER_2, _LAYER_1 = 1, 2, 3
_VERSION_1, _VERSION_2, _VERSION_2_5 = 3, 2, 0
_SAMPLE_RATES: Final = {
    _VERSION_1: (44_100, 48_000, 32_000),
    _VERSION_2: (22_050, 24_000, 16_000),
    _VERSION_2_5: (11_025, 12_000, 8_000),
}
_KBIT: Final = {  # by the four bits of the head, from 1 on
    (_VERSION_1, _LAYER_1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (_VERSION_1, _LAYER_2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (_VERSION_1, _LAYER_3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (_VERSION_2, _LAYER_1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (_VERSION_2, _LAYER_2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_ID3_HEAD: Final = 10
_FLAC_SYNC: Final = re.compile(rb"\xff[\xf8\xf9]")
_FLAC_HEAD_MAX: Final = 16
_CRC_POLYNOMIAL: Final = 0x107  # RFC 9639 section 9.1.8: x^8 + x^2 + x + 1
_FILE_TYPE: Final = b"ftyp"  # MP4's first box
_PICTURES: Final = b"vide"
_AAC_SAMPLES: Final = 1_024  # of a packet
_AAC_RATES: Final = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_DESCRIPTORS: Final = ((b"\3", 3), (b"\4", 13), (b"\5", 0))  # of a stream, its decoder, and what that is configured with
_OPUS_HEADS: Final = 2  # packets of a stream before its sound
_OPUS_MS: Final = (*(10, 20, 40, 60) * 3, *(10, 20) * 2, *(2.5, 5, 10, 20) * 4)  # of a frame, by the configuration


def _frames() -> dict[int, tuple[float, int]]:
    """Seconds and bytes of a frame by the second and third byte of its head, without the bits that decide neither."""
    found: dict[int, tuple[float, int]] = {}
    for version, rates in _SAMPLE_RATES.items():
        for layer in (_LAYER_1, _LAYER_2, _LAYER_3):
            samples = 384 if layer == _LAYER_1 else 576 if layer == _LAYER_3 and version != _VERSION_1 else 1_152
            is_listed = version == _VERSION_1 or layer == _LAYER_1
            kbits = _KBIT[_VERSION_1 if version == _VERSION_1 else _VERSION_2, layer if is_listed else _LAYER_2]
            slot = 4 if layer == _LAYER_1 else 1
            for bits, kbit in enumerate(kbits, 1):
                for index, rate in enumerate(rates):
                    for padding in (0, 1):
                        head = (version << 3 | layer << 1) << 8 | bits << 4 | index << 2 | padding << 1
                        size = (samples // 8 // slot * 1_000 * kbit // rate + padding) * slot
                        found[head] = (samples / rate, size)
    return found


def _crc_table() -> tuple[int, ...]:
    table = list(range(256))
    for _ in range(8):
        table = [value << 1 ^ (_CRC_POLYNOMIAL if value & 0x80 else 0) for value in table]
    return tuple(table)


_FRAMES: Final = _frames()
_CRC_8: Final = _crc_table()
_HEAD_BITS: Final = 0x1EFE


def seconds_of_frames(content: bytes, mime: str, samples_per_second: int) -> float | None:
    """The seconds of a recording of that type; 0 where its frames are not counted, None where they are too many or unclear."""
    if mime == "audio/flac":
        return _seconds_of_flac(content, samples_per_second) if samples_per_second else None
    if mime == "audio/mpeg":
        return _seconds_of_mpeg(content)
    if content.startswith(_FILE_TYPE, 4):
        return _seconds_of_mp4(content) or None
    if mime == 'audio/ogg; codecs="opus"':
        return _seconds_of_opus(content)
    return 0.0


def _seconds_of_mpeg(content: bytes) -> float | None:
    at = 0
    if content.startswith(b"ID3"):
        size = content[6:_ID3_HEAD]
        at = _ID3_HEAD + sum([byte << 7 * (3 - index) for index, byte in enumerate(size)])
    found, end, seconds = _FRAMES.get, len(content) - 4, 0.0
    for _ in range(FRAMES_MAX):
        if at < 0 or at > end:
            return seconds
        head = content[at + 1] << 8 | content[at + 2]
        frame = found(head & _HEAD_BITS) if content[at] == 0xFF and head >= 0xE000 else None
        if frame is None:
            at = content.find(b"\xff", at + 1)
        else:
            seconds += frame[0]
            at += frame[1]
    return None


def _seconds_of_flac(content: bytes, samples_per_second: int) -> float | None:
    samples = 0
    for number, found in enumerate(_FLAC_SYNC.finditer(content)):
        if number >= FRAMES_MAX:
            return None
        head = content[found.start() : found.start() + _FLAC_HEAD_MAX]
        samples += _flac_block(head) if len(head) == _FLAC_HEAD_MAX else 0
    return samples / samples_per_second


def _flac_block(head: bytes) -> int:
    """Samples of the frame with this head; 0 if it is none, as its checksum shows."""
    code, rate = head[2] >> 4, head[2] & 15
    leading = 8 - (~head[4] & 0xFF).bit_length()  # of the number, which is coded like a character in UTF-8
    at = 4 + max(leading, 1)
    sized = at + {6: 1, 7: 2}.get(code, 0)
    end = sized + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if code == 0 or leading in (1, 8) or _crc_8(head[:end]) != head[end]:
        return 0
    if code in (6, 7):
        return int.from_bytes(head[at:sized]) + 1
    return 192 if code == 1 else 144 << code if code < 6 else 1 << code


def _crc_8(data: bytes) -> int:
    found = 0
    for byte in data:
        found = _CRC_8[found ^ byte]
    return found


def _seconds_of_opus(content: bytes) -> float | None:
    at, packets, is_new, seconds = 0, 0, True, 0.0
    for _ in range(FRAMES_MAX):
        if not content.startswith(b"OggS", at) or at + 27 > len(content):
            return seconds
        sizes = content[at + 27 : at + 27 + content[at + 26]]
        at += 27 + len(sizes)
        for size in sizes:
            if is_new:
                packets += 1
                if packets > _OPUS_HEADS and size:
                    seconds += opus_packet(content[at : at + 2])
            is_new = size < 255
            at += size
        if packets > FRAMES_MAX:
            return None
    return None


def opus_packet(head: bytes) -> float:
    """Seconds of a packet by its first two bytes."""
    if not head:
        return 0.0
    code = head[0] & 3
    frames = 1 if code == 0 else 2 if code < 3 else head[1] & 63 if len(head) > 1 else 0
    return frames * _OPUS_MS[head[0] >> 3] / 1_000


class _Track:
    """A track of an MP4: units of its own per second, of a sample unless it says so itself, and of all samples.

    rate   at which AAC is decoded, whatever the units say; 0: not known
    size   bytes of all samples, where they are stated
    """

    scale = each = units = samples = rate = size = 0
    handler = b""

    @property
    def seconds(self) -> float:
        decoded = self.samples * _AAC_SAMPLES / self.rate if self.rate else 0.0
        return max(self.units / self.scale if self.scale else 0.0, decoded)


def _seconds_of_mp4(content: bytes) -> float:
    """The longest track, by its table of samples and by its fragments."""
    return max([each.seconds for each in _tracks(content)], default=0.0)


def bytes_of_sound(content: bytes) -> int:
    """Bytes of a recording without the pictures of an MP4."""
    tracks = _tracks(content) if content.startswith(_FILE_TYPE, 4) else []
    pictures = sum([each.size for each in tracks if each.handler == _PICTURES])
    return max(len(content) - pictures, sum([each.size for each in tracks if each.handler != _PICTURES]))


def _tracks(content: bytes) -> list[_Track]:
    tracks: dict[int, _Track] = {}
    track = _Track()
    flags = 0

    def number(at: int, size: int = 4) -> int:
        return int.from_bytes(content[at : at + size])

    def numbers(at: int, end: int, count: int) -> "array[int]":
        found = array("I", content[at : at + 4 * min(count, max(end - at, 0) // 4)])
        if sys.byteorder == "little":
            found.byteswap()
        return found

    entered = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"moof", b"traf")
    for kind, start, end in _boxes_within(content, 0, len(content), entered):
        is_long = content[start : start + 1] == b"\1"  # the version: times have 64 bits
        if kind == b"tkhd":
            track = tracks.setdefault(number(start + (20 if is_long else 12)), _Track())
        elif kind == b"mdhd":
            track.scale = number(start + (20 if is_long else 12))
        elif kind == b"hdlr":
            track.handler = track.handler or content[start + 8 : start + 12]
        elif kind == b"stsd":
            track.rate = _aac_rate(content[start:end])
        elif kind == b"stsz":
            each, samples = number(start + 4), number(start + 8)
            track.samples += samples
            track.size += each * samples if each else sum(numbers(start + 12, end, samples))
        elif kind == b"stts":
            entries = numbers(start + 8, end, 2 * number(start + 4))
            track.units += sum(map(mul, entries[::2], entries[1::2]))
        elif kind == b"trex":
            tracks.setdefault(number(start + 4), _Track()).each = number(start + 12)
        elif kind == b"tfhd":  # 8.8.7: members that its flags name, of 8, 4 and 4 bytes
            flags, track = number(start + 1, 3), tracks.setdefault(number(start + 4), _Track())
            if flags & 8:
                track.each = number(start + 8 + 8 * (flags & 1) + 4 * (flags >> 1 & 1))
        elif kind == b"trun":  # 8.8.8: a duration stands first in each sample, if its flags say so
            flags, samples = number(start + 1, 3), number(start + 4)
            track.samples += samples
            members = (flags >> 8 & 15).bit_count()
            entries = numbers(start + 8 + 4 * (flags & 1) + 4 * (flags >> 2 & 1), end, samples * members)
            if flags & 0x100:
                track.units += sum(entries[::members])
            else:
                track.units += samples * track.each
            if flags & 0x200:
                track.size += sum(entries[flags >> 8 & 1 :: members])
            elif track.handler != _PICTURES:  # its size is not read
                track.size += len(content)
    return list(tracks.values())


def _aac_rate(box: bytes) -> int:
    """The rate in the decoder's own configuration, which the one beside it may contradict; 0 if there is none."""
    at = box.find(b"esds") + 8
    if at < 8:
        return 0
    for tag, fixed in _DESCRIPTORS:
        if box[at : at + 1] != tag:
            return 0
        at += 1
        while box[at : at + 1] >= b"\x80":
            at += 1
        at += 1 + fixed
    index = int.from_bytes(box[at : at + 2]) >> 7 & 15
    return _AAC_RATES[index] if index < len(_AAC_RATES) else 0


def _boxes_within(content: bytes, start: int, end: int, entered: tuple[bytes, ...]) -> Iterator[tuple[bytes, int, int]]:
    for kind, first, last in _boxes(content, start, end):
        if kind in entered:  # none is inside of itself, so that this ends
            yield from _boxes_within(content, first, last, tuple([each for each in entered if each != kind]))
        else:
            yield kind, first, last


def _boxes(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Each box's type, and where its content begins and ends."""
    for _ in range(BOXES_MAX):
        if start + 8 > end:
            return
        size, first = int.from_bytes(content[start : start + 4]), start + 8
        kind = content[start + 4 : first]
        if size == 1:
            size, first = int.from_bytes(content[first : first + 8]), first + 8
        last = end if size == 0 else min(start + size, end)
        if last < first:
            return
        yield kind, first, last
        start = last
