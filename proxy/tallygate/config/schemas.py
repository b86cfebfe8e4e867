"""JSON Schemas of the files of a configuration, for editors: made from the fields that the loader reads.

What is written out here is how mappings lie in each other, and rules between keys: tests/config/test_schemas.py holds it equal to
the loader. What a schema cannot say is in docs/configuration.md, "In an editor".
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from tallygate.config import organizations as orgs
from tallygate.config import sign_in, upstreams, webhooks
from tallygate.config.authentication import CLAIM_NUMBER_MAX, ISSUERS_MAX, JWKS_FILE, JWKS_URL
from tallygate.config.cache_ratios import FAMILIES_MAX, RATIO_FIELDS
from tallygate.config.call_rates import CALL_UNITS, CALLS_MAX, MODELS
from tallygate.config.client_policy import CLIENTS_OF, ORG_IDS_MAX, POLICY_FIELDS, UNKNOWN_CLIENTS, UnknownClients
from tallygate.config.jwt_issuer import ISSUER_FIELDS
from tallygate.config.key_lookup import LOOKUP_FIELDS
from tallygate.config.limits import LIMITS_MAX, MAXIMUM
from tallygate.config.model import UPSTREAM_FIELDS, AuthKind
from tallygate.config.price_differences import REVIEWED_FIELDS, REVIEWED_MAX, WHAT
from tallygate.config.price_row import (
    CONDITIONS,
    FACTOR,
    MODEL,
    PARTS,
    PRICES_MAX,
    ROW_FIELDS,
    RULES_MAX,
    SIZE,
    TIMES,
    UNITS_OF_A_ROW_MAX,
    rated_units,
)
from tallygate.config.price_updates import REVIEWED
from tallygate.config.prices import DOCUMENT_FIELDS, ROUTING_FIELDS
from tallygate.config.routes import DELETES, LISTS, MAKES, OBJECT_KIND, ROUTE_FIELDS, WITH_SHIPPED
from tallygate.config.schema import (
    IDENTIFIER,
    MONEY,
    Schema,
    at_most_one_of,
    described,
    listed,
    mapping,
    named,
    one_of,
    properties_of,
    required_of,
    schema_of,
    schema_of_kind,
    secret,
    text,
)
from tallygate.config.sign_in import ACCESS_FIELDS, ORGANIZATIONS_AS_CLAIMED, PROVIDER_FIELDS
from tallygate.config.surcharges import SURCHARGE_FIELDS, SURCHARGES_MAX
from tallygate.config.webhook_endpoint import WebhookFormat
from tallygate.config.webhook_mail import MAIL_FIELDS, SMTP_FIELDS
from tallygate.domain.declared import NAMES_MAX, Declared
from tallygate.domain.organization import CREDENTIAL_FIELDS, ORGANIZATION_FIELDS, PLAN_FIELDS
from tallygate.domain.rate_limit import RATE_LIMIT_FIELDS
from tallygate.domain.spend_limit import SPEND_LIMIT_FIELDS
from tallygate.domain.unit import TOKEN_UNITS, Unit

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def schemas(*, dialects: Collection[str], capabilities: Collection[str]) -> Mapping[str, Schema]:
    """The schema of each file, by the file's name.

    dialects       those that routes may name
    capabilities   those of the shipped routes, to be offered: an operator's own routes may have others
    """
    contents = {
        "organizations.yaml": _organizations(capabilities),
        "plans.yaml": _plans(capabilities),
        "routes.yaml": _routes(dialects),
        "upstreams.yaml": _upstreams(),
        "prices.yaml": _prices(),
        "listed_prices.yaml": _listed_prices(),
        "price_differences.yaml": _price_differences(),
        "authentication.yaml": _authentication(),
        "webhooks.yaml": _webhooks(),
        "sign_in.yaml": _sign_in(),
    }
    return {name: {"$schema": _DRAFT, "title": name, **schema} for name, schema in contents.items()}


def schema_name(file: str) -> str:
    """The name of a file's schema: plans.schema.json of plans.yaml."""
    return f"{file.removesuffix('.yaml')}.schema.json"


