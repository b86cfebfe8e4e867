"""A random history of limiter calls, driven over two limiters at once: every answer and all state must be equal after each step."""

import random
from typing import Any

from limiter_values import BUCKET_MS, DAY_MS, HOUR_MS, MINUTE_MS, START_MS, Clock, a_month, a_rate, a_request, a_spend, an_account
from msgspec.structs import replace

from tallygate.domain.admission import Account, AdmissionRequest, Decision, SpendDemand
from tallygate.domain.errors import LimiterWipedError
from tallygate.domain.rate_limit import Quantity
from tallygate.limiter.port import Limiter, ReservationEndedError

ORGS = ("acme", "globex")
CREDENTIALS = ("c1", "c2")
CLOSED = "closed"
_LENGTH_MS = 40 * HOUR_MS  # of a calendar period, so that many pass in a trace


class TraceDriver:
    """Makes one random call a step on each limiter, with the same arguments and clock."""

    def __init__(self, seed: int, clock: Clock, limiters: tuple[Limiter, ...], sweep: Any) -> None:
        self._random = random.Random(seed)
        self._clock = clock
        self._limiters = limiters
        self._sweep = sweep
        self._known: list[AdmissionRequest] = []
        self._deferred: list[AdmissionRequest] = []
        self._count = 0
        self._right_ms = 0
        self.touched = ORGS[0]

    async def step(self) -> tuple[str, list[Any]]:
        """What was done, and each limiter's answer to it."""
        self._advance()
        chance = self._random.random()
        if chance < 0.42 or not self._known:
            return await self._admit()
        if chance < 0.45:
            return await self._look()
        if chance < 0.53:
            return await self._checkpoint()
        if chance < 0.57:
            return await self._defer()
        if chance < 0.85:
            return await self._end()
        if chance < 0.93:
            return await self._read()
        if chance < 0.96:
            return await self._withdraw()
        if chance < 0.98:
            return await self._forget()
        self.touched = self._random.choice(ORGS)
        return f"sweep {self.touched}", await self._sweep(self.touched, self._random.choice((1, 3, 64)))

    def _advance(self) -> None:
        chance, now = self._random.random(), self._clock.now_ms
        if chance < 0.6:
            now += self._random.randrange(2000)
        elif chance < 0.77:
            now += self._random.randrange(MINUTE_MS)
        elif chance < 0.8:
            now += self._random.randrange(4 * BUCKET_MS)
        elif chance < 0.82:
            now = now // BUCKET_MS * BUCKET_MS + BUCKET_MS - self._random.randrange(2)
        elif chance < 0.83:
            now -= self._random.randrange(HOUR_MS)
        elif chance < 0.8305:
            now -= self._random.randrange(3 * DAY_MS)
        elif chance < 0.831:
            now += self._random.randrange(9 * DAY_MS)
        elif chance < 0.832:  # ahead for a moment
            self._right_ms = self._right_ms or now
            now += self._random.randrange(40 * DAY_MS)
        elif chance < 0.85 and self._right_ms:
            now, self._right_ms = self._right_ms, 0
        self._clock.now_ms = max(START_MS, now)

    def windows(self, org: str) -> list[SpendDemand]:
        """Every window that this trace asks for, as of now."""
        now_index = max(0, (self._clock.now_ms - START_MS) // _LENGTH_MS)
        month = a_month(125_000, months=now_index + 2, length_ms=_LENGTH_MS)
        days = [a_spend(60_000, key=f"cred:{credential}:spend_1d", window_ms=DAY_MS) for credential in CREDENTIALS]
        return [_org_window(org, tightened=False), *days, replace(month, periods=month.periods[max(0, now_index - 1) :])]

    def postings(self) -> list[tuple[int, int]]:
        """As a ledger might tell them, from long ago until somewhat ahead."""
        chosen, now = self._random, self._clock.now_ms
        times = sorted(now - chosen.randrange(-HOUR_MS, 9 * DAY_MS) for _ in range(chosen.randrange(20)))
        return [
            (at // BUCKET_MS * BUCKET_MS, chosen.randrange(1, 4000))
            for at in dict.fromkeys(t // BUCKET_MS * BUCKET_MS for t in times)
        ]

    def _spends(self, org: str, credential: str) -> tuple[SpendDemand, ...]:
        chosen = self._random
        month = chosen.randrange(2)
        now_index = max(0, (self._clock.now_ms - START_MS) // _LENGTH_MS + chosen.choice((0, 0, 0, 1, -1)))
        spends: list[SpendDemand] = []
        if chosen.random() < 0.9:
            spends.append(_org_window(org, tightened=chosen.random() < 0.02))
        if chosen.random() < 0.5:
            spends.append(a_spend(60_000, key=f"cred:{credential}:spend_1d", window_ms=DAY_MS, shadow=chosen.random() < 0.2))
        if month:
            whole = a_month(125_000, months=now_index + 2, length_ms=_LENGTH_MS)
            spends.append(replace(whole, periods=whole.periods[max(0, now_index - 1) :]))
        return tuple(spends)

    def _request(self) -> AdmissionRequest:
        chosen = self._random
        self._count += 1
        org, credential = chosen.choice(ORGS), chosen.choice(CREDENTIALS)
        shadow = chosen.random() < 0.15
        rates = [
            a_rate(chosen.choice((1, 1, 1, 0)), capacity=20, window_ms=MINUTE_MS),
            a_rate(1, capacity=7, refill=100, window_ms=HOUR_MS, key=f"cred:{credential}:hour", shadow=shadow),
            a_rate(chosen.randrange(600), capacity=1000, refill=999, quantity=Quantity.TOKENS),
            a_rate(1, capacity=4, quantity=Quantity.OPEN_REQUESTS, key=f"cred:{credential}:open", shadow=shadow),
        ]
        hold = chosen.choice((0, 7, 30, 100, 300, 1400, 3000, 400_000))
        floor = chosen.choice((0, 20))
        return a_request(
            f"r{self._count:07d}",
            hold,
            org=org,
            rate=tuple(rate for rate in rates if chosen.random() < 0.5),
            spend=self._spends(org, credential),
            hold_min_nano_usd=hold if chosen.random() < 0.7 else hold // 4,
            floor_nano_usd=floor,
            floor_prompt_tokens=floor // 2,
            lease_ms=chosen.choice((1000, MINUTE_MS, 10 * MINUTE_MS)),
        )

    def _pick(self) -> AdmissionRequest:
        """Mostly a recent reservation, sometimes any: late, repeated, forgotten."""
        chance = self._random.random()
        chosen = self._random.choice(self._known[-6:] if chance < 0.8 else self._known[-60:] if chance < 0.95 else self._known)
        self.touched = chosen.org
        return chosen

    async def _admit(self) -> tuple[str, list[Any]]:
        request = self._pick() if self._known and self._random.random() < 0.08 else self._request()
        self.touched = request.org
        answers = [await _answer(limiter.admit(request)) for limiter in self._limiters]
        if (isinstance(answers[0], Decision) and answers[0].admitted) or self._random.random() < 0.03:
            self._known.append(request)
            del self._known[:-2000]
        return f"admit {request}", answers

    async def _look(self) -> tuple[str, list[Any]]:
        request = self._request()
        self.touched = request.org
        return f"look {request}", [await _answer(limiter.preview(request)) for limiter in self._limiters]

    async def _checkpoint(self) -> tuple[str, list[Any]]:
        request = self._pick()
        checkpoint = Account(
            admission=request,
            cost_nano_usd=self._random.randrange(400),
            prompt_tokens=self._random.randrange(100),
            completion_tokens=self._random.randrange(100),
            event=b'{"checkpoint":%d}' % self._random.randrange(100),
        )
        return f"checkpoint {checkpoint}", [await _answer(limiter.checkpoint((checkpoint,))) for limiter in self._limiters]

    async def _defer(self) -> tuple[str, list[Any]]:
        request, chosen = self._pick(), self._random
        admission = replace(request, lease_ms=chosen.choice((MINUTE_MS, DAY_MS)))
        account = an_account(admission, chosen.choice((request.hold_nano_usd, 5)), chosen.randrange(50), chosen.randrange(50))
        account = replace(account, job=b'{"job":%d}' % chosen.randrange(100))
        self._deferred.append(request)
        del self._deferred[:-50]
        return f"defer {account}", [await _answer(limiter.defer(account)) for limiter in self._limiters]

    async def _part(self) -> tuple[str, list[Any]]:
        """A part of what was deferred, or of what has ended since."""
        whole, chosen = self._random.choice(self._deferred), self._random
        self._count += 1
        self.touched = whole.org
        part = a_request(f"r{self._count:07d}", 0, org=whole.org, spend=whole.spend)
        account = replace(an_account(part, chosen.randrange(200), 3, 4), part_of=whole.reservation_id)
        if chosen.random() < 0.1:
            self._known.append(part)
        return f"part {account}", [await _answer(limiter.settle(account)) for limiter in self._limiters]

    async def _end(self) -> tuple[str, list[Any]]:
        if self._deferred and self._random.random() < 0.1:
            return await self._part()
        request, chosen = self._pick(), self._random
        if chosen.random() < 0.2:
            released = an_account(request, is_owed=False)
            return f"release {request}", [await _answer(limiter.settle(released)) for limiter in self._limiters]
        cost = chosen.randrange(request.hold_nano_usd + 1) if chosen.random() < 0.9 else chosen.randrange(3000)
        tokens = chosen.randrange(400) if chosen.random() < 0.998 else 20_000
        account = an_account(request, cost, chosen.randrange(300), tokens)
        return f"settle {account}", [await _answer(limiter.settle(account)) for limiter in self._limiters]

    async def _withdraw(self) -> tuple[str, list[Any]]:
        """Of a known reservation, or of one whose admission comes afterwards."""
        request = self._pick() if self._random.random() < 0.8 else self._request()
        self.touched = request.org
        self._known.append(request)
        return f"withdraw {request}", [await _answer(limiter.withdraw(request)) for limiter in self._limiters]

    async def _forget(self) -> tuple[str, list[Any]]:
        """Reservations in any state, of which those that are settled go: whoever is late then asks for the first time."""
        settled: list[tuple[str, list[str]]] = []
        for _ in range(self._random.choice((1, 3, 7))):
            first = self._pick()
            others = [self._pick() for _ in range(self._random.randrange(20))]
            settled.append((first.org, [first.reservation_id, *(each.reservation_id for each in others)]))
        return f"forget {settled}", [await _answer(limiter.forget(settled)) for limiter in self._limiters]

    async def _read(self) -> tuple[str, list[Any]]:
        asked = self._request()
        self.touched, rates, spends = asked.org, asked.rate, asked.spend
        answers = [await _answer(limiter.read_limits(asked.org, rates, spends)) for limiter in self._limiters]
        return f"read {asked.org} {rates} {spends}", answers


def _org_window(org: str, *, tightened: bool) -> SpendDemand:
    """An hour of 10,000 for one organization and a week of 300,000 for the other; sometimes as if it had just been tightened."""
    limit, window_ms = (10_000, HOUR_MS) if org == "globex" else (300_000, 7 * DAY_MS)
    return a_spend(limit // 3 if tightened else limit, window_ms=window_ms)


async def _answer(call: Any) -> Any:
    try:
        return await call
    except ReservationEndedError as error:
        return str(error)
    except LimiterWipedError:
        return CLOSED
