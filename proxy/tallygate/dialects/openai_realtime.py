"""OpenAI's Realtime API over a WebSocket: each `response.created` … `response.done` is a turn.

OpenAI, API reference "Realtime" (client and server events) and "Managing costs"
(developers.openai.com/api/docs/guides/realtime-costs): a response reads the whole conversation, of which the client shows only what
it adds. With voice activity detection the server begins responses by itself when the user has spoken, so one is held before audio
passes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tallygate.dialects.body import parse_body, with_member
from tallygate.dialects.dialect import RequestFacts, ResponseMeter, UsageReporting, units_of
from tallygate.dialects.image_size import base64_bytes
from tallygate.dialects.lenient import items_of, lenient_decode, lenient_json_text, member
from tallygate.dialects.openai_prompt import OpenAiPrompt
from tallygate.dialects.openai_responses import ResponsesBody, ResponsesStreamMeter
from tallygate.dialects.openai_responses_socket import KEY_SUBPROTOCOL, status_of_error
from tallygate.dialects.openai_shape import OpenAiShape
from tallygate.dialects.openai_transcription import OUTPUT_TOKENS_MIN, OUTPUT_TOKENS_PER_SECOND, TOKENS_PER_SECOND, TranscriptEvents
from tallygate.dialects.references import stored_references
from tallygate.dialects.socket_dialect import RESPONSE, Ahead, ClientMessage, ServerMessage, SocketTalk
from tallygate.dialects.sse import SseEvent
from tallygate.dialects.vocabulary import Vocabulary
from tallygate.domain.errors import Refusal, RequestRejectedError
from tallygate.domain.prompt import ImageInput, PromptShape
from tallygate.domain.stored_object import StoredKind, StoredReference
from tallygate.domain.unit import Unit

# "Managing costs": "1 token per 100 ms" of a user's audio, "1 token per 50ms" of the assistant's.
_MS_PER_TOKEN: Final = 100
_PCM_BYTES_PER_MS: Final = 48  # of 16 bits at 24 kHz, the default format
_G711_BYTES_PER_MS: Final = 8
_OUT_BYTES_PER_TOKEN: Final = 50 * _G711_BYTES_PER_MS  # at least, whatever the format
AHEAD_MS: Final = 120_000  # of speech for which a turn is held before it is heard; longer speech is held again
ADDED_TOKENS: Final = 64  # "token counts include special tokens aside from the content of a message", and the server's own words
TEXT_CHARS_MAX: Final = 262_144  # of texts kept to be counted; of more, each byte counts as a token
REFERENCES_MAX: Final = 1_000
IMAGES_MAX: Final = 500  # kept to be counted
_IMAGE_TOKENS: Final = 10_000  # of any further one, more than the largest
ID_CHARS_MAX: Final = 256
_NO_CLAMPING: Final = 1 << 40
_CREATE: Final = "response.create"
_UPDATE: Final = "session.update"
_ITEM: Final = "conversation.item.create"
_APPEND: Final = "input_audio_buffer.append"
_COMMIT: Final = "input_audio_buffer.commit"
_FREE: Final = frozenset(
    {"conversation.item.delete", "conversation.item.retrieve", "conversation.item.truncate", "input_audio_buffer.clear"}
    | {"output_audio_buffer.clear", "response.cancel"}
)
_TRANSCRIPTION: Final = "transcription"  # the other kind of turn that is held ahead, by another model
_TRANSCRIPT_EVENTS: Final = "conversation.item.input_audio_transcription."
_SHOWN_CHARS_MAX: Final = 100
_NAMES: Final = (
    *("type", "event_id", "session", "item", "response", "audio", "content", "text", "input", "transcription", "turn_detection"),
    *(
        "create_response",
        "idle_timeout_ms",
        "model",
        "prompt",
        "tools",
        "max_output_tokens",
        "max_response_output_tokens",
        "format",
    ),
    *("input_audio_transcription", "input_audio_format", "instructions", "image_url", "output_modalities", "modalities", "delta"),
)


class _ClientEvent(msgspec.Struct, gc=False):
    type: str
    event_id: str | None = None
    audio: Any = None
    session: dict[str, Any] | None = None
    item: dict[str, Any] | None = None
    response: dict[str, Any] | None = None


class _ServerEvent(msgspec.Struct, gc=False):
    """The fields acted on, each open to any value."""

    type: Any = None
    response_id: Any = None
    response: Any = None
    session: Any = None
    error: Any = None
    audio_start_ms: Any = None
    audio_end_ms: Any = None
    item_id: Any = None


@dataclass(slots=True)
class _Added:
    """What a client has added to the conversation. tokens: of audio, and of texts that are no longer kept."""

    texts: list[str] = field(default_factory=list)
    images: list[ImageInput] = field(default_factory=list)
    tokens: int = 0
    chars: int = 0

    def add(self, draft: OpenAiPrompt, audio_ms: int = 0) -> None:
        self._add((*draft.texts, *draft.tools), draft.images)
        self.tokens += -(-audio_ms // _MS_PER_TOKEN)

    def take(self, other: "_Added") -> None:
        """Add all that another has."""
        self._add(other.texts, other.images)
        self.tokens += other.tokens

    def _add(self, texts: Sequence[str], images: Sequence[ImageInput]) -> None:
        for text in texts:
            if self.chars + len(text) > TEXT_CHARS_MAX:
                self.tokens += len(text.encode(errors="replace"))
            else:
                self.texts.append(text)
                self.chars += len(text)
        room = max(IMAGES_MAX - len(self.images), 0)
        self.images += images[:room]
        self.tokens += len(images[room:]) * _IMAGE_TOKENS


class OpenAiRealtime(OpenAiShape):
    """GET /v1/realtime?model=… with an offer to speak WebSocket."""

    name = "openai_realtime"
    usage_reporting = UsageReporting.ALWAYS
    query_values: Mapping[str, re.Pattern[str]] = {"model": re.compile(r"[A-Za-z0-9._:/@-]{1,128}", re.ASCII)}
    subprotocols: Sequence[str] = ("realtime",)
    key_subprotocol = KEY_SUBPROTOCOL
    is_serial = False

    def __init__(self) -> None:
        self.client_events = msgspec.json.Decoder(_ClientEvent)
        self.server_events = msgspec.json.Decoder(_ServerEvent)
        self.answers = msgspec.json.Decoder(ResponsesBody)
        self.transcripts = msgspec.json.Decoder(dict[str, Any])
        self.vocabulary = Vocabulary(_NAMES)

    def talk(self, query: Mapping[str, str]) -> SocketTalk:
        model = query.get("model")
        if not model:
            raise RequestRejectedError("You must name the model in the query: '?model=gpt-realtime'.", param="model")
        return RealtimeTalk(self, model)

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Never called: what a turn costs follows from its session, which a `RealtimeTalk` knows."""
        raise NotImplementedError

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        """Set the maximum of this response alone."""
        del facts, ask_usage
        return (
            body if max_output_tokens is None else with_member(body, ("response", "max_output_tokens"), b"%d" % max_output_tokens)
        )

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        del content_type, hide_usage_chunk
        return RealtimeMeter(self.answers, facts)


