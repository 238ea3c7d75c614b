"""The twin of Google against the provider sheet and against Google's own SDK, unmodified, in both its modes."""

import base64
import io
from typing import Any

import av
import httpx
import pytest
from google import genai
from google.genai import types
from google.genai.errors import ClientError
from google.genai.interactions import Interaction
from google.oauth2.credentials import Credentials

from tests.api_providers.sandbox.conftest import Twins

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
"""Google's SDK subclasses aiohttp's session."""
MODELS = "/v1/projects/p/locations/us-central1/publishers/google/models"
TOKEN = {"Authorization": "Bearer sandbox-test"}
KEY = {"x-goog-api-key": "sandbox-test"}
FOX: dict[str, Any] = {"instances": [{"prompt": "a fox runs"}], "parameters": {"generateAudio": False}}
OMNI: dict[str, Any] = {"model": "gemini-omni-1.2-flash", "input": "a fox runs", "background": True}


def vertex(twins: Twins) -> genai.Client:
    return genai.Client(
        enterprise=True,
        project="p",
        location="us-central1",
        credentials=Credentials("sandbox-test"),  # type: ignore[no-untyped-call]
        http_options=types.HttpOptions(base_url=f"{twins.url}/veo"),
    )


def gemini(twins: Twins) -> genai.Client:
    return genai.Client(api_key="sandbox-test", http_options=types.HttpOptions(base_url=f"{twins.url}/veo"))


async def post(twins: Twins, path: str, body: Any, **headers: str) -> httpx.Response:
    return await twins.http.post(f"{twins.url}/veo{path}", json=body, headers=TOKEN | KEY | headers)


async def get(twins: Twins, path: str, **headers: str) -> httpx.Response:
    return await twins.http.get(f"{twins.url}/veo{path}", headers=TOKEN | KEY | headers)


async def submit(twins: Twins, model: str = "veo-3.1-generate-001", **parameters: Any) -> str:
    body = {**FOX, "parameters": FOX["parameters"] | parameters}
    answer = await post(twins, f"{MODELS}/{model}:predictLongRunning", body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["name"])


async def look(twins: Twins, name: str) -> dict[str, Any]:
    resource = name.partition("/operations/")[0]
    answer = await post(twins, f"/v1/{resource}:fetchPredictOperation", {"operationName": name})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def seconds_of(clip: bytes) -> float:
    with av.open(io.BytesIO(clip), "r") as box:
        assert box.streams.video and box.duration
        return float(box.duration / 1e6)


async def test_the_sdk_makes_a_clip_from_text_on_vertex(twins: Twins) -> None:
    client = vertex(twins)
    operation = await client.aio.models.generate_videos(
        model="veo-3.1-fast-generate-001",
        source=types.GenerateVideosSource(prompt="the sea"),
        config=types.GenerateVideosConfig(
            number_of_videos=1, duration_seconds=4, resolution="1080p", generate_audio=True, seed=1
        ),
    )
    seen = [operation.done]
    for step in (0.2, 0.4):
        twins.clock.pass_(step)
        operation = await client.aio.operations.get(operation)
        seen.append(operation.done)
    assert seen == [None, None, True]
    assert operation.response and operation.response.generated_videos
    video = operation.response.generated_videos[0].video
    assert video and video.video_bytes
    assert seconds_of(video.video_bytes) == pytest.approx(4, abs=0.2)
    assert [(row["model"], row["usd"]) for row in await twins.bill()] == [
        ("veo-3.1-fast-generate-001", "0.48")
    ]
    await client.aio.aclose()


