"""Requests and answers as the scripts see them, laid out in the scripts' heads.

Words with a space between them where every exchange sends them, which Lua's patterns read faster than JSON; else JSON arrays.
"""

from collections.abc import Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Final

import msgspec

from tallygate.domain.admission import (
    LEDGER_BACKLOG,
    Account,
    AdmissionRequest,
    Decision,
    LimitStates,
    RateDemand,
    RateState,
    Settlement,
    SpendDemand,
    SpendState,
    Warned,
    WindowState,
)
from tallygate.domain.money import MONEY_MAX_NANO_USD
from tallygate.domain.spend_limit import SPEND_BUCKET_MS, WindowKind

WINDOW_MS_MAX: Final = 92 * 86_400_000  # a window that was idle for its whole length is walked in one script call
_NUMBER_MAX: Final = MONEY_MAX_NANO_USD
_LIMITS_KEPT_MAX: Final = 20_000  # whose words are remembered, of each kind: about 500 bytes each
_CALENDAR_MONTH: Final = WindowKind.CALENDAR_MONTH  # read once: a member of an enum takes a call to look up

_AMOUNTS: Final = (
    *("hold_nano_usd", "hold_min_nano_usd", "floor_nano_usd"),
    *("floor_prompt_tokens", "floor_completion_tokens", "lease_ms"),
)
_amounts: Final = attrgetter(*_AMOUNTS)
_POSTED: Final = ("cost_nano_usd", "prompt_tokens", "completion_tokens")
_posted: Final = attrgetter(*_POSTED)

_encode: Final = msgspec.json.Encoder().encode
_decode_numbers: Final = msgspec.json.Decoder(list[int]).decode
_decode_states: Final = msgspec.json.Decoder(tuple[int, int, tuple[RateState, ...], list[tuple[int, int, int]]]).decode


class _Decided(msgspec.Struct, frozen=True, array_like=True):
    """The answer of admit.lua."""

    now_ms: int
    admitted: bool
    refusing: int
    retry_after_ms: int
    granted: int
    shadowed: tuple[int, ...]
    rate: tuple[RateState, ...]
    spend: tuple[SpendState, ...]


_decode_decision: Final = msgspec.json.Decoder(_Decided).decode


def _text(value: object) -> str:
    return _encode(value).decode()


def window_buckets(demand: SpendDemand) -> int:
    """The number of buckets that count: those of the window and the partly expired one. 0 for a calendar month."""
    limit = demand.limit
    return limit.window_ms // SPEND_BUCKET_MS + 1 if limit.kind is WindowKind.ROLLING else 0