class RealtimeTalk(OpenAiRealtime):
    """One session: what its conversation comes to at most, and whether the server may answer unasked."""

    def __init__(self, api: OpenAiRealtime, model: str) -> None:
        self.client_events, self.server_events = api.client_events, api.server_events
        self.answers, self.transcripts, self.vocabulary = api.answers, api.transcripts, api.vocabulary
        self._model = model
        self._context = 0  # tokens of the conversation, as the last response stated them
        self._now, self._before = _Added(), _Added()  # added since the last response began, and what was added before it
        self._additions = 0  # to the conversation or the session, whatever they come to
        self._references: dict[StoredReference, None] = {}  # of what is stored outside of the session
        self._begun = set[str]()  # responses under way
        self._reads_otherwise = False  # a response was asked for that may read less than the conversation, or other instructions
        self._answers_unasked = True  # voice activity detection is on by default
        self._session_maximum: int | None = None  # of a response's output, the largest that the session may have; None: the model's
        self._updates_sent = self._updates_seen = 0
        self._bytes_per_ms = _PCM_BYTES_PER_MS
        self._heard_ms = 0  # of audio in all
        self._speech_ms: int | None = None  # where speech began that is no item yet
        self._answered_ms = 0  # of audio, of which answers have begun
        self._loose_ms = 0  # where audio begins that is no item yet
        self._transcriber: str | None = None  # the model that transcribes what is heard
        self._asked = self._asked_maximum = 0  # responses that were asked for, and the most output of one
        self._id_added = ""

    # The client's side.

    def read_client(self, message: bytes) -> ClientMessage:
        parsed = parse_body(message, self.client_events)
        self.vocabulary.check(parsed)
        event = parsed.fields
        kind = event.type
        lane = event.event_id or ""
        if len(lane) > ID_CHARS_MAX:
            raise RequestRejectedError(f"'event_id' may have at most {ID_CHARS_MAX} characters.", param="event_id")
        if kind == _CREATE:
            self._check_session(event.response or {}, "response")
            self._check_references(items_of(member(event.response, "input")))
            self._reads_otherwise |= not _OTHERWISE.isdisjoint(event.response or ())
            self._asked += 1
            self._asked_maximum = max(self._asked_maximum, self._maximum(event.response) or 0)
            self._id_added = "" if lane else f"turn_{self._asked}"
            return ClientMessage(asks=True, lane=lane or self._id_added)
        if kind == _APPEND:
            ahead = self.ahead()
            self._heard_ms += base64_bytes(event.audio) // self._bytes_per_ms + 1 if isinstance(event.audio, str) else 0
            return ClientMessage(asks=False, ahead=ahead, lane=lane)
        if kind in (_UPDATE, _ITEM):
            adds = self._answers_unasked  # else what is heard already may be answered from now on
            if kind == _UPDATE:
                self._update(event.session or {})
            else:
                self._add_item(self._now, event.item)
                self._note_references(event.item)
            self._additions += 1
            # The answer to what was heard, which may begin at any moment, reads this too.
            return ClientMessage(asks=False, ahead=self.ahead() if self.is_expecting else (), adds=adds, lane=lane)
        if kind == _COMMIT:
            ahead = self.ahead()
            self._commit()
            return ClientMessage(asks=False, ahead=ahead, lane=lane)
        if kind not in _FREE:
            raise RequestRejectedError(
                f"The event {kind[:_SHOWN_CHARS_MAX]!r} does not pass here: its cost is not known.", param="type"
            )
        return ClientMessage(asks=False, lane=lane)

    def ahead(self, *, begun: str = "") -> tuple[Ahead, ...]:
        """Turns of as much speech as has been heard, and some more: an answer, and its transcription."""
        kinds = (RESPONSE,) if self._answers_unasked or begun == RESPONSE else ()
        if self._transcriber is not None:
            kinds = (*kinds, _TRANSCRIPTION)
        spoken_ms = self._spoken_ms
        return tuple(
            [
                Ahead(
                    kind=kind,
                    body=b'{"type":"%b","ms":%d}' % (kind.encode(), spoken_ms + AHEAD_MS),
                    needs_ms=spoken_ms,
                    covers_ms=spoken_ms + AHEAD_MS,
                    additions=self._additions if kind == RESPONSE else 0,
                )
                for kind in kinds
            ]
        )

    @property
    def is_expecting(self) -> bool:
        """Return whether something was heard that no item has shown yet, or an item of it no answer."""
        return self._heard_ms > self._answered_ms

    @property
    def _spoken_ms(self) -> int:
        """What has been heard of the item that comes next; without voice activity detection all that is in the buffer."""
        if self._speech_ms is not None:
            return self._heard_ms - self._speech_ms
        return 0 if self._answers_unasked else self._heard_ms - self._loose_ms

    def _check_session(self, session: Mapping[str, Any], place: str) -> None:
        """Refuse what would make a session's cost unknown."""
        model, kind = session.get("model"), session.get("type")
        if kind not in (None, "realtime"):
            raise RequestRejectedError("Only sessions of the type 'realtime' are served.", param=f"{place}.type")
        if model is not None and model != self._model:
            raise RequestRejectedError("A session keeps the model of its query: open another one.", param=f"{place}.model")
        if session.get("prompt") is not None:
            raise RequestRejectedError("A stored prompt has a size and tools that are not known here.", param=f"{place}.prompt")
        if any(member(tool, "type") not in (None, "function") for tool in items_of(session.get("tools"))):
            raise RequestRejectedError(
                "Only tools of the type 'function' are served: others cost what is not shown.", param=f"{place}.tools"
            )

    def _check_references(self, items: list[object]) -> None:
        """Refuse to have one item of the conversation read many times: what an item comes to is not known."""
        named = [member(item, "id") for item in items if member(item, "type") == "item_reference"]
        if len(set(map(str, named))) < len(named):
            raise RequestRejectedError("An item of the conversation can be referred to once.", param="response.input")

    def _update(self, session: Mapping[str, Any]) -> None:
        self._check_session(session, "session")
        heard = member(session.get("audio"), "input")
        for transcription in (member(heard, "transcription"), session.get("input_audio_transcription")):
            if transcription is not None:
                self._note_transcriber(transcription)
        for detection in (member(heard, "turn_detection"), session.get("turn_detection")):
            if member(detection, "idle_timeout_ms") is not None:
                raise RequestRejectedError(
                    "Responses to silence cannot be held ahead: leave out 'idle_timeout_ms'.",
                    param="session.audio.input.turn_detection.idle_timeout_ms",
                )
            if isinstance(detection, dict) and detection.get("create_response") is not False:
                self._answers_unasked = True
        audio_format = member(heard, "format") or session.get("input_audio_format")
        if audio_format is not None and (member(audio_format, "type") or audio_format) not in ("audio/pcm", "pcm16"):
            self._bytes_per_ms = _G711_BYTES_PER_MS
        for name in ("max_output_tokens", "max_response_output_tokens"):
            if name in session:
                self._session_maximum = _largest(self._session_maximum, _whole(session[name]))
        draft = OpenAiPrompt()
        draft.add_text(lenient_json_text(session))
        self._now.add(draft)
        self._note_references(session)
        self._updates_sent += 1

    def _note_references(self, holder: object) -> None:
        """Note what is named of the account's: every later response may read it, so its owner is asked for then."""
        for reference in _references_of(holder):
            if len(self._references) <= REFERENCES_MAX:
                self._references[reference] = None

    def _note_transcriber(self, transcription: object) -> None:
        """Note the model that transcribes: another one can only be named in another session, so that its price is certain."""
        model = member(transcription, "model")
        if not isinstance(model, str) or not model or self._transcriber not in (None, model):
            raise RequestRejectedError(
                "Name the model that transcribes what is heard, and keep it: it is billed beside the session.",
                param="session.audio.input.transcription.model",
            )
        self._transcriber = model

    def _add_item(self, added: _Added, item: object) -> None:
        draft, audio_ms = OpenAiPrompt(), 0
        parts = items_of(member(item, "content"))
        for part in parts:
            audio = member(part, "audio")
            if isinstance(audio, str):
                audio_ms += base64_bytes(audio) // self._bytes_per_ms + 1
                draft.add_text(_text_without(part, "audio"))
            elif member(part, "type") == "input_image":
                draft.add_image(part)
                draft.add_text(_text_without(part, "image_url"))
            else:
                draft.add_text(lenient_json_text(part))
        draft.add_text(_text_without(item, "content" if parts else ""))
        added.add(draft, audio_ms)

    def _commit(self) -> None:
        """What is in the audio buffer becomes an item."""
        start = self._loose_ms if self._speech_ms is None else self._speech_ms
        self._now.tokens += -(-max(self._heard_ms - start, 0) // _MS_PER_TOKEN)
        self._loose_ms, self._speech_ms = self._heard_ms, None

    def read_request(self, body: bytes, *, path: Mapping[str, str], query: Mapping[str, str]) -> RequestFacts:
        """Facts of a response that is asked for, or of a turn that the server may begin by itself."""
        del path, query
        event = msgspec.json.decode(body, type=dict[str, Any])
        if event.get("type") == _TRANSCRIPTION:
            return self._transcription_facts(event["ms"])
        is_asked = event.get("type") == _CREATE
        response = event.get("response") if is_asked else None
        own = _Added()
        if isinstance(response, dict):
            draft = OpenAiPrompt()
            draft.add_text(lenient_json_text({name: value for name, value in response.items() if name != "input"}))
            own.add(draft)
            for item in items_of(response.get("input")):
                self._add_item(own, item)
        spoken_ms = event.get("ms", 0) if not is_asked else self._spoken_ms
        # The server begins no response by itself before those under way have said all that they have to say.
        said = 0 if is_asked else len(self._begun) * max(self._session_maximum or _UNSTATED_TOKENS, self._asked_maximum)
        added = (self._before, self._now, own)
        tokens = self._context + sum([each.tokens for each in added]) + said + -(-spoken_ms // _MS_PER_TOKEN) + ADDED_TOKENS
        references = tuple({**self._references, **dict.fromkeys(_references_of(response))})
        images = tuple([image for each in added for image in each.images])
        modalities = member(response, "output_modalities") or member(response, "modalities")
        maximum = self._maximum(response)
        return RequestFacts(
            model=self._model,
            prompt=PromptShape(texts=tuple([text for each in added for text in each.texts]), images=images, tokens=tokens),
            stream=True,
            max_output_tokens=maximum,
            units=units_of(audio_input=True, audio_output=modalities != ["text"], image_input=True),
            output_min_tokens=1 if is_asked else _NO_CLAMPING,
            replaces_model=is_asked and bool(self._id_added),
            has_unknown_input=any(each.kind != StoredKind.VOICE for each in references),
            references=references,
        )

    def _transcription_facts(self, spoken_ms: int) -> RequestFacts:
        seconds = -(-spoken_ms // 1_000)
        output = max(OUTPUT_TOKENS_MIN, seconds * OUTPUT_TOKENS_PER_SECOND)
        return RequestFacts(
            model=self._transcriber,
            prompt=PromptShape(tokens=seconds * TOKENS_PER_SECOND + ADDED_TOKENS),
            stream=True,
            max_output_tokens=output,
            output_min_tokens=output,
            units=units_of(audio_input=True),
            calls_instead={Unit.AUDIO_SECOND: seconds},
        )

    def meter(self, facts: RequestFacts, *, content_type: str, hide_usage_chunk: bool) -> ResponseMeter:
        if facts.model != self._model:
            return RealtimeTranscript(facts, self.transcripts)
        return super().meter(facts, content_type=content_type, hide_usage_chunk=hide_usage_chunk)

    def _maximum(self, response: object) -> int | None:
        names = ("max_output_tokens", "max_response_output_tokens")
        stated = [_whole(each) for name in names if (each := member(response, name)) is not None]
        return _largest(*stated) if stated else self._session_maximum

    def rewrite_request(self, body: bytes, facts: RequestFacts, *, ask_usage: bool, max_output_tokens: int | None) -> bytes:
        """Set the maximum, and name an event that has no id: an error names the event that it is about."""
        rewritten = super().rewrite_request(body, facts, ask_usage=ask_usage, max_output_tokens=max_output_tokens)
        return with_member(rewritten, ("event_id",), msgspec.json.encode(self._id_added)) if self._id_added else rewritten

    # The server's side.

    def read_server(self, message: bytes) -> ServerMessage:
        event = lenient_decode(message, self.server_events)
        kind = "" if event is None or not isinstance(event.type, str) else event.type
        if event is None:
            return ServerMessage(is_of_turn=False)
        if kind == "error":
            about = member(event.error, "event_id")
            is_named = isinstance(about, str) and bool(about)
            status = status_of_error(None, event.error)
            return ServerMessage(is_of_turn=is_named, lane=about if isinstance(about, str) else "", ends=True, error_status=status)
        if not kind.startswith("response."):
            self._follow(kind, event)
            return self._about_transcript(kind, event)
        response_id = event.response_id or member(event.response, "id")
        begins, ends = kind == "response.created", kind == "response.done"
        response_id = response_id if isinstance(response_id, str) else ""
        if begins:
            self._before.take(self._now)
            self._now = _Added()
            self._begun.add(response_id)
            self._additions += 1  # what it says is read by the next one
            self._answered_ms = self._loose_ms
        elif ends:
            self._begun.discard(response_id)
            self._note_context(event.response)
        return ServerMessage(response_id=response_id, begins=begins, ends=ends)

    def _about_transcript(self, kind: str, event: _ServerEvent) -> ServerMessage:
        """Transcription begins as the audio is committed ("runs asynchronously with Response creation")."""
        is_committed = kind == "input_audio_buffer.committed"
        what = kind.removeprefix(_TRANSCRIPT_EVENTS)
        if self._transcriber is None or not (is_committed or what != kind) or not isinstance(event.item_id, str):
            return ServerMessage(is_of_turn=False)
        return ServerMessage(
            kind=_TRANSCRIPTION,
            response_id=event.item_id,
            is_read=not is_committed,
            begins=is_committed,
            ends=what in ("completed", "failed"),
            error_status=500 if what == "failed" else 0,
        )

    def _follow(self, kind: str, event: _ServerEvent) -> None:
        """Follow what the server says of session and audio."""
        if kind in ("session.created", "session.updated"):
            self._updates_seen += kind == "session.updated"
            if kind == "session.created":
                draft = OpenAiPrompt()
                draft.add_text(member(event.session, "instructions"))
                self._now.add(draft)
            if self._updates_seen == self._updates_sent:  # else something that was asked for is not in it yet
                self._apply(event.session)
        elif kind == "input_audio_buffer.speech_started" and isinstance(event.audio_start_ms, int):
            self._speech_ms = min(max(event.audio_start_ms, self._loose_ms), self._heard_ms)
        elif kind == "input_audio_buffer.speech_stopped" and isinstance(event.audio_end_ms, int) and self._speech_ms is not None:
            end_ms = min(max(event.audio_end_ms, self._speech_ms), self._heard_ms)
            self._now.tokens += -(-(end_ms - self._speech_ms) // _MS_PER_TOKEN) + 1
            self._loose_ms, self._speech_ms = end_ms, None

    def _apply(self, session: object) -> None:
        if not isinstance(session, dict):
            return
        heard = member(session.get("audio"), "input")
        for holder in (heard, session):
            if isinstance(holder, dict) and "turn_detection" in holder:
                detection = holder["turn_detection"]
                self._answers_unasked = isinstance(detection, dict) and detection.get("create_response") is not False
        for name in ("max_output_tokens", "max_response_output_tokens"):
            if name in session:
                self._session_maximum = _whole(session[name])

    def _note_context(self, response: object) -> None:
        """Note what the conversation comes to. Only a response to it that was not broken off has read all that was added before."""
        usage = member(response, "usage")
        stated = [member(usage, name) for name in ("input_tokens", "output_tokens")]
        known = [each for each in stated if isinstance(each, int) and each >= 0]
        is_apart = isinstance(response, dict) and "conversation_id" in response and response["conversation_id"] is None
        if len(known) < len(stated):
            self._context += _UNSTATED_TOKENS
        elif is_apart or self._reads_otherwise or member(response, "status") in _BROKEN_OFF or not known[0]:
            self._context = max(self._context, sum(known))
        else:
            self._context = sum(known)
            if not self._begun:
                self._before = _Added()

    def error_event(self, refusal: Refusal, *, request_id: str, lane: str, headers: Mapping[str, str]) -> bytes:
        """An `error` event as in the type `RealtimeErrorEvent`."""
        error = self.error_object(refusal) | {"request_id": request_id, "headers": headers, "status": refusal.status}
        error["event_id"] = lane if lane and lane != self._id_added else None
        return msgspec.json.encode({"type": "error", "event_id": f"event_{request_id}", "error": error})


_OF_SESSION: Final = frozenset({StoredKind.ITEM, StoredKind.CONTENT_ITEM, StoredKind.RESPONSE})
_CONVERSATIONS: Final = frozenset({"auto", "none"})
_UNSTATED_TOKENS: Final = 4_096  # of a response that states none
_BROKEN_OFF: Final = frozenset({"cancelled", "failed"})
# Of a response: "Input items to include in the prompt … creates a new context for this Response instead of using the default
# conversation" (API reference, `response.create`); the others stand in place of the session's.
_OTHERWISE: Final = frozenset({"input", "instructions", "tools", "conversation"})


class RealtimeMeter(ResponsesStreamMeter):
    """Reads a response's events up to `response.done`. Its audio is counted by its length, in case no usage comes."""

    __slots__ = ("_audio_bytes",)

    def __init__(self, decoder: "msgspec.json.Decoder[ResponsesBody]", facts: RequestFacts) -> None:
        super().__init__(decoder, facts)
        self._audio_bytes = 0

    def _read(self, event: SseEvent) -> bytes:
        if b"audio.delta" in event.data[:200]:
            body = lenient_decode(event.data, self._decoder)
            if body is not None and isinstance(body.delta, str):
                self._audio_bytes += base64_bytes(body.delta)
                self.reading.media_tokens[Unit.OUTPUT_AUDIO] = -(-self._audio_bytes // _OUT_BYTES_PER_TOKEN)
        return super()._read(event)


class RealtimeTranscript(TranscriptEvents):
    """Reads the transcription of one item, whose usage is by tokens or by duration."""

    __slots__ = ()

    delta_type = f"{_TRANSCRIPT_EVENTS}delta"
    done_type = f"{_TRANSCRIPT_EVENTS}completed"
    text_member = "transcript"


def _text_without(value: object, name: str) -> str:
    """An object as JSON without that member; anything else whole."""
    return lenient_json_text({key: each for key, each in value.items() if key != name} if isinstance(value, dict) else value)


def _references_of(holder: object) -> list[StoredReference]:
    """What is named in an item, a session or a response, but for what the session itself has."""
    return [
        each
        for each in stored_references(holder)
        if each.kind not in _OF_SESSION and not (each.kind == StoredKind.CONVERSATION and each.id in _CONVERSATIONS)
    ]


def _largest(*maxima: int | None) -> int | None:
    known = [each for each in maxima if each is not None]
    return max(known) if len(known) == len(maxima) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
