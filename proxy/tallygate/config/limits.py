"""Parsing of the rate and spend limits of plans, organizations and credentials: their declared fields, and rules for a list."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from tallygate.config.declared import read_declared
from tallygate.config.section import Place, Section
from tallygate.domain.declared import Declared, Usd, declared_fields
from tallygate.domain.instants import duration_text
from tallygate.domain.money import MONEY_MAX_NANO_USD, usd_text
from tallygate.domain.rate_limit import RATE_LIMIT_FIELDS, LimitScope, Quantity, RateLimit, Taken
from tallygate.domain.spend_limit import SPEND_LIMIT_FIELDS, SpendLimit

LIMITS_MAX: Final = 16  # of one kind in one list: each is a key of every admission
_RATE_LIMIT_KEYS: Final = tuple(dict.fromkeys(field.key for fields in RATE_LIMIT_FIELDS.values() for field in fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedSpendLimit:
    """A spend limit with the most that an organization may set it to, and its place in the file.

    states_warn_at     whether `warn_at` was given; if not, an organization's limit inherits its plan's thresholds
    """

    limit: SpendLimit
    max_nano_usd: Annotated[
        int, Usd("The most that an organization may set it to; else `usd`.", key="max_usd", most=MONEY_MAX_NANO_USD)
    ]
    states_warn_at: bool
    place: Place


MAXIMUM: Final = tuple(replace(field, is_required=False) for field in declared_fields(StatedSpendLimit))


def read_rate_limits(section: Section, *, own_scope: LimitScope | None = None) -> tuple[RateLimit, ...]:
    """Parse the list `rate_limits`. own_scope: the only scope (for a credential's own limits), so that `per` is not a key."""
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
        for key in _RATE_LIMIT_KEYS:
            item.plain(key)
        return None
    quantity = quantities[0]
    fields = RATE_LIMIT_FIELDS[quantity]
    values = _read_limit(item, fields, own_scope)
    for key in _RATE_LIMIT_KEYS:
        if key in item and key not in {field.key for field in fields}:
            item.place_of(key).problem(f"does not apply to {quantity}")
            item.plain(key)
    if any(values[field.attribute] is None for field in fields if field.is_required):
        return None
    if quantity.taken is Taken.WHILE_OPEN:
        name, values = quantity.value, {"refill_units": 0, "window_ms": 0} | values
    else:
        name = f"{quantity}_per_{duration_text(values['window_ms'])}"
        values["capacity"] = values["capacity"] or values["refill_units"]
    try:
        return RateLimit(name=name, quantity=quantity, **values)
    except ValueError as error:
        item.place.problem(f"cannot be kept: {error}")
        return None


def _read_limit(item: Section, fields: Sequence[Declared], own_scope: LimitScope | None) -> dict[str, Any]:
    if own_scope is None:
        return read_declared(item, fields)
    return read_declared(item, [field for field in fields if field.attribute != "scope"]) | {"scope": own_scope}


def read_spend_limits(
    section: Section, *, own_scope: LimitScope | None = None, has_max: bool = False
) -> tuple[StatedSpendLimit, ...]:
    """Parse `spend_limit` (one) or `spend_limits` (a list). has_max: `max_usd` may be given, as in plans."""
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
    values = _read_limit(item, SPEND_LIMIT_FIELDS, own_scope)
    maximum = read_declared(item, MAXIMUM)["max_nano_usd"] if has_max else None
    usd, window_ms = values["limit_nano_usd"], values["window_ms"]
    if usd is None:
        return None
    if maximum is not None and usd > maximum:
        item.place_of("usd").problem(f"must be at most max_usd ({usd_text(maximum)}), got {usd_text(usd)}")
    name = f"spend_{duration_text(window_ms)}" if window_ms else "spend_month"
    if (
        values["scope"] is LimitScope.CREDENTIAL
    ):  # always, not only if names clash: the name keys the window, and a new name would lose spend
        name += ":credential" if own_scope is None else ":own"
    return StatedSpendLimit(
        limit=SpendLimit(name=name, **values),
        max_nano_usd=usd if maximum is None else maximum,
        states_warn_at="warn_at" in item,
        place=item.place,
    )


def rate_identity(limit: RateLimit) -> tuple[object, ...]:
    """The identity of a rate limit, whatever its size: an organization's replaces its plan's of the same identity."""
    return limit.quantity, limit.window_ms, limit.scope, limit.capability


def spend_identity(limit: SpendLimit) -> tuple[object, ...]:
    return limit.kind, limit.window_ms, limit.scope


def _report_repeats(identities: Sequence[tuple[object, ...]], places: Sequence[Place]) -> None:
    for index, identity in enumerate(identities):
        first = identities.index(identity)
        if first < index:
            places[index].problem(f"bounds the same thing as {places[first].path} on line {places[first].line}")


def name_apart(limits: Sequence[RateLimit]) -> tuple[RateLimit, ...]:
    """Give the limits distinct names: those that share one get `:capability` and, if that is not enough, `:credential`."""
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
    """A credential's own limits, distinguished from its plan's by `:own`: both apply, as two buckets."""
    taken = {limit.name for limit in plans}
    return tuple(replace(limit, name=f"{limit.name}:own") if limit.name in taken else limit for limit in own)
