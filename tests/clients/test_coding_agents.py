"""Coding agents and command lines, started as their users start them, with nothing set but the base URL and the key."""

import json
from pathlib import Path

import pytest
from client_gateway import Visit
from installed import from_npm, from_pypi
from said import TOKENS

from tallygate.simulator.service import SimulatorSettings
from tallygate.simulator.words import text_of

pytestmark = pytest.mark.clients
PROMPT = f"[[sim tokens={TOKENS}]] Hello"
WITH_TOOL = f"[[sim tokens={TOKENS} tool=1]] Hello"
AFTER_THE_TOOL = text_of(SimulatorSettings().tokens).strip()


@pytest.mark.parametrize("key_name", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
def test_claude_code(visit: Visit, tmp_path: Path, key_name: str) -> None:
    claude = from_npm("@anthropic-ai/claude-code@2.1.197")
    environment = {"ANTHROPIC_BASE_URL": visit.url, key_name: visit.key}

    said = claude.run("claude", "-p", PROMPT, environment=environment, directory=tmp_path)
    after_the_tool = claude.run("claude", "-p", WITH_TOOL, environment=environment, directory=tmp_path)

    assert [said.strip(), after_the_tool.strip()] == [text_of(TOKENS).strip(), AFTER_THE_TOOL]
    assert {line for line in visit.lines() if not line.startswith("HEAD / ")} == {"POST /v1/messages 200"}
    assert all(asked.target == "/v1/messages?beta=true" for asked in visit.asked() if asked.method == "POST")
    assert len(visit.counted()) == sum(asked.method == "POST" for asked in visit.asked())


def test_gemini_cli(visit: Visit, tmp_path: Path) -> None:
    gemini = from_npm("@google/gemini-cli@0.61.0")
    settings = tmp_path / ".gemini" / "settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"security": {"auth": {"selectedType": "gemini-api-key"}}}))
    environment = {"GOOGLE_GEMINI_BASE_URL": visit.url, "GEMINI_API_KEY": visit.key}
    command = ("gemini", "--skip-trust", "-m", "gemini-2.5-flash", "-p")

    said = gemini.run(*command, PROMPT, environment=environment, directory=tmp_path)
    after_the_tool = gemini.run(*command, WITH_TOOL, environment=environment, directory=tmp_path)

    assert text_of(TOKENS).strip() in said
    assert AFTER_THE_TOOL in after_the_tool
    assert "POST /v1beta/models/gemini-2.5-flash:streamGenerateContent 200" in visit.lines()
    assert {asked.status for asked in visit.asked()} == {200}
    assert len(visit.counted()) == len(visit.asked())


def test_opencode(visit: Visit, tmp_path: Path) -> None:
    opencode = from_npm("opencode-ai@1.18.33")
    options = {"options": {"baseURL": f"{visit.url}/v1", "apiKey": visit.key}}
    (tmp_path / "opencode.json").write_text(json.dumps({"provider": {"openai": options, "anthropic": options}}))

    said = opencode.run("opencode", "run", "-m", "openai/gpt-4o-mini", PROMPT, environment={}, directory=tmp_path)

    assert text_of(TOKENS).strip() in said
    assert set(visit.lines()) == {"POST /v1/responses 200"}
    assert len(visit.counted()) == len(visit.asked())


def test_aider(visit: Visit, tmp_path: Path) -> None:
    aider = from_pypi("aider-chat==0.86.2")
    environment = {"OPENAI_API_BASE": f"{visit.url}/v1", "OPENAI_API_KEY": visit.key}
    command = ("aider", "--model", "openai/gpt-4o-mini", "--no-git", "--yes-always", "--no-check-update", "--analytics-disable")

    said = aider.run(*command, "--message", PROMPT, environment=environment, directory=tmp_path)

    assert text_of(TOKENS).strip() in said
    assert set(visit.lines()) == {"POST /v1/chat/completions 200"}
    assert len(visit.counted()) == len(visit.asked())


def test_llm(visit: Visit, tmp_path: Path) -> None:
    llm = from_pypi("llm==0.36")
    environment = {"OPENAI_BASE_URL": f"{visit.url}/v1", "OPENAI_API_KEY": visit.key, "LLM_USER_PATH": str(tmp_path)}

    said = llm.run("llm", "-m", "gpt-4o-mini", PROMPT, environment=environment, directory=tmp_path)

    assert said.strip() == text_of(TOKENS).strip()
    assert set(visit.lines()) == {"POST /v1/chat/completions 200"}
    assert len(visit.counted()) == len(visit.asked())
