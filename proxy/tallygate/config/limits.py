"""Rate and spend limits as plans, organizations and credentials write them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tallygate.config.section import Place, Section, duration_text, show
from tallygate.domain.money import MONEY_MAX_NANO_USD, nano_usd_from_usd, usd_text
from tallygate.domain.rate_limit import LimitScope, Quantity, RateLimit, Taken
from tallygate.domain.spend_limit import SPEND_BUCKET_MS, SpendLimit, WindowKind

LIMITS_MAX: Final = 16  # of one kind in one list: each is a key of every admission
UNITS_MAX: Final = 2**53 - 1
SPEND_WINDOW_MAX_MS: Final = 31 * 86_400_000  # 8,928 buckets; longer than a month is what calendar months are for
_FRACTION: Final = re.compile(r"(?:0\.\d{1,3}|1(?:\.0{1,3})?)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedSpendLimit:
    """A spend limit with the most that an organization may set it to, and where it stands in the file.

    states_warn_at     whether `warn_at` was written; if not, an organization's limit takes over its plan's thresholds
    """

    limit: SpendLimit
    max_nano_usd: int
    states_warn_at: bool
    place: Place


def read_rate_limits(section: Section, *, own_scope: LimitScope | None = None) -> tuple[RateLimit, ...]:
    """The list `rate_limits`. own_scope: the only scope there is (a credential's own limits), so that `per` is not a key."""
    found: list[RateLimit] = []
    places: list[Place] = []
    for item in section.sections("rate_limits", items_max=LIMITS_MAX):
        limit = _rate_limit(item, own_scope)
        item.close()
        if limit is not None:
            found.append(limit)
            places.append(item.place)
    _report_repeats([rate_identity(limit) for limit in found], places)
    return name_apart(found) if found else ()


def _rate_limit(item: Section, own_scope: LimitScope | None) -> RateLimit | None:
    quantities = [quantity for quantity in Quantity if quantity in item]
    if len(quantities) != 1:
        item.place.problem(f"must have exactly one of {', '.join(Quantity)}")
        for key in (*Quantity, "window", "burst", "per", "capability", "shadow"):
            item.plain(key)
        return None
    quantity = quantities[0]
    units = item.integer(quantity, minimum=1, maximum=UNITS_MAX)
    scope, capability = _scope(item, own_scope), item.text("capability", chars_max=64) or None
    shadow = item.boolean("shadow", default=False)
    if quantity.taken is Taken.WHILE_OPEN:
        window_ms, capacity, refill = 0, units, 0
        for key in ("window", "burst"):
            if key in item:
                item.place_of(key).problem(f"does not apply to {quantity}")
                item.plain(key)
    else:
        item.require("window")
        window_ms = item.duration_ms("window", 0, minimum=1_000, maximum=SPEND_WINDOW_MAX_MS)
        capacity, refill = item.integer("burst", units, minimum=1, maximum=UNITS_MAX), units
        if not window_ms:
            return None
    if units == 0:
        return None
    try:
        return RateLimit(
            name=quantity.value if quantity.taken is Taken.WHILE_OPEN else f"{quantity}_per_{duration_text(window_ms)}",
            quantity=quantity,
            capacity=capacity,
            refill_units=refill,
            window_ms=window_ms,
            scope=scope,
            capability=capability,
            shadow=shadow,
        )
    except ValueError as error:
        item.place.problem(f"cannot be kept: {error}")
        return None


def read_spend_limits(
    section: Section, *, own_scope: LimitScope | None = None, has_max: bool = False
) -> tuple[StatedSpendLimit, ...]:
    """`spend_limit` (one) or `spend_limits` (a list). has_max: `max_usd` may be given, as in plans."""
    items = list(section.sections("spend_limits", items_max=LIMITS_MAX))
    single = section.section("spend_limit")
    if single is not None:
        if "spend_limits" in section:
            single.place.problem("cannot stand beside spend_limits: move it into the list")
        items.append(single)
    found = []
    for item in items:
        stated = _spend_limit(item, own_scope, has_max=has_max)
        item.close()
        if stated is not None:
            found.append(stated)
    _report_repeats([spend_identity(stated.limit) for stated in found], [stated.place for stated in found])
    return tuple(found)


def _spend_limit(item: Section, own_scope: LimitScope | None, *, has_max: bool) -> StatedSpendLimit | None:
    item.require("usd")
    usd = item.money("usd", _limit_nano_usd)
    maximum = item.money("max_usd", _limit_nano_usd) if has_max else None
    if item.plain("window") == "month":
        kind, window_ms, name = WindowKind.CALENDAR_MONTH, 0, "spend_month"
    else:
        window_ms = item.duration_ms("window", 7 * 86_400_000, minimum=SPEND_BUCKET_MS, maximum=SPEND_WINDOW_MAX_MS)
        if window_ms % SPEND_BUCKET_MS:
            item.place_of("window").problem(f"must be `month` or a multiple of {duration_text(SPEND_BUCKET_MS)}")
            window_ms = SPEND_BUCKET_MS
        kind, name = WindowKind.ROLLING, f"spend_{duration_text(window_ms)}"
    warn_at = _warn_at(item)
    scope, shadow = _scope(item, own_scope), item.boolean("shadow", default=False)
    if scope is LimitScope.CREDENTIAL:  # always, not only where names clash: the name keys the window, and a new name forgets spend
        name += ":credential" if own_scope is None else ":own"
    if usd is None:
        return None
    if maximum is not None and usd > maximum:
        item.place_of("usd").problem(f"must be at most max_usd ({usd_text(maximum)}), got {usd_text(usd)}")
    limit = SpendLimit(name=name, limit_nano_usd=usd, kind=kind, window_ms=window_ms, scope=scope, shadow=shadow)
    return StatedSpendLimit(
        limit=limit if warn_at is None else replace(limit, warn_at_permille=warn_at),
        max_nano_usd=usd if maximum is None else maximum,
        states_warn_at=warn_at is not None,
        place=item.place,
    )


def _limit_nano_usd(text: str) -> int:
    value = nano_usd_from_usd(text)
    if value > MONEY_MAX_NANO_USD:
        raise ValueError(f"must be at most {usd_text(MONEY_MAX_NANO_USD)} USD")
    return value


def _warn_at(item: Section) -> tuple[int, ...] | None:
    """Fractions of the limit, read as decimals: three places are a thousandth."""
    fractions = item.scalars("warn_at", items_max=8)
    if fractions is None:
        return None
    found = []
    for place, text in fractions:
        if _FRACTION.fullmatch(text) is None or not text.strip("0."):
            place.problem(f"must be a fraction above 0 and up to 1 with at most three decimals, got {show(text)}")
        else:
            whole, _, decimals = text.partition(".")
            found.append(int(whole) * 1000 + int(decimals.ljust(3, "0")))
    if found != sorted(set(found)):
        item.place_of("warn_at").problem("must be ascending")
    return tuple(found)


def _scope(item: Section, own_scope: LimitScope | None) -> LimitScope:
    if own_scope is not None:
        return own_scope
    return LimitScope(item.choice("per", [scope.value for scope in LimitScope], LimitScope.ORGANIZATION))


def rate_identity(limit: RateLimit) -> tuple[object, ...]:
    """What makes two rate limits the same limit, whatever their size: an organization's replaces its plan's."""
    return limit.quantity, limit.window_ms, limit.scope, limit.capability


def spend_identity(limit: SpendLimit) -> tuple[object, ...]:
    return limit.kind, limit.window_ms, limit.scope


def _report_repeats(identities: Sequence[tuple[object, ...]], places: Sequence[Place]) -> None:
    for index, identity in enumerate(identities):
        first = identities.index(identity)
        if first < index:
            places[index].problem(f"bounds the same thing as {places[first].path} on line {places[first].line}")


def name_apart(limits: Sequence[RateLimit]) -> tuple[RateLimit, ...]:
    """The limits with distinct names: those that share one get `:capability` and, where that is not enough, `:credential`."""
    plain = Counter(_plain_name(limit) for limit in limits)
    names = [
        f"{_plain_name(limit)}:{limit.capability}" if limit.capability and plain[_plain_name(limit)] > 1 else _plain_name(limit)
        for limit in limits
    ]
    counts = Counter(names)
    return tuple(
        replace(limit, name=f"{name}:credential" if counts[name] > 1 and limit.scope is LimitScope.CREDENTIAL else name)
        for limit, name in zip(limits, names, strict=True)
    )


def _plain_name(limit: RateLimit) -> str:
    return limit.name.partition(":")[0]


def name_own(own: Sequence[RateLimit], plans: Sequence[RateLimit]) -> tuple[RateLimit, ...]:
    """A credential's own limits, named apart from its plan's with `:own`: both kinds hold, as two buckets."""
    taken = {limit.name for limit in plans}
    return tuple(replace(limit, name=f"{limit.name}:own") if limit.name in taken else limit for limit in own)
