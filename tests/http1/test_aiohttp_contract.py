"""What this project uses of aiohttp beside what aiohttp documents, name by name: a new version that changes one fails here.

`http1/server_connection.py` is the one file with such names. Who raises the upper bound of aiohttp in pyproject.toml runs this
first.
"""

import ast
import asyncio
import inspect
import re
import tomllib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import (
    ClientRequest,
    HttpVersion10,
    HttpVersion11,
    StreamReader,
    base_protocol,
    http,
    http_exceptions,
    http_parser,
    streams,
    web,
    web_protocol,
)

import tallygate
from tallygate.http1.client_connection import ClientConnection
from tallygate.http1.client_response import ClientResponse
from tallygate.http1.server_connection import AIOHTTP_LEAST, AIOHTTP_TOO_NEW, ReceivedRequest, received

ROOT = Path(tallygate.__file__).parent
THE_FILE = ROOT / "http1" / "server_connection.py"
UNDOCUMENTED = (
    "web_protocol",
    "http_parser",
    "base_protocol",
    "http_writer",
    "http_exceptions",
    "http",
    "streams",
    "helpers",
    "web_request",
)
REQUEST = b"POST /a?b=c HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok"

Uses = dict[str, tuple[str, Callable[[Any], bool]]]


@pytest.fixture
async def handler() -> AsyncIterator[Any]:
    """Aiohttp's own request handler, connected, with nothing of ours."""

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(text=await request.text())

    made = web.Server(answer, access_log=None)()
    transport = Mock(spec=asyncio.Transport)
    transport.is_closing.return_value = False
    made.connection_made(transport)
    await asyncio.sleep(0)
    yield made
    made.connection_lost(None)


ON_A_CONNECTION: Uses = {
    "RequestHandler._request_count": ("how many heads one read has ended", lambda it: it._request_count == 0),
    "RequestHandler._messages": (
        "parsed requests and their bodies in line; a fault takes a request's place",
        lambda it: not it._messages,
    ),
    "RequestHandler._waiter": (
        "wakes the handler's task for a fault that the parser has not found",
        lambda it: not it._waiter.done(),
    ),
    "RequestHandler._request_in_progress": ("whether a request is being handled", lambda it: it._request_in_progress is False),
    "RequestHandler._manager": (
        "None: a connection that is turned away is forgotten",
        lambda it: isinstance(it._manager, web.Server),
    ),
    "BaseProtocol._loop": (
        "what is made a task of for a request is awaited as it is, in the connection's own",
        lambda it: isinstance(it._loop, asyncio.AbstractEventLoop),
    ),
    "RequestHandler.max_line_size": ("the limit, in the words to whoever is past it", lambda it: it.max_line_size == 8190),
    "RequestHandler.max_headers": ("the limit, in the words to whoever is past it", lambda it: isinstance(it.max_headers, int)),
    "BaseProtocol._reading_paused": ("a body that nobody reads holds up its client", lambda it: it._reading_paused is False),
    "BaseProtocol.transport": ("where answers are written; None once it is lost", lambda it: it.transport is not None),
    "BaseProtocol.writing_paused": ("a client that reads slowly", lambda it: it.writing_paused is False),
    "BaseProtocol._drain_helper": ("waits for such a client", lambda it: inspect.iscoroutinefunction(it._drain_helper)),
}

OF_THE_LIBRARY: Uses = {
    "web_protocol._ErrInfo": (
        "a fault in a request's place",
        lambda _: web_protocol._ErrInfo(status=400, exc=ValueError(), message="").status == 400,
    ),
    "RequestHandler.handle_error": (
        "overridden: the answer to a fault",
        lambda _: (
            list(inspect.signature(web.RequestHandler.handle_error).parameters)[1:] == ["request", "status", "exc", "message"]
        ),
    ),
    "BaseProtocol.resume_reading": (
        "overridden: nothing is resumed that was not paused",
        lambda _: list(inspect.signature(base_protocol.BaseProtocol.resume_reading).parameters)[1:] == ["resume_parser"],
    ),
    "http_exceptions.LineTooLong": ("tells 414 and 431 from 400", lambda _: issubclass(http_exceptions.LineTooLong, Exception)),
    "http.RawRequestMessage": (
        "the head of a request; one in absolute-form is replaced by one for its path",
        lambda _: (
            {"method", "path", "version", "headers", "raw_headers", "upgrade", "chunked", "url"}
            <= fields_of(http.RawRequestMessage)
        ),
    ),
    "streams.EMPTY_PAYLOAD": ("the body of a request that has none", lambda _: streams.EMPTY_PAYLOAD.is_eof()),
    "StreamReader.set_exception, feed_eof": (
        "end a body that will not come whole",
        lambda _: callable(StreamReader.set_exception) and callable(StreamReader.feed_eof),
    ),
    "http_parser.HttpRequestParserPy": (
        "whether the compiled parser is in use",
        lambda _: issubclass(http_parser.HttpRequestParserPy, http_parser.HttpParser),
    ),
    "web.Server.request_handler": (
        "the handler that another is put in front of",
        lambda _: "request_handler" in inspect.getsource(web.Server.__init__),
    ),
    "ClientRequest.update_proxy": (
        "the proxy on the way out is chosen for each request (outbound/session.py)",
        lambda _: list(inspect.signature(ClientRequest.update_proxy).parameters)[1:] == ["proxy", "proxy_auth", "proxy_headers"],
    ),
}


