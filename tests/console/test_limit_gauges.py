"""The gauges of limits: every limit of an organization and of its credentials, within a bound that is fair by organization."""

from collections.abc import Sequence
from dataclasses import replace
from operator import is_

import pytest

from tallygate.console import limit_gauges
from tallygate.console.limit_gauges import LIMITS_AT_ONCE, LimitGauges, fair_share
from tallygate.domain.admission import LimitQuestion, LimitStates, RateDemand, RateState, SpendDemand, WindowState
from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.domain.rate_limit import LimitScope, Quantity, RateLimit
from tallygate.domain.spend_limit import SpendLimit
from tallygate.telemetry import metrics
from tallygate.telemetry.metric import InParts, Labels, Metric, Samples

USD = 10**9
WEEK = SpendLimit(name="spend_7d", limit_nano_usd=100 * USD)
MONTH = SpendLimit(name="spend_month", limit_nano_usd=300 * USD, window_ms=0)
EACH = SpendLimit(name="spend_1d:credential", limit_nano_usd=5 * USD, window_ms=86_400_000, scope=LimitScope.CREDENTIAL)
OWN = replace(EACH, name="spend_1d:own", limit_nano_usd=2 * USD)
REQUESTS = RateLimit(name="requests_per_1m", quantity=Quantity.REQUESTS, capacity=10, refill_units=60, window_ms=60_000)
TOKENS = RateLimit(
    name="tokens_per_1h", quantity=Quantity.TOKENS, capacity=9_000, refill_units=9_000, window_ms=3_600_000, capability="chat"
)
OPEN = RateLimit(
    name="open_requests", quantity=Quantity.OPEN_REQUESTS, capacity=4, refill_units=0, window_ms=0, scope=LimitScope.CREDENTIAL
)


class Limiter:
    """A store in which `left` of each rate is left, and each window has spent, held and paused as a test says."""

    def __init__(self) -> None:
        self.left: dict[str, int] = {}
        self.windows: dict[str, tuple[int, int, int]] = {}
        self.asked: list[tuple[str, list[str]]] = []
        self.months: list[int] = []
        self.periods: list[str] = []
        self.reads = self.questions = 0
        self.knows_spend = True

    def limit_reading(self, asked: Sequence[LimitQuestion]) -> "Reading":
        self.questions += 1
        return Reading(self, asked)

    def states_of(self, asked: Sequence[LimitQuestion]) -> Sequence[LimitStates]:
        self.reads += 1
        return [self._states(*question) for question in asked]

    def _states(self, org: str, rate: Sequence[RateDemand], spend: Sequence[SpendDemand]) -> LimitStates:
        self.asked.append((org, [demand.key for demand in (*spend, *rate)]))
        self.months += [len(demand.periods) for demand in spend]
        self.periods += [period.id for demand in spend for period in demand.periods]
        return LimitStates(
            now_ms=0,
            knows_spend=self.knows_spend,
            rate=tuple(
                RateState(remaining=self.left.get(demand.key, demand.limit.capacity), reset_ms=0, retry_after_ms=0)
                for demand in rate
            ),
            spend=tuple(
                WindowState(key=demand.key, spent_nano_usd=spent, held_nano_usd=held, paused_until_ms=paused)
                for demand in spend
                for spent, held, paused in [self.windows.get(demand.key, (0, 0, 0))]
            ),
        )

    async def check(self) -> None: ...

    async def sweep(self) -> int:
        return 0

    async def close(self) -> None: ...


class Reading:
    """States that are as they were are the very ones of the read before."""

    def __init__(self, limiter: Limiter, asked: Sequence[LimitQuestion]) -> None:
        self._limiter = limiter
        self._asked = asked
        self._found: list[LimitStates] = []

    async def read(self) -> Sequence[LimitStates]:
        states = self._limiter.states_of(self._asked)
        before = self._found or states
        self._found = [old if old == new else new for old, new in zip(before, states, strict=True)]
        return self._found


def organization(
    id_: str = "acme", *, spend: Sequence[SpendLimit] = (), rates: Sequence[RateLimit] = (), credentials: int = 1
) -> Organization:
    return Organization(
        id=id_,
        plan=Plan(id="p", spend_limits=tuple(spend), rate_limits=tuple(rates)),
        credentials=tuple(Credential(id=f"{id_}-{number}", org=id_, key_sha256=b"") for number in range(credentials)),
    )


def gauges(limiter: Limiter) -> LimitGauges:
    return LimitGauges(limiter, now_ms=lambda: 1_700_000_000_000)