def _limits(*, is_own: bool = False, has_max: bool = False) -> dict[str, Schema]:
    """The keys of limits. is_own: of a credential, which has no `per`; has_max: of a plan."""

    def stated(fields: Iterable[Declared]) -> Schema:
        kept = [field for field in fields if not (is_own and field.attribute == "scope")]
        return mapping(properties_of(kept), required=required_of(kept))

    spend = stated((*SPEND_LIMIT_FIELDS, *(MAXIMUM if has_max else ())))
    rate: Schema = {"oneOf": [stated(fields) for fields in RATE_LIMIT_FIELDS.values()]}
    return {
        "rate_limits": listed(rate, LIMITS_MAX, description="Bounds on requests, tokens, or requests that are open at once."),
        "spend_limit": described("A bound on spend.", spend),
        "spend_limits": listed(spend, LIMITS_MAX, description="Several bounds on spend."),
    }


_ONE_OR_MANY: Final = at_most_one_of("spend_limit", "spend_limits")


def _plans(capabilities: Collection[str]) -> Schema:
    plan = mapping({**properties_of(PLAN_FIELDS, capabilities), **_limits(has_max=True)}, **_ONE_OR_MANY)
    return mapping({"plans": named(plan, description="What each plan allows, by its name.")}, required=["plans"])


def _organizations(capabilities: Collection[str]) -> Schema:
    digest: Schema = {"type": "string", "pattern": f"^{orgs.DIGEST.pattern}$"}
    of_credential = (orgs.CLIENT_ID, *CREDENTIAL_FIELDS, orgs.OLD_KEY_UNTIL)
    credential = mapping(
        {
            **properties_of(of_credential, capabilities),
            "key_sha256": described("The SHA-256 digest, in hex, of the key; `tallygate keys new ID` makes both.", digest),
            "old_key_sha256": described("The digest of the key before the last rotation.", digest),
            **_limits(is_own=True),
        },
        required=required_of(of_credential),
        dependentRequired={"old_key_sha256": ["old_key_until"], "old_key_until": ["old_key_sha256"]},
        **_ONE_OR_MANY,
    )
    of_organization = (orgs.ID, *ORGANIZATION_FIELDS)
    organization = mapping(
        {
            **properties_of(of_organization),
            "plan": {"description": "A plan of plans.yaml.", "type": "string", "pattern": IDENTIFIER["pattern"]},
            "credentials": listed(credential, orgs.CREDENTIALS_MAX, description="Its callers."),
            **_limits(),
        },
        required=[*required_of(of_organization), "plan"],
        **_ONE_OR_MANY,
    )
    every = listed(organization, orgs.ORGANIZATIONS_MAX, description="Who is billed, and who may call.")
    return mapping({"organizations": every}, required=["organizations"])


def _routes(dialects: Collection[str]) -> Schema:
    fields = (*ROUTE_FIELDS, MAKES, LISTS, DELETES)
    route = mapping(
        {
            **properties_of(fields),
            "dialect": {"description": "How it is metered; left out: it is not.", "enum": sorted(dialects)},
            "names": named(
                schema_of_kind(OBJECT_KIND), names="", description="The kinds of stored objects that the path's parameters name."
            ),
        },
        required=required_of(fields),
        dependentRequired={"markup_percent": ["dialect"]},
    )
    served = listed(route, 10_000, description="The endpoints that are served.")
    return mapping({"routes": served, **properties_of([WITH_SHIPPED])}, required=["routes"])


