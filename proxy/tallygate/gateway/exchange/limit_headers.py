"""Headers about limits: the dialect's own, the IETF pair, and spend."""

from typing import Final

from tallygate.dialects.dialect import Dialect
from tallygate.domain.admission import Decision
from tallygate.domain.money import usd_text
from tallygate.gateway.exchange.caller_limits import CallerLimits
from tallygate.http1.header import NO_LINES, Lines, lines_of

_REMAINING: Final = (b"tallygate-spend-remaining-usd",)


def limit_headers(decision: Decision, limits: CallerLimits, dialect: Dialect) -> Lines:
    """Headers of an admitted or refused request; without the limiter's store, a decision has no states of spend, or none at all.

    `tallygate-spend-remaining-usd` is the least that a spend limit leaves beside all holds, that of this request among them.
    """
    names, text = NO_LINES
    if decision.rate:
        lines = limits.rate_lines(dialect.limit_headers)
        names, text = lines.names, lines.of(decision)
    spendable: int | None = None
    fullest: tuple[int, int] | None = None
    for place, (_, limit) in enumerate(limits.spend[: len(decision.spend)]):
        spend = decision.spend[place]
        rest = spend.limit_nano_usd - spend.spent_nano_usd - spend.held_nano_usd
        if not limit.shadow and (spendable is None or rest < spendable):
            spendable = rest
        if limit.warn_at_permille and spend.limit_nano_usd:
            permille = spend.spent_nano_usd * 1000 // spend.limit_nano_usd
            if permille >= limit.warn_at_permille[0] and (fullest is None or permille > fullest[0]):
                fullest = (permille, place)
    if spendable is not None:
        names += _REMAINING
        text += b"tallygate-spend-remaining-usd: %b\r\n" % usd_text(spendable if spendable > 0 else 0).encode()
    if fullest is not None:
        warning, warned = _warning(decision, limits, *fullest)
        return names + warning, text + warned
    return names, text


def _warning(decision: Decision, limits: CallerLimits, permille: int, place: int) -> Lines:
    """`tallygate-spend-*` of the fullest spend limit, which has crossed its first warning threshold."""
    (_, limit), state = limits.spend[place], decision.spend[place]
    crossed = max(threshold for threshold in limit.warn_at_permille if threshold <= permille)
    return lines_of(
        [
            (b"tallygate-spend-warning", f'"{limit.name}";crossed={crossed / 1000:g};used={permille / 1000:g}'.encode()),
            (b"tallygate-spend-used-usd", usd_text(state.spent_nano_usd).encode()),
            (b"tallygate-spend-held-usd", usd_text(state.held_nano_usd).encode()),
            (b"tallygate-spend-limit-usd", usd_text(state.limit_nano_usd).encode()),
        ]
    )
