"""Work that an upstream goes on with after its answer: held as the exchange was, and charged once it is done."""

from typing import Final

import msgspec
from msgspec.structs import replace

from tallygate.domain.admission import Account, AdmissionRequest

DEFERRED: Final = "deferred"  # the flag of an event that ends a job, by which the ledger removes it
OPEN_JOBS_MAX: Final = 5_000  # of one organization
LEASE_GRACE_MS: Final = 3_600_000  # after its deadline, until the limiter charges what is held


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange whose end is still to come. Times are Unix milliseconds.

    id              of the exchange, and of its usage event
    kind            how it is polled and charged: a name of `JobKind`
    upstream        by its name in the configuration; object_id: what the upstream calls it
    target          path and query at which the upstream tells of it
    dialect         of what it answers
    markup          in millionths of list prices
    facts           JSON of what the request says about its charge, without its texts
    prompt_tokens   the most that the request reads
    fee_nano_usd    of the request
    held_nano_usd   what is held until it is settled, and charged if nothing more is heard of it
    deadline_ms     by when the upstream has ended it
    admission       as it was admitted, for its settlement
    event           JSON of its usage event, as it is entered if nothing more is heard of it
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
    facts: msgspec.Raw
    prompt_tokens: int
    fee_nano_usd: int
    held_nano_usd: int
    started_at_ms: int
    deadline_ms: int
    admission: AdmissionRequest
    event: msgspec.Raw


def deferred_account(job: Job, *, encoded: bytes = b"") -> Account:
    """The account by which a job is held. encoded: its JSON, which the limiter hands on to the ledger; empty: the ledger has it."""
    lease_ms = job.deadline_ms - job.started_at_ms + LEASE_GRACE_MS
    return Account(
        admission=replace(job.admission, lease_ms=lease_ms, hold_nano_usd=job.held_nano_usd, hold_min_nano_usd=job.held_nano_usd),
        cost_nano_usd=job.held_nano_usd,
        prompt_tokens=job.admission.floor_prompt_tokens,
        completion_tokens=job.admission.floor_completion_tokens,
        event=bytes(job.event),
        job=encoded,
    )