def of(samples: Samples, *shown: Metric) -> list[dict[Labels, float]]:
    return [dict(samples[metric]) for metric in shown]


async def test_every_spend_limit_is_shown_with_what_is_spent_held_and_allowed() -> None:
    limiter = Limiter()
    limiter.windows = {"org:spend_7d": (40, 2, 0), "org:spend_month": (70, 3, 0), "cred:acme-0:spend_1d:own": (USD, 4, 0)}
    acme = organization(spend=(WEEK, MONTH, EACH))
    acme = replace(acme, credentials=(replace(acme.credentials[0], spend_limits=(OWN,)),))

    samples = await gauges(limiter).read([acme])

    week, month = ("acme", "", "spend_7d", "7d", "enforced"), ("acme", "", "spend_month", "month", "enforced")
    each, own = (("acme", "acme-0", f"spend_1d:{whose}", "1d", "enforced") for whose in ("credential", "own"))
    assert of(samples, metrics.LIMIT_SPENT, metrics.LIMIT_HELD, metrics.LIMIT_ALLOWED, metrics.LIMIT_RESUME) == [
        {week: 40, month: 70, each: 0, own: USD},
        {week: 2, month: 3, each: 0, own: 4},
        {week: 100 * USD, month: 300 * USD, each: 5 * USD, own: 2 * USD},
        {},
    ]
    assert limiter.months == [0, 3, 0, 0], "of a calendar month alone"


async def test_every_rate_limit_is_shown_by_kind_and_capability_with_what_is_left() -> None:
    limiter = Limiter()
    limiter.left = {"org:requests_per_1m": 7, "org:tokens_per_1h:chat": 1_234, "cred:acme-1:open_requests": 1}

    samples = await gauges(limiter).read([organization(rates=(REQUESTS, replace(TOKENS, shadow=True), OPEN), credentials=2)])

    requests = ("acme", "", "", "requests_per_1m", "requests", "1m", "enforced")
    tokens = ("acme", "", "chat", "tokens_per_1h", "tokens", "1h", "shadow")
    first, second = (("acme", f"acme-{number}", "", "open_requests", "open_requests", "", "enforced") for number in range(2))
    assert of(samples, metrics.RATE_UNITS, metrics.RATE_BURST, metrics.RATE_REMAINING) == [
        {requests: 60, tokens: 9_000, first: 4, second: 4},
        {requests: 10},
        {requests: 7, tokens: 1_234, first: 4, second: 1},
    ]


async def test_the_first_spend_limit_of_an_organization_is_shown_under_its_former_names() -> None:
    limiter = Limiter()
    limiter.windows = {"org:spend_7d": (40, 2, 0), "org:spend_month": (70, 3, 5_000)}

    samples = await gauges(limiter).read([organization(spend=(WEEK, MONTH)), organization("free", rates=(REQUESTS,))])

    names = (metrics.SPEND_WINDOW, metrics.SPEND_HELD, metrics.SPEND_LIMIT, metrics.PAUSED, metrics.SPEND_RESUME)
    assert of(samples, *names) == [{("acme",): value} for value in (40, 2, 100 * USD, 1, 5_000)]


async def test_a_limit_of_a_credential_pauses_the_credential_and_one_in_shadow_mode_nobody() -> None:
    limiter = Limiter()
    limiter.windows = {"org:spend_7d": (100 * USD, 0, 7_000), "cred:acme-0:spend_1d:credential": (5 * USD, 0, 9_000)}

    samples = await gauges(limiter).read([organization(spend=(replace(WEEK, shadow=True), EACH))])

    assert of(samples, metrics.PAUSED, metrics.SPEND_RESUME, metrics.LIMIT_RESUME) == [
        {("acme",): 0},
        {},
        {("acme", "acme-0", "spend_1d:credential", "1d", "enforced"): 9_000},
    ]


async def test_spend_that_the_store_has_lost_is_not_shown_as_nothing() -> None:
    limiter = Limiter()
    limiter.knows_spend = False

    samples = await gauges(limiter).read([organization(spend=(WEEK, EACH), rates=(REQUESTS,))])

    assert of(samples, metrics.SPEND_WINDOW, metrics.LIMIT_SPENT, metrics.PAUSED) == [{}, {}, {}]
    assert len(samples[metrics.RATE_REMAINING]) == 1


