"""authentication.yaml: issuers of signed tokens (JWTs) and the key look-up service that identify callers, beside credentials."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from tallygate.config.client_policy import read_client_policy, read_words, report_shared_client_ids
from tallygate.config.jwt_issuer import ClaimValue, JwtIssuer
from tallygate.config.key_lookup import KeyLookup, read_key_lookup
from tallygate.config.key_set import ALGORITHMS, KEY_SET_BYTES_MAX, read_key_set
from tallygate.config.problems import nearest
from tallygate.config.section import EMPTY, Section, show
from tallygate.config.urls import deciding_url

ISSUERS_MAX: Final = 16
_CLAIM_NUMBER_MAX: Final = 2**53 - 1  # every JSON parser reads numbers up to it exactly (RFC 8259, section 6)


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
    plain = JwtIssuer(issuer="")
    item.require("issuer")
    algorithms = read_algorithms(item) or plain.algorithms
    url, key_set = _read_keys(item, algorithms)
    issuer = item.text("issuer", chars_max=1024)
    return JwtIssuer(
        issuer=issuer,
        jwks_url=url,
        key_set=key_set,
        jwks_ttl_ms=item.duration_ms("jwks_ttl", plain.jwks_ttl_ms, minimum=60_000, maximum=86_400_000),
        algorithms=algorithms,
        leeway_ms=item.duration_ms("leeway", plain.leeway_ms, maximum=300_000),
        audiences=read_words(item, "audiences"),
        required_claims=_read_required_claims(item),
        scopes=read_words(item, "scopes"),
        clients=read_client_policy(item, source=issuer),
    )


def read_algorithms(item: Section) -> tuple[str, ...]:
    """Parse `algorithms` of signatures; () if it is left out."""
    found = []
    for place, name in item.scalars("algorithms", items_max=len(ALGORITHMS), may_be_empty=False) or []:
        if name in ALGORITHMS:
            found.append(name)
        elif name.lower() == "none" or name.startswith("HS"):
            place.problem(f"{show(name)} would let anyone sign; use a public-key algorithm: {', '.join(ALGORITHMS)}")
        else:
            place.problem(f"{show(name)} is not a signature algorithm{nearest(name, ALGORITHMS)}")
    return tuple(found)


def _read_keys(item: Section, algorithms: tuple[str, ...]) -> tuple[str, bytes]:
    url, file = item.parsed("jwks_url", deciding_url) or "", item.text("jwks_file", chars_max=4096)
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
            return section.integer(name, minimum=-_CLAIM_NUMBER_MAX, maximum=_CLAIM_NUMBER_MAX)
        case _:
            return section.text(name)
