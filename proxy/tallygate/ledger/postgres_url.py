"""The address of a PostgreSQL database, as libpq spells it.

https://www.postgresql.org/docs/current/libpq-connect.html, "Connection URIs" and "Parameter Key Words". The driver knows most of
the parameters; what it cannot do is refused by name, since a server would refuse it as a setting, at every connection.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

from tallygate.domain.errors import ConfigError

if TYPE_CHECKING:  # loaded where it is needed: a process whose ledger is in SQLite saves a tenth of its start, and memory
    import asyncpg

CONNECT_SECONDS: Final = 5  # for each host, if the address says nothing
_CONNECT_SECONDS_MAX: Final = 60
_SHAPE: Final = re.compile(
    r"(?:postgresql|postgres)(?:\+\w+)?://"
    r"(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<hosts>[^/?@]*)"
    r"(?:/(?P<dbname>[^?]*))?"
    r"(?:\?(?P<query>.*))?"
)
_HOST: Final = re.compile(r"(?P<name>\[[^\]]+\]|[^:\[\]]*)(?::(?P<port>\d{1,5})?)?")
_TLS_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TLS_VERSIONS: Final = ("TLSv1.2", "TLSv1.3")
_FILES: Final = frozenset({"passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl"})
_TEXTS: Final = frozenset({"application_name", "options", "sslpassword", "krbsrvname", "gsslib", "service", *_FILES})
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {  # parameters of which only these values can be kept
    "sslmode": _TLS_MODES,
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
}
_WITHOUT_EFFECT: Final[Mapping[str, tuple[str, ...]]] = {  # values that ask for what the driver does anyway
    "channel_binding": ("prefer", "disable"),
    "client_encoding": ("UTF8", "utf8", "auto"),
    "gssencmode": ("prefer", "disable"),
    "load_balance_hosts": ("disable",),
    "sslcompression": ("0",),
    "sslsni": ("1",),
}


@dataclass(frozen=True, slots=True)
class Purpose:
    """What an address is for. variable: that has it. session_attrs: the values of target_session_attrs that serve this."""

    variable: str
    session_attrs: tuple[str, ...]


LEDGER: Final = Purpose("TALLYGATE_DATABASE_URL", ("any", "read-write", "primary"))  # the others find servers that take no writes
READ_REPLICA: Final = Purpose("TALLYGATE_DATABASE_READ_URL", ("any", "standby", "read-only"))

_Host = tuple[str | None, int | None]
_DEFAULT_HOST: Final[_Host] = (None, None)


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """Where a database is, and how to come to it.

    dsn               user, password, name of the database and parameters, for the driver: without hosts
    hosts             name and port, in the order in which they are tried; None, or no host at all: as PGHOST, PGPORT and the
                      driver's defaults say
    connect_seconds   for each host
    """

    dsn: str
    hosts: tuple[_Host, ...]
    connect_seconds: int

    @property
    def address(self) -> str:
        """Hosts and name of the database, and nothing secret."""
        parameters = dict(parse_qsl(self.dsn.partition("?")[2]))
        hosts = ",".join(f"{name or ''}:{port or ''}" for name, port in self.hosts)
        return f"{hosts}/{parameters.get('dbname', '')}"

    async def connect(self, **options: Any) -> "asyncpg.Connection":
        """Connect to the first host that answers and is what target_session_attrs asks for.

        connect_timeout counts for each host, so that one that is silent does not keep the others from being tried.
        Raises what the driver raises for the last host.
        """
        import asyncpg  # noqa: PLC0415 - see above

        *others, last = self.hosts or (_DEFAULT_HOST,)
        for host in others:
            try:
                return await self._connect_to(host, options)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                continue
        return await self._connect_to(last, options)

    async def _connect_to(self, host: _Host, options: Mapping[str, Any]) -> "asyncpg.Connection":
        """Connect to a server, where statements are prepared under a name once, or to a pooler, where they cannot be.

        A pooler such as pgbouncer hands each transaction to another session, in which a name stands for nothing, or for another
        client's statement. There the driver sends a statement's text without a name at each execution, in the same round trip.
        """
        import asyncpg  # noqa: PLC0415 - see above

        name, port = host
        connection = await asyncpg.connect(self.dsn, host=name, port=port, timeout=self.connect_seconds, **options)
        try:
            if await _is_session_of_a_server(connection):
                return connection
        except BaseException:
            connection.terminate()
            raise
        await connection.close()
        return await asyncpg.connect(
            self.dsn, host=name, port=port, timeout=self.connect_seconds, statement_cache_size=0, **options
        )


async def _is_session_of_a_server(connection: "asyncpg.Connection") -> bool:
    """Return whether the peer is the process that answers: a pooler names itself, since a cancellation has to find it.

    One simple query, which is safe with a pooler of any mode: its status is "SELECT" and the number of rows.
    """
    return bool(await connection.execute(f"SELECT WHERE pg_backend_pid() = {connection.get_server_pid()}") == "SELECT 1")


def parse_postgres_url(url: str, purpose: Purpose = LEDGER) -> PostgresUrl:
    """Parse postgresql://user:password@host:port,host:port/name?parameter=value.

    Raises ConfigError, which names the parameter and never quotes the URL, since that may contain a password.
    """
    found = _SHAPE.fullmatch(url)
    if not found:
        raise ConfigError((f"{purpose.variable} must look like postgresql://user:password@host/name",))
    parameters = _parameters(found["query"] or "", purpose.variable)
    hosts = _hosts(found["hosts"] or parameters.pop("host", ""), parameters.pop("port", ""), purpose.variable)
    connect_seconds = _connect_seconds(parameters.pop("connect_timeout", str(CONNECT_SECONDS)), purpose.variable)
    _check(parameters, purpose)
    parameters.setdefault("application_name", "tallygate")
    for name in ("user", "password", "dbname"):
        if found[name]:
            parameters[name] = unquote(found[name])
    kept = {name: value for name, value in parameters.items() if name not in _WITHOUT_EFFECT}
    return PostgresUrl(f"postgresql://?{urlencode(kept, quote_via=quote)}", hosts, connect_seconds)


def _parameters(query: str, variable: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        twice = sorted({name for name, _ in pairs if sum(other == name for other, _ in pairs) > 1})
        raise ConfigError(tuple(f"{variable} has the parameter {name} twice" for name in twice))
    return parameters


def _hosts(names: str, ports: str, variable: str) -> tuple[_Host, ...]:
    """names: h1:5432,h2, as in the URL or the parameter host; ports: of the parameter port, one for all or one for each."""
    if not names and not ports:
        return ()
    given = names.split(",")
    of_parameter = ports.split(",") * (1 if "," in ports else len(given))
    if len(of_parameter) != len(given) or not all(port.isdecimal() or not port for port in of_parameter):
        raise ConfigError((f"{variable}: port must have one number, or one for each host",))
    hosts = []
    for name, port in zip(given, of_parameter, strict=True):
        found = _HOST.fullmatch(unquote(name))
        number = int(found["port"] or port or 0) if found else -1
        if found is None or not 0 <= number <= 65_535:
            raise ConfigError((f"{variable} must have hosts such as db.internal:5432, or [::1]:5432, with commas between them",))
        hosts.append((found["name"].strip("[]") or None, number or None))
    return tuple(hosts)


def _connect_seconds(given: str, variable: str) -> int:
    if given.isdecimal() and 1 <= int(given) <= _CONNECT_SECONDS_MAX:
        return int(given)
    raise ConfigError((f"{variable}: connect_timeout must be a whole number of seconds from 1 to {_CONNECT_SECONDS_MAX}",))


def _check(parameters: Mapping[str, str], purpose: Purpose) -> None:
    problems = []
    for name, value in parameters.items():
        choices = purpose.session_attrs if name == "target_session_attrs" else _CHOICES.get(name) or _WITHOUT_EFFECT.get(name)
        if choices is not None:
            if value not in choices:
                problems.append(f"{purpose.variable}: {name} must be {' or '.join(choices)}: anything else cannot be kept")
        elif name not in _TEXTS and name not in {"user", "password", "dbname"}:
            problems.append(f"{purpose.variable} has the parameter {name}, which has no meaning here: leave it out")
        elif name in _FILES and not _is_readable(value):
            problems.append(f"{purpose.variable}: the file of {name} cannot be read")
    if problems:
        raise ConfigError(tuple(problems))


def _is_readable(path: str) -> bool:
    try:
        with Path(path).open("rb"):
            return True
    except OSError:
        return False
