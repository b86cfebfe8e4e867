"""The periods by which an organization is billed."""

from enum import StrEnum


class PeriodKind(StrEnum):
    """A billing period. A month has an invoice, a week a statement."""

    MONTH = "month"
    WEEK = "week"

    @property
    def document(self) -> str:
        return "invoice" if self is PeriodKind.MONTH else "statement"
