"""Videos that are generated after the answer to their request, in the shapes of the Gemini API, Vertex AI and xAI.

A provider bills them whoever asks, or if nobody does; what failed or was filtered out is not billed.
"""

from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from tallygate.simulator.answer import Answer
from tallygate.simulator.ledger import Served
from tallygate.simulator.wires.openai_chat import error_object
from tallygate.simulator.wires.sse import compact

KEPT_MAX: Final = 10_000  # the oldest are forgotten
VIDEO: Final = b"\0\0\0\x18ftypmp42" + bytes(2_000)
_MODEL: Final = "{model:[^/:]+}"


@dataclass(slots=True)
class _Kept:
    answer: Answer
    api: str
    name: str
    ready_at_ms: int

    @property
    def number(self) -> int:
        return self.answer.ask.choices


class Videos:
    """Videos under way, and those that are done. has_key: whether a request has the provider's key."""

    def __init__(self, *, clock_ms: Callable[[], int], has_key: Callable[[web.Request], bool]) -> None:
        self._clock_ms = clock_ms
        self._has_key = has_key
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def begin(self, answer: Answer, record: Served, *, lasts_ms: int) -> bytes:
        """Generate videos by then; what is sent at once."""
        api, model, id_ = answer.ask.extra["video"], answer.model, f"sim{answer.id}"
        if answer.directive.finish == "failed" or answer.directive.refuse:
            record.units = {}
        resource = "projects/sim/locations/us-central1/publishers/google/" if api == "vertex" else ""
        name = f"{resource}models/{model}/operations/{id_}"
        self._kept[id_] = _Kept(answer, api, name, self._clock_ms() + lasts_ms)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return compact({"request_id": id_} if api == "xai" else {"name": name})

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get(f"/v1beta/models/{_MODEL}/operations/{{id}}", self._show)
        app.router.add_get("/v1beta/operations/{id}", self._show)
        app.router.add_post("/{version:v1|v1beta1}/{resource:.+}:fetchPredictOperation", self._fetch)
        app.router.add_get("/v1/videos/{id}", self._show)
        app.router.add_get("/v1beta/files/{file_id}:download", self._send_on)
        app.router.add_get("/download/v1beta/files/{file_id}:download", self._download)

    async def _show(self, request: web.Request) -> web.Response:
        return self._shown(request, request.match_info["id"])

    async def _fetch(self, request: web.Request) -> web.Response:
        name = str((await request.json()).get("operationName", ""))
        return self._shown(request, name.rpartition("/")[2])

    def _shown(self, request: web.Request, id_: str) -> web.Response:
        kept = self._kept.get(id_)
        if kept is None or not self._has_key(request):
            return _answer(404, error_object(404, "No such video."))
        is_done = self._clock_ms() >= kept.ready_at_ms
        return _answer(200, _xai(kept, is_done=is_done) if kept.api == "xai" else self._operation(request, kept, is_done=is_done))

    def _operation(self, request: web.Request, kept: _Kept, *, is_done: bool) -> dict[str, Any]:
        if not is_done:
            return {"name": kept.name}
        if kept.answer.directive.finish == "failed":
            return {"name": kept.name, "done": True, "error": {"code": 13, "message": "The simulator was asked to fail."}}
        inner: dict[str, Any] = {}
        if kept.answer.directive.refuse:
            inner = {"raiMediaFilteredCount": kept.number, "raiMediaFilteredReasons": ["The simulator was asked to refuse."]}
        elif kept.api == "vertex":
            video = {"bytesBase64Encoded": b64encode(VIDEO).decode(), "mimeType": "video/mp4"}
            inner = {"raiMediaFilteredCount": 0, "videos": [video] * kept.number}
        else:
            base, id_ = f"{request.scheme}://{request.host}", kept.name.rpartition("/")[2]
            uris = [f"{base}/v1beta/files/{id_}-{number}:download?alt=media" for number in range(kept.number)]
            inner = {"generatedSamples": [{"video": {"uri": uri}} for uri in uris]}
        return {"name": kept.name, "done": True, "response": inner if kept.api == "vertex" else {"generateVideoResponse": inner}}

    async def _send_on(self, request: web.Request) -> web.Response:
        """Lead to where the video is, as Google does."""
        place = f"{request.scheme}://{request.host}/download{request.rel_url}"
        return web.Response(status=302, headers={"Location": place})

    async def _download(self, request: web.Request) -> web.Response:
        is_known = request.match_info["file_id"].rpartition("-")[0] in self._kept
        if not is_known or not self._has_key(request):
            return _answer(404, error_object(404, "No such file."))
        return web.Response(body=VIDEO, content_type="video/mp4")


def _xai(kept: _Kept, *, is_done: bool) -> dict[str, Any]:
    if not is_done:
        return {"status": "pending", "progress": 1}
    if kept.answer.directive.finish == "failed":
        return {"status": "failed", "error": {"code": "internal_error", "message": "The simulator was asked to fail."}}
    video = {"url": "https://vidgen.invalid/a.mp4", "duration": kept.answer.ask.extra["seconds"], "respect_moderation": True}
    return {"status": "done", "model": kept.answer.model, "video": video, "progress": 100}


def _answer(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=compact(body), content_type="application/json")
