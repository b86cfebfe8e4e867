"""Requests to the limiter and its answers. Times are the limiter's own (Redis TIME), in Unix milliseconds.

They are made on every request, so they are msgspec structs: a fifth of the cost of frozen dataclasses.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from tallygate.domain.rate_limit import RateLimit
from tallygate.domain.spend_limit import SpendLimit

LEDGER_BACKLOG: Final = "ledger_backlog"  # refused_by of a request that found the partition's event stream full


class RateDemand(msgspec.Struct, frozen=True, kw_only=True):
    """Units wanted from one bucket. Within an organization, an equal `key` means the same bucket.

    The limiter cuts units to the capacity: a request larger than the bucket needs a full bucket, not an impossible one.
    """

    key: str
    limit: RateLimit
    units: int


class CalendarPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """One month of an organization, from its billing day in its time zone: [start_ms, end_ms)."""

    id: str
    start_ms: int
    end_ms: int


class SpendDemand(msgspec.Struct, frozen=True, kw_only=True):
    """A spend limit that the hold must fit. `key` is "org" or "cred:<id>", plus the limit's name; equal key, same window.

    periods    for a calendar month: the previous, current and next month, so that the server's clock chooses; else empty
    """

    key: str
    limit: SpendLimit
    periods: tuple[CalendarPeriod, ...] = ()


class AdmissionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request's demands: all are taken at once, or none.

    reservation_id       the event id, chosen before the first side effect; the same id again gets the same answer
    hold_nano_usd        the worst-case cost
    hold_min_nano_usd    with clamp: the least hold worth having (input and one output token); else equal to hold_nano_usd
    floor_nano_usd       the cost of a hold that expires before its first checkpoint, at most the grant: the request was probably
                         sent, and its upstream may have generated until the hold expired
    floor_prompt_tokens, floor_completion_tokens   the tokens that the floor stands for
    event                the usage event's JSON as it stands now, appended if the hold expires before any checkpoint
    """

    reservation_id: str
    org: str
    rate: tuple[RateDemand, ...]
    spend: tuple[SpendDemand, ...]
    hold_nano_usd: int
    hold_min_nano_usd: int
    floor_nano_usd: int
    lease_ms: int
    event: bytes
    floor_prompt_tokens: int = 0
    floor_completion_tokens: int = 0


class RateState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A bucket after the decision, in the order in which the limiter's scripts state it.

    remaining           whole units, 0 where it is overdrawn
    reset_ms            until it is full again
    retry_after_ms      until this demand would fit, 0 if it did; 1000 at most if only open reservations stand in the way: their end
                        is unknown, and returns what they held and did not use
    waits_for_others    whether only open reservations stand in the way
    """

    remaining: int
    reset_ms: int
    retry_after_ms: int = 0
    waits_for_others: bool = False


class SpendState(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A window after the decision, in the order in which the limiter's scripts state it.

    resume_at_ms    when enough spend has left for this hold to fit, exact to the bucket; 0 if it fits, -1 if it never can
                    (the hold alone is above the limit) or if only open reservations stand in the way (then retry shortly)
    """

    spent_nano_usd: int
    held_nano_usd: int
    limit_nano_usd: int
    resume_at_ms: int


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The limiter's answer to an admission request.

    refused_by          key of the demand that refused, the one with the longest wait; None if admitted
    shadow_refused_by   keys in shadow mode that would have refused
    retry_after_ms      of the demand that refused; 0 if waiting does not help, 1000 if only open reservations stand in the way
    held_nano_usd       the hold granted; below hold_nano_usd only if clamping was allowed
    rate, spend         in the order of the demands
    sent_once           whether the call was sent once: no copy of it can reach the store later
    """

    reservation_id: str
    admitted: bool
    refused_by: str | None
    shadow_refused_by: tuple[str, ...]
    retry_after_ms: int
    held_nano_usd: int
    now_ms: int
    rate: tuple[RateState, ...]
    spend: tuple[SpendState, ...]
    sent_once: bool = False


class Account(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The cost and tokens of an exchange: so far, in a checkpoint; final, in its settlement. The spool stores it unchanged.

    cost_nano_usd, prompt_tokens, completion_tokens   all 0 if nothing is owed
    event          the usage event's JSON
    is_owed        False: its settlement releases the hold
    noted_at_ms    Unix time of the last attempt to settle it; 0 if unknown
    job            JSON of its `Job` if the upstream works on: it is deferred, and this is what is charged if it is never settled
    part_of        the deferred reservation out of whose hold it is paid; it was never admitted by itself
    admitted_once  its admission was sent once, and nobody else has this account: what is spooled or copied is without it
    """

    admission: AdmissionRequest
    cost_nano_usd: int
    prompt_tokens: int = 0
    completion_tokens: int = 0
    event: bytes = b"{}"
    is_owed: bool = True
    noted_at_ms: int = 0
    job: bytes = b""
    part_of: str = ""
    admitted_once: bool = False


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """A spend threshold crossed upwards by this settlement, announced once per crossing."""

    key: str
    permille: int


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a settlement. A repeated call returns the first answer with repeated=True and without warnings.

    over_nano_usd   actual minus hold if positive: the upstream exceeded what the request asked for
    late            the hold had expired at its checkpoint; the difference was posted
    unheld          the limiter had no record of the reservation (its data was lost); the whole was posted
    sent_once       whether the call was sent once, and was the first: no copy of it can reach the store later
    """

    settled_at_ms: int
    over_nano_usd: int = 0
    late: bool = False
    unheld: bool = False
    repeated: bool = False
    warned: tuple[Warned, ...] = ()
    sent_once: bool = False


class LimitQuestion(NamedTuple):
    """Limits of one organization, to be read."""

    org: str
    rate: Sequence[RateDemand]
    spend: Sequence[SpendDemand]


class LimitStates(msgspec.Struct, frozen=True, kw_only=True):
    """Limits as they stand now, in the order of the demands.

    knows_spend   False while the store has lost spend, which is being rebuilt
    """

    now_ms: int
    knows_spend: bool
    rate: tuple[RateState, ...]
    spend: tuple["WindowState", ...]


class WindowState(msgspec.Struct, frozen=True, kw_only=True):
    """Spend and holds of one window, as the limiter enforces them now. paused_until_ms: 0 unless access is paused."""

    key: str
    spent_nano_usd: int
    held_nano_usd: int
    paused_until_ms: int
