"""The ways in which an exchange is treated: a dialect reads it, none does, or it orders a batch. What differs stands here.

No stage asks. `match` chooses with the route. Errors and headers in an API's own shape are not among the differences: where a
route has no dialect, `Unmetered` is one.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from tallygate.dialects.dialect import RequestFacts
from tallygate.domain.admission import Account
from tallygate.domain.ending import Ending
from tallygate.domain.usage import UsageSource
from tallygate.gateway.exchange.account import admission_stands, progress
from tallygate.gateway.exchange.answer import Answer
from tallygate.gateway.exchange.bill import bill_batch, bill_fee, bill_tokens
from tallygate.gateway.exchange.call import Caller, Head, Intake, NamedObjects, Received
from tallygate.gateway.exchange.charging import Bill
from tallygate.gateway.exchange.client_body import BUFFERED_BYTES_MAX
from tallygate.gateway.exchange.estimate import Estimate
from tallygate.gateway.exchange.event import assumed, assumed_batch, none_used
from tallygate.gateway.exchange.finish import count_answer, count_nothing, tokens_made, tokens_stated
from tallygate.gateway.exchange.intake import any_query, readable_query
from tallygate.gateway.exchange.object_checks import made_as_asked, made_at_route, reads_always, reads_references
from tallygate.gateway.exchange.understanding import Understanding
from tallygate.gateway.passages import Passage, ReadablePassage

Understood = tuple[RequestFacts, Estimate, NamedObjects]


class Treatment(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The treatment of an exchange at each stage, in the order of the stages.

    reads_body          whether the body is read before it is forwarded
    query               the query to forward; refuses parameters and headers that would make the answer unreadable
    understand          the facts of a request, its cost at most, and the objects that it names
    makes               the kind of objects to look for in the answer, of a route's (`RouteObjects.makes`); empty for none
    first_word          source and flags of the event of an exchange of which only the admission is known
    passage             the conditions under which headers go up
    buffered_bytes_max  of a 2xx answer that is held back, so that its cost can stand in its head
    is_read_on          whether an answer is read on after its client has left
    count               the text that the upstream did not count
    bill                of an ending that may owe a fee, and the seconds in which more may be generated
    checkpoint          the account if the worker dies now
    made_tokens         by kind, the most that what the answer made can put into a later prompt
    """

    reads_body: Callable[[Head, Caller], bool]
    query: Callable[[Head, str], str]
    understand: Callable[[Understanding, Head, Caller, Intake, Received], Awaitable[Understood]]
    makes: Callable[[str, bytes], str]
    first_word: Callable[[Estimate], tuple[UsageSource, tuple[str, ...]]]
    passage: type[Passage]
    buffered_bytes_max: int
    is_read_on: bool
    count: Callable[[Answer], Awaitable[None]]
    bill: Callable[[Answer, Ending, int, float], Bill]
    checkpoint: Callable[[Answer], Awaitable[Account]]
    made_tokens: Callable[[Answer, Bill], Mapping[str, int]]


READ: Final = Treatment(
    reads_body=reads_always,
    query=readable_query,
    understand=Understanding.read,
    makes=made_as_asked,
    first_word=assumed,
    passage=ReadablePassage,
    buffered_bytes_max=BUFFERED_BYTES_MAX,
    is_read_on=True,
    count=count_answer,
    bill=bill_tokens,
    checkpoint=progress,
    made_tokens=tokens_made,
)
BATCH: Final = replace(
    READ,
    understand=Understanding.order,
    first_word=assumed_batch,
    count=count_nothing,
    bill=bill_batch,
    made_tokens=tokens_stated,
)
UNREAD: Final = Treatment(
    reads_body=reads_references,
    query=any_query,
    understand=Understanding.leave_unread,
    makes=made_at_route,
    first_word=none_used,
    passage=Passage,
    buffered_bytes_max=0,
    is_read_on=False,
    count=count_nothing,
    bill=bill_fee,
    checkpoint=admission_stands,
    made_tokens=tokens_stated,
)
