"""The console on which commands print tables."""

import sys
from typing import Final

from rich.console import Console

_WIDTH: Final = 240  # of piped lines, which are not cut to a terminal's width


def output_console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
