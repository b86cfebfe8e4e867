"""The three organizations of the demo, one on each plan, with fresh keys."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import yaml

from tallygate.config.directory import generate_key
from tallygate.domain.money import nano_usd_from_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An organization with a credential that calls, and others that have called.

    share         of the demo's requests, in percent
    others        the names of the other credentials, by Client ID; nobody has their keys
    past_a_day    requests of a day of its history, about; past_divisor: makes them smaller
    """

    org: str
    name: str
    plan: str
    share: int
    api_key: str = field(repr=False)
    key_sha256: str
    spend_limit_usd: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)
    past_a_day: int = 0
    past_divisor: int = 1

    @classmethod
    def make(cls, *, org: str, name: str, plan: str, share: int, **more: Any) -> Self:
        issued = generate_key(f"{org}-app", secrets.token_bytes)
        key_sha256 = issued.key_sha256.hex()
        return cls(org=org, name=name, plan=plan, share=share, api_key=issued.api_key, key_sha256=key_sha256, **more)

    @property
    def credential(self) -> str:
        return f"{self.org}-app"

    @property
    def credentials(self) -> list[str]:
        """The Client IDs, the busiest first."""
        return [self.credential, *self.others]

    @property
    def spend_limit_nano_usd(self) -> int | None:
        return None if self.spend_limit_usd is None else nano_usd_from_usd(self.spend_limit_usd)


def demo_callers(*, has_history: bool) -> tuple[Caller, ...]:
    """The demo's callers. The second one's limit is low enough to be reached: of its history, a cent is left of it."""
    return (
        Caller.make(org="scout-troop", name="Scout Troop", plan="free", share=5),
        Caller.make(
            org="corner-bakery",
            name="Corner Bakery",
            plan="pay_as_you_go",
            share=25,
            spend_limit_usd="0.15" if has_history else "0.01",
            others={"corner-bakery-menus": "Menus"},
            past_a_day=25,
            past_divisor=3,
        ),
        Caller.make(
            org="globex",
            name="Globex Corporation",
            plan="enterprise",
            share=70,
            others={"globex-search": "Search", "globex-support": "Support desk"},
            past_a_day=70,
        ),
    )


def organizations_yaml(callers: tuple[Caller, ...]) -> str:
    """The organizations.yaml of the callers."""
    organizations = []
    for caller in callers:
        organization: dict[str, object] = {"id": caller.org, "name": caller.name, "plan": caller.plan}
        if caller.spend_limit_usd is not None:
            organization["spend_limit"] = {"usd": caller.spend_limit_usd}
        organization["credentials"] = [
            {"id": caller.credential, "name": "App", "key_sha256": caller.key_sha256},
            *({"id": id_, "name": name, "key_sha256": secrets.token_hex(32)} for id_, name in caller.others.items()),
        ]
        organizations.append(organization)
    return yaml.safe_dump({"organizations": organizations}, sort_keys=False)
