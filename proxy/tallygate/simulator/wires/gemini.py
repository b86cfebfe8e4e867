"""Gemini's generateContent and streamGenerateContent (event stream or one JSON array), embeddings and counts."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tallygate.simulator.answer import Answer, Event, Figures
from tallygate.simulator.directive import UsageStyle
from tallygate.simulator.wires.sse import EVENT_STREAM, compact
from tallygate.simulator.words import TOOL_NAME

GEMINI_HEADERS: Final[Mapping[str, str]] = {"x-gemini-service-tier": "standard"}
_IMAGE: Final[dict[str, Any]] = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
STATUS_NAMES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def usage_object(answer: Answer, figures: Figures, *, is_last: bool) -> dict[str, Any]:
    """The usage object, with thoughts beside the candidates, not among them, and results of tools beside the prompt."""
    directive = answer.directive
    candidates = figures.completion
    if isinstance(candidates, int) and isinstance(figures.reasoning, int) and candidates >= figures.reasoning:
        candidates -= figures.reasoning
    audio = cached_audio = 0
    if isinstance(figures.prompt, int) and isinstance(figures.cached, int):
        audio = min(directive.audio, figures.prompt)
        cached_audio = min(directive.cached_audio, figures.cached, audio)
    usage: dict[str, Any] = {
        "promptTokenCount": figures.prompt,
        "candidatesTokenCount": candidates,
        "totalTokenCount": figures.total,
        "promptTokensDetails": _details(figures.prompt, "AUDIO", audio),
    }
    if figures.cached:
        usage["cachedContentTokenCount"] = figures.cached
        if cached_audio:
            usage["cacheTokensDetails"] = _details(figures.cached, "AUDIO", cached_audio)
    if figures.reasoning:
        usage["thoughtsTokenCount"] = figures.reasoning
    if directive.results and isinstance(figures.total, int):
        usage |= {"toolUsePromptTokenCount": directive.results, "totalTokenCount": figures.total + directive.results}
        usage["toolUsePromptTokensDetails"] = _details(directive.results)
    if is_last and answer.image_tokens:
        usage["candidatesTokensDetails"] = _details(candidates, "IMAGE", answer.image_tokens * answer.ask.choices)
    if directive.tier:
        usage["serviceTier"] = directive.tier
    return usage


def _details(whole: Any, modality: str = "", among: int = 0) -> list[dict[str, Any]]:
    """Tokens by modality: text, and what is not."""
    if not among:
        return [{"modality": "TEXT", "tokenCount": whole}]
    text = [{"modality": "TEXT", "tokenCount": whole - among}] if whole > among else []
    return [*text, {"modality": modality, "tokenCount": among}]


def _with_results(answer: Answer, figures: Figures | None) -> Figures | None:
    """What is billed, results of tools included."""
    if figures is None or not isinstance(figures.prompt, int):
        return figures
    return figures._replace(prompt=figures.prompt + answer.billed_results)


def _grounding(answer: Answer, queries: range) -> dict[str, Any]:
    """The metadata of a grounded candidate. The first query stands in it twice, and an empty one, which are not billed."""
    directive = answer.directive
    if not (directive.searches or directive.maps):
        return {}
    asked = [f"query {number}" for number in queries]
    metadata: dict[str, Any] = {"webSearchQueries": [*asked, *asked[:1], ""]} if asked else {}
    if directive.maps:
        metadata["groundingChunks"] = [{"maps": {"uri": "https://maps.google.com/?cid=1", "title": "A place"}}]
    return {"groundingMetadata": metadata}


class Gemini:
    """Each event of a stream has the usage so far; the last one counts."""

    headers: Final[Mapping[str, str]] = GEMINI_HEADERS

    def stream_type(self, answer: Answer) -> str:
        return EVENT_STREAM if answer.ask.alt == "sse" else "application/json; charset=UTF-8"

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        parts: list[dict[str, Any]] = [_part(answer, answer.text())]
        if answer.directive.show_reasoning:
            parts.insert(0, {"text": answer.reasoning_text(), "thought": True})
        if answer.image_tokens:
            parts.append(_IMAGE)
        grounding = _grounding(answer, range(answer.directive.searches))
        candidates = [_candidate(index, parts, _finish(answer)) | grounding for index in range(answer.ask.choices)]
        figures = answer.figures()
        return compact(self._chunk(answer, candidates, figures, is_last=True)), _with_results(answer, figures)

    def events(self, answer: Answer) -> Iterator[Event]:
        """The visible pieces, framed; the last one has the finish reason."""
        style, generated = answer.directive.usage, 0
        is_sse, is_first = answer.ask.alt == "sse", True
        for piece in answer.pieces():
            generated += piece.tokens
            reasoning = piece.tokens if piece.reasoning else 0
            if piece.reasoning and not answer.directive.show_reasoning:
                yield Event(b"", piece.tokens, reasoning)
                continue
            if answer.is_tool_call:
                yield Event(b"", piece.tokens)
                continue
            part = {"text": piece.text, "thought": True} if piece.reasoning else {"text": piece.text}
            figures = answer.figures(generated)
            if style is UsageStyle.SHRINKING and is_first:
                figures = answer.early_figures()
            candidate = _candidate(piece.choice, [part], None)
            if is_first and answer.directive.searches:
                candidate |= _grounding(answer, range(1))  # which the last piece has again, among the others
            chunk = self._chunk(answer, [candidate], figures)
            yield Event(
                self._framed(chunk, is_sse=is_sse, is_first=is_first), piece.tokens, reasoning, _with_results(answer, figures)
            )
            is_first = False
        figures = answer.figures()
        parts = [_part(answer, answer.text())] if answer.is_tool_call else [{"text": ""}]
        if answer.image_tokens:
            parts.append(_IMAGE)
        grounding = _grounding(answer, range(answer.directive.searches))
        candidates = [_candidate(index, parts, _finish(answer)) | grounding for index in range(answer.ask.choices)]
        last = self._framed(self._chunk(answer, candidates, figures, is_last=True), is_sse=is_sse, is_first=is_first)
        image = answer.image_tokens * answer.ask.choices
        yield Event(last, image, figures=_with_results(answer, figures), image=image)
        if not is_sse:
            yield Event(b"\n]\n")

    def _framed(self, chunk: dict[str, Any], *, is_sse: bool, is_first: bool) -> bytes:
        """An event with CRLF line ends, or one element of a JSON array."""
        if is_sse:
            return b"data: " + compact(chunk) + b"\r\n\r\n"
        return (b"[" if is_first else b"\n,\r\n") + compact(chunk)

    def _chunk(self, answer: Answer, candidates: list[Any], figures: Figures | None, *, is_last: bool = False) -> dict[str, Any]:
        chunk: dict[str, Any] = {"candidates": candidates, "modelVersion": answer.model, "responseId": answer.id}
        if figures is not None:
            chunk["usageMetadata"] = usage_object(answer, figures, is_last=is_last)
        elif answer.directive.usage is UsageStyle.NULL:
            chunk["usageMetadata"] = None
        return chunk

    def error(self, status: int, message: str) -> bytes:
        error: dict[str, Any] = {"code": status, "message": message, "status": STATUS_NAMES.get(status, "INTERNAL")}
        if status == 429:
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "58s"}]
        return compact({"error": error})

    def stream_error(self, answer: Answer, message: str) -> bytes:
        """An event like any other, or the last element of the array."""
        error = self.error(503, message)
        return b"data: " + error + b"\r\n\r\n" if answer.ask.alt == "sse" else b"\n,\r\n" + error + b"\n]\n"


class GeminiCount(Gemini):
    """`countTokens`: the answer is the count, and costs nothing."""

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        return compact({"totalTokens": answer.ask.extra["count"]}), None


class GeminiEmbedding(Gemini):
    """`embedContent`: a vector, and no usage."""

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        del answer
        return compact({"embedding": {"values": [0.25, -0.5, 0.125]}}), None


class GeminiEmbeddings(Gemini):
    """`batchEmbedContents`: a vector for each request, and no usage."""

    def body(self, answer: Answer) -> tuple[bytes, Figures | None]:
        return compact({"embeddings": [{"values": [0.25, -0.5, 0.125]} for _ in range(answer.ask.choices)]}), None


def _part(answer: Answer, text: str) -> dict[str, Any]:
    if answer.is_tool_call:
        return {"functionCall": {"name": TOOL_NAME, "args": {"query": text[10:-2]}}}
    return {"text": text}


def _candidate(index: int, parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
    if finish:
        candidate["finishReason"] = finish
    return candidate


def _finish(answer: Answer) -> str:
    return answer.finish(stop="STOP", length="MAX_TOKENS", tool="STOP")
