"""The values that the stages of an exchange pass on. None changes once it is made. `pipeline.py` has the stages."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from tallygate.config.model import Route
from tallygate.dialects.dialect import Dialect, RequestFacts
from tallygate.dialects.form import FormReader
from tallygate.domain.admission import AdmissionRequest, Decision
from tallygate.domain.made_object import MadeObject
from tallygate.domain.organization import Credential, Organization
from tallygate.domain.usage_event import UsageEvent
from tallygate.gateway.exchange.answer_reader import AnswerObjects
from tallygate.gateway.exchange.caller_limits import CallerLimits
from tallygate.gateway.exchange.estimate import Estimate
from tallygate.gateway.services import View
from tallygate.gateway.upstream import UpstreamClient
from tallygate.http1.client_connection import ClientConnection
from tallygate.http1.client_response import ClientResponse
from tallygate.http1.request_body import Content

if TYPE_CHECKING:  # the treatments are made of the stages, which take these values
    from tallygate.gateway.exchange.treatments import Treatment


class Client(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A request as received, and its response.

    id          of the exchange, chosen before its first effect
    view        the configuration that it began with, which it keeps
    started_at  monotonic seconds; started_at_ms: Unix time
    """

    id: str
    request: web.BaseRequest
    response: ClientResponse
    connection: ClientConnection
    view: View
    started_at: float
    started_at_ms: int


class Head(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The endpoint that the head of a request names.

    dialect        what reads it; at a route without one `Unmetered`, in the shape of the API whose path it is
    treatment      what differs where no dialect reads it
    is_shared      all organizations share the operator's key at this upstream
    params         the parameters of the path, as they are read; sent_params: as they came, and go up
    """

    client: Client
    route: Route
    upstream: UpstreamClient
    dialect: Dialect
    treatment: "Treatment"
    is_shared: bool
    params: Mapping[str, str]
    sent_params: Mapping[str, str]

    @property
    def markup(self) -> int:
        """The markup of the route, or else of its upstream, in millionths of list prices."""
        of_route = self.route.markup
        return self.upstream.config.markup if of_route is None else of_route


class Caller(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The caller, and the limits that bind its requests of this kind. client_request_id: the client's own id of the exchange."""

    organization: Organization
    credential: Credential
    limits: CallerLimits
    client_request_id: str | None


class Received(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A request body as far as it was read before anything is sent.

    body      decoded
    is_whole  nothing of it is left to come
    form      its form; None if it is none that a dialect reads
    content   the source of what is left of a form
    """

    body: bytes = b""
    is_whole: bool = True
    form: FormReader | None = None
    content: Content | None = None


class Intake(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The way in which the body is received, and what is forwarded.

    is_body_read  the body is read before anything is sent, whole unless it is a form; else it streams through
    codings       of the body as it comes; it is forwarded decoded
    query         as it is forwarded
    """

    is_body_read: bool
    codings: tuple[str, ...]
    query: str


class NamedObjects(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The stored objects that a request names, all of them its organization's own.

    tokens    what each of them can put into a prompt at most; None where that is not known
    deleting  those that the request deletes, if the upstream does as it is asked
    """

    tokens: Mapping[MadeObject, int | None] = {}
    deleting: tuple[MadeObject, ...] = ()

    @property
    def referred_tokens(self) -> int | None:
        """The most that all of them can add to the prompt; None if that is not known of each."""
        known = [tokens for tokens in self.tokens.values() if tokens is not None]
        return sum(known) if known and len(known) == len(self.tokens) else None


NO_OBJECTS_NAMED = NamedObjects()


class Call(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """An understood request: the caller, what it asks for, and its maximum cost.

    received as far as it was read
    objects  what to look for in the answer about stored objects; None for nothing
    """

    head: Head
    caller: Caller
    intake: Intake
    received: Received
    facts: RequestFacts
    estimate: Estimate
    named: NamedObjects
    objects: AnswerObjects | None


class Held(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """An admitted call, with the limiter's hold.

    event        of the exchange if nothing more were heard of it
    is_fallback  admitted without the limiter's store
    """

    call: Call
    admission: AdmissionRequest
    event: UsageEvent
    decision: Decision
    is_fallback: bool
