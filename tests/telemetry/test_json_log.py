"""Logs that nobody can forge, flood or read keys in."""

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.telemetry.log import PER_KIND_MAX, TEXT_CHARS_MAX, FloodFilter, JsonFormatter, start_logging, without_secrets


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


def test_start_logging_replaces_the_handlers_and_silences_request_echoes():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    aiohttp_levels = {name: logging.getLogger(name).level for name in ("aiohttp.access", "aiohttp.server")}
    stream = io.StringIO()
    try:
        start_logging(process="p", level="info", clock=Clock(), stream=stream)
        logging.getLogger("aiohttp.server").error("Error handling request Authorization: Bearer sk-secretsecret")
        logging.getLogger("ours").info("hello")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        for name, old in aiohttp_levels.items():
            logging.getLogger(name).setLevel(old)

    [line] = stream.getvalue().splitlines()
    assert json.loads(line)["message"] == "hello"
