"""The page at `/` of the console: files of this package, read once, and served with a policy under which nothing else runs."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

from tallygate.console.api_errors import unknown_host
from tallygate.console.known_hosts import KnownHosts

INDEX: Final = "index.html"
_CONTENT_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
}
_HEADERS: Final = {
    hdrs.CACHE_CONTROL: "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
}
_NOTHING_HERE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Nothing here</title>
<h1>There is nothing at this address</h1><p><a href="/">To the usage page</a></p></html>
"""


class PageFiles:
    """The page's files by name. contents: of each."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._contents = {name: body for name, body in contents.items() if _kind(name) in _CONTENT_TYPES}
        self._tags = {name: f'"{hashlib.sha256(body).hexdigest()[:32]}"' for name, body in self._contents.items()}

    @classmethod
    def of_package(cls) -> "PageFiles":
        """Read the files that are shipped."""
        folder = files("tallygate.console") / "page"
        return cls({file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()})

    def add_to(self, app: web.Application, hosts: KnownHosts) -> None:
        """Serve them under these hosts."""
        app.router.add_get("/", _under(hosts, self._index))
        app.router.add_get("/page/{name}", _under(hosts, self._file))

    async def _index(self, request: web.Request) -> web.Response:
        return self._answer(request, INDEX)

    async def _file(self, request: web.Request) -> web.Response:
        return self._answer(request, request.match_info["name"])

    def _answer(self, request: web.Request, name: str) -> web.Response:
        """A file, or 304 if the browser's copy is this one: a name outlives what it names, so a browser always asks."""
        if name not in self._contents:
            raise web.HTTPNotFound
        tag = self._tags[name]
        headers = {**_HEADERS, hdrs.ETAG: tag}
        given = request.headers.get(hdrs.IF_NONE_MATCH, "")
        if given == "*" or tag in [one.strip().removeprefix("W/") for one in given.split(",")]:
            return web.Response(status=304, headers=headers)
        return web.Response(body=self._contents[name], headers={**headers, hdrs.CONTENT_TYPE: _CONTENT_TYPES[_kind(name)]})


def nothing_here() -> web.Response:
    """The 404 of a browser."""
    headers = {**_HEADERS, hdrs.CACHE_CONTROL: "no-store", hdrs.CONTENT_TYPE: _CONTENT_TYPES["html"]}
    return web.Response(status=404, text=_NOTHING_HERE, headers=headers)


def _under(
    hosts: KnownHosts, handler: Callable[[web.Request], Awaitable[web.Response]]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler, for known hosts alone: under another name, a page would not be the console's own."""

    async def handle(request: web.Request) -> web.Response:
        if not hosts.include(request.headers.getall(hdrs.HOST, ())):
            return unknown_host().answer()
        return await handler(request)

    return handle


def _kind(name: str) -> str:
    return name.rpartition(".")[2]
