"""The commands that serve."""

from enum import StrEnum


class Role(StrEnum):
    """A command that serves."""

    SERVE = "serve"  # everything, on one machine
    GATEWAY = "gateway"
    CONSOLE = "console"
    LEDGER = "ledger"

    @property
    def has_workers(self) -> bool:
        """Return whether it serves requests of clients."""
        return self in {Role.SERVE, Role.GATEWAY}

    @property
    def keeps_ledger(self) -> bool:
        """Return whether it stores the limiter's events and notices, and sends webhooks."""
        return self in {Role.SERVE, Role.LEDGER}

    @property
    def has_api(self) -> bool:
        """Return whether its console's port has the usage API and the admin API."""
        return self in {Role.SERVE, Role.CONSOLE}

    @property
    def shares_stores(self) -> bool:
        """Return whether it needs the other roles: then the stores must be set, and none is made here."""
        return self is not Role.SERVE

    @property
    def console_name(self) -> str:
        """The name of the process behind the console's port, in logs."""
        match self:
            case Role.SERVE | Role.CONSOLE:
                return "console"
            case Role.GATEWAY:
                return "status"
            case Role.LEDGER:
                return "ledger"
