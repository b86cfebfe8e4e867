"""Values of the export's tests: entries, and texts that a spreadsheet or a parser could take for something else."""

from typing import Any

from settled_entry import a_settled_entry

from tallygate.ledger.entry import Entry, Kind
from tallygate.ledger.export.selection import Selection
from tallygate.ledger.history import OrgScope

START_MS = 1_793_500_000_000  # 2026-11-01T02:26:40Z
EVER_MS = 2**42
ODD_TEXTS = (
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "\uff1d1",  # full width
    "'quoted",
    "''twice",
    'say "hi"',
    "a,b;c",
    "two\r\nlines",
    "naïve ☕ 模型",
    " padded ",
    "",
)


def an_entry(number: int = 1, **changed: Any) -> Entry:
    """A settled chat answer of Acme's; each number a millisecond later."""
    own = {"response_model": "gpt-4o-2024-08-06", "cost_nano_usd": 500_001, "posted_nano_usd": 500_001}
    moment = {"event_id": f"{START_MS:012x}{number:020x}", "settled_at_ms": START_MS + number}
    return a_settled_entry(**{**own, **moment, "credential": "acme-prod", **changed})


def a_correction(of: Entry, cost_nano_usd: int, *, sequence: int = 1, kind: Kind = Kind.REPRICED, **changed: Any) -> Entry:
    """A difference in cost that was entered a day later."""
    nothing = dict.fromkeys(
        ("requests", "prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"), 0
    )
    entered = {"entered_at_ms": of.entered_at_ms + 86_400_000, "posted_nano_usd": 0}
    values = {name: getattr(of, name) for name in of.__struct_fields__}
    return Entry(**{**values, **nothing, **entered, "sequence": sequence, "kind": kind, "cost_nano_usd": cost_nano_usd, **changed})


def odd_entries() -> list[Entry]:
    """One for each odd text, in every free text it could stand in."""
    return [
        an_entry(number, credential=text or "none", request_model=text or None, response_model=text, client_request_id=text)
        for number, text in enumerate(ODD_TEXTS)
    ]


def everything(*orgs: str, **changed: Any) -> Selection:
    scopes = tuple(OrgScope(org=org) for org in orgs or ("acme",))
    return Selection(**{"scopes": scopes, "from_ms": 0, "to_ms": EVER_MS, "as_of_ms": EVER_MS, **changed})
