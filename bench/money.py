"""Money: a budget for fifty requests under 600 callers at once, and callers that hang up.

Each request can cost exactly what it will: its prompt has the 64 tokens that the upstream bills, and it asks for at most the 18
that it is answered with. So a gateway that holds what a request can cost admits fifty, and what it refuses or lets through besides
is its own doing. Answers take a third of a second, so that all are open at once. What the upstream has generated is the measure.
"""

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from bench.upstream import ANSWER_TOKENS, PROMPT_TOKENS, Generated
from bench.workload import INPUT_NANO_USD, MODEL, OUTPUT_NANO_USD, SYSTEM, WORDS, Target, http_request

BUDGET_REQUESTS: Final = 50
REQUEST_NANO_USD: Final = PROMPT_TOKENS * INPUT_NANO_USD + ANSWER_TOKENS * OUTPUT_NANO_USD
BUDGET_NANO_USD: Final = BUDGET_REQUESTS * REQUEST_NANO_USD + REQUEST_NANO_USD // 2  # no request more, whatever is rounded
CALLERS: Final = 600
LEAVERS: Final = 50
STREAM_CHUNKS: Final = 100
EVERY_MS: Final = 20
PURSE: Final = "purse"  # accounts with that budget; each round has one of its own
LEAVER: Final = "leaver"  # accounts with a budget that they do not reach
ROUNDS_MAX: Final = 5
PATIENCE_SECONDS: Final = 60.0
_OK: Final = b"HTTP/1.1 200"
REST_SECONDS: Final = 4.0  # nothing changes for so long: what is under way has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """How a gateway that has budgets is asked about an account, which is `<kind>-<round>`.

    target   where its callers send their requests
    charged  nano-USD that count against its budget now, holds of open requests included; may block
    """

    target: Callable[[str], Target]
    charged: Callable[[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """What became of 600 requests on a budget of 50. failed: neither answered nor refused."""

    served: int
    refused: int
    failed: int
    billed_nano_usd: int
    charged_nano_usd: int

    @property
    def over(self) -> int:
        """Requests' worth, or a part, that the upstream bills above the budget."""
        return max(0, -(-(self.billed_nano_usd - BUDGET_NANO_USD) // REQUEST_NANO_USD))


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """What became of streams whose callers left at their first event. Whole streams are LEAVERS times STREAM_CHUNKS tokens."""

    seen: int
    billed_nano_usd: int
    charged_nano_usd: int
    output_tokens: int


def accounts() -> tuple[str, ...]:
    return tuple(f"{kind}-{number}" for kind in (PURSE, LEAVER) for number in range(ROUNDS_MAX))


def request_body() -> bytes:
    """Of 64 tokens; its answer comes when a stream of its tokens would end."""
    return _body(tokens_max=ANSWER_TOKENS, wish=f"bench-{ANSWER_TOKENS}-{EVERY_MS}-billed")


def leaving_body() -> bytes:
    """The same as a stream that may have four times what it will, so that a charge of all that was held does not look right."""
    return _body(tokens_max=4 * STREAM_CHUNKS, wish=f"bench-{STREAM_CHUNKS}-{EVERY_MS}-billed", stream=True)


def _body(*, tokens_max: int, wish: str, **further: bool) -> bytes:
    words = " ".join([*WORDS.split()[:32], "now"])
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"{words} {wish}"}]
    return json.dumps({"model": MODEL, "messages": messages, "max_tokens": tokens_max, **further}).encode()


def billed_nano_usd(before: Generated, now: Generated) -> int:
    """What a provider would bill for what was generated between."""
    answers = now.answers - before.answers
    return answers * PROMPT_TOKENS * INPUT_NANO_USD + (now.output_tokens - before.output_tokens) * OUTPUT_NANO_USD


async def burst(budgets: Budgets, upstream: Target, number: int) -> Burst:
    """All callers connect, and then all ask at once."""
    account = f"{PURSE}-{number}"
    target, before = budgets.target(account), await generated(upstream)
    ready, go = asyncio.Semaphore(0), asyncio.Event()
    callers = [asyncio.create_task(_status(target, ready, go)) for _ in range(CALLERS)]
    for _ in callers:
        await ready.acquire()
    go.set()
    statuses = await asyncio.gather(*callers)
    now, charged = await _at_rest(budgets, account, upstream)
    served, refused = statuses.count(200), sum(400 <= status < 500 for status in statuses)
    return Burst(
        served=served,
        refused=refused,
        failed=CALLERS - served - refused,
        billed_nano_usd=billed_nano_usd(before, now),
        charged_nano_usd=charged,
    )


async def leave(budgets: Budgets, upstream: Target, number: int) -> Leaving:
    account = f"{LEAVER}-{number}"
    target, before = budgets.target(account), await generated(upstream)
    seen = await asyncio.gather(*(_left_at_first_event(target) for _ in range(LEAVERS)))
    now, charged = await _at_rest(budgets, account, upstream)
    return Leaving(
        seen=sum(seen),
        billed_nano_usd=billed_nano_usd(before, now),
        charged_nano_usd=charged,
        output_tokens=now.output_tokens - before.output_tokens,
    )


async def generated(upstream: Target) -> Generated:
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
        return Generated(**json.loads(await reader.readexactly(length)))
    finally:
        writer.close()


async def _status(target: Target, ready: asyncio.Semaphore, go: asyncio.Event) -> int:
    """Of one request; 0 if the connection failed or nothing came in time."""
    request = http_request(replace(target, headers=(*target.headers, "Connection: close")), request_body(), turn=0)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    except OSError:
        ready.release()
        return 0
    ready.release()
    await go.wait()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            writer.write(request)
            answer = await reader.read()
        return int(answer.split(b" ", 2)[1]) if answer else 0
    except (OSError, TimeoutError):
        return 0
    finally:
        writer.close()


async def _left_at_first_event(target: Target) -> bool:
    """Whether there was one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(http_request(target, leaving_body(), turn=0))
    read = b""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while b" word" not in read and (not read or read.startswith(_OK)) and (data := await reader.read(65536)):
                read += data
    except (OSError, TimeoutError):
        return False
    finally:
        writer.transport.abort()
    return b" word" in read


async def _at_rest(budgets: Budgets, account: str, upstream: Target) -> tuple[Generated, int]:
    """Once neither has changed for a while."""
    loop = asyncio.get_running_loop()
    found, since, until = None, -math.inf, loop.time() + PATIENCE_SECONDS
    while loop.time() < until:
        now = await generated(upstream), await asyncio.to_thread(budgets.charged, account)
        if now != found:
            found, since = now, loop.time()
        elif loop.time() - since >= REST_SECONDS:
            break
        await asyncio.sleep(0.25)
    return found
