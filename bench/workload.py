"""What is asked: chat requests that all differ, as real ones do, so that no cache of counted texts makes a proxy look better."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

WORDS = """
harbour morning letter engine garden invoice meeting window number report weather kitchen travel budget question answer
system planning quarter customer delivery schedule project river mountain library station festival concert recipe doctor
please summarise explain compare translate describe the a of and between before after because however during without
"""
SYSTEM = "You are a helpful assistant. Answer in one short paragraph."
MODEL = "gpt-4o-mini"
CHAT_PATH = "/v1/chat/completions"
INPUT_NANO_USD = 150  # what a token costs, in every gateway's prices
OUTPUT_NANO_USD = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to send requests.

    keys     API keys, used in turn
    headers  further lines of the head
    dress    the body as this proxy wants it, from the usual one and the caller's key
    """

    port: int
    path: str = CHAT_PATH
    keys: tuple[str, ...] = ("sk-bench",)
    headers: tuple[str, ...] = ()
    dress: Callable[[bytes, str], bytes] = lambda body, _key: body


def chat_bodies(count: int, *, seed: int) -> list[bytes]:
    """Small chat requests of about 490 bytes; no two have the same 40 words."""
    source, words = random.Random(seed), WORDS.split()
    bodies = []
    for _ in range(count):
        text = " ".join(source.choice(words) for _ in range(40))
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
        bodies.append(json.dumps({"model": MODEL, "messages": messages, "max_tokens": 256}).encode())
    return bodies


def stream_body(*, chunks: int, every_ms: int, seed: int) -> bytes:
    """A streamed chat request. Its prompt, which every proxy relays, tells the upstream how many events to send, how far apart."""
    source, words = random.Random(seed), WORDS.split()
    text = " ".join(source.choice(words) for _ in range(40))
    body = {
        "model": MODEL,
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"{text} bench-{chunks}-{every_ms}"}],
        "max_tokens": max(chunks, 1),
        "stream": True,
    }
    return json.dumps(body).encode()


def http_request(target: Target, body: bytes, *, turn: int) -> bytes:
    """The bytes of one request, with the headers that an SDK sends."""
    key = target.keys[turn % len(target.keys)]
    body = target.dress(body, key)
    further = "".join(f"{line}\r\n" for line in target.headers)
    return (
        f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: OpenAI/Python 2.8.0\r\n"
        f"X-Stainless-Lang: python\r\nX-Stainless-Retry-Count: 0\r\n{further}Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
