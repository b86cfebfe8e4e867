"""A log that nobody reads: whoever logs goes on, what is dropped is counted, and told when lines flow again."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tallygate.telemetry.line_writer import LineWriter
from tallygate.telemetry.log import JsonFormatter, LogHandler, lines_dropped

LOGS_INTO_A_FULL_PIPE = """
import logging, time
from tallygate.telemetry.log import lines_dropped, start_logging
start_logging(process="p", level="info", clock=time.monotonic)
for number in range(20_000):
    logging.getLogger(f"kind-{number % 900}").info("a line of some length that soon fills what a pipe takes")
print(lines_dropped())
"""


class Reader:
    """Reads lines, or not."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.is_asked, self.reads = threading.Event(), threading.Event()

    def __call__(self, line: bytes) -> None:
        self.is_asked.set()
        self.reads.wait()
        self.lines.append(line)


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.reads.set()


def test_what_nobody_reads_is_dropped_and_told_as_soon_as_lines_flow(reader: Reader) -> None:
    handler = LogHandler(JsonFormatter(process="p"), write=reader, waiting_max=3)
    logger = logging.getLogger("test_line_writer")
    logger.addHandler(handler)
    try:
        for number in range(10):
            logger.warning("line %d", number)
            assert reader.is_asked.wait(30), "the thread has the first line"
        dropped = handler.dropped
        reader.reads.set()
    finally:
        logger.removeHandler(handler)
        handler.close()

    assert dropped == 6, "three wait, and the thread holds one"
    lines = [json.loads(line) for line in reader.lines]
    (notice,) = [line for line in lines if "lines" in line]
    assert notice["lines"] == dropped
    assert lines.index(notice) == 1
    assert [line["message"] for line in lines if line is not notice] == [f"line {number}" for number in range(4)]


def test_the_end_waits_for_a_moment_only(reader: Reader) -> None:
    writer = LineWriter[bytes](bytes, write=reader, waiting_max=9, name="test")
    writer.add(b"a line")

    writer.close(seconds=0.05)

    assert reader.lines == []


def test_what_waits_is_written_at_the_end(reader: Reader) -> None:
    writer = LineWriter[bytes](bytes, write=reader, waiting_max=9, name="test")
    for line in (b"one", b"two"):
        writer.add(line)
    reader.reads.set()

    writer.close()

    assert reader.lines == [b"one", b"two"]


def test_an_item_without_a_line_costs_no_other(reader: Reader) -> None:
    def render(number: int) -> bytes:
        return b"%d" % (10 // number)

    writer = LineWriter[int](render, write=reader, waiting_max=9, name="test")
    for number in (5, 0, 2):
        writer.add(number)
    reader.reads.set()
    writer.close()

    assert reader.lines == [b"2", b"5"]


def test_a_reader_that_is_gone_stops_nothing() -> None:
    gone = threading.Event()

    def write(_line: bytes) -> None:
        gone.set()
        raise BrokenPipeError

    writer = LineWriter[bytes](bytes, write=write, waiting_max=9, name="test")
    writer.add(b"one")
    assert gone.wait(30)
    assert writer.add(b"two")
    writer.close()


@pytest.mark.process
def test_a_process_whose_log_is_a_full_pipe_goes_on_and_ends() -> None:
    read, write = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", LOGS_INTO_A_FULL_PIPE], stdout=subprocess.PIPE, stderr=write)
    os.close(write)
    try:
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(read)

    assert process.returncode == 0
    assert int(out) > 5_000
    assert lines_dropped() == 0, "of this process"
