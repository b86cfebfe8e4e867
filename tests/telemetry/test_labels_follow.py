"""Labels follow organizations that change while the gateway runs."""

from tallygate.domain.organization import Credential, Organization, Plan
from tallygate.domain.rate_limit import LimitScope, Quantity, RateLimit
from tallygate.telemetry.labels import KnownLabels
from tallygate.telemetry.metric import OTHER
from tallygate.telemetry.metrics import REFUSED

LIMIT = RateLimit(
    name="requests_per_1m",
    quantity=Quantity.REQUESTS,
    capacity=1,
    refill_units=1,
    window_ms=60_000,
    scope=LimitScope.ORGANIZATION,
    capability=None,
    shadow=False,
)


def an_organization(org: str, *credentials: str, limits: tuple[RateLimit, ...] = ()) -> Organization:
    return Organization(
        id=org,
        name=org,
        plan=Plan(id="p", rate_limits=limits),
        credentials=tuple(Credential(id=name, org=org, key_sha256=b"") for name in credentials),
    )


def test_what_has_come_is_known_and_what_is_gone_is_other() -> None:
    nothing = KnownLabels(organizations=frozenset(), credentials=frozenset(), capabilities=frozenset({"chat"}), limits=frozenset())
    first, second = an_organization("acme", "old", "kept", limits=(LIMIT,)), an_organization("acme", "kept", "new")
    known = nothing.followed([], [first, an_organization("big", "main")])
    assert known.counted(REFUSED, ("acme", "old", "chat", OTHER))[:3] == ("acme", "old", "chat")
    assert known.counted(REFUSED, ("acme", "old", "chat", "requests_per_1m"))[3] == "requests_per_1m"

    known = known.followed([first], [second])
    assert [known.counted(REFUSED, ("acme", name, "chat", OTHER))[1] for name in ("old", "kept", "new")] == [OTHER, "kept", "new"]
    known = known.followed([second], [])
    assert known.counted(REFUSED, ("acme", "kept", "chat", OTHER))[:3] == (OTHER, OTHER, "chat")
    assert known.counted(REFUSED, ("big", "main", "chat", OTHER))[:3] == ("big", "main", "chat")
