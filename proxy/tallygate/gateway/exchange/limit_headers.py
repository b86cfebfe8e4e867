"""Headers about limits: the dialect's own, the IETF pair, and spend."""

from tallygate.dialects.dialect import Dialect, NamedRate
from tallygate.domain.admission import Decision
from tallygate.domain.money import usd_text
from tallygate.gateway.exchange.caller_limits import CallerLimits
from tallygate.http1.header import Header


def limit_headers(decision: Decision, limits: CallerLimits, dialect: Dialect) -> list[Header]:
    """Headers of an admitted or refused request; without the limiter's store, a decision has fewer facts to show.

    RateLimit and RateLimit-Policy follow draft-ietf-httpapi-ratelimit-headers: r is what remains, t the seconds until one more
    unit is there; of a limit that refuses until the refused request fits, so that Retry-After is never earlier.
    `tallygate-spend-remaining-usd` is the least that a spend limit leaves beside all holds, that of this request among them.
    """
    named: list[NamedRate] = []
    items: list[bytes] = []
    for place, shown in enumerate(limits.shown[: len(decision.rate)]):
        if shown is not None:
            state = decision.rate[place]
            remaining, until_more_ms = state.remaining, state.retry_after_ms
            named.append(NamedRate(shown.kind, shown.capacity, remaining, state.reset_ms))
            if not until_more_ms:
                missing = shown.capacity - remaining - 1
                until_more_ms = state.reset_ms - (missing * shown.window_ms // shown.refill_units if missing > 0 else 0)
            until_more_s = (until_more_ms + 999) // 1000
            left, wait_s = remaining if remaining > 0 else 0, until_more_s if until_more_s > 0 else 0
            items.append(b"%b;r=%d;t=%d" % (shown.quoted, left, wait_s))
    headers: list[Header] = []
    if named:
        headers += dialect.limit_headers(decision, named)
        headers += ((b"ratelimit-policy", limits.policy), (b"ratelimit", b", ".join(items)))
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
        headers.append((b"tallygate-spend-remaining-usd", usd_text(max(0, spendable)).encode()))
    if fullest is not None:
        headers += _warning_headers(decision, limits, *fullest)
    return headers


def _warning_headers(decision: Decision, limits: CallerLimits, permille: int, place: int) -> list[Header]:
    """`tallygate-spend-*` of the fullest spend limit, which has crossed its first warning threshold."""
    (_, limit), state = limits.spend[place], decision.spend[place]
    crossed = max(threshold for threshold in limit.warn_at_permille if threshold <= permille)
    return [
        (b"tallygate-spend-warning", f'"{limit.name}";crossed={crossed / 1000:g};used={permille / 1000:g}'.encode()),
        (b"tallygate-spend-used-usd", usd_text(state.spent_nano_usd).encode()),
        (b"tallygate-spend-held-usd", usd_text(state.held_nano_usd).encode()),
        (b"tallygate-spend-limit-usd", usd_text(state.limit_nano_usd).encode()),
    ]
