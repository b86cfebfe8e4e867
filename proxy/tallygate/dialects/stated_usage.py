"""The usage of an answer as it is stated: in one object or several, under the names of its API or of another one.

Which API's rules count a usage object is told by its names and not by the route: a service that speaks one API often hands on the
usage of another (Anthropic's through a chat endpoint, Google's in a client library's spelling).
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from tallygate.dialects.counts import CLAMPED, IMPOSSIBLE, INCONSISTENT, TOTAL_ONLY
from tallygate.dialects.gemini_usage import gemini_counts
from tallygate.dialects.lenient import is_positive
from tallygate.dialects.openai_usage import chat_counts, responses_counts
from tallygate.domain.usage import Usage

MEMBERS_MAX: Final = 64  # of one object that are remembered from statement to statement
_DEPTH_MAX: Final = 3

Members = dict[str, Any]


class UsageNames(msgspec.Struct, frozen=True):
    """The names under which an API states its usage.

    sides   whose sum is the total; the first is the prompt
    count   counts of an object with these names
    """

    sides: tuple[str, ...]
    total: str
    count: Callable[[Members, set[str]], Usage]

    def has_sides(self, usage: Members) -> bool:
        """Whether one of the sides is above zero."""
        return any(is_positive(usage.get(name)) for name in self.sides)

    def has_output(self, usage: Members) -> bool:
        """Whether output above zero is stated, in a side or as what the total has beyond the prompt."""
        prompt, total = usage.get(self.sides[0]), usage.get(self.total)
        is_in_total = is_positive(total) and (type(prompt) is not int or (type(total) is int and total > prompt))
        return is_in_total or any(is_positive(usage.get(name)) for name in self.sides[1:])


CHAT: Final = UsageNames(("prompt_tokens", "completion_tokens"), "total_tokens", chat_counts)
RESPONSES: Final = UsageNames(("input_tokens", "output_tokens"), "total_tokens", responses_counts)
GEMINI: Final = UsageNames(
    ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount"), "totalTokenCount", gemini_counts
)
_OPENAI_NAMES: Final = (
    *CHAT.sides,
    *RESPONSES.sides,
    *("total_tokens", "prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details"),
    *("cached_tokens", "cache_write_tokens", "cache_creation_tokens", "audio_tokens", "reasoning_tokens"),
    *("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"),
    *("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
)
_GEMINI_NAMES: Final = (
    *GEMINI.sides,
    *("totalTokenCount", "cachedContentTokenCount", "promptTokensDetails", "candidatesTokensDetails", "cacheTokensDetails"),
    *("toolUsePromptTokensDetails", "modality", "tokenCount"),
)


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


# Amazon Bedrock, API reference, TokenUsage: cacheWriteInputTokens
_OPENAI_SPELLINGS: Final = {_folded(name): name for name in _OPENAI_NAMES} | {
    "cachewriteinputtokens": "cache_creation_input_tokens"
}
_GEMINI_SPELLINGS: Final = {_folded(name): name for name in _GEMINI_NAMES}


class StatedUsage:
    """Statement after statement of one answer's usage. `own` are the names of the answer's API.

    has_output      the last statement states output: it is of all the text so far
    is_output_zero  it states zero or less
    """

    __slots__ = ("_members", "_own", "_stating", "has_output", "is_output_zero")

    def __init__(self, own: UsageNames) -> None:
        self._own = self._stating = own
        self._members: Members = {}
        self.has_output = self.is_output_zero = False

    @property
    def members(self) -> Members:
        """All that was stated so far."""
        return self._members

    def add(self, usage: object, flags: set[str]) -> Usage | None:
        """Take a usage object; return the counts of all so far, None if it holds none.

        A later value replaces an earlier one, but a zero, a null or an absent member takes nothing back: services that begin or end
        with zeros state the count at the other end. Only an object that is whole in itself and has a smaller prompt withdraws what
        was stated before: Gemini's streams were seen to begin with larger counts than they end with.
        Oddities are those of the counts returned: the flags of earlier ones are taken back.
        """
        if not isinstance(usage, dict):
            return None
        own, before = self._own, self._members
        prompt = usage.get(own.sides[0])
        if type(prompt) is int and prompt > 0 and self._stating is own:  # nearly always
            names, members = own, usage
        else:
            found, members = _named(usage, own)
            if found is None:
                return None
            names = found
        output = members.get(names.sides[1])
        self.has_output = (type(output) is int and output > 0) or names.has_output(members)
        self.is_output_zero = type(output) is int and not self.has_output
        if flags:
            flags.difference_update((CLAMPED, IMPOSSIBLE, INCONSISTENT, TOTAL_ONLY))
        if names is not self._stating:
            if before and not names.has_sides(members):
                return self._stating.count(before, flags)
            before = {}
            self._stating = names
        if before and not _is_restated(before, members, names.total):
            members = _merged(before, members, names)
        self._members = members
        return names.count(members, flags)


def _named(usage: Members, own: UsageNames) -> tuple[UsageNames | None, Members]:
    """The names that state the usage, and it in their spelling. `own` where they state anything, or nothing else does."""
    if own.has_sides(usage):
        return own, usage
    openai = gemini = usage
    if any(map(is_positive, usage.values())):
        openai, gemini = _spelled(usage, _OPENAI_SPELLINGS), _spelled(usage, _GEMINI_SPELLINGS)
        for names, members in ((CHAT, openai), (RESPONSES, openai), (GEMINI, gemini)):
            if names.has_sides(members):
                return names, members
    if is_positive(gemini.get(GEMINI.total)):
        return GEMINI, gemini
    if is_positive(openai.get(CHAT.total)):
        return (CHAT if own is GEMINI else own), openai
    is_stated = any(usage.get(name) is not None for name in (*own.sides, own.total))
    return (own if is_stated else None), usage


def _is_restated(before: Members, later: Members, total: str) -> bool:
    """Whether `later` has all that `before` has, so that nothing of it is left."""
    values = later.values()
    whole, was = later.get(total), before.get(total, 0)
    if type(whole) is not int or type(was) is not int or whole < was:
        return False
    return before.keys() <= later.keys() and 0 not in values and None not in values and dict not in map(type, values)


def _merged(before: Members, later: Members, names: UsageNames) -> Members:
    """`before` with what `later` states."""
    prompt, was = later.get(names.sides[0]), before.get(names.sides[0])
    sides = [value for name in names.sides if type(value := later.get(name)) is int]
    if type(prompt) is int and type(was) is int and 0 < prompt < was and later.get(names.total) == sum(sides):
        return later
    found = joined(before, later)
    if not is_positive(later.get(names.total)) and any(found.get(name) != before.get(name) for name in names.sides):
        found.pop(names.total, None)  # it was the sum of other counts
    return found


def joined(before: Members, later: Members, depth: int = 1) -> Members:
    """`before` with the members of `later` that are above zero, or new."""
    found = dict(before)
    for name, value in later.items():
        if type(value) is int:
            is_stated = value > 0
        elif isinstance(value, dict) and depth < _DEPTH_MAX and isinstance(earlier := found.get(name), dict):
            found[name] = joined(earlier, value, depth + 1)
            continue
        elif value is None:
            continue
        else:
            is_stated = is_positive(value)
        if is_stated or (name not in found and len(found) < MEMBERS_MAX):
            found[name] = value
    return found


def _spelled(value: Any, spellings: dict[str, str], depth: int = 1) -> Any:
    """`value` with the names that are known in their API's own spelling."""
    if depth > _DEPTH_MAX:
        return value
    if isinstance(value, list):
        return [_spelled(each, spellings, depth + 1) for each in value]
    if not isinstance(value, dict):
        return value
    return {spellings.get(_folded(name), name): _spelled(inner, spellings, depth + 1) for name, inner in value.items()}