async def test_the_sdk_makes_a_clip_from_an_image_into_a_bucket(twins: Twins, png: str) -> None:
    client = vertex(twins)
    image = types.Image(image_bytes=base64.b64decode(png.partition(",")[2]), mime_type="image/png")
    operation = await client.aio.models.generate_videos(
        model="veo-3.1-generate-001",
        source=types.GenerateVideosSource(prompt="waves", image=image),
        config=types.GenerateVideosConfig(
            number_of_videos=2,
            duration_seconds=8,
            generate_audio=False,
            last_frame=image,
            output_gcs_uri="gs://clips/a",
        ),
    )
    twins.clock.pass_(1)
    operation = await client.aio.operations.get(operation)
    assert operation.response and operation.response.generated_videos
    uris = [one.video.uri for one in operation.response.generated_videos if one.video]
    assert len(uris) == 2 and all(uri and uri.startswith("gs://clips/a/") for uri in uris)
    name = str(uris[1]).removeprefix("gs://clips/").replace("/", "%2F")
    path = f"/_host/storage/storage/v1/b/clips/o/{name}"
    assert seconds_of((await get(twins, f"{path}?alt=media")).content) == pytest.approx(8, abs=0.2)
    assert (await get(twins, path)).json()["bucket"] == "clips"
    assert (await get(twins, f"{path}?alt=media", Authorization="")).status_code == 401
    assert [row["usd"] for row in await twins.bill()] == ["3.2"]
    await client.aio.aclose()


async def test_the_sdk_reads_a_filtered_clip_and_a_failure(twins: Twins) -> None:
    client = vertex(twins)
    await twins.control("faults", provider="veo", kind="moderation")
    await twins.control("faults", provider="veo", kind="fail_after_accept")
    ends = []
    for _ in range(2):
        operation = await client.aio.models.generate_videos(
            model="veo-3.1-generate-001",
            source=types.GenerateVideosSource(prompt="x"),
            config=types.GenerateVideosConfig(generate_audio=True),
        )
        twins.clock.pass_(1)
        ends.append(await client.aio.operations.get(operation))
    assert ends[0].response and ends[0].response.rai_media_filtered_count == 1
    assert not ends[0].response.generated_videos
    assert ends[1].error and ends[1].error["code"] == 13
    assert [row["usd"] for row in await twins.bill()] == ["0", "3.2"]
    await client.aio.aclose()


@pytest.mark.parametrize("delivery", ["uri", "inline"])
async def test_the_sdk_makes_a_clip_through_interactions(twins: Twins, delivery: str) -> None:
    client = gemini(twins)
    made = await client.aio.interactions.create(
        model="gemini-omni-1.2-flash",
        input="a fox runs",
        background=True,
        store=True,
        response_format={"type": "video", "resolution": "360p", "duration": "3s", "delivery": delivery},
    )
    seen = [made.status]
    for step in (0.2, 0.4):
        twins.clock.pass_(step)
        view = await client.aio.interactions.get(id=str(made.id))
        seen.append(view.status)
    assert seen == ["queued", "in_progress", "completed"]
    assert view.output_video
    if delivery == "uri":
        clip = (await twins.http.get(str(view.output_video.uri), headers=KEY)).content
    else:
        clip = base64.b64decode(str(view.output_video.data))
    assert seconds_of(clip) == pytest.approx(3, abs=0.2)
    assert [row["usd"] for row in await twins.bill()] == ["0.063"]
    await client.aio.aclose()


async def test_the_sdk_animates_an_image_edits_the_clip_and_cancels(twins: Twins, png: str) -> None:
    client = gemini(twins)
    image = {"type": "image", "data": png.partition(",")[2], "mime_type": "image/png"}
    first = await client.aio.interactions.create(
        model="gemini-omni-1.1-flash",
        input=[image, {"type": "text", "text": "waves"}],
        background=True,
        response_format={"type": "video", "duration": "5s"},
        generation_config={"video_config": {"task": "image_to_video"}},
    )
    assert isinstance(first, Interaction)
    twins.clock.pass_(1)
    assert (await client.aio.interactions.get(id=str(first.id))).status == "completed"
    second = await client.aio.interactions.create(
        model="gemini-omni-1.1-flash",
        input="make it night",
        previous_interaction_id=str(first.id),
        background=True,
        generation_config={"video_config": {"task": "edit"}},
    )
    assert isinstance(second, Interaction)
    assert (await client.aio.interactions.cancel(id=str(second.id))).status == "cancelled"
    assert [(row["usd"], row["status"]) for row in await twins.bill()] == [
        ("0.5", "succeeded"),
        ("0", "cancelled"),
    ]
    await client.aio.aclose()


