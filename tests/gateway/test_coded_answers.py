"""Answers that come coded: read in a bounded copy, in any pieces, and unread past the bounds."""

import gzip
import json
import random
import zlib
from importlib import import_module
from typing import Any

import pytest

from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.registry import dialects
from tallygate.domain.prompt import PromptShape
from tallygate.domain.usage import usage_of_totals
from tallygate.gateway.exchange.answer_reader import head_of
from tallygate.gateway.exchange.coded_meter import DECODED_BYTES_MAX, SLICE_BYTES, WAITING_BYTES_MAX, CodedMeter
from tallygate.http1.content_codings import _zstd

CHAT = dialects()["openai_chat"]
USAGE = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
TRUE = usage_of_totals(prompt=100, completion=7)


def whole(text: str = "Hi") -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": USAGE}).encode()


def streamed() -> bytes:
    chunks = [{"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}, {"choices": [], "usage": USAGE}]
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks) + b"data: [DONE]\n\n"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACK: dict[tuple[str, ...], Any] = {
    ("gzip",): gzip.compress,
    ("deflate",): zlib.compress,
    ("deflate", ""): raw_deflate,
    ("zstd",): lambda data: _zstd().compress(data),
    ("gzip", "gzip"): lambda data: gzip.compress(gzip.compress(data)),
    ("gzip", "zstd"): lambda data: _zstd().compress(gzip.compress(data)),
    ("deflate", "gzip"): lambda data: gzip.compress(zlib.compress(data)),
}


async def read(
    codings: tuple[str, ...], body: bytes, *, size: int = 10**9, stream: bool = False, hide: bool = False
) -> tuple[CodedMeter, bytes]:
    facts = RequestFacts(model="m", prompt=PromptShape(), stream=stream)
    meter = CodedMeter(CHAT.meter(facts, content_type="text/plain", hide_usage_chunk=hide), [each for each in codings if each])
    relayed = b"".join([meter.feed(body[at : at + size]) for at in range(0, len(body), size)]) + meter.end_body()
    await meter.read_on()
    return meter, relayed


@pytest.mark.parametrize("codings", PACK)
@pytest.mark.parametrize("size", [1, 7, 10**6])
async def test_a_coded_answer_is_read_in_any_pieces_and_relayed_as_it_is(codings: tuple[str, ...], size: int) -> None:
    for plain, stream in ((whole(), False), (streamed(), True), (b"\xef\xbb\xbf" + streamed(), False)):
        packed = PACK[codings](plain)
        meter, relayed = await read(codings, packed, size=size, stream=stream, hide=stream)
        assert relayed == packed
        reading = meter.reading
        assert (reading.usage, reading.drain_text(), reading.ended, meter.is_unread) == (TRUE, "Hi", True, False)
        assert reading.is_events == (plain != whole())


async def test_a_long_answer_is_decoded_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    words = random.Random(7)
    plain = whole("".join(words.choice("abcdefgh ") for _ in range(700_000)))
    packed = gzip.compress(plain)
    turns = []

    async def turn(_seconds: float) -> None:
        turns.append(1)

    monkeypatch.setattr("tallygate.gateway.exchange.coded_meter.asyncio.sleep", turn)
    meter, relayed = await read(("gzip",), packed)
    assert relayed == packed
    assert (meter.reading.usage, meter.is_unread) == (TRUE, False)
    assert len(turns) >= len(plain) // SLICE_BYTES - 1


@pytest.mark.parametrize(
    ("codings", "body"),
    [
        (("br",), b"\x0b\x02\x80" + b"x" * 40),
        (("compress",), b"\x1f\x9d\x90" + b"x" * 40),
        (("gzip", "gzip", "gzip"), gzip.compress(gzip.compress(gzip.compress(whole())))),
        (("gzip",), b"\x1f\x8b\x08" + b"x" * 40),
        (("zstd",), b"\x28\xb5\x2f\xfd" + b"\xff" * 40),
        (("gzip",), b"nothing of the kind"),
        (("br",), b""),
        (("gzip", "br"), b"\x0b\x02\x80" + b"x" * 40),
    ],
)
async def test_what_cannot_be_decoded_is_unread_and_relayed(codings: tuple[str, ...], body: bytes) -> None:
    for size in (1, 10**6):
        meter, relayed = await read(codings, body, size=size)
        assert relayed == body
        assert meter.is_unread
        assert (meter.reading.usage, meter.reading.ended, meter.reading.flags) == (None, False, {"undecoded"})


@pytest.mark.parametrize("codings", [("gzip",), ("zstd",), ("br",), ("deflate",), ("snappy",)])
async def test_a_plain_answer_under_a_coding_is_plain(codings: tuple[str, ...]) -> None:
    shown = streamed().replace(b'data: {"choices": [], "usage": ' + json.dumps(USAGE).encode() + b"}\n\n", b"")
    for size in (1, 10**6):
        for plain in (whole(), json.dumps(json.loads(whole()), indent=4).encode(), b"\n " + whole()):
            meter, relayed = await read(codings, plain, size=size)
            assert (relayed, meter.reading.usage, meter.reading.ended) == (plain, TRUE, True)
        meter, relayed = await read(codings, streamed(), size=size, stream=True, hide=True)
        assert (relayed, meter.reading.usage, meter.is_unread) == (shown, TRUE, False)


async def test_a_cut_answer_is_read_as_far_as_it_came() -> None:
    packed = gzip.compress(streamed())
    meter, _ = await read(("gzip",), packed[:-30], stream=True)
    assert (meter.is_unread, meter.reading.drain_text()) == (False, "Hi")


async def test_bombs_are_given_up() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(40)) + packer.flush()
    meter, relayed = await read(("gzip",), bomb, size=65_536)
    assert (relayed, meter.is_unread, meter.reading.flags) == (bomb, True, {"undecoded"})
    noise = random.Random(3).randbytes(DECODED_BYTES_MAX + 1)
    meter, _ = await read(("gzip",), gzip.compress(noise, 1), size=65_536)
    assert meter.is_unread
    meter, _ = await read(("gzip",), gzip.compress(noise, 1)[: WAITING_BYTES_MAX + 10])
    assert meter.is_unread


@pytest.mark.parametrize(
    ("values", "codings"),
    [
        ([], ()),
        ([b"identity"], ()),
        ([b""], ()),
        ([b"none"], ()),
        ([b"UTF-8"], ()),
        ([b"utf8"], ()),
        ([b"iso-8859-1"], ()),
        ([b"us-ascii, identity"], ()),
        ([b"gzip"], ("gzip",)),
        ([b"X-GZIP"], ("gzip",)),
        ([b"identity, gzip ;q=1"], ("gzip",)),
        ([b"gzip, br"], ("gzip", "br")),
        ([b"deflate", b"gzip"], ("deflate", "gzip")),
        ([b"amz-1.0"], ("amz-1.0",)),
    ],
)
def test_what_is_no_coding_is_none(values: list[bytes], codings: tuple[str, ...]) -> None:
    headers = [(b"Content-Type", b"text/plain"), *((b"Content-Encoding", value) for value in values)]
    assert head_of(200, headers, content_length=None, is_http_1_0=False).codings == codings


def test_zstd_is_there() -> None:
    assert import_module(_zstd().__name__)
