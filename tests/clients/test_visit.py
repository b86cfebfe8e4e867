"""The comparison that every client's test ends with can fail."""

import httpx2
import pytest
from client_gateway import Visit
from openai import OpenAI

from tallygate.simulator.ledger import Served


def served_one(visit: Visit) -> Served:
    with OpenAI(base_url=f"{visit.url}/v1", api_key=visit.key) as client:
        client.embeddings.create(model="text-embedding-3-small", input="one")
    (record,) = visit.counted()
    return record


@pytest.mark.parametrize("count", ["prompt_tokens", "generated_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"])
def test_one_token_of_difference_is_seen(visit: Visit, count: str) -> None:
    record = served_one(visit)
    setattr(record, count, getattr(record, count) + 1)

    with pytest.raises(AssertionError, match="differs from what was served"):
        visit.counted()


def test_a_key_of_ours_at_the_upstream_is_seen(visit: Visit) -> None:
    served_one(visit).has_gateway_key = True

    with pytest.raises(AssertionError):
        visit.counted()


def test_an_exchange_that_was_not_served_is_seen(visit: Visit) -> None:
    served_one(visit)
    visit.served = list  # type: ignore[method-assign]

    with pytest.raises(AssertionError, match="differs from what was served"):
        visit.counted()


def test_requests_are_noted_as_they_were_sent_and_answered(visit: Visit) -> None:
    with httpx2.Client(base_url=visit.url, headers={"Authorization": f"Bearer {visit.key}"}) as client:
        statuses = [client.get("/v1/models").status_code, client.head("/v1/models?a=b").status_code]
        statuses.append(client.post("/v1/nonsense", content=b"x" * 100_000).status_code)

    assert [(asked.method, asked.target) for asked in visit.asked()] == [
        ("GET", "/v1/models"),
        ("HEAD", "/v1/models?a=b"),
        ("POST", "/v1/nonsense"),
    ]
    assert [asked.status for asked in visit.asked()] == statuses
    assert visit.asked()[0].headers["authorization"] == f"Bearer {visit.key}"
