"""The organizations that a token issuer or a key look-up service may reach, and how its clients are identified."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tallygate.config.declared import read_declared, read_field
from tallygate.config.kinds import Identifier, Parsed, Words, declare
from tallygate.config.section import ID, Section, identifier, is_identifier, show
from tallygate.domain.declared import TEXT_CHARS_MAX, Choice, Declared, Flag, is_text

ORG_IDS_MAX: Final = 10_000
_CLAIM: Final = re.compile(r"[A-Za-z0-9_:/.-]{1,128}", re.ASCII)


class UnknownClients(StrEnum):
    """The treatment of a caller whose client has no credential here."""

    REFUSE = "refuse"
    CLAIMED_ORGANIZATION = "claimed_organization"  # it belongs to the organization that its own claim names
    ORGANIZATION = "organization"  # it belongs to the organization that the configuration names


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """The rules for a source's claims about a caller.

    source           the source of the claims: an issuer, or the URL of a service
    client_claim     the claim that is the Client ID
    org_claim        a claim that must name the organization of the credential; "": not checked
    is_org_optional  a caller without that claim is admitted too; if it has the claim, it must match
    org_ids          maps the source's ids to ids here; an id that is missing is used as it is
    organizations    ids that the source may reach; empty: all
    shares_client_ids  one authority assigns its Client IDs and those of other sources for the same organizations
    """

    source: str = ""
    client_claim: str = "client_id"
    org_claim: str = ""
    is_org_optional: bool = False
    org_ids: Mapping[str, str] = field(default_factory=dict)
    organizations: frozenset[str] = frozenset()
    unknown_clients: UnknownClients = UnknownClients.REFUSE
    unknown_clients_org: str = ""
    shares_client_ids: bool = False

    @property
    def bound_to(self) -> frozenset[str]:
        """The only organizations that the source reaches; empty: no restriction."""
        if self.unknown_clients is UnknownClients.ORGANIZATION:
            return frozenset({self.unknown_clients_org})
        return self.organizations

    def meets(self, other: "ClientPolicy") -> bool:
        """Return whether there may be an organization that both sources reach."""
        return not (self.bound_to and other.bound_to and self.bound_to.isdisjoint(other.bound_to))

    def client_of(self, claims: Mapping[str, object]) -> tuple[str, str]:
        """The Client ID, and the organization here that the claims name, "" for none.

        Raises ValueError, which states what is wrong with "the token", without its values.
        """
        client_id, org = claims.get(self.client_claim), ""
        if not isinstance(client_id, str) or not is_identifier(client_id):
            raise ValueError(f"has no claim {self.client_claim!r} that could be a Client ID")
        if self.org_claim and not (self.is_org_optional and self.org_claim not in claims):
            named = claims.get(self.org_claim)
            if named is not None and not isinstance(named, str):
                raise ValueError(f"has a claim {self.org_claim!r} that is not text")
            org = self.org_ids.get(named or "", named or "")
            if not is_identifier(org):
                raise ValueError(f"is of an organization that is not known here: its claim {self.org_claim!r} names none")
        return client_id, org


def read_client_policy(item: Section, *, source: str) -> ClientPolicy:
    """Parse the keys of an issuer or a service that identify its clients."""
    values = read_declared(item, POLICY_FIELDS)
    org_claim, organizations = values["org_claim"], frozenset(values["organizations"])
    org_ids = _read_org_ids(item)
    for name in ("org_claim_optional", "org_ids"):
        if name in item and not org_claim:
            item.place_of(name).problem("needs org_claim, the claim that names the organization")
    unknown_clients, unknown_clients_org = _read_unknown_clients(item, org_claim)
    if unknown_clients is UnknownClients.ORGANIZATION and organizations - {unknown_clients_org}:
        item.place_of("organizations").problem(
            f"can name {show(unknown_clients_org)} alone, which unknown_clients binds it to; or use claimed_organization"
        )
    return ClientPolicy(
        source=source,
        client_claim=values["client_claim"],
        org_claim=org_claim,
        is_org_optional=values["org_claim_optional"],
        org_ids=org_ids,
        organizations=organizations,
        unknown_clients=unknown_clients,
        unknown_clients_org=unknown_clients_org,
        shares_client_ids=values["shares_client_ids"],
    )


def report_shared_client_ids(item: Section, key: str, policy: ClientPolicy, others: list[ClientPolicy]) -> None:
    """Report sources that reach the same organization: one's client could pass for another's of the same Client ID."""
    for other in others:
        if policy.meets(other) and not (policy.shares_client_ids and other.shares_client_ids):
            item.place_of(key).problem(
                f"may speak for the same organizations as {show(other.source)}, so a client of the one could pass for the other's: "
                "bind each by `organizations`, or say `shares_client_ids: true` for both if one authority gives their Client IDs"
            )
            return


WORD: Final = f"^.{{1,{TEXT_CHARS_MAX}}}$"  # the pattern of every word


def word(text: str) -> str:
    """Raises ValueError."""
    if not is_text(text):
        raise ValueError(f"must be 1 to {TEXT_CHARS_MAX} printable characters, got {show(text)}")
    return text


def claim_name(text: str) -> str:
    """Raises ValueError."""
    if _CLAIM.fullmatch(text) is None:
        raise ValueError(f"must be the name of a claim, got {show(text)}")
    return text


def _read_org_ids(item: Section) -> Mapping[str, str]:
    section = item.section("org_ids")
    if section is None:
        return {}
    found = {}
    if len(section.keys()) > ORG_IDS_MAX:
        section.place.problem(f"must have at most {ORG_IDS_MAX} entries, got {len(section.keys())}")
        return {}
    for foreign in section.keys():  # noqa: SIM118 - a section is not its keys
        found[foreign] = section.identifier(foreign) or ""
    return found


def _read_unknown_clients(item: Section, org_claim: str) -> tuple[UnknownClients, str]:
    named = item.section("unknown_clients") if item.is_mapping("unknown_clients") else None
    if named is not None:
        org = read_field(named, CLIENTS_OF) or ""
        named.close()
        return UnknownClients.ORGANIZATION, org
    policy: UnknownClients = read_field(item, UNKNOWN_CLIENTS)
    if policy is UnknownClients.CLAIMED_ORGANIZATION and not org_claim:
        item.place_of("unknown_clients").problem("needs org_claim, the claim that names the organization")
    return policy, ""


def claim(name: str, help_: str, default: str = "", *, is_required: bool = False) -> Declared:
    """The declaration of a key that names a claim."""
    kind = Parsed(help_, parse=claim_name, pattern=f"^{_CLAIM.pattern}$", example="client_id")
    return declare(name, kind, default, is_required=is_required)


POLICY_FIELDS: Final = (
    claim("client_claim", "The claim that is the Client ID.", ClientPolicy().client_claim),
    claim("org_claim", "A claim that must name the organization of the credential; else that is not checked."),
    declare("org_claim_optional", Flag("Admit a caller without that claim too."), default=False),
    declare(
        "organizations",
        Words("Ids that the source may reach; else all.", parse=identifier, pattern=f"^{ID.pattern}$"),
        (),
    ),
    declare(
        "shares_client_ids",
        Flag("One authority assigns its Client IDs and those of other sources for the same organizations."),
        default=False,
    ),
)
UNKNOWN_CLIENTS: Final = declare(
    "unknown_clients",
    Choice(
        "What becomes of a caller whose client has no credential here: it is refused, or belongs to the organization that its own "
        "claim names, or to `organization`.",
        words={policy.value: policy for policy in (UnknownClients.REFUSE, UnknownClients.CLAIMED_ORGANIZATION)},
    ),
    UnknownClients.REFUSE,
)
CLIENTS_OF: Final = declare("organization", Identifier("The organization to which such clients belong."), is_required=True)
