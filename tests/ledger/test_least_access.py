"""The least user of the store: all that the product does runs under it, and each command that it lacks is noticed by name."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from limiter_at_work import ORGANIZATIONS, LimiterAtWork
from marked_partitions import mark_all
from new_ledger import new_ledger
from valkey_process import ValkeyProcess, running_valkey

from tallygate.app.stores import open_store
from tallygate.cli import main
from tallygate.config.settings import Settings, load_settings
from tallygate.console.limiter_store import LimiterStore
from tallygate.doctor.stores import examine_stores
from tallygate.domain.admission import Account
from tallygate.domain.errors import ConfigError, StoreError
from tallygate.domain.made_object import MadeObject
from tallygate.domain.stored_object import StoredKind
from tallygate.ledger.event_stream import EventStreams
from tallygate.limiter.address import parse_address
from tallygate.limiter.commands import COMMANDS, access_list, check_commands
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.directory_channel import DirectoryChannel, announce_change
from tallygate.limiter.fence import Fence
from tallygate.limiter.generation import is_unused, orgs_of, read_window, reanchor_org, reopen, stream_facts
from tallygate.limiter.last_used import claim_last_used, delete_claimed, record_last_used
from tallygate.limiter.object_marks import RedisObjectMarks, drop_marks
from tallygate.limiter.probe import probe_server
from tallygate.limiter.script import load_scripts
from tallygate.limiter.sweep import Sweeper

pytestmark = pytest.mark.process
USER = "meter"
OURS = {"auth", "hello", "acl|setuser", "acl|log", "config|resetstat", "client|setinfo"}  # of the test itself
FILE = MadeObject(upstream="u", kind=StoredKind.FILE, id="file-1")


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyProcess]:
    with running_valkey() as started:
        yield started


@pytest.fixture
def admin(server: ValkeyProcess) -> Iterator[redis.Redis]:
    """The server's administrator; the least user is made as `tallygate doctor --acl` says."""
    with server.client() as client:
        client.flushall()
        client.execute_command(*access_list(USER, is_cluster=False).replace("PASSWORD", "hunter2").split())
        yield client


@pytest.fixture
def url(server: ValkeyProcess) -> str:
    return f"redis://{USER}:hunter2@127.0.0.1:{server.port}/1"


@pytest.fixture
async def store(admin: redis.Redis, url: str) -> AsyncIterator[RedisConnection]:
    admin.execute_command("CONFIG", "RESETSTAT")
    opened = RedisConnection(parse_address(url), on_run=Fence(load_scripts().fence).check_run_id)
    await opened.open()
    yield opened
    await opened.close()


def settings_of(url: str, tmp_path: Path) -> Settings:
    return load_settings({"redis_url": url, "data_dir": str(tmp_path)})


async def everything(store: RedisConnection, url: str, tmp_path: Path) -> None:
    """What gateways, ledger and console do with the store."""
    database = await new_ledger(tmp_path)
    at_work, scripts, acme = LimiterAtWork(store, database), load_scripts(), ORGANIZATIONS[0]
    await probe_server(store)
    assert await is_unused(store)
    await mark_all(store, "another run")
    assert await Fence(scripts.fence).check_run_id(store.command, await store.command(b"INFO", b"server"))
    await reopen(store)
    for number in range(3):
        await at_work.spend(acme, "acme-prod", 500 + number)
    limiter, request = at_work.limiter, await at_work.request(acme, "acme-prod")
    await limiter.preview(request)
    await limiter.admit(request)
    account = Account(admission=request, cost_nano_usd=5, prompt_tokens=1, completion_tokens=1, event=request.event)
    await limiter.checkpoint([account])
    await limiter.defer(account)
    await limiter.withdraw(await at_work.admit(acme, "acme-prod"))
    console = LimiterStore(store, limiter, Sweeper(store, scripts), close=store.close, stream_bytes_max=10**9)
    backlog = await console.backlog()
    assert (backlog.events, backlog.waiting_bytes > 0) == (3, True)
    await console.check_writes()
    await console.check_commands()
    await console.check()
    await console.sweep()
    await at_work.writer.drain()
    streams = EventStreams(store, "two")
    await streams.claim(10, idle_ms=0)
    assert await streams.forget_consumers(idle_ms=-1) > 0
    assert (await stream_facts(store, 0)).last_event
    await orgs_of(store, 0)
    await read_window(store, "acme", "org:spend_month")
    await reanchor_org(store, scripts, "acme", lease_ms=1_000)
    await at_work.rebuilding().close_all()
    assert await at_work.rebuild() > 0
    assert await at_work.drifts() == []
    marks = RedisObjectMarks(store.post, store.command)
    marks.put("acme", [FILE], kept_ms=1_000)
    assert FILE in await marks.sizes("acme", [FILE])
    await drop_marks(store.command, "acme", [FILE])
    await record_last_used(store, {"acme-prod": 1})
    assert await claim_last_used(store) == {"acme-prod": 1}
    await delete_claimed(store)
    heard = asyncio.Event()
    listening = asyncio.create_task(DirectoryChannel(url).listen_forever(heard.set))
    await asyncio.wait_for(heard.wait(), 10)  # it has subscribed
    heard.clear()
    await announce_change(url)
    await asyncio.wait_for(heard.wait(), 10)
    listening.cancel()
    await database.close()


