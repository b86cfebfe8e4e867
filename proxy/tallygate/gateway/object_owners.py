"""Owners of objects that requests name or make: organizations share the operator's key, so the gateway keeps them apart.

A look-up is one round trip to the limiter's store, for requests that name something. What is not marked there is asked of the
ledger, a few questions at a time, and what it does not know either is remembered for a moment: guessing ids costs the guesser more
than the gateway. Where neither answers, nothing is served.
"""

import asyncio
import logging
import re
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

from tallygate.domain.errors import ErrorCode, Refusal, StoreError
from tallygate.domain.made_object import MadeObject
from tallygate.domain.organization import Organization
from tallygate.limiter.object_marks import KEPT_MS_MAX, MemoryObjectMarks, ObjectMarks

ASKED_MAX: Final = 4  # questions to the ledger at once in a worker; half as many of one organization
WAITING_MAX: Final = 32  # of one organization; one more is refused
ANSWER_SECONDS: Final = 2.0
UNKNOWN_SECONDS: Final = 0.5  # an object that is adopted is known within a second
UNKNOWN_MAX: Final = 10_000
_DAY_MS: Final = 86_400_000
_SHOWN: Final = re.compile(r"[\w./:-]{1,128}", re.ASCII)  # ids that a refusal repeats
_log = logging.getLogger(__name__)


class ObjectRecords(Protocol):
    """The ledger's record."""

    def __call__(self, org: str, objects: Sequence[MadeObject], *, since_ms: int) -> Awaitable[Mapping[MadeObject, int | None]]:
        """The objects that are the organization's, made at since_ms or later, with their tokens. Raises StoreError."""


class OwnersBusyError(StoreError):
    """An organization asks for more unknown objects than the ledger is asked about at once."""


class ObjectOwners:
    """The owners of stored objects, as a worker sees them.

    clock    monotonic seconds; now_ms: Unix time
    """

    def __init__(
        self, marks: ObjectMarks, records: ObjectRecords, *, clock: Callable[[], float], now_ms: Callable[[], int]
    ) -> None:
        self._marks = marks
        self._records = records
        self._clock = clock
        self._now_ms = now_ms
        self._asking = asyncio.Semaphore(ASKED_MAX)
        self._asking_of: dict[str, asyncio.Semaphore] = {}
        self._waiting: Counter[str] = Counter()
        self._unknown: OrderedDict[tuple[str, MadeObject], float] = OrderedDict()

    async def owned(self, organization: Organization, objects: Sequence[MadeObject]) -> Mapping[MadeObject, int | None]:
        """The objects among `objects` that the organization owns, with their known tokens. Raises StoreError."""
        org = organization.id
        try:
            found = dict(await self._marks.sizes(org, objects))
        except StoreError as error:
            _log.warning("the owners of objects are asked of the ledger alone: %s", error)
            found = {}
        missing = [made for made in objects if made not in found and not self._is_unknown(org, made)]
        if not missing:
            return found
        recorded = await self._recorded(organization, missing)
        self._note_unknown(org, [made for made in missing if made not in recorded])
        self.remember(organization, [_sized(made, tokens) for made, tokens in recorded.items()])
        return {**found, **recorded}

    def remember(self, organization: Organization, objects: Sequence[MadeObject]) -> None:
        """Record objects as the organization's, before the next call to the store. The usage event carries them to the ledger."""
        for made in objects:
            self._unknown.pop((organization.id, _sized(made, None)), None)
        try:
            self._marks.put(organization.id, objects, kept_ms=_history_ms(organization))
        except StoreError as error:
            _log.warning("objects are not marked as made: %s", error)

    def forget(self, organization: Organization, objects: Sequence[MadeObject]) -> None:
        """Drop objects that the upstream deleted."""
        try:
            self._marks.drop(organization.id, objects)
        except StoreError as error:
            _log.warning("objects are not unmarked: %s", error)

    async def _recorded(self, organization: Organization, objects: Sequence[MadeObject]) -> Mapping[MadeObject, int | None]:
        since_ms = max(0, self._now_ms() // _DAY_MS * _DAY_MS - _history_days_ms(organization))
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._turn(organization.id):
                return await self._records(organization.id, objects, since_ms=since_ms)
        except TimeoutError as error:
            raise StoreError("the ledger did not say in time whose an object is") from error

    @asynccontextmanager
    async def _turn(self, org: str) -> AsyncIterator[None]:
        """Wait first among this organization's look-ups, so that nobody fills the common queue."""
        if self._waiting[org] >= WAITING_MAX:
            raise OwnersBusyError("too many unknown objects are asked for")
        self._waiting[org] += 1
        own = self._asking_of.setdefault(org, asyncio.Semaphore(max(1, ASKED_MAX // 2)))
        try:
            async with own, self._asking:
                yield
        finally:
            self._waiting[org] -= 1
            if not self._waiting[org]:
                del self._waiting[org], self._asking_of[org]

    def _is_unknown(self, org: str, made: MadeObject) -> bool:
        until = self._unknown.get((org, made))
        return until is not None and until > self._clock()

    def _note_unknown(self, org: str, objects: Sequence[MadeObject]) -> None:
        until = self._clock() + UNKNOWN_SECONDS
        for made in objects:
            self._unknown[org, made] = until
            self._unknown.move_to_end((org, made))
        while len(self._unknown) > UNKNOWN_MAX:
            self._unknown.popitem(last=False)


def owners_of_one_process() -> ObjectOwners:
    """Owners without store and ledger: objects are known to this process only, while it runs."""
    return ObjectOwners(MemoryObjectMarks(), _no_records, clock=time.monotonic, now_ms=lambda: time.time_ns() // 1_000_000)


async def _no_records(org: str, objects: Sequence[MadeObject], *, since_ms: int) -> Mapping[MadeObject, int | None]:
    del org, objects, since_ms
    return {}


def not_found(kind: str, *, param: str | None, named: str = "") -> Refusal:
    """The refusal of an object that is not the organization's, whether it exists or not. named: its id in the request, if any."""
    which = f": '{named}'" if _SHOWN.fullmatch(named) else ""
    return Refusal(
        code=ErrorCode.OBJECT_NOT_FOUND,
        message=f"There is no such {kind.replace('_', ' ')}{which}.",
        param=param,
        should_retry=False,
    )


def owners_unavailable() -> Refusal:
    """The refusal of an object whose owner cannot be looked up."""
    return Refusal(
        code=ErrorCode.OWNERS_UNAVAILABLE,
        message="It cannot be checked at the moment whose the named objects are. Try again shortly.",
        retry_after_ms=1_000,
        should_retry=True,
    )


def _sized(made: MadeObject, tokens: int | None) -> MadeObject:
    return MadeObject(kind=made.kind, id=made.id, upstream=made.upstream, tokens=tokens)


def _history_days_ms(organization: Organization) -> int:
    days = organization.plan.history_days
    return 100 * 366 * _DAY_MS if days is None else days * _DAY_MS


def _history_ms(organization: Organization) -> int:
    return min(max(_history_days_ms(organization), 1), KEPT_MS_MAX)
