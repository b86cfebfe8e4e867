"""The contents of an invoice. All sums are integers in nano-USD; only the grand total is rounded, once, for display."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Final

from tallygate.ledger.entry import Kind
from tallygate.ledger.invoice.billing_period import BillingPeriod

_NANO_PER_CENT: Final = 10_000_000
ROUNDING_RULE: Final = "Rounded half up to the cent, once, on the grand total. Every other figure is exact."


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """The amounts of a line. cached and cache_write are parts of prompt, reasoning of completion."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano_usd: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(**{name: getattr(self, name) + getattr(other, name) for name in AMOUNT_NAMES})


AMOUNT_NAMES: Final = tuple(field.name for field in fields(Amounts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The usage of one credential with one model and capability.

    model        the one that answered, else the one asked for; "" if there is none
    correction   the reason why these entries were added later; None for original entries
    """

    credential: str
    capability: str
    model: str
    amounts: Amounts
    correction: Kind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """A month or a week of an organization, as the ledger has it now.

    usage, corrections   ordered by credential, capability and model; together they are all of the period's entries
    last_entry_ms        the time of the period's latest entry: equal figures, equal ledger; None without entries
    is_provisional       the period was not over when the invoice was computed
    """

    org: str
    name: str
    period: BillingPeriod
    usage: tuple[Line, ...]
    corrections: tuple[Line, ...]
    last_entry_ms: int | None
    is_provisional: bool

    @property
    def number(self) -> str:
        """The number, which is the same for one organization and period however often it is printed."""
        return f"{self.org}-{self.period.id}"

    @property
    def noun(self) -> str:
        """The name of the document."""
        return self.period.kind.document

    @property
    def lines(self) -> tuple[Line, ...]:
        return self.usage + self.corrections

    @property
    def total(self) -> Amounts:
        return summed(self.lines)

    def totals_by(self, label: Callable[[Line], str]) -> tuple[tuple[str, Amounts], ...]:
        """Sums of usage and corrections for each label, by label: each of these tables adds up to `total`."""
        found: defaultdict[str, Amounts] = defaultdict(Amounts)
        for line in self.lines:
            found[label(line)] += line.amounts
        return tuple(sorted(found.items()))


def summed(lines: Iterable[Line]) -> Amounts:
    return sum((line.amounts for line in lines), Amounts())


def rounded_cents(nano_usd: int) -> int:
    """Round to cents, half a cent away from zero, so that a credit rounds like the charge that it cancels."""
    cents = (abs(nano_usd) + _NANO_PER_CENT // 2) // _NANO_PER_CENT
    return -cents if nano_usd < 0 else cents


def cents_text(nano_usd: int) -> str:
    """USD with two decimals, rounded by ROUNDING_RULE: 1_005_000_000 is "1.01"."""
    cents = rounded_cents(nano_usd)
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"
