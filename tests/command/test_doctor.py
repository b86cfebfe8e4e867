"""What `tallygate doctor` finds of the service that looks keys up."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from tallygate.config.key_lookup import KeyLookup
from tallygate.doctor import _key_lookup
from tallygate.outbound.way_out import WayOut


@pytest.fixture
def service() -> Iterator[Any]:
    class Service(BaseHTTPRequestHandler):
        answer = b'{"active": false}'
        asked: dict[str, list[str]]

        def do_POST(self) -> None:
            Service.asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200 if self.headers["Authorization"] == "Bearer ours" else 401)
            self.end_headers()
            self.wfile.write(Service.answer)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    Service.url = f"http://127.0.0.1:{server.server_port}/introspect"  # type: ignore[attr-defined]
    yield Service
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_service_that_denies_an_invented_key_is_good_and_any_other_is_not(service: Any) -> None:
    ours = KeyLookup(url=service.url, secret="ours")
    good = _key_lookup(ours, WayOut())
    assert (good.is_good, good.text) == (True, "127.0.0.1 says that an invented key is not active (status 200)")
    assert service.asked["token_type_hint"] == ["key_sha256"]
    assert not _key_lookup(KeyLookup(url=service.url), WayOut()).is_good
    for answer in (b'{"active": true, "client_id": "acme"}', b"[]", b"no", b""):
        service.answer = answer
        assert not _key_lookup(ours, WayOut()).is_good
    assert "does not answer" in _key_lookup(KeyLookup(url="http://127.0.0.1:9/"), WayOut()).text
