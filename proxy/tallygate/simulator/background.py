"""Background responses: the answer that is generated after the one to the request, and where it is asked for."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from tallygate.simulator.answer import Answer
from tallygate.simulator.ledger import Served
from tallygate.simulator.wires.openai_chat import error_object
from tallygate.simulator.wires.openai_responses import OpenAIResponses
from tallygate.simulator.wires.sse import EVENT_STREAM, compact

KEPT_MAX: Final = 10_000  # the oldest are forgotten
_BEGINNING: Final = 2  # events: it is created, and in progress


@dataclass(slots=True)
class _Kept:
    answer: Answer
    record: Served
    ready_at_ms: int
    is_cancelled: bool = False


class BackgroundResponses:
    """Responses that are under way until their time has come. A provider bills them whoever asks, or if nobody does."""

    def __init__(self, *, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._wire = OpenAIResponses()

    def begin(self, answer: Answer, record: Served, *, lasts_ms: int) -> bytes:
        """Generate an answer by then; what is sent at once."""
        self._kept[f"resp_{answer.id}"] = _Kept(answer, record, self._clock_ms() + lasts_ms)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return self._wire.unfinished(answer, "queued")

    def add_routes(self, app: web.Application) -> None:
        for base in ("/v1", "/openai", "/openai/v1"):
            app.router.add_get(f"{base}/responses/{{response_id}}", self._show)
            app.router.add_post(f"{base}/responses/{{response_id}}/cancel", self._cancel)
            app.router.add_delete(f"{base}/responses/{{response_id}}", self._delete)

    async def _show(self, request: web.Request) -> web.Response:
        kept = self._kept.get(request.match_info["response_id"])
        if kept is None:
            return _answer(404, compact(error_object(404, "No such response.")))
        if kept.is_cancelled:
            return _answer(200, self._wire.unfinished(kept.answer, "cancelled"))
        if request.query.get("stream") == "true":
            return self._continued(kept, after=int(request.query.get("starting_after", "-1")))
        if self._clock_ms() < kept.ready_at_ms:
            return _answer(200, self._wire.unfinished(kept.answer, "in_progress"))
        return _answer(200, self._wire.body(kept.answer)[0])

    def _continued(self, kept: _Kept, *, after: int) -> web.Response:
        """The events after that number; of one that is under way those with which it began."""
        events = [event.data for event in self._wire.events(kept.answer) if event.data]
        if self._clock_ms() < kept.ready_at_ms:
            del events[_BEGINNING:]
        return web.Response(body=b"".join(events[after + 1 :]), content_type=EVENT_STREAM)

    async def _cancel(self, request: web.Request) -> web.Response:
        kept = self._kept.get(request.match_info["response_id"])
        if kept is not None and self._clock_ms() < kept.ready_at_ms:
            kept.is_cancelled = True
            kept.record.generated_tokens = kept.record.reasoning_tokens = 0  # nothing had been generated yet
        return await self._show(request)

    async def _delete(self, request: web.Request) -> web.Response:
        response_id = request.match_info["response_id"]
        if self._kept.pop(response_id, None) is None:
            return _answer(404, compact(error_object(404, "No such response.")))
        return _answer(200, compact({"id": response_id, "object": "response", "deleted": True}))


def _answer(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")
