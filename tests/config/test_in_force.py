"""A process that starts again beside others does not start with less than they have."""

from pathlib import Path

import pytest

from tallygate.app.configuration import served_config_holder
from tallygate.config.in_force import InForceFile
from tallygate.config.settings import Settings, load_settings
from tallygate.domain.errors import ConfigError

PLANS = "plans: {free: {}}\n"
ORGANIZATIONS = f"organizations: [{{id: acme, plan: free, credentials: [{{id: acme-key, key_sha256: {1:064x}}}]}}]\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    config, data = tmp_path / "config", tmp_path / "data"
    config.mkdir()
    data.mkdir()
    (config / "plans.yaml").write_text(PLANS)
    (config / "organizations.yaml").write_text(ORGANIZATIONS)
    return load_settings({"config_dir": str(config), "data_dir": str(data)})


def organizations_file(settings: Settings) -> Path:
    assert settings.config_dir is not None
    return settings.config_dir / "organizations.yaml"


def test_a_file_that_is_gone_is_missed_by_the_process_that_starts_next(settings: Settings) -> None:
    served_config_holder(settings)
    organizations_file(settings).unlink()

    with pytest.raises(ConfigError) as missed:
        served_config_holder(settings)

    fix = "put it back, or restart tallygate if it is to go"
    assert missed.value.problems == (f"organizations.yaml:1: is gone since the last reload; {fix}",)
    organizations_file(settings).write_text(ORGANIZATIONS)
    assert len(served_config_holder(settings).current.organizations) == 1


def test_organizations_that_went_all_at_once_are_missed(settings: Settings) -> None:
    served_config_holder(settings)
    organizations_file(settings).write_text("organizations: []\n")

    with pytest.raises(ConfigError, match="has no organizations left, of 1"):
        served_config_holder(settings)


async def test_what_a_reload_adds_is_missed_too(settings: Settings) -> None:
    organizations_file(settings).unlink()
    holder = served_config_holder(settings)
    organizations_file(settings).write_text(ORGANIZATIONS)
    assert await holder.reload() == ()
    organizations_file(settings).unlink()

    with pytest.raises(ConfigError, match="is gone since the last reload"):
        served_config_holder(settings)


def test_a_start_by_hand_accepts_what_there_is(settings: Settings) -> None:
    served_config_holder(settings)
    organizations_file(settings).unlink()
    InForceFile(settings.data_dir).forget()

    assert served_config_holder(settings).current.organizations == ()


@pytest.mark.parametrize(
    "torn", [b"", b"{", b"[]", b"\xff", b'{"files": 3, "organizations": 1}', b'{"files": [], "organizations": "x"}']
)
def test_a_torn_record_is_as_none(settings: Settings, torn: bytes) -> None:
    (settings.data_dir / "configuration.json").write_bytes(torn)
    organizations_file(settings).unlink()

    assert served_config_holder(settings).current.organizations == ()


def test_a_disk_that_refuses_does_not_end_a_process(settings: Settings) -> None:
    (settings.data_dir / "configuration.json").mkdir()

    assert len(served_config_holder(settings).current.organizations) == 1


def test_what_cannot_be_kept_leaves_nothing_behind(settings: Settings) -> None:
    (settings.data_dir / "configuration.json").mkdir()  # as a full disk does, it lets the file be made and not kept
    InForceFile(settings.data_dir).keep(served_config_holder(settings).current)
    assert [path.name for path in settings.data_dir.iterdir()] == ["configuration.json"]
