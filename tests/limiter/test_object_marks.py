"""Marks of owned objects: in front of whatever is sent next, one organization's alone, and ending by themselves."""

from tallygate.domain.made_object import MadeObject
from tallygate.limiter.connection import RedisConnection
from tallygate.limiter.object_marks import KEPT_MS_MAX, MemoryObjectMarks, ObjectMarks, RedisObjectMarks

FILE = MadeObject(kind="file", id="file-1", upstream="default")
OTHERS = [
    MadeObject(kind="batch", id="file-1", upstream="default"),
    MadeObject(kind="file", id="file-2", upstream="default"),
    MadeObject(kind="file", id="file-1", upstream="other"),
]


async def check_marks(marks: ObjectMarks) -> None:
    marks.put("acme", [MadeObject(kind="file", id="file-1", upstream="default", tokens=12)], kept_ms=60_000)

    assert await marks.sizes("acme", [FILE, *OTHERS]) == {FILE: 12}
    assert await marks.sizes("big", [FILE]) == {}
    assert await marks.sizes("acme", []) == {}
    marks.put("acme", [FILE], kept_ms=60_000)
    assert await marks.sizes("acme", [FILE]) == {FILE: None}
    marks.drop("acme", [FILE, *OTHERS])
    assert await marks.sizes("acme", [FILE]) == {}


async def test_marks_without_a_store() -> None:
    await check_marks(MemoryObjectMarks())


async def test_marks_in_valkey_and_their_end(connection: RedisConnection) -> None:
    marks = RedisObjectMarks(connection.post, connection.command)
    await check_marks(marks)

    marks.put("acme", [FILE], kept_ms=10 * KEPT_MS_MAX)
    (key,) = await connection.command(b"KEYS", b"*object*")
    assert 0 < await connection.command(b"PTTL", key) <= KEPT_MS_MAX
    assert key.startswith(b"tg:{p")
