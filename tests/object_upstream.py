"""An upstream that keeps objects for whoever has its one key, as AI providers do: made, listed, read, deleted."""

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

ID_PREFIXES = {
    "files": "file-",
    "uploads": "upload_",
    "responses": "resp_",
    "chat/completions": "chatcmpl-",
    "conversations": "conv_",
    "batches": "batch_",
    "vector_stores": "vs_",
    "containers": "cntr_",
    "assistants": "asst_",
    "threads": "thread_",
    "messages/batches": "msgbatch_",
}
USAGE = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12, "prompt_tokens": 5, "completion_tokens": 7}


class ObjectUpstream:
    """requests: (method, path) of all that arrived. objects: ids by collection, oldest first."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.objects: dict[str, list[str]] = {}
        self.answers: dict[tuple[str, str], Any] = {}
        self._numbers = itertools.count(1)
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((request.method, request.path))
        if (request.method, request.path) in self.answers:
            answer = self.answers[request.method, request.path]
            return await answer(request) if callable(answer) else web.json_response(answer)
        if request.path.startswith("/v1beta/"):
            return self._google(request)
        path = request.path.removeprefix("/v1/")
        collection = "/".join(path.split("/")[:2]) if "/".join(path.split("/")[:2]) in ID_PREFIXES else path.split("/")[0]
        below = path.removeprefix(collection).strip("/").split("/") if path != collection else []
        kept = self.objects.setdefault(collection, [])
        if not below and request.method == "POST":
            return await self._make(request, collection, body)
        if not below:
            return web.json_response(self._page(request, kept))
        if below[0] not in kept:
            return web.json_response({"error": {"message": f"no {below[0]} upstream"}}, status=404)
        if request.method == "DELETE" and len(below) == 1:
            kept.remove(below[0])
        return web.json_response({"id": below[0], "object": collection})

    async def _make(self, request: web.Request, collection: str, body: bytes) -> web.StreamResponse:
        made = f"{ID_PREFIXES[collection]}{next(self._numbers)}"
        self.objects[collection].append(made)
        asked = json.loads(body) if body[:1] == b"{" else {}
        answer = {"id": made, "object": collection, "usage": USAGE, "model": "gpt-4o-mini", "metadata": asked.get("metadata")}
        if collection == "responses":
            answer |= {"object": "response", "status": "completed", "output": [], "conversation": asked.get("conversation")}
        if not asked.get("stream"):
            return web.json_response(answer)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for kind in ("response.created", "response.completed"):
            event = {"type": kind, "response": answer if kind == "response.completed" else answer | {"usage": None}}
            await response.write(f"event: {kind}\ndata: {json.dumps(event)}\n\n".encode())
        return response

    def _page(self, request: web.Request, kept: list[str]) -> dict[str, Any]:
        """As OpenAI lists: newest first, `after` an id, `limit` at most 100."""
        newest = kept[::-1]
        after = request.query.get("after", request.query.get("after_id"))
        start = newest.index(after) + 1 if after in newest else 0
        limit = min(int(request.query.get("limit", "20")), 100)
        page = newest[start : start + limit]
        return {
            "object": "list",
            "data": [{"id": id_, "object": "file"} for id_ in page],
            "first_id": page[0] if page else None,
            "last_id": page[-1] if page else None,
            "has_more": start + limit < len(newest),
        }

    def _google(self, request: web.Request) -> web.Response:
        collection, _, name = request.path.removeprefix("/v1beta/").partition("/")
        kept = self.objects.setdefault(collection, [])
        if request.method == "POST" and not name:
            kept.append(made := f"{collection}/g{next(self._numbers)}")
            return web.json_response({"name": made, "usageMetadata": {"totalTokenCount": 4321}})
        if not name:
            start = int(request.query.get("pageToken", "0"))
            page = kept[start : start + 2]
            answer: dict[str, Any] = {collection: [{"name": name} for name in page]}
            return web.json_response(answer | ({"nextPageToken": str(start + 2)} if start + 2 < len(kept) else {}))
        if f"{collection}/{name}" not in kept:
            return web.json_response({"error": {"code": 404, "message": "no such thing upstream"}}, status=404)
        if request.method == "DELETE":
            kept.remove(f"{collection}/{name}")
        return web.json_response({"name": f"{collection}/{name}"})


@asynccontextmanager
async def object_upstream() -> AsyncIterator[ObjectUpstream]:
    upstream = ObjectUpstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.serve)
    async with TestServer(app) as server:
        upstream.url = str(server.make_url("")).rstrip("/")
        yield upstream
