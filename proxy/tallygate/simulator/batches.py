"""Batches, and the files that they read and write: requests that run when their time has come, and are billed then.

The shapes of OpenAI (also at Azure's paths), Anthropic and the Gemini API.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from json import JSONDecodeError, loads
from typing import Any, Final, NamedTuple

from aiohttp import web

from tallygate.simulator.endpoint import Endpoint
from tallygate.simulator.wires.openai_chat import error_object
from tallygate.simulator.wires.sse import compact

KEPT_MAX: Final = 10_000  # batches and files; the oldest are forgotten
_BASES: Final = ("/v1", "/openai", "/openai/v1")
_WINDOW_S: Final = 86_400
_LINE_METHODS: Final = {"batchGenerateContent": ":generateContent", "asyncBatchEmbedContent": ":embedContent"}


class LineAnswer(NamedTuple):
    """The answer to one request of a batch."""

    status: int
    body: bytes


Run = Callable[[Endpoint, Mapping[str, Any], Mapping[str, str]], LineAnswer]


@dataclass(slots=True)
class _Line:
    custom_id: str
    endpoint: Endpoint
    body: Mapping[str, Any]
    parameters: Mapping[str, str]
    due_at_ms: int
    answer: LineAnswer | None = None


@dataclass(slots=True)
class _Batch:
    id: str
    created_at_ms: int
    lines: list[_Line] = field(default_factory=list)
    asked: Mapping[str, Any] = field(default_factory=dict)
    is_cancelled: bool = False
    failure: str = ""

    @property
    def is_over(self) -> bool:
        return bool(self.failure) or self.is_cancelled or all(line.answer is not None for line in self.lines)

    def count(self, *, answered: bool) -> int:
        return sum(1 for line in self.lines if line.answer is not None and (line.answer.status < 300) is answered)


class Batches:
    """Batches under way, and files.

    answer  runs one request; delay: the milliseconds before it runs
    note    counts a request that makes a file or a batch, under its endpoint's name
    """

    def __init__(
        self,
        *,
        answer: Run,
        delay: Callable[[Endpoint, Mapping[str, Any], Mapping[str, str]], int],
        note: Callable[[web.Request, str], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self._answer = answer
        self._delay = delay
        self._note = note
        self._clock_ms = clock_ms
        self._batches: OrderedDict[str, _Batch] = OrderedDict()
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._endpoints: dict[str, Endpoint] = {}
        self._count = 0

    def add_routes(self, app: web.Application, table: Iterable[Endpoint]) -> None:
        self._endpoints = {endpoint.path: endpoint for endpoint in table if endpoint.method == "POST"}
        for base in _BASES:
            app.router.add_post(f"{base}/files", self._upload)
            app.router.add_get(f"{base}/files", self._list_files)
            app.router.add_get(f"{base}/files/{{file_id}}", self._show_file)
            app.router.add_get(f"{base}/files/{{file_id}}/content", self._show_content)
            app.router.add_delete(f"{base}/files/{{file_id}}", self._delete_file)
            app.router.add_post(f"{base}/batches", self._create)
            app.router.add_get(f"{base}/batches", self._list)
            app.router.add_get(f"{base}/batches/{{batch_id}}", self._show)
            app.router.add_post(f"{base}/batches/{{batch_id}}/cancel", self._cancel)
        messages = "/v1/messages/batches"
        app.router.add_post(messages, self._create_messages)
        app.router.add_get(messages, self._list_messages)
        app.router.add_get(f"{messages}/{{batch_id}}", self._show_messages)
        app.router.add_get(f"{messages}/{{batch_id}}/results", self._show_message_results)
        app.router.add_post(f"{messages}/{{batch_id}}/cancel", self._cancel_messages)
        for version in ("v1beta", "v1"):
            for method in _LINE_METHODS:
                app.router.add_post(f"/{version}/models/{{model:[^:]+}}:{{method:{method}}}", self._create_google)
            app.router.add_post(f"/{version}/batches/{{batch_id}}:cancel", self._cancel_google)
        app.router.add_get("/v1beta/batches", self._list_google)
        app.router.add_get("/v1beta/batches/{batch_id}", self._show_google)

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        uploaded = form.get("file")
        content = uploaded.file.read() if isinstance(uploaded, web.FileField) else str(uploaded or "").encode()
        self._note(request, "files")
        return _answer(self._file(self._keep_file(content)))

    def _keep_file(self, content: bytes) -> str:
        self._count += 1
        file_id = f"file-sim{self._count}"
        self._files[file_id] = content
        if len(self._files) > KEPT_MAX:
            self._files.popitem(last=False)
        return file_id

    def _file(self, file_id: str) -> dict[str, Any]:
        size, now = len(self._files[file_id]), self._clock_ms() // 1000
        members = {"id": file_id, "object": "file", "bytes": size, "created_at": now, "filename": f"{file_id}.jsonl"}
        return {**members, "purpose": "batch", "status": "processed"}

    async def _list_files(self, _request: web.Request) -> web.Response:
        return _answer({"object": "list", "data": [self._file(file_id) for file_id in self._files], "has_more": False})

    async def _show_file(self, request: web.Request) -> web.Response:
        file_id = request.match_info["file_id"]
        return _answer(self._file(file_id)) if file_id in self._files else _not_found("file")

    async def _show_content(self, request: web.Request) -> web.Response:
        content = self._files.get(request.match_info["file_id"])
        return _not_found("file") if content is None else web.Response(body=content, content_type="application/octet-stream")

    async def _delete_file(self, request: web.Request) -> web.Response:
        file_id = request.match_info["file_id"]
        if self._files.pop(file_id, None) is None:
            return _not_found("file")
        return _answer({"id": file_id, "object": "file", "deleted": True})

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        content = self._files.get(asked.get("input_file_id", ""))
        if content is None:
            return _not_found("file")
        batch = self._begin("batch_sim", asked)
        for line in content.splitlines():
            try:
                read = loads(line)
                url = str(read["url"])
                path = url if url in self._endpoints else "/v1/" + url.lstrip("/")
                self._add(batch, read["custom_id"], self._endpoints[path], read["body"], {})
            except (JSONDecodeError, LookupError, TypeError) as error:
                batch.failure = f"The input file cannot be read: {error}"
        self._start(request, batch)
        return _answer(self._batch(batch))

    def _begin(self, prefix: str, asked: Mapping[str, Any]) -> _Batch:
        self._count += 1
        batch = _Batch(f"{prefix}{self._count}", self._clock_ms(), asked=asked)
        self._batches[batch.id] = batch
        if len(self._batches) > KEPT_MAX:
            self._batches.popitem(last=False)
        return batch

    def _add(
        self, batch: _Batch, custom_id: str, endpoint: Endpoint, body: Mapping[str, Any], parameters: Mapping[str, str]
    ) -> None:
        due = self._clock_ms() + self._delay(endpoint, body, parameters)
        batch.lines.append(_Line(custom_id, endpoint, body, parameters, due))

    def _found(self, request: web.Request) -> _Batch | None:
        """The batch of a request, as far as it has run by now."""
        batch = self._batches.get(request.match_info["batch_id"])
        if batch is not None:
            self._run(batch)
        return batch

    def _start(self, request: web.Request, batch: _Batch) -> None:
        self._note(request, "batches")
        self._run(batch)

    def _run(self, batch: _Batch) -> None:
        """Run what is due."""
        if not batch.is_over:
            for line in batch.lines:
                if line.answer is None and line.due_at_ms <= self._clock_ms():
                    line.answer = self._answer(line.endpoint, line.body, line.parameters)

    async def _list(self, _request: web.Request) -> web.Response:
        return _answer({"object": "list", "data": [self._batch(batch) for batch in self._batches.values()], "has_more": False})

    async def _show(self, request: web.Request) -> web.Response:
        batch = self._found(request)
        if batch is None:
            return _not_found("batch")
        return _answer(_operation(batch) if "inputConfig" in batch.asked else self._batch(batch))

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self._cancelled(request)
        return _not_found("batch") if batch is None else _answer(self._batch(batch))

    def _cancelled(self, request: web.Request) -> _Batch | None:
        """The batch of a request, of which nothing runs any more."""
        batch = self._found(request)
        if batch is not None:
            batch.is_cancelled = batch.is_cancelled or not batch.is_over
        return batch

    def _batch(self, batch: _Batch) -> dict[str, Any]:
        status = "in_progress"
        if batch.is_over:
            status = "failed" if batch.failure else "cancelled" if batch.is_cancelled else "completed"
        created = batch.created_at_ms // 1000
        whole = {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.asked.get("endpoint"),
            "errors": {"object": "list", "data": [{"message": batch.failure}]} if batch.failure else None,
            "input_file_id": batch.asked.get("input_file_id"),
            "completion_window": batch.asked.get("completion_window"),
            "status": status,
            "output_file_id": None,
            "error_file_id": None,
            "created_at": created,
            "expires_at": created + _WINDOW_S,
            "metadata": batch.asked.get("metadata"),
            "request_counts": {
                "total": len(batch.lines),
                "completed": batch.count(answered=True),
                "failed": batch.count(answered=False),
            },
        }
        if batch.is_over:
            whole["output_file_id"] = self._results(batch, answered=True)
            whole["error_file_id"] = self._results(batch, answered=False)
        return whole

    def _results(self, batch: _Batch, *, answered: bool) -> str | None:
        """The file of the results, last line first: no order is promised."""
        lines = []
        for line in reversed(batch.lines):
            if line.answer is not None and (line.answer.status < 300) is answered:
                response = {"status_code": line.answer.status, "request_id": line.custom_id, "body": loads(line.answer.body)}
                lines.append(
                    {"id": f"batch_req_{line.custom_id}", "custom_id": line.custom_id, "response": response, "error": None}
                )
            elif line.answer is None and not answered:
                error = {"code": "batch_cancelled", "message": "This request was not executed before the batch was cancelled."}
                lines.append({"id": f"batch_req_{line.custom_id}", "custom_id": line.custom_id, "response": None, "error": error})
        if not lines:
            return None
        file_id = f"file-{batch.id}-{'output' if answered else 'error'}"
        self._files.setdefault(file_id, b"".join(compact(line) + b"\n" for line in lines))
        return file_id

    async def _create_messages(self, request: web.Request) -> web.Response:
        batch = self._begin("msgbatch_sim", {})
        for each in (await request.json())["requests"]:
            self._add(batch, each["custom_id"], self._endpoints["/v1/messages"], each["params"], {})
        self._start(request, batch)
        return _answer(_message_batch(batch))

    async def _list_messages(self, _request: web.Request) -> web.Response:
        found = [_message_batch(batch) for batch in self._batches.values() if batch.id.startswith("msgbatch")]
        return _answer({"data": found, "has_more": False, "first_id": None, "last_id": None})

    async def _show_messages(self, request: web.Request) -> web.Response:
        batch = self._found(request)
        return _not_found("batch") if batch is None else _answer(_message_batch(batch))

    async def _cancel_messages(self, request: web.Request) -> web.Response:
        batch = self._cancelled(request)
        return _not_found("batch") if batch is None else _answer(_message_batch(batch))

    async def _show_message_results(self, request: web.Request) -> web.Response:
        batch = self._found(request)
        if batch is None or not batch.is_over:
            return _not_found("batch")
        lines = [compact({"custom_id": line.custom_id, "result": _message_result(line)}) + b"\n" for line in reversed(batch.lines)]
        return web.Response(body=b"".join(lines), content_type="application/x-jsonl")

    async def _create_google(self, request: web.Request) -> web.Response:
        asked = (await request.json())["batch"]
        batch = self._begin("sim", asked)
        model, method = request.match_info["model"], request.match_info["method"]
        path = next(path for path in self._endpoints if path.endswith(_LINE_METHODS[method]))
        config = asked.get("inputConfig") or asked["input_config"]
        for number, each in enumerate(config["requests"]["requests"]):
            self._add(batch, str(number), self._endpoints[path], each["request"], {"model": model})
        self._start(request, batch)
        return _answer(_operation(batch))

    async def _list_google(self, _request: web.Request) -> web.Response:
        return _answer({"operations": [_operation(batch) for batch in self._batches.values() if "inputConfig" in batch.asked]})

    async def _show_google(self, request: web.Request) -> web.Response:
        batch = self._found(request)
        return _not_found("batch") if batch is None else _answer(_operation(batch))

    async def _cancel_google(self, request: web.Request) -> web.Response:
        return _not_found("batch") if self._cancelled(request) is None else _answer({})


def _message_batch(batch: _Batch) -> dict[str, Any]:
    results = [_message_result(line)["type"] for line in batch.lines]
    kinds = ("succeeded", "errored", "canceled", "expired")
    counts = {kind: results.count(kind) if batch.is_over else 0 for kind in kinds}
    created = datetime.fromtimestamp(batch.created_at_ms / 1000, UTC)
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if batch.is_over else "in_progress",
        "request_counts": {"processing": 0 if batch.is_over else len(batch.lines), **counts},
        "created_at": created.isoformat(),
        "expires_at": (created + timedelta(days=1)).isoformat(),
        "ended_at": created.isoformat() if batch.is_over else None,
        "archived_at": None,
        "cancel_initiated_at": created.isoformat() if batch.is_cancelled else None,
        "results_url": f"https://api.anthropic.com/v1/messages/batches/{batch.id}/results" if batch.is_over else None,
    }


def _message_result(line: _Line) -> dict[str, Any]:
    if line.answer is None:
        return {"type": "canceled"}
    body = loads(line.answer.body)
    return {"type": "succeeded", "message": body} if line.answer.status < 300 else {"type": "errored", "error": body}


def _operation(batch: _Batch) -> dict[str, Any]:
    state = "BATCH_STATE_PENDING"
    if batch.is_over:
        state = "BATCH_STATE_CANCELLED" if batch.is_cancelled else "BATCH_STATE_SUCCEEDED"
    stats = {"requestCount": str(len(batch.lines)), "successfulRequestCount": str(batch.count(answered=True))}
    name, created = f"batches/{batch.id}", datetime.fromtimestamp(batch.created_at_ms / 1000, UTC).isoformat()
    metadata: dict[str, Any] = {"name": name, "state": state, "batchStats": stats, "createTime": created}
    operation: dict[str, Any] = {"name": name, "metadata": metadata}
    if batch.is_over:
        output = {"inlinedResponses": {"inlinedResponses": [_inlined(line) for line in batch.lines]}}
        metadata["output"] = output
        operation |= {"done": True, "response": output}
    return operation


def _inlined(line: _Line) -> dict[str, Any]:
    if line.answer is None:
        return {"error": {"code": 1, "message": "Cancelled."}}
    body = loads(line.answer.body)
    return {"response": body} if line.answer.status < 300 else {"error": body["error"]}


def _answer(value: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, body=compact(value), content_type="application/json")


def _not_found(kind: str) -> web.Response:
    return _answer(error_object(404, f"No such {kind}."), 404)
