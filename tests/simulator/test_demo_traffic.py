"""What the demo's clients saw is what the simulator served."""

from collections import Counter

from tallygate.simulator.prompt_tokens import PromptTokens
from tallygate.simulator.server import Simulator, running_simulator
from tallygate.simulator.service import SimulatorSettings
from tallygate.simulator.traffic import Kind, TrafficReport, run_traffic


async def test_clients_saw_what_was_served(sim: Simulator) -> None:
    progress: list[int] = []
    mix = dict.fromkeys((Kind.WHOLE, Kind.STREAM, Kind.TOOL_CALL, Kind.EMBEDDING), 1)

    report = await run_traffic(
        f"{sim.url}/v1",
        {"a": "sk-a", "b": "sk-b"},
        requests=40,
        mix=mix,
        on_progress=lambda report: progress.append(report.finished),
    )

    views, totals = report.by_key.values(), sim.ledger.totals
    assert (totals.requests, totals.completed, sum(view.completed for view in views)) == (40, 40, 40)
    assert sum(view.prompt_tokens for view in views) == totals.prompt_tokens
    assert sum(view.completion_tokens for view in views) == totals.generated_tokens
    assert all(view.requests > 5 for view in views)
    assert progress == list(range(1, 41))


async def test_streams_without_usage_are_counted_by_their_pieces_and_left_ones_are_left(prompt_tokens: PromptTokens) -> None:
    async with running_simulator(settings=SimulatorSettings(tps=2000), prompt_tokens=prompt_tokens) as sim:
        mix = {Kind.STREAM_WITHOUT_USAGE: 1}
        report = await run_traffic(f"{sim.url}/v1", {"a": "sk-a"}, requests=10, mix=mix)
        assert report.by_key["a"].delivered_tokens == sim.ledger.totals.generated_tokens > 0

        sim.ledger.reset()
        report = await run_traffic(f"{sim.url}/v1", {"a": "sk-a"}, requests=10, mix={Kind.LEFT_STREAM: 1}, tokens_max=500)
        view = report.by_key["a"]
        assert (view.left, view.completed, view.completion_tokens) == (10, 0, 0)
        assert view.delivered_tokens >= 10


async def test_refusals_and_failures_are_counted_not_raised(prompt_tokens: PromptTokens) -> None:
    async with running_simulator(settings=SimulatorSettings(api_key="sk-good"), prompt_tokens=prompt_tokens) as sim:
        report = await run_traffic(f"{sim.url}/v1", {"bad": "sk-bad"}, requests=5)
        assert report.by_key["bad"].refused == Counter({"invalid_api_key": 5})
    report = await run_traffic(f"{sim.url}/v1", {"bad": "sk-bad"}, requests=3)
    assert report.by_key["bad"].failed == 3


async def test_equal_seeds_send_equal_requests(prompt_tokens: PromptTokens) -> None:
    async def sent(seed: int) -> tuple[TrafficReport, list[int]]:
        async with running_simulator(prompt_tokens=prompt_tokens) as sim:
            mix = {Kind.WHOLE: 1}
            report = await run_traffic(f"{sim.url}/v1", {"a": "k", "b": "k"}, requests=12, concurrency=1, seed=seed, mix=mix)
            return report, [record.generated_tokens for record in sim.ledger.records]

    assert await sent(1) == await sent(1)
    assert (await sent(1))[1] != (await sent(2))[1]
