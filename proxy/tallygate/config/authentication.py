"""authentication.yaml: whose signed tokens (JWTs) identify callers, beside the keys of credentials."""

import ipaddress
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml

from tallygate.config.jwt_issuer import ClaimValue, JwtIssuer, UnknownClients
from tallygate.config.key_set import ALGORITHMS, KEY_SET_BYTES_MAX, read_key_set
from tallygate.config.problems import nearest
from tallygate.config.section import EMPTY, Section, is_identifier, show
from tallygate.config.upstreams import http_url

ISSUERS_MAX: Final = 16
_CLAIM_NUMBER_MAX: Final = 2**53 - 1  # what every JSON reader reads exactly (RFC 8259, section 6)
_CLAIM: Final = re.compile(r"[A-Za-z0-9_:/.-]{1,128}", re.ASCII)


def read_jwt_issuers(document: Section) -> tuple[JwtIssuer, ...]:
    """The list `jwt_issuers`."""
    document.require("jwt_issuers")
    found: list[JwtIssuer] = []
    for item in document.sections("jwt_issuers", items_max=ISSUERS_MAX):
        issuer = _read_issuer(item)
        if any(issuer.issuer == other.issuer for other in found):
            item.place_of("issuer").problem(f"{show(issuer.issuer)} is already described above")
        else:
            _report_shared_client_ids(item, issuer, found)
        item.close()
        found.append(issuer)
    document.close()
    return tuple(found)


def _report_shared_client_ids(item: Section, issuer: JwtIssuer, others: list[JwtIssuer]) -> None:
    """Issuers name their clients without regard to each other, so a client of one could pass for another's of the same name."""
    for other in others:
        if issuer.meets(other) and not (issuer.shares_client_ids and other.shares_client_ids):
            item.place_of("issuer").problem(
                f"may speak for the same organizations as {show(other.issuer)}, so a client of the one could pass for the other's: "
                "bind each by `organizations`, or say `shares_client_ids: true` for both if one authority gives their Client IDs"
            )
            return


def _read_issuer(item: Section) -> JwtIssuer:
    plain = JwtIssuer(issuer="")
    item.require("issuer")
    algorithms = _read_algorithms(item) or plain.algorithms
    url, key_set = _read_keys(item, algorithms)
    org_claim = item.parsed("org_claim", _claim_name) or ""
    unknown_clients, unknown_clients_org = _read_unknown_clients(item, org_claim)
    organizations = frozenset(_read_words(item, "organizations"))
    if unknown_clients is UnknownClients.ORGANIZATION and organizations - {unknown_clients_org}:
        item.place_of("organizations").problem(
            f"can name {show(unknown_clients_org)} alone, which unknown_clients binds this issuer to; or use claimed_organization"
        )
    return JwtIssuer(
        issuer=item.text("issuer", chars_max=1024),
        jwks_url=url,
        key_set=key_set,
        jwks_ttl_ms=item.duration_ms("jwks_ttl", plain.jwks_ttl_ms, minimum=60_000, maximum=86_400_000),
        algorithms=algorithms,
        leeway_ms=item.duration_ms("leeway", plain.leeway_ms, maximum=300_000),
        audiences=_read_words(item, "audiences"),
        required_claims=_read_required_claims(item),
        scopes=_read_words(item, "scopes"),
        client_claim=item.parsed("client_claim", _claim_name) or plain.client_claim,
        org_claim=org_claim,
        organizations=organizations,
        unknown_clients=unknown_clients,
        unknown_clients_org=unknown_clients_org,
        shares_client_ids=item.boolean("shares_client_ids", default=False),
    )


def _read_algorithms(item: Section) -> tuple[str, ...]:
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
    url, file = item.parsed("jwks_url", _jwks_url) or "", item.text("jwks_file", chars_max=4096)
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


def _read_unknown_clients(item: Section, org_claim: str) -> tuple[UnknownClients, str]:
    named = item.section("unknown_clients") if item.is_mapping("unknown_clients") else None
    if named is not None:
        named.require("organization")
        org = named.identifier("organization") or ""
        named.close()
        return UnknownClients.ORGANIZATION, org
    options = (UnknownClients.REFUSE.value, UnknownClients.CLAIMED_ORGANIZATION.value)
    policy = UnknownClients(item.choice("unknown_clients", options, UnknownClients.REFUSE))
    if policy is UnknownClients.CLAIMED_ORGANIZATION and not org_claim:
        item.place_of("unknown_clients").problem("needs org_claim, the claim that names the organization")
    return policy, ""


def _read_words(item: Section, key: str) -> tuple[str, ...]:
    found = []
    for place, word in item.scalars(key, items_max=1_000, may_be_empty=False) or []:
        if not word or len(word) > 256 or not word.isprintable():
            place.problem(f"must be 1 to 256 printable characters, got {show(word)}")
        elif key == "organizations" and not is_identifier(word):
            place.problem(f"must be 1 to 64 of A-Z a-z 0-9 . _ -, got {show(word)}")
        else:
            found.append(word)
    return tuple(found)


def _read_required_claims(item: Section) -> tuple[tuple[str, ClaimValue], ...]:
    section = item.section("required_claims")
    if section is None:
        return ()
    if not section.keys():
        section.place.problem(EMPTY)
    return tuple((name, _claim_value(section, name)) for name in section.keys())  # noqa: SIM118 - a section is not its keys


def _claim_value(section: Section, name: str) -> ClaimValue:
    """What a token must have to the letter: of JSON's kinds those that are written in one way only."""
    node = section.node_of(name)
    match node.tag.rpartition(":")[2] if isinstance(node, yaml.ScalarNode) else "":
        case "bool":
            return section.boolean(name, default=False)
        case "int":
            return section.integer(name, minimum=-_CLAIM_NUMBER_MAX, maximum=_CLAIM_NUMBER_MAX)
        case _:
            return section.text(name)


def _claim_name(text: str) -> str:
    if _CLAIM.fullmatch(text) is None:
        raise ValueError(f"must be the name of a claim, got {show(text)}")
    return text


def _jwks_url(text: str) -> str:
    """Whoever can change the answer can be any caller: over plain HTTP only from this machine."""
    url = http_url(text)
    parts = urlsplit(url)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must be an https URL, since whoever answers it decides who may call")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
