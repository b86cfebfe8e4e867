"""Which workers may rely on announcements of changes to the directory."""

from types import SimpleNamespace

import pytest

from tallygate.app.gateway import are_announced
from tallygate.config.settings import load_settings


@pytest.mark.parametrize(
    ("database_url", "is_heard", "relies"),
    [
        ("", True, False),
        ("sqlite:////srv/ledger.db", True, False),
        ("postgresql://db/tg", True, True),
        ("postgresql://db/tg", False, False),
    ],
)
def test_a_worker_beside_sqlite_asks_twice_a_second_whatever_it_hears(database_url: str, is_heard: bool, relies: bool) -> None:
    settings = load_settings({"database_url": database_url})

    assert are_announced(settings, SimpleNamespace(is_heard=is_heard)) is relies
