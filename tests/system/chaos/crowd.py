"""Callers who keep what they saw: of organizations with ample limits, and of others that are spent to their limits in turn."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from aiohttp import ClientError, ClientSession
from stack import AMPLE_PLANS
from system_traffic import callers, chat

from chaos.checker import Answer
from tallygate.domain.money import nano_usd_from_usd

ROOMY = ("acme", "globex")
UNLIMITED = "big"
ROOMY_USD, CAP_USD = "100", "0.0006"
ROOMY_CALLERS, CAP_CALLERS = 10, 4
LEAVING = 0.08  # of the requests, whose client goes after a few lines
PAUSE_SECONDS = 0.15  # at most, between an answer and the next request of a caller
RETRY_SECONDS = 0.3  # of a caller that was not served: refusals must not be what the machine is busy with
REFUSALS_MAX = 12  # in a row by its limit: the next organization is spent
BODIES: tuple[dict[str, Any], ...] = (
    chat("tokens=20 tps=40"),
    chat("tokens=12"),
    chat("tokens=9", stream=False),
    chat("tokens=30 reasoning=5 tps=60", model="gpt-4o"),
    chat("tokens=15 tps=10"),
    chat("fault=status:500", stream=False),
    chat("tokens=8 tps=20") | {"stream_options": {"include_usage": True}},
)
CAPPED = chat("tokens=8 tps=20", tokens_max=8)


def capped(kills: int) -> list[str]:
    """Organizations with a limit that is reached soon: as many as so many kills leave time for."""
    return [f"cap-{number}" for number in range(8 + kills // 2)]


def limits(caps: Sequence[str]) -> dict[str, int]:
    """In nano-USD, by organization."""
    usd = dict.fromkeys(ROOMY, ROOMY_USD) | dict.fromkeys(caps, CAP_USD)
    return {org: nano_usd_from_usd(amount) for org, amount in usd.items()}


def config(caps: Sequence[str]) -> dict[str, Any]:
    found = []
    for org in (*ROOMY, UNLIMITED, *caps):
        digest = hashlib.sha256(f"{org}secret".encode()).hexdigest()
        entry: dict[str, Any] = {"id": org, "name": org.title(), "credentials": [{"id": f"{org}-prod", "key_sha256": digest}]}
        entry |= {"plan": "enterprise"} if org == UNLIMITED else {"plan": "pay_as_you_go"}
        entry |= {"spend_limit": {"usd": CAP_USD}} if org in caps else {}
        found.append(entry)
    return {"plans": AMPLE_PLANS, "organizations": {"organizations": found}}


class Crowd:
    """answers: all of them, in the order of their ends."""

    def __init__(self, urls: Sequence[str], caps: Sequence[str], seed: int) -> None:
        self._urls = urls
        self._caps = caps
        self._cap = 0
        self._refusals = 0
        self._random = Random(seed)
        self._is_over = asyncio.Event()
        self.answers: list[Answer] = []
        self.whole = 0

    def told(self) -> str:
        statuses = Counter(one.status for one in self.answers)
        return f"{len(self.answers)} answers {dict(sorted(statuses.items()))}, {self.whole} whole, {self._cap} limits reached"

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Requests without end until the block does."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(ROOMY_CALLERS):
                org = (*ROOMY, UNLIMITED)[number % 3]
                tasks.create_task(self._keep_asking(org, Random(self._random.random())))
            for _ in range(CAP_CALLERS):
                tasks.create_task(self._keep_spending(Random(self._random.random())))
            try:
                yield
            finally:
                self._is_over.set()

    async def _keep_asking(self, org: str, random: Random) -> None:
        async with callers() as session:
            while not self._is_over.is_set():
                leaves = random.randint(1, 6) if random.random() < LEAVING else 0
                answer = await self._ask(session, org, random.choice(BODIES), random, leaves)
                await asyncio.sleep(random.random() * PAUSE_SECONDS if answer.status == 200 else RETRY_SECONDS)

    async def _keep_spending(self, random: Random) -> None:
        async with callers() as session:
            while not self._is_over.is_set() and self._cap < len(self._caps):
                cap = self._cap
                answer = await self._ask(session, self._caps[cap], CAPPED, random, 0)
                self._refusals = self._refusals + 1 if answer.status == 429 else 0
                if self._refusals >= REFUSALS_MAX and cap == self._cap:
                    self._cap, self._refusals = cap + 1, 0
                if answer.status != 200:
                    await asyncio.sleep(RETRY_SECONDS)

    async def _ask(self, session: ClientSession, org: str, body: dict[str, Any], random: Random, leaves: int) -> Answer:
        status, request_id, headers, lines, is_whole = 0, "", {}, [], False
        asked = {"Authorization": f"Bearer tg_{org}-prod_{org}secret", "tallygate-stream-cost": "comment"}
        url = f"{random.choice(self._urls)}/v1/chat/completions"
        try:
            async with session.post(url, json=body, headers=asked) as response:
                status, request_id, headers = response.status, response.headers.get("x-request-id", ""), response.headers
                async for line in response.content:
                    lines.append(line.decode())
                    if leaves and len(lines) >= leaves:
                        break
                else:
                    is_whole = not body["stream"] or any(line.startswith("data: [DONE]") for line in lines)
        except ClientError:
            pass
        answer = Answer(
            request_id=request_id,
            org=org,
            status=status,
            is_whole=is_whole,
            code=stated_code(lines) if status >= 400 else "",
            tokens=stated_tokens(lines),
            nano_usd=stated_nano_usd(headers, lines),
        )
        self.answers.append(answer)
        self.whole += status == 200 and is_whole
        return answer


def stated_code(lines: Sequence[str]) -> str:
    """Of an error; empty if it came in part, or is none of the gateway's."""
    try:
        return str(json.loads("".join(lines))["error"]["code"])
    except (ValueError, KeyError):
        return ""


def stated_tokens(lines: Sequence[str]) -> tuple[int, int] | None:
    """Of the prompt and generated, as the answer's usage has them; None without one."""
    for line in reversed(lines):
        text = line.removeprefix("data: ")
        if '"usage"' in text and text.startswith("{") and text.rstrip().endswith("}"):
            usage = json.loads(text).get("usage")
            if usage:
                return usage["prompt_tokens"], usage["completion_tokens"]
    return None


def stated_nano_usd(headers: Any, lines: Sequence[str]) -> int | None:
    """The cost, as a header or a comment of the stream says it; None if neither does."""
    stated = [line.partition("=")[2].strip() for line in lines if line.startswith(": tallygate-cost-usd=")]
    stated += [headers["tallygate-cost-usd"]] if "tallygate-cost-usd" in headers else []
    return nano_usd_from_usd(stated[0]) if stated else None
