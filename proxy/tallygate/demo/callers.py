"""The three organizations of the demo, one on each plan, with fresh keys."""

import secrets
from dataclasses import dataclass, field
from typing import Self

import yaml

from tallygate.config.directory import generate_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An organization with one credential. share: of the demo's requests, in percent."""

    org: str
    name: str
    plan: str
    share: int
    api_key: str = field(repr=False)
    key_sha256: str
    spend_limit_usd: str | None = None

    @classmethod
    def make(cls, *, org: str, name: str, plan: str, share: int, spend_limit_usd: str | None = None) -> Self:
        issued = generate_key(f"{org}-app", secrets.token_bytes)
        return cls(
            org=org,
            name=name,
            plan=plan,
            share=share,
            api_key=issued.api_key,
            key_sha256=issued.key_sha256.hex(),
            spend_limit_usd=spend_limit_usd,
        )

    @property
    def credential(self) -> str:
        return f"{self.org}-app"


def demo_callers() -> tuple[Caller, ...]:
    """The demo's callers. The second one's limit is low enough to be reached."""
    return (
        Caller.make(org="scout-troop", name="Scout Troop", plan="free", share=5),
        Caller.make(org="corner-bakery", name="Corner Bakery", plan="pay_as_you_go", share=25, spend_limit_usd="0.01"),
        Caller.make(org="globex", name="Globex Corporation", plan="enterprise", share=70),
    )


def organizations_yaml(callers: tuple[Caller, ...]) -> str:
    """The organizations.yaml of the callers."""
    organizations = []
    for caller in callers:
        organization: dict[str, object] = {"id": caller.org, "name": caller.name, "plan": caller.plan}
        if caller.spend_limit_usd is not None:
            organization["spend_limit"] = {"usd": caller.spend_limit_usd}
        organization["credentials"] = [{"id": caller.credential, "key_sha256": caller.key_sha256}]
        organizations.append(organization)
    return yaml.safe_dump({"organizations": organizations}, sort_keys=False)
