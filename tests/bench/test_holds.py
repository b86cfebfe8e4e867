"""The audit of holds: what it compares, and what it passes over."""

import json
from pathlib import Path

from bench.holds import audit, shipped_prices
from bench.recordings import read_recordings
from tallygate.domain.organization import Plan

AT_MS = 1_790_000_000_000
CHAT = "https://api.openai.com/v1/chat/completions"


def recorded(directory: Path, name: str, completion: int, **more: object) -> None:
    request = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hi."}]} | more
    answer = {
        "model": request["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": name}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": completion, "total_tokens": 10 + completion},
    }
    pair = {
        "request": {"url": CHAT, "body": json.dumps(request)},
        "response": {"status": {"code": 200}, "headers": {"Content-Type": "application/json"}, "body": json.dumps(answer)},
    }
    (directory / f"{name}.json").write_text(json.dumps(pair))


def test_a_hold_below_its_cost_is_found(tmp_path: Path) -> None:
    recorded(tmp_path, "covered", 40, max_tokens=50)
    recorded(tmp_path, "past_its_maximum", 90, max_tokens=50)
    recorded(tmp_path, "unpriced", 5, model="nobody-knows-it")
    recorded(tmp_path, "refused", 5, n=0)

    found = audit(read_recordings(tmp_path), shipped_prices(), Plan(id="p"), AT_MS)

    assert {each.source.partition(".")[0].rpartition("/")[2]: each.held >= each.cost for each in found.exchanges} == {
        "covered": True,
        "past_its_maximum": False,
    }
    assert (found.unread, found.unpriced) == (1, 1)
    assert all(each.is_stated and not each.is_unseen for each in found.exchanges)
