"""The whole product over a Redis Cluster: a slot moves and a master is killed in the middle of traffic."""

import asyncio
import binascii
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from cluster_processes import SLOTS, running_cluster
from stack import eventually, running_stack
from system_traffic import Seen, ask, assert_all_sums_agree, callers, chat, three_organizations, true_cost

from tallygate.limiter.keys import partition_of

pytestmark = pytest.mark.timeout(300)


def slot_of(org: str) -> int:
    return binascii.crc_hqx(b"p%02d" % partition_of(org), 0) % SLOTS


async def test_a_slot_moves_and_a_master_dies_and_the_books_are_whole(tmp_path: Path) -> None:
    with running_cluster(has_replicas=True, append_only=True) as cluster:
        settings = {"workers": "2", "lease_seconds": "5", "checkpoint_seconds": "1", "store_deadline_ms": "3000"}
        config = {"organizations": three_organizations()}
        client = redis.RedisCluster(host="127.0.0.1", port=cluster.masters[0].port)
        async with (
            running_stack(tmp_path, config=config, store_url=cluster.url, store=client, **settings) as stack,
            callers() as session,
        ):
            seen: list[Seen] = []
            seen_by_acme: list[Seen] = []
            is_over = asyncio.Event()

            async def keep_asking(credential: str) -> None:
                while not is_over.is_set():
                    one = await ask(session, stack, credential, chat("tokens=20 tps=40"))
                    seen.append(one)
                    if credential == "acme-prod":
                        seen_by_acme.append(one)

            asking = [asyncio.ensure_future(keep_asking(credential)) for credential in ("acme-prod", "globex-prod", "big-prod") * 4]
            await eventually(lambda: len(seen) > 20, "traffic flows")
            source = cluster.owner(slot_of("acme"))
            target = next(server for server in cluster.masters if server is not source)
            await asyncio.to_thread(cluster.move, slot_of("acme"), source, target)
            count = len(seen)
            await eventually(lambda: len(seen) > count + 30, "traffic flows after the move")
            assert {one.status for one in seen} == {200}

            victim = cluster.owner(slot_of("acme"))
            victim.kill()
            count = len(seen_by_acme)
            await eventually(lambda: sum(one.status == 200 for one in seen_by_acme[count:]) > 10, "acme is served again")
            is_over.set()
            await asyncio.gather(*asking)
            alive = next(server for server in cluster.masters if server is not victim)
            stack.store = redis.RedisCluster(host="127.0.0.1", port=alive.port)

            for org in ("acme", "globex", "big"):
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
            assert found.stdout.count("answers") >= 3, found.stdout + found.stderr