def _upstreams() -> Schema:
    ratios = mapping(properties_of(RATIO_FIELDS))
    upstream = mapping(
        {
            **properties_of((upstreams.BASE_URL, *UPSTREAM_FIELDS, upstreams.AUTHORITIES)),
            "auth": {"description": "How the gateway authenticates itself there.", "oneOf": [_auth(kind) for kind in AuthKind]},
            "cache_ratios": named(
                ratios,
                names="",
                most=FAMILIES_MAX,
                description="Ratios of cached tokens to the input rate, by family of the upstream's catalogue; `*`: every other.",
            ),
        }
    )
    with_address = {**upstream, "required": [upstreams.BASE_URL.key]}  # the default one's may be TALLYGATE_UPSTREAM_URL
    servers = named(with_address, description="The servers that requests are forwarded to, by name.")
    return mapping({"upstreams": {**servers, "properties": {upstreams.DEFAULT_UPSTREAM: upstream}}}, required=["upstreams"])


def _auth(kind: AuthKind) -> Schema:
    stated = {"kind": {**schema_of(upstreams.AUTH_KIND), "enum": [kind.value]}}
    if kind is AuthKind.PASSTHROUGH:
        return mapping(stated, required=["kind"])
    stated |= properties_of([upstreams.AUTH_HEADER]) | secret("secret", "the secret")
    if kind is AuthKind.BEARER:
        return mapping(stated, required=["kind"], **one_of("secret_env", "secret_file"))
    clients = secret("client_id", "the client's id")
    return mapping(
        {**stated, **properties_of((*upstreams.OAUTH_FIELDS, upstreams.CLIENT_ID)), **clients},
        required=["kind", *required_of(upstreams.OAUTH_FIELDS)],
        allOf=[one_of("secret_env", "secret_file"), {"anyOf": [{"required": ["client_id"]}, one_of(*clients)]}],
    )


def _rates(units: frozenset[Unit], *, also: Mapping[str, Schema], required: Iterable[str] = (), **rules: Any) -> Schema:
    """A mapping with rates: of units, of longer prompts, of narrowed units; and further keys."""
    tokens, others = [unit for unit in Unit if unit in units & TOKEN_UNITS], [unit for unit in Unit if unit in units - TOKEN_UNITS]
    patterns: dict[str, Schema] = {f"^(?:{'|'.join(tokens)}){SIZE}$": MONEY} if tokens else {}
    patterns |= {f"^(?:{'|'.join(others)}){PARTS}$": MONEY} if others else {}
    rates = {unit.value: described(f"USD per {rated_units(unit)}.", MONEY) for unit in (*tokens, *others)}
    return mapping({**also, **rates}, required=required, patternProperties=patterns, **rules)


def _price_row() -> Schema:
    when = (*CONDITIONS, *TIMES)
    times_alone = {"required": [FACTOR.key], "not": {"anyOf": [{"required": [unit.value]} for unit in Unit if unit in TOKEN_UNITS]}}
    rates_alone = {"required": [Unit.INPUT.value, Unit.OUTPUT.value], "not": {"required": [FACTOR.key]}}
    rule = _rates(
        TOKEN_UNITS,
        also=properties_of((*when, FACTOR)),
        allOf=[
            {"anyOf": [{"required": [field.key]} for field in when]},
            {"oneOf": [times_alone, rates_alone]},
        ],
    )
    rules = listed(rule, RULES_MAX, description="Rates under a condition, or a factor of those of tokens.")
    return _rates(
        frozenset(Unit),
        also={**properties_of(ROW_FIELDS), "when": rules},
        required=[MODEL, Unit.INPUT.value, Unit.OUTPUT.value],
        maxProperties=UNITS_OF_A_ROW_MAX,
    )


_ROW: Final = _price_row()


