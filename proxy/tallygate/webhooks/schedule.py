"""When a delivery is tried again: the schedule that Standard Webhooks recommends ("Deliverability and reliability")."""

from random import Random
from typing import Final

_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
# After the first, second ... attempt; the first is made at once. Ten attempts in three days and four hours.
DELAYS_MS: Final = (
    5_000,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
ATTEMPTS_MAX: Final = len(DELAYS_MS) + 1
JITTER: Final = 0.1  # a delay is up to so much longer, so that what failed together does not come together again
RETRY_AFTER_MAX_MS: Final = 24 * _HOUR


def next_attempt_ms(attempts: int, *, now_ms: int, random: Random, retry_after_ms: int | None = None) -> int | None:
    """When to try again after so many attempts; None if that was the last. Not before the receiver's own Retry-After."""
    if attempts >= ATTEMPTS_MAX:
        return None
    delay = DELAYS_MS[attempts - 1]
    delay += round(random.uniform(0, JITTER) * delay)
    return now_ms + max(delay, min(retry_after_ms or 0, RETRY_AFTER_MAX_MS))
