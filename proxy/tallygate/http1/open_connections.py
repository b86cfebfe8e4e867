"""The open connections of one port, bounded so that half-open ones cannot fill it."""

from typing import Final, Protocol

IDLE_S: Final = 1.0  # then a connection without a request makes room; one that has begun a head, and not ended it, at once


class Connection(Protocol):
    """is_half_open: the head of a request has begun and not ended. is_writing: an answer still waits for its client."""

    @property
    def is_half_open(self) -> bool: ...
    @property
    def is_writing(self) -> bool: ...
    def abort(self) -> None: ...


class OpenConnections:
    """A bounded number of connections. Beyond it, the one that has been idle for longest is closed for a new one.

    A connection is idle while no request of it is under way: before its first head is complete, and between two requests. So a port
    full of heads that never end still accepts new connections. Where none is idle, the new one is refused.
    """

    def __init__(self, connections_max: int) -> None:
        self._most = connections_max
        self._open: set[Connection] = set()
        self._idle: dict[Connection, float] = {}  # since when; who is idle for the longest comes first

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection, now: float) -> bool:
        """Admit a connection as idle and return whether there was a place. now: seconds."""
        if len(self._open) >= self._most:
            found = self._making_room(now)
            if found is None:
                return False
            self.leave(found)
            found.abort()
        self._open.add(connection)
        self._idle[connection] = now
        return True

    def mark_busy(self, connection: Connection) -> None:
        """A request of the connection is under way."""
        self._idle.pop(connection, None)

    def mark_idle(self, connection: Connection, now: float) -> None:
        """No request of the connection is under way any more."""
        if connection in self._open:
            self._idle[connection] = now

    def leave(self, connection: Connection) -> None:
        """The connection is closed."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _making_room(self, now: float) -> Connection | None:
        for connection, since in self._idle.items():
            if (now - since >= IDLE_S or connection.is_half_open) and not connection.is_writing:
                return connection
        return None
