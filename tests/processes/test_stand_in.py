"""While no worker is up, clients get 503 in their API's shape, and not from a port on which nobody answers."""

import json
import socket
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

import psutil
import pytest
from supervised import Supervised, eventually, get

from tallygate.processes.stand_in import OPEN_MAX


@pytest.fixture
def headless(supervised: Supervised) -> Supervised:
    """Its workers were killed, and cannot start."""
    assert get(supervised.gateway)[0] == 200
    (supervised.data_dir / "no_workers").touch()
    for pid in supervised.worker_pids():
        psutil.Process(pid).kill()
    return supervised


def ask(served: Supervised, path: str, *, method: str = "POST", body: bytes = b"{}", **headers: str):
    connection = HTTPConnection(urlsplit(served.gateway).netloc, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_every_request_is_answered_in_the_shape_of_its_api(headless: Supervised) -> None:
    status, headers, content = ask(headless, "/v1/chat/completions")
    error = json.loads(content)["error"]
    assert (status, error["code"]) == (503, "no_worker")
    assert headers["connection"] == "close"
    assert (headers["retry-after"], headers["retry-after-ms"], headers["x-should-retry"]) == ("2", "2000", "true")
    assert headers["x-request-id"] == json.loads(content)["request_id"]

    assert json.loads(ask(headless, "/v1/messages?beta=true", **{"Anthropic-Version": "2023-06-01"})[2])["type"] == "error"
    assert json.loads(ask(headless, "/v1beta/models/gemini:generateContent")[2])["error"]["status"] == "UNAVAILABLE"
    assert ask(headless, "/", method="GET", body=b"")[0] == 503
    status, headers, content = ask(headless, "/", method="HEAD", body=b"")
    assert (status, content) == (503, b"")
    assert int(headers["content-length"]) > 0

    status, _, content = ask(headless, "/v1/chat/completions", body=b"x" * 8_000_000)
    assert (status, json.loads(content)["error"]["code"]) == (503, "no_worker")


def test_readiness_and_the_log_say_so_and_workers_that_return_have_the_port_alone(headless: Supervised) -> None:
    assert ask(headless, "/")[0] == 503
    status, body = get(f"{headless.console}/readyz")
    assert status == 503
    assert "worker 0, 1 is not up" in body
    assert "no worker is up: every request gets 503" in headless.log.read_text()

    (headless.data_dir / "no_workers").unlink()
    eventually(lambda: '"message": "a worker is up again"' in headless.log.read_text(), "a worker is back")
    assert {get(headless.gateway)[0] for _ in range(100)} == {200}


def test_whoever_says_nothing_or_leaves_keeps_nobody_from_an_answer(headless: Supervised) -> None:
    address = urlsplit(headless.gateway)
    silent = [socket.create_connection((address.hostname, address.port)) for _ in range(OPEN_MAX + 50)]
    for left in silent[::2]:
        left.close()
    began = time.monotonic()
    assert ask(headless, "/")[0] == 503
    assert time.monotonic() - began < 60
    content = silent[1].recv(65_536)
    assert content.startswith(b"HTTP/1.1 503 "), "an answer comes without a head, too"
    for each in silent:
        each.close()
    nonsense = socket.create_connection((address.hostname, address.port))
    nonsense.sendall(b"\xff\xfe\r\n:\r\n\r\n")
    assert nonsense.recv(65_536).startswith(b"HTTP/1.1 503 ")
    nonsense.close()


def test_it_ends_with_the_supervisor(headless: Supervised) -> None:
    assert ask(headless, "/")[0] == 503
    headless.process.terminate()
    assert headless.wait() == 0
