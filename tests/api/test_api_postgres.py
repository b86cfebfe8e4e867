"""Over PostgreSQL every endpoint answers as over SQLite."""

import pytest
from api_values import HOUR_MS, NOW_MS, a_refusal, an_entry
from api_world import World

START = (NOW_MS - 48 * HOUR_MS) // 1000
ASKED = [
    ("/api/usage", {"group_by": ["org", "credential", "model", "status"], "bucket": "hour", "time_zone": "Asia/Kathmandu"}),
    ("/api/usage", {"credential": "acme-gone", "bucket": "total"}),
    ("/api/events", {"limit": 3, "model": "m1"}),
    ("/api/events", {"limit": 3, "client_request_id": ["mine", "yours"]}),
    ("/api/refusals", {"limit": 3, "refused_by": "spend_7d", "order": "asc"}),
    ("/api/spend", {"org": "globex"}),
    ("/v1/organization/usage/completions", {"start_time": START, "bucket_width": "1m", "limit": 1440, "group_by": ["model"]}),
    ("/v1/organization/usage/completions", {"start_time": START, "bucket_width": "1h", "group_by": ["project_id"]}),
    ("/v1/organization/costs", {"start_time": START, "group_by": ["line_item"]}),
]


@pytest.mark.timeout(120)
async def test_both_databases_give_the_same_answers(world: World, postgres_world: World) -> None:
    entries = [
        an_entry(
            number,
            settled_at_ms=NOW_MS - number * HOUR_MS - number,
            posted_at_ms=NOW_MS - number * HOUR_MS - number,
            org=("acme", "globex")[number % 2],
            credential="acme-gone" if number == 4 else f"{('acme', 'globex')[number % 2]}-prod",
            response_model=f"m{number % 3}",
            client_request_id=("mine", "yours", None)[number % 3],
        )
        for number in range(1, 40)
    ]
    for one in (world, postgres_world):
        await one.record(entries)
        await one.note_refused(
            [a_refusal(number, at_ms=NOW_MS - number % 3, org=("acme", "globex")[number % 2]) for number in range(9)]
        )

    for path, query in ASKED:
        assert await world.ok(path, **query) == await postgres_world.ok(path, **query), path
