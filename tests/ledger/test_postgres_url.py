"""The address of a PostgreSQL database in libpq's spelling: hosts, parameters, and what is refused by name."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import trustme
from postgres_process import USER, PostgresProcess, running_postgres
from sqlalchemy import text

from tallygate.domain.errors import ConfigError
from tallygate.ledger.database import Database
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.opening import open_database, open_read_replica
from tallygate.ledger.postgres_url import CONNECT_SECONDS, parse_postgres_url

_PASSWORD = "p%40ss/w?rd"

_HOSTS = {
    "postgresql://": (),
    "postgresql:///ledger": (),
    "postgresql:///ledger?port=5433": ((None, 5433),),
    "postgresql://me@:5433/ledger": ((None, 5433),),
    "postgres://db.internal/ledger": (("db.internal", None),),
    "postgresql+asyncpg://me@db.internal:5433/ledger": (("db.internal", 5433),),
    "postgresql://[::1]:5433/ledger": (("::1", 5433),),
    "postgresql://a:1,b,[::2]:3/ledger": (("a", 1), ("b", None), ("::2", 3)),
    "postgresql:///ledger?host=/run/postgresql": (("/run/postgresql", None),),
    "postgresql://%2Frun%2Fpostgresql/ledger": (("/run/postgresql", None),),
    "postgresql:///ledger?host=a,b&port=1,2": (("a", 1), ("b", 2)),
    "postgresql:///ledger?host=a,b&port=7": (("a", 7), ("b", 7)),
}

_REFUSED = {
    "keepalives_idle=30": "keepalives_idle, which has no meaning here",
    "pgbouncer=true": "pgbouncer, which has no meaning here",
    "ssl=true": "ssl, which has no meaning here",
    "sslmode=verify": "sslmode must be disable or allow or prefer or require or verify-ca or verify-full",
    "channel_binding=require": "channel_binding must be prefer or disable",
    "target_session_attrs=standby": "target_session_attrs must be any or read-write or primary",
    "connect_timeout=0": "connect_timeout must be a whole number of seconds from 1 to 60",
    "connect_timeout=soon": "connect_timeout must be a whole number of seconds from 1 to 60",
    "sslrootcert=/no/such/file": "the file of sslrootcert cannot be read",
    "sslmode=require&sslmode=disable": "the parameter sslmode twice",
    "port=x": "port must have one number, or one for each host",
}


@pytest.mark.parametrize("url", _HOSTS)
def test_hosts_are_those_of_the_url_in_its_order(url: str) -> None:
    assert parse_postgres_url(url).hosts == _HOSTS[url]


@pytest.mark.parametrize("parameters", _REFUSED)
def test_what_cannot_be_kept_is_refused_by_name_and_without_the_password(parameters: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_database(f"postgresql://me:secret-word@db.internal/ledger?{parameters}", Path())
    assert _REFUSED[parameters] in str(caught.value)
    assert "secret-word" not in str(caught.value)
    assert "TALLYGATE_DATABASE_URL" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:pw@db:99999/x",
        "postgresql://db:port/x",
        "postgresql://a,b/x?port=1,2,3",
        "postgresql:/db",
        "mysql://db/x",
        "sqlite://",
    ],
)
def test_an_address_of_another_shape_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="TALLYGATE_DATABASE_URL"):
        open_database(url, Path())


def test_an_address_of_a_read_replica_may_ask_for_a_standby() -> None:
    for wanted in ("any", "standby", "read-only"):
        open_read_replica(f"postgresql://a,b/ledger?target_session_attrs={wanted}")
    for refused in (
        "postgresql://a/ledger?target_session_attrs=primary",
        "sqlite:////ledger.db",
        "postgresql://a/x?pgbouncer=true",
    ):
        with pytest.raises(ConfigError, match="TALLYGATE_DATABASE_READ_URL"):
            open_read_replica(refused)


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_postgres_url("postgresql://db/x?sslmode=on&tcp_user_timeout=3")
    assert len(caught.value.problems) == 2


def test_connect_timeout_counts_for_each_host() -> None:
    assert parse_postgres_url("postgresql://db/x").connect_seconds == CONNECT_SECONDS
    assert parse_postgres_url("postgresql://db/x?connect_timeout=11").connect_seconds == 11


async def _ask(database: Database, question: str) -> list[tuple[object, ...]]:
    async with database.read() as connection:
        return [tuple(row) for row in await connection.execute(text(question))]


@pytest.fixture
async def server_with_password(postgres_server: PostgresProcess) -> PostgresProcess:
    connection = await asyncpg.connect(postgres_server.url())
    await connection.execute("DROP ROLE IF EXISTS careful")
    await connection.execute("CREATE ROLE careful LOGIN PASSWORD 'p@ss/w?rd'")
    await connection.close()
    return postgres_server


async def test_user_password_name_and_settings_reach_the_server(server_with_password: PostgresProcess, tmp_path: Path) -> None:
    parameters = "application_name=books%20of%20march&connect_timeout=9&options=-c%20lock_timeout%3D1234&sslmode=prefer"
    url = f"postgresql://careful:{_PASSWORD}@127.0.0.1:{server_with_password.port}/postgres?{parameters}"
    database = open_database(url, tmp_path)
    names = "current_user, current_database(), current_setting('application_name'), current_setting('lock_timeout')"
    assert await _ask(database, f"SELECT {names}, current_setting('jit')") == [
        ("careful", "postgres", "books of march", "1234ms", "off")
    ]
    await database.close()


async def test_without_a_name_the_application_is_tallygate(postgres_server: PostgresProcess, tmp_path: Path) -> None:
    database = open_database(postgres_server.url(), tmp_path)
    assert await _ask(database, "SELECT current_setting('application_name')") == [("tallygate",)]
    await database.close()


async def test_a_silent_host_and_one_that_refuses_do_not_keep_the_next_from_being_tried(
    postgres_server: PostgresProcess, tmp_path: Path
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:1,127.0.0.1:{postgres_server.port}"
        database = open_database(f"postgresql://{USER}@{hosts}/postgres?connect_timeout=1&sslmode=disable", tmp_path)
        assert await _ask(database, "SELECT inet_server_port()") == [(postgres_server.port,)]
        await database.close()


async def test_a_server_that_became_a_standby_is_left_and_found_again(postgres_server: PostgresProcess, tmp_path: Path) -> None:
    """target_session_attrs keeps a new connection from it; one that is open takes no more than one refusal."""
    owner = await asyncpg.connect(postgres_server.url())
    await owner.execute("CREATE DATABASE demoted")
    database = open_database(f"{postgres_server.url('demoted')}?target_session_attrs=read-write", tmp_path)
    async with database.write() as connection:
        await connection.execute(text("CREATE TABLE written (number INTEGER)"))
    await owner.execute("ALTER DATABASE demoted SET default_transaction_read_only = on")
    async with database.write() as connection:
        await connection.execute(text("SET default_transaction_read_only = on"))  # as a demotion does to sessions that are open
    with pytest.raises(LedgerUnavailableError, match="read-only transaction"):
        await _write(database)
    with pytest.raises(LedgerUnavailableError, match="target attribute"):
        await _write(database)
    await owner.execute("ALTER DATABASE demoted RESET default_transaction_read_only")
    await _write(database)
    assert await _ask(database, "SELECT count(*) FROM written") == [(1,)]
    await database.close()
    await owner.execute("DROP DATABASE demoted WITH (FORCE)")
    await owner.close()


async def _write(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("INSERT INTO written VALUES (1)"))


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresProcess, Path]]:
    """A server that takes TLS with certificates of clients only, and the directory of the certificates."""
    certificates = tmp_path_factory.mktemp("certificates")
    authority, another = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(certificates / "ca.pem"))
    another.cert_pem.write_to_path(str(certificates / "another-ca.pem"))
    client = authority.issue_cert(common_name=USER)
    client.cert_chain_pems[0].write_to_path(str(certificates / "client.pem"))
    client.private_key_pem.write_to_path(str(certificates / "client.key"))
    with running_postgres() as server:
        server.stop()
        own = authority.issue_cert("localhost")
        own.cert_chain_pems[0].write_to_path(str(server.directory / "server.pem"))
        own.private_key_pem.write_to_path(str(server.directory / "server.key"))
        authority.cert_pem.write_to_path(str(server.directory / "ca.pem"))
        (server.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust clientcert=verify-full\n", encoding="utf-8")
        files = {name: server.directory / name for name in ("server.pem", "server.key", "ca.pem")}
        server.own(*files.values())
        server.start(
            ssl="on",
            ssl_cert_file=str(files["server.pem"]),
            ssl_key_file=str(files["server.key"]),
            ssl_ca_file=str(files["ca.pem"]),
        )
        yield server, certificates


@pytest.mark.process
async def test_tls_with_both_sides_certificates(tls_server: tuple[PostgresProcess, Path], tmp_path: Path) -> None:
    server, folder = tls_server
    own = f"sslcert={folder}/client.pem&sslkey={folder}/client.key"
    database = open_database(
        f"postgresql://{USER}@localhost:{server.port}/postgres?sslmode=verify-full&sslrootcert={folder}/ca.pem&{own}", tmp_path
    )
    assert await _ask(database, "SELECT ssl, client_dn > '' FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True, True)]
    await database.close()


@pytest.mark.process
@pytest.mark.parametrize(
    ("host", "parameters"),
    [
        ("localhost", "sslmode=disable"),
        ("localhost", "sslmode=verify-full&sslrootcert={folder}/ca.pem"),
        (
            "localhost",
            "sslmode=verify-ca&sslrootcert={folder}/another-ca.pem&sslcert={folder}/client.pem&sslkey={folder}/client.key",
        ),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert={folder}/ca.pem&sslcert={folder}/client.pem&sslkey={folder}/client.key"),
    ],
    ids=["no TLS", "no certificate of the client", "another authority", "another name"],
)
async def test_what_a_certificate_does_not_prove_is_not_connected(
    tls_server: tuple[PostgresProcess, Path], tmp_path: Path, host: str, parameters: str
) -> None:
    server, folder = tls_server
    url = f"postgresql://{USER}@{host}:{server.port}/postgres?{parameters.format(folder=folder)}"
    database = open_database(url, tmp_path)
    with pytest.raises(LedgerUnavailableError):
        async with asyncio.timeout(20), database.read():
            pass
    await database.close()
