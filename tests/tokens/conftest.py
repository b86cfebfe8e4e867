import pytest
import tiktoken

from tallygate.tokens.vocabulary import EncodingName, load_encoding


@pytest.fixture(scope="session")
def encodings() -> dict[EncodingName, tiktoken.Encoding]:
    return {name: load_encoding(name) for name in EncodingName}
