"""`python -m tallygate.processes.console ROLE SOCKET`: the process behind the console's port, started by the supervisor.

ROLE     the command, which determines its parts: serve, gateway, console or ledger
SOCKET   descriptor of the inherited listening socket; the supervisor keeps its own copy, so the port outlives this process
"""

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from tallygate.app.machine import raise_descriptors
from tallygate.app.role import Role
from tallygate.app.roles import build_console
from tallygate.config.settings import Settings, load_settings
from tallygate.console.console import Console
from tallygate.domain.errors import ConfigError, StoreError
from tallygate.processes import collector
from tallygate.processes.lifeline import Lifeline
from tallygate.processes.supervisor import Exit
from tallygate.telemetry.log import start_logging

_LOG: Final = logging.getLogger(__name__)


BuildConsole = Callable[[Role, Settings], Awaitable[Console]]


async def work(lifeline: Lifeline, role: Role, settings: Settings, *, sock: socket.socket, build: BuildConsole) -> None:
    """Serve until the end is requested."""
    collector.spare_the_start()
    console = await build(role, settings)
    lifeline.attach(on_reload=console.reload, on_leaving=console.announce_leaving)
    await console.start(sock)
    collector.set_apart()
    lifeline.announce_ready()
    await lifeline.drained(console.drain, settings.drain_seconds)
    await console.close()


def run_console(arguments: list[str], *, build: BuildConsole) -> Exit:
    """Run the process: settings from the environment, logs on standard error, one event loop."""
    raise_descriptors()
    try:
        role, settings = Role(arguments[0]), load_settings()
        start_logging(process=role.console_name, level=settings.log_level, clock=time.monotonic, log_format=settings.log_format)
        sock = socket.socket(fileno=int(arguments[1]))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            lifeline = Lifeline()
            runner.run(lifeline.run(work(lifeline, role, settings, sock=sock, build=build)))
    except ConfigError as error:
        for problem in error.problems:
            _LOG.error("configuration", extra={"fields": {"problem": problem}})
        return Exit.CONFIG
    except StoreError as error:
        _LOG.error("a store cannot be used", extra={"fields": {"reason": str(error)}})
        return Exit.FAILED
    except OSError as error:
        _LOG.error("a file cannot be used", extra={"fields": {"file": error.filename, "reason": error.strerror or str(error)}})
        return Exit.FAILED
    return Exit.CLEAN


if __name__ == "__main__":
    sys.exit(run_console(sys.argv[1:], build=build_console))
