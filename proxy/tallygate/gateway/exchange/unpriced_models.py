"""The names of models without a price, in the log, so that an operator can price them."""

import logging
from collections import Counter
from typing import Final

NAMES_OF_AN_ORGANIZATION_MAX: Final = 10
NAMES_MAX: Final = 200
_HOUR_MS: Final = 3_600_000
_CHARS_MAX: Final = 100
_log: Final = logging.getLogger(__name__)


class UnpricedModels:
    """Logs each name once an hour, so many at most of one organization and of all: callers make them up."""

    def __init__(self) -> None:
        self._hour = -1
        self._names: set[str] = set()
        self._of: Counter[str] = Counter()

    def note(self, model: str, organization: str, policy: str, *, now_ms: int) -> None:
        """Note a request for `model`. policy: what the plan does with it."""
        hour = now_ms // _HOUR_MS
        if hour != self._hour:
            self._hour, self._names, self._of = hour, set(), Counter()
        if model in self._names or len(self._names) >= NAMES_MAX or self._of[organization] >= NAMES_OF_AN_ORGANIZATION_MAX:
            return
        self._names.add(model)
        self._of[organization] += 1
        _log.warning("no price for the model %s, asked for by %s: %s", ascii(model[:_CHARS_MAX]), organization, policy)
