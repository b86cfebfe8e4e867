"""`tallygate login` and `logout`, on a database of their own, and the link that a starting console is handed."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from tallygate.app.access import keep_started_link
from tallygate.app.configuration import config_holder
from tallygate.app.console_part import open_directory
from tallygate.app.stores import open_ledger
from tallygate.cli import main
from tallygate.config.settings import load_settings
from tallygate.config.sign_in_link import STARTED_LINK
from tallygate.ledger.directory.book import DirectoryBook
from tallygate.ledger.directory.schema import SIGN_IN_LINKS
from tallygate.ledger.directory.sign_ins import LINK_MS
from tallygate.processes.data_directory import DataDirectory


class Commands:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def __call__(self, *arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, [*arguments, "--data-dir", str(self.data_dir)])
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json").stdout)

    def within(self, work: Callable[[DirectoryBook], Awaitable[Any]]) -> Any:
        """What a console on the same database finds."""

        async def opened() -> Any:
            settings = load_settings({"data_dir": self.data_dir})
            database = await open_ledger(settings)
            holder = config_holder(settings)
            try:
                return await work(open_directory(settings, database, lambda: holder.current))
            finally:
                await database.close()

        return asyncio.run(opened())

    def opens(self, url: str) -> Any:
        """The session of whoever opens the link; None if it does not sign in."""

        async def work(book: DirectoryBook) -> Any:
            made = await book.sign_ins.begin_by_link(url.partition("#link=")[2])
            return None if made is None else made.session

        return self.within(work)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(tmp_path / "data")


def test_a_link_of_login_signs_in_once(run: Commands) -> None:
    run("orgs", "create", "acme", "--plan", "pay_as_you_go")
    made = run.json("login", "--org", "acme", "--read-only", "--name", "Ada")

    assert made["url"].startswith("http://127.0.0.1:9090/#link=tgl_")
    assert (made["name"], made["access"], made["organizations"]) == ("Ada", "read", ["acme"])
    session = run.opens(made["url"])
    assert (session.name, session.access, session.orgs, session.method) == ("Ada", "read", ("acme",), "link")
    assert session.actor.startswith("cli")
    assert run.opens(made["url"]) is None
    assert "link.created" in run("changes").output


def test_login_without_an_organization_is_for_all(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYGATE_CONSOLE_URL", "https://usage.example.com/")
    printed = run("login").output

    (url,) = [line for line in printed.splitlines() if "#link=" in line]
    assert url.startswith("https://usage.example.com/#link=tgl_")
    session = run.opens(url)
    assert (session.access, session.orgs) == ("write", None)


def test_login_refuses_an_organization_that_does_not_exist(run: Commands) -> None:
    assert "there is no organization 'gone'" in run("login", "--org", "gone", code=1).output


def test_the_digest_alone_is_stored(run: Commands) -> None:
    secret = run.json("login")["url"].partition("#link=")[2]

    async def rows(book: DirectoryBook) -> str:
        async with book.database.read() as connection:
            return str((await connection.execute(select(SIGN_IN_LINKS))).mappings().all())

    assert "sha256" in (found := run.within(rows))
    assert secret not in found
    assert secret not in run("changes", "--json").output


def test_logout_ends_one_or_all_and_unopened_links_too(run: Commands) -> None:
    assert "nobody is signed in" in run("logout", "--list").output
    session = run.opens(run.json("login")["url"])
    unopened = run.json("login")["url"]

    assert [each["actor"] for each in run.json("logout", "--list")] == [session.actor]
    assert run.json("logout", "tok_other") == {"sessions_ended": 0}
    assert run.json("logout", session.actor) == {"sessions_ended": 1}
    assert run.opens(unopened) is None
    run.opens(run.json("login")["url"])
    assert "1 sessions ended" in run("logout", "--all").output
    assert run.json("logout", "--list") == []
    assert "sessions.ended" in run("changes").output


@pytest.mark.parametrize("arguments", [(), ("me", "--all"), ("--list", "--all")])
def test_logout_asks_whose(run: Commands, arguments: tuple[str, ...]) -> None:
    assert "name whose sessions end" in run("logout", *arguments, code=2).output


def test_a_starting_console_takes_the_link_that_was_shown(run: Commands) -> None:
    data = DataDirectory(run.data_dir)
    data.keep_link("tgl_shown")
    settings = load_settings({"data_dir": run.data_dir})
    assert oct((run.data_dir / STARTED_LINK).stat().st_mode & 0o777) == "0o600"
    assert "tgl_shown" not in (run.data_dir / STARTED_LINK).read_text()

    run.within(lambda book: keep_started_link(settings, book.sign_ins))

    assert not (run.data_dir / STARTED_LINK).exists()
    assert (run.opens("#link=tgl_shown").orgs, run.opens("#link=tgl_shown")) == (None, None)
    run.within(lambda book: keep_started_link(settings, book.sign_ins))  # as a console that was restarted
    assert run.opens("#link=tgl_shown") is None


def test_a_link_that_no_console_took_in_time_is_forgotten(run: Commands) -> None:
    DataDirectory(run.data_dir).keep_link("tgl_shown")
    past = (run.data_dir / STARTED_LINK).stat().st_mtime - LINK_MS / 1000
    os.utime(run.data_dir / STARTED_LINK, (past, past))

    run.within(lambda book: keep_started_link(load_settings({"data_dir": run.data_dir}), book.sign_ins))

    assert run.opens("#link=tgl_shown") is None
