"""`python -m placeholder_serve ROLE`: `tallygate ROLE` with the placeholder processes; prints one JSON line once it is ready."""

import dataclasses
import json
import sys
import time

from tallygate.app.role import Role
from tallygate.config.settings import load_settings
from tallygate.processes.data_directory import DirectoryInUseError
from tallygate.processes.listener import ListenError
from tallygate.processes.serve import Modules, serve
from tallygate.telemetry.log import start_logging

MODULES = Modules(worker="placeholder_worker", console="placeholder_console")
ROLE = Role(sys.argv[1])


def told(serving):
    sys.stdout.write(json.dumps(dataclasses.asdict(serving)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    start_logging(process="supervisor", level="info", clock=time.monotonic)
    try:
        sys.exit(serve(ROLE, load_settings(), {}, on_ready=told, modules=MODULES))
    except (DirectoryInUseError, ListenError) as error:
        sys.exit(str(error))
