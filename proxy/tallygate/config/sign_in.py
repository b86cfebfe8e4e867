"""sign_in.yaml: the OpenID provider at which people sign in to the console, and what its claims let them see."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

import yaml

from tallygate.config.client_policy import ORG_IDS_MAX, WORD, claim, word
from tallygate.config.declared import read_declared, read_field
from tallygate.config.jwt_issuer import ISSUER_CHARS_MAX, LEEWAY, SIGNATURES
from tallygate.config.kinds import Parsed, Words, declare
from tallygate.config.secret_file import read_secret
from tallygate.config.section import EMPTY, Section, is_identifier, show
from tallygate.config.urls import DECIDING_URL, deciding_url
from tallygate.domain.declared import Choice, Duration, Text

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
    scopes = read_field(item, SCOPES)
    if "openid" not in scopes:
        item.place_of("scopes").problem("must hold openid: without it no provider says who somebody is")
    values = read_declared(item, PROVIDER_FIELDS)
    has_secret = "client_secret_env" in item or "client_secret_file" in item
    item.require("organizations")
    organizations = _read_organizations(item)
    access = read_declared(item, ACCESS_FIELDS)
    return OpenIdProvider(
        name=values["name"],
        issuer=values["issuer"] or "",
        client_id=values["client_id"] or "",
        client_secret=read_secret(item, "client_secret", environ) if has_secret else "",
        scopes=scopes,
        algorithms=values["algorithms"],
        leeway_ms=values["leeway"],
        session_ms=values["session"],
        name_claim=values["name_claim"],
        organizations_claim=values["organizations_claim"] or "",
        organizations=organizations,
        all_organizations=frozenset(access["all_organizations"]),
        access_claim=access["access_claim"] or values["organizations_claim"] or "",
        write=frozenset(access["write"]),
    )


def _issuer(text: str) -> str:
    """The issuer as it is written, since it is compared exactly. Raises ValueError."""
    if len(text) > ISSUER_CHARS_MAX:
        raise ValueError(f"must be 1 to {ISSUER_CHARS_MAX} printable characters, got {show(text)}")
    deciding_url(text)
    return text


SCOPES: Final = declare(
    "scopes", Words("Asked for; the claims must be in the ID token.", parse=word, pattern=WORD), ("openid", "profile", "email")
)
PROVIDER_FIELDS: Final = (
    declare(
        "issuer",
        Parsed(
            "The provider's https address, as its tokens state it (`iss`).",
            parse=_issuer,
            pattern=DECIDING_URL,
            example="https://login.example.com/realms/example",
        ),
        is_required=True,
    ),
    declare("client_id", Text("Of the client that you registered there.", ISSUER_CHARS_MAX), is_required=True),
    claim(
        "organizations_claim", "The claim, a text or a list, whose values say which organizations somebody sees.", is_required=True
    ),
    declare("name", Text("On the page's button.", NAME_CHARS_MAX), "your organization's account"),
    declare("algorithms", SIGNATURES, ("RS256",)),
    declare("leeway", LEEWAY, 30_000),
    declare("session", Duration("How long somebody stays signed in at most.", 300_000, 7 * 86_400_000), 12 * 3_600_000),
    claim("name_claim", "What people are called here.", "email"),
)
ACCESS_FIELDS: Final = (
    declare(
        "all_organizations", Words("Values of the organizations' claim with which one sees all.", parse=word, pattern=WORD), ()
    ),
    claim("access_claim", "The claim whose values `write` names; else the organizations' claim."),
    declare("write", Words("Values with which one may change things; else everybody reads.", parse=word, pattern=WORD), ()),
)
ORGANIZATIONS_AS_CLAIMED: Final = declare(
    "organizations", Choice("The values of the organizations' claim are ids here.", words={AS_CLAIMED: None}), None
)


def _read_organizations(item: Section) -> Mapping[str, tuple[str, ...]] | None:
    if isinstance(item.node_of("organizations"), yaml.ScalarNode):
        read_field(item, ORGANIZATIONS_AS_CLAIMED)
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
