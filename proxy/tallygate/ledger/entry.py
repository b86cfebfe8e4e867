"""One line of the ledger, and how an entry of the limiter's stream becomes one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final

import msgspec

from tallygate.domain.money import MONEY_MAX_NANO_USD
from tallygate.domain.usage_event import UsageEvent

TEXT_CHARS_MAX: Final = 1_024  # of any text of an event; what is longer is cut
_EVENT_ID_CHARS_MAX: Final = 128


class Kind(StrEnum):
    """Why an entry was made. The first five are the limiter's words, the last three the ledger's own corrections."""

    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"  # provisional: settled at the last checkpoint
    UNHELD = "unheld"
    LATE = "late"  # the final word after an expiry
    REVERSED = "reversed"  # takes back everything that the event came to so far
    REPRICED = "repriced"  # the difference to a corrected price
    CORRECTED = "corrected"  # the difference to the provider's own figures, told later


FINAL: Final = frozenset({Kind.SETTLED, Kind.RELEASED, Kind.UNHELD, Kind.LATE})


class MalformedEntryError(Exception):
    """A stream entry that is no usage event. The message says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of `entries`, whose columns have these names."""

    event_id: str
    sequence: int
    kind: Kind
    settled_at_ms: int
    entered_at_ms: int
    posted_at_ms: int
    org: str
    credential: str
    capability: str
    endpoint: str
    method: str
    request_model: str | None
    response_model: str | None
    upstream: str
    status: int
    outcome: str
    stream: bool
    started_at_ms: int
    duration_ms: int
    first_byte_ms: int | None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    audio_prompt_tokens: int
    reasoning_tokens: int
    audio_completion_tokens: int
    cost_nano_usd: int
    fee_nano_usd: int
    posted_nano_usd: int
    usage_source: str
    price_version: str | None
    request_bytes: int
    response_bytes: int
    client_request_id: str | None
    flags: str

    @property
    def model(self) -> str:
        """The model it counts under: the one that answered, else the one asked for; "" where there is none."""
        return self.response_model or self.request_model or ""

    def row(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ENTRY_FIELDS}


ENTRY_FIELDS: Final = tuple(field.name for field in fields(Entry))
SUMMED_FIELDS: Final = (  # what entries of one event add up to
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "audio_prompt_tokens",
    "reasoning_tokens",
    "audio_completion_tokens",
    "cost_nano_usd",
    "fee_nano_usd",
)
_NUMBERS: Final = tuple(
    field.name for field in fields(Entry) if field.type in {"int", "int | None", int, int | None} and field.name != "sequence"
)
_TEXTS: Final = tuple(field.name for field in fields(Entry) if field.type in {"str", "str | None", str, str | None})


def entry_of_stream(event: bytes, words: Mapping[bytes, bytes]) -> Entry:
    """The original entry of a usage event as the limiter's script appended it. Raises MalformedEntryError.

    words   the fields of the stream entry: cost, tokens and time are the limiter's, everything else is the event's
    """
    try:
        fact = _DECODER.decode(event)
        kind = Kind(words[b"kind"].decode())
        entered_at_ms = int(words[b"settled_at_ms"])
        counts_at_ms = int(words.get(b"expired_at_ms", entered_at_ms))  # one exchange counts at one time: that of its expiry
        cost, posted = int(words[b"cost_nano_usd"]), int(words[b"posted_nano_usd"])
        prompt, completion = int(words[b"prompt_tokens"]), int(words[b"completion_tokens"])
        event_id = words[b"event_id"].decode()
        flags = ",".join(dict.fromkeys([*fact.flags, *filter(None, words.get(b"flags", b"").decode().split(","))]))
    except (KeyError, ValueError, RecursionError) as error:
        raise MalformedEntryError(f"{type(error).__name__}: {error}"[:TEXT_CHARS_MAX]) from error
    if event_id != fact.event_id or not 0 < len(event_id) <= _EVENT_ID_CHARS_MAX or not event_id.isprintable():
        raise MalformedEntryError("the event's id is not that of its stream entry, or unusable")
    if not fact.org or kind in {Kind.REVERSED, Kind.REPRICED, Kind.CORRECTED}:
        raise MalformedEntryError("no organization" if not fact.org else f"kind {kind} is not the limiter's")
    return _checked(
        Entry(
            event_id=event_id,
            sequence=0,
            kind=kind,
            settled_at_ms=counts_at_ms,
            entered_at_ms=entered_at_ms,
            posted_at_ms=counts_at_ms,
            org=fact.org,
            credential=fact.credential,
            capability=fact.capability,
            endpoint=fact.endpoint,
            method=fact.method,
            request_model=fact.request_model,
            response_model=fact.response_model,
            upstream=fact.upstream,
            status=fact.status,
            outcome=fact.outcome.value,
            stream=fact.stream,
            started_at_ms=fact.started_at_ms,
            duration_ms=fact.duration_ms,
            first_byte_ms=fact.first_byte_ms,
            requests=1,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=fact.cached_tokens,
            cache_write_tokens=fact.cache_write_tokens,
            cache_write_1h_tokens=fact.cache_write_1h_tokens,
            audio_prompt_tokens=fact.audio_prompt_tokens,
            reasoning_tokens=fact.reasoning_tokens,
            audio_completion_tokens=fact.audio_completion_tokens,
            cost_nano_usd=cost,
            fee_nano_usd=min(fact.fee_nano_usd, cost),  # of a hold that was withdrawn nothing is owed, whatever its event says
            posted_nano_usd=posted,
            usage_source=fact.usage_source.value,
            price_version=fact.price_version,
            request_bytes=fact.request_bytes,
            response_bytes=fact.response_bytes,
            client_request_id=fact.client_request_id,
            flags=flags,
        )
    )


def _checked(entry: Entry) -> Entry:
    """The entry with texts that every database can hold. Raises MalformedEntryError for numbers that no counter could."""
    for name in _NUMBERS:
        number = getattr(entry, name)
        if number is not None and not -MONEY_MAX_NANO_USD <= number <= MONEY_MAX_NANO_USD:
            raise MalformedEntryError(f"{name} is {number}")
    changed: dict[str, Any] = {
        name: plain for name in _TEXTS if (text := getattr(entry, name)) is not None and (plain := _storable(text)) is not text
    }
    return replace(entry, **changed) if changed else entry


def _storable(text: str) -> str:
    """Text without what PostgreSQL refuses: NUL, and halves of surrogate pairs."""
    if len(text) <= TEXT_CHARS_MAX and (text.isascii() and "\0" not in text):
        return text
    return text[:TEXT_CHARS_MAX].replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_posted_again(existing: Sequence[Entry], incoming: Entry) -> bool:
    """Whether the limiter has taken an event twice, and so its windows the money: it had forgotten that the event was settled.

    An entry that is merely delivered again has the time of the one that is there. An expiry that a writer is late with belongs to
    a late final word; after any other, the hold came back with a store that lost its last writes.
    """
    finals = [entry for entry in existing if entry.kind in FINAL]
    if not finals or any(entry.entered_at_ms == incoming.entered_at_ms for entry in existing):
        return False
    return incoming.kind is not Kind.EXPIRED or all(entry.kind is not Kind.LATE for entry in finals)


def following(existing: Sequence[Entry], incoming: Entry) -> tuple[Entry, ...]:
    """What `incoming` adds to an event that has entries already, given in their order; nothing if it is told again.

    What the limiter has taken twice adds nothing either: its windows are wrong then, not the ledger (`is_posted_again`).
    An expired hold was settled at its checkpoint. The final word replaces that: one entry takes everything back, the next is the
    whole again. Should another writer have been faster with the final word, the expiry counts only as what it posted.
    """
    last = existing[-1]
    kinds = {entry.kind for entry in existing}
    if incoming.kind is Kind.EXPIRED:
        if Kind.EXPIRED in kinds or is_posted_again(existing, incoming):
            return ()
        nothing: dict[str, Any] = dict.fromkeys(SUMMED_FIELDS, 0)
        return (replace(incoming, sequence=last.sequence + 1, settled_at_ms=last.settled_at_ms, **nothing),)
    if not kinds.isdisjoint(FINAL):
        return ()
    sums: dict[str, Any] = {name: -sum(getattr(entry, name) for entry in existing) for name in SUMMED_FIELDS}
    taken_back = replace(
        last,
        sequence=last.sequence + 1,
        kind=Kind.REVERSED,
        entered_at_ms=incoming.entered_at_ms,
        posted_at_ms=incoming.entered_at_ms,
        posted_nano_usd=0,
        flags="",
        **sums,
    )
    whole = replace(
        incoming,
        sequence=last.sequence + 2,
        settled_at_ms=last.settled_at_ms,
        posted_at_ms=existing[0].posted_at_ms if incoming.kind is Kind.LATE else incoming.posted_at_ms,
    )
    return taken_back, whole


_DECODER: Final = msgspec.json.Decoder(UsageEvent)
