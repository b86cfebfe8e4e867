"""`tallygate doctor`: checks everything that serving needs, with one sentence for each finding."""

import asyncio
import http.client
import json
import logging
import os
import resource
import secrets
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Final
from urllib.parse import urlencode, urlsplit

from tallygate.app.configuration import config_problems, config_source, process_way_out
from tallygate.app.ledger_state import examined_lack
from tallygate.config.key_lookup import KeyLookup, Sends
from tallygate.config.model import Upstream
from tallygate.config.settings import Settings, misspelt_variables
from tallygate.doctor.finding import Finding
from tallygate.doctor.stores import examine_stores
from tallygate.domain.errors import ConfigError
from tallygate.http1.server_connection import AIOHTTP_LEAST, AIOHTTP_TOO_NEW, has_c_parser
from tallygate.outbound.way_out import ProxyServer, WayOut, tls_context
from tallygate.processes.data_directory import directory_problem
from tallygate.processes.listener import local_url
from tallygate.processes.running_settings import read_running_settings

TIMEOUT_SECONDS: Final = 5.0
ANSWER_BYTES_MAX: Final = 65_536
FILES_MIN: Final = 4_096  # descriptors: two for each open request, and some


def examine(settings: Settings) -> list[Finding]:
    """Run every check, in the order in which serving would meet the problems. What connections log, the findings say."""
    logging.getLogger("tallygate").addHandler(logging.NullHandler())
    before = [*_versions(), *_configuration(settings), *_machine(settings)]
    return [*before, *asyncio.run(examine_stores(settings)), *_ledger(settings), *_running(settings), *_upstreams(settings)]


def _versions() -> Iterator[Finding]:
    yield Finding("python", sys.version_info >= (3, 11), sys.version.split()[0])
    found = version("aiohttp")
    numbers = tuple(int(part) for part in found.split(".")[:3] if part.isdigit())
    least, too_new = (".".join(map(str, bound)) for bound in (AIOHTTP_LEAST, AIOHTTP_TOO_NEW))
    yield Finding(
        "aiohttp",
        AIOHTTP_LEAST <= numbers < AIOHTTP_TOO_NEW,
        f"{found}, at least {least} is needed for its security fixes, and less than {too_new}, which may have changed inside",
    )
    has_parser = has_c_parser()
    yield Finding(
        "parser", has_parser, "the C parser is in use" if has_parser else "the C parser is missing: unset AIOHTTP_NO_EXTENSIONS"
    )


def _configuration(settings: Settings) -> Iterator[Finding]:
    problems = config_problems(settings)
    yield Finding("config", not problems, problems[0] if problems else str(settings.config_dir or "the shipped configuration"))
    for warning in misspelt_variables(os.environ):
        yield Finding("environment", False, warning)


def _machine(settings: Settings) -> Iterator[Finding]:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield Finding("files", files >= FILES_MIN, f"{files} file descriptors a process, at least {FILES_MIN} are wanted (ulimit -n)")
    problem = directory_problem(settings.data_dir)
    yield Finding("data", problem is None, problem or f"{settings.data_dir} can be written")


def _ledger(settings: Settings) -> Iterator[Finding]:
    """Check that the ledger is not older than the store that runs."""
    if not settings.redis_url.get_secret_value():
        return
    try:
        lack = asyncio.run(examined_lack(settings))
    except ConfigError:
        return
    if lack is not None:
        text = (
            "is older than the store: tallygate ledger compare states what it lacks"
            if lack.gaps
            else "has all that the store handed over"
        )
        yield Finding("ledger", not lack.gaps, text)


def _running(settings: Settings) -> Iterator[Finding]:
    """What the process that runs on the data directory finds itself: each check of its /readyz that does not pass."""
    running = read_running_settings(settings.data_dir)
    if running is None or not running.is_running:
        yield from _at_the_port(settings)
        return
    try:
        checks = _failed_checks(running.console_url)
    except (_NoAnswerError, ValueError, LookupError, TypeError) as error:
        yield Finding("running", False, f"the tallygate {running.role} on {settings.data_dir} does not answer: {error}")
        return
    if not checks:
        yield Finding("running", True, f"the tallygate {running.role} on {settings.data_dir} finds nothing wrong")
    for name, reason in checks:
        yield Finding(name, False, f"the tallygate {running.role} that runs finds: {reason}")


