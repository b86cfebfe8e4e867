"""Frameworks from PyPI, each in a virtual environment of its own, with nothing set but the base URL and the key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from client_gateway import Visit
from installed import from_pypi
from said import answered, heard


@dataclass(frozen=True, kw_only=True)
class Framework:
    """program: under programs/. packages: what is installed for it. more: what it hears beside the calls of its wire APIs."""

    program: str
    packages: tuple[str, ...]
    wires: tuple[str, ...]
    more: Mapping[str, Any] = field(default_factory=dict)
    more_lines: tuple[str, ...] = ()


ALL_WIRES = ("chat", "responses", "anthropic", "gemini")
IN_CI = (
    Framework(
        program="pydantic_ai_client.py",
        packages=("pydantic-ai-slim[openai,anthropic,google]==2.68.0",),
        wires=ALL_WIRES,
    ),
    Framework(program="openai_agents_client.py", packages=("openai-agents==0.24.0",), wires=("responses", "chat")),
)
BY_TARGET = (
    Framework(
        program="langchain_client.py",
        packages=(
            "langchain==1.5.2",
            "langchain-openai==1.7.4",
            "langchain-anthropic==1.7.10",
            "langchain-google-genai==4.4.3",
        ),
        wires=ALL_WIRES,
        more={"embeddings": 2},
        more_lines=("POST /v1/embeddings 200",),
    ),
)


@pytest.mark.parametrize(
    "framework",
    [*IN_CI, *(pytest.param(framework, marks=pytest.mark.clients) for framework in BY_TARGET)],
    ids=lambda framework: framework.program.removesuffix("_client.py"),
)
def test_a_framework_works_by_its_base_url_alone_and_is_counted(framework: Framework, visit: Visit, tmp_path: Path) -> None:
    environment = {
        "GATEWAY_URL": visit.url,
        "GATEWAY_KEY": visit.key,
        "OPENAI_BASE_URL": f"{visit.url}/v1",
        "OPENAI_API_KEY": visit.key,
    }

    said = from_pypi(*framework.packages).run_program(framework.program, environment=environment, directory=tmp_path)

    assert said == heard(framework.wires) | framework.more
    assert set(visit.lines()) == answered(framework.wires) | set(framework.more_lines)
    assert len(visit.counted()) == len(visit.asked())
