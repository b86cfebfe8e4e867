"""Recordings of known length, made here byte by byte: silence in the formats that speech APIs take."""

import struct

FLAC_CHECKSUM = 0x04  # of the head of each frame here: CRC-8 of FF F8 C4 08 00 by RFC 9639 section 9.1.8
WAV_BYTES_PER_SECOND = 16_000  # 8 kHz in 16 bits, one channel


def wav(seconds: float, *, stated_bytes: int | None = None) -> bytes:
    """RIFF WAVE. stated_bytes: of its sound, as its head says; else what there is."""
    size = int(seconds * WAV_BYTES_PER_SECOND)
    stated = size if stated_bytes is None else stated_bytes
    head = (
        b"RIFF"
        + struct.pack("<I", (36 + stated) & 0xFFFFFFFF)
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, 8_000, 16_000, 2, 16)
    )
    return head + b"data" + struct.pack("<I", stated) + bytes(size)


def mp3(seconds: float, *, stated_frames: int | None = None) -> bytes:
    """MPEG-1 layer III at 128 kbit/s and 44.1 kHz (ISO/IEC 11172-3, 2.4.1.3): frames of 417 bytes with 1,152 samples.

    stated_frames   by a Xing header in the first one
    """
    frames = round(seconds * 44_100 / 1_152)
    whole = (b"\xff\xfb\x90\xc4" + bytes(413)) * frames
    if stated_frames is None:
        return whole
    xing = bytes(17) + b"Xing" + struct.pack(">III", 3, stated_frames, stated_frames * 417)
    return whole[:4] + xing + whole[4 + len(xing) :]


def flac(seconds: float, *, stated_seconds: float | None = None) -> bytes:
    """FLAC (RFC 9639 sections 8.2 and 9.1): 8 kHz, one channel, 16 bits; frames of 4,096 samples, all alike."""
    packed = (8_000 << 44) | (0 << 41) | (15 << 36) | int((seconds if stated_seconds is None else stated_seconds) * 8_000)
    info = struct.pack(">HH", 4_096, 4_096) + bytes(6) + packed.to_bytes(8) + bytes(16)
    frame = b"\xff\xf8\xc4\x08\x00" + bytes([FLAC_CHECKSUM]) + bytes(200)
    return b"fLaC" + bytes([0x80]) + len(info).to_bytes(3) + info + frame * round(seconds * 8_000 / 4_096)


def ogg_opus(seconds: int, *, stated_seconds: int | None = None) -> bytes:
    """Opus in Ogg (RFC 3533 section 6, RFC 7845 section 5): one page for each second of 50 packets of 20 ms."""
    stated = seconds if stated_seconds is None else stated_seconds
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 0, 48_000, 0, 0)
    tags = b"OpusTags" + struct.pack("<II", 0, 0)
    pages = [_page(head, 0, 0, 2), _page(tags, 0, 1, 0)]
    for second in range(seconds):
        is_last = second == seconds - 1
        position = min(second + 1, stated) * 48_000
        pages.append(_page((b"\x08" + bytes(19)) * 50, position, second + 2, 4 if is_last else 0, packet=20))
    return b"".join(pages)


