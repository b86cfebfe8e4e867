"""Logs that nobody can forge, flood or read keys in."""

import io
import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.telemetry.log import (
    PER_KIND_MAX,
    TEXT_CHARS_MAX,
    FloodFilter,
    JsonFormatter,
    TextFormatter,
    log_formatter,
    start_logging,
    without_secrets,
)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def lines():
    """Lines that a logger with our handler has written, decoded; and the clock of its flood filter."""
    stream, clock = io.StringIO(), Clock()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(process="worker-0"))
    handler.addFilter(FloodFilter(clock))
    logger = logging.getLogger("test_json_log")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    yield logger, clock, lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.propagate = True


def test_a_record_is_one_object_with_its_fields(lines):
    logger, _, written = lines
    logger.warning("hold expired", extra={"fields": {"org": "acme", "holds": 3}})

    [line] = written()
    assert line.items() >= {"level": "warning", "process": "worker-0", "message": "hold expired", "org": "acme", "holds": 3}.items()


@given(st.text())
def test_any_text_stays_on_its_line(text):
    record = logging.LogRecord("l", logging.INFO, "p", 1, "%s", (text,), None)
    record.fields = {"value": text}

    line = JsonFormatter(process="w").format(record)

    assert len(line.splitlines()) == 1
    assert line.isascii()
    json.loads(line)


@pytest.mark.parametrize(
    "secret",
    [
        "tg_acme-prod_fvdvag27ttsqhpnt4ybux3qf2xfb5ivbg2fwb5s6ubsxlwnuldka",
        "tga_aaaabbbbccccddddeeeeffff",
        "sk-proj-abcdefghijklmnop",
        "sk-ant-api03-abcdefghijkl",
        "AIzaSyA1234567890abcdefg",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ],
)
def test_what_looks_like_a_key_is_blotted_out_everywhere(lines, secret):
    logger, _, written = lines
    try:
        int(f"bad header {secret}")
    except ValueError:
        logger.exception("got %s", secret, extra={"fields": {"header": f"Bearer {secret}"}})

    assert secret not in json.dumps(written())
    assert "[secret]" in written()[0]["message"]


def test_the_password_of_a_connection_url_is_blotted_out_and_its_host_is_not():
    assert without_secrets("redis://user:hunter2@db.example:6379/0") == "redis://[secret]@db.example:6379/0"


def test_a_long_text_is_cut(lines):
    logger, _, written = lines
    logger.info("x" * 100_000, extra={"fields": {"body": "y" * 100_000}})

    [line] = written()
    assert len(line["message"]) < TEXT_CHARS_MAX + 50
    assert len(line["body"]) < TEXT_CHARS_MAX + 50


def test_a_flood_of_one_kind_is_thinned_out_and_counted_while_others_pass(lines):
    logger, clock, written = lines
    for number in range(1000):
        logger.warning("bad request from %s", number)
    logger.warning("something else")
    assert len(written()) == PER_KIND_MAX + 1

    clock.now += 11
    logger.warning("bad request from %s", 1000)

    assert written()[-1]["suppressed"] == 1000 - PER_KIND_MAX


def text_of(message, *arguments, has_colours=False, level=logging.INFO, **fields):
    record = logging.LogRecord("l", level, "p", 1, message, arguments, None)
    record.created, record.fields = 1_000_000_000.25, fields
    return TextFormatter(process="worker-0", has_colours=has_colours).format(record)


def test_a_line_for_people_has_no_more_than_they_read():
    assert text_of("holds %s", "expired", org="acme", text="two words", none=None, empty="") == (
        '2001-09-09 01:46:40.250Z worker-0   holds expired  org=acme  text="two words"  none=None  empty=""'
    )
    assert "worker-0   WARNING late" in text_of("late", level=logging.WARNING)
    assert "\x1b[33mWARNING \x1b[0mlate" in text_of("late", level=logging.WARNING, has_colours=True)


@given(st.text())
def test_no_text_forges_a_line_or_moves_the_cursor(text):
    line = text_of("%s", text, value=text)

    assert line.isprintable()
    assert "sk-secretsecret" not in text_of("%s", "sk-secretsecret", value="sk-secretsecret")


def test_the_format_follows_the_terminal_unless_it_is_forced(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def kind(log_format, stream):
        return type(log_formatter(process="p", log_format=log_format, stream=stream))

    assert kind("auto", Terminal()) is kind("text", io.StringIO()) is TextFormatter
    assert kind("auto", io.StringIO()) is kind("json", Terminal()) is JsonFormatter


def test_a_traceback_keeps_its_lines_and_no_secret():
    try:
        int("sk-secretsecret")
    except ValueError:
        record = logging.LogRecord("l", logging.ERROR, "p", 1, "failed", None, sys.exc_info())
    first, *trace = TextFormatter(process="p", has_colours=False).format(record).splitlines()

    assert first.endswith("ERROR failed")
    assert trace
    assert all(line.startswith("    ") for line in trace)
    assert "sk-secretsecret" not in "".join(trace)


def test_start_logging_replaces_the_handlers_and_silences_request_echoes():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    aiohttp_levels = {name: logging.getLogger(name).level for name in ("aiohttp.access", "aiohttp.server")}
    written = []
    try:
        start_logging(process="p", level="info", clock=Clock(), log_format="json", write=written.append)
        logging.getLogger("aiohttp.server").error("Error handling request Authorization: Bearer sk-secretsecret")
        logging.getLogger("ours").info("hello")
        root.handlers[0].close()
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        for name, old in aiohttp_levels.items():
            logging.getLogger(name).setLevel(old)

    [line] = written
    assert json.loads(line)["message"] == "hello"
