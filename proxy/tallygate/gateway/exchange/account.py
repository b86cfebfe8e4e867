"""The account of an exchange for the limiter: so far at each checkpoint, and final at its end."""

from msgspec.structs import replace

from tallygate.domain.admission import Account
from tallygate.domain.ending import Ending
from tallygate.domain.token_counts import UsageSource
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.bill import Bill, bill_of
from tallygate.gateway.exchange.event import event_of


def account_of(answer: Answer, bill: Bill) -> Account:
    """The account of an answer with this bill."""
    counts = bill.metered.counts
    return Account(
        admission=answer.held.admission,
        cost_nano_usd=bill.cost_nano_usd,
        prompt_tokens=counts.prompt,
        completion_tokens=counts.completion,
        event=event_of(answer, bill),
        is_owed=bill.is_owed,
    )


async def checkpoint_of(answer: Answer) -> Account | None:
    """The account of an exchange if its worker dies now; None once it is being settled.

    It includes what the upstream may generate until the hold expires.
    """
    if answer.is_ending:
        return None
    admission = answer.held.admission
    if answer.sent_at is None or not answer.held.call.head.is_metered:
        return Account(  # the floor stays
            admission=admission,
            cost_nano_usd=0,
            prompt_tokens=admission.floor_prompt_tokens,
            completion_tokens=admission.floor_completion_tokens,
            event=admission.event,
        )
    await answer.text.count(answer, is_last=False)
    bill = bill_of(answer, ahead_seconds=admission.lease_ms / 1000)
    expired = replace(bill, ending=Ending.EXPIRED, metered=replace(bill.metered, source=UsageSource.CHECKPOINT))
    return account_of(answer, expired)
