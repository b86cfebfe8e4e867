"""The price of a model name at an instant."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from tallygate.config.call_rates import CallRates, with_call_rates
from tallygate.config.routing import Families, Routing
from tallygate.config.surcharges import Surcharge, surcharge_of, surcharged
from tallygate.domain.model_patterns import matches_any
from tallygate.domain.price import MINUTES_A_DAY, Price, minute_of_week
from tallygate.domain.routed_price import RoutedPrice, routed_price

MODEL_CHARS_MAX: Final = 256
FOREVER_MS: Final = 1 << 62
LOOKUPS_MAX: Final = 4_096  # clients choose the names: beyond it the cache is emptied

_PROVIDER_PREFIX: Final = re.compile(r"(?:models/|publishers/[a-z]+/models/|[a-z][a-z0-9_-]*/)", re.ASCII)
_GLOO: Final = re.compile(r"gloo-(?:openai|anthropic|google|xai|mistral|deepseek|meta|baai)-(.+)", re.ASCII)
_GLOO_OWN_NAME: Final = re.compile(r"gloo-((?:deepseek|mistral)-.+)", re.ASCII)  # the family is part of the model's name
_BEDROCK: Final = re.compile(
    r"(?:(?:us|us-gov|eu|apac|au|ca|jp|global)\.)?(?:anthropic|mistral|deepseek|openai)\.(.+?)(?:-v\d+(?::\d+)?)?", re.ASCII
)
_DATED: Final = re.compile(
    r"(.+?)(?:"
    r"[-@](?:19|20)\d{6}"  # claude-sonnet-4-5-20250929, claude-sonnet-4-5@20250929
    r"|-20\d\d-\d\d-\d\d"  # gpt-4o-2024-08-06
    r"|-(?:0[1-9]|1[0-2])\d\d"  # gpt-4-0613, mistral-small-0312: month first
    r"|-2\d(?:0[1-9]|1[0-2])"  # mistral-large-2512: year first
    r"|-preview-\d\d-(?:20)?\d\d"  # gemini-2.5-flash-preview-09-2025, gemini-2.5-pro-preview-05-06
    r"|-00\d"  # gemini-2.0-flash-001
    r"|-latest"
    r"|@default"  # at Vertex
    r"|:(?:19|20)\d{6}-v\d+"  # gpt-3.5-turbo-instruct:20230824-v2
    r")",
    re.ASCII,
)
_FINE_TUNED: Final = re.compile(r"(ft:[^:]+):.+", re.ASCII)  # ft:gpt-4o-2024-08-06:organization:suffix:id
_VERSION_FIRST: Final = re.compile(r"claude-([4-9](?:[.-]\d)?)-([a-z]+)", re.ASCII)  # as in OpenRouter's answers
_ANY: Final = ("*",)
_VERSION_DOT: Final = re.compile(r"(?<=\d)\.(?=\d)")


@dataclass(frozen=True, slots=True)
class Series:
    """The rows of one name, oldest first.

    reaches_back   the first one also prices what came before it
    is_upstreams   they are of an upstream's own catalogue
    """

    prices: tuple[Price, ...]
    reaches_back: bool
    is_upstreams: bool = False

    def at(self, at_ms: int) -> Price | None:
        """The row in force."""
        if self.prices[-1].effective_ms <= at_ms:  # nearly always
            return self.prices[-1]
        index = bisect_right(self.prices, at_ms, key=lambda price: price.effective_ms)
        return self.prices[index - 1] if index else self.prices[0] if self.reaches_back else None

    @property
    def begins_ms(self) -> int:
        return 0 if self.reaches_back else max(0, self.prices[0].effective_ms)

    def surcharged(self, model: str, surcharges: tuple[Surcharge, ...]) -> "Series":
        return replace(self, prices=surcharged(self.prices, model, surcharges))


class PriceCatalogue:
    """Prices by model, each with effective dates. Immutable except for a bounded cache of lookups; a reload builds a new one.

    A name is looked up in this order:
    1. a row of the operator's for exactly this name: agreed, so it overrides everything
    2. a row of the upstream's own catalogue for exactly this name: stated by the party that bills it
    3. an alias of the operator's: a reviewed statement that two names cost the same
    4. the name without its provider prefix or dated suffix, looked up as in 1 to 3: a guess, good for new snapshots of known models
    5. the list prices (`listed`) by this name, an alias, and plainer forms

    A row that is not yet in force does not hide the next source. A catalogue without `listed` is itself a list: the first row of a
    name also prices what came before it, such as a preview, or a request by a clock that is behind.
    """

    def __init__(
        self,
        prices: Iterable[Price],
        aliases: Mapping[str, str] | None = None,
        *,
        routing: Routing = Routing(),  # noqa: B008  # immutable
        upstream_prices: Iterable[Price] = (),
        calls: tuple[CallRates, ...] = (),
        surcharges: tuple[Surcharge, ...] = (),
        reviewed_ms: int | None = None,
        updated_since: Mapping[str, int] = MappingProxyType({}),
        listed: "PriceCatalogue | None" = None,
    ) -> None:
        """aliases: name to priced name. calls: what tools of a provider cost where a row does not say; also those of `listed`.

        surcharges    factors of a plainer name's price; those of `listed` come after
        reviewed_ms   when the rows were last compared with their sources; None: nobody says
        updated_since   by model, the first moment from which its rows are not the shipped ones
        """
        self.updated_since = updated_since
        self._prices = tuple(prices)
        self._aliases = dict(aliases or {})
        self._listed = listed if listed is None or not calls else listed.with_calls_before(calls)
        self._calls = calls if self._listed is None else self._listed.calls
        self._surcharges = surcharges
        self._reviewed_ms = reviewed_ms
        self.routing = routing
        self._rows = _by_model(self._completed(self._prices), reach_back=self._listed is None)
        self._upstream_rows = _by_model(self._completed(upstream_prices), is_upstreams=True)
        self._lookups: dict[tuple[str, str], tuple[Series, ...]] = {}
        self._hourly = {price.model for price in self.rows() if any(rule.is_timed for rule in price.rules)}
        self._marks = sorted({minute for price in self.rows() for rule in price.rules for minute in rule.utc_minutes or ()})
        self._changes = sorted({price.effective_ms for price in self.rows()})
        self._dearest: dict[tuple[int, int, int, tuple[str, ...]], RoutedPrice | None] = {}

    def with_upstream(self, prices: Iterable[Price], families: Families) -> "PriceCatalogue":
        """Return this catalogue with the rows of upstreams' catalogues in second place, and their families."""
        return PriceCatalogue(
            self._prices,
            self._aliases,
            routing=self.routing.with_listed(families),
            upstream_prices=prices,
            calls=() if self._listed is not None else self._calls,
            surcharges=self._surcharges,
            reviewed_ms=self._reviewed_ms,
            listed=self._listed,
        )

    def with_calls_before(self, calls: tuple[CallRates, ...]) -> "PriceCatalogue":
        """Return this list with other rates of calls, which win over its own."""
        return PriceCatalogue(
            self._prices,
            self._aliases,
            routing=self.routing,
            calls=(*calls, *self._calls),
            surcharges=self._surcharges,
            reviewed_ms=self._reviewed_ms,
            updated_since=self.updated_since,
        )

    def updated(self, prices: Iterable[Price], reviewed_ms: int | None) -> "PriceCatalogue":
        """Return this list with other rows for the models that `prices` name, each from the first of its other rows on."""
        rows = sorted(prices, key=lambda price: price.effective_ms, reverse=True)
        since = {price.model: price.effective_ms for price in rows}
        return PriceCatalogue(
            [*rows, *[price for price in self._prices if price.effective_ms < since.get(price.model, FOREVER_MS)]],
            self._aliases,
            routing=self.routing,
            calls=self._calls,
            surcharges=self._surcharges,
            reviewed_ms=max([each for each in (reviewed_ms, self._reviewed_ms) if each is not None], default=None),
            updated_since={**self.updated_since, **since},
        )

    @property
    def calls(self) -> tuple[CallRates, ...]:
        return self._calls

    @property
    def surcharges(self) -> tuple[Surcharge, ...]:
        return self._surcharges if self._listed is None else (*self._surcharges, *self._listed.surcharges)

    @property
    def reviewed_ms(self) -> int | None:
        """When prices were last compared with their sources: the newest of all layers."""
        below = None if self._listed is None else self._listed.reviewed_ms
        return max([each for each in (self._reviewed_ms, below) if each is not None], default=None)

    @property
    def listed(self) -> "PriceCatalogue | None":
        """The list prices, which come last."""
        return self._listed

    def agrees(self, model: str, at_ms: int) -> bool:
        """Return whether the operator has a row of exactly this name in force: it prices whatever answers to that name."""
        series = self._rows.get(model)
        return self._listed is not None and series is not None and series.at(at_ms) is not None

    def _completed(self, prices: Iterable[Price]) -> Iterator[Price]:
        for price in prices:
            yield with_call_rates(price, self._calls, tuple(plainer_names(price.model))) if self._calls else price

    def models(self) -> Iterator[str]:
        """Every priced name, without aliases."""
        listed = () if self._listed is None else self._listed.models()
        yield from dict.fromkeys([*self._rows, *self._upstream_rows, *listed])

    def reachable_names(self) -> Iterator[str]:
        """Every name that `routing` may use for a reachable model."""
        for model in self.models():
            yield from self._names_of(model)

    def rows(self) -> Iterator[Price]:
        """Every price, whoever states it, in force or not."""
        for series in (*self._rows.values(), *self._upstream_rows.values()):
            yield from series.prices
        if self._listed is not None:
            yield from self._listed.rows()

    def __contains__(self, model: object) -> bool:
        is_listed = self._listed is not None and model in self._listed
        return is_listed or model in self._rows or model in self._upstream_rows or model in self._aliases

    def find(self, model: str, at_ms: int, *, asked: str = "") -> Price | None:
        """The price in force, in the order above. None if unknown.

        asked   the name to which `model` answered, whose region is charged: Bedrock answers `us.anthropic.…` with the plain name
        """
        candidates = self._lookups.get((model, asked))
        if candidates is None:
            candidates = self.candidates(model, asked=asked)
        for series in candidates:
            price = series.at(at_ms)
            if price is not None:
                return price.starting_at(minute_of_week(at_ms)) if price.model in self._hourly else price
        return None

    def row(self, model: str, at_ms: int) -> Price | None:
        """The row in force, with its rates of all hours of the day. None if unknown."""
        return next((price for series in self.candidates(model) if (price := series.at(at_ms)) is not None), None)

    def rows_of(self, model: str) -> "Series | None":
        """The rows of exactly this name; None if there are none."""
        return self._rows.get(model)

    def begins_ms(self, model: str) -> int | None:
        """The first instant at which a row of exactly this name prices a request; None without such a row."""
        found = [series.begins_ms for rows in (self._rows, self._upstream_rows) if (series := rows.get(model)) is not None]
        if self._listed is not None and (listed := self._listed.begins_ms(model)) is not None:
            found.append(listed)
        return min(found, default=None)

    def candidates(self, model: str, *, asked: str = "") -> tuple["Series", ...]:
        """Rows that may price a name, best first: of each, the one in force, if any. asked: as in `find`."""
        if len(model) > MODEL_CHARS_MAX:
            return ()
        found: list[Series] = []
        for name in plainer_names(model):
            alias = self._aliases.get(name, "")
            aliased = self._rows.get(alias) or (self._listed.rows_of(alias) if self._listed is not None else None)
            priced = [series for series in (self._rows.get(name), self._upstream_rows.get(name), aliased) if series is not None]
            found += priced if name == model else [series.surcharged(model, self.surcharges) for series in priced]
        if asked and surcharge_of(model, self.surcharges) is None:
            found = [series.surcharged(asked, self.surcharges) for series in found]
        if self._listed is not None:
            found.extend(self._listed.candidates(model, asked=asked))
        if len(self._lookups) >= LOOKUPS_MAX:
            self._lookups.clear()
        candidates = tuple(found)
        self._lookups[model, asked] = candidates
        return candidates

    def dearest(self, at_ms: int, *, family: str | None = None) -> RoutedPrice | None:
        """The bound of every reachable model, for requests whose model the provider chooses. None if nothing is priced.

        `routing` defines the reachable models of that family; without an entry, all models are.
        """
        return self._bound_of(self.routing.patterns(family) or _ANY, at_ms)

    def dearest_of_all(self, at_ms: int) -> RoutedPrice | None:
        """The bound of every priced model, for requests with a model that the gateway cannot see."""
        bound = self._bound_of(_ANY, at_ms)
        return None if bound is None else replace(bound, every_output_max=None, default_output_max=None)

    def _bound_of(self, patterns: tuple[str, ...], at_ms: int) -> RoutedPrice | None:
        day, minute = divmod(minute_of_week(at_ms), MINUTES_A_DAY)
        key = (bisect_right(self._changes, at_ms), day, bisect_right(self._marks, minute), patterns)
        if key not in self._dearest:  # at most one entry for each change of prices, in time or in the week, and family
            reachable = [
                price
                for price in self._in_force_now(at_ms)
                if any(matches_any(name, patterns) for name in self._names_of(price.model))
            ]
            self._dearest[key] = routed_price(reachable, default_output_max=self.routing.max_output_tokens)
        return self._dearest[key]

    def _names_of(self, model: str) -> Iterator[str]:
        """The names of a priced model; for an upstream's row also the plainer forms that prices.yaml may use."""
        return plainer_names(model) if model in self._upstream_rows else iter((model,))

    def _in_force_now(self, at_ms: int) -> Iterator[Price]:
        for model in self.models():
            price = self.find(model, at_ms)
            if price is not None:
                yield price


