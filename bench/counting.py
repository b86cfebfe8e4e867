"""How far our own counts lie from the providers': recorded answers metered as they are, and with their usage taken out.

python -m bench.counting DIR [--models] [--worst N] [--violations N]

DIR holds recordings as bench/recordings.py reads them. Nothing of the kind is kept in this repository. For every vendor and kind of
answer the tables tell the median of counted / true, the same of the sums, and how many were counted as nothing.
"""

import argparse
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from bench.recordings import Passed, Recording, read_recordings
from tallygate.dialects.dialect import Dialect, MeterReading, RequestFacts
from tallygate.dialects.registry import dialects
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import PromptShape
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Usage
from tallygate.tokens.counter import TokenCounter

SAMPLES_MIN: Final = 4  # of a line of the tables; fewer say nothing

# Whose model it is, by its name.
_VENDORS: Final = tuple(
    (re.compile(pattern), vendor)
    for pattern, vendor in (
        (r"claude", "Anthropic"),
        (r"gemini|gemma", "Google"),
        (r"gpt-oss", "OpenAI, open weights"),
        (r"gpt|chatgpt|(?:^|/)o[1-9](?:-|$)|text-embedding|davinci|babbage", "OpenAI"),
        (r"grok", "xAI"),
        (r"mistral|ministral|magistral|codestral|pixtral|mixtral|devstral", "Mistral"),
        (r"deepseek", "DeepSeek"),
        (r"llama", "Meta"),
        (r"qwen|qwq", "Alibaba"),
        (r"kimi|moonshot", "Moonshot"),
        (r"glm", "Zhipu"),
        (r"sonar", "Perplexity"),
    )
)
_DATE: Final = re.compile(r"[-@]?20\d\d-?\d\d-?\d\d|[-@]\d{3,4}$")
_CALL: Final = re.compile(
    rb'"(?:tool_calls|functionCall|function_call)"\s*:\s*[\[{]|"type"\s*:\s*"(?:function_call|tool_use|custom_tool_call)"'
)
_PROVIDER_TOOL: Final = re.compile(
    rb'"type"\s*:\s*"(?:server_tool_use|mcp_tool_use|\w*search_call|code_interpreter_call|mcp_\w+|image_generation_call|\w+_shell_call'
    rb'|\w*search_tool_result|compaction)"|"groundingMetadata"\s*:\s*\{\s*"|"executableCode"|"toolUsePromptTokenCount"|"executed_tools"'
)
_MEDIA: Final = re.compile(rb'"inlineData"|"audio"\s*:\s*\{|"images"\s*:\s*\[')
_THOUGHT: Final = re.compile(
    rb'"thought"\s*:\s*true|"thoughts?_summary"|reasoning_summary|"summary_text"|"reasoning(?:_content|_text)?"\s*:\s*"[^"]'
    rb'|"(?:redacted_)?thinking"|"type"\s*:\s*"reasoning\.|<think>'
)
_USAGE_MEMBERS: Final = frozenset({"usage", "usageMetadata", "x_groq"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One count beside the truth."""

    source: str
    vendor: str
    model: str
    kind: str
    true: int
    counted: int

    @property
    def ratio(self) -> float:
        return self.counted / self.true


def metered(dialect: Dialect, facts: RequestFacts, recording: Recording, answer: bytes) -> MeterReading:
    """What the dialect's own meter makes of an answer."""
    meter = dialect.meter(facts, content_type=recording.content_type, hide_usage_chunk=False)
    meter.feed(answer)
    meter.end_body()
    return meter.reading


def without_usage(recording: Recording) -> bytes:
    """The answer as if the provider told nothing of what it used."""
    if "event-stream" not in recording.content_type:
        return _without_usage_json(recording.answer)
    lines = re.split(rb"\r?\n", recording.answer)
    return b"\n".join(
        b"data: " + _without_usage_json(line[5:].strip()) if line.startswith(b"data:") and b"{" in line else line for line in lines
    )


def _without_usage_json(text: bytes) -> bytes:
    try:
        value = msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return text
    return msgspec.json.encode(_without(value, 3))


def _without(value: Any, depth: int) -> Any:
    """`value` without usage members, down to where APIs have them."""
    if depth and isinstance(value, dict):
        return {name: _without(inner, depth - 1) for name, inner in value.items() if name not in _USAGE_MEMBERS}
    if depth and isinstance(value, list):
        return [_without(inner, depth - 1) for inner in value]
    return value


def completion_kind(recording: Recording, usage: Usage) -> str:
    """What an answer is made of. Where the provider itself does something, not all that is generated is shown."""
    answer = recording.answer
    if _PROVIDER_TOOL.search(answer):
        return "provider's tools"
    if _MEDIA.search(answer) or usage.quantities.get(Unit.OUTPUT_AUDIO):
        return "media"
    if _THOUGHT.search(answer):
        return "reasoning shown"
    return "tools" if _CALL.search(answer) else "text"


def prompt_kind(facts: RequestFacts, answer: bytes) -> str:
    """What a prompt is made of. Where a tool of the provider ran, its results are input that nobody has seen."""
    shape = facts.prompt
    if facts.has_unknown_input or _PROVIDER_TOOL.search(answer):
        return "unseen"
    if shape.opaque_bytes:
        return "files, signatures"
    if shape.images:
        return "images"
    return "tools" if shape.tools else "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Counts of one corpus. `upper` has the bound that a hold is made of."""

    completions: list[Counted]
    prompts: list[Counted]
    upper: list[Counted]
    read: int
    without_truth: int


def compare(recordings: Iterable[Recording]) -> Comparison:
    """Count every answer that says what it used."""
    known, counter = dialects(), TokenCounter(inline_chars_max=4_096)
    completions: list[Counted] = []
    prompts: list[Counted] = []
    upper: list[Counted] = []
    seen: set[tuple[bytes | None, bytes]] = set()
    without_truth = 0
    for recording in recordings:
        key = (recording.request, recording.answer)
        if key in seen or not 200 <= recording.status < 300:
            continue
        seen.add(key)
        found = _compare_one(known, counter, recording)
        if found is None:
            without_truth += 1
            continue
        completion, prompt, bound = found
        completions += [completion] if completion is not None else []
        prompts += [prompt] if prompt is not None else []
        upper += [bound] if bound is not None else []
    return Comparison(completions=completions, prompts=prompts, upper=upper, read=len(seen), without_truth=without_truth)


def _compare_one(
    known: Mapping[str, Dialect], counter: TokenCounter, recording: Recording
) -> tuple[Counted | None, Counted | None, Counted | None] | None:
    dialect = known[recording.dialect]
    facts = facts_of(dialect, recording)
    asked = facts or RequestFacts(model=None, prompt=PromptShape(), stream="event-stream" in recording.content_type)
    truth = metered(dialect, asked, recording, recording.answer)
    usage = truth.usage
    if usage is None or not truth.ended or truth.failed or not usage.total:
        return None
    mute = metered(dialect, asked, recording, without_usage(recording))
    if mute.usage is not None:
        raise ValueError(f"{recording.source}: its usage could not be taken out")
    model = mute.response_model or asked.model
    about = {"source": recording.source, "vendor": vendor(model), "model": family(model)}
    completion = prompt = bound = None
    if usage.completion:
        kind = completion_kind(recording, usage)
        true = usage.completion if kind == "reasoning shown" else usage.completion - usage.quantities.get(Unit.REASONING_OUTPUT, 0)
        if true > 0:
            completion = Counted(**about, kind=kind, true=true, counted=_count(counter, mute, asked, model))
    if facts is not None and usage.prompt:
        kind = prompt_kind(facts, recording.answer)
        prompt = Counted(**about, kind=kind, true=usage.prompt, counted=counter.count_prompt(facts.prompt, model))
        bound = Counted(**about, kind=kind, true=usage.prompt, counted=counter.upper_bound_prompt(facts.prompt, model))
    return completion, prompt, bound


def _count(counter: TokenCounter, reading: MeterReading, asked: RequestFacts, model: str | None) -> int:
    """As the gateway counts an answer that does not say what it used."""
    text = counter.count_text(reading.drain_text(), model)
    return sum(reading.media_tokens.values()) + counter.completion(text, model, answers=asked.choices, calls=reading.calls)


def facts_of(dialect: Dialect, recording: Recording) -> RequestFacts | None:
    if recording.request is None:
        return None
    try:
        return dialect.read_request(recording.request, path=recording.path, query=recording.query)
    except RequestRejectedError:
        return None


def vendor(model: str | None) -> str:
    name = (model or "").lower()
    return next((vendor for pattern, vendor in _VENDORS if pattern.search(name)), "others")


def family(model: str | None) -> str:
    """The model's name without its date."""
    return _DATE.sub("", (model or "?").lower().rpartition("/")[2])


def table(title: str, counts: Iterable[Counted], *, by_model: bool) -> Table:
    """One line for each vendor (or model) and kind with samples enough."""
    groups: dict[tuple[str, str], list[Counted]] = defaultdict(list)
    for each in counts:
        groups[f"{each.vendor}: {each.model}" if by_model else each.vendor, each.kind].append(each)
    shown = Table(title=title)
    for name in ("vendor", "kind"):
        shown.add_column(name)
    for name in ("n", "median", "sum", "within 10 %", "zeros"):
        shown.add_column(name, justify="right")
    for (name, kind), group in sorted(groups.items()):
        if len(group) < SAMPLES_MIN:
            continue
        near = sum(0.9 <= each.ratio <= 1.1 for each in group)
        shown.add_row(
            name,
            kind,
            f"{len(group):,}",
            f"{statistics.median(each.ratio for each in group):.2f}",
            f"{sum(each.counted for each in group) / sum(each.true for each in group):.2f}",
            f"{near / len(group):.0%}",
            str(sum(not each.counted for each in group)),
        )
    return shown


def furthest(counts: Iterable[Counted], most: int) -> Iterator[str]:
    """The counts that are furthest from the truth, in tokens."""
    for each in sorted(counts, key=lambda one: -abs(one.counted - one.true))[:most]:
        yield f"{each.counted:>8} of {each.true:<8} {each.vendor}, {each.kind}, {each.model}: {each.source}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.counting", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--models", action="store_true", help="a line for each model")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="list the N completions furthest from the truth")
    parser.add_argument("--violations", type=int, default=0, metavar="N", help="list N prompts above their upper bound")
    asked = parser.parse_args()
    passed = Passed()
    found = compare(read_recordings(asked.directory, passed))
    console = Console(width=140)
    console.print(f"{found.read:,} different answers, {found.without_truth:,} of them without a usage to compare with")
    for reason, times in passed.reasons.most_common():
        console.print(f"passed over: {times:,} x {reason}")
    console.print(table("completion: counted / true", found.completions, by_model=asked.models))
    console.print(table("prompt: counted / true", found.prompts, by_model=asked.models))
    seen = [each for each in found.upper if each.kind != "unseen"]
    low = [each for each in seen if each.counted < each.true]
    console.print(table("prompt: upper bound / true", found.upper, by_model=asked.models))
    console.print(f"{len(low):,} of {len(seen):,} prompts without unseen input are above their upper bound")
    for line in furthest(found.completions, asked.worst):
        console.print(line, highlight=False)
    for line in furthest(low, asked.violations):
        console.print(line, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
