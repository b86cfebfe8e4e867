"""What `tallygate check` notes about prices: how old list prices are, and which models were asked for lately that have none."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from tallygate.app.configuration import prices_of
from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.settings import Settings
from tallygate.domain.organization import UnknownModelPolicy
from tallygate.telemetry.unpriced_models import DAYS_KEPT, DIRECTORY, UNPRICED_UNITS, UnpricedModel, unpriced_lately

_MODELS_SHOWN: Final = 50
_ORGANIZATIONS_SHOWN: Final = 3
_OUTCOMES: Final = {
    UnknownModelPolicy.REFUSE.value: "refused",
    UnknownModelPolicy.PRICE_AS.value: "charged at another model's price",
    UnknownModelPolicy.UNPRICED.value: "served for nothing",
    UNPRICED_UNITS: "no rate for something that it used, see the log and the flag unpriced_units",
}


def price_notes(settings: Settings, now: datetime) -> Iterator[str]:
    """One sentence each. settings: of a valid configuration."""
    prices = prices_of(settings)
    yield _age(prices, now)
    yield from _unpriced(settings, prices, round(now.timestamp() * 1000))


def _age(prices: PriceCatalogue, now: datetime) -> str:
    if prices.reviewed_ms is None:
        return "prices.yaml does not say when its prices were last reviewed"
    day = datetime.fromtimestamp(prices.reviewed_ms / 1000, UTC).date()
    days = (now.date() - day).days
    return f"list prices were reviewed on {day}, {days} days ago; compare them with: tallygate prices diff"


def _unpriced(settings: Settings, prices: PriceCatalogue, now_ms: int) -> Iterator[str]:
    """Models that were asked for in the last days. One that has a price by now is left out."""
    directory = settings.data_dir / DIRECTORY
    try:
        found = unpriced_lately(directory, now_ms=now_ms)
    except FileNotFoundError:
        yield (
            f"models asked for without a price are not known here, since no gateway has served from {settings.data_dir}: "
            "give its --data-dir, or see tallygate_unknown_models_total"
        )
        return
    except OSError as error:
        yield f"models asked for without a price cannot be read from {directory}: {error.strerror}"
        return
    by_model: dict[str, list[UnpricedModel]] = {}
    for each in found:
        if each.policy == UNPRICED_UNITS or prices.find(each.model, now_ms) is None:
            by_model.setdefault(each.model, []).append(each)
    for model, asked in list(by_model.items())[:_MODELS_SHOWN]:
        yield f"{model!a} was asked for by {_organizations(asked)} without a price, last on {_day(asked[0])}: {_outcomes(asked)}"
    if len(by_model) > _MODELS_SHOWN:
        yield f"{len(by_model) - _MODELS_SHOWN} more models were asked for without a price in the last {DAYS_KEPT} days"


def _organizations(asked: Sequence[UnpricedModel]) -> str:
    names = list(dict.fromkeys(each.org for each in asked))
    more = len(names) - _ORGANIZATIONS_SHOWN
    return ", ".join(names[:_ORGANIZATIONS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _outcomes(asked: Sequence[UnpricedModel]) -> str:
    return "; ".join(dict.fromkeys(_OUTCOMES.get(each.policy, each.policy) for each in asked))


def _day(found: UnpricedModel) -> str:
    return f"{datetime.fromtimestamp(found.at_ms / 1000, UTC).date()}"
