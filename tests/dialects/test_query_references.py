"""References in queries."""

import pytest

from tallygate.dialects.references import query_references


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ([("after", "f1"), ("limit", "2")], [("file", "f1")]),
        ([("Before_ID", "f1")], [("file", "f1")]),
        ([("chat_id", "own"), ("x", "1;chat_id=theirs")], [("chat", "own"), ("chat", "theirs")]),
        ([("file_ids[]", "f1"), ("file_ids[]", "f2")], [("file", "f1"), ("file", "f2")]),
        ([("after", "")], []),
    ],
)
def test_a_query_names_objects(query: list[tuple[str, str]], found: list[tuple[str, str]]) -> None:
    assert [(named.kind, named.id) for named in query_references(query, listed="file")] == found
