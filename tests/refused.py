"""What a check refuses with, as a value."""

from collections.abc import Awaitable, Callable
from typing import Any

from tallygate.domain.errors import Refusal, Refused


def refusal_of(check: Callable[..., None], *arguments: Any, **named: Any) -> Refusal | None:
    """The refusal that a check raises; None where it lets pass."""
    found = outcome_of(check, *arguments, **named)
    return found if isinstance(found, Refusal) else None


def outcome_of(stage: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What a stage returns, or the refusal that it raises."""
    try:
        return stage(*arguments, **named)
    except Refused as refused:
        return refused.refusal


async def awaited(outcome: Awaitable[Any]) -> Any:
    """What a stage that waits returns, or the refusal that it raises."""
    try:
        return await outcome
    except Refused as refused:
        return refused.refusal
