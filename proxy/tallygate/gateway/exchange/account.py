"""The account of an exchange for the limiter: so far at each checkpoint, and final at its end."""

import asyncio
import logging
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec.structs import replace

from tallygate.domain.admission import Account
from tallygate.domain.ending import Ending
from tallygate.domain.errors import StoreError
from tallygate.domain.usage import UsageSource
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.bill import bill_of
from tallygate.gateway.exchange.charging import Bill
from tallygate.gateway.exchange.event import encode, event_of
from tallygate.gateway.services import Services

CHECKPOINTS_AT_ONCE: Final = 8  # exchanges whose accounts are made in one turn of the loop: a millisecond
GROUPS_MOST: Final = 50  # of a round: of more exchanges than this many groups of eight, more share a turn
_log: Final = logging.getLogger(__name__)


def account_of(answer: Answer, bill: Bill) -> Account:
    """The account of an answer with this bill."""
    usage = bill.metered.usage
    return Account(
        admission=answer.held.admission,
        cost_nano_usd=bill.cost_nano_usd,
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        event=encode(event_of(answer, bill)),
        is_owed=bill.is_owed,
        admitted_once=answer.held.decision.sent_once,
    )


async def checkpoint_of(answer: Answer, *, until: float) -> Account | None:
    """The account of an exchange if its worker dies now; None where its hold needs no lease of ours any more.

    until    of the loop's time: what is not counted by then is left to the next one. The lease is renewed all the same
    """
    if answer.is_ending:  # its settlement may wait for counting, or for the store, longer than a lease
        return None if answer.held.call.facts.job_kind is not None else await admission_stands(answer)
    if answer.sent_at is None:
        return await admission_stands(answer)
    try:
        async with asyncio.timeout_at(until):
            return await answer.held.call.head.treatment.checkpoint(answer)
    except TimeoutError:
        return await admission_stands(answer)


async def admission_stands(answer: Answer) -> Account:
    """The account at admission: the floor still applies."""
    admission = answer.held.admission
    return Account(
        admission=admission,
        cost_nano_usd=0,
        prompt_tokens=admission.floor_prompt_tokens,
        completion_tokens=admission.floor_completion_tokens,
        event=admission.event,
    )


async def progress(answer: Answer) -> Account:
    """The cost so far, with what the upstream may generate until the hold expires."""
    await answer.text.count(answer, is_last=False)
    bill = bill_of(answer, ahead_seconds=answer.held.admission.lease_ms / 1000)
    expired = replace(bill, ending=Ending.EXPIRED, metered=replace(bill.metered, source=UsageSource.CHECKPOINT))
    return account_of(answer, expired)


async def checkpoint_all(services: Services, answers: AbstractSet[Answer]) -> None:
    """Renew the leases of open exchanges and record their cost so far, many in one round trip. Raises StoreError.

    A hold expires with its worker, and not because that is slow: counting has the time between two rounds, and what fails for one
    exchange, or in one round trip, does so for no other. What is relayed meanwhile waits for a few exchanges at a time. Of an
    overloaded loop, whose every turn is long, a round takes few turns: of many exchanges more share one, and nobody waits for the
    store before all are sent.
    """
    until = services.loop.time() + services.bounds.checkpoint_seconds
    open_ones, sent = list(answers), []
    at_once = max(CHECKPOINTS_AT_ONCE, -(-len(open_ones) // GROUPS_MOST))
    for start in range(0, len(open_ones), at_once):
        accounts = await asyncio.gather(*(_attempted(answer, until) for answer in open_ones[start : start + at_once]))
        renewing = services.limiter.checkpoint([account for account in accounts if account is not None])
        sent.append(services.loop.create_task(renewing))
    for outcome in await asyncio.gather(*sent, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _attempted(answer: Answer, until: float) -> Account | None:
    try:
        return await checkpoint_of(answer, until=until)
    except Exception:  # noqa: BLE001 - of one exchange: the others' leases would end
        _log.exception("no checkpoint of an exchange")
        return None if answer.is_ending else await admission_stands(answer)


async def checkpoint_forever(services: Services, answers: AbstractSet[Answer]) -> None:
    """Every `checkpoint_seconds`, whatever is open then. If the store does not answer: the leases outlast several rounds."""
    while True:
        await asyncio.sleep(services.bounds.checkpoint_seconds)
        try:
            await checkpoint_all(services, answers)
        except StoreError as error:
            _log.warning("checkpoint failed: %s", error)
        except Exception:  # noqa: BLE001 - the outermost handler of this loop
            _log.exception("checkpoint failed")  # the next one must come all the same, or every lease would end
