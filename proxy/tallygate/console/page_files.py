"""The page at `/` of the console: files of this package, read once, and served with a policy under which nothing else runs."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

from tallygate.console.api_errors import unknown_host
from tallygate.console.known_hosts import KnownHosts
from tallygate.console.packed import takes_gzip

INDEX: Final = "index.html"
_AT_NAME: Final = b'="/page/'  # how the page names its own files
_KEPT: Final = "public, max-age=31536000, immutable"  # a year, without asking: an address with a version never changes
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
_PLAIN_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<h1>{title}</h1><p>{text}</p></html>
"""
_HTML: Final = "text/html"


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A file as it is sent, packed and plain, each with the tag of this very form."""

    content_type: str
    body: bytes
    packed: bytes
    tag: str

    def answer(self, request: web.Request, *, is_versioned: bool) -> web.Response:
        """The file, or 304 if the browser's copy is this one: a name without a version outlives what it names, so browsers ask."""
        is_packed = takes_gzip(request)
        tag = f'"{self.tag}{"-gzip" if is_packed else ""}"'
        headers: dict[str, str] = {**_HEADERS, hdrs.ETAG: tag, hdrs.VARY: hdrs.ACCEPT_ENCODING}
        if is_versioned:
            headers[hdrs.CACHE_CONTROL] = _KEPT
        given = request.headers.get(hdrs.IF_NONE_MATCH, "")
        if given == "*" or tag in [one.strip().removeprefix("W/") for one in given.split(",")]:
            return web.Response(status=304, headers=headers)
        headers[hdrs.CONTENT_TYPE] = self.content_type
        if is_packed:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=self.packed if is_packed else self.body, headers=headers)


class PageFiles:
    """The page's files by name. contents: of each.

    The page names them with a version of them all, so that a browser that has them asks for none of them again.
    """

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self.version = hashlib.sha256(b"".join(contents[name] for name in sorted(contents))).hexdigest()[:16]
        if INDEX in contents:
            index = contents[INDEX].replace(_AT_NAME, _AT_NAME + self.version.encode() + b"/")
            contents = {**contents, INDEX: index}
        self._files = {
            name: _File(
                content_type=_CONTENT_TYPES[_kind(name)],
                body=body,
                packed=gzip.compress(body, mtime=0),
                tag=hashlib.sha256(body).hexdigest()[:32],
            )
            for name, body in contents.items()
            if _kind(name) in _CONTENT_TYPES
        }

    @classmethod
    def of_package(cls) -> "PageFiles":
        """Read the files that are shipped."""
        folder = files("tallygate.console") / "page"
        return cls({file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()})

    def add_to(self, app: web.Application, hosts: KnownHosts) -> None:
        """Serve them under these hosts: under another name, a page would not be the console's own."""

        async def answer(request: web.Request) -> web.Response:
            if not hosts.include(request.headers.getall(hdrs.HOST, ())):
                refused = unknown_host()
                return (
                    plain_page(403, "This is not the console's name", refused.message) if shows_pages(request) else refused.answer()
                )
            name = request.match_info.get("name", INDEX)
            if name not in self._files:
                raise web.HTTPNotFound
            # A page that was opened before an update gets the files of now: it keeps what it has, and asks for what it lacks.
            return self._files[name].answer(request, is_versioned=request.match_info.get("version") == self.version)

        app.router.add_get("/", answer)
        app.router.add_get("/page/{name}", answer)
        app.router.add_get("/page/{version}/{name}", answer)


def shows_pages(request: web.Request) -> bool:
    """Return whether a browser asks for something to show."""
    return _HTML in request.headers.get(hdrs.ACCEPT, "")


def plain_page(status: int, title: str, text: str) -> web.Response:
    """A page of one sentence, in HTML without anything to be escaped."""
    return page_answer(_PLAIN_PAGE.format(title=title, text=text).encode(), status=status)


def page_answer(html: bytes, *, status: int = 200) -> web.Response:
    """A page that is no file, under the same policy."""
    headers = {**_HEADERS, hdrs.CACHE_CONTROL: "no-store", hdrs.CONTENT_TYPE: _CONTENT_TYPES["html"]}
    return web.Response(status=status, body=html, headers=headers)


def _kind(name: str) -> str:
    return name.rpartition(".")[2]
