"""A master is cut off from its replica, which is promoted: a gateway stays with the old one for a while, the ledger does not."""

import asyncio
import os
from pathlib import Path

import pytest
import yaml
from fault_proxy import FaultProxy
from fleet import ADMIN_TOKEN, started_member
from stack import AMPLE_PLANS, PATIENT_DEADLINES, eventually, rows_of
from system_traffic import Seen, ask, callers, chat, three_organizations, true_cost
from valkey_process import running_valkey

from tallygate.gateway.settling.recent import KEPT_MS
from tallygate.simulator.server import running_simulator

pytestmark = pytest.mark.timeout(300)
SPLIT_SECONDS = 8.0
assert SPLIT_SECONDS * 1000 < KEPT_MS


async def test_what_a_master_took_alone_is_entered_again(tmp_path: Path) -> None:
    config_dir, database = tmp_path / "config", tmp_path / "ledger.db"
    config_dir.mkdir()
    for name, content in {"plans": AMPLE_PLANS, "organizations": three_organizations()}.items():
        (config_dir / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    with running_valkey(append_only=True) as old, running_valkey(append_only=True) as new:
        new.client().replicaof("127.0.0.1", str(old.port))
        await eventually(lambda: new.client().info("replication").get("master_link_status") == "up", "the replica follows")
        to_gateway, to_ledger = FaultProxy(old.port), FaultProxy(old.port)
        await asyncio.gather(to_gateway.start(), to_ledger.start())
        async with running_simulator() as simulator, callers() as session:
            shared = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")} | {
                "TALLYGATE_CONFIG_DIR": str(config_dir),
                "TALLYGATE_DATABASE_URL": f"sqlite:///{database}",
                "TALLYGATE_ADMIN_TOKEN": ADMIN_TOKEN,
                **PATIENT_DEADLINES,
            }
            ledger = started_member(tmp_path / "ledger", "ledger", shared, simulator.url, redis_url=to_ledger.url)
            gateway = started_member(tmp_path / "gateway", "gateway", shared, simulator.url, redis_url=to_gateway.url, workers="1")
            try:
                await asyncio.gather(ledger.until_ready(), gateway.until_ready())
                seen: list[Seen] = []

                async def serve_for(seconds: float) -> None:
                    until = asyncio.get_running_loop().time() + seconds
                    while asyncio.get_running_loop().time() < until:
                        one = await ask(session, gateway, "acme-prod", chat())  # type: ignore[arg-type]  # its URL is all that counts
                        assert (one.status, one.is_whole) == (200, True)
                        seen.append(one)

                await serve_for(1)
                new.client().replicaof("NO", "ONE")
                to_ledger.lead_to(new.port)
                to_ledger.cut()
                await serve_for(SPLIT_SECONDS)
                to_gateway.lead_to(new.port)
                to_gateway.cut()
                old.client().replicaof("127.0.0.1", str(new.port))  # and drops what it took alone

                costs = {}
                for one in seen:
                    (record,) = simulator.ledger.by_request_id(one.request_id)
                    costs[one.request_id] = true_cost(record)

                def entered() -> dict[str, int]:
                    rows = rows_of(database, "SELECT event_id, sum(posted_nano_usd) AS posted FROM entries GROUP BY event_id")
                    return {row["event_id"]: row["posted"] for row in rows}

                await eventually(lambda: entered().keys() >= costs.keys(), "what the old master took is entered again", seconds=90)
                assert entered() == costs
            finally:
                await asyncio.gather(gateway.end(), ledger.end())
        await asyncio.gather(to_gateway.stop(), to_ledger.stop())
