"""`python -m proxy.processes.console SOCKET`: the console process, started by the supervisor on an inherited socket."""

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from proxy.app import build_console
from proxy.config.settings import Settings, load_settings
from proxy.console.console import Console
from proxy.domain.errors import ConfigError, StoreError
from proxy.processes.lifeline import Lifeline
from proxy.processes.supervisor import Exit
from proxy.telemetry.log import start_logging

_LOG: Final = logging.getLogger(__name__)


BuildConsole = Callable[[Settings], Awaitable[Console]]


async def work(settings: Settings, *, sock: socket.socket, build: BuildConsole) -> None:
    """Serve until the supervisor hangs up, which it does after the workers have ended."""
    lifeline = Lifeline()
    console = await build(settings)
    lifeline.attach(console.reload)
    await console.start(sock)
    lifeline.say_ready()
    await lifeline.drain.wait()
    console.drain()
    await lifeline.end.wait()
    await console.close()


def run(arguments: list[str], *, build: BuildConsole) -> Exit:
    """The process: settings from the environment, logs on standard error, one event loop."""
    try:
        settings = load_settings()
        start_logging(process="console", level=settings.log_level, clock=time.monotonic)
        sock = socket.socket(fileno=int(arguments[0]))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work(settings, sock=sock, build=build))
    except ConfigError as error:
        for problem in error.problems:
            _LOG.error("configuration", extra={"fields": {"problem": problem}})
        return Exit.CONFIG
    except StoreError as error:
        _LOG.error("the limiter's store cannot be used", extra={"fields": {"reason": str(error)}})
        return Exit.FAILED
    return Exit.CLEAN


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], build=build_console))
