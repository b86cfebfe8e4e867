"""Requests to the Gemini API. The model is in the path, not in the body."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tallygate.dialects.body import parse_body
from tallygate.dialects.dialect import RequestFacts, units_of
from tallygate.dialects.gemini_grounding import are_results_free, calls_of_tools
from tallygate.dialects.gemini_tiers import tier_conditions
from tallygate.dialects.prompt_parts import PromptParts
from tallygate.dialects.references import stored_references
from tallygate.dialects.vocabulary import Vocabulary
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import ImageInput
from tallygate.domain.unit import Unit
from tallygate.domain.usage import TOKENS_MAX

CANDIDATES_MAX: Final = 128  # answers to one request; more are refused (Gemini itself stops at 8)

Json = dict[str, Any]
BodyDecoder = msgspec.json.Decoder[Json]

# Members in both spellings that the proto3 JSON mapping reads.
_SNAKE_CASE: Final[Mapping[str, str]] = {
    "systemInstruction": "system_instruction",
    "generationConfig": "generation_config",
    "cachedContent": "cached_content",
    "maxOutputTokens": "max_output_tokens",
    "candidateCount": "candidate_count",
    "responseModalities": "response_modalities",
    "responseSchema": "response_schema",
    "responseJsonSchema": "response_json_schema",
    "functionDeclarations": "function_declarations",
    "inlineData": "inline_data",
    "fileData": "file_data",
    "functionCall": "function_call",
    "functionResponse": "function_response",
    "executableCode": "executable_code",
    "codeExecutionResult": "code_execution_result",
    "toolCall": "tool_call",
    "toolResponse": "tool_response",
    "mimeType": "mime_type",
    "responseMimeType": "response_mime_type",
    "serviceTier": "service_tier",
}
_JSON_PARTS: Final = ("functionCall", "executableCode", "codeExecutionResult", "toolCall", "toolResponse")
# Tools of which only the definition is input; the provider runs any other tool, and its results are input.
_CLIENT_TOOLS: Final = frozenset({"functionDeclarations", "function_declarations", "computerUse", "computer_use"})
_VIDEO_IN: Final = frozenset({Unit.INPUT_VIDEO})
_VIDEO_OUT: Final = frozenset({Unit.OUTPUT_VIDEO})
# Values of `responseModalities`. Without any, pictures may come: the models whose images cost more than text make them unasked.
_NUMBERED: Final = ""  # an enum's value by its number, as the proto3 JSON mapping allows: any of them
_NO_PICTURES: Final = frozenset({"TEXT", "AUDIO"})
_SOUND: Final = frozenset({"AUDIO", _NUMBERED})
_NUMERAL: Final = re.compile(r"\d{1,18}", re.ASCII)


# Names without a second spelling that are read as well.
_VOCABULARY_INSIDE: Final = ("contents", "parts", "role", "text", "data", "tools", "requests", "content", "title", "model")
# Members of a request, its generationConfig, a content and a part that are read, or are no text for the model. Others may be text.
_KNOWN: Final = frozenset(
    {"contents", "tools", "safetySettings", "safety_settings", "toolConfig", "tool_config", "labels", "model"}
)
_CONFIG: Final = frozenset(
    {"stopSequences", "stop_sequences", "thinkingConfig", "thinking_config", "speechConfig", "speech_config"}
)
_CONTENT: Final = frozenset({"parts"})
_SIGNATURES: Final = ("thoughtSignature", "thought_signature")
_PART: Final = frozenset({"text", *_SIGNATURES, "videoMetadata", "video_metadata"})


def _spellings(*names: str) -> frozenset[str]:
    return frozenset(names).union(_SNAKE_CASE[name] for name in names)


_KNOWN_WHOLE: Final = _KNOWN | _spellings("systemInstruction", "generationConfig", "cachedContent", "serviceTier")
_KNOWN_CONFIG: Final = _CONFIG | _spellings(
    "maxOutputTokens", "candidateCount", "responseModalities", "responseSchema", "responseJsonSchema", "responseMimeType"
)
_KNOWN_BLOB: Final = _spellings("mimeType") | {"data", "fileUri", "file_uri"}
_KNOWN_PART: Final = _PART | _spellings("inlineData", "fileData", "functionResponse", *_JSON_PARTS)


def gemini_vocabulary() -> Vocabulary:
    return Vocabulary((*_SNAKE_CASE, *_SNAKE_CASE.values(), *_VOCABULARY_INSIDE))


def read_generate(
    body: bytes, decoder: BodyDecoder, vocabulary: Vocabulary, *, path: Mapping[str, str], stream: bool
) -> RequestFacts:
    """Facts of a request for content. Raises RequestRejectedError."""
    parsed = parse_body(body, decoder)
    vocabulary.check(parsed)
    request = parsed.fields
    check_body_model(request, path)
    config = _object(_member(request, "generationConfig"))
    modalities = _member(config, "responseModalities")
    asked = {each.upper() if isinstance(each, str) else _NUMBERED for each in _items(modalities)} if modalities else set()
    parts = PromptParts()
    for content in (_member(request, "systemInstruction"), *_items(request.get("contents"))):
        add_content(parts, content)
    tools: set[str] = set()
    for tool in _items(request.get("tools")):
        _add_tool(parts, tool, tools)
    for schema in ("responseSchema", "responseJsonSchema"):
        parts.add_schema(_member(config, schema))
    parts.add_unknown_members(request, _KNOWN_WHOLE)
    parts.add_unknown_members(config, _KNOWN_CONFIG)
    has_cached = bool(_member(request, "cachedContent"))  # which may have further tools
    if has_cached:
        parts.add_referred()
    references = stored_references(request)
    choices = _candidates(config)
    return RequestFacts(
        model=path_model(path),
        prompt=parts.shape(),
        stream=stream,
        max_output_tokens=whole_number(_member(config, "maxOutputTokens"), "generationConfig.maxOutputTokens", TOKENS_MAX),
        choices=choices,
        units=media_units(parts, audio_output=not _SOUND.isdisjoint(asked), picture_output=not asked or not asked <= _NO_PICTURES),
        conditions=tier_conditions(
            _member(request, "serviceTier") if "serviceTier" in request or "service_tier" in request else None
        ),
        calls=calls_of_tools(tools, choices) if tools else {},
        are_results_free=bool(tools) and are_results_free(tools) and not has_cached,
        has_unknown_input=parts.has_unknown_input(references),
        has_unseen_input=parts.has_unseen_input,
        references=references,
    )


def media_units(parts: PromptParts, *, audio_output: bool = False, picture_output: bool = False) -> frozenset[Unit]:
    """The units in which a request can be charged besides text; input that nobody has seen may be pictures."""
    is_unseen = parts.has_unseen_input or parts.has_referred_input
    units = units_of(
        audio_input=parts.audio_input,
        audio_output=audio_output,
        image_input=bool(parts.images) or is_unseen,
        image_output=picture_output,
    )
    if parts.audio_input or is_unseen:
        units |= _VIDEO_IN
    return units | _VIDEO_OUT if picture_output else units


def path_model(path: Mapping[str, str]) -> str:
    """The model that the route's path names. Raises RequestRejectedError."""
    model = path.get("model", "")
    if not model:
        raise RequestRejectedError("The path names no model.", param="model")
    return model


