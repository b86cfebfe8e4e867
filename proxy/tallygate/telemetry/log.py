"""Structured logs: one JSON object a line on standard error, whatever the callers pass.

Control characters are escaped (by JSON itself), lengths capped, floods of one kind thinned out, and anything like a key masked.
Pass fields with `extra={"fields": {...}}`, so that the message stays a constant and can be searched for.
"""

import json
import logging
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

TEXT_CHARS_MAX: Final = 2_000  # of the message and of each field; a traceback keeps its end
FIELDS_MAX: Final = 20
PER_KIND_MAX: Final = 10  # lines of one kind (logger and message template) in each window
WINDOW_SECONDS: Final = 10.0
KINDS_MAX: Final = 1_000  # kinds remembered at once; beyond it all are dropped, which only lets more lines through

_SECRET: Final = re.compile(
    r"(tg_[A-Za-z0-9._-]+_|tg[asl]_|sk-(?:ant-)?|AIza|eyJ)[A-Za-z0-9_.\-]{8,}"  # our keys, OpenAI's, Anthropic's, Google's, JWTs
    r"|(?i:bearer\s+|[?&]key=|api[-_]?key[\"'=:\s]+)[^\s\"'&]{8,}"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",  # credentials in a connection URL
)
_BLOT: Final = "[secret]"


def without_secrets(text: str) -> str:
    """Mask everything in `text` that looks like a key."""
    return _SECRET.sub(_BLOT, text)


class JsonFormatter(logging.Formatter):
    """One line a record: time, level, logger, message, fields, and the traceback's last part."""

    def __init__(self, *, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": _capped(record.getMessage()),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line.update((str(name), _field(value)) for name, value in list(fields.items())[:FIELDS_MAX] if name not in line)
        suppressed = getattr(record, "suppressed", 0)
        if suppressed:
            line["suppressed"] = suppressed
        if record.exc_info:
            line["exception"] = without_secrets(self.formatException(record.exc_info))[-TEXT_CHARS_MAX:]
        return json.dumps(line, ensure_ascii=True)


class FloodFilter(logging.Filter):
    """Passes at most PER_KIND_MAX lines of one kind in each window; the next line that passes counts the omitted ones."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = (record.name, str(record.msg)[:200])
        now = self._clock()
        since, count = self._kinds.get(kind, (now, 0))
        if now - since >= WINDOW_SECONDS:
            if count > PER_KIND_MAX:
                record.suppressed = count - PER_KIND_MAX
            since, count = now, 0
        if len(self._kinds) >= KINDS_MAX:
            self._kinds.clear()
        self._kinds[kind] = (since, count + 1)
        return count < PER_KIND_MAX


def start_logging(*, process: str, level: str, clock: Callable[[], float], stream: TextIO | None = None) -> None:
    """Send every logger of this process through one handler. `clock` is monotonic, in seconds."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(process=process))
    handler.addFilter(FloodFilter(clock))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These log requests as their clients sent them, or a line for each request.
    for name in ("aiohttp.access", "aiohttp.server"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _field(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _capped(str(value))


def _capped(text: str) -> str:
    text = without_secrets(text[: 2 * TEXT_CHARS_MAX])
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[:TEXT_CHARS_MAX]}... ({len(text)} characters)"
