"""All that is logged, kept for a test to look through."""

import logging
import traceback


class LogRecorder(logging.Handler):
    """Keeps all that is logged, as text without any redaction."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.tracebacks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "aiohttp.server":  # the simulator's; the gateway's server logs under our own name
            return
        text = f"{record.levelname} {record.name} {record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            text += "".join(traceback.format_exception(record.exc_info[1]))
            self.tracebacks.append(text)
        self.lines.append(text)

    @property
    def size(self) -> int:
        return sum(map(len, self.lines))
