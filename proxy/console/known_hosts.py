"""Under which names the console is asked. A page whose own name was made to lead here (DNS rebinding) sends its own name."""

import ipaddress
from collections.abc import Collection, Sequence


class KnownHosts:
    """Loopback's names and addresses, and those given, without ports and in any case.

    names   host names or addresses; an IPv6 address with or without brackets
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = {"localhost", *(_plain(name) for name in names)}

    def knows(self, hosts: Sequence[str]) -> bool:
        """hosts: the values of a request's Host header, of which there should be one."""
        if len(hosts) != 1:
            return False
        name = _plain(_without_port(hosts[0].strip()))
        return name in self._names or _is_loopback(name)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _plain(name: str) -> str:
    return name.strip("[]").lower().removesuffix(".")


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
