"""The limiter in Redis: one script call for each decision. The scripts decide; this file only encodes, sends and decodes."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from itertools import chain
from typing import Any, Final

from tallygate.domain.admission import (
    Account,
    AdmissionRequest,
    Decision,
    LimitQuestion,
    LimitStates,
    RateDemand,
    Settlement,
    SpendDemand,
    WindowState,
)
from tallygate.domain.errors import LimiterWipedError, StoreError
from tallygate.limiter import wire
from tallygate.limiter.keys import OrgKeys, org_keys
from tallygate.limiter.limit_reading import LimitReading
from tallygate.limiter.port import ReservationEndedError
from tallygate.limiter.script import Scripts, ScriptStore

ENDED_MS: Final = 600_000  # how long an ended reservation keeps its answer for repeated calls
PART_ENDED_MS: Final = 60_000  # the same of a part: there may be a million, and the ledger is asked before one is settled again
EXPIRED_MS: Final = 86_400_000  # how long an expired one waits for its late settlement
ORGS_CACHED_MAX: Final = 100_000
GROUPS_AT_ONCE: Final = 4  # of reservations that one call forgets: a script blocks every other caller

_DECIDED, _REPEATED, _WIPED, _ENDED = 0, 1, 2, 3  # what admit.lua and settle.lua answer; the first: now
_CHARGED = 1  # of withdraw.lua: the lease is over, and its input was charged
_UNKNOWN = 3  # of settle.lua: the reservation is not known, so its demands are needed after all


class RedisLimiter:
    """Implements `Limiter` over a ScriptStore.

    now_ms       for tests only: the time that scripts take instead of the server's
    """

    def __init__(
        self,
        store: ScriptStore,
        scripts: Scripts,
        *,
        ended_ms: int = ENDED_MS,
        expired_ms: int = EXPIRED_MS,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._store = store
        self._scripts = scripts
        self._is_full = False
        self._ended_ms = ended_ms
        self._expired_ms = expired_ms
        self._now_ms = now_ms
        self._keys: dict[str, OrgKeys] = {}

    def admit(self, request: AdmissionRequest, words: wire.DemandWords | None = None) -> Coroutine[Any, Any, Decision]:
        return self._decide(request, words, takes=True)

    def preview(self, request: AdmissionRequest) -> Coroutine[Any, Any, Decision]:
        return self._decide(request, None, takes=False)

    def close_for_backlog(self, is_full: bool) -> None:  # noqa: FBT001 - what a watch reports
        """Admit nothing while as much waits for the ledger as may (backlog.py)."""
        self._is_full = is_full

    async def _decide(self, request: AdmissionRequest, words: wire.DemandWords | None, *, takes: bool) -> Decision:
        wire.check_admission(request, words)
        head = wire.encode_admit(request, takes=takes, is_full=self._is_full, memory_ms=self._expired_ms)
        demands = wire.encode_demands(request) if words is None else words.of(request.rate)
        args = (self._time(), head, demands, request.event)
        resent = self._store.resent
        code, answer = await self._store.run_script(self._scripts.admit, self._keys_of(request.org).all, args)
        if code == _WIPED:
            raise _wiped(request.org)
        if code == _ENDED:
            raise ReservationEndedError(f"reservation {request.reservation_id} has ended: {answer.decode()}")
        return wire.decode_decision(request, answer, sent_once=code == _DECIDED and self._store.resent == resent)

    async def checkpoint(self, accounts: Sequence[Account]) -> None:
        time = self._time()
        calls = [
            self._store.run_script(
                self._scripts.checkpoint,
                self._keys_of(account.admission.org).all,
                (time, wire.encode_checkpoint(account), account.event),
            )
            for account in accounts
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)  # each is sent, whatever becomes of its neighbours
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def settle(self, account: Account) -> Settlement:
        wire.check_account(account)
        admission = account.admission
        ended_ms = min(self._ended_ms, PART_ENDED_MS) if account.part_of else self._ended_ms
        head = wire.encode_settle(account, ended_ms=ended_ms, memory_ms=self._expired_ms)
        keys, time, part_of = self._keys_of(admission.org).all, self._time(), account.part_of.encode()
        demands = wire.encode_demands(admission) if account.part_of else b""
        resent = self._store.resent
        code, answer = await self._store.run_script(self._scripts.settle, keys, (time, head, demands, account.event, part_of))
        if code == _UNKNOWN:
            args = (time, head, wire.encode_demands(admission), account.event, part_of)
            code, answer = await self._store.run_script(self._scripts.settle, keys, args)
        if code == _WIPED:
            raise _wiped(admission.org)
        sent_once = code == _DECIDED and self._store.resent == resent
        return wire.decode_settlement(admission, answer, repeated=code == _REPEATED, sent_once=sent_once)

    async def defer(self, account: Account) -> Settlement:
        wire.check_account(account)
        return await self._defer(account, has_spend=bool(account.admission.spend))

    async def hold_again(self, account: Account) -> None:
        """Hold a deferred exchange that the store has lost, while its partition is still closed."""
        await self._defer(account, has_spend=False)

    async def _defer(self, account: Account, *, has_spend: bool) -> Settlement:
        admission = account.admission
        head, keys, time = wire.encode_defer(account, has_spend=has_spend), self._keys_of(admission.org).all, self._time()
        code, answer = await self._store.run_script(self._scripts.defer, keys, (time, head, b"", account.event, account.job))
        if code == _UNKNOWN:
            args = (time, head, wire.encode_demands(admission), account.event, account.job)
            code, answer = await self._store.run_script(self._scripts.defer, keys, args)
        if code == _WIPED:
            raise _wiped(admission.org)
        return wire.decode_settlement(admission, answer, repeated=code == _REPEATED, sent_once=False)

    async def withdraw(self, admission: AdmissionRequest) -> None:
        args = (self._time(), wire.encode_withdraw(admission, ended_ms=self._ended_ms))
        if await self._store.run_script(self._scripts.withdraw, self._keys_of(admission.org).all, args) == _CHARGED:
            await self.settle(withdrawn(admission))

    async def forget(self, settled: Sequence[tuple[str, Sequence[str]]]) -> None:
        places: defaultdict[int, list[tuple[str, Sequence[str]]]] = defaultdict(list)  # by partition: a call takes keys of one slot
        for group in settled:
            places[self._keys_of(group[0]).partition if self._store.is_cluster else 0].append(group)
        for some in places.values():
            for start in range(0, len(some), GROUPS_AT_ONCE):
                await self._forget(some[start : start + GROUPS_AT_ONCE])

    async def _forget(self, some: Sequence[tuple[str, Sequence[str]]]) -> None:
        """As a plain command: a connection remembers the keys of scripts, and these do not come again; nor is it worth a retry."""
        keys = chain.from_iterable((self._keys_of(org).holds, self._keys_of(org).due) for org, _ in some)
        args = (wire.encode_ids(ids) for _, ids in some)
        await self._store.command(b"EVAL", self._scripts.forget.source, b"%d" % (2 * len(some)), *keys, *args)

    async def read_limits(self, org: str, rate: Sequence[RateDemand], spend: Sequence[SpendDemand]) -> LimitStates:
        [states] = await self.limit_reading([LimitQuestion(org, rate, spend)]).read()
        return states

    def limit_reading(self, asked: Sequence[LimitQuestion]) -> LimitReading:
        """A question about the limits of several organizations, which may be asked again and again."""
        return LimitReading(self._store, self._scripts.read, asked, keys_of=lambda org: self._keys_of(org).all, time=self._time)

    async def read_windows(self, org: str, spend: Sequence[SpendDemand]) -> tuple[WindowState, ...]:
        return (await self.read_limits(org, (), spend)).spend

    def _time(self) -> bytes:
        return b"%d" % self._now_ms() if self._now_ms else b""

    def _keys_of(self, org: str) -> OrgKeys:
        keys = self._keys.get(org)
        if keys is None:
            if len(self._keys) >= ORGS_CACHED_MAX:
                self._keys.clear()
            keys = self._keys[org] = org_keys(org)
        return keys


def withdrawn(admission: AdmissionRequest) -> Account:
    """The account of a withdrawn exchange whose expiry was charged: nothing is owed."""
    return Account(admission=admission, cost_nano_usd=0, event=admission.event, is_owed=False)


def _wiped(org: str) -> StoreError:
    return LimiterWipedError(f"the limiter's store has lost the spend of {org}'s partition: it admits again once that is rebuilt")