def fields_of(kind: Any) -> set[str]:
    return set(getattr(kind, "_fields", ())) or {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("name", ON_A_CONNECTION)
async def test_a_connection_of_aiohttp_still_has(handler: Any, name: str) -> None:
    use, holds = ON_A_CONNECTION[name]
    assert_kept(name, use, holds, handler)


@pytest.mark.parametrize("name", OF_THE_LIBRARY)
def test_aiohttp_still_has(name: str) -> None:
    use, holds = OF_THE_LIBRARY[name]
    assert_kept(name, use, holds, None)


def assert_kept(name: str, use: str, holds: Callable[[Any], bool], given: Any) -> None:
    try:
        is_kept = holds(given)
    except (AttributeError, TypeError) as error:
        pytest.fail(f"aiohttp has changed {name}, which is used for this: {use}. ({error})")
    assert is_kept, f"aiohttp has changed {name}, which is used for this: {use}."


async def test_a_request_waits_in_line_as_the_head_and_its_body(handler: Any) -> None:
    """RequestHandler._messages and _request_count, when bytes come."""
    handler.data_received(REQUEST + REQUEST)

    assert handler._request_count == 2, "aiohttp has changed RequestHandler._request_count: it no longer counts what was parsed"
    (head, body), _ = handler._messages
    assert isinstance(head, http.RawRequestMessage), "aiohttp has changed what RequestHandler._messages holds"
    assert (head.path, head.raw_headers[0], head.upgrade) == ("/a?b=c", (b"Host", b"h"), False)
    assert isinstance(body, StreamReader)
    assert body.is_eof(), "aiohttp has changed when a request's body is whole: a next head begins behind it"
    assert head._replace(path="/d").path == "/d", "aiohttp has changed http.RawRequestMessage: it cannot be copied with a change"


async def test_what_the_parser_refuses_stands_in_line_as_a_fault(handler: Any) -> None:
    """RequestHandler._messages and _ErrInfo: at most one fault in a read, and alone."""
    handler.data_received(REQUEST + b"no HTTP\r\n\r\n")

    assert [type(message) for message, _ in handler._messages] == [web_protocol._ErrInfo], (
        "aiohttp has changed RequestHandler.data_received: a fault no longer stands alone for all that came with it"
    )


async def test_a_fault_that_is_put_in_line_is_answered_by_handle_error() -> None:
    """RequestHandler._messages, _request_count, _waiter, handle_error."""
    seen: list[int] = []

    class Handler(web.RequestHandler):
        def handle_error(self, request, status=500, exc=None, message=None):
            seen.append(status)
            return web.Response(status=status)

    handler = Handler(web.Server(Mock()), loop=asyncio.get_running_loop(), access_log=None)  # type: ignore[arg-type]
    handler.connection_made(Mock(spec=asyncio.Transport))
    await asyncio.sleep(0)
    handler._messages.append((web_protocol._ErrInfo(status=418, exc=ValueError(), message=""), streams.EMPTY_PAYLOAD))
    handler._request_count += 1
    assert handler._waiter is not None
    handler._waiter.set_result(None)
    for _ in range(5):
        await asyncio.sleep(0)
    handler.connection_lost(None)

    assert seen == [418], "aiohttp has changed how RequestHandler takes requests from its line (_messages, _waiter)"


async def test_a_response_takes_version_and_method_from_the_requests_cache(handler: Any) -> None:
    """BaseRequest._cache, BaseRequest.protocol, BaseRequest.writer.output_size."""
    handler.data_received(REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
    message, body = handler._messages[0]
    request = web.BaseRequest(message, body, handler, Mock(output_size=0), Mock(), asyncio.get_running_loop())
    assert request.protocol is handler, "aiohttp has changed BaseRequest.protocol: the client's connection"
    assert request.writer.output_size == 0, "aiohttp has changed BaseRequest.writer: whether an answer has begun"
    assert (request.version, request.method) == (HttpVersion10, "POST")

    request._cache["version"], request._cache["method"] = HttpVersion11, "HEAD"

    assert (request.version, request.method) == (HttpVersion11, "HEAD"), (
        "aiohttp has changed BaseRequest._cache: an answer to what is no HTTP is written in the version that its client claims"
    )


@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"])
async def test_a_request_of_ours_says_of_itself_what_aiohttps_would(handler: Any, fields: bytes) -> None:
    """BaseRequest's properties, by name."""
    handler.data_received(REQUEST.replace(b"Host: h\r\n", b"Host: h\r\n" + fields))
    message, body = handler._messages[0]
    plain = web.BaseRequest(message, body, handler, Mock(), Mock(), asyncio.get_running_loop())
    ours = received(message, body, handler, Mock(), Mock())

    for request in (ours, ours.clone()):
        stated = {name: getattr(request, name) for name in ReceivedRequest.__slots__} | {"raw_headers": tuple(ours.raw_headers)}
        assert {name: getattr(plain, name) for name in stated} == stated, (
            "aiohttp has changed BaseRequest: what is asked of a request"
        )


def test_names_of_ours_hide_none_of_aiohttps() -> None:
    """A new attribute of aiohttp's under one of our names would be overwritten without a word."""
    theirs = {name for kind in web.RequestHandler.__mro__ for name in getattr(kind, "__slots__", ())}
    assert not theirs & {*ClientConnection.__slots__, *ClientConnection.__mro__[1].__slots__}
    assert base_protocol.BaseProtocol in ClientConnection.__mro__
    request = Mock(spec=web.BaseRequest, method="GET", keep_alive=True, protocol=None)
    ours = set(vars(ClientResponse(request))) - set(vars(web.StreamResponse()))
    assert not ours & set(dir(web.StreamResponse)), (
        "aiohttp's StreamResponse has a name that ClientResponse uses for something else"
    )


def test_no_other_file_uses_what_aiohttp_does_not_promise() -> None:
    found = {path: private_names(path) for path in ROOT.rglob("*.py") if "simulator" not in path.parts}

    assert found.pop(THE_FILE), "this test no longer sees private names"
    assert {str(path): names for path, names in found.items() if names} == {}, "these belong in http1/server_connection.py"


def private_names(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "aiohttp":
            module, names = node.module or "", [alias.name for alias in node.names]
            found += [f"{module}.{name}" for name in names if name.startswith("_") or name in UNDOCUMENTED]
            found += [module] if module.partition(".")[2] in UNDOCUMENTED else []
        if isinstance(node, ast.Attribute) and node.attr in PRIVATE and not owned(node, tree):
            found.append(node.attr)
    return found


PRIVATE = {
    name
    for kind in (*web.RequestHandler.__mro__, web.BaseRequest)
    for name in [*getattr(kind, "__slots__", ()), *vars(kind)]
    if name.startswith("_") and not name.endswith("_")
} | {"_cache", "_keep_alive", "_drain_helper"}


def owned(node: ast.Attribute, tree: ast.Module) -> bool:
    """Whether it is an attribute of an object of ours: `self`, in a file whose classes have nothing of aiohttp's server."""
    is_self = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
    bases = {ast.unparse(base) for kind in ast.walk(tree) if isinstance(kind, ast.ClassDef) for base in kind.bases}
    return is_self and not bases & {"web.RequestHandler", "ServerConnection", "web.StreamResponse", "web.Server"}


def test_pyproject_asks_for_the_versions_that_are_tested() -> None:
    project = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text())["project"]
    (asked,) = [line for line in project["dependencies"] if line.startswith("aiohttp")]
    least, too_new = (".".join(map(str, bound)) for bound in (AIOHTTP_LEAST, AIOHTTP_TOO_NEW))

    assert set(re.findall(r"[<>=]+[0-9.]+", asked)) == {f">={least}", f"<{too_new}"}
