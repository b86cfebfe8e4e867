"""The directory's functions over one database, with a clock and random bytes that tests know."""

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from tallygate.config.load import load_config
from tallygate.config.model import GatewayConfig
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.ledger.database import Database
from tallygate.ledger.directory.admin_tokens import AdminTokens
from tallygate.ledger.directory.changes import Changes
from tallygate.ledger.directory.credentials import Credentials
from tallygate.ledger.directory.objects import no_marks
from tallygate.ledger.directory.organizations import Organizations
from tallygate.ledger.directory.replica import DirectoryReplica
from tallygate.ledger.directory.rules import Rules

ME = "test"
ACME: dict[str, Any] = {"id": "acme", "name": "Acme", "plan": "pay_as_you_go", "spend_limit": {"usd": "25"}}
DAY_MS = 86_400_000


def load(directory: Path, **files: Any) -> GatewayConfig:
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return load_config(
        directory,
        shipped_dir=shipped_directory(),
        known_dialects=dialects().traits,
        environ={},
        default_url="https://up.example",
    )


@dataclass
class DirectoryWorld:
    database: Database
    config: GatewayConfig
    now_ms: int = 1_800_000_000_000
    told: int = 0
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        changes = Changes(self.database, now_ms=lambda: self.now_ms, on_committed=self._announce)
        rules = Rules(lambda: self.config)
        self.changes = changes
        self.organizations = Organizations(changes, rules, no_marks)
        self.credentials = Credentials(changes, rules, random_bytes=self._random)
        self.tokens = AdminTokens(changes, random_bytes=self._random)
        self.replica = DirectoryReplica(self.database, lambda: self.config)

    def _random(self, size: int) -> bytes:
        return next(self._numbers).to_bytes(size)

    async def _announce(self) -> None:
        self.told += 1

    def without_plan(self, plan: str) -> None:
        """As a reload of plans.yaml without it would."""
        self.config = replace(
            self.config, stated_plans={name: stated for name, stated in self.config.stated_plans.items() if name != plan}
        )

    async def acme(self, **changes: Any) -> None:
        await self.organizations.create(ME, ACME | changes)
