"""Limits of many organizations that are read again and again, as scrapes do.

What is asked is encoded once, and of what is answered only what has changed is decoded.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final, NamedTuple

from tallygate.domain.admission import LimitQuestion, LimitStates
from tallygate.limiter import wire
from tallygate.limiter.keys import partition_of
from tallygate.limiter.script import Script, ScriptStore
from tallygate.shares.together import answers

_UNREAD: Final = LimitStates(now_ms=0, knows_spend=False, rate=(), spend=())


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
        self._said = [[b""] * len(call.places) for call in self._calls]  # by call: the answers but for their time
        self._found: Sequence[LimitStates] = [_UNREAD] * len(asked)

    async def read(self) -> Sequence[LimitStates]:
        """The states now, in the order of the questions. Raises StoreError.

        Where all but the time is as it was at the read before, it is the very object of then with its time, and so is the sequence.
        """
        time = self._time()
        replies = await answers([self._store.run_script(self._script, call.keys, (time, *call.demands)) for call in self._calls])
        found = [*self._found]
        for number, (call, reply) in enumerate(zip(self._calls, replies, strict=True)):
            behind = reply[0].index(b",")  # all answers of a call are of one time
            said = [answer[behind:] for answer in reply]
            if said != self._said[number]:
                for place, then, now, answer in zip(call.places, self._said[number], said, reply, strict=True):
                    if now != then:
                        found[place] = wire.decode_limits(self._asked[place].spend, answer)
                self._said[number], self._found = said, found
        return self._found
