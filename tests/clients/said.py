"""What programs under programs/ should have heard, and which requests they make, by wire API."""

from collections.abc import Container, Iterable
from typing import Any

from tallygate.simulator.service import SimulatorSettings
from tallygate.simulator.words import TOOL_FRAME_TOKENS, text_of

TOKENS = 12  # what each program asks the simulator for, in its prompt
CALLS = ("plain", "stream", "tool", "answer after the tool")
PATHS = {
    "chat": ("/v1/chat/completions",),
    "responses": ("/v1/responses",),
    "anthropic": ("/v1/messages",),
    "gemini": tuple(f"/v1beta/models/gemini-2.5-flash:{method}" for method in ("generateContent", "streamGenerateContent")),
}


def heard(wires: Iterable[str], calls: Container[str] = CALLS) -> dict[str, Any]:
    """Of each wire API an answer, the same as a stream, the argument of a tool call, and the answer behind the tool's result."""
    words, query, rest = text_of(TOKENS), text_of(TOKENS - TOOL_FRAME_TOKENS), text_of(SimulatorSettings().tokens)
    texts = dict(zip(CALLS, (words, words, [query], rest), strict=True))
    return {f"{wire} {call}": text for wire in wires for call, text in texts.items() if call in calls}


def answered(wires: Iterable[str]) -> set[str]:
    """The lines of the requests, all answered with 200, in the spelling of `kinds`."""
    return {f"POST {path} 200" for wire in wires for path in PATHS[wire]}


def kinds(lines: Iterable[str]) -> set[str]:
    """The different ones of a visit's lines. Gemini's version is one word here: v1beta from older SDKs, v1 from newer."""
    return {line.replace("/v1/models/gemini-", "/v1beta/models/gemini-") for line in lines}
