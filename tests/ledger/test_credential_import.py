"""Keys that callers have already: lists of them read, judged and entered, cut off and run again."""

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest

from tallygate.config.problems import Problems
from tallygate.ledger.database import Database
from tallygate.ledger.directory import credential_import, credential_rows
from tallygate.ledger.directory.rules import Rules
from tests.ledger.directory_world import ME, DirectoryWorld, load


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


FILED: dict[str, Any] = {
    "id": "filed",
    "plan": "pay_as_you_go",
    "credentials": [
        {
            "id": "filed-prod",
            "key_sha256": sha("filed"),
            "old_key_sha256": sha("filed-before"),
            "old_key_until": "2031-01-31",
        }
    ],
}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> DirectoryWorld:
    return DirectoryWorld(database, load(tmp_path / "config", organizations={"organizations": [FILED]}))


def world_imports(world: DirectoryWorld) -> credential_import.CredentialImport:
    return credential_import.CredentialImport(world.changes, Rules(lambda: world.config))


def nobody(_count: int) -> None:
    return


def read(text: str | bytes, *, hashes_keys: bool = False) -> tuple[list[credential_rows.ImportedKey], tuple[str, ...]]:
    problems = Problems()
    file = io.BytesIO(text.encode() if isinstance(text, str) else text)
    found = credential_rows.read_credential_rows(
        file, named="keys.csv", hashes_keys=hashes_keys, capabilities={"chat", "embeddings"}, problems=problems
    )
    return found, problems.texts()


def wrong_with(text: str | bytes, *, hashes_keys: bool = False) -> tuple[str, ...]:
    return read(text, hashes_keys=hashes_keys)[1]


def rows_of(text: str) -> list[credential_rows.ImportedKey]:
    found, problems = read(text)
    assert problems == ()
    return found


