"""Work that an upstream goes on with after its answer: held as the exchange was, and charged once it is done."""

import msgspec

from tallygate.domain.admission import AdmissionRequest

JOB_LEASE_GRACE_MS = 3_600_000  # after its deadline, until the limiter charges what is held


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange whose end is still to come. Times are Unix milliseconds.

    id              of the exchange, and of its usage event
    kind            how it is polled and charged: a name in `gateway/jobs`
    upstream        by its name in the configuration
    object_id       what the upstream calls it
    target          path and query at which the upstream tells of it
    admission       as it was admitted, for its settlement
    event           JSON of its usage event as it stands; its answer is still to be entered
    held_nano_usd   what is held until it is settled, and charged if nothing is heard of it any more
    deadline_ms     when the upstream has ended it at the latest
    """

    id: str
    kind: str
    org: str
    credential: str
    upstream: str
    object_id: str
    target: str
    dialect: str
    markup: int
    model: str | None
    started_at_ms: int
    deadline_ms: int
    held_nano_usd: int
    admission: AdmissionRequest
    event: msgspec.Raw

    @property
    def lease_ms(self) -> int:
        """How long it is held at most."""
        return self.deadline_ms - self.started_at_ms + JOB_LEASE_GRACE_MS
