"""What is done to a fleet and its store, one step after another: drawn from a seed, and written as lines of JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from random import Random


class Act(StrEnum):
    KILL_WORKER = "kill a worker"
    KILL_GATEWAY = "kill a gateway"
    KILL_LEDGER = "kill a ledger"
    KILL_CONSOLE = "kill a console"
    KILL_MASTER = "kill a master"
    KILL_REPLICA = "kill a replica"
    PAUSE_WORKER = "pause a worker"
    PAUSE_LEDGER = "pause a ledger"
    PAUSE_MASTER = "pause a master"
    PAUSE_REPLICA = "pause a replica"
    REFUSE = "refuse connections to a server"
    SWALLOW = "swallow a server's replies"
    DELAY = "delay what a server is told and tells"
    ISOLATE = "isolate a server from the others"
    MOVE_SLOT = "move a slot"
    FAIL_OVER = "fail over by hand"
    TAKE_OVER = "take over by force"
    STEP_GATEWAY = "set a gateway's clock"
    STEP_LEDGER = "set a ledger's clock"
    STEP_STORE = "set a server's clock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """What an act is like.

    weight      how often it is drawn, beside the others
    lasts_ms    the least and the most
    forgets     it ends workers, and with them their memory of recent settlements
    loses       a master may be replaced by one that lacks what was acknowledged. Workers have that in memory, so nothing is
                promised for the two at once (docs/operate.md, "Lost writes"): no step that forgets is under way while one loses
    """

    weight: int
    lasts_ms: tuple[int, int]
    forgets: bool = False
    loses: bool = False


NATURES = {
    Act.KILL_WORKER: Nature(weight=30, lasts_ms=(0, 0), forgets=True),
    Act.KILL_GATEWAY: Nature(weight=6, lasts_ms=(0, 2_000), forgets=True),
    Act.KILL_LEDGER: Nature(weight=10, lasts_ms=(0, 3_000)),
    Act.KILL_CONSOLE: Nature(weight=8, lasts_ms=(0, 1_000)),
    Act.KILL_MASTER: Nature(weight=6, lasts_ms=(0, 6_000), loses=True),
    Act.KILL_REPLICA: Nature(weight=8, lasts_ms=(0, 3_000)),
    Act.PAUSE_WORKER: Nature(weight=2, lasts_ms=(500, 7_000)),  # longer than a lease
    Act.PAUSE_LEDGER: Nature(weight=2, lasts_ms=(500, 7_000)),
    Act.PAUSE_MASTER: Nature(weight=2, lasts_ms=(200, 6_000), loses=True),  # longer than the cluster waits
    Act.PAUSE_REPLICA: Nature(weight=2, lasts_ms=(500, 4_000)),
    Act.REFUSE: Nature(weight=2, lasts_ms=(100, 3_000)),
    Act.SWALLOW: Nature(weight=2, lasts_ms=(100, 4_000)),
    Act.DELAY: Nature(weight=2, lasts_ms=(500, 4_000)),
    Act.ISOLATE: Nature(weight=2, lasts_ms=(500, 7_000), loses=True),
    Act.MOVE_SLOT: Nature(weight=3, lasts_ms=(0, 0)),
    Act.FAIL_OVER: Nature(weight=2, lasts_ms=(0, 0)),
    Act.TAKE_OVER: Nature(weight=1, lasts_ms=(0, 0), loses=True),
    Act.STEP_GATEWAY: Nature(weight=1, lasts_ms=(500, 4_000)),
    Act.STEP_LEDGER: Nature(weight=1, lasts_ms=(500, 4_000)),
    Act.STEP_STORE: Nature(weight=1, lasts_ms=(500, 4_000), loses=True),  # its cluster times the others by it
}
KILLS = frozenset(act for act in Act if act.startswith("kill"))
STEPS_MS = (-7_200_000, -240_000, -5_000, 5_000, 240_000, 7_200_000)  # of a clock: what is tolerated, and what is more than that
PAUSE_MS = 700  # between the beginnings of two steps, on average


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """after_ms: since the step before began. which: counts the targets round. amount: milliseconds of a clock or of a delay."""

    number: int
    act: Act
    after_ms: int
    lasts_ms: int
    which: int
    amount: int = 0

    @property
    def nature(self) -> Nature:
        return NATURES[self.act]

    def __str__(self) -> str:
        amount = f" by {self.amount} ms" if self.amount else ""
        return f"#{self.number} {self.act} ({self.which}) for {self.lasts_ms} ms{amount}"


def drawn_steps(seed: int, kills: int) -> list[Step]:
    """The same for the same seed, however many: so many kills, what is drawn between them, and nothing after the last."""
    random = Random(seed)
    acts, weights = [*NATURES], [nature.weight for nature in NATURES.values()]
    steps: list[Step] = []
    killed = 0
    while killed < kills:
        act = random.choices(acts, weights)[0]
        killed += act in KILLS
        amount = random.randint(20, 400) if act is Act.DELAY else 0
        if act in {Act.STEP_GATEWAY, Act.STEP_LEDGER, Act.STEP_STORE}:
            amount = random.choice(STEPS_MS)
        steps.append(
            Step(
                number=len(steps),
                act=act,
                after_ms=round(random.expovariate(1 / PAUSE_MS)),
                lasts_ms=random.randint(*NATURES[act].lasts_ms),
                which=random.randrange(1_000),
                amount=amount,
            )
        )
    return steps


def written(steps: Iterable[Step]) -> str:
    return "".join(json.dumps(asdict(step)) + "\n" for step in steps)


def read(path: Path) -> list[Step]:
    """What `written` wrote, or a part of it. Raises ValueError or TypeError if a line is no step."""
    found = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [Step(**line | {"act": Act(line["act"])}) for line in found]