SECRET = "sk-secret-0123456789abcdef"
DIGEST = sha("another")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "keys.csv:1: must name the columns"),
        (f"acme,studio-1,{SECRET}\n", "keys.csv:1: must name the columns: the 1. is none"),
        (f"org,id,key_sha256,id\nacme,a,{DIGEST},a\n", "keys.csv:1: names a column twice"),
        (f"org,id,key_sha256\nacme,a,{SECRET}\n", "keys.csv:2: key_sha256 must be the 64 hex digits"),
        (f"org,id,key_sha256\nacme,a,{sha('')}\n", "keys.csv:2: key_sha256 must be the 64 hex digits"),
        (f"org,id,key_sha256\nacme,a\n", "keys.csv:2: has 2 values, the first line names 3 columns"),  # noqa: F541
        (f"org,id,key_sha256\nacme,a/{SECRET},{DIGEST}\n", "keys.csv:2: id must be 1 to 64 of"),
        (f"org,id,key_sha256\nacme,{SECRET},{sha(SECRET)}\n", "keys.csv:2: has its key, or what looks like one, in another column"),
        (f"org,id,key_sha256,name\nacme,a,{sha(SECRET)},{SECRET}\n", "keys.csv:2: has its key, or what looks like one"),
        (f"org,id,key_sha256\nacme,{SECRET},{DIGEST}\n", "keys.csv:2: has its key, or what looks like one"),  # of another row
        (f"org,id,key_sha256,models\nacme,a,{sha('opaque')},opaque\n", "keys.csv:2: has its key, or what looks like one"),
        (f"org,id,key_sha256\n,a,{DIGEST}\n", "keys.csv:2: org must be 1 to 64 of"),
        (f"org,id,key_sha256,expires\nacme,a,{DIGEST},{SECRET}\n", "keys.csv:2: expires must be a date"),
        (f"org,id,key_sha256,capabilities\nacme,a,{DIGEST},{SECRET}\n", "keys.csv:2: capabilities has one that no route has"),
        (f"org,id,key_sha256,models\nacme,a,{DIGEST},{SECRET}*x\n", "keys.csv:2: models must be names of models"),
        (f"org,id,key_sha256,name\nacme,a,{DIGEST},{SECRET}\x07\n", "keys.csv:2: name must be printable"),
        (f'org,id,key_sha256\nacme,a,"{SECRET}\n', "keys.csv:2: is no CSV"),
        (f"org,id,key_sha256\nacme,a,{DIGEST}\nacme,b,{DIGEST}\n", "keys.csv:3: its key stands on line 2 already"),
        (f"org,id,key_sha256\nacme,a,{DIGEST}\nbig,a,{sha('b')}\n", "keys.csv:3: its id stands on line 2 already"),
        (f'{{"org": "acme", "id": "a", "key_sha256": "{SECRET}"\n', "keys.csv:1: is not a JSON object"),
        (f'{{"org": "acme", "id": "a", "{SECRET}": 1}}\n', "keys.csv:1: has a member that is none"),
        (f'{{"org": "acme", "id": 7, "key_sha256": "{DIGEST}"}}\n', "keys.csv:1: id must be text"),
        (f'{{"org": "acme", "id": "a", "key_sha256": "{DIGEST}", "models": []}}\n', "keys.csv:1: models must be some names"),
        (b"org,id,key_sha256\nacme,\xff\xfe,x\n", "keys.csv:2: id must be 1 to 64 of"),
        (f"org,id,key_sha256\nacme,a,{DIGEST}\n{SECRET * 3000}\n", "a line after line 2 is longer than 65,536 bytes"),
    ],
)
def test_what_is_wrong_with_a_list_is_told_by_line_and_shows_no_key(text: str | bytes, says: str) -> None:
    texts = "\n".join(wrong_with(text))
    assert says in texts
    assert SECRET not in texts


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("acme,a,short", "its key must be 16 to 4096 printable characters"),
        (f"acme,a,{SECRET}  inside", "its key must be 16 to 4096 printable characters"),
        (f"acme,a,tg_{SECRET}", "its key begins as those that tallygate makes"),
        ("acme,a,", "must have its key in the column `key`"),
    ],
)
def test_what_no_header_could_carry_as_a_key_is_refused(row: str, says: str) -> None:
    (text,) = wrong_with(f"org,id,key\n{row}\n", hashes_keys=True)
    assert says in text
    assert SECRET not in text


async def test_conflicts_are_named(world: DirectoryWorld) -> None:
    for org in ("acme", "big"):
        await world.acme(id=org)
    for client_id, key in (("a", "one"), ("gone", "two"), ("turned", "three")):
        await world.credentials.create(ME, "acme", {"id": client_id, "key_sha256": sha(key)})
    await world.credentials.create(ME, "acme", {"id": "tokens-only", "has_key": False})
    await world.credentials.revoke(ME, "acme", "gone")
    await world.credentials.rotate(ME, "acme", "turned", key_sha256=sha("four"))
    await world.organizations.create(ME, {"id": "ended", "plan": "pay_as_you_go"})
    await world.credentials.create(ME, "ended", {"id": "retired", "key_sha256": sha("six")})
    await world.credentials.revoke(ME, "ended", "retired")
    await world.organizations.delete(ME, "ended")
    rows = {
        f"{SECRET},b,other": "its organization is not in the database",
        "acme,a,other": "its id is here with another key",
        "big,a,one": "its id is a Client ID of organization 'acme'",
        "acme,gone,fresh": "its id was revoked, for ever",
        "acme,retired,fresh": "its id was revoked, for ever",
        "acme,turned,three": "its id has another key since a rotation; this is the one before",
        "big,b,four": "its key is that of credential 'turned' of organization 'acme'",
        "acme,c,three": "its key was, before a rotation, that of credential 'turned' of organization 'acme'",
        "acme,tokens-only,five": "its id is here without a key",
        "filed,b,other": "its organization stands in organizations.yaml",
        "acme,filed-prod,other": "its id stands in organizations.yaml",
        "acme,b,filed": "its key is that of credential 'filed-prod' in organizations.yaml",
        "acme,b,filed-before": "its key is that of credential 'filed-prod' in organizations.yaml",
    }
    for row, says in rows.items():
        org, client_id, key = row.split(",")
        problems = Problems()
        keys = rows_of(f"org,id,key_sha256\nbig,good,{sha('key')}\n{org},{client_id},{sha(key)}\n")
        await world_imports(world).plan(keys, problems, named="keys.csv", on_done=nobody)
        (text,) = problems.texts()
        assert text.startswith(f"keys.csv:3: {says}")
        assert SECRET not in text


