"""Limits that are read again and again: what has not changed is not decoded anew."""

from collections.abc import Sequence
from operator import is_
from types import SimpleNamespace
from typing import cast

import pytest

from tallygate.domain.admission import LimitQuestion, SpendDemand
from tallygate.domain.spend_limit import SpendLimit
from tallygate.limiter.limit_reading import LimitReading
from tallygate.limiter.script import Script, ScriptStore

ORGS = ("acme", "globex", "initech", "umbrella")
WEEK = SpendDemand(key="org:spend_7d", limit=SpendLimit(name="spend_7d", limit_nano_usd=10**9))


class Answering:
    """A store whose clock goes on with each call, and that knows what each organization has spent."""

    def __init__(self, *, is_cluster: bool) -> None:
        self.is_cluster = is_cluster
        self.spent = dict.fromkeys(ORGS, 0)
        self.now_ms = 0

    async def run_script(self, _script: object, keys: Sequence[bytes], _args: object) -> list[bytes]:
        self.now_ms += 1
        return [b"[%d,1,[],[[%d,0,0]]]" % (self.now_ms, self.spent[key.decode()]) for key in keys]


def reading_of(store: Answering) -> LimitReading:
    asked = [LimitQuestion(org, (), (WEEK,)) for org in ORGS]
    script = cast("Script", SimpleNamespace())
    return LimitReading(cast("ScriptStore", store), script, asked, keys_of=lambda org: (org.encode(),), time=lambda: b"")


@pytest.mark.parametrize("is_cluster", [False, True])
async def test_only_what_has_changed_is_another_object(is_cluster: bool) -> None:
    store = Answering(is_cluster=is_cluster)
    reading = reading_of(store)
    first = await reading.read()
    again = await reading.read()
    for spent, org in enumerate(("globex", "umbrella", "globex"), 1):
        before = await reading.read()
        store.spent[org] = spent

        after = await reading.read()

        assert list(map(is_, before, after)) == [other != org for other in ORGS]
        assert [state.spend[0].spent_nano_usd for state in after] == list(store.spent.values())

    assert again is first
    assert [state.spend[0].spent_nano_usd for state in first] == [0] * len(ORGS), "who has an older answer keeps it"
