"""What an answer says of its own age, and of where history begins."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tallygate.domain.instants import instant_text
from tallygate.domain.organization import RETIRED, Organization
from tallygate.ledger.history import OrgScope


class Dated(msgspec.Struct, frozen=True, kw_only=True):
    """Members of answers about usage.

    as_of         everything that the ledger had taken by then is counted: when it was read, or with a read replica shortly before
    history_from  usage before it is not shown of every organization that was asked about, since a plan keeps it no longer; null
                  if all is shown
    is_whole      the range begins no earlier than that, so that nothing of it is cut off
    retired       ids of those that left the configuration; their days and months are those of UTC
    """

    as_of: str
    history_from: str | None
    is_whole: bool
    retired: list[str]


def history_from_ms(scopes: Sequence[OrgScope]) -> int:
    """The instant from which usage of all of them is shown; 0 if their plans keep it without end."""
    return max((scope.visible_from_ms for scope in scopes), default=0)


def dated(
    organizations: Iterable[Organization], scopes: Sequence[OrgScope], from_ms: int, *, as_of_ms: int, zone: str
) -> dict[str, Any]:
    """The members of `Dated`, for an answer about a range that begins at from_ms."""
    begins = history_from_ms(scopes)
    return {
        "as_of": instant_text(as_of_ms, zone),
        "history_from": instant_text(begins, zone) if begins else None,
        "is_whole": begins <= from_ms,
        "retired": [organization.id for organization in organizations if organization.plan is RETIRED],
    }
