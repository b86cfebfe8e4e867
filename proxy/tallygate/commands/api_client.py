"""The console's API as commands call it: over HTTP with --url, else by its own handlers in this process. One client for both."""

import asyncio
import getpass
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import wraps
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import urlsplit

import click

from tallygate.commands.ledger_session import plain_errors, require_ledger
from tallygate.commands.settings_options import print_error, store_options
from tallygate.config.settings import TOKEN_VARIABLE, URL_VARIABLE

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

PAGE: Final = 1_000
Options = dict[str, Any]
Parameters = Mapping[str, Any]
_WAIT_SECONDS: Final = 90.0
_ANSWER_BYTES_MAX: Final = 64 * 2**20  # a page of 1,000 events has about 2 MB
_ERROR_BYTES_MAX: Final = 2**16
_PIECE_BYTES: Final = 2**16
_OTHER_SHAPES: Final = (LookupError, TypeError, AttributeError, ValueError)  # where code meets an answer that it does not expect


def api_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which tallygate is asked: a console elsewhere, or the settings of the `serve` here."""
    return remote_options(store_options(command))


def remote_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --url and --token. An answer of another shape than this version knows ends the command with a line, not a traceback."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except _OTHER_SHAPES as error:
            url = remote_url(options.get("url"))
            if url is None:
                raise
            missing = isinstance(error, KeyError) and isinstance(error.args[0], str)
            raise unexpected(url, f"without {error.args[0]!a}" if missing else "in another shape") from error

    decorated: Callable[..., None] = run
    for option in (
        click.option("--token", help=f"Admin token for --url; better {TOKEN_VARIABLE}, which nobody else can see."),
        click.option(
            "--url", help=f"A console to ask instead of the database here, or {URL_VARIABLE}: https://console.example.com"
        ),
    ):
        decorated = option(decorated)
    return decorated


def unexpected(url: str, what: str) -> click.ClickException:
    """The error of an answer that no console of this version gives."""
    return click.ClickException(f"{url} answered {what}: expected a tallygate console of version {version('tallygate')}")


class ApiClient:
    """Calls the API, and raises click.ClickException with its message for an answer that is no success."""

    def __init__(self, session: "ClientSession", base_url: str) -> None:
        self._session = session
        self._base_url = base_url

    async def get(self, path: str, **parameters: Any) -> Any:
        return await self.call("GET", path, parameters=parameters)

    async def call(self, method: str, path: str, *, parameters: Parameters | None = None, body: object = None) -> Any:
        """The JSON of an answer. parameters: values, or lists of them; None and () are left out."""
        async with self._answer(method, path, parameters, body) as answer:
            content = await _at_most(answer, _ANSWER_BYTES_MAX)
        if content is None:
            raise unexpected(self._base_url, f"{method} {path} with more than {_ANSWER_BYTES_MAX >> 20} MB")
        if not content:
            return None
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            kind = answer.headers.get("Content-Type", "something").partition(";")[0][:80]
            raise unexpected(self._base_url, f"{method} {path} with {kind!a}, which is no JSON") from None

    async def download(self, path: str, parameters: Parameters, file: BinaryIO, *, media: str) -> tuple[int, Mapping[str, str]]:
        """Write an answer to a file; return its size and headers. media: the type that it must have."""
        async with self._answer("GET", path, parameters, None, is_file=True) as answer:
            if answer.content_type != media:
                raise unexpected(self._base_url, f"GET {path} with {answer.content_type[:80]!a}, not {media}")
            size = 0
            async for piece in answer.content.iter_chunked(_PIECE_BYTES):
                size += file.write(piece)
            return size, answer.headers

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, parameters: Parameters | None, body: object, *, is_file: bool = False
    ) -> "AsyncIterator[ClientResponse]":
        """An answer with a status of success. is_file: it may take any time, as long as pieces come."""
        from aiohttp import ClientError, ClientTimeout

        query = [(name, str(value)) for name, given in (parameters or {}).items() for value in _values(given)]
        limits = ClientTimeout(total=None, sock_read=_WAIT_SECONDS) if is_file else ClientTimeout(total=_WAIT_SECONDS)
        try:
            async with self._session.request(
                method, f"{self._base_url}{path}", params=query, json=body, allow_redirects=False, timeout=limits
            ) as answer:
                if answer.status // 100 != 2:
                    raise _error(await _at_most(answer, _ERROR_BYTES_MAX), answer, self._base_url)
                yield answer
        except (ClientError, TimeoutError) as error:
            raise click.ClickException(f"{self._base_url} does not answer: {str(error) or type(error).__name__}") from error

    async def pages(
        self, path: str, key: str, parameters: Parameters | None = None, *, at_most: int | None = None
    ) -> AsyncIterator[Any]:
        """The entries of all pages, one by one."""
        position: dict[str, str] = {}
        count = 0
        while True:
            limit = PAGE if at_most is None else min(PAGE, at_most - count)
            page = await self.get(path, **{**(parameters or {}), **position, "limit": limit})
            if page["next_cursor"] is not None and page["next_cursor"] == position.get("cursor"):
                raise unexpected(self._base_url, f"GET {path} with the same page twice")
            for entry in page[key]:
                yield entry
            count += len(page[key])
            if page["next_cursor"] is None or (at_most is not None and count >= at_most):
                return
            position = {"cursor": page["next_cursor"]}

    async def organizations(self, ids: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """Organizations with their plan and time zone. Raises click.ClickException for an id that is not there."""
        if not ids:
            return [found async for found in self.pages("/api/organizations", "organizations")]
        return [await self.get(f"/api/organizations/{quoted(org)}") for org in dict.fromkeys(ids)]

    async def zoned(self, ids: tuple[str, ...]) -> list[dict[str, Any]]:
        """Organizations whose time zones and months decide a range; none where one left the configuration."""
        try:
            return await self.organizations(ids)
        except click.ClickException:
            return []  # whatever else is wrong, the next question is told of it


def quoted(segment: str) -> str:
    """A segment of a path."""
    from urllib.parse import quote

    return quote(segment, safe="")


def asked(
    work: Callable[[ApiClient], Awaitable[Any]], options: Options, *, writes: bool = False, needs_ledger: bool = False
) -> Any:
    """The result of one command's calls.

    options       those of `api_options`
    writes        whether it changes something
    needs_ledger  whether it is of no use where nothing has served
    """

    async def run() -> Any:
        async with _open(options, writes=writes, needs_ledger=needs_ledger) as client:
            return await work(client)

    with plain_errors():
        return asyncio.run(run())


def remote_url(given: object = None) -> str | None:
    """The console that commands ask; None: they work here. Raises click.BadParameter."""
    from tallygate.config.urls import http_url

    url = given or os.environ.get(URL_VARIABLE)
    if not url:
        return None
    try:
        return http_url(str(url))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url" if given else URL_VARIABLE) from None


def local_options(options: Options) -> Options:
    """Those that say where the files and stores here are. Raises click.UsageError for a token, which is for a console."""
    if options.get("token"):
        raise click.UsageError(f"--token is for --url, or {URL_VARIABLE}")
    return {name: value for name, value in options.items() if name not in {"url", "token"}}


def actor() -> str:
    """The user who runs the command, for the log of changes."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a user id without a name, as in containers
        return "cli"


