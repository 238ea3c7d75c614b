"""The Wan twin against DashScope's documentation and its own SDK."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import dashscope
import httpx
import pytest
from dashscope import VideoSynthesis
from dashscope.api_entities.http_request import close_shared_sync_session
from PIL import Image

from tests.api_providers.sandbox.conftest import Twins

KEY = {"Authorization": "Bearer sandbox-test"}
ASYNC = {"X-DashScope-Async": "enable"}
PATH = "/api/v1/services/aigc/video-generation/video-synthesis"
KF_PATH = "/api/v1/services/aigc/image2video/video-synthesis"
URL = "https://x.example/a"
Call = Callable[..., Any]


@pytest.fixture
def sdk(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls the official SDK, which blocks, in a thread."""
    monkeypatch.setattr(dashscope, "base_http_api_url", f"{twins.url}/wan/api/v1")

    async def call(function: Callable[..., Any], *args: Any, **fields: Any) -> Any:
        try:
            return await asyncio.to_thread(function, *args, api_key="sandbox-test", **fields)
        finally:
            close_shared_sync_session()

    return call


async def call(twins: Twins, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return await twins.http.request(method, f"{twins.url}/wan{path}", json=body, headers=KEY | headers)


async def submit(
    twins: Twins, model: str, inputs: Any, parameters: Any = None, path: str = PATH, **headers: str
) -> httpx.Response:
    body = {"model": model, "input": inputs, "parameters": parameters or {}}
    return await call(twins, "POST", path, body, **ASYNC, **headers)


async def accepted(twins: Twins, **parameters: Any) -> str:
    answer = await submit(twins, "wan2.7-t2v", {"prompt": "a red ball"}, parameters)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["output"]["task_id"])


async def look(twins: Twins, id_: str) -> dict[str, Any]:
    output: dict[str, Any] = (await call(twins, "GET", f"/api/v1/tasks/{id_}")).json()["output"]
    return output


async def test_the_sdk_makes_a_clip_from_text(twins: Twins, sdk: Call) -> None:
    made = await sdk(
        VideoSynthesis.async_call,
        model="wan2.7-t2v",
        prompt="sea",
        resolution="720P",
        ratio="9:16",
        duration=4,
    )
    assert (made.status_code, made.output.task_status) == (200, "PENDING"), made
    twins.clock.pass_(0.2)
    assert (await sdk(VideoSynthesis.fetch, made)).output.task_status == "RUNNING"
    twins.clock.pass_(1)
    done = await sdk(VideoSynthesis.wait, made)
    assert (done.output.task_status, done.usage["SR"], done.usage["duration"]) == ("SUCCEEDED", 720, 4)
    clip = (await twins.http.get(done.output.video_url)).content
    with av.open(io.BytesIO(clip), "r") as box:
        video = box.streams.video[0]
        assert video.width < video.height
        assert box.streams.audio, "2.7 always has sound"
    assert [row["usd"] for row in await twins.bill()] == ["0.4"]


async def test_the_sdk_makes_clips_from_local_pictures_in_both_protocols(
    twins: Twins, sdk: Call, tmp_path: Path
) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (640, 360), "teal").save(picture)
    local = f"file://{picture}"
    legacy = await sdk(
        VideoSynthesis.async_call,
        model="wan2.6-i2v",
        prompt="x",
        img_url=local,
        resolution="720P",
        duration=5,
    )
    media = [{"type": "first_frame", "url": local}, {"type": "last_frame", "url": local}]
    modern = await sdk(
        VideoSynthesis.async_call, model="wan2.7-i2v", prompt="x", media=media, resolution="720P", duration=2
    )
    frames = await sdk(
        VideoSynthesis.async_call,
        model="wan2.2-kf2v-flash",
        prompt="x",
        first_frame_url=local,
        last_frame_url=local,
        resolution="480P",
    )
    twins.clock.pass_(1)
    for made in (legacy, modern, frames):
        assert made.status_code == 200, made
        done = await sdk(VideoSynthesis.wait, made)
        assert done.output.task_status == "SUCCEEDED"
        assert (await twins.http.get(done.output.video_url)).status_code == 200
    calls = (await twins.http.get(f"{twins.url}/_sandbox/requests")).json()
    assert sum(row["path"] == "/wan/_upload" for row in calls) == 5
    assert not any(row["leaked_key"] for row in calls)


