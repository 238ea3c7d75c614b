"""The PiAPI twin by itself. PiAPI has no official SDK for this call: the bodies are those of its documentation."""

import base64
from typing import Any

import httpx
import pytest

from tests.api_providers.sandbox.conftest import Twins

KEY = {"x-api-key": "sandbox-test"}
SIX = {"horizontal": 0, "vertical": 0, "pan": 0, "tilt": 0, "roll": 0, "zoom": 0}
T2V: dict[str, Any] = {
    "prompt": "a red kite",
    "version": "2.5",
    "mode": "pro",
    "duration": 5,
    "aspect_ratio": "16:9",
}
URL = "https://files.example/a"


async def ask(twins: Twins, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return await twins.http.request(method, f"{twins.url}/piapi{path}", json=body, headers=KEY | headers)


async def create(
    twins: Twins, task_type: str = "video_generation", model: str = "kling", **given: Any
) -> Any:
    return await ask(twins, "POST", "/api/v1/task", {"model": model, "task_type": task_type, "input": given})


async def made(twins: Twins, *args: str, **given: Any) -> str:
    answer = await create(twins, *args, **given)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["task_id"])


async def look(twins: Twins, id_: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await ask(twins, "GET", f"/api/v1/task/{id_}")).json()
    assert answer["code"] == 200
    data: dict[str, Any] = answer["data"]
    return data


async def test_a_task_goes_from_pending_to_a_link(twins: Twins) -> None:
    id_ = await made(twins, **T2V)
    seen = [await look(twins, id_)]
    for _ in range(2):
        twins.clock.pass_(0.2)
        seen.append(await look(twins, id_))
    assert [task["status"] for task in seen] == ["pending", "processing", "completed"]
    assert seen[0]["output"] == {"type": "", "status": 0, "works": None}
    assert seen[0]["meta"]["ended_at"] == "0001-01-01T00:00:00Z"
    assert [task["meta"]["usage"]["frozen"] for task in seen] == [3_300_000, 3_300_000, 0]
    assert seen[2]["meta"]["usage"]["consume"] == 3_300_000
    video = seen[2]["output"]["works"][0]["video"]
    assert video["duration"] == 5000
    clip = await twins.http.get(video["resource_without_watermark"])
    assert clip.headers["content-type"] == "video/mp4"
    twins.clock.pass_(90_000)
    assert (await twins.http.get(video["resource"])).status_code == 404


@pytest.mark.parametrize(
    ("args", "given"),
    [
        ((), {**T2V, "version": "3.0"}),
        (("omni_video_generation",), {"prompt": "x", "version": "o1", "resolution": "720p"}),
        (("video_generation", "kling-turbo"), {"prompt": "x", "mode": "pro"}),
        (("motion_control",), {"image_url": URL, "video_url": "", "preset_motion": "Heart Gesture Dance"}),
    ],
)
async def test_newer_tasks_tell_a_bare_link(twins: Twins, args: tuple[str, ...], given: Any) -> None:
    id_ = await made(twins, *args, **given)
    assert (await look(twins, id_))["output"] == {"video": ""}
    twins.clock.pass_(1)
    link = (await look(twins, id_))["output"]["video"]
    assert (await twins.http.get(link)).status_code == 200


@pytest.mark.parametrize(
    ("args", "given", "usd"),
    [
        ((), {**T2V, "version": "2.6", "duration": 10, "enable_audio": True}, "1.32"),
        ((), {**T2V, "version": "2.6", "mode": "std"}, "0.2"),
        ((), {**T2V, "version": "2.1-master", "duration": 10}, "1.92"),
        ((), {**T2V, "version": "1.6", "mode": "std"}, "0.26"),
        ((), {**T2V, "version": "3.0", "duration": 15, "enable_audio": True}, "3"),
        (("video_generation", "kling-turbo"), {"prompt": "x", "duration": 10}, "0.56"),
        (("effects",), {"image_url": URL, "effect": "squish", "professional_mode": True}, "0.46"),
        (("motion_control",), {"image_url": URL, "video_url": URL, "mode": "std", "version": "2.6"}, "1.3"),
        (("avatar",), {"image_url": URL, "local_dubbing_url": URL, "mode": "std"}, "0.26"),
    ],
)
async def test_a_success_is_billed_by_the_price_list(
    twins: Twins, args: tuple[str, ...], given: Any, usd: str
) -> None:
    await made(twins, *args, **given)
    assert [row["usd"] for row in await twins.bill()] == ["0"]
    twins.clock.pass_(1)
    assert [row["usd"] for row in await twins.bill()] == [usd]


