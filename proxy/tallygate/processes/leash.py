"""`python -m tallygate.processes.leash PARENT COMMAND...`: become COMMAND, and be ended by the kernel when PARENT dies.

For programs that cannot watch a pipe themselves (Valkey). On systems without prctl the command runs unleashed; the lock on the data
directory then keeps a second server off its files.
"""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


def main(arguments: list[str]) -> None:
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it died before the leash was attached
        sys.exit(0)
    os.execv(command[0], command)  # noqa: S606 - the command is the supervisor's, no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
