"""Callers choose paths, methods, models, keys, Client IDs and headers as they like: /metrics shows no series more for it."""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from stack import AMPLE_PLANS, IS_FULL, KEY, Stack, acme, running_stack

from tallygate.telemetry.count_file import CountReader

HOSTILE_REQUESTS = 100_000 if IS_FULL else 5_000
CONNECTIONS = 8
PIPELINED = 50
PATIENCE_SECONDS = 120
WILD_KEY = "tg_wild-prod_wildsecret"
METHODS = ("GET", "PUT", "PATCH", "OPTIONS", "DELETE", "TRACE")
UNKNOWN_METHODS = ("PROPFIND", "MKCOL", "PURGE", "M-SEARCH", "SUBSCRIBE", "BREW")  # an answer to these is its connection's last
METERED = ("/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/completions")
WORD_CHARS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
HEADER_CHARS = WORD_CHARS + "\"'{}=,;:/\\ %"
HYPHENS = str.maketrans("_.", "--")  # an underscore in a header's name ends the connection
STATUS_LINE = b"HTTP/1.1 "
_log = logging.getLogger(__name__)
Series = tuple[str, tuple[tuple[str, str], ...]]


def organizations() -> dict[str, Any]:
    """Acme, and wild, whose plan lets models run that have no price."""
    wild = {"id": "wild-prod", "key_sha256": hashlib.sha256(b"wildsecret").hexdigest()}
    return {"organizations": [*acme("25")["organizations"], {"id": "wild", "name": "Wild", "plan": "wild", "credentials": [wild]}]}


def plans() -> dict[str, Any]:
    return {"plans": AMPLE_PLANS["plans"] | {"wild": {"unknown_model": "unpriced"}}}


class Attacker:
    """Endless requests, every kind of them in turn, no two alike."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._kinds: tuple[Callable[[], bytes], ...] = (
            lambda: self._request("POST", f"/{self._word()}/{self._word()}", f"Bearer {KEY}"),
            lambda: self._request("GET", f"/v1/{self._word()}?{self._word()}={self._word()}", self._word()),
            lambda: self._request(self._random.choice(METHODS), self._metered(), f"Bearer {KEY}"),
            lambda: self._request("POST", self._metered(), f"Bearer tg_{self._word()}_{self._word()}"),
            lambda: self._request("POST", self._metered(), f"Bearer tg_acme-prod_{self._word()}"),
            lambda: self._request("POST", self._metered(), "", f"x-api-key: {self._word()}", f"x-goog-api-key: {self._word()}"),
            lambda: self._request("POST", f"/v1beta/models/{self._word()}:generateContent", f"Bearer {KEY}", body=b"{}"),
            lambda: self._request("POST", "/v1/chat/completions", f"Bearer {KEY}", body=self._chat(self._word())),
            lambda: self._request("POST", "/v1/chat/completions", f"Bearer {KEY}", body=self._word().encode()),
            lambda: self._request("GET", f"/v1/files/{self._word()}", f"Bearer {KEY}"),
            lambda: self._request("POST", "/v1/chat/completions", f"Bearer {WILD_KEY}", body=self._chat(self._word())),
        )

    def requests(self, count: int) -> Iterator[bytes]:
        for number in range(count):
            yield self._kinds[number % len(self._kinds)]()

    def garbage(self) -> bytes:
        """What is no HTTP, or has a method that nobody knows."""
        if self._random.random() < 0.5:
            return self._request(self._random.choice(UNKNOWN_METHODS), self._metered(), f"Bearer {KEY}")
        return f"{self._word()} /{self._word()} {self._word()}\r\n\r\n".encode()

    def _request(self, method: str, path: str, authorization: str, *headers: str, body: bytes = b"{}") -> bytes:
        lines = [
            f"{method} {path} HTTP/1.1",
            f"host: {self._word().translate(HYPHENS)}",
            f"x-request-id: {self._text()}",
            f"user-agent: {self._text()}",
            f"x-{self._word().translate(HYPHENS)}: {self._text()}",
            *([f"authorization: {authorization}"] if authorization else []),
            *headers,
            f"content-length: {len(body)}",
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def _chat(self, model: str) -> bytes:
        return json.dumps({"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}).encode()

    def _metered(self) -> str:
        return self._random.choice(METERED)

    def _word(self) -> str:
        return "x" + "".join(self._random.choices(WORD_CHARS, k=self._random.randint(1, 30)))

    def _text(self) -> str:
        return "x" + "".join(self._random.choices(HEADER_CHARS, k=self._random.randint(1, 60)))


async def attack(port: int, attacker: Attacker, count: int) -> int:
    """Send requests over a few connections at once, pipelined, with garbage at the end of each; returns how many were answered."""
    answered, requests = 0, attacker.requests(count)

    async def one_after_the_other() -> None:
        nonlocal answered
        while batch := [request for request, _ in zip(requests, range(PIPELINED), strict=False)]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"".join(batch))
            answers = b""
            async with asyncio.timeout(PATIENCE_SECONDS):
                while answers.count(STATUS_LINE) < len(batch) and (data := await reader.read(65_536)):
                    answers += data
                writer.write(attacker.garbage())
                await reader.read(-1)
            answered += answers.count(STATUS_LINE)
            writer.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(one_after_the_other())
    return answered


def samples(text: str) -> dict[Series, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scrape(stack: Stack) -> dict[Series, float]:
    status, text = await asyncio.to_thread(stack.get, "/metrics")
    assert status == 200
    return samples(text)


def total(found: dict[Series, float], name: str, **labels: str) -> float:
    return sum(value for (metric, of), value in found.items() if metric == name and labels.items() <= dict(of).items())


async def settled(stack: Stack) -> dict[Series, float]:
    """The metrics, once the ledger has all that the workers have counted and has audited itself."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = await scrape(stack)
        refused_here = {org: total(found, "tallygate_refused_total", org=org) for org in ("acme", "wild")}
        refused_there = {org: total(found, "tallygate_requests_total", org=org, outcome="refused") for org in ("acme", "wild")}
        audited = ("tallygate_ledger_drift_nano_usd", ()) in found
        if audited and refused_here == refused_there and not total(found, "tallygate_ledger_lag_events"):
            return found
        assert time.monotonic() < deadline, (refused_here, refused_there, audited)
        await asyncio.sleep(0.2)


