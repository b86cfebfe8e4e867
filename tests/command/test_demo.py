"""The demo, whole: real processes, the real openai SDK, and counts that must be equal: ledger, metrics, mock API."""

import subprocess
import sys

import pytest

# A proxy for what is elsewhere, which nothing of the demo's is: it would be asked in vain.
AMBIENT = {f"{scheme}_PROXY": "http://127.0.0.1:9" for scheme in ("HTTP", "HTTPS", "ALL")} | {"http_proxy": "http://127.0.0.1:9"}


@pytest.mark.timeout(300)
def test_the_demo_counts_exactly_what_the_mock_api_served_and_pauses_who_reached_the_limit(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "tallygate", "demo", "--exit", "--requests", "200"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "80", "HOME": str(tmp_path), "PYTHONUTF8": "1"} | AMBIENT,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = {}
    for line in ran.stdout.splitlines():
        if line.startswith("│"):
            name, *cells = (cell.strip() for cell in line.strip("│").split("│"))
            rows[name] = cells
    for name in ("requests", "prompt tokens", "cached tokens", "completion tokens", "reasoning tokens"):
        ledger, metrics, mock_api, difference = (int(cell.replace(",", "")) for cell in rows[name])
        assert ledger == metrics == mock_api > 0
        assert difference == 0
    assert len(set(rows["cost, USD"][:3])) == 1
    assert rows["Ledger"] == rows["Mock API"]
    assert rows["Difference"] == ["", "0", "0", "0", "0.00"]
    events = int(rows["requests"][0])
    assert f"Events in the API: {events:,} of {events:,}, each once. Usage source: upstream {events:,}." in ran.stdout
    assert all(len(line) <= 80 and "…" not in line for line in ran.stdout.splitlines())
    assert "corner-bakery at its limit" in rows
    unwrapped = " ".join(ran.stdout.split())
    assert "access resumes at 20" in unwrapped
    assert "plan_without_api_access" in unwrapped
