"""One line of the ledger, and its conversion from an entry of the limiter's stream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter, itemgetter
from types import NoneType
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import asdict, astuple, replace

from tallygate.domain.billed import image_tokens
from tallygate.domain.money import MONEY_MAX_NANO_USD
from tallygate.domain.unit_kind import KIND_COSTS
from tallygate.domain.usage_event import Amount, ExchangeFacts, UsageEvent

TEXT_CHARS_MAX: Final = 1_024  # of any text of an event; what is longer is cut
MODEL_CHARS_MAX: Final = 256  # of the name under which an entry counts: sums, lists and filters have the same
BILLED_CHARS_MAX: Final = 65_536  # of JSON, which cannot be cut; a gateway writes less
_EVENT_ID_CHARS_MAX: Final = 128


class Kind(StrEnum):
    """The reason for an entry. The first five are the limiter's, the last three the ledger's own corrections."""

    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"  # provisional: settled at the last checkpoint
    UNHELD = "unheld"
    LATE = "late"  # the final amounts after an expiry
    REVERSED = "reversed"  # cancels all earlier amounts of the event
    REPRICED = "repriced"  # the difference to a corrected price
    CORRECTED = "corrected"  # the difference to the provider's own figures, entered later


_OF_THE_LIMITER: Final = {kind.encode(): kind for kind in (Kind.SETTLED, Kind.RELEASED, Kind.EXPIRED, Kind.UNHELD, Kind.LATE)}
FINAL: Final = frozenset({Kind.SETTLED, Kind.RELEASED, Kind.UNHELD, Kind.LATE})


class MalformedEntryError(Exception):
    """A stream entry that is no usage event. The message states what is wrong."""


class Entry(ExchangeFacts, frozen=True, kw_only=True):
    """A row of `entries`, whose columns have these names.

    sequence         0 is the original, later ones correct it
    settled_at_ms    the original's in all entries of an event, which determines their day, bucket and history
    entered_at_ms    the entry's own
    posted_nano_usd  the amount posted to the limiter's windows, at posted_at_ms
    flags            the event's and the limiter's, separated by commas
    image_...        of what was billed (`image_tokens`), parts of prompt and completion: amounts, so that they can be added up
    """

    sequence: int
    kind: Kind
    settled_at_ms: int
    entered_at_ms: int
    posted_at_ms: int
    posted_nano_usd: int
    flags: str
    image_prompt_tokens: Amount = 0
    image_completion_tokens: Amount = 0

    @property
    def model(self) -> str:
        """The model under which it counts: the one that answered, else the one asked for; "" if there is none."""
        return model_label(self.response_model or self.request_model or "")


@dataclass(frozen=True, slots=True)
class EntryField:
    """A field of an entry. type: int, bool, or str for every kind of text. is_amount: the entries of one event add up."""

    name: str
    type: type[int | bool | str]
    is_nullable: bool
    is_amount: bool


def _field(name: str, hint: Any) -> EntryField:
    is_amount = get_origin(hint) is Annotated
    types = [each for each in (get_args(hint)[:1] if is_amount else get_args(hint) or (hint,)) if each is not NoneType]
    (plain,) = [next(each for each in (bool, int, str) if issubclass(found, each)) for found in types]
    return EntryField(name, plain, is_nullable=NoneType in get_args(hint), is_amount=is_amount)


def fields_of(struct: type) -> tuple[EntryField, ...]:
    """The fields of a struct whose rows have columns of these names."""
    return tuple(_field(name, hint) for name, hint in get_type_hints(struct, include_extras=True).items())


ENTRY_FIELDS: Final = fields_of(Entry)
SUMMED_FIELDS: Final = tuple(field.name for field in ENTRY_FIELDS if field.is_amount)
_NUMBERS: Final = tuple(
    field.name for field in ENTRY_FIELDS if field.type is int and field.name not in {"sequence", "first_byte_ms"}
)
_TEXTS: Final = tuple(field.name for field in ENTRY_FIELDS if field.type is str and field.name != "billed")
_ENUMS: Final = tuple(
    place for place, hint in enumerate(get_type_hints(Entry).values()) if isinstance(hint, type) and issubclass(hint, StrEnum)
)
plain: Final = str.__str__  # of an enum's member; its `value` takes two calls to look up
_kinds_of: Final = attrgetter(*KIND_COSTS)
_numbers_of: Final = itemgetter(*map(Entry.__struct_fields__.index, _NUMBERS))  # of an entry as a tuple
_texts_of: Final = itemgetter(*map(Entry.__struct_fields__.index, _TEXTS))


def model_label(name: str) -> str:
    """The name under which a model counts."""
    return name[:MODEL_CHARS_MAX]


def row_of(entry: Entry) -> tuple[Any, ...]:
    """The row of `entries`. Its texts are plain ones: SQLite's driver takes a microsecond to make one of an enum's member."""
    row = list(astuple(entry))
    for place in _ENUMS:
        row[place] = plain(row[place])
    return tuple(row)


def last_word(entries: Sequence[Entry]) -> Entry:
    """The entry that has all facts of an event: its final one, else its only one."""
    return next((entry for entry in reversed(entries) if entry.kind in FINAL), entries[0])


def sums_of(entries: Sequence[Entry]) -> dict[str, Any]:
    """The amounts of an event that has these entries, by the names of `SUMMED_FIELDS`."""
    return {name: sum(getattr(entry, name) for entry in entries) for name in SUMMED_FIELDS}


def entry_of_stream(event: bytes, words: Mapping[bytes, bytes]) -> Entry:
    """The original entry of a usage event as the limiter's script appended it. Raises MalformedEntryError.

    words   the fields of the stream entry: cost, tokens and time come from the limiter, everything else from the event
    """
    try:
        fact = _DECODER.decode(event)
        kind = _OF_THE_LIMITER.get(words[b"kind"])
        entered_at_ms = int(words[b"settled_at_ms"])
        counts_at_ms = int(words.get(b"expired_at_ms", entered_at_ms))  # one exchange counts at one time, its expiry
        cost, posted = int(words[b"cost_nano_usd"]), int(words[b"posted_nano_usd"])
        prompt, completion = int(words[b"prompt_tokens"]), int(words[b"completion_tokens"])
        event_id = words[b"event_id"].decode()
        flags = _flags_of(fact.flags, words.get(b"flags", b"").decode())
    except (KeyError, ValueError, RecursionError) as error:
        raise MalformedEntryError(f"{type(error).__name__}: {error}"[:TEXT_CHARS_MAX]) from error
    if event_id != fact.event_id or not 0 < len(event_id) <= _EVENT_ID_CHARS_MAX or not event_id.isprintable():
        raise MalformedEntryError("the event's id is not that of its stream entry, or unusable")
    if not fact.org or kind is None:
        raise MalformedEntryError(f"kind {words[b'kind']!r} is not the limiter's" if fact.org else "no organization")
    facts = asdict(fact)
    facts["cost_nano_usd"], facts["prompt_tokens"], facts["completion_tokens"] = cost, prompt, completion
    facts["fee_nano_usd"] = fee = min(fact.fee_nano_usd, cost)  # nothing is owed for a withdrawn hold, whatever its event states
    if sum(_kinds_of(fact)) + fee > cost:  # the limiter's is less than the event's
        facts |= dict.fromkeys(KIND_COSTS, 0)
    if fact.billed is not None:
        facts["image_prompt_tokens"], facts["image_completion_tokens"] = image_tokens(fact.billed)
    facts["sequence"], facts["kind"], facts["flags"] = 0, kind, flags
    facts["settled_at_ms"], facts["entered_at_ms"] = counts_at_ms, entered_at_ms
    facts["posted_at_ms"], facts["posted_nano_usd"] = counts_at_ms, posted
    return _checked(msgspec.convert(facts, Entry))  # leaves out what is not stored, and takes half of a call with so many names


def _flags_of(event: Sequence[str], limiter: str) -> str:
    return ",".join(dict.fromkeys([*event, *filter(None, limiter.split(","))])) if event or limiter else ""


def _checked(entry: Entry) -> Entry:
    """The entry with texts that every database can store. Raises MalformedEntryError for numbers that exceed the counters."""
    row = astuple(entry)
    numbers, first_byte_ms = _numbers_of(row), entry.first_byte_ms or 0
    if max(numbers) > MONEY_MAX_NANO_USD or min(numbers) < -MONEY_MAX_NANO_USD or abs(first_byte_ms) > MONEY_MAX_NANO_USD:
        named = zip((*_NUMBERS, "first_byte_ms"), (*numbers, first_byte_ms), strict=True)
        raise MalformedEntryError(next(f"{name} is {number}" for name, number in named if abs(number) > MONEY_MAX_NANO_USD))
    texts = _texts_of(row)
    changed: dict[str, Any] = {}
    together = "".join(filter(None, texts))
    if storable(together) is not together:  # hardly ever: the texts are looked at one by one only then
        changed = {
            name: plain
            for name, text in zip(_TEXTS, texts, strict=True)
            if text is not None and (plain := storable(text)) is not text
        }
    if entry.billed is not None:
        changed["billed"] = entry.billed if len(entry.billed) <= BILLED_CHARS_MAX and "\0" not in entry.billed else None
    return replace(entry, **changed) if changed else entry


def storable(text: str) -> str:
    """The text without NUL and lone surrogates, which PostgreSQL refuses."""
    if len(text) <= TEXT_CHARS_MAX and (text.isascii() and "\0" not in text):
        return text
    return text[:TEXT_CHARS_MAX].replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_posted_again(existing: Sequence[Entry], incoming: Entry) -> bool:
    """Return whether the limiter, having forgotten that an event was settled, settled it twice and posted it twice to its windows.

    An entry that is only redelivered has the time of the existing one. An expiry that a writer stores late belongs to
    a late settlement; after any other entry, the hold came back with a store that lost its last writes.
    """
    finals = [entry for entry in existing if entry.kind in FINAL]
    if not finals or any(entry.entered_at_ms == incoming.entered_at_ms for entry in existing):
        return False
    return incoming.kind is not Kind.EXPIRED or all(entry.kind is not Kind.LATE for entry in finals)


def following(existing: Sequence[Entry], incoming: Entry) -> tuple[Entry, ...]:
    """The entries that `incoming` adds to an event with entries already, given in order; none if it is repeated.

    An event that the limiter settled twice adds nothing either: its windows are then wrong, not the ledger (`is_posted_again`).
    An expired hold was settled at its checkpoint. The late settlement replaces that: one entry cancels it, the next has the
    whole amounts. If another writer has already stored the late settlement, the expiry counts only as its posting.
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
    sums: dict[str, Any] = {name: -amount for name, amount in sums_of(existing).items()}
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
