"""What a check refuses with, as a value."""

from collections.abc import Callable
from typing import Any

from tallygate.domain.errors import Refusal, Refused


def refusal_of(check: Callable[..., Any], *arguments: Any, **named: Any) -> Refusal | None:
    """The refusal that a check raises; None where it lets pass."""
    try:
        check(*arguments, **named)
    except Refused as refused:
        return refused.refusal
    return None
