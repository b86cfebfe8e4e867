"""What the processes import: each costs CPU and memory in every worker."""

import subprocess
import sys

import pytest

PROGRAM = "import sys, tallygate.processes.{process}; print(*sys.modules)"
SELDOM = {"alembic", "mako", "pyarrow", "rich", "pygments", "fakeredis", "openai", "click", "asyncpg"}
OF_A_COLLECTOR = {"opentelemetry.proto", "google.protobuf", "tallygate.app.open_telemetry"}


@pytest.mark.parametrize("process", ["worker", "console"])
def test_a_process_does_not_import_what_it_seldom_uses(process: str) -> None:
    """Alembic is wanted where tables are not at this version, pyarrow for an export as Parquet, asyncpg beside PostgreSQL.

    What exports to OpenTelemetry's collector is wanted where one is configured.
    """
    program = PROGRAM.format(process=process)
    imported = set(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split())
    assert "sqlalchemy" in imported
    assert not {name.partition(".")[0] for name in imported} & SELDOM
    assert not imported & OF_A_COLLECTOR
