"""An entry of the ledger, as tests of its readers begin with it."""

from typing import Any

from tallygate.ledger.entry import Entry, Kind


def a_settled_entry(*, event_id: str, settled_at_ms: int, org: str = "acme", **changed: Any) -> Entry:
    """A chat answer of 100 and 20 tokens that cost half a thousandth of a dollar."""
    fields: dict[str, Any] = {
        "sequence": 0,
        "kind": Kind.SETTLED,
        "entered_at_ms": settled_at_ms,
        "posted_at_ms": settled_at_ms,
        "credential": f"{org}-prod",
        "capability": "chat",
        "endpoint": "/v1/chat/completions",
        "method": "POST",
        "request_model": "gpt-4o",
        "response_model": "gpt-4o",
        "upstream": "default",
        "status": 200,
        "outcome": "success",
        "stream": False,
        "started_at_ms": settled_at_ms - 800,
        "duration_ms": 800,
        "first_byte_ms": 200,
        "requests": 1,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cached_tokens": 40,
        "cache_write_tokens": 10,
        "cache_write_1h_tokens": 0,
        "audio_prompt_tokens": 0,
        "reasoning_tokens": 5,
        "audio_completion_tokens": 0,
        "cost_nano_usd": 500_000,
        "fee_nano_usd": 0,
        "posted_nano_usd": 500_000,
        "usage_source": "upstream",
        "price_version": "v1",
        "request_bytes": 300,
        "response_bytes": 600,
        "client_request_id": None,
        "flags": "",
    }
    return Entry(**{**fields, "event_id": event_id, "settled_at_ms": settled_at_ms, "org": org, **changed})
