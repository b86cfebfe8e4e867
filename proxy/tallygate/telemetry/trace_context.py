"""W3C Trace Context: the trace of an exchange, and the header by which its upstream joins it.

https://www.w3.org/TR/trace-context/, sections 3.2 (traceparent), 3.3 (tracestate) and 4 (processing model).
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

# Section 3.2.4: a later version may have more behind the flags; version 00 has not, and ff is invalid.
_PARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_PARENT_CHARS_MAX: Final = 512
_SAMPLED: Final = 1
_RANDOM: Final = 2  # Trace Context level 2: the trace id was chosen at random, which whoever passes it on must not deny
_KEPT_FLAGS: Final = _SAMPLED | _RANDOM
_ID_BITS: Final = 64


class Trace:
    """The place of one exchange in a trace.

    trace_id, parent_id    of the caller's span; without a valid one a new trace, and 0
    server_id, client_id   of the exchange's own spans: of the request here, and of the call to its upstream
    has_parent             the caller named a valid parent, so that its tracestate goes on, too
    called_at              monotonic seconds, when the upstream was called; None until then
    """

    __slots__ = ("called_at", "client_id", "flags", "parent_id", "server_id", "trace_id")

    def __init__(self, trace_id: int, parent_id: int, server_id: int, client_id: int, flags: int) -> None:
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.server_id = server_id
        self.client_id = client_id
        self.flags = flags
        self.called_at: float | None = None

    @property
    def is_sampled(self) -> bool:
        return bool(self.flags & _SAMPLED)

    @property
    def has_parent(self) -> bool:
        return self.parent_id != 0

    @property
    def traceparent(self) -> str:
        """The header for the upstream, whose parent is our call."""
        return f"00-{self.trace_id:032x}-{self.client_id:016x}-{self.flags:02x}"


class TraceSource:
    """Begins the traces of a worker's exchanges.

    ratio   of new traces that are sampled. A caller's own decision is followed, so that its traces are whole; at 0 none is sampled
    bits    so many random bits, as an integer
    """

    def __init__(self, ratio: float, bits: Callable[[int], int]) -> None:
        self._bits = bits
        self._sampled_below = round(ratio * (1 << _ID_BITS))

    def begin(self, parents: Sequence[str]) -> Trace:
        """The trace of a request with these `traceparent` headers, of which there may be one."""
        server_id, client_id = self.new_id(), self.new_id()
        found = _PARENT.fullmatch(parents[0].strip(" \t")) if len(parents) == 1 and len(parents[0]) <= _PARENT_CHARS_MAX else None
        if found is None or (found[5] is not None and found[1] == "00"):
            trace_id = self._bits(_ID_BITS) << _ID_BITS | self.new_id()
            # OpenTelemetry's TraceIdRatioBased: every service with the same ratio decides alike by the lower half of the trace id
            is_sampled = trace_id & ((1 << _ID_BITS) - 1) < self._sampled_below
            return Trace(trace_id, 0, server_id, client_id, int(is_sampled))
        flags = int(found[4], 16) & (_KEPT_FLAGS if self._sampled_below else _RANDOM)
        return Trace(int(found[2], 16), int(found[3], 16), server_id, client_id, flags)

    def new_id(self) -> int:
        """An id of a span: not 0, which is no id."""
        return self._bits(_ID_BITS) or 1
