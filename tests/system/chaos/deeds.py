"""Carries out the steps of a plan on a fleet and its store, several at a time, and waits until each has been recovered from."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import psutil
from fleet import Fleet, Member
from ledger_truth import spools_are_empty
from valkey_process import ValkeyProcess

from chaos.clocks import set_clock
from chaos.plan import KILLS, Act, Step
from chaos.store import ChaosStore, slot_of
from tallygate.limiter.keys import PARTITIONS

AT_ONCE = 4
RECOVERY_SECONDS = 150.0  # on a busy machine, where each start is seconds of work, up to five of them apart
NOTICED_SECONDS = 1.5  # until every process follows the store's new map
POLL_SECONDS = 0.1
LOOKS_MAX = round(RECOVERY_SECONDS / POLL_SECONDS)  # not a time: a machine that stands still meanwhile looks no more often
WORKER = "tallygate.processes.worker"
CONSOLE = "tallygate.processes.console"  # which in a ledger keeps the ledger


class Turns:
    """Which steps may be under way together: see Nature."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._places = AT_ONCE
        self._forgetting = self._losing = 0

    async def enter(self, step: Step) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._may(step))
            self._places -= 1
            self._forgetting += step.nature.forgets
            self._losing += step.nature.loses

    async def leave(self, step: Step) -> None:
        async with self._changed:
            self._places += 1
            self._forgetting -= step.nature.forgets
            self._losing -= step.nature.loses
            self._changed.notify_all()

    def _may(self, step: Step) -> bool:
        is_apart = not (step.nature.loses and self._forgetting) and not (step.nature.forgets and self._losing)
        return self._places > 0 and is_apart