def threshold_amounts(demand: SpendDemand) -> tuple[tuple[int, int], ...]:
    """Each threshold in thousandths, with the spend that reaches it. A limit of zero has none: it is always reached."""
    limit = demand.limit.limit_nano_usd
    return tuple([(permille, -(-limit * permille // 1000)) for permille in demand.limit.warn_at_permille]) if limit else ()


def require_whole(field: str, amount: int) -> int:
    """Raise ValueError, naming the field, for a number of 2**53 or more: Lua counts in doubles."""
    if not 0 <= amount <= _NUMBER_MAX:
        raise ValueError(f"{field} must be between 0 and {_NUMBER_MAX}, got {amount}")
    return amount


def _require_each_whole(fields: Sequence[str], amounts: Sequence[int]) -> None:
    for field, amount in zip(fields, amounts, strict=True):
        require_whole(field, amount)


def check_admission(request: AdmissionRequest, words: "DemandWords | None" = None) -> None:
    """Raise ValueError naming a field that the limiter cannot count. words: of its demands, if these were checked for them."""
    hold, hold_min, floor = request.hold_nano_usd, request.hold_min_nano_usd, request.floor_nano_usd
    # The largest number has all bits set: one of several is above it, or below 0, if and only if all of them together are.
    if (
        not 0
        <= hold | hold_min | floor | request.floor_prompt_tokens | request.floor_completion_tokens | request.lease_ms
        <= _NUMBER_MAX
    ):
        _require_each_whole(_AMOUNTS, _amounts(request))
    if hold_min > hold:
        raise ValueError(f"hold_min_nano_usd must not exceed hold_nano_usd, got {hold_min} > {hold}")
    if words is None:
        check_demands(request.rate, request.spend)
    else:
        for place, _ in words.rest:
            _check_units(request.rate[place])


def check_demands(rate: Sequence[RateDemand], spend: Sequence[SpendDemand]) -> None:
    for demand in rate:
        _check_units(demand)
    check_spend(spend)


def _check_units(demand: RateDemand) -> None:
    if not 0 <= demand.units <= _NUMBER_MAX:
        require_whole(f"units of {demand.key}", demand.units)


def check_spend(spend: Sequence[SpendDemand]) -> None:
    for demand in spend:
        if demand.limit.window_ms > WINDOW_MS_MAX:
            raise ValueError(f"window_ms of {demand.key} must be at most {WINDOW_MS_MAX}")
        if demand.limit.kind is _CALENDAR_MONTH and not demand.periods:
            raise ValueError(f"periods of {demand.key} must not be empty: the limiter's clock chooses among them")


def check_account(account: Account) -> None:
    if not 0 <= account.cost_nano_usd | account.prompt_tokens | account.completion_tokens <= _NUMBER_MAX:  # as above
        _require_each_whole(_POSTED, _posted(account))
    if not account.is_owed and (account.cost_nano_usd or account.prompt_tokens or account.completion_tokens):
        raise ValueError("a release owes nothing: cost and tokens must be 0")


@lru_cache(_LIMITS_KEPT_MAX)
def _rate_words(key: str, taken: int, bucket: tuple[int, int, int, int]) -> tuple[str, str]:
    """What stands before the units of a demand, and behind them: the same for every request under the limit."""
    return f",{_text(key)},{taken:d},", "".join([f",{number:d}" for number in bucket])


@lru_cache(_LIMITS_KEPT_MAX)
def _spend_words(demand: SpendDemand) -> str:
    limit = demand.limit
    words = (
        demand.key,
        0 if limit.kind is WindowKind.ROLLING else 1,
        limit.limit_nano_usd,
        window_buckets(demand),
        1 if limit.shadow else 0,
        "".join([f"{permille}:{amount}," for permille, amount in threshold_amounts(demand)]),
        "".join([f"{period.id}:{period.start_ms}:{period.end_ms}," for period in demand.periods]),
    )
    return f",{_text(words)[1:-1]}"


class DemandWords(msgspec.Struct, frozen=True, eq=False):
    """What all requests under the same limits demand, in words, up to the units that only a request states.

    first   up to the first of these units
    rest    the place of each demand with such units among those on rates, and the words behind its units
    """

    first: str
    rest: tuple[tuple[int, str], ...]

    def of(self, rate: Sequence[RateDemand]) -> bytes:
        """The demands of a request."""
        words = self.first
        for place, behind in self.rest:
            words += f"{rate[place].units}{behind}"
        return words.encode()


def demand_words(org: str, rate: Sequence[RateDemand], spend: Sequence[SpendDemand], stated: Sequence[int] = ()) -> DemandWords:
    """Demands in words: demands.lua has their layout. stated: places of the rates whose units each request states, ascending.

    Raises ValueError for what the limiter cannot count.
    """
    check_demands(rate, spend)
    pieces: list[str] = []
    words = [f"[{_text(org)},{len(rate)}"]
    for place, demand in enumerate(rate):
        of = demand.limit
        bucket = (of.capacity, of.refill_units, of.window_ms, of.shadow)
        before, behind = _rate_words(demand.key, of.quantity.taken, bucket)
        words.append(before)
        if place in stated:
            pieces.append("".join(words))
            words = [behind]
        else:
            words += str(demand.units), behind
    for window in spend:
        words.append(_spend_words(window))
    words.append("]")
    pieces.append("".join(words))
    return DemandWords(pieces[0], tuple([(place, pieces[number]) for number, place in enumerate(stated, 1)]))


def encode_demands(request: AdmissionRequest) -> bytes:
    return encode_limits(request.org, request.rate, request.spend)


def encode_limits(org: str, rate: Sequence[RateDemand], spend: Sequence[SpendDemand]) -> bytes:
    return demand_words(org, rate, spend).of(rate)


def encode_windows(org: str, spend: Sequence[SpendDemand]) -> bytes:
    """Encode demands without an exchange, to read or restore windows."""
    return encode_limits(org, (), spend)


def encode_posted(posted: Sequence[tuple[int, int]]) -> bytes:
    return _encode(posted)


def encode_sweep(orgs: Sequence[str], most: int, memory_ms: int) -> bytes:
    return _encode((orgs, most, memory_ms))


def encode_admit(request: AdmissionRequest, *, takes: bool, is_full: bool, memory_ms: int) -> bytes:
    return b"%d %d %d %d %d %d %d %d %d %d %b" % (
        request.lease_ms,
        request.hold_nano_usd,
        request.hold_min_nano_usd,
        request.floor_nano_usd,
        request.floor_prompt_tokens,
        request.floor_completion_tokens,
        memory_ms,
        is_full,
        bool(request.spend),
        takes,
        request.reservation_id.encode(),
    )


def encode_checkpoint(account: Account) -> bytes:
    admission = account.admission
    return _encode(
        (
            admission.reservation_id,
            admission.lease_ms,
            require_whole("cost_nano_usd", account.cost_nano_usd),
            require_whole("prompt_tokens", account.prompt_tokens),
            require_whole("completion_tokens", account.completion_tokens),
        )
    )


def encode_settle(account: Account, *, ended_ms: int, memory_ms: int) -> bytes:
    admission = account.admission
    return b"%d %d %d %d %d %d %d %b" % (
        not account.is_owed,
        account.cost_nano_usd,
        account.prompt_tokens,
        account.completion_tokens,
        ended_ms,
        memory_ms,
        bool(admission.spend),
        admission.reservation_id.encode(),
    )


def encode_defer(account: Account, *, has_spend: bool) -> bytes:
    admission = account.admission
    return _encode(
        (
            admission.reservation_id,
            require_whole("lease_ms", admission.lease_ms),
            require_whole("hold_nano_usd", admission.hold_nano_usd),
            require_whole("cost_nano_usd", account.cost_nano_usd),
            require_whole("prompt_tokens", account.prompt_tokens),
            require_whole("completion_tokens", account.completion_tokens),
            1 if has_spend else 0,
        )
    )


def encode_reanchor(org: str, *, lease_ms: int, lease_max_ms: int, memory_ms: int) -> bytes:
    return _encode((org, lease_ms, lease_max_ms, memory_ms))


def encode_ids(ids: Sequence[str]) -> bytes:
    return _encode(ids)


def encode_withdraw(admission: AdmissionRequest, *, ended_ms: int) -> bytes:
    return _encode((admission.org, admission.reservation_id, ended_ms))


def decode_decision(request: AdmissionRequest, answer: bytes, *, sent_once: bool) -> Decision:
    decided = _decode_decision(answer)
    refusing = decided.refusing
    return Decision(
        reservation_id=request.reservation_id,
        admitted=decided.admitted,
        refused_by=None if not refusing else LEDGER_BACKLOG if refusing < 0 else _key_of(request, refusing),
        shadow_refused_by=tuple([_key_of(request, number) for number in decided.shadowed]) if decided.shadowed else (),
        retry_after_ms=decided.retry_after_ms,
        held_nano_usd=decided.granted,
        now_ms=decided.now_ms,
        rate=decided.rate,
        spend=decided.spend,
        sent_once=sent_once,
    )


def _key_of(request: AdmissionRequest, number: int) -> str:
    """The key of a demand, of those on rates and then those on spend, from 1."""
    rates = len(request.rate)
    return request.rate[number - 1].key if number <= rates else request.spend[number - 1 - rates].key


def decode_settlement(admission: AdmissionRequest, answer: bytes, *, repeated: bool, sent_once: bool) -> Settlement:
    settled_at_ms, over, late, unheld, *crossed = _decode_numbers(answer)
    warned: list[Warned] = []
    if crossed and not repeated:
        for index, permille in zip(crossed[::2], crossed[1::2], strict=True):
            warned.append(Warned(key=admission.spend[index - 1].key, permille=permille))
    return Settlement(
        settled_at_ms=settled_at_ms,
        over_nano_usd=over,
        late=late == 1,
        unheld=unheld == 1,
        repeated=repeated,
        warned=tuple(warned),
        sent_once=sent_once,
    )


def decode_limits(spend: Sequence[SpendDemand], answer: bytes) -> LimitStates:
    now_ms, is_open, rate, windows = _decode_states(answer)
    states = [
        WindowState(key=demand.key, spent_nano_usd=spent, held_nano_usd=held, paused_until_ms=paused)
        for demand, (spent, held, paused) in zip(spend, windows, strict=True)
    ]
    return LimitStates(now_ms=now_ms, knows_spend=is_open == 1, rate=rate, spend=tuple(states))
