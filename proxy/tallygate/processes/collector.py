"""Python's garbage collector in a process that serves: it comes seldom, and does not walk what stays.

What requests, batches and scrapes allocate is freed by reference counts; only connections and errors leave cycles.
"""

import gc
from typing import Final

THRESHOLD: Final = 50_000  # objects more than at the last collection; tests/gateway/test_no_cyclic_garbage.py says why so many


def spare_the_start() -> None:
    """Collect seldom from now on. At the beginning of a process: the start builds what stays, and would be searched all along."""
    gc.set_threshold(THRESHOLD, 20, 20)


def set_apart() -> None:
    """What the start has built lives as long as the process: set apart, it is not walked each time."""
    gc.collect()
    gc.freeze()
