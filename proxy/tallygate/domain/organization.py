"""Organizations, their plans and their credentials."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final

from tallygate.domain.billing import PeriodKind
from tallygate.domain.calendar_months import BILLING_DAY_MAX
from tallygate.domain.declared import (
    CapabilitySet,
    Choice,
    ChoiceOrText,
    Chosen,
    Days,
    Flag,
    Instant,
    ModelPatterns,
    Text,
    TimeZone,
    WholeNumber,
    declared_fields,
)
from tallygate.domain.rate_limit import RateLimit
from tallygate.domain.spend_limit import SpendLimit

_TOKENS_MAX: Final = 10_000_000
_BILLINGS: Final = {"weekly": PeriodKind.WEEK, "monthly": PeriodKind.MONTH}


class UnknownModelPolicy(StrEnum):
    """The treatment of a model without a price. Never a silent $0."""

    REFUSE = "refuse"
    PRICE_AS = "price_as"
    UNPRICED = "unpriced"


_REFUSED: Final = Chosen(UnknownModelPolicy.REFUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFields:
    """The fields of a plan, beside its limits: each declared once.

    capabilities   included capabilities; None: all
    history_days   None: unlimited
    clamp          None: if there is a spend limit
    """

    api_access: Annotated[bool, Flag("Whether its credentials are served at all.")] = True
    capabilities: Annotated[
        frozenset[str] | None,
        CapabilitySet("Those that it includes; all, where none are given (null).", "capability", may_be_all_but=True),
    ] = None
    history_days: Annotated[
        int | None, Days("How long usage is kept; `unlimited` (null in answers) without end.", key="history")
    ] = None
    export: Annotated[bool, Flag("Whether usage can be exported, and any document of it be had.")] = False
    billing: Annotated[
        PeriodKind | None, Choice("The document of its usage that it has, whatever `export` says.", words=_BILLINGS)
    ] = None
    default_output_tokens: Annotated[
        int, WholeNumber("Assumed maximum of output where neither request nor price states one.", least=1, most=_TOKENS_MAX)
    ] = 4096
    unknown_input_tokens: Annotated[
        int | None,
        WholeNumber(
            "Assumed for input that nobody has seen, such as a document by URL; else all that the model reads.", 0, _TOKENS_MAX
        ),
    ] = None
    unknown_model: Annotated[
        Chosen,
        ChoiceOrText(
            "What becomes of a request for a model without a price; with `price_as`, it is charged as that model.",
            words={policy.value: policy for policy in (UnknownModelPolicy.REFUSE, UnknownModelPolicy.UNPRICED)},
            with_text=UnknownModelPolicy.PRICE_AS.value,
            for_text=UnknownModelPolicy.PRICE_AS,
        ),
    ] = _REFUSED
    clamp: Annotated[bool | None, Flag("Lower a request's maximum of output to what is affordable, rather than refuse.")] = None
    clamp_floor_tokens: Annotated[
        int | None,
        WholeNumber(
            "The least maximum that clamping leaves each answer; else one token with `clamp`, 750 without.", 1, _TOKENS_MAX
        ),
    ] = None


PLAN_FIELDS: Final = declared_fields(PlanFields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(PlanFields):
    """The limits and options of an organization.

    lowered     names of an organization's own spend limits that the plan's maximum replaces, since it was lowered below them
    """

    id: str
    rate_limits: tuple[RateLimit, ...] = ()
    spend_limits: tuple[SpendLimit, ...] = ()
    lowered: tuple[str, ...] = ()

    def has_document(self, kind: PeriodKind) -> bool:
        """Return whether the plan includes invoices of months, or statements of weeks."""
        return self.export or self.billing is kind

    @property
    def lacks_export(self) -> str:
        """The periods that a plan without export includes, as the end of a sentence."""
        return "does not include export" + (f", only {self.billing.document}s of {self.billing}s" if self.billing else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialFields:
    """The fields of a credential that can be set and changed, beside its limits: each declared once.

    capabilities, models   None: all are allowed. A model entry ending in `*` allows every model with that prefix.
    """

    name: Annotated[str, Text("For people.")] = ""
    environment: Annotated[str, Text("Such as production.", chars_max=64)] = ""
    enabled: Annotated[bool, Flag("Serve it, or refuse it for now.", "--enable/--disable")] = True
    expires_at_ms: Annotated[int | None, Instant("A date (UTC) or a time, from which on it is refused.")] = None
    capabilities: Annotated[frozenset[str] | None, CapabilitySet("Allow these capabilities alone.", "capability")] = None
    models: Annotated[tuple[str, ...] | None, ModelPatterns("Allow these models alone; * stands for any ending.", "model")] = None


CREDENTIAL_FIELDS: Final = declared_fields(CredentialFields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential(CredentialFields):
    """A caller's key: `id` is the Client ID and the `credential` label. Only the digest of the secret is kept.

    key_sha256             b"": it has no key; a signed token that names its Client ID identifies it
    old_key_sha256         digest of the key before the last rotation, valid until old_key_until_ms; b"" if there is none
    is_registered          False: a signed token named it, and no directory has it
    is_self_made           the organization chose the Client ID itself: an issuer's client of that name need not be its own
    """

    id: str
    org: str
    key_sha256: bytes = field(repr=False)
    old_key_sha256: bytes = field(default=b"", repr=False)
    old_key_until_ms: int = 0
    rate_limits: tuple[RateLimit, ...] = ()
    spend_limits: tuple[SpendLimit, ...] = ()
    is_self_made: bool = False
    is_registered: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationFields:
    """The fields of an organization that can be set and changed, beside its plan and its limits: each declared once.

    name          its id if none is given
    billing_day   day of the month on which its months begin, at midnight in time_zone; in a shorter month the last day
    """

    name: Annotated[str, Text("For people; its id, where it has none.")] = ""
    time_zone: Annotated[str, TimeZone("In which its days and months begin.")] = "UTC"
    billing_day: Annotated[int, WholeNumber("Of the month, on which its months begin, 1 to 31.", least=1, most=BILLING_DAY_MAX)] = 1


ORGANIZATION_FIELDS: Final = declared_fields(OrganizationFields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization(OrganizationFields):
    """The billed party: one plan, its own tightened limits, its credentials.

    plan is the effective plan: the organization's own limits are already merged into it.
    """

    id: str
    plan: Plan
    credentials: tuple[Credential, ...] = ()


# The plan of an organization that left the configuration, while its usage stays: all of it is shown, and can be exported.
RETIRED: Final = Plan(id="retired", api_access=False, export=True)


def retired_organization(org: str) -> Organization:
    """What is left of an organization that only the ledger knows: its time zone and billing day are not known any more."""
    return Organization(id=org, name=f"{org} (retired)", plan=RETIRED)
