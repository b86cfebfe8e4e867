"""Codex CLI with its built-in provider and nothing but the base URL set: it tries WebSocket, is told 426, and goes on over HTTP."""

from pathlib import Path

import pytest
from client_gateway import Visit
from installed import Installed, from_npm

CODEX = "@openai/codex@0.171.0"
OFFER, TURN = "GET /v1/responses 426", "POST /v1/responses 200"


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
def test_a_turn_goes_over_http_and_is_counted(codex: Installed, visit: Visit, tmp_path: Path) -> None:
    assert ask(codex, visit, tmp_path, "[[sim tokens=5]] Say hello").split()

    assert visit.lines() == [OFFER, TURN]
    offer, turn = visit.asked()
    assert offer.headers["upgrade"] == "websocket"
    assert turn.headers["accept"] == "text/event-stream"
    (served,) = visit.counted()
    assert served.generated_tokens


@pytest.mark.clients
def test_a_tool_call_and_a_resumed_session_are_counted(codex: Installed, visit: Visit, tmp_path: Path) -> None:
    ask(codex, visit, tmp_path, "[[sim tool=1]] Look it up")
    ask(codex, visit, tmp_path, "resume", "--last", "[[sim tokens=5]] Go on")

    assert visit.lines() == [OFFER, TURN, TURN, OFFER, TURN]
    assert len(visit.counted()) == 3


@pytest.mark.clients
def test_a_compaction_is_counted(codex: Installed, visit: Visit, tmp_path: Path) -> None:
    """A session that has grown too long is summed up first, by a turn of its own whose last item says so."""
    ask(codex, visit, tmp_path, "[[sim tokens=5]] Say hello")
    ask(codex, visit, tmp_path, "--config", "model_auto_compact_token_limit=100", "resume", "--last", "[[sim tokens=5]] Go on")

    assert visit.lines()[:5] == [OFFER, TURN, OFFER, TURN, TURN]
    asked = [asked.body for asked in visit.asked() if asked.method == "POST"]
    assert [b'"compaction_trigger"' in body for body in asked[:3]] == [False, True, False]
    assert b'"type":"compaction"' in asked[2]
    assert len(visit.counted()) == len(asked)


@pytest.mark.clients
def test_codex_that_has_logged_in_with_the_key_works_too(codex: Installed, visit: Visit, tmp_path: Path) -> None:
    """`codex login --with-api-key` keeps the key in the home, as its users have it."""
    codex.run("codex", "login", "--with-api-key", environment={}, directory=tmp_path, stdin=visit.key)
    (tmp_path / ".codex" / "config.toml").write_text(f'openai_base_url = "{visit.url}/v1"\n')
    codex.run("codex", "exec", "--skip-git-repo-check", "--model", "gpt-5.1", "Say hello", environment={}, directory=tmp_path)

    assert visit.lines() == [OFFER, TURN]
    assert len(visit.counted()) == 1
