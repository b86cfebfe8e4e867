"""Bodies that are broken, ambiguous or too large are refused in the dialect's own shape, reach no upstream, and hold nothing."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from at_rest import come_to_rest
from gateway_harness import BIG_KEY, LIMITS, Harness, running_gateway
from raw_client import BIG, CHAT, Answer, ask, chat, connected

from tallygate.telemetry.metrics import REFUSED

PARTS = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
VALID: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": "gpt-4o-mini", "input": "Hello", "max_output_tokens": 20},
    "/v1/completions": {"model": "gpt-4o-mini", "prompt": "Hello", "max_tokens": 20},
    "/v1/embeddings": {"model": "text-embedding-3-small", "input": "Hello"},
    "/v1/messages": {"model": "claude-sonnet-4-5", "max_tokens": 20, "messages": [{"role": "user", "content": "Hello"}]},
    "/v1/messages/count_tokens": {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "Hello"}]},
    "/v1beta/models/gemini-2.5-flash:generateContent": PARTS,
    "/v1beta/models/gemini-2.5-flash:streamGenerateContent": PARTS,
    "/v1beta/models/gemini-2.5-flash:countTokens": PARTS,
    "/v1beta/models/gemini-embedding-001:embedContent": {"content": {"parts": [{"text": "Hello"}]}},
    "/ai/v2/chat/completions": {"auto_routing": True, "messages": [{"role": "user", "content": "Hello"}]},
    "/ai/v1/chat/completions": {"model": "us.anthropic.claude-sonnet-4-5", "messages": [{"role": "user", "content": "Hello"}]},
    "/ai/v2/chat/completions/grounded": {"auto_routing": True, "messages": [{"role": "user", "content": "Hello"}]},
    "/ai/v1/responses": {"auto_routing": True, "input": "Hello"},
    "/ai/v1/grounded/responses": {"auto_routing": True, "input": "Hello"},
}


def nested(depth: int) -> bytes:
    """An array in so many objects and arrays, the body's own object being the first."""
    return b'{"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


BROKEN = {
    "empty": b"",
    "blank": b"  \r\n\t",
    "not JSON": b"{nope",
    "cut": b'{"model":"gpt-4o-mini"',
    "text after": b'{"model":"gpt-4o-mini"}x',
    "two objects": b'{"model":"gpt-4o-mini"}{"model":"gpt-4o-mini"}',
    "comma too many": b'{"model":"gpt-4o-mini",}',
    "single quotes": b"{'model':'gpt-4o-mini'}",
    "comment": b'{"model":"gpt-4o-mini"/*x*/}',
    "NaN": b'{"model":"gpt-4o-mini","x":NaN}',
    "Infinity": b'{"model":"gpt-4o-mini","x":-Infinity}',
    "leading zero": b'{"model":"gpt-4o-mini","x":01}',
    "plus": b'{"model":"gpt-4o-mini","x":+1}',
    "hexadecimal": b'{"model":"gpt-4o-mini","x":0x1}',
    "control character": b'{"model":"gpt-4o-mini","x":"a\x01b"}',
    "bad escape": b'{"model":"gpt-4o-mini","x":"\\x41"}',
    "cut escape": b'{"model":"gpt-4o-mini","x":"\\u00"}',
    "UTF-8 mark": b"\xef\xbb\xbf" + b'{"model":"gpt-4o-mini"}',
    "UTF-16": '{"model":"gpt-4o-mini"}'.encode("utf-16"),
    "invalid UTF-8": b'{"model":"gpt-4o-mini","x":"\xff"}',
    "overlong UTF-8": b'{"model":"gpt-4o-mini","x":"\xc0\xaf"}',
    "surrogate in UTF-8": b'{"model":"gpt-4o-mini","x":"\xed\xa0\x80"}',
    "lone surrogate": b'{"model":"\\ud800"}',
    "array": b"[]",
    "string": b'"model"',
    "number": b"1",
    "null": b"null",
    "model twice": b'{"model":"gpt-4o-mini","model":"gpt-4o"}',
    "model twice, one escaped": b'{"model":"gpt-4o-mini","mod\\u0065l":"gpt-4o"}',
    "key twice deep down": b'{"model":"gpt-4o-mini","x":[{"a":1,"a":2}]}',
    "65 levels": nested(65),
    "100,000 levels": nested(100_000),
    "100,000 objects": b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
    "a million quotes": b'{"x":[' + b'"",' * 500_001 + b'""]}',
}
WRONG: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        *({"model": value} for value in (5, [], {}, True, 1.5)),
        *({"max_tokens": value} for value in ("5", -1, 1.5, 2**70, [], True)),
        *({"max_completion_tokens": value} for value in ("5", -1, 2**70)),
        *({"n": value} for value in ("2", -1, 0.5, 2**70)),
        *({"stream": value} for value in ("yes", 1, [], {})),
        *({"stream": True, "stream_options": value} for value in ("x", 5, [], {"include_usage": "x"}, {"include_usage": 1})),
        *({"messages": value} for value in ("x", 5, {})),
    ],
    "/v1/responses": [{"model": 5}, {"max_output_tokens": "5"}, {"max_output_tokens": -1}, {"stream": "x"}],
    "/v1/completions": [{"model": 5}, {"max_tokens": "5"}, {"n": "x"}, {"best_of": "x"}, {"stream": 1}],
    "/v1/embeddings": [{"model": 5}, {"model": []}],
    "/v1/messages": [{"model": 5}, {"max_tokens": "5"}, {"max_tokens": -1}, {"stream": "x"}],
    "/v1beta/models/gemini-2.5-flash:generateContent": [
        {"generationConfig": "x"},
        {"generationConfig": {"maxOutputTokens": "x"}},
        {"generationConfig": {"maxOutputTokens": -1}},
        {"generationConfig": {"candidateCount": "x"}},
    ],
    "/ai/v2/chat/completions": [{"model": 5}, {"max_tokens": "5"}, {"stream": "x"}],
}


