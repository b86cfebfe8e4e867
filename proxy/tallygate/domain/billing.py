"""How an organization is billed for what it used."""

from enum import StrEnum


class PeriodKind(StrEnum):
    """What is billed at once. A month has an invoice, a week a statement."""

    MONTH = "month"
    WEEK = "week"

    @property
    def document(self) -> str:
        return "invoice" if self is PeriodKind.MONTH else "statement"
