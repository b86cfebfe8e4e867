"""The result of one check of `tallygate doctor`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """text: a sentence for the operator."""

    check: str
    is_good: bool
    text: str
