"""webhooks.yaml: receivers of notices about spend limits. It names signing secrets (a variable or a file), never contains them.

A chat service accepts whatever is posted to its URL, so that URL is a secret too.
"""

import base64
import binascii
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml

from tallygate.config.secret_file import SECRET_BYTES_MAX, read_secret
from tallygate.config.section import Section, is_identifier, show
from tallygate.config.urls import is_loopback
from tallygate.config.webhook_endpoint import NOTICE_TYPES, WebhookEndpoint, WebhookFormat
from tallygate.config.webhook_mail import read_mail

ENDPOINTS_MAX: Final = 64
KEY_BYTES: Final = range(24, 65)  # Standard Webhooks, "Signature scheme": between 24 and 64 bytes
_PREFIX: Final = "whsec_"
_URL_CHARS_MAX: Final = 2_048


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
    item.require("name")
    name = item.identifier("name") or ""
    kind = WebhookFormat(item.choice("format", [kind.value for kind in WebhookFormat], WebhookFormat.STANDARD.value))
    needed = environ if reads_secrets else None
    is_standard = kind is WebhookFormat.STANDARD
    return WebhookEndpoint(
        name=name,
        format=kind,
        url="" if kind is WebhookFormat.EMAIL else _read_url(item, kind, needed),
        mail=read_mail(item, needed) if kind is WebhookFormat.EMAIL else None,
        keys=_read_keys(item, environ, reads_secrets=reads_secrets) if is_standard else (),
        organizations=_read_organizations(item),
        events=_read_events(item),
        is_enabled=item.boolean("enabled", default=True),
        ca_pem=_read_ca(item),
    )


def _read_url(item: Section, kind: WebhookFormat, environ: Mapping[str, str] | None) -> str:
    """The URL; of a chat service also from a variable or a file. environ: None in processes that send nothing."""
    allows_http = item.boolean("allow_http", default=False)
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


def _read_events(item: Section) -> frozenset[str]:
    events = item.scalars("events", items_max=len(NOTICE_TYPES))
    for place, word in events or ():
        if word not in NOTICE_TYPES:
            place.problem(f"must be one of {', '.join(NOTICE_TYPES)}, got {show(word)}")
    if events == []:
        item.place_of("events").problem("must name at least one type of notice, or be left out for all")
    return frozenset(NOTICE_TYPES) if events is None else frozenset(word for _, word in events)


def _read_keys(item: Section, environ: Mapping[str, str], *, reads_secrets: bool) -> tuple[bytes, ...]:
    keys = []
    for name in ("secret", "old_secret"):
        is_given = f"{name}_env" in item or f"{name}_file" in item
        if name == "old_secret" and not is_given:
            continue
        if not reads_secrets and is_given:
            item.text(f"{name}_env")
            item.text(f"{name}_file", chars_max=4096)
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
        item.choice("organizations", ("all",))
        return None
    words = item.scalars("organizations", items_max=10_000)
    for place, word in words or ():
        if not is_identifier(word):
            place.problem(f"must be 1 to 64 of A-Z a-z 0-9 . _ -, got {show(word)}")
    if words == [] and item.node_of("organizations") is not None:
        item.place_of("organizations").problem("must name at least one organization, or be `all`")
    return None if words is None else frozenset(word for _, word in words)


def _read_ca(item: Section) -> str:
    path = item.text("ca_file", chars_max=4096)
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
    if len(text) > _URL_CHARS_MAX or not text.isascii() or not text.isprintable() or {" ", "#", "\\"} & set(text):
        raise ValueError(f"must be at most {_URL_CHARS_MAX} characters, without blanks, backslashes and a fragment")
    if parts.scheme != "https" and not allows_http and not is_loopback(parts.hostname):
        raise ValueError("must be an https URL: over http anybody on the way reads the spend (`allow_http: true` to accept that)")
    return text
