"""What keeps a store or a database from taking a write, by name: in logs, readiness, metrics and `tallygate doctor`."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Obstacle:
    """name: one word, for the label of a metric. text: "the store …" goes on with it; no address and no secret."""

    name: str
    text: str


SILENT: Final = Obstacle("silent", "does not answer")
SLOW: Final = Obstacle("slow", "takes no writes in time: one was not taken within two seconds")
