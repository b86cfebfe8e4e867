"""Codex CLI with its built-in provider and nothing but the base URL set: it speaks WebSocket, one socket a run."""

from pathlib import Path

import pytest
from client_gateway import Visit
from installed import Installed, from_npm

CODEX = "@openai/codex@0.171.0"
SOCKET = "GET /v1/responses 101"


@pytest.fixture
def codex() -> Installed:
    return from_npm(CODEX)


def ask(codex: Installed, visit: Visit, home: Path, *arguments: str) -> str:
    """What Codex says. home: also where it keeps its configuration and sessions."""
    configuration = home / ".codex"
    configuration.mkdir(exist_ok=True)
    (configuration / "config.toml").write_text(f'openai_base_url = "{visit.url}/v1"\n')
    command = ("codex", "exec", "--skip-git-repo-check", "--model", "gpt-5.1", *arguments)
    return codex.run(*command, environment={"CODEX_API_KEY": visit.key}, directory=home)


@pytest.mark.clients
def test_a_turn_goes_over_a_socket_and_is_counted(codex: Installed, visit: Visit, tmp_path: Path) -> None:
    assert ask(codex, visit, tmp_path, "[[sim tokens=5]] Say hello").split()

    assert visit.lines() == [SOCKET]
    assert visit.asked()[0].headers["upgrade"] == "websocket"
    served = visit.counted()
    assert {each.endpoint for each in served} == {"openai_responses_socket"}
    assert [each.generated_tokens for each in served][-1] == 5


@pytest.mark.clients
def test_a_tool_call_and_a_resumed_session_are_counted(codex: Installed, visit: Visit, tmp_path: Path) -> None:
    ask(codex, visit, tmp_path, "[[sim tool=1]] Look it up")
    first = len(visit.counted())
    ask(codex, visit, tmp_path, "resume", "--last", "[[sim tokens=5]] Go on")

    assert visit.lines() == [SOCKET, SOCKET]
    assert first >= 2
    assert len(visit.counted()) > first


@pytest.mark.clients
def test_a_resumed_session_hands_a_search_back(codex: Installed, visit: Visit, tmp_path: Path) -> None:
    """Nothing of it is stored: the new socket gets the whole history, in which the call of the search has an id."""
    ask(codex, visit, tmp_path, "[[sim searches=1]] Look it up")
    ask(codex, visit, tmp_path, "resume", "--last", "[[sim tokens=5]] Go on")

    assert visit.lines() == [SOCKET, SOCKET]
    assert [each.generated_tokens for each in visit.counted()][-1] == 5


@pytest.mark.clients
def test_a_compaction_is_counted(codex: Installed, visit: Visit, tmp_path: Path) -> None:
    """A session that has grown too long is summed up first, by a turn of its own."""
    ask(codex, visit, tmp_path, "[[sim tokens=5]] Say hello")
    before = len(visit.counted())
    ask(codex, visit, tmp_path, "--config", "model_auto_compact_token_limit=100", "resume", "--last", "[[sim tokens=5]] Go on")

    assert set(visit.lines()) == {SOCKET}
    assert len(visit.counted()) >= before + 2


@pytest.mark.clients
def test_codex_that_has_logged_in_with_the_key_works_too(codex: Installed, visit: Visit, tmp_path: Path) -> None:
    """`codex login --with-api-key` keeps the key in the home, as its users have it."""
    codex.run("codex", "login", "--with-api-key", environment={}, directory=tmp_path, stdin=visit.key)
    (tmp_path / ".codex" / "config.toml").write_text(f'openai_base_url = "{visit.url}/v1"\n')
    codex.run("codex", "exec", "--skip-git-repo-check", "--model", "gpt-5.1", "Say hello", environment={}, directory=tmp_path)

    assert visit.lines() == [SOCKET]
    assert visit.counted()
