"""`tallygate prices update --from URL`, from a server on this machine, and what it shows before it writes."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner, Result

from tallygate.cli import main
from tallygate.commands import price_documents

NEW = {"id": "gpt-99", "prices": {"input_mtok": 1.5, "output_mtok": 6}}
DEARER = {"id": "gpt-5.5", "prices": {"input_mtok": 8, "cache_read_mtok": 0.8, "output_mtok": 40}}
OWN = '# mine\nprices: [{model: gpt-4o, effective: 2026-01-01, input: "1", output: "2"}]\n'


def data(*models: dict[str, Any]) -> bytes:
    return json.dumps([{"id": "openai", "models": [{"match": {"equals": model["id"]}, **model} for model in models]}]).encode()


class Source(ThreadingHTTPServer):
    """Answers with what it is told to."""

    daemon_threads = True
    status = 200
    body = b""
    location = ""
    wait_s = 0.0
    paths: list[str]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.paths = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/data.json"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave early are expected."""


class Answering(BaseHTTPRequestHandler):
    server: Source

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        time.sleep(self.server.wait_s)
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_args: Any) -> None:
        """Write nothing."""


@pytest.fixture
def source() -> Iterator[Source]:
    server = Source()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    directory = tmp_path / "config"
    directory.mkdir()
    (directory / "prices.yaml").write_text(OWN)
    return directory


def update(config: Path, url: str, *more: str) -> Result:
    return CliRunner().invoke(main, ["prices", "update", "--from", url, "--config-dir", str(config), *more])


def told(result: Result) -> str:
    return " ".join(result.output.split())


def test_a_url_gives_what_a_file_gives_and_its_secrets_are_written_nowhere(config: Path, source: Source) -> None:
    source.body = data(NEW, DEARER)
    result = update(config, source.url.replace("http://", "http://reader:sesame@") + "?token=sesame")
    assert result.exit_code == 0, result.output
    assert source.paths == ["/data.json?token=sesame"]
    written = (config / "listed_prices.yaml").read_text()
    assert f"from {source.url}: " in written
    assert 'model: "gpt-99"' in written
    assert "sesame" not in written + result.output
    assert (config / "prices.yaml").read_text() == OWN


@pytest.mark.parametrize(
    ("status", "location", "body", "text"),
    [
        (302, "/elsewhere.json", b"", "127.0.0.1 answered 302 (redirects are not followed)"),
        (404, "", b"{}", "127.0.0.1 answered 404"),
        (500, "", data(NEW), "127.0.0.1 answered 500"),
        (200, "", b"<html>", "is no JSON"),
        (200, "", b"\xff\xfe\x00", "is no JSON"),
        (200, "", b"[" * 100_000, "is no JSON"),
        (200, "", b"{}", "must be a list of objects"),
        (200, "", b"x" * 5_000, "answer is too long: more than 4000 bytes"),
    ],
)
def test_an_answer_of_another_kind_changes_nothing(
    config: Path, source: Source, monkeypatch: pytest.MonkeyPatch, status: int, location: str, body: bytes, text: str
) -> None:
    monkeypatch.setattr(price_documents, "_BYTES_MAX", 4_000 if len(body) == 5_000 else 1 << 20)
    source.status, source.location, source.body = status, location, body
    result = update(config, source.url)
    assert result.exit_code == 1
    assert text in told(result)
    assert source.paths == ["/data.json"]
    assert [path.name for path in config.iterdir()] == ["prices.yaml"]


def test_a_server_that_does_not_answer_in_time_is_given_up(config: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_documents, "_WAIT_S", 0.1)
    source.wait_s, source.body = 0.5, data(NEW)
    assert "127.0.0.1 could not be reached: no connection in time" in told(update(config, source.url))
    assert not (config / "listed_prices.yaml").exists()


def test_nobody_at_the_address_is_a_sentence(config: Path) -> None:
    result = update(config, "http://127.0.0.1:1/data.json")
    assert "http://127.0.0.1:1/data.json: cannot be read: 127.0.0.1 could not be reached" in told(result)
    assert "is no URL" in told(update(config, "https:///data.json"))
    assert "is no URL" in told(update(config, "https://[::1/data.json"))


def test_https_is_trusted_by_the_authorities_of_every_other_request(
    config: Path, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    source.socket = context.wrap_socket(source.socket, server_side=True)
    source.body = data(NEW)
    url = source.url.replace("http://", "https://")
    assert "could not be reached: its certificate is from an unknown authority" in told(update(config, url))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("TALLYGATE_UPSTREAM_CA_FILE", str(tmp_path / "ca.pem"))
    assert update(config, url).exit_code == 0
    monkeypatch.setenv("TALLYGATE_UPSTREAM_CA_FILE", str(tmp_path / "none.pem"))
    assert "TALLYGATE_UPSTREAM_CA_FILE names the file" in told(update(config, url))


def test_what_would_be_added_changed_and_removed_is_shown_before_it_is_written(config: Path, source: Source) -> None:
    source.body = data(NEW, DEARER)
    shown = update(config, source.url, "--dry-run")
    assert shown.exit_code == 2
    assert "2 added, 0 changed, 0 removed; nothing was written" in told(shown)
    assert [path.name for path in config.iterdir()] == ["prices.yaml"]
    assert "(2 added, 0 changed, 0 removed)" in told(update(config, source.url))
    before = (config / "listed_prices.yaml").read_bytes()

    source.body = data({**DEARER, "prices": {**DEARER["prices"], "output_mtok": 50}})
    shown = update(config, source.url, "--dry-run")
    assert shown.exit_code == 2
    assert "removed: gpt-99, for which the source has no other price; it is an unknown model then" in told(shown)
    assert "0 added, 1 changed, 1 removed; nothing was written" in told(shown)
    assert (config / "listed_prices.yaml").read_bytes() == before

    source.body = data(NEW)
    result = update(config, source.url)
    assert "removed: gpt-5.5, for which the source has no other price; that of the shipped list applies again" in told(result)
    assert "(0 added, 0 changed, 1 removed)" in told(result)
    assert "nothing differs" not in told(result)
    assert "gpt-5.5" not in (config / "listed_prices.yaml").read_text()
    assert (config / "prices.yaml").read_text() == OWN
    nothing = update(config, source.url, "--dry-run")
    assert (nothing.exit_code, "is up to date" in nothing.output) == (0, True)


def test_a_layer_that_is_not_valid_is_not_replaced_unseen(config: Path, source: Source) -> None:
    (config / "listed_prices.yaml").write_text("prices: [")
    source.body = data(NEW)
    result = update(config, source.url)
    assert result.exit_code == 78
    assert "listed_prices.yaml:2: is not valid YAML" in told(result)
    assert (config / "listed_prices.yaml").read_text() == "prices: ["
