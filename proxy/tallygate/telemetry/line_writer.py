"""Lines that a thread writes, so that whoever has one never waits for whoever reads them."""

import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Generic, TypeVar

STDERR: Final = 2
CLOSE_SECONDS: Final = 1.0  # for what waits at the end
_Item = TypeVar("_Item")


def write_to_stderr(line: bytes) -> None:
    """Write past the buffer of sys.stderr, whose lock other threads take too."""
    while line:
        line = line[os.write(STDERR, line) :]


class LineWriter(Generic[_Item]):
    """One thread and a bounded queue.

    render       makes the line of an item, in the thread
    write        writes a line, and may wait
    waiting_max  items; further ones are dropped until some are written
    notice       makes the line that follows as soon as lines flow again, of the number of those dropped; None: there is none

    dropped      items so far
    """

    def __init__(
        self,
        render: Callable[[_Item], bytes],
        *,
        write: Callable[[bytes], object],
        waiting_max: int,
        name: str,
        notice: Callable[[int], bytes] | None = None,
    ) -> None:
        self.dropped = 0
        self._render = render
        self._write = write
        self._max = waiting_max
        self._notice = notice
        self._noticed = 0
        self._waiting: deque[_Item] = deque()
        self._has_items = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._write_forever, name=name, daemon=True)
        self._thread.start()

    def add(self, item: _Item) -> bool:
        """Add an item. Never waits. False: it was dropped."""
        if len(self._waiting) >= self._max:
            self.dropped += 1
            return False
        self._waiting.append(item)
        self._has_items.set()
        return True

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Write what waits, for so long as that is useful, and end the thread."""
        self._is_closing = True
        self._has_items.set()
        self._thread.join(seconds)

    def _write_forever(self) -> None:
        while True:
            self._has_items.wait()
            self._has_items.clear()
            while self._waiting:
                item = self._waiting.popleft()
                self._try(partial(self._render, item))
                if self._notice is not None and self.dropped > self._noticed:
                    dropped, self._noticed = self.dropped - self._noticed, self.dropped
                    self._try(partial(self._notice, dropped))
            if self._is_closing:
                return

    def _try(self, render: Callable[[], bytes]) -> None:
        try:
            self._write(render())
        except Exception:  # noqa: BLE001 - nobody reads any more, or one item has no line: the next ones may
            return
