"""`python -m tallygate.processes.console ROLE SOCKET`: the process behind the console's port, started by the supervisor.

ROLE     the command, which determines its parts: serve, gateway, console or ledger
SOCKET   descriptor of the inherited listening socket; the supervisor keeps its own copy, so the port outlives this process
"""

import os
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from tallygate.app.role import Role
from tallygate.app.roles import build_console
from tallygate.config.settings import Settings
from tallygate.console.console import Console
from tallygate.processes import collector
from tallygate.processes.lifeline import Lifeline
from tallygate.processes.process import run_process
from tallygate.processes.supervisor import Exit

# Steps of niceness beside workers. One that wakes for a request then has the core soon, and not after the milliseconds that Linux
# gives a batch of the ledger; where all want the core without a pause, this process still gets a part of it.
GIVES_WAY: Final = 4

BuildConsole = Callable[[Role, Settings], Awaitable[Console]]


async def work(lifeline: Lifeline, settings: Settings, sock: socket.socket, *, role: Role, build: BuildConsole) -> None:
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
    """Run the process."""
    role = Role(arguments[0])
    if role.has_workers:
        os.nice(GIVES_WAY)
    return run_process(role.console_name, int(arguments[1]), partial(work, role=role, build=build))


if __name__ == "__main__":
    sys.exit(run_console(sys.argv[1:], build=build_console))
