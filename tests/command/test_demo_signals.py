"""The demo ends with what it started, also when it is not Ctrl-C that ends it."""

import re
import signal
import socket
import subprocess
import sys
import time

import pytest


def hear_interrupts():
    """What runs in the background of a shell ignores SIGINT, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started_demo(tmp_path, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "tallygate", "demo", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"},
        preexec_fn=hear_interrupts,  # noqa: PLW1509 - no threads are running here
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_demo_that_is_told_to_end_leaves_no_process_on_its_ports(tmp_path, number):
    demo = started_demo(tmp_path, "--requests", "10")
    ports = []
    for line in demo.stdout:
        ports += [int(port) for port in re.findall(r"(?:gateway|console)  http://127\.0\.0\.1:(\d+)", line)]
        if line.startswith("  ready "):
            break
    demo.send_signal(number)
    demo.communicate(timeout=60)

    assert len(ports) == 2
    assert demo.returncode == (0 if number == signal.SIGINT else 128 + number)
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_demo_that_is_told_to_end_while_it_sends_says_nothing_of_its_inside(tmp_path, number):
    demo = started_demo(tmp_path, "--requests", "100000", "--days", "0")
    for line in demo.stdout:
        if line.startswith("http://127.0.0.1:"):
            break
    time.sleep(2)  # in the middle of the requests, which nothing tells while no terminal shows progress
    demo.send_signal(number)
    told, _ = demo.communicate(timeout=60)

    assert "Traceback" not in told
    assert demo.returncode == (1 if number == signal.SIGINT else 128 + number)
    assert list(tmp_path.iterdir()) == []
