"""How an exchange ended: nothing is free once the upstream has accepted, and nothing is owed that it did not take."""

from itertools import product

import pytest

from tallygate.domain.ending import Ending, ending_of
from tallygate.domain.usage_event import Outcome

STATUSES = (0, 200, 204, 299, 300, 307, 399, 400, 404, 429, 499, 500, 503)
FLAGS = list(product((False, True), repeat=4))


@pytest.mark.parametrize("status", STATUSES)
def test_what_was_not_sent_owes_nothing(status: int) -> None:
    for complete, gone, failed, short in FLAGS:
        ended = ending_of(
            is_sent=False, status=status, is_complete=complete, is_client_gone=gone, has_failed=failed, is_short=short
        )
        assert ended is (Ending.CALLED_OFF if gone else Ending.FAILED)
        assert not ended.may_owe


@pytest.mark.parametrize("status", STATUSES)
def test_what_was_sent_may_owe_unless_the_upstream_refused_it(status: int) -> None:
    for complete, gone, failed, short in FLAGS:
        ended = ending_of(is_sent=True, status=status, is_complete=complete, is_client_gone=gone, has_failed=failed, is_short=short)
        assert ended.may_owe == (status < 300)


@pytest.mark.parametrize(
    ("status", "facts", "outcome"),
    [
        (200, {"is_complete": True}, Outcome.SUCCESS),
        (200, {"is_complete": True, "is_short": True}, Outcome.TRUNCATED),
        (200, {"is_complete": True, "has_failed": True}, Outcome.UPSTREAM_ERROR),
        (200, {"is_complete": True, "is_client_gone": True}, Outcome.SUCCESS),  # it was read on to its end
        (200, {"is_client_gone": True}, Outcome.CLIENT_GONE),
        (200, {"is_client_gone": True, "has_failed": True}, Outcome.UPSTREAM_ERROR),
        (200, {}, Outcome.TRUNCATED),
        (0, {}, Outcome.UPSTREAM_ERROR),
        (0, {"is_client_gone": True}, Outcome.CLIENT_GONE),
        (302, {"is_complete": True}, Outcome.SUCCESS),
        (302, {}, Outcome.TRUNCATED),
        (302, {"is_client_gone": True}, Outcome.CLIENT_GONE),
        (404, {"is_complete": True}, Outcome.CLIENT_ERROR),
        (404, {"is_client_gone": True}, Outcome.CLIENT_ERROR),
        (500, {"is_complete": True}, Outcome.UPSTREAM_ERROR),
    ],
)
def test_an_ending_has_the_outcome_that_usage_shows(status: int, facts: dict[str, bool], outcome: Outcome) -> None:
    ended = ending_of(is_sent=True, status=status, **{"is_complete": False, "is_client_gone": False} | facts)
    assert ended.outcome is outcome


def test_no_two_endings_are_one() -> None:
    assert len(Ending) == len(Ending.__members__)


def test_every_outcome_of_an_admitted_exchange_has_an_ending() -> None:
    assert {ending.outcome for ending in Ending} == set(Outcome) - {Outcome.REFUSED}
