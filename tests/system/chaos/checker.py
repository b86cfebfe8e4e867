"""Compares what the simulator, the ledger, the limiter, the metrics and the clients say of the same exchanges."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from tallygate.ledger.entry import FINAL

Sums = Mapping[str, int]  # requests, prompt, completion, nano_usd
_ASSUMED = frozenset({"assumed", "checkpoint"})  # sources of usage that nobody stated
_CAME = frozenset({"counted", "estimated"})  # of a stream that was cut off: what came of it, which may be the prompt alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client saw. status 0: none. code: of an error. tokens and nano_usd: as the answer states them, if it does."""

    request_id: str
    org: str
    status: int
    is_whole: bool
    code: str = ""
    tokens: tuple[int, int] | None = None
    nano_usd: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the simulator did for a request that it accepted; tokens: of the prompt, and generated."""

    request_id: str
    tokens: tuple[int, int]
    nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of the ledger."""

    event_id: str
    org: str
    kind: str
    source: str
    requests: int
    tokens: tuple[int, int]
    nano_usd: int
    posted_nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was told when everything had come to rest.

    windows   spent and held by the limiter, by organization that has a spend limit
    limits    of these, in nano-USD
    metrics   of each console: sums by organization
    """

    answers: list[Answer]
    served: list[Served]
    entries: list[Entry]
    windows: dict[str, tuple[int, int]]
    limits: dict[str, int]
    metrics: list[dict[str, Sums]]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


class Lie(StrEnum):
    LOST = "lost"  # served, and not charged
    DOUBLED = "doubled"  # charged or served more than once
    INVENTED = "invented"  # charged, and not served
    MISPRICED = "mispriced"  # charged otherwise than it was served, or than the client was told
    OVER = "over the limit"
    UNEQUAL = "unequal"  # two sums of the same


@dataclass(frozen=True, slots=True)
class Finding:
    lie: Lie
    where: str
    told: str

    def __str__(self) -> str:
        return f"{self.lie}: {self.where}: {self.told}"


def findings(history: History) -> list[Finding]:
    """Everything that is not as docs/high-availability.md promises; empty if all is."""
    return [*_of_exchanges(history), *_of_limits(history), *_of_sums(history)]


def excused_over(history: History) -> int:
    """By how much spend is above limits because a store's new master lacked what the old one had acknowledged, in nano-USD."""
    spent = _spent(history)
    return sum(max(0, spent[org] - limit) for org, limit in history.limits.items())


def _of_exchanges(history: History) -> Iterator[Finding]:
    accounts: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in history.entries:
        accounts[entry.event_id].append(entry)
    served = {one.request_id: one for one in history.served}
    for request_id, times in Counter(one.request_id for one in history.served).items():
        if times > 1:
            yield Finding(Lie.DOUBLED, request_id, f"the upstream served it {times} times")
    seen = {one.request_id: one for one in history.answers if one.request_id}
    for request_id in served.keys() - accounts.keys():
        if not _is_its_workers_alone(seen.get(request_id), history):
            yield Finding(Lie.LOST, request_id, f"{served[request_id]} is not in the ledger")
    for request_id, account in accounts.items():
        yield from _of_account(request_id, account, served.get(request_id), seen.get(request_id))
    for answer in seen.values():
        if answer.status == 200 and answer.is_whole:
            yield from _of_answer(answer, accounts.get(answer.request_id, []), served.get(answer.request_id))


def _is_its_workers_alone(answer: Answer | None, history: History) -> bool:
    """Whether nobody but its worker need have known of an answer (docs/operate.md, "What a lost machine takes with it").

    While the store is away, organizations without a spend limit are served on; what has not ended is lost with its worker.
    """
    return answer is not None and not answer.is_whole and answer.org not in history.limits


