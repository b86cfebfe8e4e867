"""The state of the reference limiter, as plain values."""

from dataclasses import dataclass, field
from typing import Final

from tallygate.domain.admission import AdmissionRequest, CalendarPeriod, Decision, Settlement
from tallygate.domain.money import MONEY_MAX_NANO_USD
from tallygate.domain.spend_limit import SPEND_BUCKET_MS

DAY_MS: Final = 86_400_000
AHEAD_MS: Final = 600_000  # by which a window's newest bucket may be ahead of the clock, or by
AHEAD_PART_MS: Final = SPEND_BUCKET_MS // 10  # for each bucket of its window, if that is less
ANNOUNCED_EVERY_MS: Final = 3_600_000
OTHERS_MS: Final = 1000  # only open reservations stand in the way: when one ends is unknown, but soon
NEVER_MS: Final = MONEY_MAX_NANO_USD


@dataclass(slots=True)
class Bucket:
    """A token bucket: level in units * window_ms, at the time at_ms. held: units of it that open reservations hold."""

    level: int
    at_ms: int
    held: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseMark:
    """The mark of a window that refuses.

    resume_ms    when the least amount has room
    least        amount refused since the mark was set
    refused_ms   last refusal, to the minute
    announce_ms  from when on a refusal may announce it; 0 once announced
    """

    resume_ms: int
    least: int
    refused_ms: int
    announce_ms: int
    limit: int


@dataclass(slots=True)
class Window:
    """One spend window.

    at            newest bucket seen
    idle_ms       when its month was first seen to be over
    period        of a calendar month
    announced_ms  when a pause or its end was last announced
    posted        spend by bucket, of a rolling window
    """

    at: int = 0
    period: CalendarPeriod | None = None
    spent: int = 0
    held: int = 0
    warned: int = 0
    mark: PauseMark | None = None
    announced_ms: int = 0
    idle_ms: int | None = None
    posted: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Hold:
    """An open or expired reservation. at_ms: when its lease ends, or when that was. is_deferred: its exchange was answered."""

    admission: AdmissionRequest
    decision: Decision | None
    taken: tuple[int, ...]
    granted: int
    cost: int
    prompt: int
    completion: int
    at_ms: int
    event: bytes
    is_expired: bool = False
    is_deferred: bool = False


@dataclass(slots=True)
class OrgState:
    """The state of one organization. due: when to check a reservation, a window (w|…) or a bucket (b|…)."""

    buckets: dict[str, Bucket] = field(default_factory=dict)
    open: dict[str, int] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    holds: dict[str, Hold | Settlement] = field(default_factory=dict)
    due: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """One entry of a partition's event stream."""

    event_id: str
    kind: str
    event: bytes
    settled_at_ms: int
    cost_nano_usd: int
    posted_nano_usd: int
    prompt_tokens: int
    completion_tokens: int
    flags: str
    expired_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamNotice:
    """An entry of a partition's event stream that announces a change of a spend window."""

    event_id: str
    kind: str
    event: bytes
    settled_at_ms: int
