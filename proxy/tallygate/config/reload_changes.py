"""What a reload changes, as it is told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tallygate.config.model import GatewayConfig
from tallygate.domain.price import Price

NAMES_MAX: Final = 10  # shown of each list; the rest is counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The difference between two configurations. It names things, and has no value of theirs.

    by_kind                 what was added, changed and removed, as text; without kinds that are the same
    organizations_removed   those that were in the file and are no longer, as text; "" for none
    """

    by_kind: Mapping[str, str] = field(default_factory=dict)
    organizations_removed: str = ""


def changes(old: GatewayConfig, new: GatewayConfig) -> Changes:
    before, now = _named(old), _named(new)
    texts = {kind: _difference(before[kind], now[kind]) for kind in now}
    return Changes(
        by_kind={kind: text for kind, text in texts.items() if text},
        organizations_removed=_listed(before["organizations"].keys() - now["organizations"].keys()),
    )


def _named(config: GatewayConfig) -> dict[str, Mapping[str, object]]:
    """Everything in the configuration by kind and name."""
    models: dict[str, tuple[Price, ...]] = {}
    for price in config.prices.rows():
        models[price.model] = (*models.get(price.model, ()), price)
    return {
        "files": config.files,
        "organizations": {organization.id: organization for organization in config.organizations},
        "credentials": {credential.id: credential for org in config.organizations for credential in org.credentials},
        "plans": config.plans,
        "upstreams": config.upstreams,
        "routes": {f"{route.method} {route.path}": route for route in config.routes},
        "prices": models,
        "issuers": {issuer.issuer: issuer for issuer in config.jwt_issuers},
        "key_lookup": {} if config.key_lookup is None else {"service": config.key_lookup},
        "webhooks": {endpoint.name: endpoint for endpoint in config.webhooks},
        "sign_in": {} if config.openid is None else {config.openid.issuer: config.openid},
    }


def _difference(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    parts = {
        "added": now.keys() - before.keys(),
        "changed": [name for name in now.keys() & before.keys() if now[name] != before[name]],
        "removed": before.keys() - now.keys(),
    }
    return "; ".join(f"{what} {_listed(names)}" for what, names in parts.items() if names)


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = len(ordered) - NAMES_MAX
    return ", ".join(ordered[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
