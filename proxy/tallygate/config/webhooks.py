"""webhooks.yaml: receivers of notices of spend limits and of weekly digests.

It names signing secrets (a variable or a file), never contains them. A chat service accepts whatever is posted to its URL, so that
URL is a secret too.
"""

import base64
import binascii
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml

from tallygate.config.declared import read_field
from tallygate.config.kinds import Identifier, Words, declare
from tallygate.config.secret_file import CHARS_OF_A_PATH_MAX, SECRET_BYTES_MAX, read_secret
from tallygate.config.section import ID, Section, identifier, show
from tallygate.config.urls import is_loopback
from tallygate.config.webhook_endpoint import NOTICE_TYPES, SPEND_NOTICES, WebhookEndpoint, WebhookFormat
from tallygate.config.webhook_mail import read_mail
from tallygate.domain.declared import Choice, Flag, Text

ENDPOINTS_MAX: Final = 64
KEY_BYTES: Final = range(24, 65)  # Standard Webhooks, "Signature scheme": between 24 and 64 bytes
_PREFIX: Final = "whsec_"
URL_CHARS_MAX: Final = 2_048


def _notice_type(text: str) -> str:
    if text not in NOTICE_TYPES:
        raise ValueError(f"must be one of {', '.join(NOTICE_TYPES)}, got {show(text)}")
    return text


URL: Final = r"^https?://[^\s/@#\\]+(?:[/?][^\s#\\]*)?$"  # the pattern of every address
NAME: Final = declare("name", Identifier("Of the receiver, in logs and metrics."), is_required=True)
FORMAT: Final = declare(
    "format",
    Choice(
        "What it is sent: signed JSON for programs, a sentence for people in a chat, or an e-mail.",
        words={kind.value: kind for kind in WebhookFormat},
    ),
    WebhookFormat.STANDARD,
)
EVENTS: Final = declare(
    "events",
    Words(
        "Types of notices; else those of spend limits.",
        parse=_notice_type,
        items_max=len(NOTICE_TYPES),
        empty="must name at least one type of notice, or be left out for those of spend limits",
        options=NOTICE_TYPES,
    ),
    SPEND_NOTICES,
)
ENABLED: Final = declare("enabled", Flag("Send to it."), default=True)
ALLOW_HTTP: Final = declare(
    "allow_http", Flag("Send over plain http to another machine, where anybody on the way reads it."), default=False
)
CA_FILE: Final = declare("ca_file", Text("A PEM file of authorities for its certificate.", CHARS_OF_A_PATH_MAX))
ORGANIZATIONS: Final = declare(
    "organizations",
    Words(
        "Ids of the organizations that it is told about.",
        parse=identifier,
        items_max=10_000,
        empty="must name at least one organization, or be `all`",
        pattern=f"^{ID.pattern}$",
    ),
    (),
)
ALL_ORGANIZATIONS: Final = declare("organizations", Choice("Every organization.", words={"all": None}), None)


def read_webhooks(document: Section, *, environ: Mapping[str, str], reads_secrets: bool) -> tuple[WebhookEndpoint, ...]:
    """Parse the list `webhooks`. reads_secrets False, for processes that send nothing: endpoints then have no keys."""
    document.require("webhooks")
    found: list[WebhookEndpoint] = []
    for item in document.sections("webhooks", items_max=ENDPOINTS_MAX):
        endpoint = _read_endpoint(item, environ=environ, reads_secrets=reads_secrets)
        if any(endpoint.name == other.name for other in found):
            item.place_of("name").problem(f"{show(endpoint.name)} is already described above")
        item.close(also=("old_secret_env", "old_secret_file") if endpoint.format is WebhookFormat.STANDARD else ())
        found.append(endpoint)
    document.close()
    return tuple(found)


