"""`key_lookup` of authentication.yaml: a service that identifies the owners of keys that no credential here has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final

from tallygate.config.client_policy import ClientPolicy, read_client_policy
from tallygate.config.declared import read_declared
from tallygate.config.kinds import Parsed
from tallygate.config.secret_file import read_secret
from tallygate.config.section import Section
from tallygate.config.urls import DECIDING_URL, deciding_url
from tallygate.domain.declared import Choice, Duration, declared_fields


class Sends(StrEnum):
    """The form in which a key is sent to the service."""

    DIGEST = "key_sha256"
    KEY = "key"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLookup:
    """A token introspection endpoint (RFC 7662). Times in milliseconds.

    secret        "" for none
    clients       the organizations that it may reach, and how its clients are identified
    """

    url: Annotated[
        str,
        Parsed(
            "A token introspection endpoint (RFC 7662), over https unless it is on this machine.",
            parse=deciding_url,
            pattern=DECIDING_URL,
            example="https://keys.example.com/introspect",
        ),
    ]
    sends: Annotated[
        Sends,
        Choice(
            "Send the key's SHA-256 digest, or the key itself, to a service that knows no digests.",
            words={sends.value: sends for sends in Sends},
        ),
    ] = Sends.DIGEST
    secret: str = field(default="", repr=False)
    timeout_ms: Annotated[int, Duration("How long an answer is waited for.", 100, 30_000, key="timeout")] = 2_000
    ttl_ms: Annotated[int, Duration("How long a positive answer is valid.", 1_000, 300_000, key="cache_ttl")] = 30_000
    refused_ttl_ms: Annotated[int, Duration("How long a negative answer is valid.", 1_000, 60_000, key="refused_ttl")] = 5_000
    clients: ClientPolicy = field(default_factory=ClientPolicy)


LOOKUP_FIELDS: Final = declared_fields(KeyLookup)


def read_key_lookup(item: Section, environ: Mapping[str, str] | None) -> KeyLookup:
    """Parse `key_lookup`. environ: None in processes that forward nothing: the secret is then not read, and may be missing."""
    values = read_declared(item, LOOKUP_FIELDS)
    url = values.pop("url") or ""
    has_secret = "secret_env" in item or "secret_file" in item
    secret = read_secret(item, "secret", environ) if has_secret else ""
    return KeyLookup(url=url, secret=secret, clients=read_client_policy(item, source=url), **values)
