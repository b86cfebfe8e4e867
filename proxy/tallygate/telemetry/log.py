"""Structured logs on standard error, whatever the callers pass: a JSON object a line for programs, or a line of text for people.

A thread writes them: whoever logs never waits for whoever reads, and what nobody reads is dropped and counted.

Control characters are escaped, lengths capped, floods of one kind thinned out, and anything like a key masked.
Pass fields with `extra={"fields": {...}}`, so that the message stays a constant and can be searched for.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

from tallygate.telemetry.line_writer import LineWriter, write_to_stderr
from tallygate.telemetry.metric import Samples
from tallygate.telemetry.metrics import CONSOLE_LOG_DROPPED

TEXT_CHARS_MAX: Final = 2_000  # of the message and of each field; a traceback keeps its end
FIELDS_MAX: Final = 20
PER_KIND_MAX: Final = 10  # lines of one kind (logger and message template) in each window
WINDOW_SECONDS: Final = 10.0
WAITING_MAX: Final = 1_000  # lines, of some 300 bytes each; further ones are dropped and counted until some are written
KINDS_MAX: Final = 1_000  # kinds remembered at once; beyond it all are dropped, which only lets more lines through

_SECRET: Final = re.compile(
    r"(tg_[A-Za-z0-9._-]+_|tg[asl]_|sk-(?:ant-)?|AIza|eyJ)[A-Za-z0-9_.\-]{8,}"  # our keys, OpenAI's, Anthropic's, Google's, JWTs
    r"|(?i:bearer\s+|[?&]key=|api[-_]?key[\"'=:\s]+)[^\s\"'&]{8,}"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",  # credentials in a connection URL
)
_COLOURS: Final = {logging.DEBUG: 2, logging.WARNING: 33, logging.ERROR: 31, logging.CRITICAL: 31}  # ECMA-48 section 8.3.117
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


class TextFormatter(logging.Formatter):
    """One line a record: time, level if it is no information, process, message, `name=value` of fields; then the traceback.

    has_colours   for a terminal
    """

    def __init__(self, *, process: str, has_colours: bool) -> None:
        super().__init__()
        self._process = process
        self._colours = _COLOURS if has_colours else {}

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        if colour := self._colours.get(record.levelno):
            level = f"\x1b[{colour}m{level}\x1b[0m"
        fields = getattr(record, "fields", None)
        shown = list(fields.items())[:FIELDS_MAX] if isinstance(fields, Mapping) else []
        if suppressed := getattr(record, "suppressed", 0):
            shown.append(("suppressed", suppressed))
        pairs = "".join(f"  {_on_a_line(str(name))}={_value(_field(value))}" for name, value in shown)
        time = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}Z"
        line = f"{time} {self._process:<10} {level}{_on_a_line(_capped(record.getMessage()))}{pairs}"
        if record.exc_info:
            trace = without_secrets(self.formatException(record.exc_info))[-TEXT_CHARS_MAX:]
            line += "".join(f"\n    {_on_a_line(part)}" for part in trace.splitlines())
        return line


def log_formatter(*, process: str, log_format: str, stream: TextIO) -> logging.Formatter:
    """The formatter of a process. log_format: text, json, or auto for text on a terminal and JSON elsewhere."""
    is_terminal = stream.isatty()
    if log_format == "text" or (log_format == "auto" and is_terminal):
        return TextFormatter(process=process, has_colours=is_terminal and not os.environ.get("NO_COLOR"))
    return JsonFormatter(process=process)


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


class LogHandler(logging.Handler):
    """Formats records where they are logged, and writes them in a thread.

    At the end of a process Python calls `close` (logging.shutdown), which waits for the rest, within a bound.
    """

    def __init__(self, formatter: logging.Formatter, *, write: Callable[[bytes], object], waiting_max: int = WAITING_MAX) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._writer = LineWriter[str](
            lambda line: f"{line}\n".encode(), write=write, waiting_max=waiting_max, name="log", notice=self._notice
        )

    @property
    def dropped(self) -> int:
        """Lines that nobody read in time."""
        return self._writer.dropped

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.add(self.format(record))
        except Exception:  # noqa: BLE001  # as of every handler: whoever logs does not fail
            self.handleError(record)

    def close(self) -> None:
        self._writer.close()
        super().close()

    def _notice(self, dropped: int) -> bytes:
        text = "lines were dropped, since nobody read the log in time"
        record = logging.LogRecord(__name__, logging.WARNING, "", 0, text, None, None)
        record.fields = {"lines": dropped}
        return f"{self.format(record)}\n".encode()


def lines_dropped() -> int:
    """Lines that the log of this process has dropped."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, LogHandler))


def console_samples() -> Samples:
    """The samples of /metrics about the log of the process behind the console's port."""
    return {CONSOLE_LOG_DROPPED: {(): lines_dropped()}}


def start_logging(
    *,
    process: str,
    level: str,
    clock: Callable[[], float],
    log_format: str = "auto",
    write: Callable[[bytes], object] = write_to_stderr,
) -> None:
    """Send every logger of this process through one handler. clock: monotonic, in seconds. log_format: as of `log_formatter`."""
    handler = LogHandler(log_formatter(process=process, log_format=log_format, stream=sys.stderr), write=write)
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


def _value(value: object) -> str:
    text = str(value)
    return _on_a_line(text) if text and not set(text) & set(' "=') else json.dumps(text)


def _on_a_line(text: str) -> str:
    """The text with everything escaped that a terminal would act on."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _capped(text: str) -> str:
    text = without_secrets(text[: 2 * TEXT_CHARS_MAX])
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[:TEXT_CHARS_MAX]}... ({len(text)} characters)"
