"""Runs a module and counts the calls of its main thread: `python -m bench.call_counts COUNTS [-P] -m MODULE [ARGUMENT ...]`.

The signal BEGIN begins to count, END ends it and writes "<python calls> <c calls>" to the file COUNTS.
A coroutine that goes on counts as a call, as it does for Python's profiler.
"""

import runpy
import signal
import sys
from pathlib import Path
from types import FrameType

BEGIN, END = signal.SIGRTMIN, signal.SIGRTMIN + 1  # which no program here uses otherwise


class CallCounts:
    """A profiler that knows only numbers."""

    def __init__(self) -> None:
        self.python = 0
        self.c = 0

    def __call__(self, _frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            self.python += 1
        elif event == "c_call":
            self.c += 1


def count_on_signals(file: Path) -> None:
    """Install the handlers. The file appears at once with all that it will hold."""
    counts = CallCounts()

    def begin(_number: int, _frame: FrameType | None) -> None:
        counts.python = counts.c = 0
        sys.setprofile(counts)

    def end(_number: int, _frame: FrameType | None) -> None:
        sys.setprofile(None)
        part = file.with_suffix(".part")
        part.write_text(f"{counts.python} {counts.c}")
        part.replace(file)

    signal.signal(BEGIN, begin)
    signal.signal(END, end)


if __name__ == "__main__":
    count_on_signals(Path(sys.argv[1]))
    at = sys.argv.index("-m") + 1
    module = sys.argv[at]
    del sys.argv[:at]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
