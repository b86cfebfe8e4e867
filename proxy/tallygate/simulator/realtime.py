"""A session of the Realtime API: what is said to it, and when it answers.

Voice activity is simple here: speech begins with the first audio, and ends with audio whose last bytes are SILENCE.
"""

import asyncio
from base64 import b64decode
from json import dumps
from typing import Any, Final

from aiohttp import web

from tallygate.simulator.endpoint import Endpoint
from tallygate.simulator.service import Service
from tallygate.simulator.socket_line import SocketLine

SILENCE: Final = bytes(8)
_BYTES_PER_MS: Final = 48
_MS_PER_TOKEN: Final = 100
_TRANSCRIPT: Final = "peace be with you"


class RealtimeSession:
    """One socket. Responses come one after the other; what one costs is all that was said before, and the answers."""

    def __init__(self, service: Service, request: web.Request, endpoint: Endpoint, socket: web.WebSocketResponse) -> None:
        self._service = service
        self._request = request
        self._endpoint = endpoint
        self._socket = socket
        self._settings: dict[str, Any] = {
            "type": "realtime",
            "model": request.query.get("model"),
            "instructions": "Be helpful.",
            "output_modalities": ["audio"],
            "max_output_tokens": "inf",
            "audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": {"type": "server_vad"}}},
        }
        self._texts = ["Be helpful."]
        self._tokens = self._audio_tokens = 0
        self._audio_ms = self._speech_ms = 0
        self._is_spoken_to = False
        self._items = 0

    async def begin(self) -> None:
        await self._send({"type": "session.created", "session": self._settings})

    async def hear(self, event: dict[str, Any]) -> None:
        """Take one event of the client's; answers to it are sent before the next is taken."""
        match event.get("type"):
            case "session.update":
                self._update(event["session"])
                await self._send({"type": "session.updated", "session": self._settings})
            case "conversation.item.create":
                self._texts += [part["text"] for part in event["item"].get("content", ()) if "text" in part]
                await self._send({"type": "conversation.item.added", "item": event["item"]})
            case "input_audio_buffer.append":
                await self._listen(b64decode(event["audio"]))
            case "input_audio_buffer.commit":
                await self._commit()
            case "response.create":
                await self._respond(event.get("response") or {})
            case _:
                error = {"type": "invalid_request_error", "message": "Unknown event.", "event_id": event.get("event_id")}
                await self._send({"type": "error", "error": error})

    def _update(self, session: dict[str, Any]) -> None:
        heard = session.pop("audio", {}).get("input", {})
        self._settings["audio"]["input"] |= heard
        self._settings |= session
        if "instructions" in session:
            self._texts.append(session["instructions"])

    async def _listen(self, audio: bytes) -> None:
        detects = self._settings["audio"]["input"]["turn_detection"] is not None
        if detects and not self._is_spoken_to:
            self._is_spoken_to = True
            self._speech_ms = self._audio_ms
            await self._send({"type": "input_audio_buffer.speech_started", "audio_start_ms": self._audio_ms, "item_id": "item_1"})
        self._audio_ms += len(audio) // _BYTES_PER_MS
        if detects and audio.endswith(SILENCE):
            await self._send({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": self._audio_ms, "item_id": "item_1"})
            await self._commit()
            await self._respond({})

    async def _commit(self) -> None:
        tokens = (self._audio_ms - self._speech_ms) // _MS_PER_TOKEN
        self._audio_tokens += tokens
        self._speech_ms, self._is_spoken_to = self._audio_ms, False
        self._items += 1
        item = f"heard_{self._items}"
        await self._send({"type": "input_audio_buffer.committed", "item_id": item})
        if (transcription := self._settings["audio"]["input"].get("transcription")) is not None:
            await self._transcribe(item, transcription["model"], tokens)

    async def _transcribe(self, item: str, model: str, tokens: int) -> None:
        """Write down what was heard, by another model that is billed by its tokens."""
        with self._service.recorded(self._request, self._endpoint, request_id=None) as record:
            record.model, record.stream, record.status, record.accepted, record.completed = model, True, 200, True, True
            record.prompt_tokens = record.audio_tokens = tokens
            record.generated_tokens = record.delivered_tokens = len(_TRANSCRIPT.split())
            event = {"type": "conversation.item.input_audio_transcription.completed", "item_id": item, "transcript": _TRANSCRIPT}
            usage = {
                "type": "tokens",
                "input_tokens": tokens,
                "input_token_details": {"audio_tokens": tokens, "text_tokens": 0},
                "output_tokens": record.generated_tokens,
                "total_tokens": tokens + record.generated_tokens,
            }
            await self._send({**event, "content_index": 0, "usage": usage})

    async def _respond(self, wishes: dict[str, Any]) -> None:
        modalities = wishes.get("output_modalities") or self._settings["output_modalities"]
        most = wishes.get("max_output_tokens", self._settings["max_output_tokens"])
        body = {
            "texts": [*self._texts, *([wishes["instructions"]] if "instructions" in wishes else [])],
            "tokens": self._tokens,
            "audio_tokens": self._audio_tokens,
            "speaks": "audio" in modalities,
            "max_output_tokens": most if isinstance(most, int) else None,
        }
        with self._service.recorded(self._request, self._endpoint, request_id=None) as record:
            line = SocketLine(self._request, record, self._socket, "")
            await self._service.answer(self._request, self._endpoint, dumps(body).encode(), record, line)
        self._tokens += record.generated_tokens

    async def _send(self, event: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        await self._socket.send_str(dumps({"event_id": "event_1", **event}))