def assert_refused(answer: Answer, path: str, status: int = 400) -> None:
    """In the shape that the path's SDKs read."""
    assert answer.status == status, (path, answer.status, answer.body[:300])
    assert answer.is_whole
    body = json.loads(answer.body)
    error = body["error"]
    assert error["message"]
    if path.startswith("/v1/messages"):
        assert body["type"] == "error"
        assert error["type"] == {400: "invalid_request_error", 413: "request_too_large"}.get(status, error["type"])
    elif ":" in path:
        assert error["code"] == status
        assert error["status"].isupper()
    else:
        assert error["type"] == ("insufficient_quota" if status == 429 else "invalid_request_error")
        assert (
            error["code"]
            == {429: "spend_limit_exceeded", 400: "invalid_request", 413: "request_too_large", 415: "unsupported_content_encoding"}[
                status
            ]
        )


async def several(harness: Harness, requests: list[bytes]) -> list[Answer]:
    few = asyncio.Semaphore(20)

    async def one(request: bytes) -> Answer:
        async with few:
            return await ask(harness.port, request)

    return await asyncio.gather(*[one(request) for request in requests])


async def test_what_is_valid_is_served(tmp_path: Path) -> None:
    """The control for every path below."""
    async with running_gateway(tmp_path) as harness:
        requests = [chat(body, headers=BIG, path=path) for path, body in VALID.items()]
        answers = await several(harness, requests)
        assert {path: answer.status for path, answer in zip(VALID, answers, strict=True) if answer.status != 200} == {}
        await come_to_rest(harness)


@pytest.mark.parametrize("path", VALID)
async def test_a_broken_body_is_refused(tmp_path: Path, path: str) -> None:
    async with running_gateway(tmp_path) as harness:
        answers = await several(harness, [chat(body, headers=BIG, path=path) for body in BROKEN.values()])
        statuses = {name: answer.status for name, answer in zip(BROKEN, answers, strict=True)}
        assert {name: status for name, status in statuses.items() if status != 400} == {}
        for answer in answers:
            assert_refused(answer, path)
        assert not harness.ledger.records
        assert not harness.events()
        assert len(harness.metrics.counted[REFUSED]) == len(BROKEN)
        assert {refusal[3] for refusal in harness.metrics.counted[REFUSED]} == {"invalid_request"}
        await come_to_rest(harness)


@pytest.mark.parametrize("path", WRONG)
async def test_a_field_that_is_read_and_has_the_wrong_type_is_refused(tmp_path: Path, path: str) -> None:
    async with running_gateway(tmp_path) as harness:
        bodies = [VALID[path] | members for members in WRONG[path]]
        answers = await several(harness, [chat(body, headers=BIG, path=path) for body in bodies])
        passed = {json.dumps(members) for members, answer in zip(WRONG[path], answers, strict=True) if answer.status == 200}
        assert not passed
        for answer in answers:
            assert_refused(answer, path, answer.status if answer.status == 429 else 400)  # 429: more than could ever be paid
        await come_to_rest(harness)
        assert not harness.ledger.totals.accepted  # what passes is Gemini's -1, for Gemini to refuse
        assert not any(event["cost_nano_usd"] for event in harness.events())