async def test_the_sdk_reads_the_errors(twins: Twins) -> None:
    client = vertex(twins)
    with pytest.raises(ClientError) as caught:
        await client.aio.models.generate_videos(
            model="veo-2.0-generate-001", source=types.GenerateVideosSource(prompt="x")
        )
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    await client.aio.aclose()


@pytest.mark.parametrize(
    ("instance", "parameters", "said"),
    [
        ({}, {"durationSeconds": 5}, "duration"),
        ({}, {"durationSeconds": "8"}, "duration"),
        ({}, {"generateAudio": None}, "generateAudio"),
        ({}, {"aspectRatio": "1:1"}, "aspectRatio"),
        ({}, {"resolution": "360p"}, "resolution"),
        ({}, {"sampleCount": 5}, "sampleCount"),
        ({}, {"seed": 2**32}, "seed"),
        ({}, {"fps": 24}, "fps"),
        ({}, {"storageUri": "https://x/y"}, "storageUri"),
        ({"prompt": ""}, {}, "prompt"),
        ({"image": {"gcsUri": "https://x/a.png", "mimeType": "image/png"}}, {}, "gcsUri"),
        ({"image": {"bytesBase64Encoded": "AAAA", "mimeType": "image/png"}}, {}, "image"),
        ({"lastFrame": {"gcsUri": "gs://b/a.png", "mimeType": "image/png"}}, {}, "lastFrame"),
        ({"video": {"gcsUri": "gs://b/a.mp4", "mimeType": "video/mp4"}}, {"resolution": "1080p"}, "720p"),
        ({"cfg": 1}, {}, "cfg"),
    ],
)
async def test_a_wrong_prediction_is_refused_and_bought_nothing(
    twins: Twins, instance: dict[str, Any], parameters: dict[str, Any], said: str
) -> None:
    body = {
        "instances": [FOX["instances"][0] | instance],
        "parameters": FOX["parameters"] | parameters,
    }
    answer = await post(twins, f"{MODELS}/veo-3.1-generate-001:predictLongRunning", body)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert said in answer.json()["error"]["message"]
    assert await twins.bill() == []


async def test_sound_must_be_said_and_lite_takes_no_more_than_one_frame(twins: Twins) -> None:
    silent = {"instances": FOX["instances"], "parameters": {}}
    path = f"{MODELS}/veo-3.1-lite-generate-001:predictLongRunning"
    assert "generateAudio" in (await post(twins, path, silent)).text
    picture = {"gcsUri": "gs://b/a.png", "mimeType": "image/png"}
    instance = {"prompt": "x", "image": picture, "lastFrame": picture}
    assert (await post(twins, path, FOX | {"instances": [instance]})).status_code == 400
    assert (await post(twins, path, FOX | {"instances": [{"image": picture}]})).status_code == 200


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"response_format": {"type": "video", "duration": 8}}, "duration"),
        ({"response_format": {"type": "video", "duration": "2s"}}, "duration"),
        ({"response_format": {"type": "video", "duration": "16s"}}, "duration"),
        ({"response_format": {"type": "video", "aspect_ratio": "1:1"}}, "aspect_ratio"),
        ({"response_format": {"type": "video", "fps": 24}}, "fps"),
        ({"generation_config": {"video_config": {"task": "dream"}}}, "dream"),
        ({"generation_config": {"video_config": {"task": "image_to_video"}}}, "image"),
        ({"previous_interaction_id": "v1_gone"}, "interaction"),
        ({"input": [{"type": "image", "data": "AAAA", "mime_type": "image/png"}]}, "image"),
        ({"input": 7}, "input"),
        ({"negative_prompt": "rain"}, "negative_prompt"),
        ({"background": False}, "background"),
    ],
)
async def test_a_wrong_interaction_is_refused_and_bought_nothing(
    twins: Twins, changes: dict[str, Any], said: str
) -> None:
    answer = await post(twins, "/v1/interactions", OMNI | changes)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
    assert await twins.bill() == []


async def test_done_is_absent_while_it_runs_and_a_get_finds_nothing(twins: Twins) -> None:
    name = await submit(twins)
    assert await look(twins, name) == {"name": name}
    assert (await get(twins, f"/v1/{name}")).status_code == 404
    twins.clock.pass_(1)
    view = await look(twins, name)
    assert view["done"] is True and set(view["response"]["videos"][0]) == {"bytesBase64Encoded", "mimeType"}


