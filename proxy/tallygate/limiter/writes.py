"""Why a Redis that answers takes no writes: the first word of its error, and what stands behind it.

The words are those of the servers' source (`shared.*err` of Redis 7.0 and Valkey 8: server.c, createSharedObjects).
"""

import re
from collections.abc import Mapping
from typing import Final

from tallygate.domain.obstacle import Obstacle

REPLICA: Final = Obstacle("replica", "takes no writes: it is a replica, and the master is elsewhere")
LOADING: Final = Obstacle("loading", "takes no writes yet: it is loading its data (LOADING)")
PERMISSION: Final = Obstacle("permission", "refuses a command to its user (NOPERM): tallygate doctor names it")
_OBSTACLES: Final[Mapping[str, Obstacle]] = {
    "OOM": Obstacle("memory", "takes no writes: its memory is full (OOM, maxmemory)"),
    "MISCONF": Obstacle("disk", "takes no writes: it cannot save its data, as its disk is full or refuses writes (MISCONF)"),
    "READONLY": REPLICA,
    "MASTERDOWN": REPLICA,
    "NOREPLICAS": Obstacle("replicas", "takes no writes: fewer replicas follow it than min-replicas-to-write wants (NOREPLICAS)"),
    "LOADING": LOADING,
    "BUSY": Obstacle("busy", "takes no writes: a script keeps it busy (BUSY)"),
    "NOPERM": PERMISSION,
    "NOAUTH": Obstacle("password", "wants a password (NOAUTH)"),
    "WRONGPASS": Obstacle("password", "does not accept the user or the password (WRONGPASS)"),
}
_WORD: Final = re.compile(rf"(?:^|-)({'|'.join(_OBSTACLES)})\b")  # Redis 6.2 has it inside: "… @user_script:1: -OOM command …"
_IN_SCRIPT: Final = "can't run this command"  # of Redis 7.0, for a command that the script's user may not run; it has no word


def obstacle_of(error: str) -> Obstacle | None:
    """What an error of the server means for writes; None for any other error."""
    word = _WORD.search(error)
    if word is not None:
        return _OBSTACLES[word[1]]
    return PERMISSION if _IN_SCRIPT in error else None


def is_replica(info: bytes) -> bool:
    """Return whether an answer to INFO is a replica's, which would refuse every write."""
    return b"\nrole:slave" in info
