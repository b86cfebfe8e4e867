"""The whole product on a store that sentinels watch: its master is killed in the middle of traffic."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sentinel_processes import running_sentinels
from stack import eventually, running_stack
from system_traffic import Seen, ask, assert_all_sums_agree, callers, chat, three_organizations, true_cost

pytestmark = pytest.mark.timeout(300)


async def test_a_killed_master_is_replaced_and_the_books_are_whole(tmp_path: Path) -> None:
    with running_sentinels(append_only=True) as watched:
        master, replica = watched.servers
        settings = {"workers": "2", "lease_seconds": "5", "checkpoint_seconds": "1", "store_deadline_ms": "2000"}
        config = {"organizations": three_organizations()}
        async with (
            running_stack(tmp_path, config=config, store_url=watched.url, store=master.client(), **settings) as stack,
            callers() as session,
        ):
            seen: list[Seen] = []
            is_over = asyncio.Event()

            async def keep_asking(credential: str) -> None:
                while not is_over.is_set():
                    seen.append(await ask(session, stack, credential, chat("tokens=20 tps=40")))

            asking = [asyncio.ensure_future(keep_asking(credential)) for credential in ("acme-prod", "globex-prod") * 5]
            await eventually(lambda: len(seen) > 20, "traffic flows")
            master.signal(signal.SIGKILL)
            await watched.moved(master.port)
            stack.store = replica.client()
            count = len(seen)
            await eventually(lambda: sum(one.status == 200 for one in seen[count:]) > 20, "traffic flows again")
            is_over.set()
            await asyncio.gather(*asking)

            for org in ("acme", "globex"):
                await eventually(lambda org=org: stack.window(org)["held"] == 0, "holds end")
            whole = {one.request_id for one in seen if one.is_whole and one.status == 200}
            await eventually(lambda: whole <= {event["event_id"] for event in stack.events()}, "what was lost is entered again")
            events = stack.events()
            costs = {event["event_id"]: int(event["_cost_nano_usd"]) for event in events}
            assert {one.status for one in seen} <= {200, 503}
            for request_id in whole:
                (record,) = stack.ledger.by_request_id(request_id)
                assert costs[request_id] == true_cost(record)
            await assert_all_sums_agree(stack, events)

            doctor = [sys.executable, "-m", "tallygate", "doctor", "--data-dir", str(stack.data_dir)]
            found = await asyncio.to_thread(subprocess.run, doctor, capture_output=True, text=True, check=False, timeout=120)
            assert f"3 of 3 name 127.0.0.1:{replica.port}" in found.stdout, found.stdout + found.stderr
