"""Answers of upstreams that state their usage in their own way: what each costs, through the whole gateway."""

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from gateway_harness import running_gateway
from hostile_upstream import saying, scripted, whole
from raw_client import BIG, ask, chat

TEXT = "one two three four five six seven"  # 7 tokens
REQUEST = {"model": "gpt-4o-mini", "max_tokens": 500, "messages": [{"role": "user", "content": "word " * 95}]}
COUNTED = 103  # tokens of that prompt, as OpenAI counts them
EVENTS = b"text/event-stream"


def plain(usage: object) -> bytes:
    message = {"role": "assistant", "content": TEXT}
    return json.dumps({"model": "gpt-4o-mini", "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}).encode()


def streamed(usage: object) -> bytes:
    choice = {"index": 0, "delta": {"content": TEXT}, "finish_reason": "stop"}
    chunks = [{"model": "gpt-4o-mini", "choices": [choice]}, {"choices": [], "usage": usage}]
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks) + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("usage", "tokens", "nano_usd", "source", "flag"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}, (100, 7), 19_200, "upstream", None),
        # 368 * 0.15 + 10_536 * 0.075 + 19 * 0.6 micro-USD
        (
            {"prompt_tokens": 368, "completion_tokens": 19, "total_tokens": 10_923, "cache_read_input_tokens": 10_536},
            (10_904, 19),
            856_800,
            "upstream",
            "usage_inconsistent",
        ),
        ({"input_tokens": 100, "output_tokens": 7}, (100, 7), 19_200, "upstream", None),
        ({"total_tokens": 107}, (100, 7), 19_200, "counted", "usage_total_only"),
        # 103 * 0.15 + 7 * 0.6 micro-USD
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, (COUNTED, 7), 19_650, "assumed", "usage_impossible"),
        ({"prompt_tokens": -1, "completion_tokens": -1, "total_tokens": -1}, (COUNTED, 7), 19_650, "assumed", "usage_impossible"),
        ({"prompt_tokens": 0, "completion_tokens": 8, "total_tokens": 8}, (COUNTED, 8), 20_250, "counted", "usage_impossible"),
        ({"prompt_tokens": 100, "completion_tokens": 0, "total_tokens": 100}, (100, 7), 19_200, "assumed", "usage_impossible"),
    ],
)
async def test_usage_costs_what_it_means(
    tmp_path: Path, usage: Mapping[str, Any], tokens: tuple[int, int], nano_usd: int, source: str, flag: str | None
) -> None:
    for is_stream in (False, True):
        answer = whole(streamed(usage), content_type=EVENTS) if is_stream else whole(plain(usage))
        async with scripted(saying(answer)) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
            assert (await ask(harness.port, chat(REQUEST, headers=BIG, stream=is_stream))).status == 200
            (event,) = harness.events()
        assert (event["prompt_tokens"], event["completion_tokens"]) == tokens
        assert (event["cost_nano_usd"], event["usage_source"]) == (nano_usd, source)
        assert flag is None or flag in event["flags"]


@pytest.mark.parametrize("label", [b"application/json", b"text/plain", b"application/octet-stream", b"text/event-stream"])
async def test_an_answer_is_read_by_its_first_bytes_and_relayed_as_it_is(tmp_path: Path, label: bytes) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    shown = streamed(usage).replace(b'data: {"choices": [], "usage": ' + json.dumps(usage).encode() + b"}\n\n", b"")
    for body, relayed, is_stream in (
        (streamed(usage), shown, True),
        (b"\xef\xbb\xbf" + streamed(usage), b"\xef\xbb\xbf" + shown, True),
        (streamed(usage), streamed(usage), False),
        (plain(usage), plain(usage), True),
        (plain(usage) + b"\0", plain(usage) + b"\0", False),
    ):
        answer = whole(body, content_type=label)
        async with scripted(saying(answer)) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
            assert (await ask(harness.port, chat(REQUEST, headers=BIG, stream=is_stream))).body == relayed
            (event,) = harness.events()
        assert (event["cost_nano_usd"], event["usage_source"], event["outcome"]) == (19_200, "upstream", "success")


@pytest.mark.parametrize("coding", [b"gzip", b"deflate, gzip", b"none", b"", b"utf-8", b"br"])
async def test_a_coded_answer_costs_what_it_says(tmp_path: Path, coding: bytes) -> None:
    """`br` over a plain body: the label is wrong, and nothing is decoded."""
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    for body, content_type, is_stream in ((plain(usage), b"application/json", False), (streamed(usage), EVENTS, True)):
        packed = gzip.compress(zlib.compress(body) if b"deflate" in coding else body) if b"gzip" in coding else body
        answer = whole(packed, b"Content-Encoding: " + coding, content_type=content_type)
        async with scripted(saying(answer)) as upstream, running_gateway(tmp_path, upstream_url=upstream.url) as harness:
            relayed = (await ask(harness.port, chat(REQUEST, headers=BIG, stream=is_stream))).body
            (event,) = harness.events()
        assert is_stream or relayed == packed
        assert (event["cost_nano_usd"], event["usage_source"], event["outcome"]) == (19_200, "upstream", "success")