async def test_an_import_that_was_cut_off_is_ended_by_running_it_again(
    world: DirectoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_import, "STEP_ROWS", 3)
    for org in ("acme", "big"):
        await world.acme(id=org)
    keys = rows_of("org,id,key_sha256\n" + "".join(f"{('acme', 'big')[n % 2]},c{n},{sha(str(n))}\n" for n in range(10)))
    imports = world_imports(world)
    problems = Problems()

    def cut(_count: int) -> None:
        raise InterruptedError

    plan = await imports.plan(keys, problems, named="keys.csv", on_done=nobody)
    with pytest.raises(InterruptedError):
        await imports.enter(ME, plan, named="keys.csv", on_done=cut)
    assert len(await world.credentials.list("acme")) + len(await world.credentials.list("big")) == 3

    plan = await imports.plan(keys, problems, named="keys.csv", on_done=nobody)
    assert (len(plan.fresh), plan.other, problems.texts()) == (7, [], ())
    assert await imports.enter(ME, plan, named="keys.csv", on_done=nobody) == 7
    assert await imports.enter(ME, plan, named="keys.csv", on_done=nobody) == 0  # as one that ran beside it
    assert [held.id for held in await world.credentials.list("acme")] == ["c0", "c2", "c4", "c6", "c8"]
    changed = await world.replica.refresh()
    assert changed == {"acme", "big"}
    served = {held.key_sha256.hex() for org in changed for held in world.replica.organizations[org].credentials}
    assert served == {sha(str(n)) for n in range(10)}


async def test_a_step_that_meets_a_conflict_made_meanwhile_says_so(world: DirectoryWorld) -> None:
    await world.acme()
    imports = world_imports(world)
    keys = rows_of(f"org,id,key_sha256\nacme,a,{sha('key')}\n")
    plan = await imports.plan(keys, Problems(), named="keys.csv", on_done=nobody)
    await world.credentials.create(ME, "acme", {"id": "b", "key_sha256": sha("key")})
    with pytest.raises(credential_import.ConflictError, match=r"keys\.csv:2: its key is that of credential 'b'"):
        await imports.enter(ME, plan, named="keys.csv", on_done=nobody)
    assert [held.id for held in await world.credentials.list("acme")] == ["b"]


async def test_an_organization_gets_no_more_credentials_than_one_may_have(
    world: DirectoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.acme()
    monkeypatch.setattr(credential_import, "CREDENTIALS_OF_ONE_MAX", 3)
    await world.credentials.create(ME, "acme", {"id": "there"})
    keys = rows_of("org,id,key_sha256\n" + "".join(f"acme,c{n},{sha(str(n))}\n" for n in range(3)))
    imports, problems = world_imports(world), Problems()
    await imports.plan(keys, problems, named="keys.csv", on_done=nobody)
    assert problems.texts() == ("keys.csv:4: its organization would have more than 3 credentials, the most that one may have",)


def test_a_list_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credential_rows, "ROWS_MAX", 2)
    text = "org,id,key_sha256\n" + "".join(f"acme,c{n},{sha(str(n))}\n" for n in range(5))
    assert wrong_with(text) == ("keys.csv:4: a list has at most 2 rows: split it",)
