"""The demo, whole: real processes, the real openai SDK, and two counts that must be equal."""

import subprocess
import sys

import pytest


@pytest.mark.timeout(300)
def test_the_demo_counts_exactly_what_the_mock_api_served_and_pauses_who_reached_the_limit(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "proxy", "demo", "--exit", "--requests", "200"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "140", "HOME": str(tmp_path), "PYTHONUTF8": "1"},
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = {}
    for line in ran.stdout.splitlines():
        if line.startswith("│"):
            name, *cells = (cell.strip() for cell in line.strip("│").split("│"))
            rows[name] = cells
    for name in ("requests", "prompt tokens", "cached tokens", "completion tokens", "reasoning tokens"):
        gateway, mock_api, difference = (int(cell.replace(",", "")) for cell in rows[name])
        assert gateway == mock_api > 0
        assert difference == 0
    assert rows["cost, USD"][0] == rows["cost, USD"][1]
    assert "corner-bakery at its limit" in rows
    unwrapped = " ".join(ran.stdout.split())
    assert "access resumes at 20" in unwrapped
    assert "plan_without_api_access" in unwrapped
