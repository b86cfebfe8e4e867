"""Addresses of Redis: redis://, rediss:// and unix://."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from tallygate.domain.errors import ConfigError

_Read = TypeVar("_Read")
_VERIFIED: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """path: of a Unix socket, else empty. tls: None for plain TCP."""

    host: str = ""
    port: int = 6379
    path: str = ""
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        """Without the secret, for messages and logs."""
        return (
            f"unix://{self.path}" if self.path else f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}/{self.database}"
        )


def parse_address(url: str) -> RedisAddress:
    """redis://[user:password@]host[:port][/database], rediss:// the same over TLS, unix://[user:password@]/path[?db=database].

    A rediss:// URL takes the options of TLS that redis-py's URLs have ("SSL Connection Examples" of its documentation):
    ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs and ssl_check_hostname.
    Raises ConfigError, which names what is wrong and never the password.
    """
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    try:
        database = options.pop("db", "") or (parts.path.strip("/") if parts.scheme != "unix" else "") or "0"
        username, password = unquote(parts.username or ""), unquote(parts.password or "")
        if parts.scheme == "unix" and parts.path and not options:
            return RedisAddress(path=unquote(parts.path), database=int(database), username=username, password=password)
        if parts.scheme in {"redis", "rediss"} and parts.hostname:
            tls = _tls(options) if parts.scheme == "rediss" else None
            _refuse_others(options, has_tls=tls is not None)
            return RedisAddress(
                host=parts.hostname,
                port=parts.port or 6379,
                database=int(database),
                username=username,
                password=password,
                tls=tls,
            )
    except ValueError as error:
        raise ConfigError((f"Redis URL ({parts.scheme}://…): {error}",)) from error
    form = "redis://host:6379/0, rediss://host:6379/0?ssl_ca_certs=file or unix:///path?db=0"
    raise ConfigError((f"Redis URL ({parts.scheme}://…) must look like {form}",))


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
