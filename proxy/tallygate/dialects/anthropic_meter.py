"""Meters of Anthropic's Messages API."""

from typing import Any, Final

import msgspec

from tallygate.dialects.counts import IMPOSSIBLE, TOTAL_ONLY, cache_writes, lenient_count, token_counts
from tallygate.dialects.dialect import MeterReading, RequestFacts
from tallygate.dialects.lenient import is_positive, items_of, lenient_decode, lenient_json_text, member, name_or_none
from tallygate.dialects.meters import EVENT_UNREADABLE, EventStreamMeter, JsonMeter, add_text
from tallygate.dialects.openai_usage import responses_counts
from tallygate.dialects.sse import SseEvent
from tallygate.dialects.stated_usage import CHAT, StatedUsage, joined
from tallygate.domain.unit import Unit
from tallygate.domain.usage import TOKENS_MAX, Pass, Usage, summed

ITERATIONS_UNCOUNTED: Final = "usage_iterations"  # passes used tokens that are not in what is charged
# Anthropic, "Compaction": its tokens are billed at the model's prices, and not included in the top level of the usage.
_COMPACTION: Final = "compaction"
SERVER_TOOLS_USED: Final = "server_tools_used"  # searches have a price of their own, which token counts do not show

_SIDES: Final = ("input_tokens", "output_tokens")
_INPUTS: Final = frozenset({"input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"})


class AnthropicEvent(msgspec.Struct, gc=False):
    """One event of a stream, or a whole message: their members do not collide."""

    type: Any = None
    message: Any = None
    delta: Any = None
    usage: Any = None
    content_block: Any = None
    error: Any = None
    model: Any = None
    content: Any = None


class AnthropicUsage:
    """Usage as the provider states it, statement after statement: a member that is given again replaces the earlier value.

    A zero or a null is no second thought: services that begin or end with it state the count at the other end.
    """

    __slots__ = ("_is_other", "_members", "_other_names", "_writes_1h_only")

    def __init__(self, facts: RequestFacts) -> None:
        self._members: dict[str, Any] = {}
        self._other_names = StatedUsage(CHAT)
        self._is_other = False  # what was stated so far
        self._writes_1h_only = Unit.CACHE_WRITE_1H in facts.units and Unit.CACHE_WRITE_5M not in facts.units

    def update(self, usage: object, reading: MeterReading) -> bool:
        """Take a usage object and bring the reading up to date; return whether it states output. Anything else says nothing."""
        if not isinstance(usage, dict):
            return False
        stated = usage.get("output_tokens") or usage.get("input_tokens")
        if (type(stated) is not int or stated <= 0) and not self._states_own(usage):
            counts, usage = self._read_other(usage, reading)
            if counts is not None or self._is_other:
                return counts is not None and counts.completion > 0
        self._members = joined(self._members, usage)
        members = self._members
        if not _INPUTS.isdisjoint(members):
            reading.usage = self._all_counts(reading.flags)
        if member(members.get("server_tool_use"), "web_search_requests"):
            reading.flags.add(SERVER_TOOLS_USED)
        if reading.usage is not None and _iterations_total(members.get("iterations")) > reading.usage.total:
            reading.flags.add(ITERATIONS_UNCOUNTED)
        return is_positive(usage.get("output_tokens"))

    def _states_own(self, usage: dict[str, Any]) -> bool:
        """Whether counts above zero stand under Anthropic's names; those of a cache are also others'."""
        is_other = self._is_other or is_positive(usage.get("prompt_tokens"))
        return any(is_positive(usage.get(name)) for name in (_SIDES if is_other else _INPUTS))

    def _read_other(self, usage: dict[str, Any], reading: MeterReading) -> tuple[Usage | None, dict[str, Any]]:
        """Read a usage that states nothing under Anthropic's names: its counts, if any, and it with what it adds in these names.

        A completion alone is the output of the prompt that was stated before, and so is what a lone total has beyond that prompt.
        """
        stated = None if self._is_other else reading.usage
        completion = usage.get("completion_tokens")
        if self._members and is_positive(completion) and not is_positive(usage.get("prompt_tokens")):
            return None, {**usage, "output_tokens": completion}
        flags: set[str] = set()
        counts = self._other_names.add(usage, flags)
        if counts is None or not counts.total:
            return None, usage
        if TOTAL_ONLY in flags and stated is not None and stated.prompt:
            output = counts.total - stated.prompt
            return None, {**usage, "output_tokens": output} if output > stated.completion else usage
        reading.usage = counts
        reading.flags |= flags
        self._is_other = True
        return counts, usage

    def _all_counts(self, flags: set[str]) -> Usage:
        """The counts of the top level, plus those of compactions."""
        counted = self._counts(self._members, flags)
        iterations = items_of(self._members.get("iterations"))
        passes = [self._counts(each, flags) for each in iterations if isinstance(each, dict) and each.get("type") == _COMPACTION]
        if not passes:
            return counted
        usage = summed(tuple([Pass(quantities=dict(each.quantities)) for each in (counted, *passes)]))
        if max(usage.prompt, usage.completion) <= TOKENS_MAX:
            return usage
        return token_counts(flags, prompt=usage.prompt, completion=usage.completion, cached=usage.cached)  # cut to what can be

    def _counts(self, members: dict[str, Any], flags: set[str]) -> Usage:
        if isinstance(members.get("input_tokens_details"), dict):
            return responses_counts(members, flags)  # OpenAI's, whose cached tokens are part of the input
        plain = lenient_count(members.get("input_tokens"), flags) or 0
        read = lenient_count(members.get("cache_read_input_tokens"), flags) or 0
        split = members.get("cache_creation")
        written_5m, written_1h = cache_writes(
            members.get("cache_creation_input_tokens"),
            member(split, "ephemeral_5m_input_tokens"),
            member(split, "ephemeral_1h_input_tokens"),
            flags,
            is_rest_long=self._writes_1h_only,
        )
        prompt = plain + read + written_5m + written_1h
        return token_counts(
            flags,
            prompt=prompt or members.get("input_tokens"),
            completion=members.get("output_tokens"),
            cached=read,
            cache_write_5m=written_5m,
            cache_write_1h=written_1h,
            reasoning=member(members.get("output_tokens_details"), "thinking_tokens"),
        )


