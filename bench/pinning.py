"""Which core does what: what is measured has one to itself, the load and the upstream share another."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinning:
    """None: the machine has one core only, or cannot pin."""

    load_core: int | None
    proxy_core: int | None

    def pin_load(self) -> None:
        if self.load_core is not None:
            os.sched_setaffinity(0, {self.load_core})

    def pin_proxy(self) -> None:
        if self.proxy_core is not None:
            os.sched_setaffinity(0, {self.proxy_core})

    def pin_to_proxy(self, pid: int) -> None:
        """Pin a process that runs already."""
        if self.proxy_core is not None:
            os.sched_setaffinity(pid, {self.proxy_core})

    def describe(self) -> str:
        if self.proxy_core is None:
            return "not pinned: one core for everything"
        return f"proxy and its store on core {self.proxy_core}, load and upstream on core {self.load_core}"


def pinning() -> Pinning:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        return Pinning(load_core=None, proxy_core=None)
    return Pinning(load_core=cores[0], proxy_core=cores[1])