async def test_everything_runs_under_the_least_user_and_all_that_it_may_is_used(
    store: RedisConnection, admin: redis.Redis, url: str, tmp_path: Path
) -> None:
    admin.execute_command("ACL", "LOG", "RESET")
    await everything(store, url, tmp_path)
    assert admin.execute_command("ACL", "LOG") == []
    ran = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}
    assert ran - OURS == {name.lower().replace(" ", "|") for name in COMMANDS}


def test_what_scripts_call_on_rarer_ways_is_declared_as_well() -> None:
    scripts = Path(__file__).parents[2] / "proxy" / "tallygate" / "limiter" / "scripts"
    text = "".join(path.read_text() for path in scripts.rglob("*.lua"))
    called = {" ".join(filter(None, found)) for found in re.findall(r"call\('([A-Z]+)'(?:, '(STREAM|USAGE)')?", text)}
    assert len(called) == 23
    assert called <= set(COMMANDS)


async def test_each_command_that_is_taken_away_is_named_by_doctor(admin: redis.Redis, url: str, tmp_path: Path) -> None:
    for name in COMMANDS:
        admin.execute_command("ACL", "SETUSER", USER, f"-{name.lower().replace(' ', '|')}")
        found = [finding for finding in await examine_stores(settings_of(url, tmp_path)) if not finding.is_good]
        told = " ".join(finding.text for finding in found).upper().replace("|", " ")
        assert re.search(rf"\b{name}\b", told), (name, found)
        assert "HUNTER2" not in told
        admin.execute_command("ACL", "SETUSER", USER, f"+{name.lower().replace(' ', '|')}")
    assert [f.text for f in await examine_stores(settings_of(url, tmp_path)) if not f.is_good] == [
        "the append-only file is off: a restart would forget spend"
    ]


@pytest.mark.parametrize("rule", ["resetkeys", "resetchannels"])
async def test_other_keys_and_channels_are_noticed_too(admin: redis.Redis, url: str, tmp_path: Path, rule: str) -> None:
    admin.execute_command("ACL", "SETUSER", USER, rule)
    assert any("(NOPERM)" in finding.text for finding in await examine_stores(settings_of(url, tmp_path)))


async def test_a_user_that_may_ask_is_asked_about(admin: redis.Redis, url: str, tmp_path: Path) -> None:
    admin.execute_command("ACL", "SETUSER", USER, "+acl|whoami", "+acl|dryrun", "-subscribe")
    (found,) = [f for f in await examine_stores(settings_of(url, tmp_path)) if f.check == "permissions"]
    assert found.text.startswith("refuses SUBSCRIBE to its user (NOPERM)")


async def test_a_process_whose_user_lacks_a_command_does_not_start_and_says_which(
    admin: redis.Redis, url: str, tmp_path: Path
) -> None:
    admin.execute_command("ACL", "SETUSER", USER, "-hincrby", "-xadd")
    with pytest.raises(ConfigError, match="refuses HINCRBY, XADD to its user") as refused:
        await open_store(settings_of(url, tmp_path))
    assert "hunter2" not in str(refused.value)


async def test_a_permission_that_is_taken_away_while_it_runs_is_logged_and_named(
    admin: redis.Redis, store: RedisConnection, caplog: pytest.LogCaptureFixture
) -> None:
    admin.execute_command("ACL", "SETUSER", USER, "-hset")
    with pytest.raises(StoreError) as refused:
        await check_commands(store)
    assert refused.value.obstacle is not None
    assert refused.value.obstacle.text.startswith("refuses HSET to its user (NOPERM)")
    (record,) = caplog.records
    fields: dict[str, Any] = record.fields  # type: ignore[attr-defined]
    assert "'hset'" in fields["reason"]


def test_doctor_prints_the_least_user_and_no_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYGATE_REDIS_URL", url)
    printed = CliRunner().invoke(main, ["doctor", "--acl"]).stdout
    assert printed == f"{access_list(USER, is_cluster=False)}\n"
    assert "hunter2" not in printed
    monkeypatch.delenv("TALLYGATE_REDIS_URL")
    assert (
        CliRunner().invoke(main, ["doctor", "--acl"]).stdout.startswith("ACL SETUSER tallygate reset on >PASSWORD ~tg:* &tg:* +set")
    )
