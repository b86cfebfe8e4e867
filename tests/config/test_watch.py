import asyncio
import errno
from pathlib import Path
from unittest.mock import Mock

import pytest

from tallygate.config import reloading as watch_module
from tallygate.config.reloading import ConfigWatch, watch_forever


def test_changed_new_and_removed_files_are_noticed_once(tmp_path: Path) -> None:
    file = tmp_path / "plans.yaml"
    file.write_text("a: 1")
    watch = ConfigWatch(tmp_path)

    assert not watch.has_changed()
    file.write_text("a: 22")
    assert watch.has_changed()
    assert not watch.has_changed()
    replacement = tmp_path / "other"
    replacement.write_text("a: 33")
    replacement.rename(file)
    assert watch.has_changed()
    file.unlink()
    assert watch.has_changed()
    (tmp_path / "notes.txt").write_text("not ours")
    assert not watch.has_changed()


def test_single_files_are_watched_too_with_a_directory_and_without(tmp_path: Path) -> None:
    authorities = tmp_path / "authorities.pem"
    watches = [ConfigWatch(None, [authorities]), ConfigWatch(tmp_path, [authorities]), ConfigWatch(None)]
    assert [watch.has_changed() for watch in watches] == [False, False, False]

    authorities.write_text("new")

    assert [watch.has_changed() for watch in watches] == [True, True, False]


async def test_a_change_is_acted_on_when_it_has_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = asyncio.Semaphore(0)
    waiting = asyncio.Semaphore(0)

    async def next_look(_seconds: float) -> None:
        waiting.release()
        await looks.acquire()

    monkeypatch.setattr(watch_module.asyncio, "sleep", next_look)
    changes: list[int] = []
    task = asyncio.ensure_future(watch_forever(ConfigWatch(tmp_path), lambda: changes.append(1)))

    async def look() -> None:
        await waiting.acquire()
        looks.release()
        await waiting.acquire()
        waiting.release()

    await look()
    assert changes == []
    (tmp_path / "plans.yaml").write_text("half")
    await look()
    assert changes == []
    (tmp_path / "plans.yaml").write_text("whole: 1")
    await look()
    assert changes == []
    await look()
    assert changes == [1]
    await look()
    assert changes == [1]
    task.cancel()


def test_a_directory_that_cannot_be_listed_has_changed_and_the_watch_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plans.yaml").write_text("plans: {}\n")
    watch = ConfigWatch(tmp_path)
    with monkeypatch.context() as away:
        away.setattr(Path, "glob", Mock(side_effect=OSError(errno.ESTALE, "Stale file handle")))
        assert watch.has_changed()
        assert not watch.has_changed()
    assert watch.has_changed()
