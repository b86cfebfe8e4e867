"""Jobs in the ledger: entered with their objects, leased by one poller at a time, held again after a loss, gone at their end."""

import asyncio

import msgspec
import pytest
from ledger_values import START_MS, a_fact
from limiter_at_work import ORGANIZATIONS, LimiterAtWork
from msgspec.structs import replace
from sqlalchemy import update

from tallygate.domain.admission import Account, AdmissionRequest
from tallygate.domain.job import Job, deferred_account
from tallygate.domain.made_object import MadeObject
from tallygate.ledger.book import Book
from tallygate.ledger.database import Database
from tallygate.ledger.entry import Entry, Kind, MalformedEntryError, entry_of_stream
from tallygate.ledger.jobs import JOBS, Jobs, count_jobs, job_of_stream, open_jobs
from tallygate.ledger.stored_objects import owned_objects
from tallygate.limiter.generation import close_partition
from tallygate.limiter.keys import partition_of

MADE = MadeObject("response", "resp_1", "default")


def job_of(admission: AdmissionRequest, *, held: int = 1_000, **changed: object) -> Job:
    fact = replace(msgspec.json.decode(admission.event, type=type(a_fact())), cost_nano_usd=held, made=(MADE,))
    job = Job(
        id=admission.reservation_id,
        kind="response",
        org=admission.org,
        credential="acme-prod",
        upstream="default",
        object_id="resp_1",
        target="/v1/responses/resp_1",
        dialect="openai_responses",
        markup=0,
        facts=msgspec.Raw(b"{}"),
        prompt_tokens=5,
        fee_nano_usd=0,
        held_nano_usd=held,
        started_at_ms=START_MS,
        deadline_ms=START_MS + 86_400_000,
        admission=admission,
        event=msgspec.Raw(msgspec.json.encode(fact)),
    )
    return replace(job, **changed)


def a_job(number: int = 1, **changed: object) -> Job:
    fact = a_fact(number)
    admission = AdmissionRequest(
        reservation_id=fact.event_id,
        org="acme",
        rate=(),
        spend=(),
        hold_nano_usd=1_000,
        hold_min_nano_usd=1_000,
        floor_nano_usd=0,
        lease_ms=30_000,
        event=msgspec.json.encode(fact),
    )
    return job_of(admission, **changed)


def ended(job: Job, *, flags: tuple[str, ...] = ("deferred",), kind: Kind = Kind.SETTLED) -> Entry:
    event = replace(msgspec.json.decode(bytes(job.event), type=type(a_fact())), flags=flags)
    words = {b"kind": kind.value.encode(), b"settled_at_ms": b"%d" % START_MS, b"cost_nano_usd": b"5", b"posted_nano_usd": b"5"}
    words |= {b"prompt_tokens": b"1", b"completion_tokens": b"2", b"event_id": job.id.encode(), b"flags": b""}
    return entry_of_stream(msgspec.json.encode(event), words)


async def ids(database: Database) -> list[str]:
    return [found.job.id async for found in open_jobs(database, ["acme"])]


async def test_a_job_is_entered_once_and_leaves_with_its_final_entry(database: Database, book: Book) -> None:
    one, two = a_job(1), a_job(2)
    await book.record([], jobs=[one, two, one])
    await book.record([], jobs=[replace(one, object_id="another")])
    assert await ids(database) == [one.id, two.id]
    assert [found.job async for found in open_jobs(database, ["acme"])] == [one, two]
    assert await database.ask(count_jobs(database)) == {"response": 2}

    await book.record([ended(one, flags=("assumed",), kind=Kind.EXPIRED)])
    assert await ids(database) == [one.id, two.id]  # provisional: it may still be settled
    await book.record([ended(two)])
    assert await ids(database) == [one.id]


async def test_pollers_take_turns_and_a_dead_ones_job_is_taken_over(database: Database, book: Book) -> None:
    jobs, beside = Jobs(database), Jobs(database)
    await book.record([], jobs=[a_job(1), a_job(2)])
    claims = await asyncio.gather(*(each.claim(now_ms=START_MS, lease_ms=1_000) for each in (jobs, beside, jobs)))
    assert sorted(found.job.id for found in claims if found) == [a_job(1).id, a_job(2).id]
    assert await beside.claim(now_ms=START_MS + 999, lease_ms=1_000) is None
    taken_over = await beside.claim(now_ms=START_MS + 1_000, lease_ms=1_000)
    assert taken_over is not None
    assert taken_over.polls == 1

    await beside.put_off(a_job(1).id, due_ms=START_MS + 60_000)
    await beside.put_off(a_job(2).id, due_ms=START_MS + 50_000)
    assert await jobs.claim(now_ms=START_MS + 49_999, lease_ms=1_000) is None
    found = await jobs.claim(now_ms=START_MS + 60_000, lease_ms=1_000)
    assert found is not None
    assert found.job.id == a_job(2).id  # due the longest
    await jobs.keep(found.job.id, progress=17, lease_until_ms=START_MS + 70_000)
    again = await jobs.claim(now_ms=START_MS + 70_000, lease_ms=1_000)
    assert again is not None
    await jobs.give_up(a_job(1).id)
    assert [(each.job.id, each.progress) async for each in open_jobs(database, ["acme"])] == [(a_job(2).id, 17)]


