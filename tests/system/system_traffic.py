"""Organizations, requests and the sums over what became of them, for tests of the whole product."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from prometheus_client.parser import text_string_to_metric_families
from stack import Stack, eventually

from tallygate.simulator.ledger import Served

# nano-USD a token: prompt, completion. As in the shipped prices.
PRICES = {
    "gpt-4o-mini": (150, 600),
    "gpt-4o": (2_500, 10_000),
    "text-embedding-3-small": (20, 0),
    "claude-sonnet-4-5": (3_000, 15_000),
}
KEYS = {"acme-prod": "acmesecret", "acme-test": "acmetest", "globex-prod": "globexsecret", "big-prod": "bigsecret"}
ANSWER_SECONDS = 100  # which no answer takes
ORG_OF = {credential: credential.partition("-")[0] for credential in KEYS}


def api_key(credential: str) -> str:
    return f"tg_{credential}_{KEYS[credential]}"


def three_organizations(acme_usd: str = "100") -> dict[str, Any]:
    """Acme with two credentials and globex pay as they go; big is an enterprise, which no spend limit bounds."""
    found = []
    for org in ("acme", "globex", "big"):
        credentials = [
            {"id": name, "key_sha256": hashlib.sha256(secret.encode()).hexdigest()}
            for name, secret in KEYS.items()
            if ORG_OF[name] == org
        ]
        entry: dict[str, Any] = {"id": org, "name": org.title(), "plan": "pay_as_you_go", "credentials": credentials}
        if org == "big":
            entry["plan"] = "enterprise"
        if org == "acme":
            entry["spend_limit"] = {"usd": acme_usd}
        found.append(entry)
    return {"organizations": found}


def chat(directive: str = "tokens=8", *, stream: bool = True, model: str = "gpt-4o-mini", tokens_max: int = 64) -> dict[str, Any]:
    content = f"[[sim {directive}]] Please say something"
    return {"model": model, "max_tokens": tokens_max, "stream": stream, "messages": [{"role": "user", "content": content}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a client saw. status 0: no answer at all. is_whole: the answer ended as its framing and its dialect say."""

    status: int
    request_id: str = ""
    text: str = ""
    is_whole: bool = False
    headers: Any = None


def callers(*, fresh: bool = False) -> ClientSession:
    """fresh: a connection of its own for every request."""
    return ClientSession(connector=TCPConnector(limit=0, force_close=fresh), timeout=ClientTimeout(total=ANSWER_SECONDS))


async def ask(
    session: ClientSession,
    stack: Stack,
    credential: str,
    body: dict[str, Any] | None,
    *,
    path: str = "/v1/chat/completions",
    leave_after_lines: int = 0,
) -> Seen:
    """One request. Without a body it is a GET. leave_after_lines: go after so many lines of the answer."""
    headers = {"Authorization": f"Bearer {api_key(credential)}"}
    seen = Seen(status=0)
    lines: list[str] = []
    try:
        async with session.request("GET" if body is None else "POST", stack.url + path, json=body, headers=headers) as answer:
            seen = Seen(status=answer.status, request_id=answer.headers.get("x-request-id", ""), headers=answer.headers)
            async for line in answer.content:
                lines.append(line.decode())
                if leave_after_lines and len(lines) >= leave_after_lines:
                    return seen
            text = "".join(lines)
            is_whole = "[DONE]" in text or "message_stop" in text if "event-stream" in answer.content_type else True
            return Seen(status=seen.status, request_id=seen.request_id, text=text, is_whole=is_whole, headers=seen.headers)
    except ClientError:
        return Seen(status=seen.status, request_id=seen.request_id, text="".join(lines), headers=seen.headers)
    except TimeoutError as error:
        raise AssertionError(f"no end after {ANSWER_SECONDS} s: {seen.status} {seen.request_id} {lines} of {body}") from error


def true_cost(record: Served) -> int:
    """What the simulator's own count of one request costs."""
    if not record.accepted or record.model is None:
        return 0
    prompt, completion = PRICES[record.model]
    return record.prompt_tokens * prompt + record.generated_tokens * completion


Exchange = tuple[str, str, str]  # organization, credential, capability


def sums_of_events(events: Iterable[dict[str, Any]]) -> dict[Exchange, Counter[str]]:
    """A settlement that came after its hold had expired takes the place of the checkpoint; its money is the difference."""
    found: dict[Exchange, Counter[str]] = {}
    before: dict[str, dict[str, Any]] = {}
    for event in sorted(events, key=lambda event: event["_kind"] == "late"):
        earlier = before.setdefault(event["event_id"], event)
        assert earlier is event or (earlier["_kind"], event["_kind"]) == ("expired", "late"), (earlier, event)
        sums = found.setdefault((event["org"], event["credential"], event["capability"]), Counter())
        sums["requests"] += earlier is event
        for kind in ("prompt", "completion"):
            sums[kind] += int(event[f"_{kind}_tokens"]) - (0 if earlier is event else int(earlier[f"_{kind}_tokens"]))
        sums["nano_usd"] += int(event["_posted_nano_usd"])
    return found


def sums_of_totals(stack: Stack) -> dict[Exchange, Counter[str]]:
    """From the ledger's lifetime totals; refused requests are left out, since they are no events."""
    names = {"requests": "requests", "prompt_tokens": "prompt", "completion_tokens": "completion", "cost_nano_usd": "nano_usd"}
    found: dict[Exchange, Counter[str]] = {}
    for row in stack.lifetime_totals():
        if row["outcome"] != "refused":
            sums = found.setdefault((row["org"], row["credential"], row["capability"]), Counter())
            for column, name in names.items():
                sums[name] += row[column] - row.get(f"credited_{column}", 0)
    return found


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sums_of_metrics(text: str) -> dict[Exchange, Counter[str]]:
    """From /metrics; refused requests are left out, since they are no events."""
    found: dict[Exchange, Counter[str]] = {}
    for (name, labels), value in samples(text).items():
        label = dict(labels)
        if not {"credential", "capability"} <= label.keys() or label.get("outcome") == "refused":
            continue
        sums = found.setdefault((label["org"], label["credential"], label["capability"]), Counter())
        if name == "tallygate_requests_total":
            sums["requests"] += int(value)
        elif name == "tallygate_tokens_total":
            sums[label["kind"]] += int(value)
        elif name == "tallygate_tokens_credited_total":
            sums[label["kind"]] -= int(value)
        elif name == "tallygate_spend_usd_total":
            sums["nano_usd"] += round(value * 10**9)
        elif name == "tallygate_spend_credited_usd_total":
            sums["nano_usd"] -= round(value * 10**9)
    return {exchange: sums for exchange, sums in found.items() if any(sums.values())}


async def assert_all_sums_agree(stack: Stack, events: list[dict[str, Any]]) -> None:
    """Events == totals == windows == /metrics, of every organization, credential and capability; and nothing is held."""
    await eventually(lambda: not stack.waiting(), "the ledger has everything")
    by_event = sums_of_events(events)
    assert by_event == sums_of_totals(stack)
    status, text = stack.get("/metrics")
    assert status == 200
    assert by_event == sums_of_metrics(text)
    for org in ("acme", "globex"):
        spent = sum(sums["nano_usd"] for (of, _, _), sums in by_event.items() if of == org)
        assert stack.window(org) == {"spent": spent, "held": 0}
