"""What a request can ask of the simulator."""

import pytest

from tallygate.simulator.directive import Directive, DirectiveError, ExtraPass, Fault, UsageStyle, find_directive, parse_directive


def test_pairs_may_be_parted_by_semicolons_or_blanks() -> None:
    wanted = Directive(tokens=50, fault=Fault.CUT, at=10, how="rst", usage=UsageStyle.MISSING)

    assert parse_directive("tokens=50; fault=cut;at=10;how=rst ; usage=missing") == wanted
    assert parse_directive("tokens=50 fault=cut at=10 how=rst usage=missing") == wanted


def test_passes_name_their_kind_their_tokens_and_perhaps_a_model() -> None:
    wanted = (ExtraPass("compaction", 180_000, 3_500, ""), ExtraPass("message", 9, 0, "claude-opus-5-5"))
    assert parse_directive("passes=compaction:180000/3500,message:9/0@claude-opus-5-5").passes == wanted
    assert [each.is_billed for each in wanted] == [True, False]


def test_a_status_fault_carries_its_status() -> None:
    assert parse_directive("fault=status:529").status == 529


def test_the_header_goes_before_the_prompt() -> None:
    assert find_directive("tokens=1", "[[sim tokens=2]] hello").tokens == 1
    assert find_directive(None, "[[sim tokens=2]] hello").tokens == 2
    assert find_directive(None, "<note>of an agent</note> [[sim tokens=2]] hello").tokens == 2
    assert find_directive(None, "hello [sim tokens=2]") == Directive()


@pytest.mark.parametrize(
    "text",
    [
        "tokns=5",
        "tokens=many",
        "tokens=-1",
        "tokens=1000001",
        "fault=explode",
        "fault=status:x",
        "usage=none",
        "how=maybe",
        "tool=yes",
        "tokens",
        "passes=compaction",
        "passes=compaction:5",
        "passes=compaction:5/x",
        "passes=compaction:1000001/1",
        "refuse=yes",
    ],
)
def test_what_cannot_be_followed_is_an_error(text: str) -> None:
    with pytest.raises(DirectiveError):
        parse_directive(text)
