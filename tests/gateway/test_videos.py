"""Videos: held at the dearest that their request allows, followed whoever asks, and charged by the second of what came."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from gateway_harness import ACME_KEY, BIG_KEY, running_gateway
from test_background_responses import DAY_MS, HOUR_MS, World, serving, world
from test_jobs_at_random import Chance, KilledError, settle_some

from tallygate.domain.errors import StoreError
from tallygate.domain.made_object import MadeObject
from tallygate.gateway.jobs import videos
from tallygate.gateway.jobs.poller import LOST_AFTER_MS
from tallygate.outbound.session import FetchError

GOOGLE = {"x-goog-api-key": ACME_KEY}
OTHERS = {"x-goog-api-key": BIG_KEY}
VEO = "/v1beta/models/veo-3.1-generate-preview:predictLongRunning"
FAST = "/v1beta/models/veo-3.1-fast-generate-preview:predictLongRunning"
VERTEX = "/v1beta1/publishers/google/models/veo-3.1-generate-001:predictLongRunning"
IMAGINE = "/v1/videos/generations"
CENT = 10_000_000  # nano-USD


def veo(text: str = "[[sim delay=60000]] A cat", **parameters: Any) -> dict[str, Any]:
    return {"instances": [{"prompt": text}], "parameters": parameters}


async def ask(
    at: World, path: str, body: Any = None, *, method: str = "POST", headers: Any = GOOGLE, status: int = 200
) -> dict[str, Any]:
    async with at.session.request(method, path, json=body, headers=headers) as answer:
        assert answer.status == status, await answer.text()
        assert "tallygate-cost-usd" not in answer.headers
        found: dict[str, Any] = await answer.json()
        return found


def video_events(at: World) -> list[dict[str, Any]]:
    return [event for event in at.harness.events() if "deferred" in event["flags"]]


@pytest.mark.parametrize(
    ("path", "parameters", "held", "charged", "unit"),
    [  # by hand, from the prices of a second
        (VEO, {"durationSeconds": 8, "resolution": "720p"}, 320, 320, {"video_second:720p": 8}),
        (VEO, {"durationSeconds": "6", "resolution": "1080p"}, 240, 240, {"video_second:1080p": 6}),
        (VEO, {"durationSeconds": 8, "resolution": "4k", "sampleCount": 2}, 960, 960, {"video_second:4k": 16}),
        (VEO, {}, 480, 320, {"video_second:720p": 8}),  # eight seconds, and it may turn out to be 4k; it is 720p
        (FAST, {"durationSeconds": 4, "resolution": "720p"}, 40, 40, {"video_second:720p": 4}),
        (FAST, {"durationSeconds": 4, "resolution": "1080p"}, 48, 48, {"video_second:1080p": 4}),
        (FAST, {"duration_seconds": 4, "numberOfVideos": 2}, 240, None, {}),
        (VERTEX, {"durationSeconds": 8, "resolution": "720p", "generateAudio": False}, 160, 160, {"video_second:720p:silent": 8}),
        (VERTEX, {"durationSeconds": 8, "generateAudio": False}, 480, 160, {"video_second:720p:silent": 8}),
        (VEO, {"durationSeconds": 8, "resolution": "720p", "generateAudio": False}, 320, 320, {"video_second:720p": 8}),
    ],
)
async def test_one_is_held_at_the_dearest_and_charged_by_its_seconds(
    path: str,
    parameters: dict[str, Any],
    held: int,
    charged: int | None,
    unit: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world(tmp_path, monkeypatch) as at:
        begun = await ask(at, path, veo(**parameters))
        assert "done" not in begun
        assert await at.spent_and_held() == (0, held * CENT)
        if charged is None:
            return
        assert at.harness.events() == []
        assert await at.poll_after(10_000) == 1
        assert await at.spent_and_held() == (0, held * CENT)
        assert await at.poll_after(60_000) == 1
        assert await at.spent_and_held() == (charged * CENT, 0)
        (event,) = at.harness.events()
        assert (event["outcome"], event["usage_source"], event["flags"]) == ("success", "upstream", ["deferred"])
        assert (json.loads(event["billed"]), event["media_nano_usd"]) == ({"conditions": {}, "quantities": unit}, charged * CENT)
        assert (event["capability"], event["cost_nano_usd"], event["duration_ms"] >= 70_000) == ("videos", charged * CENT, True)
        assert await at.poll_after(DAY_MS) == 0
        (served,) = [record for record in at.harness.ledger.records if record.endpoint == "videos"]
        assert (served.units, served.has_gateway_key) == (unit, False)


async def test_its_owner_alone_asks_for_it_and_downloads_it_and_nothing_counts_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as at:
        begun = await ask(at, VEO, veo("[[sim delay=1000]] A cat", durationSeconds=4, resolution="720p"))
        place = f"/v1beta/{begun['name']}"
        assert "done" not in await ask(at, place, method="GET")
        at.now.ms += 2_000
        for _ in range(3):
            done = await ask(at, place, method="GET")
        uri = done["response"]["generateVideoResponse"]["generatedSamples"][0]["video"]["uri"]
        assert "sk-operators" not in str(done)
        file = "/v1beta/" + uri.partition("/v1beta/")[2]
        await ask(at, place, method="GET", headers=OTHERS, status=404)
        await ask(at, f"/v1beta/operations/{begun['name'].rpartition('/')[2]}", method="GET", headers=OTHERS, status=404)
        await ask(at, file, method="GET", headers=OTHERS, status=404)
        await ask(at, f"/download{file}", method="GET", headers=OTHERS, status=404)
        await ask(at, file.replace(":download", ""), method="DELETE", headers=OTHERS, status=404)
        async with at.session.get(file, headers=GOOGLE, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["location"]) == (
                302,
                f"/download{file}",
            )  # not to where only the operator's key is one
        async with at.session.get(file, headers=GOOGLE) as answer:
            assert (answer.status, answer.content_type, b"ftyp" in await answer.read()) == (200, "video/mp4", True)
        await at.poll_after(5_000)
        charged = [event["cost_nano_usd"] for event in at.harness.events() if event["cost_nano_usd"]]
        assert charged == [160 * CENT]
        assert await at.spent_and_held() == (160 * CENT, 0)


async def test_a_file_that_only_the_poller_saw_has_its_owner_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        begun = await ask(at, VEO, veo("[[sim]] A cat", sampleCount=2))
        await at.poll_after(5_000)
        (event,) = at.harness.events()
        id_ = begun["name"].rpartition("/")[2]
        made = [MadeObject(kind="operation", id=id_, upstream="default")]
        made += [MadeObject(kind="file", id=f"files/{id_}-{number}", upstream="default") for number in range(2)]
        assert [MadeObject(**each) for each in event["made"]] == made


async def test_vertex_is_asked_with_the_name_in_the_body_by_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as at:
        begun = await ask(at, VERTEX, veo("[[sim delay=1000]] A cat", durationSeconds=4, resolution="4k", generateAudio=True))
        place, body = (
            f"/v1beta1/{begun['name'].partition('/operations/')[0]}:fetchPredictOperation",
            {"operationName": begun["name"]},
        )
        at.now.ms += 2_000
        done = await ask(at, place, body)
        assert (done["done"], len(done["response"]["videos"])) == (True, 1)
        await ask(at, place, body, headers=OTHERS, status=404)
        await ask(at, place, {"operation_name": begun["name"]}, headers=OTHERS, status=404)
        await ask(at, place, {"OperationName": begun["name"]}, headers=OTHERS, status=400)
        await at.poll_after(5_000)
        assert await at.spent_and_held() == (240 * CENT, 0)


@pytest.mark.parametrize(
    ("path", "directive"), [(VEO, "finish=failed"), (VEO, "refuse=1"), (VERTEX, "refuse=1"), (IMAGINE, "finish=failed")]
)
async def test_what_failed_or_was_filtered_out_is_released(
    path: str, directive: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as at:
        text = f"[[sim {directive}]] A cat"
        await ask(at, path, veo(text) if path != IMAGINE else {"model": "grok-imagine-video", "prompt": text})
        assert (await at.spent_and_held())[1] > 0
        await at.poll_after(5_000)
        assert await at.spent_and_held() == (0, 0)
        (event,) = at.harness.events()
        failed = "upstream_error" if directive == "finish=failed" else "success"
        assert (event["outcome"], event["cost_nano_usd"], event["flags"]) == (failed, 0, ["deferred"])


@pytest.mark.parametrize(
    ("more", "held", "charged"),
    [
        ({"duration": 5, "resolution": "720p"}, 5 * 14, 5 * 14),
        ({"duration": 10, "resolution": "1080p", "image": {"url": "https://a.invalid/a.png"}}, 251, 251),
        ({}, 8 * 25, 8 * 8),
    ],
)
async def test_imagine_is_held_and_charged_likewise(
    more: dict[str, Any], held: int, charged: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as at:
        body = {"model": "grok-imagine-video-1.5", "prompt": "[[sim delay=60000]] A cat", **more}
        begun = await ask(at, IMAGINE, body)
        place = f"/v1/videos/{begun['request_id']}"
        assert await at.spent_and_held() == (0, held * CENT)
        assert (await ask(at, place, method="GET"))["status"] == "pending"
        await ask(at, place, method="GET", headers=OTHERS, status=404)
        await at.poll_after(10_000)
        assert await at.spent_and_held() == (0, held * CENT)
        await at.poll_after(60_000)
        assert await at.spent_and_held() == (charged * CENT, 0)
        assert (await ask(at, place, method="GET"))["video"]["duration"] == body.get("duration", 8)
        assert await at.spent_and_held() == (charged * CENT, 0)


async def test_one_that_its_upstream_has_lost_is_charged_as_it_was_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        await ask(at, VEO, veo())
        _, held = await at.spent_and_held()
        lost = "tallygate.gateway.upstream_reads.url_of"
        monkeypatch.setattr(lost, lambda _upstream, _target: f"{at.harness.upstream_url}/v1beta/operations/none")
        await at.poll_after(5_000)
        assert await at.spent_and_held() == (0, held)
        await at.poll_after(LOST_AFTER_MS)
        assert await at.spent_and_held() == (held, 0)
        (event,) = video_events(at)
        assert (event["cost_nano_usd"], "job_lost" in event["flags"]) == (held, True)


async def test_one_that_fails_after_its_deadline_is_put_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, monkeypatch) as at:
        await ask(at, VEO, veo("[[sim finish=failed;delay=60000]] A cat"))
        _, held = await at.spent_and_held()
        at.harness.clock.offset_ms += DAY_MS + HOUR_MS
        at.harness.limiter.sweep("acme")
        assert await at.spent_and_held() == (held, 0)
        at.now.ms += DAY_MS + 2 * HOUR_MS
        await at.poller.poll_due()
        assert await at.spent_and_held() == (0, 0)


class Scripted:
    """An upstream whose operation is shown as a test says."""

    def __init__(self) -> None:
        self.begun: Any = {"name": "models/veo-3.1-generate-preview/operations/op1"}
        self.told: Any = {}
        self.asked: list[str] = []

    async def begin(self, _request: web.Request) -> web.Response:
        return web.json_response(self.begun)

    async def tell(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return web.json_response(self.told)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post(VEO, self.begin)
        app.router.add_get("/{path:.*}", self.tell)
        return app


NAME = "models/veo-3.1-generate-preview/operations/op1"
SAMPLE = {"video": {"uri": "https://generativelanguage.googleapis.com/v1beta/files/abc:download?alt=media"}}


@pytest.mark.parametrize(
    ("told", "cost", "flag"),
    [
        ({"name": NAME, "done": True, "response": {"generateVideoResponse": {"generatedSamples": [SAMPLE]}}}, 320, ""),
        ({"name": NAME, "done": True, "response": {"generatedVideos": [SAMPLE], "raiMediaFilteredCount": 1}}, 320, ""),
        ({"name": NAME, "done": True, "response": {"generateVideoResponse": {}}}, 960, "assumed"),  # it does not tell what came
        ({"name": NAME, "done": True}, 960, "assumed"),
        ({"name": NAME, "done": "true", "response": {"generatedSamples": [SAMPLE]}}, None, ""),
        ({"name": NAME.replace("op1", "op2"), "done": True, "response": {}}, None, ""),
        ({"done": True, "response": {"generatedSamples": []}}, None, ""),
        ({}, None, ""),
        ([], None, ""),
    ],
)
async def test_what_an_upstream_says_of_it(
    told: Any, cost: int | None, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Scripted()
    async with serving(upstream.app()) as url, world(tmp_path, monkeypatch, upstream_url=url) as at:
        await ask(at, VEO, veo("A cat", sampleCount=2))
        upstream.told = told
        await at.poll_after(5_000)
        assert upstream.asked == [f"/v1beta/{NAME}"]
        assert await at.spent_and_held() == ((0, 960 * CENT) if cost is None else (cost * CENT, 0))
        if cost is not None:
            (event,) = at.harness.events()
            assert (flag in event["flags"]) is bool(flag)


@pytest.mark.parametrize(
    ("begun", "cost"),
    [
        ({"name": NAME, "done": True, "error": {"code": 3, "message": "no"}}, 0),
        ({"name": NAME, "done": True, "response": {"generateVideoResponse": {"generatedSamples": [SAMPLE]}}}, 320),
        ({"name": "../../v1/files"}, 480),  # no operation that could be asked for: charged as it was held
        ({}, 480),
        ("?", 480),
    ],
)
async def test_an_answer_that_begins_nothing_is_charged_at_once(
    begun: Any, cost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Scripted()
    upstream.begun = begun
    async with serving(upstream.app()) as url, world(tmp_path, monkeypatch, upstream_url=url) as at:
        async with at.session.post(VEO, json=veo("A cat"), headers=GOOGLE) as answer:
            assert answer.status == 200
        await at.harness.at_rest()
        assert at.harness.deferred() == []
        assert await at.spent_and_held() == (cost * CENT, 0)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (veo(durationSeconds="8s"), "parameters.durationSeconds"),
        (veo(durationSeconds=-1), "parameters.durationSeconds"),
        (veo(durationSeconds=10**30), "parameters.durationSeconds"),
        (veo(sampleCount=1.5), "parameters.sampleCount"),
        (veo(DurationSeconds=60), "parameters.DurationSeconds"),
        (veo(storageUri="gs://a/b"), "parameters.storageUri"),
        ({"instances": [{"prompt": "A", "image": {"gcsUri": "gs://a/b.png"}}]}, "instances.image.gcsUri"),
        ({"instances": [{"prompt": "A", "video": {"uri": "gs://a/b.mp4"}}]}, "instances.video.uri"),
        ({"instances": [], "parameters": [{"durationSeconds": 60}]}, "parameters"),
        ({"instances": [{"prompt": "A", "video": {"URI": "files/somebodys"}}]}, "instances.video.URI"),
        (veo(lastFrame={"gcs_uri": "gs://a/b.png"}), "parameters.lastFrame.gcs_uri"),
    ],
)
async def test_what_cannot_be_bounded_or_lies_elsewhere_is_refused(
    body: Any, param: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch) as at:
        refused = await ask(at, VEO, body, status=400)
        details = {detail["@type"].rpartition(".")[2]: detail for detail in refused["error"]["details"]}
        assert details["BadRequest"]["fieldViolations"][0]["field"] == param
        assert at.harness.ledger.records == type(at.harness.ledger.records)()
        assert await at.spent_and_held() == (0, 0)


async def test_a_limit_that_cannot_hold_it_refuses_with_the_amount_and_others_files_are_not_extended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, monkeypatch, acme_usd="5") as at:
        refused = await ask(at, VEO, veo(sampleCount=2), status=429)
        assert "9.6" in str(refused), refused
        video = {"uri": "https://generativelanguage.googleapis.com/v1beta/files/somebodys:download?alt=media"}
        await ask(at, VEO, {"instances": [{"prompt": "On", "video": video}], "parameters": {"resolution": "720p"}}, status=404)
        await ask(at, "/v1beta/models/veo-9-unknown:predictLongRunning", veo(), status=400)
        await ask(at, "/v1beta/models/gemini-2.5-flash:predictLongRunning", veo(), status=400)  # whose price has no second of video
        assert await at.spent_and_held() == (0, 0)


@pytest.mark.parametrize(
    ("leads", "shown"),
    [("{url}/a?b=c", "/a?b=c"), ("{url}//a.invalid", "{url}//a.invalid"), ("{url}.invalid/a", "{url}.invalid/a"), ("/a", "/a")],
)
async def test_a_redirect_to_the_upstream_itself_leads_through_the_gateway(
    leads: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send_on(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": leads.format(url=url)})

    app = web.Application()
    app.router.add_get("/v1/models", send_on)
    async with (
        serving(app) as url,
        world(tmp_path, monkeypatch, upstream_url=url) as at,
        at.session.get("/v1/models", headers=GOOGLE, allow_redirects=False) as answer,
    ):
        assert (answer.status, answer.headers["location"]) == (302, shown.format(url=url))


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_fails_each_is_charged_once_and_as_it_is_billed(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients poll or do not, pollers are killed in the middle, the limiter and the ledger are away at random."""
    chance, begun = Chance(seed), list[str]()
    prices = {"video_second:720p": 40, "video_second:1080p": 40, "video_second:4k": 60, "video_second:480p": 8}

    def chunks(*given: Any, **named: Any) -> Any:
        async def read() -> Any:
            for chunk in [each async for each in real(*given, **named)]:
                await failing()
                yield chunk
                await failing()

        return read()

    async def nothing() -> None: ...

    real, failing = videos.read_chunks, chance.failing(nothing, KilledError, FetchError)
    async with world(tmp_path, monkeypatch, acme_usd="100") as at:
        limiter, pick = at.harness.limiter, chance.random
        monkeypatch.setattr(videos, "read_chunks", chunks)
        monkeypatch.setattr(limiter, "settle", chance.failing(limiter.settle, StoreError))
        monkeypatch.setattr(limiter, "defer", chance.failing(limiter.defer, StoreError))
        monkeypatch.setattr(at.jobs, "put_off", chance.failing(at.jobs.put_off, KilledError, StoreError))
        for _ in range(20):
            text = f"[[sim delay={pick.choice([0, 2_000, 40_000])}{pick.choice(['', '', ';refuse=1', ';finish=failed'])}]] A cat"
            match pick.choice(("veo", "vertex", "imagine", "show", "settle", "settle")):
                case "veo":
                    begun.append(f"/v1beta/{(await ask(at, VEO, veo(text, sampleCount=pick.randint(1, 3))))['name']}")
                case "vertex":
                    await ask(at, VERTEX, veo(text, durationSeconds=4, resolution=pick.choice(["1080p", "4k"])))
                case "imagine":
                    asked = await ask(at, IMAGINE, {"model": "grok-imagine-video-1.5", "prompt": text.replace(";refuse=1", "")})
                    begun.append(f"/v1/videos/{asked['request_id']}")
                case "show" if begun:
                    await ask(at, pick.choice(begun), method="GET")
                case "settle":
                    await settle_some(at, pick.choice([500, 5_000, 30_000, 70_000]))
        chance.is_calm = True
        for _ in range(6):
            await settle_some(at, 70_000)
        assert at.jobs.open() == []
        events = [event for event in at.harness.events() if event["_kind"] != "expired"]
        assert len({event["event_id"] for event in events}) == len(events)
        billed = [
            price * number for each in at.harness.ledger.records for unit, number in each.units.items() for price in [prices[unit]]
        ]
        assert await at.spent_and_held() == (sum(billed) * CENT, 0)
        assert sum(event["_cost"] for event in events) == sum(billed) * CENT


async def test_it_needs_the_operators_key(tmp_path: Path) -> None:
    async with (
        running_gateway(tmp_path) as harness,
        ClientSession(harness.url) as session,
        session.post(VEO, json=veo(), headers=GOOGLE) as answer,
    ):
        assert answer.status == 400
        assert "operator's key" in (await answer.json())["error"]["message"]
