"""Pause marks and notices of the reference limiter: when a window counts as paused, and what is announced."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from tallygate.domain.admission import SpendDemand
from tallygate.limiter.reference_spend import SpendView, crossed, move_at_rest
from tallygate.limiter.reference_state import ANNOUNCED_EVERY_MS, OrgState, PauseMark, StreamEvent, StreamNotice, Window
from tallygate.limiter.wire import threshold_amounts, window_buckets

REFUSED_NOTED_MS: Final = 60_000
PAUSE_FORGOTTEN_MS: Final = 300_000
_NOTHING: Final[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class WindowNotices:
    """The notices of one step about an organization's windows."""

    stream: list[StreamEvent | StreamNotice]
    state: OrgState
    org: str
    now: int

    def crossed(self, demand: SpendDemand, window: Window) -> list[int]:
        """Announce each threshold that spend has newly reached, and return them in thousandths."""
        reached = crossed(demand, window)
        announced = [permille for permille, _ in threshold_amounts(demand) if window.warned < permille <= reached]
        window.warned = max(window.warned, reached)
        for permille in announced:
            self._announce(
                "spend.warning", demand.key, window, demand.limit.limit_nano_usd, before={"threshold_permille": permille}
            )
        return announced

    def refused(self, spend: SpendView, least: int) -> None:
        """Note that a window refuses `least`, for which it has room at spend.resume_ms."""
        demand, window, resume = spend.demand, spend.window, spend.resume_ms
        limit = demand.limit.limit_nano_usd
        if window.mark is not None and window.mark.resume_ms <= self.now:
            self._end(demand.key, window_buckets(demand), window, limit)
        mark = window.mark
        if mark is not None and least > mark.least:
            least, resume = mark.least, mark.resume_ms
        announce_ms = mark.announce_ms if mark is not None else window.announced_ms + ANNOUNCED_EVERY_MS
        is_due = 0 < announce_ms <= self.now
        if mark is not None and (mark.resume_ms, mark.least) == (resume, least):
            if not is_due and self.now - mark.refused_ms < REFUSED_NOTED_MS:
                return
        else:
            self.state.due[f"p|{window_buckets(demand)}|{demand.key}"] = resume
        window.mark = PauseMark(
            resume_ms=resume, least=least, refused_ms=self.now, announce_ms=0 if is_due else announce_ms, limit=limit
        )
        if is_due:
            window.announced_ms = self.now
            self._announce("spend.paused", demand.key, window, limit, after={"refused_nano_usd": least, "resumes_at_ms": resume})

    def admitted(self, spend: SpendView, granted: int) -> None:
        """End a pause if an admission got what had been refused, or if nothing has been refused for a while."""
        mark = spend.window.mark
        if mark is not None and (granted >= mark.least or self.now - mark.refused_ms >= PAUSE_FORGOTTEN_MS):
            demand = spend.demand
            self._end(demand.key, window_buckets(demand), spend.window, demand.limit.limit_nano_usd)

    def end_if_over(self, member: str) -> None:
        """End the pause of a due entry's window if it is over."""
        _, buckets, key = member.split("|", 2)
        window = self.state.windows.get(key)
        if window is None or window.mark is None:
            del self.state.due[member]
        elif window.mark.resume_ms > self.now:
            self.state.due[member] = window.mark.resume_ms
        else:
            move_at_rest(window, int(buckets), self.now)
            is_over = window.period is not None and window.period.end_ms <= self.now
            self._end(key, int(buckets), window, window.mark.limit, spent=0 if is_over else window.spent)

    def _end(self, key: str, buckets: int, window: Window, limit: int, *, spent: int | None = None) -> None:
        mark, window.mark = window.mark, None
        self.state.due.pop(f"p|{buckets}|{key}", None)
        if mark is not None and mark.announce_ms == 0:
            window.announced_ms = self.now
            self._announce("spend.resumed", key, window, limit, spent=spent)

    def _announce(
        self,
        kind: str,
        key: str,
        window: Window,
        limit: int,
        *,
        before: Mapping[str, int] = _NOTHING,
        after: Mapping[str, int] = _NOTHING,
        spent: int | None = None,
    ) -> None:
        notice = {
            "type": kind,
            "org": self.org,
            "limit": key,
            **before,
            "spent_nano_usd": window.spent if spent is None else spent,
            "held_nano_usd": window.held,
            "limit_nano_usd": limit,
            **after,
            "at_ms": self.now,
        }
        name = ".".join([kind, *map(str, before.values())])
        event_id = f"ntc-{self.org}-{key}-{name}-{self.now}"
        self.stream.append(
            StreamNotice(event_id=event_id, kind="notice", event=msgspec.json.encode(notice), settled_at_ms=self.now)
        )