def _read_endpoint(item: Section, *, environ: Mapping[str, str], reads_secrets: bool) -> WebhookEndpoint:
    name = read_field(item, NAME) or ""
    kind: WebhookFormat = read_field(item, FORMAT)
    needed = environ if reads_secrets else None
    is_standard = kind is WebhookFormat.STANDARD
    return WebhookEndpoint(
        name=name,
        format=kind,
        url="" if kind is WebhookFormat.EMAIL else _read_url(item, kind, needed),
        mail=read_mail(item, needed) if kind is WebhookFormat.EMAIL else None,
        keys=_read_keys(item, environ, reads_secrets=reads_secrets) if is_standard else (),
        organizations=_read_organizations(item),
        events=frozenset(read_field(item, EVENTS)),
        is_enabled=read_field(item, ENABLED),
        ca_pem=_read_ca(item),
    )


def _read_url(item: Section, kind: WebhookFormat, environ: Mapping[str, str] | None) -> str:
    """The URL; of a chat service also from a variable or a file. environ: None in processes that send nothing."""
    allows_http = read_field(item, ALLOW_HTTP)
    if not kind.is_chat or "url" in item:
        item.require("url")
        return item.parsed("url", lambda text: _webhook_url(text, allows_http=allows_http)) or ""
    text = read_secret(item, "url", environ)
    if not text:
        return ""  # reported, or not needed
    try:
        return _webhook_url(text, allows_http=allows_http)
    except ValueError:  # its message may quote what is secret here
        given = "url_env" if "url_env" in item else "url_file"
        item.place_of(given).problem("names a text that is no https URL such as https://hooks.example.com/services/...")
        return ""


def _read_keys(item: Section, environ: Mapping[str, str], *, reads_secrets: bool) -> tuple[bytes, ...]:
    keys = []
    for name in ("secret", "old_secret"):
        is_given = f"{name}_env" in item or f"{name}_file" in item
        if name == "old_secret" and not is_given:
            continue
        if not reads_secrets and is_given:
            item.text(f"{name}_env")
            item.text(f"{name}_file", chars_max=CHARS_OF_A_PATH_MAX)
            continue
        secret = read_secret(item, name, environ)
        if not secret:
            continue  # reported already
        try:
            keys.append(signing_key(secret))
        except ValueError as error:
            given = f"{name}_env" if f"{name}_env" in item else f"{name}_file"
            item.place_of(given).problem(f"names a secret that {error}")
    return tuple(keys)


def signing_key(secret: str) -> bytes:
    """Decode a "whsec_..." secret. Raises ValueError, which never quotes it."""
    if not secret.startswith(_PREFIX):
        raise ValueError(f"does not begin with {_PREFIX}")
    encoded = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"is not {_PREFIX} and base64") from None
    if len(key) not in KEY_BYTES:
        raise ValueError(f"holds {len(key)} bytes: {KEY_BYTES[0]} to {KEY_BYTES[-1]} are needed")
    return key


def _read_organizations(item: Section) -> frozenset[str] | None:
    if isinstance(item.node_of("organizations"), yaml.ScalarNode):
        read_field(item, ALL_ORGANIZATIONS)
        return None
    return frozenset(read_field(item, ORGANIZATIONS)) if item.has("organizations") else None


def _read_ca(item: Section) -> str:
    path = read_field(item, CA_FILE)
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            pem = file.read(16 * SECRET_BYTES_MAX).decode("ascii")
        ssl.create_default_context(cadata=pem)
    except OSError as error:  # ssl.SSLError is one too
        item.place_of("ca_file").problem(f"names the file {path!r}, which holds no certificates: {error.strerror or error}")
        return ""
    except ValueError:
        item.place_of("ca_file").problem(f"names the file {path!r}, which is not in PEM")
        return ""
    return pem


def _webhook_url(text: str, *, allows_http: bool) -> str:
    """The URL to send to, with its query and final slash. Raises ValueError, which never quotes a password."""
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("must be a URL such as https://hooks.example.com/tallygate") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password: messages are signed with the secret")
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise ValueError(f"must be a URL such as https://hooks.example.com/tallygate, got {show(text)}")
    if len(text) > URL_CHARS_MAX or not text.isascii() or not text.isprintable() or {" ", "#", "\\"} & set(text):
        raise ValueError(f"must be at most {URL_CHARS_MAX} characters, without blanks, backslashes and a fragment")
    if parts.scheme != "https" and not allows_http and not is_loopback(parts.hostname):
        raise ValueError("must be an https URL: over http anybody on the way reads the spend (`allow_http: true` to accept that)")
    return text
