"""The host names of the console. A page whose own name was made to resolve here (DNS rebinding) sends its own name."""

import ipaddress
import re
from collections.abc import Collection, Sequence
from typing import Final

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?", re.ASCII)


class KnownHosts:
    """Loopback's names and addresses, and those given, without ports and in any case.

    names   host names or addresses; an IPv6 address with or without brackets
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = {"localhost", *(_plain(name) for name in names)}

    def include(self, hosts: Sequence[str]) -> bool:
        """hosts: the values of a request's Host header, of which there should be one."""
        if len(hosts) != 1:
            return False
        found = _HOST.fullmatch(hosts[0].strip())
        if found is None:
            return False
        name = _plain(found[1])
        return name in self._names or _is_loopback(name)


def _plain(name: str) -> str:
    return name.strip("[]").lower().removesuffix(".")


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