def _of_account(request_id: str, account: list[Entry], served: Served | None, answer: Answer | None) -> Iterator[Finding]:
    finals = [entry for entry in account if entry.kind in FINAL]
    requests = sum(entry.requests for entry in account)
    if requests != 1 or len(finals) > 1:
        yield Finding(Lie.DOUBLED, request_id, f"{requests} requests and {len(finals)} final entries: {account}")
    charged = sum(entry.nano_usd for entry in account)
    posted = sum(entry.posted_nano_usd for entry in account)
    if charged != posted:
        yield Finding(Lie.UNEQUAL, request_id, f"{charged} nano-USD were charged and {posted} posted")
    if served is None:
        # Nobody can know whether the upstream had the request of a worker that was killed, or that was told to end at once.
        is_unknown = answer is None or answer.status == 0 or answer.code == "shutting_down"
        if charged and not (is_unknown and all(entry.source in _ASSUMED for entry in account)):
            yield Finding(Lie.INVENTED, request_id, f"never served, seen as {answer}: {account}")
    elif any(entry.source == "upstream" for entry in finals):
        if charged != served.nano_usd:
            yield Finding(Lie.MISPRICED, request_id, f"{served}, which the upstream stated: {account}")
    elif charged < served.nano_usd and not any(entry.source in _CAME for entry in finals):
        yield Finding(Lie.MISPRICED, request_id, f"{served} is more than the assumed {charged}: {account}")


def _of_answer(answer: Answer, account: list[Entry], served: Served | None) -> Iterator[Finding]:
    if served is None:
        yield Finding(Lie.INVENTED, answer.request_id, f"{answer} of nothing that the upstream served")
        return
    if not any(entry.kind in FINAL for entry in account):
        yield Finding(Lie.LOST, answer.request_id, f"{answer} has no final entry: {account}")
        return
    tokens = (sum(entry.tokens[0] for entry in account), sum(entry.tokens[1] for entry in account))
    charged = sum(entry.nano_usd for entry in account)
    if (tokens, charged) != (served.tokens, served.nano_usd):
        yield Finding(Lie.MISPRICED, answer.request_id, f"{served}: {account}")
    if (answer.tokens or tokens, charged if answer.nano_usd is None else answer.nano_usd) != (tokens, charged):
        yield Finding(Lie.MISPRICED, answer.request_id, f"{answer}: {account}")


def _of_limits(history: History) -> Iterator[Finding]:
    """Spend may be above its limit by what a store lost of what it had acknowledged, which is then entered without a hold."""
    spent = _spent(history)
    unheld: Counter[str] = Counter()
    for entry in history.entries:
        if entry.kind == "unheld":
            unheld[entry.org] += entry.posted_nano_usd
    for org, limit in history.limits.items():
        if spent[org] > limit + unheld[org]:
            yield Finding(Lie.OVER, org, f"{spent[org]} nano-USD of {limit}, {unheld[org]} of them unheld")


def _of_sums(history: History) -> Iterator[Finding]:
    spent = _spent(history)
    for org, (in_window, held) in history.windows.items():
        if (in_window, held) != (spent[org], 0):
            yield Finding(Lie.UNEQUAL, org, f"the ledger has {spent[org]} nano-USD, the limiter {in_window} and holds {held}")
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for entry in history.entries:
        amounts = {"prompt": entry.tokens[0], "completion": entry.tokens[1], "nano_usd": entry.nano_usd}
        sums[entry.org].update({"requests": entry.requests, **amounts})
    for number, told in enumerate(history.metrics):
        for org in sums.keys() | told.keys():
            by_entries, by_metrics = _nonzero(sums[org]), _nonzero(told.get(org, {}))
            if by_entries != by_metrics:
                yield Finding(Lie.UNEQUAL, org, f"the ledger has {by_entries}, console {number} {by_metrics}")


def _spent(history: History) -> Counter[str]:
    found: Counter[str] = Counter()
    for entry in history.entries:
        found[entry.org] += entry.posted_nano_usd
    return found


def _nonzero(sums: Sums) -> dict[str, int]:
    return {name: amount for name, amount in sums.items() if amount}
