"""The demo ends with what it started, also when it is not Ctrl-C that ends it."""

import re
import signal
import socket
import subprocess
import sys

import pytest


def hear_interrupts():
    """What runs in the background of a shell ignores SIGINT, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_demo_that_is_told_to_end_leaves_no_process_on_its_ports(tmp_path, number):
    demo = subprocess.Popen(
        [sys.executable, "-m", "tallygate", "demo", "--requests", "10"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"},
        preexec_fn=hear_interrupts,  # noqa: PLW1509 - no threads are running here
    )
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
