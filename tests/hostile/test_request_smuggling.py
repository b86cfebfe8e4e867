"""Payloads that make two servers disagree on where a request ends: whoever is in front, at most what was authorised goes on."""

import asyncio
import json
from pathlib import Path

from gateway_harness import running_gateway
from raw_client import BIG, CHAT, KEY, Conversation, chat, converse

RAW = json.dumps(CHAT).encode()
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(RAW), RAW)
HIDDEN = b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\nX-Hidden: CANARY\r\n" + KEY + b"\r\n"  # it must never be served
START = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n" + KEY


def request(*lines: bytes, body: bytes) -> bytes:
    return START + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def chunked(coding: bytes, body: bytes = CHUNKED) -> bytes:
    return request(coding, body=body + HIDDEN)


def both(coding: bytes, *, length: int = len(CHUNKED) + len(HIDDEN)) -> bytes:
    return request(b"Content-Length: %d" % length, coding, body=CHUNKED + HIDDEN)


TE = b"Transfer-Encoding"
PAYLOADS = {
    # Content-Length with Transfer-Encoding, in both orders and in every disguise
    "CL.TE": both(TE + b": chunked"),
    "CL.TE short": both(TE + b": chunked", length=4),
    "TE.CL": request(TE + b": chunked", b"Content-Length: 4", body=CHUNKED + HIDDEN),
    "TE.CL whole": request(TE + b": chunked", b"Content-Length: %d" % len(CHUNKED + HIDDEN), body=CHUNKED + HIDDEN),
    "CL.TE tab": both(TE + b":\tchunked"),
    "CL.TE no space": both(TE + b":chunked"),
    "CL.TE upper case": both(TE.upper() + b": CHUNKED"),
    "CL.TE space before colon": both(TE + b" : chunked"),
    "CL.TE leading space": both(b" " + TE + b": chunked"),
    "CL.TE vertical tab": both(TE + b": \x0bchunked"),
    "CL.TE form feed": both(TE + b": chunked\x0c"),
    "CL.TE NUL": both(TE + b": chunked\x00"),
    "CL.TE quoted": both(TE + b': "chunked"'),
    "CL.TE single quotes": both(TE + b": 'chunked'"),
    "CL.TE x": both(TE + b": xchunked"),
    "CL.TE suffix": both(TE + b": chunkedx"),
    "CL.TE list with identity": both(TE + b": chunked, identity"),
    "CL.TE identity first": both(TE + b": identity, chunked"),
    "CL.TE empty first": both(TE + b": , chunked"),
    "CL.TE parameters": both(TE + b": chunked;q=1"),
    "CL.TE twice": both(TE + b": chunked\r\n" + TE + b": chunked"),
    "CL.TE second bogus": both(TE + b": chunked\r\n" + TE + b": x"),
    "CL.TE first bogus": both(TE + b": x\r\n" + TE + b": chunked"),
    "CL.TE folded": both(TE + b":\r\n chunked"),
    "CL.TE folded tail": both(TE + b": chunked\r\n , x"),
    "CL.TE after LF": both(b"X: x\n" + TE + b": chunked"),
    "CL.TE after CR": both(b"X: x\r" + TE + b": chunked"),
    "CL.TE underscore": both(b"Transfer_Encoding: chunked"),
    "CL.TE non-ASCII": both(b"Transfer-\xc4\x8encoding: chunked"),
    "CL.TE kelvin": both(TE + b": chun\xe2\x84\xaaed"),
    "CL.TE obs-text": both(TE + b": \xa0chunked"),
    # Transfer-Encoding alone, disguised
    "TE gzip, chunked": chunked(TE + b": gzip, chunked"),
    "TE twice": chunked(TE + b": chunked\r\n" + TE + b": chunked"),
    "TE identity": chunked(TE + b": identity"),
    "TE empty": chunked(TE + b":"),
    "TE in 1.0": request(TE + b": chunked", body=CHUNKED + HIDDEN).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    # Content-Length alone
    "two lengths": request(b"Content-Length: 0", b"Content-Length: %d" % (len(RAW + HIDDEN)), body=RAW + HIDDEN),
    "two lengths, longer first": request(b"Content-Length: %d" % len(RAW), b"Content-Length: 0", body=RAW + HIDDEN),
    "list of lengths": request(b"Content-Length: %d, 0" % len(RAW), body=RAW + HIDDEN),
    "plus": request(b"Content-Length: +%d" % len(RAW), body=RAW + HIDDEN),
    "minus": request(b"Content-Length: -1", body=RAW + HIDDEN),
    "hexadecimal": request(b"Content-Length: 0x%x" % len(RAW), body=RAW + HIDDEN),
    "underscored": request(b"Content-Length: 1_0", body=RAW + HIDDEN),
    "exponent": request(b"Content-Length: 1e1", body=RAW + HIDDEN),
    "decimal point": request(b"Content-Length: %d.0" % len(RAW), body=RAW + HIDDEN),
    "other digits": request("Content-Length: ٣".encode(), body=RAW + HIDDEN),
    "length overflow": request(b"Content-Length: %d" % (2**64 + len(RAW)), body=RAW + HIDDEN),
    "length with NUL": request(b"Content-Length: %d\x00" % len(RAW), body=RAW + HIDDEN),
    "length underscore name": request(b"Content_Length: 0", b"Content-Length: %d" % len(RAW), body=RAW + HIDDEN),
    # chunks
    "chunk size with 0x": chunked(TE + b": chunked", b"0x%x\r\n%b\r\n0\r\n\r\n" % (len(RAW), RAW)),
    "chunk size negative": chunked(TE + b": chunked", b"-1\r\n%b\r\n0\r\n\r\n" % RAW),
    "chunk size overflow": chunked(TE + b": chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (2**64 + len(RAW), RAW)),
    "chunk size with space": chunked(TE + b": chunked", b" %x\r\n%b\r\n0\r\n\r\n" % (len(RAW), RAW)),
    "chunk size empty": chunked(TE + b": chunked", b"\r\n%b\r\n0\r\n\r\n" % RAW),
    "chunk without end": chunked(TE + b": chunked", b"%x\r\n%bXX0\r\n\r\n" % (len(RAW), RAW)),
    "chunk end LF": chunked(TE + b": chunked", b"%x\r\n%b\n0\r\n\r\n" % (len(RAW), RAW)),
    "chunk size LF": chunked(TE + b": chunked", b"%x\n%b\r\n0\r\n\r\n" % (len(RAW), RAW)),
    "chunk extension with LF": chunked(TE + b": chunked", b"%x;a\nb\r\n%b\r\n0\r\n\r\n" % (len(RAW), RAW)),
    "chunk extension with CR": chunked(TE + b": chunked", b"%x;a\rb\r\n%b\r\n0\r\n\r\n" % (len(RAW), RAW)),
    "last chunk LF": chunked(TE + b": chunked", b"%x\r\n%b\r\n0\n\n" % (len(RAW), RAW)),
    "trailer with a key": chunked(TE + b": chunked", CHUNKED[:-2] + KEY + b"\r\n"),
    "trailer with a length": chunked(TE + b": chunked", CHUNKED[:-2] + b"Content-Length: 500\r\n\r\n"),
    "chunked whole": chunked(TE + b": chunked"),
    # the head
    "Host twice": request(b"Host: evil", b"Content-Length: %d" % len(RAW), body=RAW + HIDDEN),
    "upgrade": request(b"Upgrade: websocket", b"Connection: upgrade", b"Content-Length: %d" % len(RAW), body=RAW + HIDDEN),
    "upgrade h2c": request(b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AA", body=HIDDEN),
    "connect": b"CONNECT gateway:80 HTTP/1.1\r\nHost: gateway:80\r\n" + KEY + b"\r\n" + HIDDEN,
    "HTTP/0.9": b"GET /v1/models\r\n" + HIDDEN,
    "HTTP/2.0": b"GET /v1/models HTTP/2.0\r\nHost: gateway\r\n" + KEY + b"\r\n" + HIDDEN,
    "expectation": request(b"Expect: 100-continue, CANARY", b"Content-Length: %d" % len(RAW), body=RAW + HIDDEN),
    "header without end": request(b"X: x", body=b"")[:-2] + HIDDEN,
}


async def test_no_payload_smuggles_a_request(tmp_path: Path) -> None:
    """Each is refused, or served as exactly the one request that it begins with; what hides behind it never goes on."""
    assert len(PAYLOADS) >= 40
    async with running_gateway(tmp_path) as harness:
        found = await asyncio.gather(*[converse(harness.port, payload) for payload in PAYLOADS.values()])
        await harness.at_rest()
        statuses = {name: [answer.status for answer in one.answers()] for name, one in zip(PAYLOADS, found, strict=True)}

        wrong = {
            name: got
            for name, got in statuses.items()
            if len(got) != 1 or not (got[0] == 200 or 400 <= got[0] < 500 or got[0] == 505)
        }
        assert not wrong
        assert {name for name, one in zip(PAYLOADS, found, strict=True) if not one.is_closed} == set()
        served = {name for name, got in statuses.items() if got == [200]}
        assert served <= {"chunked whole", "trailer with a key", "trailer with a length"}, served
        assert len(harness.ledger.records) == len(harness.events()) == len(served)
        assert all(record.endpoint == "openai_chat" for record in harness.ledger.records)
        assert not any(b"CANARY" in one.data for one in found)


async def test_no_payload_smuggles_a_request_in_small_pieces(tmp_path: Path) -> None:
    """The same, arriving as a slow network brings it."""

    def pieces(payload: bytes) -> list[bytes]:
        return [payload[start : start + 97] for start in range(0, len(payload), 97)]

    async with running_gateway(tmp_path) as harness:
        found = await asyncio.gather(*[converse(harness.port, *pieces(payload)) for payload in PAYLOADS.values()])
        await harness.at_rest()

        for name, one in zip(PAYLOADS, found, strict=True):
            statuses = [answer.status for answer in one.answers()] if one.data else []
            assert statuses in ([], [200]) or (len(statuses) == 1 and (400 <= statuses[0] < 500 or statuses[0] == 505)), (
                name,
                statuses,
            )
            assert one.is_closed, name
        assert all(record.endpoint == "openai_chat" for record in harness.ledger.records)
        assert len(harness.events()) == len(harness.ledger.records) <= 3


async def test_a_payload_harms_no_request_before_it(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        few = asyncio.Semaphore(10)  # a credential may have so many requests open

        async def after_a_good_one(payload: bytes) -> Conversation:
            async with few:
                return await converse(harness.port, chat(headers=BIG), payload, quiet_seconds=2.0)

        found = await asyncio.gather(*[after_a_good_one(payload) for payload in PAYLOADS.values()])
        for name, one in zip(PAYLOADS, found, strict=True):
            answers = one.answers()
            assert answers[0].status == 200, name
            assert len(answers) <= 2, name


async def test_requests_with_lengths_share_a_connection(tmp_path: Path) -> None:
    """The control: what is plain is served, one after the other."""
    async with running_gateway(tmp_path) as harness:
        found = await converse(harness.port, chat() + chat() + HIDDEN, quiet_seconds=1.0)

        assert [answer.status for answer in found.answers()] == [200, 200, 200]
        assert not found.is_closed
