"""The systemd unit: what it says of the program is so."""

import re
from pathlib import Path

from click.testing import CliRunner

from tallygate.cli import main
from tallygate.commands.settings_options import EX_CONFIG
from tallygate.config.settings import Settings, variable_name

UNIT = (Path(__file__).parents[2] / "deploy" / "systemd" / "tallygate@.service").read_text(encoding="utf-8")
LINES = dict(line.split("=", 1) for line in UNIT.splitlines() if "=" in line and not line.startswith("#"))


def test_it_stops_later_than_the_program_does() -> None:
    fields = Settings.model_fields
    longest = fields["drain_delay_seconds"].default + fields["drain_seconds"].default + 10
    assert int(LINES["TimeoutStopSec"]) > longest
    stated = re.search(r"whose defaults are (\d+) and (\d+)", UNIT)
    assert stated is not None
    assert [int(number) for number in stated.groups()] == [
        fields[name].default for name in ("drain_delay_seconds", "drain_seconds")
    ]


def test_what_it_sets_are_settings_and_its_instances_are_roles() -> None:
    known = {variable_name(field) for field in Settings.model_fields}
    assert set(re.findall(r"(TALLYGATE_[A-Z_]+)=", LINES["Environment"])) <= known
    for role in re.findall(r"tallygate@(\w+)", UNIT):
        assert CliRunner().invoke(main, [role, "--help"]).exit_code == 0, role


def test_a_configuration_that_cannot_be_used_is_not_started_again() -> None:
    assert LINES["RestartPreventExitStatus"] == str(EX_CONFIG)