async def test_what_is_unknown_is_told_as_google_does(twins: Twins) -> None:
    resource = f"{MODELS}/veo-3.1-generate-001"
    missing = {"operationName": f"{resource.removeprefix('/v1/')}/operations/none"}
    assert (await post(twins, f"{resource}:fetchPredictOperation", missing)).status_code == 404
    assert (await post(twins, f"{resource}:predict", FOX)).status_code == 404
    gone = await get(twins, "/v1/interactions/v1_none")
    assert (gone.status_code, gone.json()["error"]["message"]) == (400, "Invalid interaction name.")
    old = await post(twins, "/v1beta/models/veo-3.1-generate-preview:predictLongRunning", FOX)
    assert old.status_code == 404 and "is no longer available" in old.text
    assert (await post(twins, "/v1/interactions", OMNI | {"model": "gemini-pro"})).status_code == 404


async def test_a_wrong_key_is_refused_by_each_surface_in_its_own_way(twins: Twins) -> None:
    path = f"{MODELS}/veo-3.1-generate-001:predictLongRunning"
    vertex_says = await post(twins, path, FOX, Authorization="Bearer ya29.real")
    assert (vertex_says.status_code, vertex_says.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    (gemini_says,) = (await get(twins, "/v1/models", **{"x-goog-api-key": "AIza-real"})).json()
    assert gemini_says["error"]["code"] == 400
    assert gemini_says["error"]["details"][0]["reason"] == "API_KEY_INVALID"


async def test_the_limit_tells_its_pause_in_a_detail_and_not_in_a_header(twins: Twins) -> None:
    await twins.control("settings", provider="veo", per_minute=1)
    await submit(twins)
    twins.clock.pass_(20)
    for path, body in (
        (f"{MODELS}/veo-3.1-generate-001:predictLongRunning", FOX),
        ("/v1beta/interactions", OMNI),
    ):
        answer = await post(twins, path, body)
        assert (answer.status_code, answer.headers.get("retry-after")) == (429, None)
        assert answer.json()["error"]["details"][0]["retryDelay"] == "40s"


async def test_a_file_wants_the_key_and_lives_for_a_while(twins: Twins) -> None:
    form = {"type": "video", "delivery": "uri", "duration": "3s"}
    made = (await post(twins, "/v1/interactions", OMNI | {"response_format": form})).json()
    twins.clock.pass_(1)
    view = (await get(twins, f"/v1beta/interactions/{made['id']}?stream=false")).json()
    uri = view["steps"][-1]["content"][0]["uri"].removeprefix(f"{twins.url}/veo")
    assert (await get(twins, uri)).status_code == 200
    assert (await get(twins, uri, **{"x-goog-api-key": ""})).status_code == 400
    assert (await get(twins, uri.partition(":")[0])).json()["state"] == "ACTIVE"
    twins.clock.pass_(twins.benches["veo"].link_seconds + 1)
    assert (await get(twins, uri)).status_code == 403


async def test_a_deleted_interaction_is_gone_and_still_paid(twins: Twins) -> None:
    made = (await post(twins, "/v1/interactions", OMNI)).json()
    twins.clock.pass_(1)
    url = f"{twins.url}/veo/v1/interactions/{made['id']}"
    assert (await twins.http.delete(url, headers=KEY)).status_code == 200
    assert (await twins.http.get(url, headers=KEY)).status_code == 400
    assert [row["usd"] for row in await twins.bill()] == ["0.7"]


async def test_a_refusal_by_the_filter_is_free_on_both_surfaces(twins: Twins) -> None:
    await twins.control("faults", provider="veo", kind="moderation", times=2)
    name = await submit(twins)
    made = (await post(twins, "/v1/interactions", OMNI)).json()
    twins.clock.pass_(1)
    assert (await look(twins, name))["response"]["raiMediaFilteredCount"] == 1
    view = (await get(twins, f"/v1/interactions/{made['id']}")).json()
    assert view["status"] == "completed"
    assert [part["type"] for part in view["steps"][-1]["content"]] == ["text"]
    assert [row["usd"] for row in await twins.bill()] == ["0", "0"]
