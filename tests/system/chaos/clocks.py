"""Wall clocks of processes, which a test sets: each directory that processes are started in has one (clock.c)."""

import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


def compiled_clock(directory: Path) -> dict[str, str]:
    """The variables of a process whose clock can be set. Needs a C compiler."""
    library = directory / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


def set_clock(directory: Path, offset_ms: int) -> None:
    """Of all processes that were started in a directory: so far from the true time."""
    with (directory / "clock-offset").open("r+b") as file:
        file.write((offset_ms * 1000).to_bytes(8, "little", signed=True))
