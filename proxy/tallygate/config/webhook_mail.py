"""E-mail as a receiver of notices: addresses, and the server that accepts the mail."""

import re
from collections.abc import Mapping
from typing import Final

from tallygate.config.secret_file import read_secret
from tallygate.config.section import Section, show
from tallygate.config.urls import is_loopback
from tallygate.config.webhook_endpoint import MailAddresses, MailSecurity, MailServer

RECIPIENTS_MAX: Final = 50
# RFC 6409: submission; RFC 8314: submission over TLS; RFC 5321: without encryption, for this machine.
_PORTS: Final = {MailSecurity.STARTTLS: 587, MailSecurity.TLS: 465, MailSecurity.NONE: 25}
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}|\[?[0-9A-Fa-f:.]{2,45}\]?", re.ASCII)
# The bare form of RFC 5322, 3.4.1, in ASCII, without quoted names: nothing that could end a header or begin another address.
_ADDRESS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,253}", re.ASCII)


def read_mail(item: Section, environ: Mapping[str, str] | None) -> MailAddresses | None:
    """Parse `from`, `to` and `smtp`; None with a problem. environ: None in processes that send nothing."""
    if not item.require("from", "to", "smtp"):
        return None
    sender = item.parsed("from", _address) or ""
    recipients = []
    for place, text in item.scalars("to", items_max=RECIPIENTS_MAX, may_be_empty=False) or ():
        try:
            recipients.append(_address(text))
        except ValueError as error:
            place.problem(str(error))
    section = item.section("smtp")
    if section is None:
        return None
    server = _read_server(section, environ)
    return None if server is None else MailAddresses(server=server, sender=sender, recipients=tuple(recipients))


def _read_server(section: Section, environ: Mapping[str, str] | None) -> MailServer | None:
    section.require("host")
    host = section.parsed("host", _host) or ""
    security = MailSecurity(section.choice("security", [kind.value for kind in MailSecurity], MailSecurity.STARTTLS.value))
    port = section.integer("port", _PORTS[security], minimum=1, maximum=65_535)
    user = section.text("user")
    password = read_secret(section, "password", environ) if user else ""
    section.close()
    if security is MailSecurity.NONE and not is_loopback(host):
        text = "must be starttls or tls, except on this machine: anybody on the way reads the spend"
        section.place_of("security").problem(text)
    return MailServer(host=host, port=port, security=security, user=user, password=password)


def _address(text: str) -> str:
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError(f"must be an e-mail address such as finance@example.com, got {show(text)}")
    return text


def _host(text: str) -> str:
    if _HOST.fullmatch(text) is None:
        raise ValueError(f"must be the name or address of a mail server, without a port, got {show(text)}")
    return text.strip("[]")
