"""Prices by unit and the cost of one exchange, in integers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from tallygate.domain.money import PICO_PER_NANO, nano_usd_from_pico
from tallygate.domain.ratio import ONE
from tallygate.domain.unit import (
    AUTO,
    COMPLETION_UNITS,
    FALLBACKS,
    IN_PLACE_OF_TOKENS,
    PROMPT_UNITS,
    TOKEN_UNITS,
    Unit,
    alternative,
    wider,
)
from tallygate.domain.unit_kind import COST_OF, kind_cost_of
from tallygate.domain.usage import STANDARD, Conditions, Usage

# Of each case: pico-USD of the whole prompt, pico-USD of an output token, and the most output tokens that there can be.
WorstRates = tuple[tuple[int, int, int], ...]
Rates = Mapping[str, int]  # pico-USD of one, by unit
NO_MAXIMUM: Final = 1 << 62
UNDATED_MS: Final = -1  # when a price took effect that nobody dates: before every request
MINUTES_A_DAY: Final = 1_440
_REQUEST: Final = Unit.REQUEST  # read once: a member of an enum takes a call to look up
_SCHEDULES_KEPT: Final = 64  # of one price; an answer may state conditions that nobody has heard of


@dataclass(frozen=True, slots=True)
class Tier:
    """Rates of requests whose prompt has at least so many tokens."""

    from_tokens: int
    rates: Rates
    _dearest: dict[frozenset[Unit], tuple[int, int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def dearest(self, units: frozenset[Unit]) -> tuple[int, int]:
        """The dearest rates of input and output of a request that can be charged in these units besides the plain ones."""
        found = self._dearest.get(units)
        if found is None:
            rates = self.rates
            of_input = [rates[unit] for unit in (Unit.INPUT, Unit.CACHED_INPUT, *(units & PROMPT_UNITS))]  # a cache may be read
            of_output = [rates[unit] for unit in (Unit.OUTPUT, Unit.REASONING_OUTPUT, *(units & COMPLETION_UNITS))]
            found = self._dearest[units] = max(of_input), max(of_output)
        return found


Schedule = tuple[Tier, ...]  # by size, the first one from 0; the rates of tokens are complete


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a row states for requests under a condition: rates in place of its own, or a factor of those of tokens.

    service_tier, speed, geography   all that are stated have to hold; None: any
    utc_minutes   of the day, in which the request starts: from the first to before the second, also across midnight
    utc_days      of the week, on which it starts: from the first to the last, 0 is Monday, also across the end of a week
    factor        in millionths; with rates: ONE
    """

    service_tier: str | None = None
    speed: str | None = None
    geography: str | None = None
    utc_minutes: tuple[int, int] | None = None
    utc_days: tuple[int, int] | None = None
    factor: int = ONE
    rates: Rates = field(default_factory=dict)
    tiers: tuple[Tier, ...] = ()

    def holds(self, conditions: Conditions) -> bool:
        return (
            (self.service_tier is None or self.service_tier == conditions.service_tier)
            and (self.speed is None or self.speed == conditions.speed)
            and (self.geography is None or self.geography == conditions.geography)
        )

    @property
    def members(self) -> int:
        """How many conditions it states: of several rules with rates, the one that states most decides."""
        stated = (self.service_tier, self.speed, self.geography, self.utc_minutes, self.utc_days)
        return sum(each is not None for each in stated)

    @property
    def is_timed(self) -> bool:
        return self.utc_minutes is not None or self.utc_days is not None

    def holds_at(self, minute_of_week: int) -> bool:
        """Whether it applies to requests that start in this minute."""
        day, minute = divmod(minute_of_week, MINUTES_A_DAY)
        if self.utc_days is not None and (day - self.utc_days[0]) % 7 > (self.utc_days[1] - self.utc_days[0]) % 7:
            return False
        if self.utc_minutes is None:
            return True
        first, end = self.utc_minutes
        return first <= minute < end if first < end else minute >= first or minute < end


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of one model from `effective_ms` on; UNDATED_MS: its start is not known, and before every request.

    rates       pico-USD of one, by unit: `input` and `output` at least. Tokens without a rate have that of their fallback
                (`unit.FALLBACKS`); what is no token, and has none, is known to `lacks`.
    tiers       rates of longer prompts, for the whole request: `input` and `output` at least. Other rates of the row change in
                their proportion (Gemini and xAI price so).
    rules       rates under conditions
    reasons     False: known to generate nothing that its answers do not show
    generates   False: nobody says what its output costs, so that only what has none (embeddings) is charged by it; output is then 0
    markup      millionths on top of every rate
    version     names this row in every usage event, so that a later correction can find what it priced
    bills_no_tokens   it has rates of what is charged in place of tokens, and none of these
    """

    model: str
    version: str
    effective_ms: int
    rates: Rates
    tiers: tuple[Tier, ...] = ()
    rules: tuple[Rule, ...] = ()
    max_output_tokens: int | None = None
    max_input_tokens: int | None = None
    reasons: bool = True
    generates: bool = True
    markup: int = 0
    bills_no_tokens: bool = field(init=False, repr=False, compare=False)
    _schedules: dict[Conditions, Schedule] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        has_others = any(unit.partition(":")[0] in IN_PLACE_OF_TOKENS for unit in self.rates)
        object.__setattr__(self, "bills_no_tokens", has_others and not self.has_token_rates)

    def __hash__(self) -> int:
        return hash((self.model, self.version, self.effective_ms))

    def schedule(self, conditions: Conditions = STANDARD) -> Schedule:
        """All rates under these conditions."""
        found = self._schedules.get(conditions)
        if found is None:
            found = self._schedule(conditions)
            if len(self._schedules) < _SCHEDULES_KEPT:
                self._schedules[conditions] = found
        return found

    def cost_nano_usd(self, usage: Usage, conditions: Conditions = STANDARD) -> int:
        """What `usage` costs if all of it is charged by this price, rounded up once."""
        passes = [quantities for _, quantities in usage.parts()] if usage.passes else [usage.quantities]
        return nano_usd_from_pico(self.pico_usd(passes, conditions))

    def pico_usd(self, passes: Iterable[Mapping[str, int]], conditions: Conditions = STANDARD) -> int:
        """What quantities of several passes cost together, each by its own size."""
        return sum(self.pico_usd_by_kind(passes, conditions).values())

    def pico_usd_by_kind(self, passes: Iterable[Mapping[str, int]], conditions: Conditions = STANDARD) -> dict[str, int]:
        """The same by `unit_kind.KIND_COSTS`, of kinds that were used. A unit without a rate costs nothing (`lacks`)."""
        tiers = self.schedule(conditions)
        costs: dict[str, int] = {}
        for quantities in passes:
            rates = tiers[0].rates
            if len(tiers) > 1:
                prompt = sum([number for unit, number in quantities.items() if unit in PROMPT_UNITS])
                rates = next(tier.rates for tier in reversed(tiers) if prompt >= tier.from_tokens)
            for unit, number in quantities.items():
                rate = rates.get(unit)
                cost = number * (_wider_rate(rates, unit) or 0 if rate is None else rate)
                kind = COST_OF.get(unit) or kind_cost_of(unit)
                costs[kind] = costs.get(kind, 0) + cost
        return costs

    def rates_of(self, quantities: Mapping[str, int], conditions: Conditions = STANDARD) -> dict[str, int]:
        """The rates by which `pico_usd_by_kind` charges the units of one pass."""
        prompt = sum([number for unit, number in quantities.items() if unit in PROMPT_UNITS])
        rates = next(tier.rates for tier in reversed(self.schedule(conditions)) if prompt >= tier.from_tokens)
        return {unit: rates[unit] if unit in rates else _wider_rate(rates, unit) or 0 for unit in quantities}

    @property
    def has_token_rates(self) -> bool:
        """Whether any token costs something."""
        return any(rate for unit, rate in self.rates.items() if unit in TOKEN_UNITS)

    def lacks(self, units: Iterable[str]) -> list[str]:
        """Those of `units` that have no rate, and no alternative that has one."""
        rates = self.schedule()[0].rates
        return [unit for unit in units if not (_has_rate(rates, unit) or _has_rate(rates, alternative(unit)))]

    def knows(self, conditions: Conditions) -> bool:
        """Whether a service tier or a speed that is not the standard one has rates of its own."""
        return all(
            not asked or any(getattr(rule, name) == asked for rule in self.rules)
            for name, asked in (("service_tier", conditions.service_tier), ("speed", conditions.speed))
        )

    def starting_at(self, minute: int) -> "Price":
        """The price of requests that start in this minute of the UTC week (`minute_of_week`)."""
        if not any(rule.is_timed for rule in self.rules):
            return self
        rules = [replace(rule, utc_minutes=None, utc_days=None) for rule in self.rules if rule.holds_at(minute)]
        return replace(self, rules=tuple(rules))

    def worst_rates(
        self,
        prompt_tokens: int,
        *,
        units: frozenset[Unit] = frozenset(),
        conditions: Iterable[Conditions] = (STANDARD,),
        calls: Mapping[str, int] | None = None,
        output_max: int = NO_MAXIMUM,
    ) -> WorstRates:
        """For `worst_cost_nano_usd`: what a prompt of up to that size costs at most, and the dearest output rate, of each case.

        units        that the request can be charged in besides plain, cached and reasoning tokens
        conditions   under which it can be charged
        calls        at most so many of other units than tokens; one `request` goes without saying
        """
        cases: list[tuple[int, int, int]] = []
        for each in conditions if self.rules else (STANDARD,):
            tiers = self.schedule(each)
            most = prompt_tokens
            for tier in reversed(tiers):
                # The prompt may turn out short of a threshold, where the rates need not be the lower ones.
                if most < tier.from_tokens:
                    continue
                rates = tier.rates
                dearest_in, dearest_out = tier.dearest(units)
                called = self._called(rates, calls) if calls else 0
                if _REQUEST in rates and not (calls and _REQUEST in calls):
                    called += rates[_REQUEST]
                cases.append((called + most * dearest_in, dearest_out, output_max))
                most = tier.from_tokens - 1
        return tuple(cases)

    @staticmethod
    def _called(rates: Rates, calls: Mapping[str, int]) -> int:
        return sum([number * _dearest(rates, unit) for unit, number in calls.items()])

    def _schedule(self, conditions: Conditions) -> Schedule:
        holding = [rule for rule in self.rules if rule.holds(conditions)]
        stated = max([rule for rule in holding if rule.rates], key=lambda rule: rule.members, default=None)
        rates, tiers = self.rates, self.tiers
        if stated is not None:
            rates, tiers = {**_moved(self.rates, stated.rates), **stated.rates}, stated.tiers
        factors = tuple([rule.factor for rule in holding if not rule.rates])
        every = (Tier(0, rates), *[Tier(tier.from_tokens, {**_moved(rates, tier.rates), **tier.rates}) for tier in tiers])
        return tuple([Tier(tier.from_tokens, _charged(_complete(tier.rates), factors, self.markup)) for tier in every])


def with_fee(rates: WorstRates | None, fee_nano_usd: int) -> WorstRates | None:
    """`rates` with a flat fee on top of each case; None if there is neither."""
    if not fee_nano_usd:
        return rates
    fee_pico = fee_nano_usd * PICO_PER_NANO
    return tuple([(fee_pico + prompt_pico, rate, most) for prompt_pico, rate, most in rates or ((0, 0, NO_MAXIMUM),)])


def worst_cost_nano_usd(rates: WorstRates | None, output_tokens: int) -> int:
    """The most that `output_tokens` and the prompt of `rates` can cost; nothing without rates."""
    if rates is None:
        return 0
    if len(rates) == 1:  # nearly always
        ((prompt_pico, rate, most),) = rates
        return nano_usd_from_pico(prompt_pico + (output_tokens if output_tokens < most else most) * rate)
    return max([nano_usd_from_pico(prompt_pico + min(output_tokens, most) * rate) for prompt_pico, rate, most in rates])


def _moved(rates: Rates, to: Rates) -> dict[str, int]:
    """`rates` in the proportions in which `to` has moved those of plain input and output, rounded up.

    From a rate of 0 there is no proportion: others stand as they are.
    """
    moved = {}
    for unit, rate in rates.items():
        side = Unit.INPUT if unit in PROMPT_UNITS else Unit.OUTPUT if unit in COMPLETION_UNITS else None
        base = rates.get(side, 0) if side is not None else 0
        now = to.get(side, base) if side is not None else base
        moved[unit] = rate if base in (now, 0) else -(-rate * now // base)
    return moved


def _complete(rates: Rates) -> dict[str, int]:
    """`rates` and those of every other token, by its fallback."""
    complete = dict(rates)
    for unit in FALLBACKS:
        if unit not in complete:
            complete[unit] = _rate_of(rates, unit)
    return complete


def _rate_of(rates: Rates, unit: Unit) -> int:
    while unit not in rates:
        unit = FALLBACKS[unit]
    return rates[unit]


def _charged(rates: Rates, factors: tuple[int, ...], markup: int) -> Rates:
    """`rates`, each rounded up once."""
    if not factors and not markup:
        return rates
    above, below = ONE + markup, ONE
    of_tokens, below_of_tokens = above, below
    for factor in factors:
        of_tokens, below_of_tokens = of_tokens * factor, below_of_tokens * ONE
    return {
        unit: -(-rate * of_tokens // below_of_tokens) if unit in TOKEN_UNITS else -(-rate * above // below)
        for unit, rate in rates.items()
    }


def _wider_rate(rates: Rates, unit: str) -> int | None:
    """The rate of the next wider unit that has one."""
    name = wider(unit)
    while name is not None and name not in rates:
        name = wider(name)
    return None if name is None else rates[name]


def _dearest(rates: Rates, unit: str) -> int:
    """The most that a unit may turn out to cost: its own rate; if it has none, or is left open, that of any of its kind."""
    widest, *narrowed = unit.split(":")
    if unit in rates and AUTO not in narrowed:
        return rates[unit]
    return max([rate for name, rate in rates.items() if name.partition(":")[0] == widest], default=0)


def _has_rate(rates: Rates, unit: str | None) -> bool:
    return unit is not None and (unit in rates or _wider_rate(rates, unit) is not None)


def minute_of_week(at_ms: int) -> int:
    """The minute since Monday 00:00 UTC. Unix time began on a Thursday."""
    return (at_ms // 60_000 + 3 * MINUTES_A_DAY) % (7 * MINUTES_A_DAY)
