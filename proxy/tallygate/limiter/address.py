"""Addresses of Redis: redis://, rediss:// and unix://."""

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from tallygate.domain.errors import ConfigError


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
    """redis://[user:password@]host[:port][/database], rediss://…[?ssl_ca_certs=file], unix://[user:password@]/path[?db=database].

    Raises ConfigError, which names the form that is wrong and never the password.
    """
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    try:
        database = options.pop("db", "") or (parts.path.strip("/") if parts.scheme != "unix" else "") or "0"
        username, password = unquote(parts.username or ""), unquote(parts.password or "")
        if parts.scheme == "unix" and parts.path and not options:
            return RedisAddress(path=unquote(parts.path), database=int(database), username=username, password=password)
        if parts.scheme in {"redis", "rediss"} and parts.hostname:
            tls = ssl.create_default_context(cafile=options.pop("ssl_ca_certs", None)) if parts.scheme == "rediss" else None
            if not options:
                return RedisAddress(
                    host=parts.hostname,
                    port=parts.port or 6379,
                    database=int(database),
                    username=username,
                    password=password,
                    tls=tls,
                )
    except (ValueError, OSError) as error:
        raise ConfigError((f"Redis URL ({parts.scheme}://…): {error}",)) from error
    form = "redis://host:6379/0, rediss://host:6379/0?ssl_ca_certs=file or unix:///path?db=0"
    raise ConfigError((f"Redis URL ({parts.scheme}://…) must look like {form}",))