def _page(data: bytes, granule: int, number: int, kind: int, *, packet: int = 0) -> bytes:
    sizes = [packet] * (len(data) // packet) if packet else [len(data)]
    return b"OggS" + struct.pack("<BBqIII", 0, kind, granule, 7, number, 0) + bytes([len(sizes), *sizes]) + data


def m4a(seconds: int, *, stated_seconds: int | None = None, has_table: bool = True) -> bytes:
    """MP4 with its `moov` behind the sound (ISO/IEC 14496-12, 8.2.2), at 4,000 bytes and 50 samples a second.

    stated_seconds   by its head; has_table False: its samples are in fragments
    """
    stated = seconds if stated_seconds is None else stated_seconds
    mvhd = _box(b"mvhd", bytes(12) + struct.pack(">II", 1_000, stated * 1_000) + bytes(80))
    stts = _box(b"stts", bytes(4) + struct.pack(">III", 1, 50 * seconds, 160) if has_table else bytes(8))
    mdhd = _box(b"mdhd", bytes(12) + struct.pack(">II", 8_000, stated * 8_000) + bytes(4))
    tkhd = _box(b"tkhd", bytes(12) + struct.pack(">I", 1) + bytes(68))
    track = _box(b"trak", tkhd + _box(b"mdia", mdhd + _box(b"minf", _box(b"stbl", stts))))
    return _box(b"ftyp", b"M4A \0\0\0\0M4A mp42") + _box(b"mdat", bytes(4_000 * seconds)) + _box(b"moov", mvhd + track)


def fragmented_mp4(seconds: int) -> bytes:
    """MP4 as Safari records it (8.8): its samples in fragments of a second, half of them with durations of their own."""
    mdhd = _box(b"mdhd", bytes(12) + struct.pack(">II", 8_000, 0) + bytes(4))
    track = _box(b"trak", _box(b"tkhd", bytes(12) + struct.pack(">I", 1) + bytes(68)) + _box(b"mdia", mdhd))
    extended = _box(b"mvex", _box(b"trex", struct.pack(">IIIIII", 0, 1, 1, 160, 0, 0)))
    mvhd = _box(b"mvhd", bytes(12) + struct.pack(">II", 1_000, 0) + bytes(80))
    whole = _box(b"ftyp", b"iso5\0\0\2\0iso5") + _box(b"moov", mvhd + track + extended)
    for second in range(seconds):
        own = second % 2
        run = struct.pack(">II", 0x300 if own else 0x200, 50) + (struct.pack(">II", 160, 80) if own else struct.pack(">I", 80)) * 50
        part = _box(b"traf", _box(b"tfhd", struct.pack(">II", 0, 1)) + _box(b"trun", run))
        whole += _box(b"moof", part) + _box(b"mdat", bytes(4_000))
    return whole


def video_mp4(seconds: int, *, tick: int = 1_024, claimed: int | None = None) -> bytes:
    """MP4 with AAC at 16 kHz beside pictures of a megabyte a second.

    tick     of each packet of sound, by its table: else than 1,024, no decoder heeds it
    claimed  bytes of the pictures, by their table
    """
    packets = seconds * 16_000 // 1_024
    config = b"\3\x80\x80\x80\x19\0\1\0\4\x11\x40\x15" + bytes(11) + b"\5\2\x14\x08"  # AAC-LC, 16 kHz, one channel
    entry = _box(b"mp4a", bytes(16) + struct.pack(">HHHHI", 2, 16, 0, 0, 48_000 << 16) + _box(b"esds", bytes(4) + config))
    tables = (
        _box(b"stsd", struct.pack(">II", 0, 1) + entry)
        + _box(b"stts", struct.pack(">IIII", 0, 1, packets, tick))
        + _box(b"stsz", struct.pack(">III", 0, 0, packets) + struct.pack(">I", 200) * packets)
    )
    picture = _box(b"stsz", struct.pack(">III", 0, 1_000_000 if claimed is None else claimed, seconds))
    moov = _track(1, b"vide", picture) + _track(2, b"soun", tables)
    return _box(b"ftyp", b"isom\0\0\2\0isom") + _box(b"mdat", bytes(seconds * 1_000_000 + packets * 200)) + _box(b"moov", moov)


def _track(number: int, handler: bytes, tables: bytes) -> bytes:
    tkhd = _box(b"tkhd", bytes(12) + struct.pack(">I", number) + bytes(68))
    mdhd = _box(b"mdhd", bytes(12) + struct.pack(">II", 16_000, 0) + bytes(4))
    hdlr = _box(b"hdlr", bytes(8) + handler + bytes(13))
    return _box(b"trak", tkhd + _box(b"mdia", mdhd + hdlr + _box(b"minf", _box(b"stbl", tables))))


def _box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + kind + data


def webm(seconds: int, *, picture_bytes: int = 0, stated_seconds: int | None = None) -> bytes:
    """WebM as browsers record it: no duration, clusters of unknown size (RFC 8794, 6.2), a block for each 60 ms.

    picture_bytes    of a second track in each second
    stated_seconds   by its timestamps
    """
    last = seconds if stated_seconds is None else stated_seconds
    pictures = _element(b"\xa3", b"\x82\0\0\x80" + bytes(picture_bytes)) if picture_bytes else b""
    kinds = [_element(b"\xae", b"\x86\x86A_OPUS\xd7\x81%c\x83\x81%c" % (number, kind)) for number, kind in ((1, 2), (2, 1))]
    blocks = b"".join(
        _element(
            b"\x1f\x43\xb6\x75", _element(b"\xe7", (min(second, last) * 1_000).to_bytes(4)) + _blocks() + pictures, unknown=True
        )
        for second in range(seconds)
    )
    info = _element(b"\x15\x49\xa9\x66", _element(b"\x2a\xd7\xb1", (1_000_000).to_bytes(3)))
    tracks = _element(b"\x16\x54\xae\x6b", b"".join(kinds))
    return _element(b"\x1a\x45\xdf\xa3", b"\x42\x86\x81\x01") + _element(b"\x18\x53\x80\x67", info + tracks + blocks, unknown=True)


def _blocks() -> bytes:
    return b"".join(_element(b"\xa3", b"\x81" + struct.pack(">h", at) + b"\x80\x18" + bytes(119)) for at in range(0, 960, 60))


def _element(name: bytes, data: bytes, *, unknown: bool = False) -> bytes:
    size = b"\x01\xff\xff\xff\xff\xff\xff\xff" if unknown else (0x10000000 | len(data)).to_bytes(4)
    return name + size + data
