"""Meters of answers with `choices`: chat completions and the older completions, streamed or not."""

import re
from typing import Any, Final

import msgspec

from tallygate.dialects.billed_members import MEMBERS, gateway_cost, note_cost, read_billed
from tallygate.dialects.body import member_start
from tallygate.dialects.dialect import MeterReading, RequestFacts
from tallygate.dialects.lenient import items_of, lenient_decode, member, name_or_none
from tallygate.dialects.meters import EVENT_UNREADABLE, EventStreamMeter, JsonMeter, add_text
from tallygate.dialects.ordinary_choices import TEXT_ANSWERS, TEXT_CHUNKS, TextChunk, fitting
from tallygate.dialects.repeated_chunk import RepeatedChunk
from tallygate.dialects.service_tiers import implied_tier, note_tier
from tallygate.dialects.sse import SseEvent
from tallygate.dialects.stated_usage import CHAT, StatedUsage
from tallygate.domain.unit import Unit

CHOICES_SEEN_MAX: Final = 1024  # choices whose end is tracked; further ones count as ended
DONE_BYTES_MAX: Final = 16

# Text that may follow a top-level member if no object or array does: a quick proof that the member is a top-level one.
_SCALARS_TO_END: Final = re.compile(rb'(?:\s*,\s*"(?:[^"\\]++|\\.)*+"\s*:\s*(?:"(?:[^"\\]++|\\.)*+"|[^"\[\]{},\s]++))*\s*\}\s*')
_NULL_USAGE: Final = b'"usage":null'
_OPENING: Final = b'"content":"'  # of the text of a chunk


class ChoicesBody(msgspec.Struct, gc=False):
    """A chunk or a whole answer: the fields acted on, each open to any value."""

    model: Any = None
    choices: Any = None
    usage: Any = None
    error: Any = None
    service_tier: Any = None
    x_groq: Any = None
    provider_metadata: Any = None


ChoicesDecoder = msgspec.json.Decoder[ChoicesBody]


_ODD_CHUNKS_MAX: Final = 8  # of a stream that are first tried as ordinary ones
_PATTERNS_MAX: Final = 4  # of a stream in which chunks differ in more than their text


