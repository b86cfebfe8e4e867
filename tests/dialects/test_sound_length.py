"""The length of a recording is read from its bytes; where it cannot be, or cannot be so, it is the longest that they allow."""

import struct

import pytest
import recordings

from tallygate.dialects.sound_length import READS_MAX, SLOWEST_BITS_PER_SECOND, read_seconds, seconds_of


@pytest.mark.parametrize(
    ("recording", "seconds"),
    [
        (recordings.wav(7.5), 8),
        (recordings.wav(7.5, stated_bytes=0), 8),  # streamed: its head says nothing
        (recordings.wav(7.5, stated_bytes=2), 8),  # or too little
        (recordings.wav(7.5, stated_bytes=0xFFFFFFFF), 8),
        (recordings.mp3(12), 12),
        (recordings.flac(61), 61),
        (recordings.ogg_opus(9), 9),
        (recordings.m4a(30), 30),
        (recordings.fragmented_mp4(21), 21),
        (recordings.webm(11), 12),
        (recordings.webm(11, picture_bytes=500_000), 12),  # a video: subtitles are made of them
        (recordings.video_mp4(17), 17),
    ],
)
def test_formats_are_read(recording: bytes, seconds: int) -> None:
    assert read_seconds(recording) is not None
    assert abs(seconds_of(recording) - seconds) <= 1
    assert seconds_of(recording) >= seconds - 1


def test_what_its_head_overstates_is_believed() -> None:
    assert seconds_of(recordings.m4a(2, stated_seconds=60)) == 60


@pytest.mark.parametrize(
    ("recording", "seconds"),
    [
        (recordings.mp3(60, stated_frames=600), 60),
        (recordings.m4a(60, stated_seconds=4), 60),
        (recordings.video_mp4(60, tick=1), 60),
        (recordings.video_mp4(60, tick=1, claimed=50_000_000), 60),
        (recordings.ogg_opus(60, stated_seconds=2), 60),
        (recordings.webm(60, stated_seconds=2), 58),  # 16 packets of 60 ms in each second
        (b"ID3\x04\0\0\0\0\x07\x76" + bytes(1_014) + recordings.mp3(60, stated_frames=600), 60),
        (recordings.flac(60, stated_seconds=1), 60),
    ],
)
def test_what_its_head_understates_is_counted_by_its_frames(recording: bytes, seconds: int) -> None:
    assert seconds <= seconds_of(recording) <= seconds + 1


@pytest.mark.parametrize(
    "recording",
    [
        b"",
        b"no sound" * 10_000,
        recordings.m4a(100, has_table=False),  # a head alone, without samples
        recordings.m4a(1)[:-90],
        b"\x1a\x45\xdf\xa3" + b"\xff" * 1_000,
        recordings.webm(2)[:60],
        b"OggS" + bytes(90_000),
        b"ID3" + b"\xff" * 10_000,
        b"fLaC" + bytes(50_000),
        # a second format, by which it would play a sixth of a second: decoders take the first
        recordings.wav(60)[:36] + b"fmt " + struct.pack("<IHHIIHH", 16, 1, 8, 192_000, 6_144_000, 32, 32) + recordings.wav(60)[36:],
        # AIFF with samples of two bytes, 2^1,018 in each second
        b"FORM\0\0\0\x40AIFFCOMM\0\0\0\x12\0\x10\0\0\x10\0\0\x10\x43\xf8" + b"\xff" * 8 + bytes(40),
    ],
)
def test_anything_else_plays_as_long_as_its_bytes_allow(recording: bytes) -> None:
    assert read_seconds(recording) is None
    assert seconds_of(recording) == max(-(-len(recording) * 8 // SLOWEST_BITS_PER_SECOND), 1)


@pytest.mark.parametrize(
    "recording",
    [
        b"\xff\xfb" + bytes(8_000_000),
        b"\x1a\x45\xdf\xa3\x80" + b"\xec\x80" * 4_000_000,
        b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 1_000_000,
    ],
)
def test_hostile_files_cost_bounded_work(recording: bytes) -> None:
    """Each of these files would be read millions of times."""
    assert len(recording) > 20 * READS_MAX
    assert read_seconds(recording) is None
