from collections.abc import AsyncIterator

import pytest
from encodings_of_tests import load_once

from tallygate.simulator.prompt_tokens import PromptTokens
from tallygate.simulator.server import Simulator, running_simulator


@pytest.fixture(scope="session")
def prompt_tokens() -> PromptTokens:
    return PromptTokens(load_once)


@pytest.fixture
async def sim(prompt_tokens: PromptTokens) -> AsyncIterator[Simulator]:
    async with running_simulator(prompt_tokens=prompt_tokens) as simulator:
        yield simulator
