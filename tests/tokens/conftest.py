import pytest
import tiktoken
from encodings_of_tests import load_once

from tallygate.tokens.vocabulary import EncodingName


@pytest.fixture(scope="session")
def encodings() -> dict[EncodingName, tiktoken.Encoding]:
    return {name: load_once(name) for name in EncodingName}