@pytest.mark.parametrize(
    ("args", "given", "said"),
    [
        (("text2video",), T2V, "task_type"),
        (("video_generation", "klong"), T2V, "model"),
        ((), {**T2V, "version": "9.0"}, "version"),
        ((), {**T2V, "mode": "4k"}, "mode"),
        ((), {**T2V, "version": "2.1-master", "mode": "std"}, "pro mode only"),
        ((), {**T2V, "duration": "5"}, "duration"),
        ((), {**T2V, "duration": 7}, "duration"),
        ((), {**T2V, "aspect_ratio": "4:3"}, "aspect_ratio"),
        ((), {**T2V, "prompt": "x" * 2501}, "2500"),
        ((), {"version": "2.5", "mode": "pro"}, "prompt is required"),
        ((), {**T2V, "image_tail_url": URL}, "needs image_url"),
        ((), {"image_url": "a.png", "version": "2.5", "mode": "pro"}, "must be a url"),
        ((), {"image_url": URL, "prompt": "x", "aspect_ratio": "1:1", "mode": "pro"}, "text to video only"),
        ((), {**T2V, "enable_audio": True}, "enable_audio needs"),
        ((), {**T2V, "version": "2.6", "mode": "std", "enable_audio": True}, "enable_audio needs"),
        ((), {**T2V, "camera_control": {"type": "down_back"}}, "not supported by version"),
        ((), {**T2V, "version": "1.6", "camera_control": {"type": "simple", "config": SIX}}, "exactly one"),
        (
            (),
            {**T2V, "version": "1.6", "camera_control": {"type": "simple", "config": {"pan": 1}}},
            "all six",
        ),
        ((), {**T2V, "elements": [{"image_url": URL}]}, "elements need version 1.6"),
        (("omni_video_generation",), {"prompt": "x"}, "version is required"),
        (("omni_video_generation",), {"prompt": "x", "version": "o1", "enable_audio": True}, "3.0"),
        (("omni_video_generation",), {"prompt": "x", "version": "3.0", "images": [URL] * 8}, "at most 7"),
        (("extend_video",), {"origin_task_id": "nope"}, "origin_task_id"),
        (("lip_sync",), {"origin_task_id": "nope", "tts_text": "hi"}, "origin_task_id"),
        (("effects",), {"image_url": URL, "effect": "explode"}, "effect"),
        (("effects",), {"image_url": URL, "effect": "rocket"}, "needs a prompt"),
        (("motion_control",), {"image_url": URL, "video_url": "", "preset_motion": ""}, "motion reference"),
        (("avatar",), {"image_url": URL}, "local_dubbing_url"),
    ],
)
async def test_a_wrong_input_is_refused(twins: Twins, args: tuple[str, ...], given: Any, said: str) -> None:
    answer = await create(twins, *args, **given)
    body = answer.json()
    assert (answer.status_code, body["code"], body["data"]) == (400, 400, None)
    assert said in body["message"]
    assert await twins.bill() == []


