"""Addresses of Redis: redis://, rediss:// and unix://, redis+sentinel:// of one that sentinels watch, redis+cluster://."""

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from tallygate.domain.errors import ConfigError

_Read = TypeVar("_Read")
Place = tuple[str, int]  # host and port
_VERIFIED: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
_DATABASE_MAX: Final = 2**31 - 1
_SERVER: Final = re.compile(r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:,@/]+))(?::(?P<port>[0-9]{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentinels:
    """Servers that watch a master and know where it is after a failover (Redis' documentation, "Sentinel client spec").

    places    host and port of each
    service   the name under which they watch the master
    """

    places: tuple[Place, ...]
    service: str
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """tls: None for plain TCP.

    Either path, of a Unix socket; or host and port; or sentinels, which know them; or seeds, some servers of a cluster.
    """

    host: str = ""
    port: int = 6379
    path: str = ""
    sentinels: Sentinels | None = None
    seeds: tuple[Place, ...] = ()
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        """Without the secret, for messages and logs."""
        if self.path:
            return f"unix://{self.path}"
        scheme = "rediss" if self.tls else "redis"
        if self.sentinels is not None:
            listed = ",".join(place_text(place) for place in self.sentinels.places)
            return f"{scheme}+sentinel://{listed}/{self.sentinels.service}/{self.database}"
        if self.seeds:
            return f"{scheme}+cluster://{','.join(place_text(place) for place in self.seeds)}"
        return f"{scheme}://{place_text((self.host, self.port))}/{self.database}"


def parse_address(url: str) -> RedisAddress:
    """Read the URL of a store.

    redis://[user:password@]host[:port][/database]
    redis+sentinel://[user:password@]host[:port],host[:port].../service[/database]
    redis+cluster://[user:password@]host[:port],host[:port]...
    rediss://, rediss+sentinel://, rediss+cluster://   the same over TLS
    unix://[user:password@]/path[?db=database]

    A rediss URL takes the options of TLS that redis-py's URLs have ("SSL Connection Examples" of its documentation):
    ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs and ssl_check_hostname. One with sentinels takes sentinel_username and
    sentinel_password, if these want a login of their own.
    Raises ConfigError, which names what is wrong and never the password.
    """
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    scheme, _, topology = parts.scheme.partition("+")
    login, _, servers = parts.netloc.rpartition("@")
    user, _, secret = login.partition(":")
    username, password = unquote(user), unquote(secret)
    try:
        if parts.scheme == "unix" and parts.path:
            database = _number(options.pop("db", "") or "0", "the database", most=_DATABASE_MAX)
            _refuse_others(options, has_tls=False)
            return RedisAddress(path=unquote(parts.path), database=database, username=username, password=password)
        if scheme in {"redis", "rediss"} and topology in {"", "sentinel", "cluster"} and servers:
            names = [unquote(name) for name in parts.path.split("/") if name]
            sentinels = _sentinels(servers, names, options) if topology == "sentinel" else None
            seeds = _places(servers, default=6379) if topology == "cluster" else ()
            host, port = ("", 0) if topology else _place(servers, default=6379)
            most = 0 if seeds else _DATABASE_MAX  # a cluster has no other
            database = _number(options.pop("db", "") or "/".join(names) or "0", "the database", most=most)
            tls = _tls(options) if scheme == "rediss" else None
            _refuse_others(options, has_tls=tls is not None)
            return RedisAddress(
                host=host,
                port=port,
                sentinels=sentinels,
                seeds=seeds,
                database=database,
                username=username,
                password=password,
                tls=tls,
            )
    except ValueError as error:
        raise ConfigError((f"Redis URL ({parts.scheme}://…): {error}",)) from error
    form = (
        "redis://host:6379/0, rediss://host:6379/0?ssl_ca_certs=file, redis+sentinel://host:26379,host:26379/service/0, "
        "redis+cluster://host:6379,host:6379 or unix:///path?db=0"
    )
    raise ConfigError((f"Redis URL ({parts.scheme}://…) must look like {form}",))


def _sentinels(servers: str, names: list[str], options: dict[str, str]) -> Sentinels:
    """Take the service out of the path's names, and the login out of the options. Raises ValueError."""
    if not names:
        raise ValueError("name the service that the sentinels watch behind them: redis+sentinel://host,host/service")
    return Sentinels(
        places=_places(servers, default=26379),
        service=names.pop(0),
        username=options.pop("sentinel_username", ""),
        password=options.pop("sentinel_password", ""),
    )


def _places(servers: str, *, default: int) -> tuple[Place, ...]:
    return tuple(dict.fromkeys(_place(server, default=default) for server in servers.split(",") if server))


def _place(server: str, *, default: int) -> Place:
    """Host and port of `host`, `host:port` or `[address]:port` (RFC 3986 section 3.2.2). Raises ValueError."""
    found = _SERVER.fullmatch(server)
    if found is None:
        raise ValueError("a server is host, host:port or [address]:port; several are for redis+sentinel:// and redis+cluster://")
    return unquote(found["literal"] or found["host"]), _number(found["port"] or str(default), "the port", most=65_535)


def place_text(place: Place) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _number(text: str, what: str, *, most: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= most):
        raise ValueError(f"{what} must be a number, at most {most}")
    return int(text)


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    """Take the options of TLS out of these. Raises ValueError, which names the option."""
    context = _reading("ssl_ca_certs", options.pop("ssl_ca_certs", None), lambda path: ssl.create_default_context(cafile=path))
    certificate, key = options.pop("ssl_certfile", None), options.pop("ssl_keyfile", None)
    if key is not None and certificate is None:
        raise ValueError("ssl_keyfile needs ssl_certfile, the client's certificate")
    if certificate is not None:
        name = "ssl_certfile" if key is None else "ssl_certfile or ssl_keyfile"
        _reading(name, certificate, lambda path: context.load_cert_chain(path or "", key))
    is_checked = _one_of("ssl_check_hostname", options.pop("ssl_check_hostname", "true").lower(), {"true": True, "false": False})
    verified = _one_of("ssl_cert_reqs", options.pop("ssl_cert_reqs", "required").lower(), _VERIFIED)
    context.check_hostname = is_checked and verified is not ssl.CERT_NONE
    context.verify_mode = verified
    return context


def _refuse_others(options: Mapping[str, str], *, has_tls: bool) -> None:
    """Raise ValueError, which names an option that nobody has taken."""
    if options:
        raise ValueError(f"the option {min(options)} is not known{'' if has_tls else ' without TLS (rediss://)'}")


def _reading(option: str, path: str | None, read: Callable[[str | None], _Read]) -> _Read:
    try:
        return read(path)
    except OSError as error:  # ssl.SSLError is one: a file that holds no certificate, or another one's key
        raise ValueError(f"{option} cannot be used: {path}: {error.strerror or error}") from error


def _one_of(option: str, given: str, values: Mapping[str, _Read]) -> _Read:
    if given not in values:
        raise ValueError(f"{option} must be {' or '.join(values)}")
    return values[given]
