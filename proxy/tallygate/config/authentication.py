"""authentication.yaml: issuers of signed tokens (JWTs) and the key look-up service that identify callers, beside credentials."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from tallygate.config.client_policy import read_client_policy, report_shared_client_ids
from tallygate.config.declared import read_declared, read_field
from tallygate.config.jwt_issuer import ISSUER_FIELDS, ClaimValue, JwtIssuer
from tallygate.config.key_lookup import KeyLookup, read_key_lookup
from tallygate.config.key_set import KEY_SET_BYTES_MAX, read_key_set
from tallygate.config.kinds import Parsed, declare
from tallygate.config.secret_file import CHARS_OF_A_PATH_MAX
from tallygate.config.section import EMPTY, Section, show
from tallygate.config.urls import DECIDING_URL, deciding_url
from tallygate.domain.declared import Text

ISSUERS_MAX: Final = 16
JWKS_URL: Final = declare(
    "jwks_url",
    Parsed(
        "The https URL of its public keys.",
        parse=deciding_url,
        pattern=DECIDING_URL,
        example="https://login.example.com/.well-known/jwks.json",
    ),
)
JWKS_FILE: Final = declare("jwks_file", Text("A file with its public keys, in place of jwks_url.", CHARS_OF_A_PATH_MAX))
CLAIM_NUMBER_MAX: Final = 2**53 - 1  # every JSON parser reads numbers up to it exactly (RFC 8259, section 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """The sources that identify callers besides the keys of credentials."""

    jwt_issuers: tuple[JwtIssuer, ...] = ()
    key_lookup: KeyLookup | None = None


def read_authentication(document: Section, *, environ: Mapping[str, str] | None) -> Authentication:
    """Parse the list `jwt_issuers` and the mapping `key_lookup`, at least one of which is required.

    environ   None in processes that forward nothing: secrets are then not read
    """
    if "key_lookup" not in document:
        document.require("jwt_issuers")
    issuers: list[JwtIssuer] = []
    for item in document.sections("jwt_issuers", items_max=ISSUERS_MAX):
        issuer = _read_issuer(item)
        if any(issuer.issuer == other.issuer for other in issuers):
            item.place_of("issuer").problem(f"{show(issuer.issuer)} is already described above")
        else:
            report_shared_client_ids(item, "issuer", issuer.clients, [other.clients for other in issuers])
        item.close()
        issuers.append(issuer)
    key_lookup = None
    section = document.section("key_lookup")
    if section is not None:
        key_lookup = read_key_lookup(section, environ)
        report_shared_client_ids(section, "url", key_lookup.clients, [issuer.clients for issuer in issuers])
        section.close(also=("secret_env", "secret_file"))
    document.close()
    return Authentication(jwt_issuers=tuple(issuers), key_lookup=key_lookup)


def _read_issuer(item: Section) -> JwtIssuer:
    values = read_declared(item, ISSUER_FIELDS)
    issuer = values.pop("issuer") or ""
    url, key_set = _read_keys(item, values["algorithms"])
    return JwtIssuer(
        issuer=issuer,
        jwks_url=url,
        key_set=key_set,
        required_claims=_read_required_claims(item),
        clients=read_client_policy(item, source=issuer),
        **values,
    )


def _read_keys(item: Section, algorithms: tuple[str, ...]) -> tuple[str, bytes]:
    url, file = read_field(item, JWKS_URL), read_field(item, JWKS_FILE)
    if ("jwks_url" in item) == ("jwks_file" in item):
        item.place.problem("must have exactly one of jwks_url and jwks_file (a path)")
    if not file:
        return url, b""
    try:
        with Path(file).open("rb") as opened:
            body = opened.read(KEY_SET_BYTES_MAX + 1)
        read_key_set(body, algorithms)
    except OSError as error:
        item.place_of("jwks_file").problem(f"cannot be read: {error.strerror}")
        return "", b""
    except ValueError as error:
        item.place_of("jwks_file").problem(str(error))
        return "", b""
    return "", body


def _read_required_claims(item: Section) -> tuple[tuple[str, ClaimValue], ...]:
    section = item.section("required_claims")
    if section is None:
        return ()
    if not section.keys():
        section.place.problem(EMPTY)
    return tuple((name, _claim_value(section, name)) for name in section.keys())  # noqa: SIM118 - a section is not its keys


def _claim_value(section: Section, name: str) -> ClaimValue:
    """A value that a token's claim must equal exactly, of a JSON type with a single notation."""
    node = section.node_of(name)
    match node.tag.rpartition(":")[2] if isinstance(node, yaml.ScalarNode) else "":
        case "bool":
            return section.boolean(name, default=False)
        case "int":
            return section.integer(name, minimum=-CLAIM_NUMBER_MAX, maximum=CLAIM_NUMBER_MAX)
        case _:
            return section.text(name)
