"""Passes of an answer of Anthropic's: which entries of `usage.iterations` are billed, and by which model's rates.

Sources: Anthropic, "Refusals and fallback", and the types of its client library: of an answer that another model served, the entry
of the iteration that completed it is a `fallback_message`; models that declined, and earlier iterations of the serving one, are
`message` entries with a `model`. The top level of the usage is what the serving model used.
"""

from typing import Final, NamedTuple

from tallygate.domain.unit import CACHE_READS, CACHE_WRITES, COMPLETION_UNITS, Unit
from tallygate.domain.usage import Pass, Usage

PASSES_MAX: Final = 32  # that are kept apart; the largest prompts of one model are charged as one beyond it
MODELS_MAX: Final = 8

FALLBACK: Final = "fallback_message"
_ATTEMPTS: Final = frozenset({"message", FALLBACK})
_KNOWN: Final = _ATTEMPTS | {"compaction", "advisor_message"}

# What of the top level is compared with the passes that it is the sum of: entries tell less of how long a cache is kept, and
# nothing of reasoning.
_COMPARED: Final = (
    (Unit.INPUT, frozenset({Unit.INPUT})),
    (Unit.CACHED_INPUT, CACHE_READS),
    (Unit.CACHE_WRITE_5M, CACHE_WRITES),
    (Unit.OUTPUT, COMPLETION_UNITS),
)


class Entry(NamedTuple):
    """One entry. model: None where it names none."""

    kind: str
    model: str | None
    counts: Usage

    @property
    def is_known(self) -> bool:
        return self.kind in _KNOWN


def billed_passes(
    entries: list[Entry],
    shown: Usage,
    *,
    asked_model: str | None,
    answering_model: str | None,
    is_declined: bool,
    silent_hops: int,
) -> tuple[Pass, ...]:
    """The billed passes. shown: the top level of the usage, of which nothing is left out even if the entries do not have it all.

    asked_model, answering_model   of the request, and of the answer
    is_declined    the last model that was tried declined before it generated anything
    silent_hops    so many models, the first ones, declined before they generated anything
    """
    attempts = [entry for entry in entries if entry.kind in _ATTEMPTS]
    last = attempts[-1].model if attempts else None
    is_fallback = any(entry.kind == FALLBACK for entry in attempts)
    others = list(dict.fromkeys([entry.model for entry in attempts if entry.model != last and (entry.model or is_fallback)]))
    serving: list[Usage] = []
    passes: list[Pass] = []
    for entry in entries:
        if entry.kind in _ATTEMPTS:
            if is_fallback and not entry.counts.completion and entry is not attempts[-1]:
                continue  # declined, even by a model of the same name: a pass of the serving one has output
            if entry.model not in others:
                serving.append(entry.counts)
                continue
            if not entry.counts.completion or others.index(entry.model) < silent_hops:
                continue
        model = entry.model or (asked_model if others else None)
        if entry.counts.quantities:
            passes.append(Pass(model=None if model == answering_model else model, quantities=dict(entry.counts.quantities)))
    if is_declined:
        serving = []
    elif len(serving) <= 1 and not passes:
        return (Pass(quantities=_larger(shown, serving)),)
    else:
        serving += _excess(shown, serving)
    return _bounded([*[Pass(quantities=quantities) for quantities in _with_reasoning(serving, shown)], *passes])


def _larger(shown: Usage, serving: list[Usage]) -> dict[str, int]:
    """What the top level and the only entry state, the larger one of each: nearly always the top level, which tells more."""
    excess = [] if not serving else _excess(serving[0], [shown])
    quantities = dict(shown.quantities)
    for each in excess:
        for unit, number in each.quantities.items():
            quantities[unit] = quantities.get(unit, 0) + number
    return quantities


def _excess(shown: Usage, passes: list[Usage]) -> list[Usage]:
    """What a usage has beyond these passes together."""
    more: dict[str, int] = {}
    for unit, units in _COMPARED:
        left = _number(shown, units) - sum([_number(each, units) for each in passes])
        if left > 0:
            is_long = unit is Unit.CACHE_WRITE_5M and shown.of(Unit.CACHE_WRITE_1H) > 0
            more[Unit.CACHE_WRITE_1H if is_long else unit] = left
    return [Usage(more)] if more else []


def _number(usage: Usage, units: frozenset[Unit]) -> int:
    return sum([number for unit, number in usage.quantities.items() if unit in units])


def _with_reasoning(serving: list[Usage], shown: Usage) -> list[dict[str, int]]:
    """The quantities of passes, with the reasoning that only the top level tells apart."""
    left = shown.of(Unit.REASONING_OUTPUT) - sum([each.of(Unit.REASONING_OUTPUT) for each in serving])
    found = []
    for each in serving:
        quantities = dict(each.quantities)
        moved = min(max(left, 0), quantities.get(Unit.OUTPUT, 0))
        if moved:
            left -= moved
            quantities[Unit.OUTPUT] -= moved
            quantities[Unit.REASONING_OUTPUT] = quantities.get(Unit.REASONING_OUTPUT, 0) + moved
        found.append({unit: number for unit, number in quantities.items() if number})
    return found


def _bounded(passes: list[Pass]) -> tuple[Pass, ...]:
    """`passes`, at most PASSES_MAX. Those of one model that are alike in size are charged as one, which no provider's tiers make
    cheaper; models beyond MODELS_MAX are charged as the one that answered.
    """
    if len(passes) <= PASSES_MAX:
        return tuple(passes)
    by_model: dict[str | None, list[Usage]] = {None: []}
    for each in passes:
        model = each.model if each.model in by_model or len(by_model) < MODELS_MAX else None
        by_model.setdefault(model, []).append(Usage(each.quantities))
    together = -(-len(passes) // (PASSES_MAX - MODELS_MAX))
    bounded = []
    for model, usages in by_model.items():
        usages.sort(key=lambda usage: usage.prompt)
        for start in range(0, len(usages), together):
            quantities: dict[str, int] = {}
            for usage in usages[start : start + together]:
                for unit, number in usage.quantities.items():
                    quantities[unit] = quantities.get(unit, 0) + number
            bounded.append(Pass(model=model, quantities=quantities))
    return tuple(bounded)
