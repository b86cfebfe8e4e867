"""What Anthropic bills of an answer: the usage that its messages state, pass by pass, and the conditions and calls beside it.

Sources: Anthropic's API reference, `usage`; "Refusals and fallback" (each attempt is billed at the rates of the model that ran it,
by `usage.iterations`, and an attempt that declined before producing output costs nothing); "Compaction" and "Advisor tool" (tokens
of neither are in the top level of the usage); "Web search tool"; "Fast mode", "Data residency", "Service tiers" (what was served is
stated by the usage).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from tallygate.dialects.anthropic_passes import FALLBACK, Entry, billed_passes
from tallygate.dialects.billed_members import note_cost, stated_cost
from tallygate.dialects.counts import TOTAL_ONLY, cache_writes, lenient_count, token_counts
from tallygate.dialects.dialect import MeterReading, RequestFacts
from tallygate.dialects.lenient import is_positive, items_of, member, name_or_none
from tallygate.dialects.openai_usage import responses_counts
from tallygate.dialects.stated_usage import CHAT, Members, StatedUsage, joined
from tallygate.domain.unit import Unit
from tallygate.domain.usage import STANDARD, TOKENS_MAX, Pass, Usage, summed

ITERATIONS_UNCOUNTED: Final = "usage_iterations"  # passes of an unknown kind, charged, or more than are read, which are not
_CONDITION: Final = re.compile(r"[a-z0-9_-]{1,32}", re.ASCII)  # as price rows can name one
_DATED: Final = re.compile(r"-\d{8}", re.ASCII)
ITERATIONS_MAX: Final = 1_000  # of one answer that are read

_SERVER_TOOLS: Final = frozenset({"server_tool_use", "mcp_tool_use"})
_SIDES: Final = ("input_tokens", "output_tokens")
_COUNTS: Final = frozenset({"input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"})
# By the member of the usage: the condition that it states, and what is stated of a request that got nothing special.
_CONDITIONS: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "service_tier": ("service_tier", frozenset({"standard"})),
    "speed": ("speed", frozenset({"standard"})),
    "inference_geo": ("geography", frozenset({"global", "not_available"})),
}


class AnthropicUsage:
    """Usage as the provider states it, statement after statement: a member that is given again replaces the earlier value.

    A zero or a null is no second thought: services that begin or end with it state the count at the other end.
    """

    __slots__ = (
        "_are_searches_stated",
        "_began_text",
        "_had_output",
        "_has_choice",
        "_has_output",
        "_is_calling",
        "_is_declined",
        "_is_other",
        "_members",
        "_model",
        "_other_names",
        "_others",
        "_silent_hops",
        "_writes_1h_only",
    )

    def __init__(self, facts: RequestFacts) -> None:
        self._members: Members = {}
        self._other_names = StatedUsage(CHAT)
        self._is_other = False  # what was stated so far
        self._model = facts.model
        self._others = [other.model for other in facts.other_models] if facts.other_models else ()
        self._has_choice = facts.conditions != (STANDARD,)
        self._writes_1h_only = Unit.CACHE_WRITE_1H in facts.units and Unit.CACHE_WRITE_5M not in facts.units
        self._has_output = self._began_text = False  # of the model that is answering
        self._had_output = False  # models that declined before it
        self._is_declined = False  # it ended as a refusal, and generated nothing
        self._silent_hops = 0  # models that declined before any of them generated anything
        self._are_searches_stated = False  # else those that are seen count
        self._is_calling = False  # tools of this round

    def note_block(self, block: object, reading: MeterReading) -> None:
        """Take the start of a content block, or a whole one."""
        if not isinstance(block, dict):
            return
        match block.get("type"):
            case "text" if not block.get("text"):
                self._began_text = True
            case "compaction":
                pass  # a pass of its own
            case "fallback":  # the model before it declined
                reading.others_begun += 1
                has_output = self._has_output or self._began_text
                self._silent_hops += not (has_output or self._had_output)
                self._had_output |= has_output
                self._has_output = self._began_text = False
            case kind:
                self._has_output = True
                self._note_tool(kind, block, reading)
                # Results that are no list are an error, which is not billed ("Web search tool", section "Usage and pricing").
                if kind == "web_search_tool_result" and not self._are_searches_stated and isinstance(block.get("content"), list):
                    reading.billed_calls[Unit.WEB_SEARCH] = reading.billed_calls.get(Unit.WEB_SEARCH, 0) + 1

    def _note_tool(self, kind: object, block: dict[str, Any], reading: MeterReading) -> None:
        """Note a tool that begins at the provider, or its result: after those of a round the model reads on."""
        if not isinstance(kind, str):
            return
        name = block.get("name") if kind == "server_tool_use" else None
        if kind.endswith("_tool_result"):
            self._is_calling = False
            if kind == "web_search_tool_result" and (pending := reading.pending_calls.get(Unit.WEB_SEARCH, 0)):
                reading.pending_calls[Unit.WEB_SEARCH] = pending - 1
        elif name == "advisor":
            reading.others_begun += 1
        elif kind in _SERVER_TOOLS:
            reading.rounds_begun += not self._is_calling
            self._is_calling = True
            if name == "web_search":
                reading.pending_calls[Unit.WEB_SEARCH] = reading.pending_calls.get(Unit.WEB_SEARCH, 0) + 1

    def note_stop(self, reason: object, reading: MeterReading) -> None:
        """Take the reason why the answer ended. A refusal of a model that generated nothing is not billed."""
        if reason == "refusal" and not self._has_output and not (self._began_text and reading.has_text_after_usage):
            self._is_declined = True
            reading.is_unbilled = not self._had_output
            reading.awaits_final_usage = reading.has_text_after_usage = False
            if not _COUNTS.isdisjoint(self._members):
                reading.usage = self._billed(reading)

    def update(self, usage: object, reading: MeterReading) -> bool:
        """Take a usage object and bring the reading up to date; return whether it states output. Anything else says nothing."""
        if not isinstance(usage, dict):
            return False
        self._note_beside(usage, reading)
        if "cost" in usage:  # OpenRouter's and others' that speak this API
            note_cost(reading, stated_cost(usage))
        stated = usage.get("output_tokens") or usage.get("input_tokens")
        if (type(stated) is not int or stated <= 0) and not self._states_own(usage):
            counts, usage = self._read_other(usage, reading)
            if counts is not None or self._is_other:
                reading.is_output_zero = self._other_names.is_output_zero and reading.has_text_after_usage
                return counts is not None and counts.completion > 0
        before = self._members
        self._members = members = joined(before, usage)
        if before.get("iterations") and "iterations" in usage:
            members["iterations"] = _joined_lists(items_of(before["iterations"]), items_of(usage["iterations"]))
        if not _COUNTS.isdisjoint(members):
            reading.usage = self._billed(reading)
        output = usage.get("output_tokens")
        if output is not None:
            reading.is_output_zero = not is_positive(output) and reading.has_text_after_usage
        return is_positive(output)

    def _states_own(self, usage: dict[str, Any]) -> bool:
        """Whether counts above zero stand under Anthropic's names; those of a cache are also others'."""
        is_other = self._is_other or is_positive(usage.get("prompt_tokens"))
        return any(is_positive(usage.get(name)) for name in (_SIDES if is_other else _COUNTS))

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

    def _note_beside(self, usage: dict[str, Any], reading: MeterReading) -> None:
        """Note conditions, and searches where any are stated."""
        for name, (condition, standard) in _CONDITIONS.items():
            stated = usage.get(name)
            if isinstance(stated, str):
                value = stated.lower()
                if value in standard:
                    value = ""
                elif not _CONDITION.fullmatch(value):
                    continue
                if value or self._has_choice or condition in reading.conditions:
                    reading.conditions[condition] = value
        tools = usage.get("server_tool_use")
        searches = lenient_count(member(tools, "web_search_requests"), reading.flags) if tools else None
        if searches:
            self._are_searches_stated = True
            reading.billed_calls[Unit.WEB_SEARCH] = searches

    def _billed(self, reading: MeterReading) -> Usage:
        """The billed part of all that is stated; the top level alone where there are no iterations."""
        flags = reading.flags
        shown = self._counts(self._members, flags)
        if self._others and reading.response_model is not None:
            named = self._named(reading.response_model)
            reading.served_as = named if named in self._others and named != self._model else None
        if not self._members.get("iterations") or not (entries := self._entries(shown, flags)):
            reading.is_unbilled = self._is_declined and not self._had_output
            return shown
        served = next((entry.model for entry in reversed(entries) if entry.kind == FALLBACK), None)
        if served is not None:
            named = self._named(served)
            reading.response_model, reading.served_as = served, named if named != self._model else None
        passes = billed_passes(
            entries,
            shown,
            asked_model=self._model,
            answering_model=reading.response_model,
            is_declined=self._is_declined,
            silent_hops=self._silent_hops,
        )
        if any(not entry.is_known for entry in entries) or len(items_of(self._members.get("iterations"))) > ITERATIONS_MAX:
            flags.add(ITERATIONS_UNCOUNTED)
        reading.is_unbilled = not passes
        if not passes:
            return shown
        if len(passes) == 1 and passes[0].model is None:
            return Usage(passes[0].quantities)
        usage = summed(tuple([Pass(model=each.model and self._named(each.model), quantities=each.quantities) for each in passes]))
        if max(usage.prompt, usage.completion) <= TOKENS_MAX:
            return usage
        return token_counts(flags, prompt=usage.prompt, completion=usage.completion, cached=usage.cached)  # cut to what can be

    def _entries(self, shown: Usage, flags: set[str]) -> list[Entry]:
        is_long = self._writes_1h_only or (shown.of(Unit.CACHE_WRITE_1H) > 0 and not shown.of(Unit.CACHE_WRITE_5M))
        entries = []
        for each in items_of(self._members.get("iterations"))[:ITERATIONS_MAX]:
            if isinstance(each, dict):
                kind = name_or_none(each.get("type")) or "message"
                entries.append(Entry(kind, name_or_none(each.get("model")), self._counts(each, flags, is_rest_long=is_long)))
        return entries

    def _named(self, model: str) -> str:
        """The request's own name for a model: an answer has the one with a date."""
        dated = [name for name in (self._model or "", *self._others) if _DATED.fullmatch(model.removeprefix(name))]
        return max(dated, key=len, default=model)

    def _counts(self, members: dict[str, Any], flags: set[str], *, is_rest_long: bool | None = None) -> Usage:
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
            is_rest_long=self._writes_1h_only if is_rest_long is None else is_rest_long,
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


def _joined_lists(before: list[object], later: list[object]) -> list[object]:
    """The entries of a list that grows from statement to statement. What no longer matches replaces all, if it states anything."""
    found: list[object] = []
    for was, now in zip(before, later, strict=False):
        if not isinstance(was, dict) or not isinstance(now, dict) or was.get("type") != now.get("type"):
            is_stated = any(is_positive(member(each, name)) for each in later for name in _COUNTS)
            return later if is_stated else before
        found.append(joined(was, {name: value for name, value in now.items() if value is not None}))
    return [*found, *before[len(found) :], *later[len(found) :]]
