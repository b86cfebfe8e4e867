"""Libraries from npm, with nothing set but the base URL and the key."""

from pathlib import Path

import pytest
from client_gateway import Visit
from installed import from_npm
from said import answered, heard, kinds

pytestmark = pytest.mark.clients
WIRES = ("chat", "responses", "anthropic", "gemini")


def test_the_ai_sdk(visit: Visit, tmp_path: Path) -> None:
    library = from_npm(
        "ai@6.0.326",
        "@ai-sdk/openai@3.0.141",
        "@ai-sdk/openai-compatible@2.0.92",
        "@ai-sdk/anthropic@3.0.140",
        "@ai-sdk/google@3.0.141",
        "zod@4.6.7",
    )

    said = library.run_program(
        "ai_sdk_client.mjs", environment={"GATEWAY_URL": visit.url, "GATEWAY_KEY": visit.key}, directory=tmp_path
    )

    assert said == heard(WIRES)
    assert kinds(visit.lines()) == answered(WIRES)
    assert len(visit.counted()) == len(visit.asked())


def test_the_providers_sdks(visit: Visit, tmp_path: Path) -> None:
    library = from_npm("openai@6.49.0", "@anthropic-ai/sdk@1.14.0", "@google/genai@2.32.0")

    said = library.run_program(
        "npm_sdks_client.mjs", environment={"GATEWAY_URL": visit.url, "GATEWAY_KEY": visit.key}, directory=tmp_path
    )

    assert said == heard(WIRES, ("plain", "stream"))
    assert kinds(visit.lines()) == answered(WIRES)
    assert len(visit.counted()) == len(visit.asked())
