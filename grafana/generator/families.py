"""The product's families as the dashboards' variables narrow them."""

from enum import StrEnum
from typing import Final

from grafana.generator.queries import select

ORGANIZATION: Final = 'org=~"$organization"'
CAPABILITY: Final = 'capability=~"$capability"'
EXCHANGE: Final = (ORGANIZATION, 'credential=~"$credential"', CAPABILITY)
_SERVED: Final = 'outcome!="refused"'
_MODEL: Final = (ORGANIZATION, 'model=~"$model"')


def requests(*matchers: str) -> str:
    return select("tallygate_requests_total", *EXCHANGE, *matchers)


def served() -> str:
    """Requests that were not refused."""
    return requests(_SERVED)


def tokens(*matchers: str) -> tuple[str, str]:
    """Counted, and taken back."""
    return (
        select("tallygate_tokens_total", *EXCHANGE, *matchers),
        select("tallygate_tokens_credited_total", *EXCHANGE, *matchers),
    )


def part_of_tokens(part: str) -> tuple[str, str]:
    """Cached or reasoning tokens: counted, and taken back."""
    return (
        select(f"tallygate_{part}_tokens_total", *EXCHANGE),
        select(f"tallygate_{part}_tokens_credited_total", *EXCHANGE),
    )


def spend(*matchers: str) -> tuple[str, str]:
    """USD counted, and taken back."""
    matchers = matchers or EXCHANGE
    return select("tallygate_spend_usd_total", *matchers), select("tallygate_spend_credited_usd_total", *matchers)


def spend_by_kind(*matchers: str) -> tuple[str, str]:
    """USD by the kind of unit that was paid for: counted, and taken back."""
    return (
        select("tallygate_spend_by_unit_usd_total", *matchers),
        select("tallygate_spend_by_unit_credited_usd_total", *matchers),
    )


class Viewed(StrEnum):
    """What the variable `view` chooses: the suffix of its family. Each has a query of its own, of which the other is empty, so that
    money is shown as money.
    """

    COUNTS = ""
    MONEY = "_usd"
    ANY = "(_usd)?"


def viewed(which: Viewed = Viewed.ANY) -> tuple[str, str]:
    """Requests, tokens or spend; and what was taken back of it. Requests never are.

    Tokens and spend have no outcome, so that the matcher which leaves refused requests out leaves them alone.
    """
    return _viewed("tallygate_", which, *EXCHANGE, _SERVED), _viewed("tallygate_", f"_credited{which}", *EXCHANGE)


def viewed_by_model(which: Viewed) -> tuple[str, str]:
    """The same by model, which has families of its own without credential and capability."""
    return _viewed("tallygate_model_", which, *_MODEL), _viewed("tallygate_model_", f"_credited{which}", *_MODEL)


def _viewed(prefix: str, suffix: str, *matchers: str) -> str:
    return select("", f'__name__=~"{prefix}${{view}}{suffix}_total"', *matchers)