def check_body_model(request: Json, path: Mapping[str, str]) -> None:
    """Require a model in the body to equal the path's, so that nobody has to guess which applies. Raises RequestRejectedError."""
    named, model = request.get("model"), path.get("model", "")
    if named not in (None, "", model, f"models/{model}"):
        raise RequestRejectedError("'model' names another model than the path.", param="model")


def output_maximum_path(body: bytes, decoder: BodyDecoder) -> tuple[str, str]:
    """The path of the maximum output in this body, in the body's own spelling."""
    request = decoder.decode(body)
    config_name = "generation_config" if "generation_config" in request else "generationConfig"
    config = _object(request.get(config_name))
    return config_name, "max_output_tokens" if "max_output_tokens" in config else "maxOutputTokens"


def add_content(parts: PromptParts, content: object) -> None:
    """Add a Content of parts, or a bare text; null adds nothing."""
    if not isinstance(content, dict):
        parts.add_text(content)
        return
    parts.messages += 1
    for part in _items(content.get("parts")):
        _add_part(parts, part)
    parts.add_unknown_members(content, _CONTENT)


def _add_part(parts: PromptParts, part: object) -> None:
    if not isinstance(part, dict):
        parts.add_text(part)
        return
    is_known = False
    if "text" in part:
        parts.add_text(part["text"])
        is_known = True
    blob = _member(part, "inlineData")
    if isinstance(blob, dict):
        parts.add_base64(_member(blob, "mimeType"), blob.get("data"))
        parts.add_unknown_members(blob, _KNOWN_BLOB)
        is_known = True
    file = _member(part, "fileData")
    if file is not None:
        _add_file(parts, _object(file))
        parts.add_unknown_members(_object(file), _KNOWN_BLOB)
        is_known = True
    response = _member(part, "functionResponse")
    if response is not None:
        _add_function_response(parts, response)
        is_known = True
    for name in _JSON_PARTS:
        value = _member(part, name)
        if value is not None:
            parts.add_json(value)
            is_known = True
    if not is_known:
        parts.add_json(part)
        return
    for name in _SIGNATURES:
        parts.add_signature(part.get(name))
    parts.add_unknown_members(part, _KNOWN_PART)