async def test_an_organization_has_room_for_so_many_jobs(database: Database, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallygate.ledger.jobs.OPEN_JOBS_MAX", 3)
    monkeypatch.setattr("tallygate.ledger.jobs._JOBS_AT_ONCE", 2)
    jobs = Jobs(database)
    for number in range(1, 4):
        assert await jobs.has_room("acme")
        await book.record([], jobs=[a_job(number)])
    assert not await jobs.has_room("acme")
    assert await jobs.has_room("beta")
    assert await ids(database) == [a_job(number).id for number in range(1, 4)]  # page after page
    await book.record([ended(a_job(2))])
    assert await jobs.has_room("acme")


async def test_organizations_take_turns_however_many_jobs_one_has(database: Database, book: Book) -> None:
    jobs = Jobs(database)
    await book.record([], jobs=[*(a_job(number, org="acme") for number in range(1, 6)), a_job(6, org="beta"), a_job(7, org="zeta")])
    order, last = [], ""
    while found := await jobs.claim(now_ms=START_MS, lease_ms=1_000, after_org=last):
        last = found.job.org
        order.append(last)
    assert order == ["acme", "beta", "zeta", "acme", "acme", "acme", "acme"]
    later = START_MS + 2_000
    assert await jobs.claim(now_ms=later, lease_ms=1_000, but_orgs=["acme", "beta", "zeta"]) is None
    found = await jobs.claim(now_ms=later, lease_ms=1_000, but_orgs=["acme", "beta"])
    assert found is not None
    assert found.job.org == "zeta"


async def test_one_whose_end_was_entered_before_it_is_removed_when_it_comes_up(database: Database, book: Book) -> None:
    """Two writers: one has stored the end before the other the beginning."""
    await book.record([ended(a_job(1))])
    await book.record([], jobs=[a_job(1), a_job(2)])
    found = await Jobs(database).claim(now_ms=START_MS, lease_ms=1_000)
    assert found is not None
    assert found.job.id == a_job(2).id
    assert await ids(database) == [a_job(2).id]


async def test_what_results_cost_is_the_sum_of_theirs_alone(database: Database, book: Book) -> None:
    one = a_job(1)
    assert await Jobs(database).spent(one.id) == 0
    parts = [replace(ended(one), event_id=f"{one.id}{more}") for more in ("-a", "-b", "0", "")]
    await book.record([*parts, ended(a_job(2))])
    assert await Jobs(database).spent(one.id) == 2 * 5


async def test_one_that_cannot_be_read_keeps_no_other_from_its_turn(database: Database, book: Book) -> None:
    """It was written by another version; one of an odd id is read."""
    await book.record([], jobs=[a_job(1), a_job(2, object_id="resp_\0")])
    async with database.write() as connection:
        await connection.execute(update(JOBS).where(JOBS.c.id == a_job(1).id).values(body='{"id": 1}'))
    found = await Jobs(database).claim(now_ms=START_MS, lease_ms=1_000)
    assert found is not None
    assert found.job == a_job(2, object_id="resp_\0")
    assert await Jobs(database).claim(now_ms=START_MS, lease_ms=1_000) is None
    assert await ids(database) == [a_job(2).id]
    assert await database.ask(count_jobs(database)) == {"response": 2}


@pytest.mark.parametrize("event", [b"", b"[]", b'{"id":"x"}', msgspec.json.encode(a_job(1))])
def test_what_is_no_job_is_set_aside(event: bytes) -> None:
    with pytest.raises(MalformedEntryError):
        job_of_stream({b"event": event, b"event_id": b"other"})


async def test_a_deferred_hold_is_entered_survives_a_lost_store_and_is_settled_once(at_work: LimiterAtWork) -> None:
    organization = ORGANIZATIONS[0]
    admission = await at_work.admit(organization, "acme-prod")
    job = job_of(admission)
    await at_work.limiter.defer(deferred_account(job, encoded=msgspec.json.encode(job)))
    await at_work.writer.drain()
    assert await ids(at_work.database) == [job.id]
    assert await owned_objects(at_work.database, "acme", [MADE], since_ms=0) == {MADE: None}  # before it ends

    async def held() -> int:
        return (await at_work.limiter.read_windows("acme", admission.spend))[0].held_nano_usd

    for lose in (False, True):
        if lose:
            await at_work.store.command(b"FLUSHALL")
        else:
            await close_partition(at_work.store, partition_of("acme"))
        await at_work.rebuild()
        assert await held() == 1_000

    final = Account(
        admission=admission,
        cost_nano_usd=400,
        prompt_tokens=1,
        completion_tokens=1,
        event=msgspec.json.encode(replace(msgspec.json.decode(bytes(job.event), type=type(a_fact())), flags=("deferred",))),
    )
    settlement = await at_work.limiter.settle(final)
    assert not settlement.unheld
    await at_work.writer.drain()
    assert await ids(at_work.database) == []
    assert await held() == 0
    assert await at_work.drifts() == []
