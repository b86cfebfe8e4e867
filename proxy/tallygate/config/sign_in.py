"""sign_in.yaml: the OpenID provider at which people sign in to the console, and what its claims let them see."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

import yaml

from tallygate.config.authentication import read_algorithms
from tallygate.config.client_policy import ORG_IDS_MAX, claim_name, read_words
from tallygate.config.secret_file import read_secret
from tallygate.config.section import EMPTY, Section, is_identifier
from tallygate.config.urls import deciding_url

AS_CLAIMED: Final = "as_claimed"
VALUES_MAX: Final = 1_000  # of a claim that are looked at, and of organizations that somebody sees
NAME_CHARS_MAX: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIdProvider:
    """One provider (OpenID Connect Core 1.0), and what its users see here.

    name               on the page's button
    issuer             compared exactly; its configuration lies below it
    client_secret      "" for a public client, which proves itself by PKCE alone
    name_claim         what people are called here, if it is text; else they are called by their `sub`
    organizations      ids here, by a value of the organizations' claim; None: its values are the ids
    all_organizations  values of that claim with which one sees all organizations
    access_claim       whose values `write` names; with one of them one may change things, else read
    session_ms         the longest time that somebody stays signed in
    """

    name: str
    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    algorithms: tuple[str, ...] = ("RS256",)
    leeway_ms: int = 30_000
    session_ms: int = 12 * 3_600_000
    name_claim: str = "email"
    organizations_claim: str
    organizations: Mapping[str, tuple[str, ...]] | None = None
    all_organizations: frozenset[str] = frozenset()
    access_claim: str
    write: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> str:
        """Differs between providers that differ in anything but a secret: sessions end when it changes."""
        stated = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in {"client_secret", "name"}}
        stated |= {name: sorted(value) for name, value in stated.items() if isinstance(value, frozenset)}
        stated |= {"organizations": None if self.organizations is None else sorted(self.organizations.items())}
        return hashlib.sha256(repr(sorted(stated.items())).encode()).hexdigest()

    def sees(self, claims: Mapping[str, object]) -> tuple[str, ...] | None:
        """Ids of the organizations that somebody with these claims may see, which need not exist; None for all."""
        values = _values(claims, self.organizations_claim)
        if not self.all_organizations.isdisjoint(values):
            return None
        if self.organizations is None:
            named = [value for value in values if is_identifier(value)]
        else:
            named = [org for value in values for org in self.organizations.get(value, ())]
        return tuple(dict.fromkeys(named))[:VALUES_MAX]

    def may_write(self, claims: Mapping[str, object]) -> bool:
        return not self.write.isdisjoint(_values(claims, self.access_claim))


def read_sign_in(document: Section, *, environ: Mapping[str, str] | None) -> OpenIdProvider | None:
    """Parse the mapping `openid`. environ: None in processes at which nobody signs in: the secret is then not read."""
    document.require("openid")
    section = document.section("openid")
    document.close()
    if section is None:
        return None
    provider = _read_provider(section, environ)
    section.close(also=("client_secret_env", "client_secret_file"))
    return provider


def _read_provider(item: Section, environ: Mapping[str, str] | None) -> OpenIdProvider:
    item.require("issuer", "client_id", "organizations_claim", "organizations")
    issuer = item.text("issuer", chars_max=1024)
    item.parsed("issuer", deciding_url)
    scopes = read_words(item, "scopes") or ("openid", "profile", "email")
    if "openid" not in scopes:
        item.place_of("scopes").problem("must hold openid: without it no provider says who somebody is")
    organizations_claim = item.parsed("organizations_claim", claim_name) or ""
    has_secret = "client_secret_env" in item or "client_secret_file" in item
    return OpenIdProvider(
        name=item.text("name", "your organization's account", chars_max=NAME_CHARS_MAX),
        issuer=issuer,
        client_id=item.text("client_id", chars_max=1024),
        client_secret=read_secret(item, "client_secret", environ) if has_secret else "",
        scopes=scopes,
        algorithms=read_algorithms(item) or ("RS256",),
        leeway_ms=item.duration_ms("leeway", 30_000, maximum=300_000),
        session_ms=item.duration_ms("session", 12 * 3_600_000, minimum=300_000, maximum=7 * 86_400_000),
        name_claim=item.parsed("name_claim", claim_name) or "email",
        organizations_claim=organizations_claim,
        organizations=_read_organizations(item),
        all_organizations=frozenset(read_words(item, "all_organizations")),
        access_claim=item.parsed("access_claim", claim_name) or organizations_claim,
        write=frozenset(read_words(item, "write")),
    )


def _read_organizations(item: Section) -> Mapping[str, tuple[str, ...]] | None:
    if isinstance(item.node_of("organizations"), yaml.ScalarNode):
        item.choice("organizations", (AS_CLAIMED,))
        return None
    section = item.section("organizations")
    if section is None:
        return {}
    if not 0 < len(section.keys()) <= ORG_IDS_MAX:
        section.place.problem(EMPTY if not section.keys() else f"must have at most {ORG_IDS_MAX} entries")
        return {}
    found = {}
    for value in section.keys():  # noqa: SIM118 - a section is not its keys
        if isinstance(section.node_of(value), yaml.ScalarNode):
            found[value] = tuple(org for org in (section.identifier(value),) if org)
            continue
        found[value] = tuple(org for _, org in section.scalars(value, may_be_empty=False) or () if is_identifier(org))
        if len(found[value]) < len(section.scalars(value) or ()):
            section.place_of(value).problem("must be ids of organizations: 1 to 64 of A-Z a-z 0-9 . _ -")
    return found


def _values(claims: Mapping[str, object], name: str) -> tuple[str, ...]:
    """The texts of a claim: itself, or those in its list. A name with dots may lead into mappings (realm_access.roles)."""
    found: object = claims.get(name)
    if found is None and "." in name:
        found = claims
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return (found,)
    return tuple(value for value in found[:VALUES_MAX] if isinstance(value, str)) if isinstance(found, list) else ()
