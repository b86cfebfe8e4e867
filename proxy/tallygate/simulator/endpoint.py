"""One endpoint of the simulator."""

from collections.abc import Mapping
from dataclasses import dataclass

from tallygate.simulator.answer import Wire
from tallygate.simulator.requests import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method and path, in aiohttp's route syntax.

    parameters   added to those of path and query; is_public: needs no key; is_socket: it is spoken in frames
    """

    method: str
    path: str
    name: str
    read: Reader
    wire: Wire
    parameters: Mapping[str, str]
    is_public: bool = False
    is_socket: bool = False