def _prices() -> Schema:
    calls = _rates(CALL_UNITS, also=properties_of([MODELS]), required=[MODELS.key], minProperties=2)
    surcharge = mapping(properties_of(SURCHARGE_FIELDS), required=required_of(SURCHARGE_FIELDS))
    name = schema_of(next(field for field in ROW_FIELDS if field.key == MODEL))
    beginning: Schema = {
        "type": ["string", "number", "boolean"],
        "minimum": 0,
        "pattern": f"{name['pattern'].removesuffix('$')}\\*?$",
    }
    return mapping(
        {
            **properties_of(DOCUMENT_FIELDS),
            "prices": listed(_ROW, PRICES_MAX, description="What models cost, a row for each price."),
            "aliases": named(
                text(), names=name["pattern"], description="Further names, each with the priced name that it costs like."
            ),
            "calls": listed(calls, CALLS_MAX, description="What calls of a provider's tools cost, where a row does not say."),
            "surcharges": listed(surcharge, SURCHARGES_MAX, description="Factors of a plainer name's price."),
            "families": named(
                listed(beginning, NAMES_MAX),
                names="",
                description="Names of models, or beginnings followed by *, by family, as `auto_routing` and requests name them.",
            ),
            "auto_routing": mapping(
                properties_of(ROUTING_FIELDS), description="The models that a provider's own routing may choose, if not all."
            ),
        },
        required=["prices"],
    )


def _listed_prices() -> Schema:
    rows = listed(_ROW, PRICES_MAX, description="Rows over the shipped list.")
    return mapping({**properties_of([REVIEWED]), "prices": rows}, required=[*required_of([REVIEWED]), "prices"])


def _price_differences() -> Schema:
    pair = {**listed({"type": ["string", "number", "boolean"]}, 2, least=2), "description": "The figure here, and the one there."}
    needed = required_of(REVIEWED_FIELDS)
    figures = named(pair, names="", description="Figures of both sides, by what they are of.")
    difference = mapping(
        {**properties_of((*REVIEWED_FIELDS, WHAT)), "figures": figures},
        required=needed,
        anyOf=[{"required": [WHAT.key]}, {"required": ["figures"]}],
    )
    unknown = mapping(properties_of(REVIEWED_FIELDS), required=needed)
    return mapping(
        {
            "differences": listed(difference, REVIEWED_MAX, description="Differences from another source that are meant."),
            "unknown_there": listed(unknown, REVIEWED_MAX, description="Names that the other source does not have."),
        }
    )


def _policy() -> dict[str, Schema]:
    """The keys of a source of callers that identify its clients."""
    org_ids = named(IDENTIFIER, names="", most=ORG_IDS_MAX, description="Ids here, by the source's; others are used as they are.")
    unknown = schema_of(UNKNOWN_CLIENTS)
    bound = mapping(properties_of([CLIENTS_OF]), required=required_of([CLIENTS_OF]))
    return {
        **properties_of(POLICY_FIELDS),
        "org_ids": org_ids,
        "unknown_clients": {
            "description": unknown["description"],
            "default": unknown["default"],
            "anyOf": [{"enum": unknown["enum"]}, bound],
        },
    }


_POLICY: Final = _policy()
_POLICY_RULES: Final[Schema] = {
    "dependentRequired": {"org_claim_optional": ["org_claim"], "org_ids": ["org_claim"]},
    "if": {
        "properties": {"unknown_clients": {"const": UnknownClients.CLAIMED_ORGANIZATION.value}},
        "required": ["unknown_clients"],
    },
    "then": {"required": ["org_claim"]},
}


def _authentication() -> Schema:
    claim: Schema = {
        "anyOf": [text(), {"type": "boolean"}, {"type": "integer", "minimum": -CLAIM_NUMBER_MAX, "maximum": CLAIM_NUMBER_MAX}]
    }
    claims = named(claim, names="", least=1, description="Claims that must have these exact values, of the same type.")
    issuer = mapping(
        {**properties_of((*ISSUER_FIELDS, JWKS_URL, JWKS_FILE)), "required_claims": claims, **_POLICY},
        required=required_of(ISSUER_FIELDS),
        **one_of(JWKS_URL.key, JWKS_FILE.key),
        **_POLICY_RULES,
    )
    lookup = mapping(
        {**properties_of(LOOKUP_FIELDS), **secret("secret", "the gateway's bearer token there"), **_POLICY},
        required=required_of(LOOKUP_FIELDS),
        **at_most_one_of("secret_env", "secret_file"),
        **_POLICY_RULES,
        description="A service that identifies the owners of keys that no credential here has.",
    )
    return mapping(
        {
            "jwt_issuers": listed(issuer, ISSUERS_MAX, description="Issuers whose signed tokens (JWTs) identify callers."),
            "key_lookup": lookup,
        },
        anyOf=[{"required": ["jwt_issuers"]}, {"required": ["key_lookup"]}],
    )


