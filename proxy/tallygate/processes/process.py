"""What the processes that the supervisor starts have in common: settings from the environment, logs, one loop, how they end."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

from tallygate.app.machine import raise_descriptors
from tallygate.config.settings import Settings, load_settings
from tallygate.domain.errors import ConfigError, StoreError
from tallygate.processes.lifeline import Lifeline
from tallygate.processes.supervisor import Exit
from tallygate.telemetry.count_file import CountsFullError
from tallygate.telemetry.log import start_logging

_LOG: Final = logging.getLogger(__name__)
Work = Callable[[Lifeline, Settings, socket.socket], Coroutine[Any, Any, None]]


def run_process(name: str, descriptor: int, work: Work) -> Exit:
    """Do the work until it ends; what hinders it is logged in a line.

    descriptor   of the inherited listening socket
    """
    raise_descriptors()
    try:
        settings = load_settings()
        start_logging(process=name, level=settings.log_level, clock=time.monotonic, log_format=settings.log_format)
        sock = socket.socket(fileno=descriptor)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            lifeline = Lifeline()
            runner.run(lifeline.run(work(lifeline, settings, sock)))
    except ConfigError as error:
        for problem in error.problems:
            _LOG.error("configuration", extra={"fields": {"problem": problem}})
        return Exit.CONFIG
    except StoreError as error:
        _LOG.error("a store cannot be used", extra={"fields": {"reason": str(error)}})
        return Exit.FAILED
    except CountsFullError as error:
        _LOG.error("no room on the disk for what is counted", extra={"fields": {"reason": str(error)}})
        return Exit.FAILED
    except OSError as error:
        _LOG.error("a file cannot be used", extra={"fields": {"file": error.filename, "reason": error.strerror or str(error)}})
        return Exit.FAILED
    return Exit.CLEAN
