"""A store over TLS, with client certificates: a real Redis of Debian's package, through serving's own connection and doctor."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from valkey_process import free_port

from tallygate.config.settings import load_settings
from tallygate.doctor.stores import examine_stores
from tallygate.domain.errors import ConfigError, StoreError
from tallygate.limiter.address import parse_address
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.directory_channel import DirectoryChannel, announce_change

pytestmark = pytest.mark.process


class TlsStore:
    """A server that wants a certificate of its clients, and the files of both sides."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca, self.client, self.key = folder / "ca.pem", folder / "client.pem", folder / "client.key"
        self.other = folder / "other.pem"
        self.port = free_port()
        authority.cert_pem.write_to_path(self.ca)
        trustme.CA().cert_pem.write_to_path(self.other)
        server, client = authority.issue_cert("localhost"), authority.issue_cert("gateway.example")
        server.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        client.cert_chain_pems[0].write_to_path(self.client)
        client.private_key_pem.write_to_path(self.key)

    def url(self, **options: object) -> str:
        return f"rediss://localhost:{self.port}/0?" + "&".join(f"{name}={value}" for name, value in options.items())

    @property
    def certificate(self) -> dict[str, object]:
        return {"ssl_certfile": self.client, "ssl_keyfile": self.key}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsStore]:
    folder = tmp_path_factory.mktemp("tls")
    made = TlsStore(folder)
    both = folder / "server.pem"
    options = {
        "port": 0,
        "tls-port": made.port,
        "tls-cert-file": both,
        "tls-key-file": both,
        "tls-ca-cert-file": made.ca,
        "save": "",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    process = subprocess.Popen(["redis-server", *words, "--dir", folder], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while asyncio.run(reason_of(made.url(ssl_ca_certs=made.ca, **made.certificate))) and time.monotonic() < deadline:
        time.sleep(0.05)
    yield made
    process.kill()
    process.wait()


async def reason_of(url: str) -> str:
    """Why it cannot be connected to; empty if it can."""
    try:
        opened = RedisConnection(parse_address(url), timeout_ms=2_000)
        await opened.open()
    except StoreError as error:
        return str(error)
    assert await opened.command(b"PING") == b"PONG"
    await opened.close()
    return ""


async def test_a_client_certificate_opens_the_store_and_without_one_it_stays_closed(store: TlsStore) -> None:
    assert await reason_of(store.url(ssl_ca_certs=store.ca, **store.certificate)) == ""
    assert await reason_of(store.url(ssl_ca_certs=store.ca)) != ""
    assert "CERTIFICATE_VERIFY_FAILED" in await reason_of(store.url(ssl_ca_certs=store.other, **store.certificate))


async def test_what_is_verified_of_the_server_is_as_the_url_says(store: TlsStore) -> None:
    elsewhere = store.url(ssl_ca_certs=store.ca, **store.certificate).replace("localhost", "127.0.0.1")
    assert "CERTIFICATE_VERIFY_FAILED" in await reason_of(elsewhere)
    assert await reason_of(f"{elsewhere}&ssl_check_hostname=false") == ""
    assert await reason_of(store.url(ssl_cert_reqs="none", **store.certificate)) == ""
    assert "CERTIFICATE_VERIFY_FAILED" in await reason_of(store.url(ssl_cert_reqs="required", **store.certificate))


async def test_doctor_and_announcements_go_the_same_way(store: TlsStore, tmp_path: Path) -> None:
    url = store.url(ssl_ca_certs=store.ca, **store.certificate)
    found = {one.check: one for one in await examine_stores(load_settings({"redis_url": url, "data_dir": str(tmp_path)}))}
    assert found["store"].text.startswith("Redis 7")
    assert found["permissions"].is_good
    refused = await examine_stores(load_settings({"redis_url": store.url(ssl_ca_certs=store.ca), "data_dir": str(tmp_path)}))
    assert not refused[0].is_good
    heard = asyncio.Event()
    listening = asyncio.create_task(DirectoryChannel(url).listen_forever(heard.set))
    await asyncio.wait_for(heard.wait(), 10)
    heard.clear()
    await announce_change(url)
    await asyncio.wait_for(heard.wait(), 10)
    listening.cancel()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("ssl_ca_certs=/nowhere.pem", "ssl_ca_certs cannot be used: /nowhere.pem: No such file"),
        ("ssl_certfile=/nowhere.pem", "ssl_certfile cannot be used: /nowhere.pem: No such file"),
        ("ssl_keyfile=/nowhere.key", "ssl_keyfile needs ssl_certfile"),
        ("ssl_cert_reqs=maybe", "ssl_cert_reqs must be required or optional or none"),
        ("ssl_check_hostname=perhaps", "ssl_check_hostname must be true or false"),
        ("ssl_ciphers=ALL", "the option ssl_ciphers is not known"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        parse_address(f"rediss://:hunter2@h:1/0?{options}")
    assert "hunter2" not in str(refused.value)


def test_options_of_tls_without_tls_are_refused() -> None:
    with pytest.raises(ConfigError, match="the option ssl_certfile is not known without TLS"):
        parse_address("redis://h:1/0?ssl_certfile=/x")
