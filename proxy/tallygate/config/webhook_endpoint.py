"""One receiver of webhooks, from webhooks.yaml."""

import hashlib
from dataclasses import dataclass, field
from typing import Final

NOTICE_TYPES: Final = ("spend.warning", "spend.paused", "spend.resumed")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpoint:
    """One receiver.

    keys            signing keys: the current secret, then the one that is being rotated out
    organizations   ids; None: all
    events          types of notices
    ca_pem          authorities for the receiver's certificate, in PEM; "": those that the system trusts
    """

    name: str
    url: str
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    organizations: frozenset[str] | None = None
    events: frozenset[str] = frozenset(NOTICE_TYPES)
    is_enabled: bool = True
    ca_pem: str = field(default="", repr=False)

    def wants(self, notice_type: str, org: str) -> bool:
        return self.is_enabled and notice_type in self.events and (self.organizations is None or org in self.organizations)

    @property
    def shown_url(self) -> str:
        """The URL without its query, which some receivers use for a secret."""
        return self.url.partition("?")[0]

    @property
    def fingerprint(self) -> str:
        """A digest that changes with the endpoint's configuration, and reveals nothing about the keys."""
        organizations = None if self.organizations is None else sorted(self.organizations)
        described = repr((self.name, self.url, self.keys, organizations, sorted(self.events), self.is_enabled, self.ca_pem))
        return hashlib.sha256(described.encode()).hexdigest()
