"""What a body may have beside the members that its dialect acts on."""

from typing import Any

import msgspec
import pytest
from openai_wire import compact, read

from tallygate.dialects.dialect import Dialect
from tallygate.dialects.openai_embeddings import OpenAiEmbeddings
from tallygate.dialects.prompt_parts import PromptParts
from tallygate.dialects.request_members import RequestMembers
from tallygate.dialects.rerank import Rerank
from tallygate.domain.errors import RequestRejectedError


class Asked(msgspec.Struct):
    model: str | None = None
    max_tokens: int | None = None
    items: Any = None


MEMBERS = RequestMembers(Asked, inside=("weight",))


def rejected(members: RequestMembers[Asked], body: dict[str, Any]) -> str | None:
    """The member that a body is refused for."""
    with pytest.raises(RequestRejectedError) as refused:
        members.parse(compact(body))
    return refused.value.param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"Model": "m"}, "Model"),
        ({"maxTokens": 5}, "maxTokens"),
        ({"items": [{"Weight": 1}]}, "items[0].Weight"),
        ({"max_output_tokens": 5}, "max_output_tokens"),
        ({"fallbacks": ["m"]}, "fallbacks"),
        ({"max_tokens": "5"}, "max_tokens"),
    ],
)
def test_other_spellings_and_other_apis_fields_are_refused_by_name(body: dict[str, Any], param: str) -> None:
    assert rejected(MEMBERS, body) == param


def test_names_that_callers_choose_may_be_spelled_as_they_like_in_inner_objects_alone() -> None:
    members = RequestMembers(Asked, has_names_of_callers=True)
    assert members.parse(compact({"items": [{"Model": "a", "MAX_TOKENS": 1}]})).fields.items == [{"Model": "a", "MAX_TOKENS": 1}]
    assert rejected(members, {"Model": "a"}) == "Model"


def test_what_is_let_through_of_other_apis_may_be_more_than_what_is_acted_on() -> None:
    members = RequestMembers(Asked, own=("max_output_tokens",))
    assert members.parse(compact({"max_output_tokens": 5})).fields == Asked()
    assert rejected(members, {"max_tokens": 5}) == "max_tokens"


def test_the_text_of_unknown_members_counts() -> None:
    parts = PromptParts()
    MEMBERS.add_unknown(MEMBERS.parse(compact({"model": "m", "items": ["not"], "hint": {"say": "this"}})), parts)
    assert parts.shape().texts == ('{"say":"this"}',)
    MEMBERS.add_unknown(MEMBERS.parse(compact({"model": "m", "items": ["not"]})), parts)
    assert len(parts.shape().texts) == 1


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (Rerank(), {"model": "m", "query": "q", "documents": [{"Query": "a document's own", "text": "t"}]}),
        (OpenAiEmbeddings(), {"model": "m", "input": "a", "max_tokens": 5}),  # nothing is generated
    ],
)
def test_what_can_change_no_bill_is_let_through(dialect: Dialect, body: dict[str, Any]) -> None:
    assert read(dialect, body).model == "m"
