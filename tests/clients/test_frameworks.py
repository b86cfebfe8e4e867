"""Frameworks from PyPI, each in a virtual environment of its own, with nothing set but the base URL and the key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from client_gateway import Visit
from installed import from_pypi
from said import CALLS, answered, heard, kinds


@dataclass(frozen=True, kw_only=True)
class Framework:
    """program: under programs/. packages: what is installed for it. more: what it hears beside the calls of its wire APIs."""

    program: str
    packages: tuple[str, ...]
    wires: tuple[str, ...]
    calls: tuple[str, ...] = CALLS
    more: Mapping[str, Any] = field(default_factory=dict)
    more_lines: tuple[str, ...] = ()


PLAIN_AND_STREAM = ("plain", "stream")
EMBEDDINGS = ("POST /v1/embeddings 200",)
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
    Framework(program="agno_client.py", packages=("agno==3.1.10", "openai", "anthropic", "google-genai"), wires=ALL_WIRES),
    Framework(
        program="autogen_client.py",
        # Its client of Anthropic's needs a version of the SDK that still takes a temperature.
        packages=("autogen-agentchat==0.7.5", "autogen-ext[openai,anthropic]==0.7.5", "anthropic<1"),
        wires=("chat", "anthropic"),
    ),
    Framework(program="crewai_client.py", packages=("crewai[anthropic]==1.15.30",), wires=("chat", "anthropic"), calls=("plain",)),
    Framework(program="dspy_client.py", packages=("dspy==3.4.1",), wires=("chat", "responses", "anthropic"), calls=("plain",)),
    Framework(
        program="haystack_client.py",
        packages=("haystack-ai==3.4.1",),
        wires=("chat",),
        calls=PLAIN_AND_STREAM,
        more={"embeddings": True},
        more_lines=EMBEDDINGS,
    ),
    Framework(
        program="instructor_client.py",
        packages=("instructor[anthropic]==1.17.0",),
        wires=("chat", "anthropic"),
        calls=("tool",),
    ),
    Framework(
        program="litellm_client.py",
        packages=("litellm==1.110.2",),
        wires=("chat", "anthropic", "gemini"),
        calls=PLAIN_AND_STREAM,
    ),
    Framework(
        program="llama_index_client.py",
        packages=(
            "llama-index-core==0.14.25",
            "llama-index-llms-openai==0.8.3",
            "llama-index-llms-anthropic==0.12.3",
            "llama-index-llms-google-genai==0.11.3",
            "llama-index-embeddings-openai==0.7.0",
            "anthropic<1",  # with newer ones it cannot make a message
        ),
        wires=ALL_WIRES,
        calls=PLAIN_AND_STREAM,
        more={"embeddings": 2},
        more_lines=EMBEDDINGS,
    ),
    Framework(
        program="semantic_kernel_client.py",
        packages=("semantic-kernel[anthropic]==1.45.0",),
        wires=("chat", "anthropic"),
        calls=PLAIN_AND_STREAM,
    ),
    Framework(
        program="smolagents_client.py",
        packages=("smolagents[openai]==1.26.0",),
        wires=("chat",),
        calls=("plain", "stream", "tool"),
    ),
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
        more_lines=EMBEDDINGS,
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

    assert said == heard(framework.wires, framework.calls) | framework.more
    assert kinds(visit.lines()) == answered(framework.wires) | set(framework.more_lines)
    assert len(visit.counted()) == len(visit.asked())