async def test_the_sdk_cancels_lists_and_reads_errors(twins: Twins, sdk: Call) -> None:
    await twins.control("settings", provider="wan", concurrency=1, render_seconds=10)
    first = await sdk(VideoSynthesis.async_call, model="wan2.7-t2v", prompt="x")
    second = await sdk(VideoSynthesis.async_call, model="wan2.7-t2v", prompt="y")
    twins.clock.pass_(5)
    refused = await sdk(VideoSynthesis.cancel, first)
    assert (refused.status_code, refused.code) == (400, "UnsupportedOperation")
    assert (await sdk(VideoSynthesis.cancel, second)).status_code == 200
    assert (await sdk(VideoSynthesis.fetch, second)).output.task_status == "CANCELED"
    official: Any = VideoSynthesis
    listed = await sdk(official.list, status="CANCELED")
    assert [row["task_id"] for row in listed.output["data"]] == [second.output.task_id]
    unknown = await sdk(VideoSynthesis.fetch, "00000000-0000-4000-8000-000000000000")
    assert unknown.output.task_status == "UNKNOWN"
    bad = await sdk(VideoSynthesis.async_call, model="wan2.7-t2v", prompt="x", duration=99)
    assert (bad.status_code, bad.code) == (400, "InvalidParameter")


async def test_a_submit_without_the_async_header_is_refused(twins: Twins) -> None:
    body = {"model": "wan2.7-t2v", "input": {"prompt": "x"}}
    answer = await call(twins, "POST", PATH, body)
    assert (answer.status_code, answer.json()["code"]) == (403, "AccessDenied")


@pytest.mark.parametrize(
    ("model", "inputs", "parameters", "usd"),
    [
        ("wan2.7-t2v", {"prompt": "x"}, {}, "0.75"),
        ("wan2.7-t2v", {"prompt": "x"}, {"resolution": "720P", "duration": 15}, "1.5"),
        ("wan2.7-i2v", {"media": [{"type": "first_clip", "url": URL}]}, {"duration": 10}, "1.5"),
        ("wan2.7-r2v", {"prompt": "x", "media": [{"type": "reference_video", "url": URL}] * 2}, {}, "1.5"),
        ("wan2.7-videoedit", {"prompt": "x", "media": [{"type": "video", "url": URL}]}, {}, "1.5"),
        ("wan3.0-video", {"prompt": "x"}, {"resolution": "480P", "ratio": "adaptive"}, "0.25"),
        ("wan3.0-video-prime", {"media": [{"type": "reference_video", "url": URL}]}, {}, "2.8"),
        ("wan2.6-i2v-flash", {"img_url": URL}, {"resolution": "720P", "audio": False}, "0.125"),
    ],
)
async def test_output_and_some_input_seconds_are_billed(
    twins: Twins, model: str, inputs: Any, parameters: Any, usd: str
) -> None:
    assert (await submit(twins, model, inputs, parameters)).status_code == 200
    assert [row["usd"] for row in await twins.bill()] == ["0"], "nothing before it is made"
    twins.clock.pass_(1)
    assert [row["usd"] for row in await twins.bill()] == [usd]


FRAME = {"type": "first_frame", "url": URL}