async def test_extend_and_lip_sync_go_on_from_a_finished_task(twins: Twins) -> None:
    origin = await made(twins, **T2V)
    assert (await create(twins, "extend_video", origin_task_id=origin)).status_code == 400
    twins.clock.pass_(1)
    longer = await made(twins, "extend_video", origin_task_id=origin, prompt="on")
    twins.clock.pass_(1)
    assert (await look(twins, longer))["output"]["works"][0]["video"]["duration"] == 10_000
    unused: dict[str, Any] = {"tts_timbre": "", "tts_speed": 1, "local_dubbing_url": ""}
    await made(twins, "lip_sync", origin_task_id=longer, tts_text="Good morning", **unused)
    silent = await create(twins, "lip_sync", origin_task_id=longer, tts_text="", **unused)
    assert (silent.status_code, "tts_text" in silent.json()["message"]) == (400, True)
    twins.clock.pass_(1)
    assert (await twins.bill())[-1]["usd"] == "0.2"


async def test_what_is_over_the_plan_is_staged_and_at_most_fifty(twins: Twins) -> None:
    await twins.control("settings", provider="piapi", concurrency=1, render_seconds=600)
    ids = [await made(twins, **T2V) for _ in range(51)]
    assert (await look(twins, ids[0]))["status"] == "pending"
    assert (await look(twins, ids[1]))["status"] == "staged"
    answer = await create(twins, **T2V)
    assert (answer.status_code, answer.json()["code"]) == (429, 429)
    active = (await ask(twins, "GET", "/account/active_tasks")).json()["data"]["kling"]
    assert active == {"staged_count": 50, "pending_count": 1, "processing_count": 0, "active_tasks": 51}


async def test_only_what_has_not_started_is_cancelled(twins: Twins) -> None:
    id_ = await made(twins, **T2V)
    twins.clock.pass_(0.2)
    refused = await ask(twins, "DELETE", f"/api/v1/task/{id_}")
    assert (refused.status_code, refused.json()["code"]) == (400, 400)
    twins.clock.pass_(1)
    assert (await look(twins, id_))["status"] == "completed"
    other = await made(twins, **T2V)
    assert (await ask(twins, "DELETE", f"/api/v1/task/{other}")).status_code == 200
    task = await look(twins, other)
    assert (task["status"], task["error"]["message"]) == ("failed", "task cancelled")
    assert (await twins.bill())[-1]["usd"] == "0"
    assert (await ask(twins, "POST", f"/api/v1/task/{other}/cancel")).status_code == 404


async def test_the_account_tells_what_is_left(twins: Twins) -> None:
    await made(twins, **T2V)
    twins.clock.pass_(1)
    account = (await ask(twins, "GET", "/account/info")).json()["data"]
    assert account["equivalent_in_usd"] == 999.67
    await twins.control("settings", provider="piapi", price_factor=10_000)
    poor = await create(twins, **T2V)
    assert (poor.status_code, poor.json()["message"]) == (402, "insufficient credits")


async def test_an_upload_is_kept_for_a_day(twins: Twins) -> None:
    path = "/_host/upload/api/ephemeral_resource"
    data = base64.b64encode(b"picture").decode()
    answer = await ask(twins, "POST", path, {"file_name": "a.png", "file_data": data})
    url = answer.json()["data"]["url"]
    assert (await twins.http.get(url)).content == b"picture"
    for body in (
        {"file_name": "a.exe", "file_data": data},
        {"file_name": "a.png", "file_data": "%%"},
        {"file_name": "x" * 126 + ".png", "file_data": data},
        {"file_name": "a.png", "file_data": ""},
    ):
        assert (await ask(twins, "POST", path, body)).status_code == 400, body
    twins.clock.pass_(86_401)
    assert (await twins.http.get(url)).status_code == 404


async def test_another_key_is_refused_everywhere(twins: Twins) -> None:
    for method, path in (
        ("POST", "/api/v1/task"),
        ("GET", "/api/v1/task/x"),
        ("DELETE", "/api/v1/task/x"),
        ("GET", "/account/info"),
        ("GET", "/account/active_tasks"),
        ("POST", "/_host/upload/api/ephemeral_resource"),
    ):
        answer = await ask(twins, method, path, {}, **{"x-api-key": "real"})
        assert (answer.status_code, answer.json()["code"]) == (401, 401), path
