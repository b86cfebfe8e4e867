"""Sockets and their turns for who looks on: the access log, and a collector of traces."""

import json

from gateway_harness import running_gateway
from otlp_collector import CLIENT
from recording_metrics import RecordingMetrics
from talking import MODEL, talking
from traced_gateway import traced_gateway

from tallygate.telemetry.access_log import AccessLog
from tallygate.telemetry.log import JsonFormatter


async def test_a_socket_has_one_line_and_its_turns_are_served(tmp_path):
    lines = []
    log = AccessLog(
        JsonFormatter(process="worker-0"), RecordingMetrics(), every=1, write=lambda line: lines.append(json.loads(line))
    )
    async with running_gateway(tmp_path, access_log=log) as harness:
        async with talking(harness) as talk:
            assert (await talk.turn())[-1]["type"] == "response.completed"
        await harness.at_rest()
    await log.close()
    (line,) = lines
    assert (line["status"], line["route"], line["org"]) == (101, "/v1/responses", "big")


async def test_a_turn_of_a_socket_is_a_call_below_the_sockets_own(tmp_path):
    async with traced_gateway(tmp_path) as tried:
        async with talking(tried.harness) as talk:
            await talk.turn("tokens=5")
            await talk.turn("tokens=6")
        first, second, server, socket = await tried.spans()
        points = await tried.points("gen_ai.client.token.usage")
    assert (server.name, server.values["http.response.status_code"]) == ("GET /v1/responses", 101)
    assert (socket.name, socket.kind, socket.parent_id) == ("GET", CLIENT, server.span_id)
    for turn, tokens in ((first, 5), (second, 6)):
        assert (turn.name, turn.parent_id, turn.values["gen_ai.usage.output_tokens"]) == (f"chat {MODEL}", socket.span_id, tokens)
        assert socket.started_ns <= turn.started_ns <= turn.ended_ns <= socket.ended_ns
    assert len({span.span_id for span in (first, second, server, socket)}) == 4
    assert [point.total for point in points if point.values["gen_ai.token.type"] == "output"] == [11]
