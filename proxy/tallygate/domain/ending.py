"""Endings of admitted exchanges. The ending alone decides the outcome, and whether anything can be owed."""

from enum import Enum
from typing import Final

from tallygate.domain.usage_event import Outcome


class Ending(Enum):
    """An ending, with the outcome that metrics and usage show, and whether the upstream may bill.

    Once the upstream has accepted a request and not refused it, something is owed: disconnecting must not make tokens free.
    """

    CALLED_OFF = (Outcome.CLIENT_GONE, False)  # the client left before anything was sent, or began to be generated
    REFUSED = (Outcome.CLIENT_ERROR, False)  # 4xx
    FAILED = (Outcome.UPSTREAM_ERROR, False)  # 5xx, or no upstream accepted the request
    REDIRECTED = (Outcome.SUCCESS, False)  # 3xx, for the client to follow
    REDIRECT_CUT = (Outcome.TRUNCATED, False)
    COMPLETE = (Outcome.SUCCESS, True)
    CUT_SHORT = (Outcome.TRUNCATED, True)  # the answer ended before its end, whether or not the HTTP message did
    BROKEN = (Outcome.UPSTREAM_ERROR, True)  # an error inside a 200 answer, or no answer to an accepted request
    CLIENT_LEFT = (Outcome.CLIENT_GONE, True)  # before the answer's end
    EXPIRED = (Outcome.EXPIRED, True)  # not ended: how it ends if its worker dies now

    def __init__(self, outcome: Outcome, may_owe: bool) -> None:  # noqa: FBT001 - a member's value
        self.outcome = outcome
        self.may_owe = may_owe


_COMPLETE: Final = Ending.COMPLETE  # read once: a member of an enum takes a call to look up


def ending_of(
    *, is_sent: bool, status: int, is_complete: bool, is_client_gone: bool, has_failed: bool = False, is_short: bool = False
) -> Ending:
    """Classify how an exchange ended.

    status       of the answer; 0 if none came
    is_complete  the HTTP message is complete
    has_failed   the answer contains an error; is_short: it lacks its API's own end
    """
    if not is_sent:
        return Ending.CALLED_OFF if is_client_gone else Ending.FAILED
    if status >= 300:
        return _without_output(status, is_complete=is_complete, is_client_gone=is_client_gone)
    if has_failed:
        return Ending.BROKEN
    if is_complete:
        return Ending.CUT_SHORT if is_short else _COMPLETE
    if is_client_gone:
        return Ending.CLIENT_LEFT
    return Ending.CUT_SHORT if status else Ending.BROKEN


def _without_output(status: int, *, is_complete: bool, is_client_gone: bool) -> Ending:
    if status >= 500:
        return Ending.FAILED
    if status >= 400:
        return Ending.REFUSED
    if is_complete:
        return Ending.REDIRECTED
    return Ending.CALLED_OFF if is_client_gone else Ending.REDIRECT_CUT