@pytest.mark.parametrize(
    ("model", "inputs", "parameters"),
    [
        ("wan2.7-t2v", {}, {}),
        ("wan2.7-t2v", {"prompt": "x"}, {"resolution": "480P"}),
        ("wan2.7-t2v", {"prompt": "x"}, {"resolution": "720p"}),
        ("wan2.7-t2v", {"prompt": "x"}, {"ratio": "21:9"}),
        ("wan2.7-t2v", {"prompt": "x"}, {"duration": "5"}),
        ("wan2.7-t2v", {"prompt": "x"}, {"seed": 2**31}),
        ("wan2.7-t2v", {"prompt": "x"}, {"prompt_extend": "no"}),
        ("wan2.6-t2v", {"prompt": "x"}, {"size": "1280x720"}),
        ("wan2.5-t2v-preview", {"prompt": "x"}, {"size": "1088*832", "duration": 6}),
        ("wan2.7-i2v", {"prompt": "x", "img_url": URL}, {}),
        ("wan2.7-i2v", {"prompt": "x"}, {}),
        ("wan2.7-i2v", {"media": [{"type": "last_frame", "url": URL}]}, {}),
        ("wan2.7-i2v", {"media": [FRAME, FRAME]}, {}),
        ("wan2.7-i2v", {"media": [FRAME, {"type": "first_clip", "url": URL}]}, {"duration": 10}),
        ("wan2.7-i2v", {"media": [{"type": "first_clip", "url": URL}]}, {"duration": 5}),
        ("wan2.7-i2v", {"media": [{"type": "reference_image", "url": URL}]}, {}),
        ("wan2.7-r2v", {"prompt": "x"}, {}),
        ("wan2.7-r2v", {"media": [{"type": "reference_image", "url": URL}] * 6}, {}),
        ("wan2.7-r2v", {"media": [{"type": "reference_video", "url": URL}]}, {"duration": 11}),
        ("wan2.7-videoedit", {"prompt": "x"}, {}),
        ("wan3.0-video", {"media": [FRAME, {"type": "reference_image", "url": URL}]}, {}),
        ("wan3.0-video", {"media": [{"type": "reference_video", "url": URL}]}, {"duration": 26}),
        ("wan2.6-i2v", {"prompt": "x"}, {}),
        ("wan2.6-i2v", {"img_url": "file:///etc/passwd"}, {}),
        ("wan2.6-i2v", {"img_url": "oss://dashscope-instant/no/such.png"}, {}),
        ("wan2.2-kf2v-flash", {"first_frame_url": URL, "last_frame_url": URL}, {}),
        ("wan2.1-i2v-turbo", {"img_url": URL, "template": "nothing"}, {}),
    ],
)
async def test_a_wrong_body_is_refused_at_once(
    twins: Twins, model: str, inputs: Any, parameters: Any
) -> None:
    answer = await submit(twins, model, inputs, parameters)
    assert answer.status_code == 400
    assert answer.json()["code"] in {"InvalidParameter", "InvalidURL"}
    assert answer.json()["request_id"]
    assert await twins.bill() == []


async def test_the_old_keys_that_the_sdk_always_sends_are_ignored(twins: Twins) -> None:
    inputs = {"prompt": "x", "extend_prompt": True, "function": "video-synthesis", "media": [FRAME]}
    assert (await submit(twins, "wan2.7-i2v", inputs)).status_code == 200


async def test_key_frame_models_live_on_their_own_path(twins: Twins) -> None:
    both = {"first_frame_url": URL, "last_frame_url": URL}
    assert (await submit(twins, "wan2.2-kf2v-flash", both, path=KF_PATH)).status_code == 200
    assert (await submit(twins, "wan2.7-t2v", {"prompt": "x"}, path=KF_PATH)).status_code == 400


async def test_an_unknown_model_is_not_found(twins: Twins) -> None:
    answer = await submit(twins, "wan9-t2v", {"prompt": "x"})
    assert (answer.status_code, answer.json()["code"]) == (404, "ModelNotFound")


