"""Valid values of a Host header, and of the authority of a target in absolute-form: a host, with or without a port.

RFC 3986 section 3.2.2 lets a registered name be almost anything; DNS and certificates know letters, digits and hyphens (RFC 1123
section 2.1), and container networks the underscore. A list, user information or a path in its place is read differently by
different servers, so it is refused (RFC 9112 section 3.2).
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Final

HOST_BYTES_MAX: Final = 255 + len(":65535")  # RFC 1035 section 2.3.4
_REMEMBERED_MAX: Final = 256  # clients send the same ones again and again

_SCHEMES: Final = frozenset({"http", "https"})  # TLS may end in front of this port
_AUTHORITY_ENDS: Final = re.compile("[/?#]")
_HOST: Final = re.compile(
    rb"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?)(?::(?P<port>[0-9]*))?"
)


@lru_cache(_REMEMBERED_MAX)
def is_host(value: bytes) -> bool:
    """Return whether it is a name, an IPv4 address or an IPv6 address in brackets, with or without a port.

    The port may be empty (RFC 3986 section 3.2.3), and the name may end in a dot.
    """
    if len(value) > HOST_BYTES_MAX:
        return False
    found = _HOST.fullmatch(value)
    if found is None:
        return False
    if found["port"] and not 0 < int(found["port"]) <= 65_535:
        return False
    if found["v6"] is None:
        return True
    try:
        IPv6Address(found["v6"].decode())
    except AddressValueError:
        return False
    return True


def authority_of(target: str) -> str | None:
    """The authority of a target in absolute-form of http or https (RFC 9112 section 3.2.2); None for any other."""
    scheme, found, rest = target.partition("://")
    return _AUTHORITY_ENDS.split(rest, maxsplit=1)[0] if found and scheme.lower() in _SCHEMES else None