class ChoicesStreamMeter(EventStreamMeter):
    """Reads a stream of chunks.

    Usage is wherever it comes: in its own chunk, beside choices, more than once (`StatedUsage`), in Groq's `x_groq`, in the last
    choice (Moonshot). `[DONE]` ends a stream; without it, one whose choices all have a finish reason has ended.
    Hiding takes out what include_usage alone causes: the chunk with usage and without choices (an empty list, null or absent), and
    `"usage":null` elsewhere.
    """

    __slots__ = (
        "_chunk",
        "_decoder",
        "_ends_with_usage",
        "_finished",
        "_odd_left",
        "_patterns_left",
        "_repeated",
        "_seen",
        "_tier",
        "_usage",
    )

    def __init__(self, decoder: ChoicesDecoder, facts: RequestFacts, *, hides: bool = False) -> None:
        super().__init__(hides=hides)
        self._decoder = decoder
        self._tier: object = _begin(self.reading, facts)
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._usage = StatedUsage(CHAT)
        self._ends_with_usage = False  # the last chunk states usage
        self._odd_left = _ODD_CHUNKS_MAX
        self._chunk: TextChunk | None = None  # of which the next ones are expected to be repetitions
        self._repeated: RepeatedChunk | None = None
        self._patterns_left = _PATTERNS_MAX

    def feed(self, data: bytes) -> bytes:
        """Read bytes: an ordinary chunk at once, if they are just that, and all else event by event."""
        chunk, text, shown = self._chunk, None, data
        if self._repeated is not None and (repeated := self._repeated.read(data)) is not None and self._parser.is_between_events:
            text, shown = repeated
        elif self._odd_left and 0 in self._seen and (payload := self._parser.lone_data(data)) is not None:
            chunk = fitting(payload, TEXT_CHUNKS)
            if chunk is None:
                self._odd_left -= 1
            else:
                text, shown = chunk.choices[0].delta.content, self._shown(data, payload)
                if self._patterns_left and not (self._repeated is not None and self._repeated.begins(data)):
                    self._expect_repetition(chunk, data)
        if chunk is None or text is None or (chunk.service_tier != self._tier and chunk.service_tier is not None):
            return super().feed(data)
        reading = self.reading
        add_text(reading, text)
        if chunk.model and chunk.model != reading.response_model:
            reading.response_model = name_or_none(chunk.model)
        self._ends_with_usage = False
        return shown

    def _expect_repetition(self, chunk: TextChunk, event: bytes) -> None:
        """Compare what comes next with this ordinary chunk, unless others that looked like that were not repeated."""
        self._patterns_left -= 1
        repeated = RepeatedChunk.of(event, opening=_OPENING, text_of=_ordinary_text, shown=self._shown_event)
        if repeated is not None:
            self._chunk, self._repeated = chunk, repeated

    def _shown_event(self, event: bytes) -> bytes:
        return self._shown(event, event[6:-2])

    def _shown(self, event: bytes, payload: bytes) -> bytes:
        """An ordinary event as the client gets it."""
        return _without_null_usage(event, payload) if self._hides and payload.find(_NULL_USAGE) >= 0 else event

    def _read(self, event: SseEvent) -> bytes:
        data = event.data
        reading = self.reading
        if len(data) <= DONE_BYTES_MAX and data.strip() == b"[DONE]":
            reading.ended = True
            if self._ends_with_usage:
                reading.is_usage_midstream = False  # although no choice named the reason of its end
            return event.raw
        chunk = lenient_decode(data, self._decoder)
        if chunk is None:
            reading.flags.add(EVENT_UNREADABLE)
            return event.raw
        if chunk.error or event.name == b"error":
            reading.failed = True
        if chunk.choices:
            self._read_choices(chunk)
        if chunk.service_tier != self._tier and chunk.service_tier is not None:
            self._tier = chunk.service_tier
            note_tier(reading, self._tier)
        self._ends_with_usage = _read_about(reading, chunk, self._usage)
        if self._ends_with_usage:
            reading.is_usage_midstream = bool(chunk.choices) and self._seen != self._finished
            if self._usage.has_output:
                reading.has_text_after_usage = False
        if not self._hides:
            return event.raw
        if not chunk.choices and isinstance(chunk.usage, dict) and not chunk.error:
            return b""
        if chunk.usage is None and _NULL_USAGE in data:
            return _without_null_usage(event.raw, data)
        return event.raw

    def _read_choices(self, chunk: ChoicesBody) -> None:
        for choice in items_of(chunk.choices):
            if not isinstance(choice, dict):
                continue
            _read_choice(self.reading, choice, choice.get("delta") or choice.get("message"))
            index = choice.get("index")
            if type(index) is not int:
                index = 0
            if index not in self._seen and len(self._seen) < CHOICES_SEEN_MAX:
                self._seen.add(index)
            if choice.get("finish_reason") and index in self._seen:
                self._finished.add(index)
                if chunk.usage is None:
                    chunk.usage = choice.get("usage")

    def _settle(self) -> None:
        if self._seen and self._seen == self._finished:
            self.reading.ended = True


class ChoicesJsonMeter(JsonMeter):
    """Reads a whole answer in one JSON object."""

    __slots__ = ("_decoder", "_tier")

    def __init__(self, decoder: ChoicesDecoder, facts: RequestFacts) -> None:
        super().__init__()
        self._decoder = decoder
        self._tier = _begin(self.reading, facts)

    def _read(self, body: bytes) -> bool:
        reading = self.reading
        is_first = reading.usage is None and not reading.flags
        ordinary = fitting(body, TEXT_ANSWERS) if is_first else None
        counts = None if ordinary is None else ordinary.usage.counts()
        if ordinary is None or counts is None:
            return self._read_any(body)
        reading.ended = True
        if ordinary.service_tier != self._tier and ordinary.service_tier is not None:
            note_tier(reading, ordinary.service_tier)
        add_text(reading, ordinary.choices[0].message.content)
        reading.response_model = name_or_none(ordinary.model) or reading.response_model
        reading.usage = counts
        return True

    def _read_any(self, body: bytes) -> bool:
        answer = lenient_decode(body, self._decoder)
        if answer is None:
            return False
        reading = self.reading
        reading.ended = True
        if answer.error:
            reading.failed = True
        if answer.service_tier != self._tier and answer.service_tier is not None:
            note_tier(reading, answer.service_tier)
        for choice in items_of(answer.choices):
            if isinstance(choice, dict):
                _read_choice(reading, choice, choice.get("message") or choice.get("delta"))
        _read_about(reading, answer, StatedUsage(CHAT))
        return True