@pytest.mark.parametrize(
    ("counts", "total", "share"),
    [([], 10, 10), ([3, 4], 10, 10), ([5, 5], 10, 10), ([1, 2, 100], 10, 7), ([100, 1, 100], 11, 5), ([9, 9], 1, 0)],
)
def test_a_share_lets_the_small_keep_theirs_and_divides_the_rest(counts: list[int], total: int, share: int) -> None:
    assert fair_share(counts, total) == share
    assert sum(min(count, share) for count in counts) <= total


async def test_past_the_bound_one_organization_does_not_push_out_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_gauges, "LIMITS_MAX", 20)
    limiter = Limiter()
    crowd = organization("crowd", spend=(WEEK, MONTH), rates=(OPEN,), credentials=50)
    small = organization("small", spend=(WEEK,), rates=(REQUESTS, OPEN), credentials=3)

    samples = await gauges(limiter).read([crowd, small])

    shown = [labels[0] for metric in (metrics.LIMIT_SPENT, metrics.RATE_UNITS) for labels in samples[metric]]
    assert (shown.count("crowd"), shown.count("small")) == (15, 5)
    assert samples[metrics.LIMITS_SKIPPED] == {(): 52 - 15}
    assert [labels[1] for labels in samples[metrics.RATE_UNITS] if labels[0] == "crowd"] == [f"crowd-{n}" for n in range(13)]


async def test_spend_limits_of_organizations_are_shown_whatever_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_gauges, "LIMITS_MAX", 1)

    samples = await gauges(Limiter()).read([organization(id_, spend=(WEEK, MONTH), rates=(OPEN,)) for id_ in ("a", "b")])

    assert len(samples[metrics.LIMIT_SPENT]) == 4
    assert not samples[metrics.RATE_UNITS]
    assert samples[metrics.LIMITS_SKIPPED] == {(): 2}


async def test_no_read_holds_up_the_store_for_more_than_a_hundred_limits() -> None:
    limiter = Limiter()

    samples = await gauges(limiter).read([organization(spend=(WEEK,), rates=(OPEN,), credentials=LIMITS_AT_ONCE * 2)])

    assert [len(keys) for _, keys in limiter.asked] == [LIMITS_AT_ONCE, LIMITS_AT_ONCE, 1]
    assert len(samples[metrics.RATE_REMAINING]) == LIMITS_AT_ONCE * 2


async def test_small_organizations_are_read_together_as_many_as_have_a_hundred_limits() -> None:
    limiter = Limiter()
    many = [organization(f"o{number}", spend=(WEEK, MONTH), rates=(OPEN,)) for number in range(LIMITS_AT_ONCE)]

    samples = await gauges(limiter).read(many)

    assert len(samples[metrics.LIMIT_SPENT]) == 2 * LIMITS_AT_ONCE
    assert len(limiter.asked) == LIMITS_AT_ONCE
    assert limiter.reads == -(-LIMITS_AT_ONCE // (LIMITS_AT_ONCE // 3))


async def test_a_changed_organization_is_listed_afresh() -> None:
    read = gauges(Limiter())
    await read.read([organization(spend=(WEEK,))])

    samples = await read.read([organization(spend=(MONTH,))])

    assert [labels[2] for labels in samples[metrics.LIMIT_SPENT]] == ["spend_month"]


async def test_a_new_month_is_asked_for_as_soon_as_it_has_begun() -> None:
    limiter, now_ms = Limiter(), 1_700_000_000_000
    shown, acme = LimitGauges(limiter, now_ms=lambda: now_ms), organization(spend=(MONTH,))
    asked = []
    for days in (0, 1, 31):
        limiter.periods = []
        now_ms += days * 86_400_000
        await shown.read([acme])
        asked.append(limiter.periods)

    assert asked[0] == asked[1]
    assert asked[0][1:] == asked[2][:-1], "the next one"


async def test_what_stands_as_it_did_is_the_same_object_and_what_changed_is_not() -> None:
    limiter = Limiter()
    read, both = gauges(limiter), [organization(name, spend=(WEEK,), rates=(REQUESTS,)) for name in ("acme", "globex")]
    before = await read.read(both)
    limiter.windows = {"org:spend_7d": (40, 2, 0)}

    again = await read.read(both)

    assert again[metrics.LIMIT_SPENT] != before[metrics.LIMIT_SPENT]
    assert list(map(is_, parts(again, metrics.RATE_REMAINING), parts(before, metrics.RATE_REMAINING))) == [True, True]
    assert limiter.questions == 1


def parts(samples: Samples, metric: Metric) -> Sequence[object]:
    numbers = samples[metric]
    assert isinstance(numbers, InParts)
    return numbers.parts