def _add_file(parts: PromptParts, file: Json) -> None:
    """Add a file by its URI: of unknown size, and of unknown kind unless the request states it."""
    mime_type = _member(file, "mimeType")
    kind = mime_type.partition("/")[0].lower() if isinstance(mime_type, str) else ""
    parts.audio_input |= kind not in {"image", "text", "application"}
    if stored_references({"fileData": file}):
        parts.add_referred()
    elif kind == "image":
        parts.images.append(ImageInput())
    else:
        parts.add_unseen()


def _add_function_response(parts: PromptParts, response: object) -> None:
    """Add a function's response: JSON, and possibly media beside it."""
    if not isinstance(response, dict):
        parts.add_text(response)
        return
    parts.add_json({name: value for name, value in response.items() if name != "parts"})
    for part in _items(response.get("parts")):
        _add_part(parts, part)


def _add_tool(parts: PromptParts, tool: object, hosted: set[str]) -> None:
    """Add a tool; put the names of what runs at the provider into `hosted`."""
    if not isinstance(tool, dict):
        parts.add_tool(tool)
        return
    for declaration in _items(_member(tool, "functionDeclarations")):
        parts.add_tool(declaration)
    names = {name for name in tool.keys() - _CLIENT_TOOLS if tool[name] is not None}
    if names:
        hosted |= names
        parts.add_unseen()


def _candidates(config: Json) -> int:
    count = whole_number(_member(config, "candidateCount"), "generationConfig.candidateCount", CANDIDATES_MAX + 1) or 1
    if count > CANDIDATES_MAX:
        raise RequestRejectedError(
            f"'candidateCount' must be at most {CANDIDATES_MAX}.",
            param="generationConfig.candidateCount",
        )
    return count


def whole_number(value: object, param: str, most: int) -> int | None:
    """A number as the proto3 JSON mapping reads it, including 100.0 and "100". None if it is absent or 0, which means unset.

    Cut to `most`. Raises RequestRejectedError for anything else, which another parser might read as a number.
    """
    if value is None:
        return None
    number: object = value
    if (isinstance(value, str) and _NUMERAL.fullmatch(value)) or (isinstance(value, float) and value.is_integer()):
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise RequestRejectedError(f"'{param}' must be a whole number of 0 or more.", param=param)
    return min(number, most) or None


def _member(holder: Json, name: str) -> Any:
    """A member in either spelling. Raises RequestRejectedError if both are present, since nobody can tell which applies."""
    snake = _SNAKE_CASE[name]
    if snake not in holder:
        return holder.get(name)
    if name in holder:
        raise RequestRejectedError(f"'{name}' and '{snake}' are the same member, given twice.", param=name)
    return holder[snake]


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> list[Any]:
    """The list itself; for any other value but null, a list of it alone, as Google's parser reads a repeated field."""
    if isinstance(value, list):
        return value
    return [] if value is None else [value]
