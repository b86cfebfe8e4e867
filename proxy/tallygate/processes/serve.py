"""A command that serves, from settings to a running Fleet: the lock, the ports, the environment of the children."""

import asyncio
import base64
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from tallygate.app.clocks import event_id_source, now_ms
from tallygate.app.machine import raise_descriptors
from tallygate.app.role import Role
from tallygate.config.admin_token import kept_admin_digest
from tallygate.config.in_force import InForceFile
from tallygate.config.reloading import ConfigWatch
from tallygate.config.settings import Settings, variable_name
from tallygate.config.sign_in_link import link_fragment, new_link_secret
from tallygate.processes.child import ChildSpec, python_module
from tallygate.processes.closed_directory import OWN_ONLY_UMASK, close_directory
from tallygate.processes.data_directory import DataDirectory
from tallygate.processes.environments import environments
from tallygate.processes.listener import listen, local_url
from tallygate.processes.running_settings import keep_running_settings
from tallygate.processes.stand_in import StandIn
from tallygate.processes.supervisor import Exit, Fleet, Supervisor
from tallygate.processes.uptime import Uptime
from tallygate.processes.valkey import EmbeddedValkey

ASK_SECONDS: Final = 20.0  # so that a process that hangs is replaced after a minute or so


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A ready deployment.

    gateway_url   None if no gateway is served
    admin_token   set only at the first start, the one time that it is shown
    page_url      of the console's page, with a link that signs in once where that may be shown; None if no page is served
    """

    role: Role
    gateway_url: str | None
    console_url: str
    has_embedded_store: bool
    workers: int
    data_dir: str
    admin_token: str | None
    page_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Modules:
    """The modules that the children run."""

    worker: str = "tallygate.processes.worker"
    console: str = "tallygate.processes.console"


def serve(
    role: Role,
    settings: Settings,
    flags: Mapping[str, object],
    *,
    on_ready: Callable[[Serving], None],
    is_watched: bool = False,
    modules: Modules = Modules(),
) -> Exit:
    """Run a role until a signal ends it. flags: settings given on the command line, by field, to be passed on.

    is_watched   whether what is shown is seen on a terminal, and kept nowhere: a link to sign in is then made for each start

    Raises DirectoryInUseError, TooOpenError and ListenError; OSError for a file of the data directory that cannot be used.
    """
    os.umask(OWN_ONLY_UMASK)
    close_directory(settings.data_dir)
    raise_descriptors()
    data = DataDirectory(settings.data_dir)
    lock = data.lock()
    InForceFile(data.root).forget()
    gateway = console = None
    valkey = EmbeddedValkey(data.valkey) if role is Role.SERVE and not settings.redis_url.get_secret_value() else None
    try:
        gateway = _bound(settings.listen) if role.has_workers else None
        console = _bound(settings.console_listen)
        console_url, admin_token = local_url(settings.console_listen, console), _first_admin_token(role, settings, data)
        link = _made_link(data) if role.has_api and (is_watched or admin_token is not None) else ""
        serving = Serving(
            role=role,
            gateway_url=None if gateway is None else local_url(settings.listen, gateway),
            console_url=console_url,
            has_embedded_store=valkey is not None,
            workers=settings.workers if role.has_workers else 0,
            data_dir=str(data.root),
            admin_token=admin_token,
            page_url=f"{settings.console_url or console_url}/{link}" if role.has_api else None,
        )
        keep_running_settings(
            data.root, role, settings, os.environ, gateway_url=serving.gateway_url, console_url=serving.console_url
        )
        fleet = _fleet(role, settings, flags, modules, data=data, valkey=valkey, gateway=gateway, console=console, lock=lock)
        return asyncio.run(_supervise(fleet, lambda: on_ready(serving)))
    finally:
        for bound in (gateway, console):
            if bound is not None:
                bound.close()
        if valkey is not None:
            valkey.clean_up()
        os.close(lock)


async def _supervise(fleet: Fleet, on_ready: Callable[[], None]) -> Exit:
    return await Supervisor(fleet, on_ready=on_ready).supervise()


def _fleet(
    role: Role,
    settings: Settings,
    flags: Mapping[str, object],
    modules: Modules,
    *,
    data: DataDirectory,
    valkey: EmbeddedValkey | None,
    gateway: socket.socket | None,
    console: socket.socket,
    lock: int,
) -> Fleet:
    """The fleet of a role. Children read their settings from the environment, which includes the flags."""
    environment = dict(os.environ)
    given = {**flags, "data_dir": data.root}
    if valkey is not None:
        given["redis_url"] = valkey.url
    for field, value in given.items():
        if value is not None:
            environment[variable_name(field)] = str(value)
            environment.pop(f"{variable_name(field)}_FILE", None)

    of_child = environments(role, settings, environment)

    def child(name: str, module: str, *arguments: object, environment: Mapping[str, str], descriptor: int) -> ChildSpec:
        command = python_module(module, *arguments, descriptor)
        descriptors = (descriptor, lock)
        return ChildSpec(name=name, command=command, environment=environment, descriptors=descriptors, ask_seconds=ASK_SECONDS)

    workers: list[ChildSpec] = []
    if gateway is not None:
        workers = [
            child(f"worker-{slot}", modules.worker, slot, environment=of_child.worker, descriptor=gateway.fileno())
            for slot in range(settings.workers)
        ]
    return Fleet(
        workers=workers,
        console=child(role.console_name, modules.console, role, environment=of_child.console, descriptor=console.fileno()),
        valkey=None if valkey is None else valkey.spec(of_child.valkey, lock=lock),
        gateway_socket=gateway,
        console_socket=console,
        delay_seconds=settings.drain_delay_seconds,
        drain_seconds=settings.drain_seconds,
        watched=ConfigWatch(settings.config_dir, [] if settings.upstream_ca_file is None else [settings.upstream_ca_file]),
        file_sync=None if valkey is None else valkey.file_sync(),
        stand_in=partial(_stand_in, is_crossed=bool(settings.cors_origin_names)),
    )


def _stand_in(listening: socket.socket, uptime: Uptime, *, is_crossed: bool) -> StandIn:
    new_id = event_id_source(now_ms, Random(int.from_bytes(os.urandom(32))))
    return StandIn(listening, uptime, is_crossed=is_crossed, new_id=new_id)


def _bound(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return listen(host.strip("[]"), int(port))


def _first_admin_token(role: Role, settings: Settings, data: DataDirectory) -> str | None:
    """Make an admin token if none is configured or was made before; if only /metrics needs one, the metrics token is enough."""
    if not role.has_api and settings.metrics_token.get_secret_value():
        return None
    if settings.admin_token.get_secret_value() or kept_admin_digest(data.root) is not None:
        return None
    token = "tga_" + base64.b32encode(secrets.token_bytes(25)).decode().lower()
    data.keep_admin_token(token)
    return token


def _made_link(data: DataDirectory) -> str:
    """Make a link to sign in, and hand its digest to the console; return its part of the page's address."""
    secret = new_link_secret(secrets.token_bytes)
    data.keep_link(secret)
    return link_fragment(secret)
