"""Organizations, their plans and their credentials."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final

from tallygate.domain.billing import PeriodKind
from tallygate.domain.calendar_months import BILLING_DAY_MAX
from tallygate.domain.declared import CapabilitySet, Flag, Instant, ModelPatterns, Text, TimeZone, WholeNumber, declared_fields
from tallygate.domain.rate_limit import RateLimit
from tallygate.domain.spend_limit import SpendLimit


class UnknownModelPolicy(StrEnum):
    """What happens to a model without a price. Never a silent $0."""

    REFUSE = "refuse"
    PRICE_AS = "price_as"
    UNPRICED = "unpriced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The limits and options of an organization.

    lowered                of an organization: names of its own spend limits for which the plan's maximum holds, as that was lowered
                           below them
    billing                which document of its usage it has, whatever `export` says; with export it has any
    capabilities           that it includes; None: all
    history_days           None: unlimited
    default_output_tokens  assumed maximum output where neither the request nor the price states one
    unknown_input_tokens   assumed for input that nobody has seen (a document by URL, retrieved sources); None: all that the model
                           can read
    clamp                  lower a request's maximum output to what is affordable instead of refusing; None: if a spend limit binds
    clamp_floor_tokens     the least maximum for each answer that clamping leaves; below it requests are refused. None: one token
                           where the plan itself says `clamp`, else 750
    """

    id: str
    api_access: bool = True
    capabilities: frozenset[str] | None = None
    rate_limits: tuple[RateLimit, ...] = ()
    spend_limits: tuple[SpendLimit, ...] = ()
    lowered: tuple[str, ...] = ()
    history_days: int | None = None
    export: bool = False
    billing: PeriodKind | None = None
    default_output_tokens: int = 4096
    unknown_input_tokens: int | None = None
    clamp: bool | None = None
    clamp_floor_tokens: int | None = None
    unknown_model: UnknownModelPolicy = UnknownModelPolicy.REFUSE
    price_as: str | None = None

    def has_document(self, kind: PeriodKind) -> bool:
        """Whether months are to be had as invoices, or weeks as statements."""
        return self.export or self.billing is kind

    @property
    def lacks_export(self) -> str:
        """What is said of a plan without export, for the end of a sentence."""
        return "does not include export" + (f", only {self.billing.document}s of {self.billing}s" if self.billing else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialFields:
    """What is given for a credential and can be changed, beside its limits: each declared once.

    capabilities, models   None: all are allowed. A model entry ending in `*` allows every model with that prefix.
    """

    name: Annotated[str, Text("For people.")] = ""
    environment: Annotated[str, Text("Such as production.", chars_max=64)] = ""
    enabled: Annotated[bool, Flag("Refuse it for now, or serve it again.", "--enable/--disable")] = True
    expires_at_ms: Annotated[int | None, Instant("A date (UTC) or a time, from which on it is refused.")] = None
    capabilities: Annotated[frozenset[str] | None, CapabilitySet("Allow only this capability; repeatable.", "capability")] = None
    models: Annotated[
        tuple[str, ...] | None, ModelPatterns("Allow only this model, or all that begin so with *; repeatable.", "model")
    ] = None


CREDENTIAL_FIELDS: Final = declared_fields(CredentialFields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential(CredentialFields):
    """A caller's key: `id` is the Client ID and the `credential` label. Only the digest of the secret is kept.

    key_sha256             b"": it has no key, and is reached by a signed token that names its Client ID
    old_key_sha256         of the key before the last rotation, which holds until old_key_until_ms; b"" if there is none
    is_registered          False: a signed token named it, and no directory knows it
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
    """What is given for an organization and can be changed, beside its plan and its limits: each declared once.

    name          its id, where none is given
    billing_day   of the month, on which its months begin, at midnight in time_zone; in a shorter month its last day
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