@asynccontextmanager
async def _open(options: Options, *, writes: bool, needs_ledger: bool) -> AsyncIterator[ApiClient]:
    from tallygate.config.urls import is_private

    url = remote_url(options.get("url"))
    if url is None:
        async with _local(local_options(options), writes=writes, needs_ledger=needs_ledger) as client:
            yield client
        return
    flags = {name: value for name, value in options.items() if name not in {"url", "token"}}
    if any(value is not None for value in flags.values()):
        names = ", ".join(f"--{name.replace('_', '-')}" for name, value in flags.items() if value is not None)
        raise click.UsageError(f"{names}: not with a console elsewhere, which has its own ({url})")
    token = _token(options)
    if not is_private(url):
        print_error("warning", f"{url} is not https: whoever is on the way can read the admin token", color="yellow")
    async with _remote(url, token) as client:
        yield client


def _token(options: Options) -> str:
    if options.get("token"):
        print_error("warning", f"--token can be read by every user of this machine: use {TOKEN_VARIABLE}", color="yellow")
        return str(options["token"])
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise click.UsageError(f"a console asks for an admin token: set {TOKEN_VARIABLE} (`tallygate tokens create` makes one)")
    if not token.isascii() or not token.isprintable():
        raise click.UsageError(f"{TOKEN_VARIABLE} holds characters that no token has")
    return token


@asynccontextmanager
async def _remote(url: str, token: str) -> AsyncIterator[ApiClient]:
    from tallygate.app.configuration import process_way_out
    from tallygate.config.settings import load_settings
    from tallygate.outbound.session import open_session

    way = process_way_out(load_settings({}), os.environ)
    headers = {"Authorization": f"Bearer {token}"}
    async with open_session(way, headers=headers) as session:
        yield ApiClient(session, url)


@asynccontextmanager
async def _local(flags: Options, *, writes: bool, needs_ledger: bool) -> AsyncIterator[ApiClient]:
    from aiohttp import ClientSession, UnixConnector

    from tallygate.app.local_api import local_api
    from tallygate.commands.chosen_settings import chosen_settings
    from tallygate.processes.closed_directory import TooOpenError, close_directory

    settings = chosen_settings(flags, writes=writes)
    if needs_ledger:
        require_ledger(settings)
    try:
        close_directory(settings.data_dir)
    except TooOpenError as error:
        raise click.ClickException(str(error)) from error
    async with (
        local_api(settings, actor=actor()) as api,
        ClientSession(connector=UnixConnector(str(api.socket)), headers={"Authorization": f"Bearer {api.token}"}) as session,
    ):
        yield ApiClient(session, "http://tallygate")


def _values(given: Any) -> tuple[Any, ...]:
    if given is None:
        return ()
    return tuple(given) if isinstance(given, list | tuple) else (given,)


async def _at_most(answer: "ClientResponse", most: int) -> bytes | None:
    """The content; None if it is longer."""
    content = bytearray()
    async for piece in answer.content.iter_chunked(_PIECE_BYTES):
        content += piece
        if len(content) > most:
            return None
    return bytes(content)


def _error(content: bytes | None, answer: "ClientResponse", url: str) -> click.ClickException:
    """The error of an answer. A parameter that is an option of the command is named as such."""
    if answer.status // 100 == 3:
        there = urlsplit(answer.headers.get("Location", ""))
        target = f" to {there.scheme}://{there.hostname}" if there.scheme and there.hostname else ""
        return unexpected(url, f"with status {answer.status}, which leads elsewhere{target} and is not followed")
    try:
        error = json.loads(content or b"")["error"]
        message = "".join(each if each.isprintable() else " " for each in str(error["message"]))
        param = str(error.get("param"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return unexpected(url, f"with status {answer.status} and no error of the API")
    context = click.get_current_context(silent=True)
    option = f"--{param.replace('_', '-')}"
    options = () if context is None else context.command.params
    if message.startswith(f"{param}: ") and any(option in declared.opts for declared in options):
        return click.BadParameter(message.removeprefix(f"{param}: "), param_hint=option)
    return click.ClickException(message)