def _iterations_total(iterations: object) -> int:
    ignored: set[str] = set()  # iterations only ever raise a flag, so their oddities do not matter
    return sum(lenient_count(member(each, name), ignored) or 0 for each in items_of(iterations) for name in _INPUTS)


class AnthropicEventMeter(EventStreamMeter):
    """Reads message_start, content blocks and message_delta; message_stop is the end."""

    __slots__ = ("_decoder", "_usage")

    def __init__(self, facts: RequestFacts, decoder: "msgspec.json.Decoder[AnthropicEvent]") -> None:
        super().__init__()
        self._decoder = decoder
        self._usage = AnthropicUsage(facts)

    def _read(self, event: SseEvent) -> bytes:
        reading = self.reading
        parsed = lenient_decode(event.data, self._decoder)
        if parsed is None:
            reading.failed |= event.name == b"error"
            reading.flags.add(EVENT_UNREADABLE)
            return event.raw
        match parsed.type:
            case "content_block_delta":
                _add_block_text(reading, parsed.delta)
            case "content_block_start":
                _add_block_text(reading, parsed.content_block)
            case "message_start":
                reading.response_model = name_or_none(member(parsed.message, "model")) or reading.response_model
                self._usage.update(member(parsed.message, "usage"), reading)
                reading.awaits_final_usage = True
            case "message_delta":
                self._update(parsed.usage)
            case "message_stop":
                self._update(parsed.usage)  # none at Anthropic; some that speak its dialect put it here
                reading.ended = True
            case _:
                reading.failed |= parsed.type == "error" or bool(parsed.error) or event.name == b"error"
        return event.raw

    def _update(self, usage: object) -> None:
        """Take a usage, which is the last word if it has output, or has none of an answer without text."""
        reading = self.reading
        has_output, is_stated = self._usage.update(usage, reading), member(usage, "output_tokens") is not None
        if has_output or (is_stated and not (reading.has_text_after_usage or reading.calls)):
            reading.awaits_final_usage = reading.has_text_after_usage = False
        elif is_stated and reading.awaits_final_usage:
            reading.flags.add(IMPOSSIBLE)


class AnthropicJsonMeter(JsonMeter):
    """Reads a message that is not streamed."""

    __slots__ = ("_decoder", "_usage")

    def __init__(self, facts: RequestFacts, decoder: "msgspec.json.Decoder[AnthropicEvent]") -> None:
        super().__init__()
        self._decoder = decoder
        self._usage = AnthropicUsage(facts)

    def _read(self, body: bytes) -> bool:
        reading = self.reading
        parsed = lenient_decode(body, self._decoder)
        if parsed is None:
            return False
        reading.ended = True
        reading.failed = parsed.type == "error" or bool(parsed.error)
        reading.response_model = name_or_none(parsed.model)
        self._usage.update(parsed.usage, reading)
        for block in items_of(parsed.content):
            _add_block_text(reading, block)
        return True


def _add_block_text(reading: MeterReading, block: object) -> None:
    """Add the text of a content block, or of a piece of one."""
    if not isinstance(block, dict):
        return
    add_text(reading, block.get("text"))
    add_text(reading, block.get("thinking"))
    add_text(reading, block.get("partial_json"))
    tool = block.get("name")
    if isinstance(tool, str):
        reading.calls += 1
        add_text(reading, tool)
    arguments = block.get("input")
    if arguments:  # a tool's, in a message that is not streamed; a stream begins with {} and sends partial_json
        add_text(reading, lenient_json_text(arguments))
    add_text(reading, block.get("content"))  # a compaction's summary; results of tools, which are input, come as lists and objects
