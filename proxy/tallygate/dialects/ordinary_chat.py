"""The ordinary chat request, read in one step: messages of text, and members whose meaning is plain.

Most requests are such, and what the general reader looks for in them (names in another spelling, names that two parsers could read
differently, text in unknown places, stored objects) cannot be there: no other member is, and none is there twice. Whatever is not
proved to be ordinary is left to the general reader, which refuses it or reads it.
"""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType

from tallygate.dialects.body import ENTRIES_MAX
from tallygate.dialects.dialect import RequestFacts, units_of
from tallygate.dialects.prompt_parts import LABEL_CHARS_MAX
from tallygate.domain.prompt import PromptShape
from tallygate.domain.usage import TOKENS_MAX

_Role = Annotated[str, msgspec.Meta(max_length=LABEL_CHARS_MAX)]  # a longer one counts as text
_Model = Annotated[str, msgspec.Meta(min_length=1)]
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)] | UnsetType
_Number = float | UnsetType  # that controls the answer, and is never part of the prompt


class _Message(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: _Role
    content: str


class _StreamOptions(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    include_usage: bool


class _OrdinaryChat(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    messages: list[_Message]
    model: _Model
    max_tokens: _Tokens = UNSET
    max_completion_tokens: _Tokens = UNSET
    stream: bool | UnsetType = UNSET
    stream_options: _StreamOptions | UnsetType = UNSET
    temperature: _Number = UNSET
    top_p: _Number = UNSET
    frequency_penalty: _Number = UNSET
    presence_penalty: _Number = UNSET
    seed: _Number = UNSET
    user: str | UnsetType = UNSET


_decode: Final = msgspec.json.Decoder(_OrdinaryChat).decode
_BACKSLASH: Final = ord("\\")
_MEMBERS: Final = len(_OrdinaryChat.__struct_fields__)
_UNITS: Final = units_of(cache_write_5m=True)  # prompts are cached unasked


def ordinary_chat_facts(body: bytes) -> RequestFacts | None:
    """The facts of an ordinary chat request; None for any other body, and for one that is too large to be looked at twice."""
    if len(body) > ENTRIES_MAX:
        return None
    try:
        request = _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    messages, options, is_stream = request.messages, request.stream_options, request.stream is True
    # No name is there twice: every string that was read, and no other, is in the body.
    strings = _MEMBERS - msgspec.structs.astuple(request).count(UNSET) + 1 + 4 * len(messages)
    strings += (request.user is not UNSET) + (options is not UNSET)
    outside = body.replace(rb"\\", b"").replace(rb"\"", b"") if _BACKSLASH in body else body
    if outside.count(b'"') != 2 * strings:
        return None
    return RequestFacts(
        model=request.model,
        prompt=PromptShape(texts=tuple([message.content for message in messages]), messages=len(messages)),
        stream=is_stream,
        max_output_tokens=max(request.max_tokens or 0, request.max_completion_tokens or 0) or None,
        client_asks_usage=options is not UNSET and options.include_usage,
        units=_UNITS,
    )
