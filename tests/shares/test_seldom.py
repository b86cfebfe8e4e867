"""Lines of the log about what lasts."""

from tallygate.shares.seldom import EVERY_SECONDS, Seldom


def test_a_line_is_due_at_once_and_then_once_a_minute_for_each_kind() -> None:
    seconds = 5.0
    seldom = Seldom(lambda: seconds)
    assert [seldom.is_due("disk"), seldom.is_due("disk"), seldom.is_due("store")] == [True, False, True]
    seconds += EVERY_SECONDS - 0.5
    assert not seldom.is_due("disk")
    seconds += 0.5
    assert [seldom.is_due("disk"), seldom.is_due("disk")] == [True, False]


def test_what_is_over_is_told_at_once_when_it_comes_again() -> None:
    seldom = Seldom(lambda: 5.0)
    assert seldom.is_due()
    seldom.forget()
    seldom.forget("never logged")
    assert [seldom.is_due(), seldom.is_due()] == [True, False]
