"""Limits of many organizations that are read again and again, as scrapes do.

What is asked is encoded once, and of what is answered only what has changed is decoded.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

from tallygate.domain.admission import LimitQuestion, LimitStates
from tallygate.limiter import wire
from tallygate.limiter.keys import partition_of
from tallygate.limiter.script import Script, ScriptStore
from tallygate.shares.together import answers


class _Call(NamedTuple):
    """One call of the script. places: of its organizations among all that are asked about."""

    places: Sequence[int]
    keys: tuple[bytes, ...]
    demands: tuple[bytes, ...]


class LimitReading:
    """One question, in as few calls as the store takes: it does nothing else meanwhile.

    keys_of   of an organization
    time      the script's first argument
    """

    def __init__(
        self,
        store: ScriptStore,
        script: Script,
        asked: Sequence[LimitQuestion],
        *,
        keys_of: Callable[[str], tuple[bytes, ...]],
        time: Callable[[], bytes],
    ) -> None:
        for question in asked:
            wire.check_spend(question.spend)
        self._store = store
        self._script = script
        self._time = time
        self._asked = asked
        together: defaultdict[int, list[int]] = defaultdict(list)  # of a cluster by partition, since a call takes keys of one slot
        for place, question in enumerate(asked):
            together[partition_of(question.org) if store.is_cluster else 0].append(place)
        self._calls = [
            _Call(
                places,
                tuple(chain.from_iterable(keys_of(asked[place].org) for place in places)),
                tuple(wire.encode_limits(*asked[place]) for place in places),
            )
            for places in together.values()
        ]
        self._found: dict[int, tuple[bytes, LimitStates]] = {}  # by place: the answer but for its time, and what it says

    async def read(self) -> Sequence[LimitStates]:
        """The states now, in the order of the questions. Raises StoreError.

        Where all but the time is as it was at the read before, it is the very object of that one, with its time.
        """
        time = self._time()
        replies = await answers([self._store.run_script(self._script, call.keys, (time, *call.demands)) for call in self._calls])
        for call, reply in zip(self._calls, replies, strict=True):
            for place, answer in zip(call.places, reply, strict=True):
                state = answer[answer.index(b",") :]
                known = self._found.get(place)
                if known is None or known[0] != state:
                    question = self._asked[place]
                    self._found[place] = state, wire.decode_limits(question.spend, answer)
        return [self._found[place][1] for place in range(len(self._asked))]
