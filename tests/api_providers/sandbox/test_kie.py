"""The Kie twin against the provider sheet; Kie has no SDK, so a bare HTTP client speaks to it."""

import io
import json
from typing import Any

import av
import httpx
import pytest

from tests.api_providers.sandbox.conftest import Twins

KEY = {"Authorization": "Bearer sandbox-test"}
KLING = {"prompt": "a red kite", "sound": False, "aspect_ratio": "16:9", "duration": "5"}
TEXT = "kling-2.6/text-to-video"


async def call(twins: Twins, method: str, path: str, body: Any = None, **headers: str) -> Any:
    answer = await twins.http.request(method, f"{twins.url}/kie{path}", json=body, headers=KEY | headers)
    assert answer.status_code == 200, "whatever is wrong stands in the body"
    return answer.json()


async def create(twins: Twins, model: str = TEXT, **changes: Any) -> Any:
    given = {name: value for name, value in (KLING | changes).items() if value is not ...}
    return await call(twins, "POST", "/api/v1/jobs/createTask", {"model": model, "input": given})


async def bought(twins: Twins, model: str = TEXT, **changes: Any) -> str:
    answer = await create(twins, model, **changes)
    assert (answer["code"], answer["msg"]) == (200, "success"), answer
    return str(answer["data"]["taskId"])


async def look(twins: Twins, id_: str) -> Any:
    answer = await call(twins, "GET", f"/api/v1/jobs/recordInfo?taskId={id_}")
    return answer["data"] if answer["code"] == 200 else answer


async def test_a_clip_from_text_goes_through_the_documented_states(twins: Twins) -> None:
    await twins.control("settings", provider="kie", concurrency=1, render_seconds=10)
    id_, second = await bought(twins, sound=True), await bought(twins)
    seen = [(await look(twins, id_))["state"]]
    assert (await look(twins, second))["state"] == "waiting"
    for step in (2.0, 9.0):
        twins.clock.pass_(step)
        seen.append((await look(twins, id_))["state"])
    assert seen == ["queuing", "generating", "success"]
    view = await look(twins, id_)
    assert (view["creditsConsumed"], view["failCode"]) == (110, None)
    assert json.loads(view["param"])["input"]["duration"] == "5"
    (url,) = json.loads(view["resultJson"])["resultUrls"]
    with av.open(io.BytesIO((await twins.http.get(url)).content), "r") as clip:
        assert clip.streams.video and clip.streams.audio


async def test_a_clip_from_an_uploaded_image_in_both_ways(twins: Twins, png: str) -> None:
    body = {"base64Data": png, "uploadPath": "images", "fileName": "a.png"}
    first = await call(twins, "POST", "/_host/upload/api/file-base64-upload", body)
    assert first["success"] and first["data"]["mimeType"] == "image/png"
    answer = await twins.http.post(
        f"{twins.url}/kie/_host/upload/api/file-stream-upload",
        data={"uploadPath": "images", "fileName": "b.png"},
        files={"file": ("b.png", b"png", "image/png")},
        headers=KEY,
    )
    for url in (first["data"]["downloadUrl"], answer.json()["data"]["downloadUrl"]):
        image = {"image_urls": [url], "aspect_ratio": ...}
        id_ = await bought(twins, "kling-2.6/image-to-video", **image)
        twins.clock.pass_(1)
        assert (await look(twins, id_))["state"] == "success"
    assert [row["usd"] for row in await twins.bill()] == ["0.28", "0.28"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"duration": 5}, "duration"),
        ({"duration": "7"}, "duration"),
        ({"sound": ...}, "sound is required"),
        ({"sound": "yes"}, "sound"),
        ({"aspect_ratio": "4:3"}, "aspect_ratio"),
        ({"prompt": ""}, "prompt is required"),
        ({"prompt": "x" * 1001}, "prompt"),
        ({"resolution": "1080p"}, "resolution is not supported"),
    ],
)
async def test_a_wrong_input_is_a_422_inside_http_200(
    twins: Twins, changes: dict[str, Any], said: str
) -> None:
    answer = await create(twins, **changes)
    assert answer["code"] == 422
    assert said in answer["msg"]
    assert answer["data"] is None
    assert await twins.bill() == []


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        ("kling-2.6", {}, "model"),
        ("kling-2.6/image-to-video", {"prompt": "x", "sound": False, "duration": "5"}, "image_urls"),
        (
            "kling-2.6/image-to-video",
            {"prompt": "x", "sound": False, "duration": "5", "image_urls": ["data:image/png;base64,AA"]},
            "image_urls",
        ),
        ("kling-3.0-omni/text-to-video", {"prompt": "x", "duration": 5}, "multi_prompt"),
        (
            "kling-3.0-omni/text-to-video",
            {"prompt": "x", "duration": "5", "customize_multi_shots": False},
            "duration",
        ),
        (
            "kling-3.0/video",
            {"prompt": "x", "sound": False, "duration": "5", "aspect_ratio": "16:9", "mode": "4k"},
            "mode",
        ),
        ("minimax-h3/text-to-video", {"prompt": "x", "duration": 6, "ratio": "16:9"}, "ratio"),
        (
            "hailuo/2-3-image-to-video-pro",
            {"prompt": "x", "image_url": "https://x/a.png", "duration": "10", "resolution": "1080P"},
            "1080P",
        ),
        ("wan/2-7-image-to-video", {"prompt": "x", "last_frame_url": "https://x/a.png"}, "first_frame_url"),
        ("wan/2-7-text-to-video", {"prompt": "x", "duration": "5"}, "duration"),
        ("wan/2-7-r2v", {"prompt": "x"}, "reference_image"),
    ],
)
async def test_each_model_refuses_what_it_does_not_take(
    twins: Twins, model: str, given: dict[str, Any], said: str
) -> None:
    answer = await call(twins, "POST", "/api/v1/jobs/createTask", {"model": model, "input": given})
    assert answer["code"] == 422
    assert said in answer["msg"]