def _webhooks() -> Schema:
    """Receivers, with the keys that their format has."""
    address: Schema = {
        "description": "Where it is sent.",
        "type": "string",
        "pattern": webhooks.URL,
        "maxLength": webhooks.URL_CHARS_MAX,
    }
    web = {"url": address, **properties_of([webhooks.ALLOW_HTTP])}
    old = secret("old_secret", "the signing secret before it, while it is rotated")
    standard = _receiver(
        [WebhookFormat.STANDARD],
        {**web, **secret("secret", "the signing secret"), **old},
        required=["url"],
        **one_of("secret_env", "secret_file"),
        **at_most_one_of(*old),
    )
    hidden = secret("url", "the URL, which is a secret")
    chats = [kind for kind in WebhookFormat if kind.is_chat]
    chat = _receiver(chats, {**web, **hidden}, required=["format"], **one_of("url", *hidden))
    needed = ["format", "smtp", *required_of(MAIL_FIELDS)]
    mail = _receiver([WebhookFormat.EMAIL], {**properties_of(MAIL_FIELDS), "smtp": _smtp()}, required=needed)
    receivers = listed({"oneOf": [standard, chat, mail]}, webhooks.ENDPOINTS_MAX, description="Receivers of notices about spend.")
    return mapping({"webhooks": receivers}, required=["webhooks"])


def _receiver(kinds: Iterable[WebhookFormat], own: Mapping[str, Schema], *, required: Iterable[str], **rules: Any) -> Schema:
    fields = (webhooks.NAME, webhooks.EVENTS, webhooks.ENABLED, webhooks.CA_FILE)
    every, some = schema_of(webhooks.ALL_ORGANIZATIONS), schema_of(webhooks.ORGANIZATIONS)
    shared = {
        "format": {**schema_of(webhooks.FORMAT), "enum": [kind.value for kind in kinds]},
        "organizations": {"description": "Whose notices it is sent; else everybody's.", "anyOf": [every, some]},
    }
    return mapping({**properties_of(fields), **shared, **own}, required=[*required_of(fields), *required], **rules)


def _smtp() -> Schema:
    password = secret("password", "the password")
    return mapping(
        {**properties_of(SMTP_FIELDS), **password},
        required=required_of(SMTP_FIELDS),
        description="The mail server.",
        **{"if": {"required": ["user"]}, "then": one_of(*password), "else": {"properties": dict.fromkeys(password, False)}},
    )


def _sign_in() -> Schema:
    fields = (*PROVIDER_FIELDS, sign_in.SCOPES, *ACCESS_FIELDS)
    ids: Schema = {"anyOf": [IDENTIFIER, listed(IDENTIFIER, NAMES_MAX, least=1)]}
    by_value = named(ids, names="", most=ORG_IDS_MAX, least=1, description="Ids of organizations, by a value of that claim.")
    provider = mapping(
        {
            **properties_of(fields),
            "scopes": {**schema_of(sign_in.SCOPES), "contains": {"const": "openid"}},
            "organizations": {"description": "What people see.", "anyOf": [schema_of(ORGANIZATIONS_AS_CLAIMED), by_value]},
            **secret("client_secret", "the client's secret"),
        },
        required=[*required_of(fields), "organizations"],
        **at_most_one_of("client_secret_env", "client_secret_file"),
        description="The OpenID provider at which people sign in to the console's page.",
    )
    return mapping({"openid": provider}, required=["openid"])
