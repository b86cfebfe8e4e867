"""Separate roles over one store and one PostgreSQL, which a test starts, stops and kills in its own order."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from fleet import ADMIN_TOKEN, START_SECONDS, Member, started_member
from postgres_process import PostgresProcess, running_postgres
from stack import AMPLE_PLANS, PATIENCE_SECONDS, PATIENT_DEADLINES
from system_traffic import api_key, three_organizations
from test_directory_live import CHAT, call
from valkey_process import running_valkey

from tallygate.simulator.server import running_simulator

IN_FILE = api_key("acme-prod")


@dataclass(kw_only=True)
class RolesAtWill:
    """members: those that were started, by the name of their directory."""

    directory: Path
    shared: dict[str, str]
    upstream_url: str
    postgres: PostgresProcess
    members: list[Member] = field(default_factory=list)

    def start(self, role: str, **settings: str) -> Member:
        directory = self.directory / f"{role}-{len(self.members)}"
        member = started_member(directory, role, self.shared, self.upstream_url, **settings)
        self.members.append(member)
        return member


@asynccontextmanager
async def roles_at_will(tmp_path: Path, **settings: str) -> AsyncIterator[RolesAtWill]:
    """An empty store and database, and the organizations of `three_organizations` in a file."""
    config_dir = tmp_path / "config"
    config_dir.mkdir()
    for name, content in {"plans": AMPLE_PLANS, "organizations": three_organizations()}.items():
        (config_dir / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    with running_valkey(append_only=True) as store, running_postgres() as postgres:
        async with running_simulator() as simulator:
            shared = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")} | {
                "TALLYGATE_CONFIG_DIR": str(config_dir),
                "TALLYGATE_REDIS_URL": store.url,
                "TALLYGATE_DATABASE_URL": postgres.url(),
                "TALLYGATE_ADMIN_TOKEN": ADMIN_TOKEN,
                "TALLYGATE_WORKERS": "1",
                **PATIENT_DEADLINES,
                **{f"TALLYGATE_{name.upper()}": value for name, value in settings.items()},
            }
            roles = RolesAtWill(directory=tmp_path, shared=shared, upstream_url=simulator.url, postgres=postgres)
            try:
                yield roles
            finally:
                for member in roles.members:
                    member.process.terminate()
                for member in roles.members:
                    await asyncio.to_thread(member.process.wait, PATIENCE_SECONDS)


async def chat_with(member: Member, key: str) -> tuple[int, str]:
    """Status, and the code of the error if it is one; 0 if nobody answers."""
    try:
        status, body = await asyncio.to_thread(call, f"{member.url}/v1/chat/completions", key, "POST", CHAT)
    except OSError:
        return 0, ""
    return status, body.get("error", {}).get("code", "") if status != 200 else ""


async def until(ask: Any, wanted: Any, seconds: float = START_SECONDS) -> None:
    """Ask until the answer is the wanted one."""
    async with asyncio.timeout(seconds):
        while await ask() != wanted:
            await asyncio.sleep(0.1)