async def test_depth_is_bounded_to_the_level(tmp_path: Path) -> None:
    raw = json.dumps(CHAT).encode()
    async with running_gateway(tmp_path) as harness:
        for depth, status in ((64, 200), (65, 400)):
            body = raw[:-1] + b',"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
            assert (await ask(harness.port, chat(body, headers=BIG))).status == status


@pytest.mark.parametrize("path", VALID)
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_the_size_is_bounded_to_the_byte(tmp_path: Path, path: str, is_chunked: bool) -> None:
    limits = replace(LIMITS, body_bytes_max=2_000)
    raw = json.dumps(VALID[path]).encode()
    async with running_gateway(tmp_path, limits=limits) as harness:
        for size, status in ((2_000, 200), (2_001, 413)):
            request = sized(raw.ljust(size), path, is_chunked=is_chunked)
            answer = await ask(harness.port, request)
            assert answer.status == status
            if status != 200:
                assert_refused(answer, path, status)
        assert len(harness.ledger.records) == 1
        await come_to_rest(harness)


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_thirty_two_megabytes_are_the_default_bound(tmp_path: Path, is_chunked: bool) -> None:
    raw = json.dumps(CHAT).encode()
    async with running_gateway(tmp_path) as harness:
        for size, status in ((32_000_000, 200), (32_000_001, 413)):
            request = sized(raw.ljust(size), "/v1/chat/completions", is_chunked=is_chunked)
            async with connected(harness.port) as client:
                try:
                    await client.send(request)
                except ConnectionError:
                    assert status == 413
                assert (await client.read_until(b"\r\n", 30)).split()[1] == b"%d" % status
        await come_to_rest(harness)


def sized(raw: bytes, path: str, *, is_chunked: bool) -> bytes:
    if not is_chunked:
        return chat(raw, headers=BIG, path=path)
    head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n".encode() + BIG + b"\r\n"
    pieces = [raw[start : start + 50_000] for start in range(0, len(raw), 50_000)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def test_a_length_past_the_bound_is_refused_before_a_byte_of_it_is_sent(tmp_path: Path) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Length: 32000001\r\n" + BIG + b"\r\n"
    async with running_gateway(tmp_path) as harness, connected(harness.port) as client:
        await client.send(head)
        assert (await client.read_until(b"\r\n")).split()[1] == b"413"


@pytest.mark.parametrize("coding", ["br", "compress", "identity, br", "gzip, gzip, gzip", "gzip;q=1", "CANARY"])
async def test_a_body_in_a_coding_that_is_not_read_is_refused(tmp_path: Path, coding: str) -> None:
    header = f"Content-Encoding: {coding}\r\n".encode()
    async with running_gateway(tmp_path) as harness:
        answers = await several(harness, [chat(body, headers=BIG + header, path=path) for path, body in VALID.items()])
        for path, answer in zip(VALID, answers, strict=True):
            assert_refused(answer, path, 415)
            assert b"CANARY" not in answer.body
            assert answer.header("accept-encoding") == "gzip, deflate, zstd"
        assert not harness.ledger.records


async def test_a_client_request_id_of_any_bytes_is_harmless(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        kept = {b"a" * 5_000: "a" * 200, b'"},{"x': '"},{"x', b"caf\xc3\xa9": "caf\u00e9", b"a b": "a b"}
        control = (b"\xff\xfe", b"\xed\xa0\x80", b"a\tb", "a\u202eb".encode(), "a\u2028b".encode())
        secret = (BIG_KEY.encode(), b"of " + BIG_KEY.encode(), b"sk-ant-api03-abcdefghijkl", b"Bearer abcdefghijkl")
        sent = dict.fromkeys((*control, *secret)) | kept
        for value in sent:
            request = chat(headers=BIG + b"X-Request-Id: " + value + b"\r\n")
            assert (await ask(harness.port, request)).status == 200
        assert [event["client_request_id"] for event in harness.events()] == list(sent.values())


async def test_numbers_without_bound_hold_no_more_than_can_be_counted(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as harness:
        for raw in (
            b'"max_tokens":99999999999999',
            b'"max_tokens":9007199254740993',
            b'"n":9007199254740993',
            b'"max_tokens":1e400',
            b'"n":128',
        ):
            body = json.dumps({key: value for key, value in CHAT.items() if key != "max_tokens"}).encode()[:-1] + b"," + raw + b"}"
            answer = await ask(harness.port, chat(body))
            assert answer.status in {200, 400, 429}, (raw, answer.status, answer.body)
        await come_to_rest(harness)
