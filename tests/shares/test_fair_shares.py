"""Shares shrink as others come, and a newcomer always finds something."""

from hypothesis import given
from hypothesis import strategies as st

from tallygate.shares.fair_shares import FairShares


def fill(shares: FairShares, org: str, amount: int = 1) -> int:
    """How often it gets that much."""
    taken = 0
    while shares.acquire(org, amount):
        taken += 1
    return taken


def test_one_alone_gets_three_quarters_and_a_newcomer_three_of_what_is_left() -> None:
    shares = FairShares(400)
    assert fill(shares, "first") == 300
    assert fill(shares, "second") == 75
    assert fill(shares, "third") > 10
    assert shares.held("first") == 300


def test_what_is_given_back_is_free_again() -> None:
    shares = FairShares(100)
    assert shares.acquire("one", 70)
    assert not shares.acquire("one", 10)
    shares.release("one", 70)
    assert (shares.taken, shares.held("one")) == (0, 0)
    assert shares.acquire("one", 100)
    assert not shares.acquire("two", 1)


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 20), st.booleans()), max_size=60),
)
def test_never_more_than_there_is_and_nothing_is_forgotten(most: int, steps: list[tuple[str, int, bool]]) -> None:
    shares, held = FairShares(most), dict.fromkeys("abcd", 0)
    for org, amount, takes in steps:
        if takes:
            held[org] += amount if shares.acquire(org, amount) else 0
        else:
            given = min(amount, held[org])
            shares.release(org, given)
            held[org] -= given
        assert shares.taken == sum(held.values()) <= most
        assert all(shares.held(one) == amount for one, amount in held.items())