async def upload(twins: Twins, content: bytes, **changes: str) -> tuple[httpx.Response, str]:
    query = "/api/v1/uploads?action=getPolicy&model=wan2.6-i2v"
    data = (await call(twins, "GET", query)).json()["data"]
    key = f"{data['upload_dir']}/a.png"
    fields = {
        "OSSAccessKeyId": data["oss_access_key_id"],
        "Signature": data["signature"],
        "policy": data["policy"],
        "key": key,
        "x-oss-object-acl": data["x_oss_object_acl"],
        "x-oss-forbid-overwrite": data["x_oss_forbid_overwrite"],
        "success_action_status": "200",
    }
    answer = await twins.http.post(
        data["upload_host"], data=fields | changes, files={"file": ("a.png", content)}
    )
    return answer, key


async def test_an_upload_is_bound_to_its_model_and_needs_the_resolve_header(twins: Twins) -> None:
    out = io.BytesIO()
    Image.new("RGB", (64, 36)).save(out, "PNG")
    answer, key = await upload(twins, out.getvalue())
    assert answer.status_code == 200
    resolve = {"X-DashScope-OssResourceResolve": "enable"}
    inputs = {"img_url": f"oss://{key}"}
    assert (await submit(twins, "wan2.6-i2v", inputs)).json()["code"] == "InvalidURL"
    assert (await submit(twins, "wan2.5-i2v-preview", inputs, **resolve)).status_code == 400
    assert (await submit(twins, "wan2.6-i2v", inputs, **resolve)).status_code == 200


@pytest.mark.parametrize(
    "changes", [{"Signature": "x"}, {"key": "elsewhere/a.png"}, {"x-oss-object-acl": "public-read"}]
)
async def test_an_upload_with_a_wrong_field_is_refused(twins: Twins, changes: dict[str, str]) -> None:
    assert (await upload(twins, b"x", **changes))[0].status_code == 403


async def test_after_a_day_the_task_and_its_link_are_gone(twins: Twins) -> None:
    id_ = await accepted(twins)
    twins.clock.pass_(1)
    url = (await look(twins, id_))["video_url"]
    assert (await twins.http.get(url.partition("?")[0])).status_code == 403
    assert (await twins.http.get(url)).status_code == 200
    twins.clock.pass_(86_400)
    assert (await look(twins, id_))["task_status"] == "UNKNOWN"
    assert (await twins.http.get(url)).status_code == 403


async def test_a_failure_comes_inside_200_and_is_free(twins: Twins) -> None:
    codes = []
    for fault in ("fail_after_accept", "moderation"):
        await twins.control("faults", provider="wan", kind=fault)
        id_ = await accepted(twins)
        twins.clock.pass_(1)
        view = await look(twins, id_)
        assert view["task_status"] == "FAILED"
        codes.append(view["code"])
    assert codes == ["InternalError.Algo", "DataInspectionFailed"]
    assert [row["usd"] for row in await twins.bill()] == ["0", "0"]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("auth", 401, "InvalidApiKey"),
        ("no_credit", 400, "Arrearage"),
        ("rate_limit", 429, "Throttling.RateQuota"),
        ("server_error", 500, "InternalError"),
        ("unavailable", 503, "ServiceUnavailable"),
    ],
)
async def test_a_refusal_has_its_code(twins: Twins, fault: str, status: int, code: str) -> None:
    await twins.control("faults", provider="wan", kind=fault)
    answer = await submit(twins, "wan2.7-t2v", {"prompt": "x"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_key_is_wanted_on_every_call(twins: Twins) -> None:
    for method, path in (
        ("POST", PATH),
        ("GET", "/api/v1/tasks"),
        ("GET", "/api/v1/tasks/1"),
        ("POST", "/api/v1/tasks/1/cancel"),
        ("GET", "/api/v1/uploads?action=getPolicy&model=x"),
    ):
        answer = await call(twins, method, path, Authorization="Bearer real")
        assert (answer.status_code, answer.json()["code"]) == (401, "InvalidApiKey")