@pytest.mark.parametrize("key", ["", "Bearer real-key", "Key sandbox-x"])
async def test_every_call_wants_the_key(twins: Twins, key: str) -> None:
    for method, path in (
        ("POST", "/api/v1/jobs/createTask"),
        ("GET", "/api/v1/jobs/recordInfo?taskId=x"),
        ("GET", "/api/v1/chat/credit"),
        ("POST", "/api/v1/common/download-url"),
        ("POST", "/_host/upload/api/file-base64-upload"),
    ):
        body = {"model": TEXT, "input": KLING} if method == "POST" else None
        assert (await call(twins, method, path, body, Authorization=key))["code"] == 401


async def test_an_unknown_task_is_a_null_record(twins: Twins) -> None:
    answer = await look(twins, "nothing")
    assert answer == {"code": 422, "msg": "recordInfo is null", "data": None}


@pytest.mark.parametrize(
    ("fault", "code"),
    [("auth", 401), ("no_credit", 402), ("rate_limit", 429), ("server_error", 500), ("unavailable", 455)],
)
async def test_an_ordered_refusal_stands_in_the_body(twins: Twins, fault: str, code: int) -> None:
    await twins.control("faults", provider="kie", kind=fault)
    assert (await create(twins))["code"] == code
    assert (await create(twins))["code"] == 200


async def test_over_the_rate_a_task_is_refused_and_not_queued(twins: Twins) -> None:
    await twins.control("settings", provider="kie", per_minute=1)
    await bought(twins)
    assert (await create(twins))["code"] == 429
    assert len(await twins.bill()) == 1


async def test_a_failed_task_gives_its_credits_back(twins: Twins) -> None:
    before = (await call(twins, "GET", "/api/v1/chat/credit"))["data"]
    await twins.control("faults", provider="kie", kind="fail_after_accept")
    id_ = await bought(twins)
    assert (await call(twins, "GET", "/api/v1/chat/credit"))["data"] == before - 56
    twins.clock.pass_(1)
    view = await look(twins, id_)
    assert (view["state"], view["failCode"], view["creditsConsumed"]) == ("fail", "500", 0)
    assert (await call(twins, "GET", "/api/v1/chat/credit"))["data"] == before


async def test_without_credits_a_task_is_refused(twins: Twins) -> None:
    await twins.control("settings", provider="kie", price_factor=10_000)
    assert (await create(twins, duration="10", sound=True))["code"] == 402


async def test_a_dead_result_link_has_a_temporary_stand_in_for_20_minutes(twins: Twins) -> None:
    id_ = await bought(twins)
    twins.clock.pass_(1)
    (url,) = json.loads((await look(twins, id_))["resultJson"])["resultUrls"]
    twins.clock.pass_(twins.benches["kie"].link_seconds + 1)
    assert (await twins.http.get(url)).status_code == 403

    async def fresh(of: str) -> Any:
        return await call(twins, "POST", "/api/v1/common/download-url", {"url": of})

    link = (await fresh(url))["data"]
    assert (await twins.http.get(link)).status_code == 200
    assert (await twins.http.get(link[:-1])).status_code == 403
    twins.clock.pass_(20 * 60 + 1)
    assert (await twins.http.get(link)).status_code == 403
    assert (await fresh("https://elsewhere.example/v.mp4"))["code"] == 422


async def test_the_bill_holds_what_the_guide_says(twins: Twins) -> None:
    for duration, sound in (("5", False), ("5", True), ("10", False), ("10", True)):
        await bought(twins, duration=duration, sound=sound)
    assert [row["usd"] for row in await twins.bill()] == ["0.28", "0.55", "0.55", "1.1"]


async def test_no_result_before_the_end_and_none_for_a_strangers_id(twins: Twins) -> None:
    id_ = await bought(twins)
    for name in (id_, "nothing"):
        answer: httpx.Response = await twins.http.get(f"{twins.url}/kie/_cdn/{name}/output.mp4")
        assert answer.status_code == 404
