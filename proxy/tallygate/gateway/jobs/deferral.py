"""Deferring an exchange whose upstream goes on after its answer: its hold stays, and a job for it goes to the ledger."""

from typing import Final

import msgspec
from msgspec.structs import replace

from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.job_kinds import JOB_FACTS
from tallygate.domain.admission import Account
from tallygate.domain.job import Job, deferred_account
from tallygate.domain.prompt import PromptShape
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.bill import has_last_word, usage_of

_encode: Final = msgspec.json.Encoder().encode


def job_of(answer: Answer) -> Job | None:
    """The job by which an exchange goes on; None if it has ended with its answer."""
    held, reading = answer.held, answer.reading
    call, kind = held.call, held.call.facts.job_kind
    if kind is None or reading.job_id is None or not answer.relay.head.is_success:
        return None
    if (reading.ended and not reading.awaits_final_usage) or has_last_word(answer, usage_of(answer)):
        return None
    head, client, asked = call.head, call.head.client, call.estimate
    target = client.view.routes.target(head.route, head.sent_params, call.intake.query)
    held_nano_usd = held.decision.held_nano_usd or asked.hold_nano_usd
    event = replace(
        held.event,
        completion_tokens=asked.output_tokens,
        cost_nano_usd=held_nano_usd,
        status=answer.relay.head.status,
        made=answer.made,
    )
    return Job(
        id=client.id,
        kind=kind.value,
        org=call.caller.organization.id,
        credential=call.caller.credential.id,
        upstream=head.route.upstream,
        object_id=reading.job_id,
        target=JOB_FACTS[kind].target_of(target, reading.job_id),
        dialect=head.dialect.name,
        markup=head.markup,
        facts=msgspec.Raw(_encode(_without_texts(call.facts))),
        prompt_tokens=asked.prompt_tokens,
        fee_nano_usd=head.route.fee_nano_usd,
        held_nano_usd=held_nano_usd,
        started_at_ms=client.started_at_ms,
        deadline_ms=client.started_at_ms + JOB_FACTS[kind].lasts_ms,
        admission=replace(held.admission, event=b"", floor_completion_tokens=asked.output_tokens),
        event=msgspec.Raw(_encode(event)),
    )


def account_of_job(job: Job) -> Account:
    """The account that defers it."""
    return deferred_account(job, encoded=_encode(job))


def _without_texts(facts: RequestFacts) -> RequestFacts:
    """What an answer is read and charged by; of the prompt only that there is one."""
    prompt = PromptShape(messages=1) if facts.prompt != PromptShape() else facts.prompt
    return replace(facts, prompt=prompt, references=(), predicted="")