def plainer_names(model: str) -> Iterator[str]:
    """The name itself, then plainer forms of it, to be tried in this order; the first with a price decides."""
    seen: set[str] = set()
    pending = [model]
    while pending:
        name = pending.pop(0)
        if name in seen:
            continue
        seen.add(name)
        yield name
        pending.extend(_one_step_plainer(name))


def _one_step_plainer(name: str) -> Iterator[str]:
    prefix = _PROVIDER_PREFIX.match(name)
    if prefix is not None and prefix.end() < len(name):
        yield name[prefix.end() :]
    for pattern in (_GLOO_OWN_NAME, _GLOO, _BEDROCK):
        match = pattern.fullmatch(name)
        if match is not None:
            yield match[1]
    if name.startswith("claude-") and "." in name:
        yield _VERSION_DOT.sub("-", name)  # claude-sonnet-4.5 is claude-sonnet-4-5 at Anthropic
    turned = _VERSION_FIRST.fullmatch(name)
    if turned is not None:
        yield f"claude-{turned[2]}-{turned[1]}"
    tuned = _FINE_TUNED.fullmatch(name)
    if tuned is not None:
        yield tuned[1]
    dated = _DATED.fullmatch(name)
    if dated is not None:
        yield dated[1]


def _by_model(prices: Iterable[Price], *, reach_back: bool = False, is_upstreams: bool = False) -> dict[str, Series]:
    found: dict[str, list[Price]] = {}
    for price in prices:
        found.setdefault(price.model, []).append(price)
    return {
        model: Series(tuple(sorted(series, key=lambda price: price.effective_ms)), reach_back, is_upstreams)
        for model, series in found.items()
    }
