"""An upstream for the SDKs' own test suites: each path answers with the least that the SDK's own type of the answer takes.

The suites are written against a mock that is made from the provider's OpenAPI document, which is not to be had everywhere. What the
SDK's `api.md` says (method, path, type of the answer) and the types in the package tell as much. Runs in the suite's environment:
    python sdk_answers.py openai <directory of the source> <port> <file to log requests to>
"""

import asyncio
import datetime as dt
import hashlib
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from aiohttp import web

_ENTRY = re.compile(r'<code title="(\w+) ([^"?]+)[^"]*">.*?\) -> (.*?)</code>')
_TYPE = re.compile(r'<a href="\.?/?src/([^"]+)\.py">(?:\w+\[)?(\w+)\]?</a>')
_PARAMETER = re.compile(r"\{\w+\}")
_DEPTH_MAX = 12


def of_type(annotation: Any, depth: int = 0) -> Any:
    """The least value of a type, as JSON."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__value__"):  # a `type` statement
        return of_type(annotation.__value__, depth)
    if origin is Annotated:
        return of_type(inner[0], depth)
    if origin is Literal:
        return inner[0]
    if origin is Union or type(annotation).__name__ == "UnionType":
        return of_type(next(each for each in inner if each is not type(None)), depth)
    if origin in (list, tuple, set) or annotation in (list, tuple):
        return [of_type(inner[0], depth + 1)] if inner and depth < _DEPTH_MAX else []
    if origin is dict or annotation is dict:
        return {}
    if isinstance(origin, type) and hasattr(origin, "model_fields"):
        return of_model(origin, depth)
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return of_model(annotation, depth)
    plain: dict[Any, Any] = {str: "string", int: 0, float: 0.5, bool: True, type(None): None}
    if annotation in plain:
        return plain[annotation]
    if annotation is dt.datetime:
        return "2019-12-27T18:11:19.117Z"
    if annotation is dt.date:
        return "2019-12-27"
    return {} if annotation in (Any, object) or isinstance(annotation, TypeVar) else "string"


def of_model(model: Any, depth: int) -> dict[str, Any]:
    return {
        field.alias or name: of_type(field.annotation, depth + 1)
        for name, field in model.model_fields.items()
        if field.is_required() and depth < _DEPTH_MAX
    }


def of_page(package: str, name: str, item: Any) -> Any:
    """A page with one item, and no other after it."""
    page = getattr(importlib.import_module(f"{package}.pagination"), name, None)
    if not hasattr(page, "model_fields"):
        return [item]
    listed = next(iter(page.model_fields), "data")
    made = {field.alias or each: None for each, field in page.model_fields.items()} | {listed: [item]}
    return made | {"has_more": False, "object": "list"}


def endpoints(package: str, source: Path) -> Iterator[tuple[str, str, Any]]:
    """Method, path and answer of each; bytes for what is no JSON, None for nothing."""
    listings = [source / "api.md", *sorted(source.glob("src/*/resources/**/api.md"))]
    for method, path, returned in (found for file in listings for found in _ENTRY.findall(file.read_text())):
        found = _TYPE.search(returned)
        words = re.sub(r"<[^>]*>", "", returned)
        if found is None:
            answer: Any = b"\x00\x01binary" if "Binary" in words else "string" if words == "str" else None
        else:
            module = importlib.import_module(found[1].replace("/", "."))
            answer = of_type(getattr(module, found[2], Any))
            wrapper = words.partition("[")[0] if "[" in words else ""
            if wrapper == "JSONLDecoder":
                answer = json.dumps(answer).encode() + b"\n"
            elif wrapper:
                answer = of_page(package, wrapper, answer)
        yield method.upper(), path if path.startswith("/v1") else f"/v1{path}", answer


def served(package: str, source: Path, log: Path) -> web.Application:
    table: list[tuple[str, re.Pattern[str], int, Any]] = []
    for method, path, answer in endpoints(package, source):
        literal = len(_PARAMETER.sub("", path))
        table.append((method, re.compile(_PARAMETER.sub("[^/]+", path)), literal, answer))
    table.sort(key=lambda each: -each[2])

    async def serve(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        with log.open("a") as file:
            file.write(json.dumps(seen(request, body)) + "\n")
        answer = next((each[3] for each in table if each[0] == request.method and each[1].fullmatch(request.path)), Any)
        if answer is Any:
            return web.json_response({"error": {"message": f"{request.method} {request.path} is not in the listing"}}, status=404)
        asked = json.loads(body) if request.content_type == "application/json" and body else {}
        if (isinstance(asked, dict) and asked.get("stream") is True) or request.query.get("stream") == "true":
            return web.Response(body=b"data: " + json.dumps(answer).encode() + b"\n\n", content_type="text/event-stream")
        if isinstance(answer, bytes):
            kind = "application/x-jsonl" if answer.endswith(b"\n") else "application/octet-stream"
            return web.Response(body=answer, content_type=kind)
        return web.Response() if answer is None else web.json_response(answer)

    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", serve)
    return app


def seen(request: web.Request, body: bytes) -> list[str]:
    """What has to arrive alike through a gateway: method, target, type and body, but for a form's boundary."""
    kind, _, boundary = request.headers.get("content-type", "").partition("boundary=")
    if boundary:
        body = body.replace(boundary.encode(), b"boundary")
    if request.content_type == "application/json" and body:
        asked = json.loads(body)
        if isinstance(asked, dict) and isinstance(asked.get("stream_options"), dict):
            asked["stream_options"].pop("include_usage", None)  # which a gateway may ask for
            asked = {name: value for name, value in asked.items() if name != "stream_options" or value}
        body = json.dumps(asked, sort_keys=True).encode()
    return [request.method, request.raw_path, kind, hashlib.sha256(body).hexdigest()[:16]]


async def _main(package: str, source: str, port: str, log: str) -> None:
    runner = web.AppRunner(served(package, Path(source), Path(log)), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(port)).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
