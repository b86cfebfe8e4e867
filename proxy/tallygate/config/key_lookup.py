"""`key_lookup` of authentication.yaml: a service that identifies the owners of keys that no credential here has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tallygate.config.client_policy import ClientPolicy, read_client_policy
from tallygate.config.secret_file import read_secret
from tallygate.config.section import Section
from tallygate.config.urls import deciding_url


class Sends(StrEnum):
    """The form in which a key is sent to the service."""

    DIGEST = "key_sha256"
    KEY = "key"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLookup:
    """A token introspection endpoint (RFC 7662). Times in milliseconds.

    secret        the gateway's bearer token there; "" for none
    ttl_ms        how long a positive answer is valid; refused_ttl_ms: a negative one
    clients       the organizations that it may reach, and how its clients are identified
    """

    url: str
    sends: Sends = Sends.DIGEST
    secret: str = field(default="", repr=False)
    timeout_ms: int = 2_000
    ttl_ms: int = 30_000
    refused_ttl_ms: int = 5_000
    clients: ClientPolicy = field(default_factory=ClientPolicy)


def read_key_lookup(item: Section, environ: Mapping[str, str] | None) -> KeyLookup:
    """Parse `key_lookup`. environ: None in processes that forward nothing: the secret is then not read, and may be missing."""
    item.require("url")
    plain = KeyLookup(url="")
    url = item.parsed("url", deciding_url) or ""
    has_secret = "secret_env" in item or "secret_file" in item
    return KeyLookup(
        url=url,
        sends=Sends(item.choice("sends", [sends.value for sends in Sends], plain.sends)),
        secret=read_secret(item, "secret", environ) if has_secret else "",
        timeout_ms=item.duration_ms("timeout", plain.timeout_ms, minimum=100, maximum=30_000),
        ttl_ms=item.duration_ms("cache_ttl", plain.ttl_ms, minimum=1_000, maximum=300_000),
        refused_ttl_ms=item.duration_ms("refused_ttl", plain.refused_ttl_ms, minimum=1_000, maximum=60_000),
        clients=read_client_policy(item, source=url),
    )