def count_files(data_dir: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted((data_dir / "metrics").iterdir())}


async def warm_up(stack: Stack, port: int) -> None:
    """Attack until each of the two workers has met every kind of request; who gets a connection is up to the kernel."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    attacker, missed = Attacker(1), {"everything"}
    while missed:
        assert time.monotonic() < deadline, missed
        await attack(port, attacker, 20 * PIPELINED)
        first, second = (CountReader(stack.data_dir / "metrics").counts_of(f"worker-{slot}") for slot in (0, 1))
        missed = {str(series) for series in first.keys() ^ second.keys()}


@pytest.mark.timeout(1800)
async def test_hostile_requests_make_no_series(tmp_path: Path) -> None:
    config = {"organizations": organizations(), "plans": plans()}
    async with running_stack(tmp_path, config=config, workers="2") as stack:
        port = int(stack.url.rpartition(":")[2])
        await warm_up(stack, port)
        before, files_before = await settled(stack), count_files(stack.data_dir)

        answered = await attack(port, Attacker(2), HOSTILE_REQUESTS)

        started = time.perf_counter()
        await scrape(stack)
        took_ms = (time.perf_counter() - started) * 1000
        after, files_after = await settled(stack), count_files(stack.data_dir)

    _log.info("%d series read and parsed in %.0f ms after %d requests", len(after), took_ms, answered)
    assert answered > HOSTILE_REQUESTS * 0.9, "the gateway read what it was sent"
    assert after.keys() - before.keys() == set()
    assert before.keys() - after.keys() == set()
    assert files_after == files_before
    counted = total(after, "tallygate_refused_total") - total(before, "tallygate_refused_total")
    assert counted > HOSTILE_REQUESTS * 0.5, "they were counted, under the labels that there are"
