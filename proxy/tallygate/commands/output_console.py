"""The console that commands print tables on."""

import sys
from typing import Final

from rich.console import Console

_WIDTH: Final = 240  # of lines that no terminal shows: what is piped is not cut to a terminal's width


def output_console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
