"""Totals since the ledger began: the numbers behind the shared counters of /metrics, as pure sums of entries.

They only grow, as counters must: amounts that a late settlement or a corrected price cancels are added to a `credited_` amount. An
event counts as one request under its first entry, so a hold that expired stays `expired` here even if it is settled later.
Retention leaves them alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Final, NamedTuple

from tallygate.domain.price import Price
from tallygate.domain.routed_price import ROUTED_VERSION
from tallygate.domain.usage_event import Outcome
from tallygate.ledger.entry import Entry, Kind, plain
from tallygate.ledger.schema import LIFETIME_AMOUNTS, LIFETIME_ODDITIES, LIFETIME_SUMS

OTHER: Final = "other"
_CREDITED: Final = 1 + len(LIFETIME_SUMS)  # index of the first credited amount: requests and sums come before
_ODDITIES: Final = _CREDITED + len(LIFETIME_SUMS)
_OVERRUN, _LATE, _UNHELD, _EXPIRED = range(_ODDITIES, _ODDITIES + len(LIFETIME_ODDITIES))


class TotalKey(NamedTuple):
    """The labels of one row of `lifetime_totals`, whose columns have these names.

    model   the name in the price catalogue by which it was charged, else `other`; "" for refused requests, which have none
    """

    org: str
    credential: str
    capability: str
    model: str
    outcome: str
    usage_source: str


_REVERSED: Final = Kind.REVERSED  # read once: a member of an enum takes a call to look up
_ODD: Final = {Kind.EXPIRED: _EXPIRED, Kind.UNHELD: _UNHELD, Kind.LATE: _LATE}
_MAY_OVERRUN: Final = frozenset({Kind.SETTLED, Kind.RELEASED, Kind.LATE})
_sums_of: Final = attrgetter(*LIFETIME_SUMS)

Changes = dict[TotalKey, list[int]]  # amounts in the order of LIFETIME_AMOUNTS


@lru_cache(maxsize=1_024)  # versions in use are few
def charged_model(price_version: str | None) -> str:
    """The model of a price's version (`gpt-4o@2024-08-06.1f2e3d4c`); `other` for none, and for one that bounds several models."""
    if price_version is None or price_version.startswith(ROUTED_VERSION):
        return OTHER
    return price_version.rpartition("@")[0] or OTHER


def is_guess(price: Price, model: str, charged_version: str | None) -> bool:
    """Return whether `price`, found for `model` under another name, is worse than what charged it: the row of an upstream's
    catalogue for its very name, which holds from the beginning of time.
    """
    by_catalogue = charged_version is not None and charged_version.startswith(f"{model}@1970-01-01.")
    return by_catalogue and price.model != model


def changes_of(new: Sequence[Entry], charged_as: Mapping[str, str] | None = None) -> Changes:
    """Changes of entries that were just added, given in the order of their sequences.

    charged_as   by event id the model of a corrected price's difference: it stays with the model that the event counted under
    """
    changes: Changes = {}
    charged = charged_as or {}
    for entry, before in with_reversals(new):
        model = charged.get(entry.event_id) or charged_model(entry.price_version)
        row = _row(changes, _key(entry, model))
        amounts = _sums_of(entry)
        if before is None:
            row[0] += entry.requests
        else:
            back = _sums_of(before)
            model_before = charged_model(before.price_version)
            if model_before == model:
                amounts = tuple(map(int.__add__, amounts, back))
            else:
                _add(_row(changes, _key(before, model_before)), back)
        _add(row, amounts)
        _count_oddities(row, entry)
    return changes


def with_reversals(new: Iterable[Entry]) -> Iterator[tuple[Entry, Entry | None]]:
    """Each entry with the one that took its event's amounts back just before it; None if there is none."""
    taken_back: dict[str, Entry] = {}
    for entry in new:
        if entry.kind is _REVERSED:
            taken_back[entry.event_id] = entry  # its counterpart follows
        else:
            yield entry, taken_back.pop(entry.event_id, None)


def refused_changes(counts: Iterable[tuple[str, str, str, int]]) -> Changes:
    """The changes that refusals make; counts: (organization, credential, capability, how many)."""
    changes: Changes = {}
    for org, credential, capability, refused in counts:
        _row(changes, TotalKey(org, credential, capability, "", Outcome.REFUSED.value, ""))[0] += refused
    return changes


def _key(entry: Entry, model: str) -> TotalKey:
    return TotalKey(entry.org, entry.credential, entry.capability, model, plain(entry.outcome), plain(entry.usage_source))


def _row(changes: Changes, key: TotalKey) -> list[int]:
    row = changes.get(key)
    if row is None:
        row = changes[key] = [0] * len(LIFETIME_AMOUNTS)
    return row


def _add(row: list[int], amounts: Sequence[int]) -> None:
    for index, amount in enumerate(amounts):
        if amount > 0:
            row[1 + index] += amount
        elif amount:
            row[_CREDITED + index] -= amount


def _count_oddities(row: list[int], entry: Entry) -> None:
    odd = _ODD.get(entry.kind)
    if odd is not None:
        row[odd] += 1
    if entry.flags and entry.kind in _MAY_OVERRUN:
        row[_OVERRUN] += "overrun" in entry.flags.split(",")