def _at_the_port(settings: Settings) -> Iterator[Finding]:
    """The same of a process whose data directory is gone, which still answers at the console's port; nothing if none does."""
    url = local_url(settings.console_listen)
    try:
        checks = _failed_checks(url)
    except (_NoAnswerError, ValueError, LookupError, TypeError):
        return
    for name, reason in checks:
        yield Finding(name, False, f"the tallygate at {url} finds: {reason}")


def _failed_checks(console_url: str) -> list[tuple[str, str]]:
    """Names and reasons. Raises _NoAnswerError; ValueError, LookupError or TypeError if it is no tallygate that answers."""
    _, _, body = _answer(f"{console_url}/readyz", "GET", proxy=None, ca_pem="")
    return [(str(check["name"]), str(check["reason"])) for check in json.loads(body)["checks"] if not check["passed"]]


def _upstreams(settings: Settings) -> Iterator[Finding]:
    try:
        config = config_source(settings, os.environ, sends_webhooks=False).load()
    except ConfigError:
        return
    for upstream in config.upstreams.values():
        yield _upstream(upstream)
    if config.key_lookup is not None:
        yield _key_lookup(config.key_lookup, process_way_out(settings, os.environ))


def _upstream(upstream: Upstream) -> Finding:
    """Check that the upstream answers; any HTTP answer will do, since a useful one needs a key."""
    try:
        host, status, _ = _answer(upstream.base_url, "HEAD", proxy=upstream.proxy, ca_pem=upstream.ca_pem)
    except _NoAnswerError as error:
        return Finding("upstream", False, f"{upstream.name} at {error}")
    return Finding("upstream", status != 407, f"{upstream.name} at {host} answers (status {status})")


def _key_lookup(config: KeyLookup, way: WayOut) -> Finding:
    """Check that the look-up service reports an invented key as unknown."""
    form = {"token": secrets.token_hex(32)} | ({} if config.sends is Sends.KEY else {"token_type_hint": Sends.DIGEST.value})
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if config.secret:
        headers["Authorization"] = f"Bearer {config.secret}"
    try:
        host, status, body = _answer(
            config.url, "POST", proxy=way.proxy_for(config.url), ca_pem=way.ca_pem, body=urlencode(form), headers=headers
        )
    except _NoAnswerError as error:
        return Finding("key look-up", False, str(error))
    try:
        is_inactive = status == 200 and json.loads(body)["active"] is False
    except (ValueError, LookupError, TypeError, RecursionError):
        is_inactive = False
    said = "says that an invented key is not active" if is_inactive else 'does not answer {"active": false} about an invented key'
    return Finding("key look-up", is_inactive, f"{host} {said} (status {status})")


class _NoAnswerError(Exception):
    """No answer. Its text names the host and what is wrong."""


def _answer(
    url: str,
    method: str,
    *,
    proxy: ProxyServer | None,
    ca_pem: str,
    body: str | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, int, bytes]:
    """The host that answered, its status and its answer. Raises _NoAnswerError."""
    parts = urlsplit(url)
    host, port, path, is_tls = parts.hostname or "", parts.port, parts.path or "/", parts.scheme == "https"
    first_host, first_port = (host, port) if proxy is None else (proxy.host, proxy.port)
    login = {} if proxy is None or not proxy.authorization else {"Proxy-Authorization": proxy.authorization}
    connection = (
        http.client.HTTPSConnection(first_host, first_port, timeout=TIMEOUT_SECONDS, context=tls_context(ca_pem))
        if is_tls
        else http.client.HTTPConnection(first_host, first_port, timeout=TIMEOUT_SECONDS)
    )
    if proxy is not None:
        host = f"{host} through the proxy {proxy.host}:{proxy.port}"
    try:
        if proxy is not None and is_tls:
            connection.set_tunnel(parts.hostname or "", port or 443, login)
        is_absolute = proxy is not None and not is_tls
        target = f"http://{parts.netloc}{path}" if is_absolute else path
        connection.request(method, target, body=body, headers={**headers, **(login if is_absolute else {})})
        answer = connection.getresponse()
        return host, answer.status, answer.read(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise _NoAnswerError(f"{host} does not answer: {error}") from error
    finally:
        connection.close()
