"""`python -m placeholder_serve`: `tallygate serve` with the placeholder roles; prints one JSON line once it is ready."""

import dataclasses
import json
import sys
import time

from proxy.config.settings import load_settings
from proxy.processes.data_directory import DirectoryInUseError
from proxy.processes.listener import ListenError
from proxy.processes.serve import Roles, serve
from proxy.telemetry.log import start_logging


def told(serving):
    sys.stdout.write(json.dumps(dataclasses.asdict(serving)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    start_logging(process="supervisor", level="info", clock=time.monotonic)
    try:
        sys.exit(serve(load_settings(), {}, on_ready=told, roles=Roles(worker="placeholder_worker", console="placeholder_console")))
    except (DirectoryInUseError, ListenError) as error:
        sys.exit(str(error))