def _ordinary_text(event: bytes) -> str | None:
    """The text of an event with one line of data, if that is an ordinary chunk."""
    chunk = fitting(event[6:-2], TEXT_CHUNKS)
    return None if chunk is None else chunk.choices[0].delta.content


def _begin(reading: MeterReading, facts: RequestFacts) -> str | None:
    """Begin a reading with what the request causes whatever its answer shows; return the tier that goes without saying.

    An answer shows no search of its own in chat: each request that asks for searches is one, unless the usage states their number.
    Seconds of audio are as many as there can be, unless the usage states them.
    """
    if facts.calls:
        reading.billed_calls = {unit: 1 for unit in facts.calls if unit.startswith(Unit.WEB_SEARCH)}
        if Unit.AUDIO_SECOND in facts.calls:
            reading.billed_calls[Unit.AUDIO_SECOND] = facts.calls[Unit.AUDIO_SECOND]
    return implied_tier(facts)


def _read_about(reading: MeterReading, body: ChoicesBody, stated: StatedUsage) -> bool:
    """The model and the usage of a chunk or an answer; whether there was usage."""
    if body.model:
        reading.response_model = name_or_none(body.model) or reading.response_model
    usage = body.usage
    if not isinstance(usage, dict) and body.x_groq is not None:
        usage = member(body.x_groq, "usage")
    counts = stated.add(usage, reading.flags) if usage else None
    if body.provider_metadata is not None:
        note_cost(reading, gateway_cost(body.provider_metadata))
    if counts is None:
        return False
    reading.usage = counts
    reading.is_failure_counted = reading.failed
    reading.is_output_zero = stated.is_output_zero and reading.has_text_after_usage
    if not MEMBERS.isdisjoint(usage):
        read_billed(reading, stated.members)
    return True


def _read_choice(reading: MeterReading, choice: dict[str, Any], message: object) -> None:
    """Read the text of one choice, and whether it failed.

    message     the member with the text: Perplexity sends a whole `message` beside each `delta`, whose last one is empty
    """
    if choice.get("finish_reason") == "error" or choice.get("error"):
        reading.failed = True
    add_text(reading, choice.get("text"))
    if not isinstance(message, dict):
        return
    content = message.get("content")
    if type(content) is str:
        add_text(reading, content)
        if len(message) == 1 + ("role" in message):  # the ordinary delta has nothing else
            return
    else:
        for part in items_of(content):  # Mistral's reasoning models send parts, with the reasoning in separate ones
            add_text(reading, member(part, "text"))
            for thought in items_of(member(part, "thinking")):
                add_text(reading, member(thought, "text"))
    for name in ("refusal", "reasoning_content", "reasoning"):
        add_text(reading, message.get(name))
    add_text(reading, member(message.get("audio"), "transcript"))
    _read_call(reading, message.get("function_call"))
    for call in items_of(message.get("tool_calls")):
        _read_call(reading, member(call, "function") or member(call, "custom"))


def _read_call(reading: MeterReading, function: object) -> None:
    """Read a call, or a piece of one: the first has the name."""
    if member(function, "name"):
        reading.calls += 1
    for name in ("name", "arguments", "input"):
        add_text(reading, member(function, name))


def _without_null_usage(raw: bytes, data: bytes) -> bytes:
    """The event without its chunk's top-level `"usage":null`, as if nobody had asked for usage.

    Only the spelling without spaces is removed; no provider was seen to send another.
    """
    at = data.rfind(b"," + _NULL_USAGE)
    if at >= 0 and _SCALARS_TO_END.fullmatch(data, at + 1 + len(_NULL_USAGE)):
        cut, cut_end = at, at + 1 + len(_NULL_USAGE)
    else:
        value = member_start(data, "usage")
        cut, cut_end = value - len(b'"usage":'), value + len(b"null")
        if value < 0 or data[cut:cut_end] != _NULL_USAGE:
            return raw
        if data[cut - 1 : cut] == b",":
            cut -= 1
        elif data[cut_end : cut_end + 1] == b",":
            cut_end += 1
        else:
            return raw
    start = raw.find(data)
    if start < 0:  # data of several lines
        return raw
    return raw[: start + cut] + raw[start + cut_end :]
