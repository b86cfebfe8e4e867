"""An entry of the limiter's stream becomes a line of the ledger, or is malformed, which says why."""

from typing import Any

import pytest
from ledger_values import a_fact, an_entry, stream_fields

from tallygate.domain.money import MONEY_MAX_NANO_USD
from tallygate.domain.stored_object import StoredKind
from tallygate.domain.usage_event import MadeObject
from tallygate.ledger.entry import Kind, MalformedEntryError, entry_of_stream


@pytest.mark.parametrize("kind", ["settled", "released", "expired", "unheld", "late"])
def test_each_kind_of_the_limiter_is_taken(kind: str) -> None:
    assert an_entry(kind=kind).kind is Kind(kind)


@pytest.mark.parametrize("kind", ["reversed", "repriced", "corrected", "SETTLED", "", "\ufffd"])
def test_any_other_kind_is_malformed(kind: str) -> None:
    with pytest.raises(MalformedEntryError, match="is not the limiter's"):
        an_entry(kind=kind)


@pytest.mark.parametrize("name", ["first_byte_ms", "duration_ms", "started_at_ms", "cached_tokens", "cost_nano_usd"])
@pytest.mark.parametrize("number", [MONEY_MAX_NANO_USD + 1, -MONEY_MAX_NANO_USD - 1])
def test_a_number_beyond_the_counters_is_malformed_and_named(name: str, number: int) -> None:
    with pytest.raises(MalformedEntryError, match=name):
        an_entry(**{"event_id": "some-id", name: number})
    assert getattr(an_entry(**{"event_id": "some-id", name: MONEY_MAX_NANO_USD}), name) == MONEY_MAX_NANO_USD


@pytest.mark.parametrize("missing", ["kind", "event_id", "settled_at_ms", "cost_nano_usd", "posted_nano_usd", "prompt_tokens"])
def test_a_missing_word_is_malformed(missing: str) -> None:
    fields = stream_fields(a_fact())
    event = fields.pop(b"event")
    del fields[missing.encode()]
    with pytest.raises(MalformedEntryError, match=missing):
        entry_of_stream(event, fields)


def test_what_a_line_does_not_have_stays_out_of_it() -> None:
    made = (MadeObject(kind=StoredKind.FILE, id="file-1", upstream="default"),)
    more: dict[str, Any] = {"made": made, "deleted": made, "flags": ("overrun",)}
    assert an_entry(**more) == an_entry(flags=("overrun",))
