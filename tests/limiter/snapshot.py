"""The full state of one organization in one shape, read from Redis or from the reference, so that the two can be compared."""

import json
from typing import Any

from tallygate.limiter.keys import org_keys, partition_keys, partition_of
from tallygate.limiter.reference import ReferenceLimiter
from tallygate.limiter.reference_state import Hold, PauseMark
from tallygate.limiter.script import ScriptStore

Snapshot = dict[str, Any]


def _pairs(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):
        return {key.decode(): value.decode() for key, value in reply.items()}
    return {reply[i].decode(): reply[i + 1].decode() for i in range(0, len(reply), 2)}


async def snapshot_of_redis(store: ScriptStore, org: str) -> Snapshot:
    keys = org_keys(org)
    rates = _pairs(await store.command(b"HGETALL", keys.rates))
    spend = _pairs(await store.command(b"HGETALL", keys.spend))
    holds = _pairs(await store.command(b"HGETALL", keys.holds))
    scores = await store.command(b"ZRANGE", keys.due, b"0", b"-1", b"WITHSCORES")
    due = (
        {name.decode(): float(score) for name, score in scores}
        if scores and isinstance(scores[0], (list, tuple))
        else {scores[i].decode(): float(scores[i + 1]) for i in range(0, len(scores), 2)}
    )
    return {
        "buckets": {key: tuple(int(word) for word in text.split()) for key, text in rates.items() if "|" not in key},
        "open": {f[:-2]: int(v) for f, v in rates.items() if f.endswith("|n")},
        "windows": _windows(spend),
        "holds": {name: _hold(text) for name, text in holds.items()},
        "due": {name: int(score) for name, score in due.items()},
    }


def _windows(spend: dict[str, str]) -> dict[str, Any]:
    windows: dict[str, Any] = {}
    for name, text in spend.items():
        key, part = name.rsplit("|", 1)
        if part == "walk":  # how a resume instant was found, which is no one's business
            continue
        window = windows.setdefault(key, {"spent": 0, "held": 0, "warned": 0, "mark": None, "told": 0, "idle": None, "posted": {}})
        if part.isdigit():
            window["posted"][int(part)] = int(text)
        else:
            window[part] = text if part in {"id", "mark"} else int(text)
    return windows


def _hold(text: str) -> Any:
    lines = text.split("\n")
    words = lines[0].split(" ")
    if words[0] == "settled":
        return "settled", json.loads(lines[1])[:4]
    numbers = tuple(int(word) for word in words[1:6])
    return words[0], numbers, tuple(words[6:]), lines[3] if words[0] == "held" else None


def _mark(mark: PauseMark | None) -> str | None:
    return None if mark is None else f"{mark.resume_ms} {mark.least} {mark.refused_ms} {mark.announce_ms} {mark.limit}"


def snapshot_of_reference(limiter: ReferenceLimiter, org: str) -> Snapshot:
    state = limiter.orgs[org]
    windows = {}
    for key, window in state.windows.items():
        seen: dict[str, Any] = (
            {"id": window.period.id, "start": window.period.start_ms, "end": window.period.end_ms}
            if window.period
            else {"at": window.at}
        )
        windows[key] = {
            "spent": window.spent,
            "held": window.held,
            "warned": window.warned,
            "mark": _mark(window.mark),
            "told": window.announced_ms,
            "idle": window.idle_ms,
            "posted": window.posted,
            **seen,
        }
    holds: dict[str, Any] = {}
    for name, hold in state.holds.items():
        if not isinstance(hold, Hold):
            holds[name] = "settled", [hold.settled_at_ms, hold.over_nano_usd, int(hold.late), int(hold.unheld)]
            continue
        numbers = (hold.granted, hold.cost, hold.prompt, hold.completion, hold.at_ms)
        if not hold.is_expired:
            holds[name] = "held", numbers, tuple(str(units) for units in hold.taken), hold.event.decode()
        else:
            holds[name] = "expired", numbers, (), None
    return {
        "buckets": {key: (bucket.level, bucket.at_ms, bucket.held) for key, bucket in state.buckets.items()},
        "open": dict(state.open),
        "windows": windows,
        "holds": holds,
        "due": dict(state.due),
    }


async def events_of_redis(store: ScriptStore, org: str) -> list[dict[str, str]]:
    entries = await store.command(b"XRANGE", partition_keys(partition_of(org)).events, b"-", b"+")
    return [_pairs(fields) for _, fields in entries]


def events_of_reference(limiter: ReferenceLimiter, org: str) -> list[dict[str, str]]:
    return [
        {
            name: value.decode() if isinstance(value := getattr(event, name), bytes) else str(value)
            for name in event.__dataclass_fields__
            if getattr(event, name) is not None
        }
        for event in limiter.events[partition_of(org)]
    ]