class Deeds:
    """done: how often each act was carried out. started_again: members that had given up their start, since they found no store."""

    def __init__(self, fleet: Fleet, store: ChaosStore, *, workers: int) -> None:
        self._fleet = fleet
        self._store = store
        self._workers = workers
        self._locks: defaultdict[object, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._turns = Turns()
        self.done: Counter[Act] = Counter()
        self.started_again = 0
        self._acts: dict[Act, Callable[[Step], Awaitable[None]]] = {
            Act.KILL_WORKER: self._kill_worker,
            Act.KILL_GATEWAY: lambda step: self._kill_member("gateway", step),
            Act.KILL_LEDGER: lambda step: self._kill_member("ledger", step),
            Act.KILL_CONSOLE: lambda step: self._kill_member("console", step),
            Act.KILL_MASTER: lambda step: self._of_server(step, store.master, self._kill_server),
            Act.KILL_REPLICA: lambda step: self._of_server(step, store.replica, self._kill_server),
            Act.PAUSE_WORKER: lambda step: self._pause_child("gateway", WORKER, step),
            Act.PAUSE_LEDGER: lambda step: self._pause_child("ledger", CONSOLE, step),
            Act.PAUSE_MASTER: lambda step: self._of_server(step, store.master, self._pause_server),
            Act.PAUSE_REPLICA: lambda step: self._of_server(step, store.replica, self._pause_server),
            Act.REFUSE: lambda step: self._of_server(step, store.master, self._refuse),
            Act.SWALLOW: lambda step: self._of_server(step, store.master, self._swallow),
            Act.DELAY: lambda step: self._of_server(step, store.master, self._delay),
            Act.ISOLATE: lambda step: self._of_server(step, store.master, self._isolate),
            Act.MOVE_SLOT: lambda step: self._of_server(step, self._owner_of_partition, self._move_slot),
            Act.FAIL_OVER: lambda step: self._of_server(step, store.replica, self._promote),
            Act.TAKE_OVER: lambda step: self._of_server(step, store.replica, self._promote),
            Act.STEP_GATEWAY: lambda step: self._step_member("gateway", step),
            Act.STEP_LEDGER: lambda step: self._step_member("ledger", step),
            Act.STEP_STORE: lambda step: self._of_server(step, store.master, self._step_server),
        }
        assert self._acts.keys() == {*Act}

    @property
    def kills(self) -> int:
        return sum(count for act, count in self.done.items() if act in KILLS)

    async def carry_out(self, steps: Iterable[Step]) -> None:
        """All of them, begun in their order, and recovered from. Raises what the first failure does, with a note of its step."""
        async with asyncio.TaskGroup() as tasks:
            for step in steps:
                await asyncio.sleep(step.after_ms / 1000)
                await self._turns.enter(step)
                tasks.create_task(self._carry_out(step))
        await self.until_settled()

    async def _carry_out(self, step: Step) -> None:
        try:
            if step.nature.loses:
                await self._store.until_whole()  # what a worker that is gone had settled is in the replicas too
            await self._acts[step.act](step)
            if step.nature.loses:
                await self.until_settled()
        except BaseException as error:
            error.add_note(f"at step {step}")
            raise
        finally:
            self.done[step.act] += 1
            await self._turns.leave(step)

    async def until_settled(self) -> None:
        """The store is whole, all members are ready, and what waited in the gateways' spools is settled."""
        await self._store.until_whole()
        await asyncio.sleep(NOTICED_SECONDS)
        for member in self._fleet.members:
            async with self._locks[member.directory]:
                await self._until_recovered(member)
        async with asyncio.timeout(RECOVERY_SECONDS):
            for gateway in self._fleet.of("gateway"):
                while not spools_are_empty(gateway.directory / "data"):
                    await asyncio.sleep(POLL_SECONDS)

    def _member(self, role: str, step: Step) -> Member:
        members = self._fleet.of(role)
        return members[step.which % len(members)]

    async def _kill_member(self, role: str, step: Step) -> None:
        member = self._member(role, step)
        async with self._locks[member.directory]:
            await asyncio.to_thread(member.kill)
            await asyncio.sleep(step.lasts_ms / 1000)
            member.start()
            await self._until_recovered(member)

    async def _kill_worker(self, step: Step) -> None:
        gateway = self._member("gateway", step)
        async with self._locks[gateway.directory]:
            children = _children(gateway, WORKER)
            children[step.which // 2 % len(children)].kill()
            await self._until_recovered(gateway)

    async def _pause_child(self, role: str, module: str, step: Step) -> None:
        member = self._member(role, step)
        async with self._locks[member.directory]:
            children = _children(member, module)
            child = children[step.which // 2 % len(children)]
            child.suspend()
            try:
                await asyncio.sleep(step.lasts_ms / 1000)
            finally:
                with suppress(psutil.NoSuchProcess):
                    child.resume()
            await self._until_recovered(member)

    async def _step_member(self, role: str, step: Step) -> None:
        await self._step_clock(self._member(role, step), step)

    async def _step_server(self, server: ValkeyProcess, step: Step) -> None:
        await self._step_clock(server, step)

    async def _step_clock(self, whose: Member | ValkeyProcess, step: Step) -> None:
        set_clock(whose.directory, step.amount)
        try:
            await asyncio.sleep(step.lasts_ms / 1000)
        finally:
            set_clock(whose.directory, 0)

    async def _until_recovered(self, member: Member) -> None:
        """It is ready, and has the workers that it should have. One that gave up its start is started again, as systemd does."""
        text = ""
        for _ in range(LOOKS_MAX):
            if member.process.poll() is not None:
                member.start()
                self.started_again += 1
            status, text = await member.get("/readyz")
            if status == 200 and self._has_its_workers(member):
                return
            await asyncio.sleep(POLL_SECONDS)
        raise AssertionError(f"never recovers: {member.directory}: {text}")

    def _has_its_workers(self, member: Member) -> bool:
        return member.role != "gateway" or len(_children(member, WORKER)) == self._workers

    async def _of_server(
        self,
        step: Step,
        choose: Callable[[int], Awaitable[ValkeyProcess]],
        act: Callable[[ValkeyProcess, Step], Awaitable[None]],
    ) -> None:
        """One of the store at a time: two at once are no failure that a cluster of this size is to survive."""
        async with self._locks[ChaosStore]:
            await act(await choose(step.which), step)
            await self._store.until_whole()

    async def _owner_of_partition(self, which: int) -> ValkeyProcess:
        return await asyncio.to_thread(self._store.cluster.owner, slot_of(which % PARTITIONS))

    async def _kill_server(self, server: ValkeyProcess, step: Step) -> None:
        server.kill()
        await asyncio.sleep(step.lasts_ms / 1000)
        await asyncio.to_thread(server.start)

    async def _pause_server(self, server: ValkeyProcess, step: Step) -> None:
        with server.paused():
            await asyncio.sleep(step.lasts_ms / 1000)

    async def _refuse(self, server: ValkeyProcess, step: Step) -> None:
        door = self._store.door(server).clients
        door.refuse = True
        door.cut()
        await asyncio.sleep(step.lasts_ms / 1000)
        door.refuse = False

    async def _swallow(self, server: ValkeyProcess, step: Step) -> None:
        door = self._store.door(server).clients
        door.swallow = True
        await asyncio.sleep(step.lasts_ms / 1000)
        door.swallow = False
        door.cut()  # a reply that is missing would put all later ones out of place

    async def _delay(self, server: ValkeyProcess, step: Step) -> None:
        door = self._store.door(server).clients
        door.delay_seconds = step.amount / 1000
        await asyncio.sleep(step.lasts_ms / 1000)
        door.delay_seconds = 0

    async def _isolate(self, server: ValkeyProcess, step: Step) -> None:
        node = self._store.door(server).node
        self._store.isolated.add(node)
        self._store.cut_bus()
        await asyncio.sleep(step.lasts_ms / 1000)
        self._store.isolated.discard(node)

    async def _move_slot(self, source: ValkeyProcess, step: Step) -> None:
        others = [server for server in await asyncio.to_thread(self._store.cluster.serving) if server is not source]
        target = others[step.which // PARTITIONS % len(others)]
        await asyncio.to_thread(self._store.cluster.move, slot_of(step.which % PARTITIONS), source, target)

    async def _promote(self, replica: ValkeyProcess, step: Step) -> None:
        await self._store.promote(replica, *(("TAKEOVER",) if step.act is Act.TAKE_OVER else ()))


def _children(member: Member, module: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(member.process.pid).children():
        with suppress(psutil.NoSuchProcess):
            if module in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return sorted(found, key=lambda child: child.pid)
