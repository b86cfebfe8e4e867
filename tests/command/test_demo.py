"""The demo, whole: real processes, the real openai SDK, and counts that must be equal: ledger, metrics, mock API."""

import json
import re
import subprocess
import sys

import pytest

from tallygate.demo.traffic import code_of
from tallygate.dialects.registry import dialects
from tallygate.domain.errors import ErrorCode, Refusal

# A proxy for what is elsewhere, which nothing of the demo's is: it would be asked in vain.
AMBIENT = {f"{scheme}_PROXY": "http://127.0.0.1:9" for scheme in ("HTTP", "HTTPS", "ALL")} | {"http_proxy": "http://127.0.0.1:9"}


# As after a plain `pip install .`, which has no SDK of anybody.
WITHOUT_SDK = "import sys; sys.modules['openai'] = None; from tallygate.cli import main; main(prog_name='tallygate')"


def demo(tmp_path, *options, program=("-m", "tallygate")):
    """What it printed, and the rows of its tables by their first cell."""
    ran = subprocess.run(
        [sys.executable, *program, "demo", "--exit", *options],
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
    return ran, rows


@pytest.mark.timeout(300)
def test_the_demo_counts_exactly_what_the_mock_api_served_and_pauses_who_reached_the_limit(tmp_path):
    ran, rows = demo(tmp_path, "--requests", "200")
    for name in ("requests", "prompt tokens", "cached tokens", "completion tokens", "reasoning tokens"):
        ledger, metrics, mock_api, difference = (int(cell.replace(",", "")) for cell in rows[name])
        assert ledger == metrics == mock_api > 0
        assert difference == 0
    assert len(set(rows["cost, USD"][:3])) == 1
    assert rows["Ledger"] == rows["Mock API"]
    assert rows["Difference"] == ["", "0", "0", "0", "0.00"]
    events = int(rows["requests"][0])
    told = " ".join(ran.stdout.split())
    assert f"Events in the API: {events:,} of {events:,}, each once. Usage source: upstream" in told
    sources = dict(re.findall(r"(upstream|counted|estimated|none) ([\d,]+)", told.partition("Usage source:")[2]))
    assert sum(int(number.replace(",", "")) for number in sources.values()) == events  # what answers do not state is counted
    assert "none" in sources  # files, and batches beside their lines
    assert "audio" in told
    assert "batches" in told
    assert all(len(line) <= 80 and "…" not in line for line in ran.stdout.splitlines())
    assert "corner-bakery at its limit" in rows
    unwrapped = " ".join(ran.stdout.split())
    assert "access resumes at 20" in unwrapped
    assert "plan_without_api_access" in unwrapped


@pytest.mark.timeout(300)
def test_the_demo_of_gloo_has_its_own_prices_and_capabilities(tmp_path):
    ran, rows = demo(tmp_path, "--profile", "gloo", "--requests", "60")
    for name in ("requests", "prompt tokens", "completion tokens"):
        ledger, metrics, mock_api, difference = (int(cell.replace(",", "")) for cell in rows[name])
        assert ledger == metrics == mock_api > difference == 0
    assert rows["Difference"] == ["", "0", "0", "0", "0.00"]
    assert "each once. Usage source: upstream" in ran.stdout
    shown = {tuple(cell.strip() for cell in line.split("│")[1:3]) for line in ran.stdout.splitlines() if line.startswith("│")}
    assert {("globex", "chat"), ("globex", "embeddings"), ("globex", "search")} <= shown


@pytest.mark.timeout(300)
def test_the_demo_needs_no_sdk(tmp_path):
    ran, rows = demo(tmp_path, "--requests", "200", program=("-c", WITHOUT_SDK))

    assert "Requests over HTTP" in ran.stdout
    assert rows["Difference"] == ["", "0", "0", "0", "0.00"]
    assert int(rows["requests"][0]) > 10
    assert "plan_without_api_access" in ran.stdout, "an error object is read as the SDK reads it"


@pytest.mark.parametrize("name", ["gemini_video", "xai_video"])
def test_a_refusal_is_named_by_its_code_in_the_shape_of_any_api(name: str) -> None:
    _, body = dialects()[name].error(Refusal(code=ErrorCode.SPEND_LIMIT_EXCEEDED, message="No."), request_id="r")
    assert code_of(json.loads(body)["error"]) == "spend_limit_exceeded"
    assert code_of({"code": None}) == code_of(None) == ""
