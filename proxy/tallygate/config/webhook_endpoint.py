"""One receiver of notices, from webhooks.yaml."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

SPEND_NOTICES: Final = ("spend.warning", "spend.paused", "spend.resumed")
DIGEST: Final = "usage.digest"  # of a week, for each organization: sent to those alone who name it, since it is no cause to act
NOTICE_TYPES: Final = (*SPEND_NOTICES, DIGEST)


class WebhookFormat(StrEnum):
    """What a receiver is sent."""

    STANDARD = "standard"  # signed JSON for programs, as Standard Webhooks describes
    SLACK = "slack"  # a sentence for people, as each service's incoming webhooks accept it
    TEAMS = "teams"
    DISCORD = "discord"
    EMAIL = "email"

    @property
    def is_chat(self) -> bool:
        """Whether the URL itself is the secret: chat services accept whatever is posted to it."""
        return self in {WebhookFormat.SLACK, WebhookFormat.TEAMS, WebhookFormat.DISCORD}


class MailSecurity(StrEnum):
    """How the connection to a mail server is encrypted."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """An SMTP server that accepts mail. user, password: "" where it asks for none."""

    host: str
    port: int
    security: MailSecurity
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MailAddresses:
    """sender and recipients: bare addresses."""

    server: MailServer
    sender: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpoint:
    """One receiver.

    url             "" for e-mail, and where a process that sends nothing did not read it from its variable or file
    keys            signing keys: the current secret, then the one that is being rotated out
    organizations   ids; None: all
    events          types of notices
    ca_pem          authorities for the receiver's certificate, in PEM; "": those that the system trusts
    mail            for e-mail
    """

    name: str
    url: str = field(default="", repr=False)
    format: WebhookFormat = WebhookFormat.STANDARD
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    organizations: frozenset[str] | None = None
    events: frozenset[str] = frozenset(SPEND_NOTICES)
    is_enabled: bool = True
    ca_pem: str = field(default="", repr=False)
    mail: MailAddresses | None = None

    def wants(self, notice_type: str, org: str) -> bool:
        return self.is_enabled and notice_type in self.events and (self.organizations is None or org in self.organizations)

    @property
    def shown_url(self) -> str:
        """Where messages go, without what may be secret: a query, and the path of a chat service's URL."""
        if self.mail is not None:
            return f"mailto:{','.join(self.mail.recipients)}"
        if not self.format.is_chat:
            return self.url.partition("?")[0]
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}/…" if self.url else f"{self.format}: not read by this process"

    @property
    def fingerprint(self) -> str:
        """A digest that changes with the endpoint's configuration, and reveals nothing about its secrets."""
        organizations = None if self.organizations is None else sorted(self.organizations)
        password = "" if self.mail is None else self.mail.server.password
        described = (
            *(self.name, self.format.value, self.url, self.keys, organizations, sorted(self.events)),
            *(self.is_enabled, self.ca_pem, self.mail, password),
        )
        return hashlib.sha256(repr(described).encode()).hexdigest()
