"""What there is to know of each kind of job: where it is asked for, how long it lasts, and who follows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tallygate.dialects.background_responses import response_target
from tallygate.dialects.dialect import JobKind

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """target_of: path and query at which an upstream tells of it, from those of the request that began it, and its id.

    lasts_ms     the longest that the upstream can take
    first_ms     between the first polls, growing to `most_ms`
    """

    target_of: Callable[[str, str], str]
    lasts_ms: int
    first_ms: int
    most_ms: int


KINDS: Final = {
    JobKind.RESPONSE: Kind(target_of=response_target, lasts_ms=_DAY_MS, first_ms=1_000, most_ms=30_000),
}
