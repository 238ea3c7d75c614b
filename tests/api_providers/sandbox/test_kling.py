"""The Kling twin: keys and tokens, what it refuses, how a task goes, what it deducts. Kling has no SDK of its own."""

import base64
import hashlib
import hmac
import io
import json
import time
import wave
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from tests.api_providers.sandbox.conftest import Twins

KEY = "sandbox-test"
TEXT = "/v1/videos/text2video"
IMAGE = "/v1/videos/image2video"


async def call(twins: Twins, method: str, path: str, body: Any = None, *, token: str = KEY) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return await twins.http.request(method, f"{twins.url}/kling{path}", json=body, headers=headers)


async def made(twins: Twins, path: str = TEXT, **body: Any) -> str:
    answer = await call(twins, "POST", path, body or {"prompt": "a red ball", "model_name": "kling-v2-6"})
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    return str(data.get("task_id") or data["id"])


async def look(twins: Twins, path: str) -> Any:
    answer = await call(twins, "GET", path)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def usd(twins: Twins) -> list[str]:
    return [row["usd"] for row in await twins.bill()]


def signed(secret: str = KEY, **changes: Any) -> str:
    """A token made by hand, of the documented claims unless changed."""
    now = int(time.time())
    claims = {"iss": KEY, "exp": now + 1800, "nbf": now - 5} | changes
    parts = [{"alg": "HS256", "typ": "JWT"}, {k: v for k, v in claims.items() if v is not None}]
    text = ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts)
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def picture(width: int = 640, height: int = 360, kind: str = "PNG") -> str:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, kind)
    return base64.b64encode(out.getvalue()).decode()


def speech(seconds: float = 3) -> str:
    out = io.BytesIO()
    with wave.open(out, "wb") as played:
        played.setnchannels(1)
        played.setsampwidth(2)
        played.setframerate(8000)
        played.writeframes(bytes(int(seconds * 8000) * 2))
    return base64.b64encode(out.getvalue()).decode()


# -- keys


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [
        ("", 401, 1001),
        ("api-key-kling-1", 401, 1002),
        ("sandbox-anything", 200, 0),
        ("a.b.c", 401, 1002),
    ],
)
async def test_a_plain_key_begins_with_sandbox(twins: Twins, token: str, status: int, code: int) -> None:
    answer = await call(twins, "GET", TEXT, token=token)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


# Claims are written as seconds from now: made when the test runs, so that each worker collects the same names.
@pytest.mark.parametrize(
    ("secret", "others", "times", "code"),
    [
        (KEY, {}, {}, 0),
        ("another", {}, {}, 1002),
        ("real", {"iss": "real"}, {}, 1002),
        (KEY, {"iat": 1}, {}, 1002),
        (KEY, {"exp": "4000000000"}, {}, 1002),
        (KEY, {"nbf": None}, {}, 1002),
        (KEY, {}, {"nbf": 600}, 1003),
        (KEY, {}, {"exp": -1}, 1004),
    ],
)
async def test_a_token_is_checked_as_documented(
    twins: Twins, secret: str, others: dict[str, Any], times: dict[str, int], code: int
) -> None:
    moments = {name: int(time.time()) + seconds for name, seconds in times.items()}
    answer = await call(twins, "GET", TEXT, token=signed(secret, **others, **moments))
    assert (answer.status_code, answer.json()["code"]) == (401 if code else 200, code)


async def test_the_new_api_takes_no_token(twins: Twins) -> None:
    body = {"prompt": "a red ball"}
    assert (await call(twins, "POST", "/text-to-video/kling-2.6", body)).json()["code"] == 0
    for method, path in (("POST", "/text-to-video/kling-2.6"), ("GET", "/tasks?task_ids=1")):
        answer = await call(twins, method, path, body, token=signed())
        assert (answer.status_code, answer.json()["code"]) == (401, 1002)


# -- a task in the older API


async def test_a_task_goes_its_way_with_the_fields_that_strict_clients_want(twins: Twins) -> None:
    body = {"model_name": "kling-v2-6", "prompt": "sea", "mode": "pro", "sound": "on", "aspect_ratio": "9:16"}
    created = (await call(twins, "POST", TEXT, body | {"external_task_id": "job-7"})).json()
    assert (created["code"], created["message"], type(created["request_id"])) == (0, "SUCCEED", str)
    id_ = created["data"]["task_id"]
    assert created["data"]["task_status"] == "submitted"
    assert created["data"]["task_info"] == {"external_task_id": "job-7"}
    seen = [await look(twins, f"{TEXT}/{id_}")]
    for step in (0.2, 0.3):
        twins.clock.pass_(step)
        seen.append(await look(twins, f"{TEXT}/job-7"))
    assert [view["task_status"] for view in seen] == ["submitted", "processing", "succeed"]
    assert all("final_unit_deduction" not in view for view in seen[:2])
    done = seen[-1]
    assert done["final_unit_deduction"] == "5"
    (video,) = done["task_result"]["videos"]
    assert {type(video[name]) for name in ("id", "url", "watermark_url", "duration")} == {str}
    with av.open(io.BytesIO((await twins.http.get(video["url"])).content)) as clip:
        shape = clip.streams.video[0]
        assert shape.width / shape.height == pytest.approx(9 / 16, abs=0.02)
        assert clip.streams.audio
    (row,) = await twins.bill()
    assert (row["client_ref"], row["usd"], row["task"]) == ("job-7", "0.7", id_)


async def test_an_unknown_task_is_a_bad_parameter_and_one_kind_does_not_know_the_other(twins: Twins) -> None:
    id_ = await made(twins)
    for path in (f"{TEXT}/870001", f"{IMAGE}/{id_}"):
        answer = await call(twins, "GET", path)
        assert (answer.status_code, answer.json()["code"]) == (400, 1201)
        assert "data" not in answer.json()


async def test_an_external_id_is_used_once(twins: Twins) -> None:
    await made(twins, prompt="a", external_task_id="job-7")
    again = await call(twins, "POST", TEXT, {"prompt": "a", "external_task_id": "job-7"})
    assert (again.status_code, again.json()["code"]) == (400, 1201)
    other = {"prompt": "a", "options": {"external_task_id": "job-7"}}
    assert (await call(twins, "POST", "/text-to-video/kling-2.6", other)).json()["code"] == 1201
    assert len(await twins.bill()) == 1


async def test_lists_are_paged_the_newest_first(twins: Twins) -> None:
    ids = [await made(twins) for _ in range(3)]
    rows = await look(twins, f"{TEXT}?pageNum=1&pageSize=2")
    assert [row["task_id"] for row in rows] == ids[:0:-1]
    assert [row["task_id"] for row in await look(twins, f"{TEXT}?pageNum=2&pageSize=2")] == ids[:1]
    assert (await call(twins, "GET", f"{TEXT}?pageSize=501")).json()["code"] == 1201


async def test_over_the_concurrency_of_a_model_version_it_refuses(twins: Twins) -> None:
    await twins.control("settings", provider="kling", concurrency=1, render_seconds=10)
    await made(twins, prompt="a", model_name="kling-v2-6", mode="std")
    full = await call(twins, "POST", TEXT, {"prompt": "a", "model_name": "kling-v2-6", "mode": "pro"})
    assert (full.status_code, full.json()["code"]) == (429, 1303)
    assert "data" not in full.json()
    await made(twins, prompt="a", model_name="kling-v3")
    twins.clock.pass_(11)
    await made(twins, prompt="a", model_name="kling-v2-6")


async def test_429_is_many_things(twins: Twins) -> None:
    for kind, code, pause in (("rate_limit", 1302, "3"), ("no_credit", 1102, None)):
        await twins.control("faults", provider="kling", kind=kind, seconds=3)
        answer = await call(twins, "POST", TEXT, {"prompt": "a"})
        assert (answer.status_code, answer.json()["code"]) == (429, code)
        assert answer.headers.get("retry-after") == pause
    await twins.control("settings", provider="kling", per_minute=0)
    assert (await call(twins, "POST", TEXT, {"prompt": "a"})).json()["code"] == 1302


@pytest.mark.parametrize(
    ("fault", "message"), [("moderation", "risk control"), ("fail_after_accept", "Internal error")]
)
async def test_a_failed_task_says_why_and_what_was_deducted(twins: Twins, fault: str, message: str) -> None:
    await twins.control("faults", provider="kling", kind=fault, times=2)
    old, new = await made(twins), await made(twins, "/text-to-video/kling-2.6", prompt="a")
    twins.clock.pass_(1)
    view = await look(twins, f"{TEXT}/{old}")
    assert (view["task_status"], view["final_unit_deduction"]) == ("failed", "1.5")
    assert message in view["task_status_msg"]
    assert "task_result" not in view
    (row,) = await look(twins, f"/tasks?task_ids={new}")
    assert (row["status"], row["outputs"], row["billing"][0]["amount"]) == ("failed", [], "1.5")
    assert message in row["message"]
    assert await usd(twins) == ["0.21", "0.21"]


async def test_links_are_signed_and_die_after_thirty_days_and_a_look_renews_them(twins: Twins) -> None:
    id_ = await made(twins)
    twins.clock.pass_(1)

    async def link() -> str:
        return str((await look(twins, f"{TEXT}/{id_}"))["task_result"]["videos"][0]["url"])

    url = await link()
    assert (await twins.http.get(url.partition("?")[0])).status_code == 403
    twins.clock.pass_(30 * 86_400 - 1)
    assert (await twins.http.get(url)).status_code == 200
    twins.clock.pass_(2)
    assert (await twins.http.get(url)).status_code == 403
    assert (await twins.http.get(await link())).status_code == 200


# -- what it refuses


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": "x" * 2501},
        {"prompt": "a", "negative_prompt": "x" * 2501},
        {"prompt": "a", "duration": 5},
        {"prompt": "a", "duration": "7"},
        {"prompt": "a", "aspect_ratio": "4:3"},
        {"prompt": "a", "mode": "4k"},
        {"prompt": "a", "seed": 1},
        {"prompt": "a", "image": "https://x/a.png"},
        {"prompt": "a", "model_name": "kling-v2-1"},
        {"prompt": "a", "model_name": "kling-v2-master", "mode": "std"},
        {"prompt": "a", "model_name": "kling-v2-6", "sound": "on"},
        {"prompt": "a", "model_name": "kling-v2-6", "mode": "pro", "sound": True},
        {"prompt": "a", "model_name": "kling-v2-6", "cfg_scale": 0.5},
        {"prompt": "a", "model_name": "kling-v1-6", "cfg_scale": 1.5},
        {"prompt": "a", "model_name": "kling-v3", "duration": "16"},
        {"prompt": "a", "model_name": "kling-v1-6", "camera_control": {"type": "down_back"}},
        {"prompt": "a", "mode": "pro", "camera_control": {"type": "down_back"}},
        {"prompt": "a", "duration": "10", "camera_control": {"type": "down_back"}},
        {"prompt": "a", "camera_control": {"type": "simple"}},
        {"prompt": "a", "camera_control": {"type": "simple", "config": {"zoom": 0}}},
        {"prompt": "a", "camera_control": {"type": "simple", "config": {"pan": 5, "zoom": 3}}},
        {"prompt": "a", "camera_control": {"type": "simple", "config": {"zoom": 11}}},
        {"prompt": "a", "camera_control": {"type": "forward_up", "config": {"zoom": 1}}},
    ],
)
async def test_a_wrong_text_body_is_refused(twins: Twins, body: dict[str, Any]) -> None:
    answer = await call(twins, "POST", TEXT, body)
    assert (answer.status_code, answer.json()["code"]) == (400, 1201), body
    assert await twins.bill() == []


async def test_an_unknown_model_and_method_are_404(twins: Twins) -> None:
    for path, code in ((TEXT, 1203), ("/text-to-video/kling-9", 1203), ("/v1/videos/nothing", 1202)):
        answer = await call(twins, "POST", path, {"prompt": "a", "model_name": "kling-v9"})
        assert (answer.status_code, answer.json()["code"]) == (404, code)


V16 = {"model_name": "kling-v1-6", "prompt": "a"}
V15 = {"model_name": "kling-v1-5", "mode": "pro", "prompt": "a"}
PATH = [{"x": 1, "y": 2}, {"x": 3, "y": 4}]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (V16, 1201),
        (V16 | {"image": picture()}, 0),
        (V16 | {"image": picture(), "aspect_ratio": "9:16"}, 0),
        (V16 | {"image": "https://example.com/a.png"}, 0),
        (V16 | {"image": picture(kind="JPEG")}, 0),
        (V16 | {"image": f"data:image/png;base64,{picture()}"}, 1201),
        (V16 | {"image": picture(kind="GIF")}, 1201),
        (V16 | {"image": picture(640, 299)}, 1201),
        (V16 | {"image": picture(1000, 300)}, 1201),
        (V16 | {"image": "!!!"}, 1201),
        (V16 | {"image": base64.b64encode(b"text").decode()}, 1201),
        (V16 | {"image_tail": picture()}, 1201),
        (V16 | {"image_tail": picture(), "mode": "pro"}, 0),
        ({"model_name": "kling-v2-6", "mode": "pro", "image": picture(), "image_tail": picture()}, 0),
        (
            {
                "model_name": "kling-v2-6",
                "mode": "pro",
                "image": picture(),
                "image_tail": picture(),
                "sound": "on",
            },
            1201,
        ),
        ({"model_name": "kling-v3", "mode": "4k", "image": picture(), "image_tail": picture()}, 1201),
        (V15 | {"image": picture(), "camera_control": {"type": "simple", "config": {"zoom": 2.5}}}, 0),
        (V15 | {"image": picture(), "camera_control": {"type": "down_back"}}, 1201),
        (V15 | {"image": picture(), "static_mask": picture(), "image_tail": picture()}, 1201),
        (V15 | {"image": picture(), "dynamic_masks": [{"mask": picture(), "trajectories": PATH}]}, 0),
        (V15 | {"image": picture(), "dynamic_masks": [{"mask": picture(), "trajectories": PATH[:1]}]}, 1201),
        (V15 | {"image": picture(), "static_mask": picture(), "duration": "10"}, 1201),
        (V16 | {"image": picture(), "static_mask": picture()}, 1201),
    ],
)
async def test_frames_camera_and_brush(twins: Twins, body: dict[str, Any], code: int) -> None:
    assert (await call(twins, "POST", IMAGE, body)).json()["code"] == code


OMNI = {"model_name": "kling-video-o1", "prompt": "a", "mode": "std"}
REF = {"image_url": picture()}
EDIT = {"video_url": "https://example.com/v.mp4"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (OMNI, 1201),
        (OMNI | {"aspect_ratio": "1:1"}, 0),
        (OMNI | {"aspect_ratio": "1:1", "duration": "7"}, 1201),
        (OMNI | {"aspect_ratio": "1:1", "duration": "7", "image_list": [REF]}, 0),
        (OMNI | {"aspect_ratio": "1:1", "image_list": [REF] * 8}, 1201),
        (OMNI | {"image_list": [REF | {"type": "first_frame"}]}, 0),
        (OMNI | {"image_list": [REF | {"type": "end_frame"}]}, 1201),
        (OMNI | {"image_list": [REF | {"type": "first_frame"}, REF | {"type": "end_frame"}]}, 0),
        (OMNI | {"image_list": [REF | {"type": "first_frame"}, REF | {"type": "end_frame"}, REF]}, 1201),
        (OMNI | {"aspect_ratio": "1:1", "sound": "off"}, 1201),
        (OMNI | {"aspect_ratio": "1:1", "mode": "4k"}, 1201),
        (OMNI | {"model_name": "kling-v3-omni", "aspect_ratio": "1:1", "mode": "4k", "sound": "on"}, 0),
        (OMNI | {"video_list": [EDIT]}, 0),
        (OMNI | {"video_list": [EDIT], "image_list": [REF] * 5}, 1201),
        (OMNI | {"video_list": [EDIT], "image_list": [REF | {"type": "first_frame"}]}, 1201),
        (OMNI | {"video_list": [{"video_url": picture()}]}, 1201),
        (OMNI | {"model_name": "kling-v3-omni", "video_list": [EDIT], "sound": "on"}, 1201),
    ],
)
async def test_omni_bodies(twins: Twins, body: dict[str, Any], code: int) -> None:
    answer = (await call(twins, "POST", "/v1/videos/omni-video", body)).json()
    assert answer["code"] == code, answer


SIX: dict[str, Any] = {"model_name": "kling-v1-6", "prompt": "a", "image_list": [{"image": picture()}]}
MOTION = {"model_name": "kling-v3", "image_url": picture(), "video_url": "https://x/v.mp4", "mode": "std"}


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("multi-image2video", SIX | {"cfg_scale": 0.5, "watermark_info": {"enabled": False}}, 0),
        ("multi-image2video", SIX | {"image_list": []}, 1201),
        ("multi-image2video", SIX | {"image_list": SIX["image_list"] * 5}, 1201),
        ("motion-control", MOTION, 1201),
        ("motion-control", MOTION | {"character_orientation": "image"}, 0),
        ("motion-control", MOTION | {"character_orientation": "image", "video_url": picture()}, 1201),
        ("effects", {"effect_scene": "bullet_time_360", "input": {"image": picture()}}, 0),
        ("effects", {"effect_scene": "bullet_time_360", "input": {"images": [picture()] * 2}}, 1201),
        ("effects", {"effect_scene": "hug_pro", "input": {"images": [picture()] * 2}}, 0),
        ("effects", {"effect_scene": "hug_pro", "input": {"images": [picture()]}}, 1201),
        ("effects", {"effect_scene": "hug", "input": {"image": picture()}}, 1201),
        ("avatar/image2video", {"image": picture(), "sound_file": speech()}, 0),
        ("avatar/image2video", {"image": picture()}, 1201),
        ("avatar/image2video", {"image": picture(), "sound_file": speech(1.9)}, 1201),
        ("video-extend", {"video_id": "nothing"}, 1201),
        ("advanced-lip-sync", {"session_id": "nothing", "face_choose": []}, 1201),
    ],
)
async def test_the_other_bodies(twins: Twins, path: str, body: dict[str, Any], code: int) -> None:
    answer = (await call(twins, "POST", f"/v1/videos/{path}", body)).json()
    assert answer["code"] == code, answer


# -- the newer API


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("text-to-video/kling-3.0", {"prompt": "a", "settings": {"duration": 15, "multi_shot": False}}, 0),
        ("text-to-video/kling-3.0", {"prompt": "a", "settings": {"duration": "5"}}, 1201),
        ("text-to-video/kling-3.0", {"prompt": "a", "settings": {"multi_shot": "no"}}, 1201),
        ("text-to-video/kling-3.0", {"prompt": "a", "settings": {"resolution": "4k"}}, 0),
        ("text-to-video/kling-3.0", {"prompt": "a", "negative_prompt": "b"}, 1201),
        ("text-to-video/kling-3.0-turbo", {"prompt": "a", "settings": {"audio": "native"}}, 1201),
        ("text-to-video/kling-3.0-turbo", {"prompt": "a" * 3072}, 0),
        ("text-to-video/kling-2.6", {"prompt": "a", "settings": {"audio": "native"}}, 1201),
        (
            "text-to-video/kling-2.6",
            {"prompt": "a", "settings": {"audio": "native", "resolution": "1080p"}},
            0,
        ),
        ("text-to-video/kling-2.6", {"prompt": "a", "settings": {"multi_shot": False}}, 1201),
        ("text-to-video/kling-2.5-turbo", {"prompt": "a", "settings": {"duration": 7}}, 1201),
        ("text-to-video/kling-3.0-omni", {"prompt": "a"}, 1203),
    ],
)
async def test_new_text_bodies(twins: Twins, path: str, body: dict[str, Any], code: int) -> None:
    answer = (await call(twins, "POST", f"/{path}", body)).json()
    assert answer["code"] == code, answer


P = {"type": "prompt", "text": "a"}
FIRST = {"type": "first_frame", "url": picture()}
LAST = {"type": "last_frame", "url": picture()}
REFER = {"type": "refer_image", "url": picture(), "id": "image_1"}
BASE = {"type": "base_video", "url": "https://x/v.mp4", "id": "video_1"}


@pytest.mark.parametrize(
    ("path", "contents", "settings", "code"),
    [
        ("image-to-video/kling-3.0-turbo", [P, FIRST], {}, 0),
        ("image-to-video/kling-3.0-turbo", [P, FIRST, LAST], {}, 1201),
        ("image-to-video/kling-3.0", [P, LAST], {}, 1201),
        ("image-to-video/kling-3.0", [P, FIRST, LAST], {"resolution": "4k"}, 0),
        ("image-to-video/kling-3.0", [P, FIRST], {"aspect_ratio": "1:1"}, 1201),
        ("image-to-video/kling-2.6", [P, FIRST, LAST], {}, 1201),
        ("image-to-video/kling-2.6", [P, FIRST, LAST], {"resolution": "1080p"}, 0),
        ("image-to-video/kling-2.6", [P, FIRST, LAST], {"resolution": "1080p", "audio": "native"}, 1201),
        ("image-to-video/kling-2.5-turbo", [P, FIRST | {"url": "data:image/png;base64,AA"}], {}, 1201),
        ("omni-video/kling-o1", [P], {}, 1201),
        ("omni-video/kling-o1", [P], {"aspect_ratio": "1:1", "duration": 7}, 0),
        ("omni-video/kling-o1", [P, FIRST], {"duration": 7}, 1201),
        ("omni-video/kling-o1", [P, FIRST, REFER], {"duration": 7}, 0),
        ("omni-video/kling-o1", [P, FIRST, LAST, REFER], {}, 1201),
        ("omni-video/kling-o1", [P], {"aspect_ratio": "1:1", "audio": "native"}, 1201),
        ("omni-video/kling-3.0-omni", [P, BASE], {"multi_shot": False, "audio": "original"}, 0),
        ("omni-video/kling-3.0-omni", [P, BASE], {}, 1201),
        ("omni-video/kling-3.0-omni", [P, BASE, FIRST], {"multi_shot": False}, 1201),
        ("motion-control/kling-3.0", [P], {"character_orientation": "video"}, 1201),
    ],
)
async def test_new_contents(
    twins: Twins, path: str, contents: list[Any], settings: dict[str, Any], code: int
) -> None:
    answer = (await call(twins, "POST", f"/{path}", {"contents": contents, "settings": settings})).json()
    assert answer["code"] == code, answer


async def test_new_tasks_are_asked_for_by_one_kind_of_id(twins: Twins) -> None:
    ids = [
        await made(twins, "/text-to-video/kling-2.6", prompt="a", options={"external_task_id": f"job-{n}"})
        for n in range(2)
    ]
    rows = await look(twins, f"/tasks?task_ids={','.join(ids)},1")
    assert [row["id"] for row in rows] == ids
    (row,) = await look(twins, "/tasks?external_task_ids=job-1")
    assert (row["id"], row["external_id"], row["status"]) == (ids[1], "job-1", "submitted")
    assert await look(twins, "/tasks?task_ids=870001") == []
    for query in ("", "?task_ids=1&external_task_ids=2"):
        assert (await call(twins, "GET", f"/tasks{query}")).json()["code"] == 1201
    twins.clock.pass_(1)
    (row,) = await look(twins, f"/tasks?task_ids={ids[0]}")
    assert row["status"] == "succeeded"
    assert row["billing"] == [{"charge_type": "unit", "package_type": "video", "amount": "1.5"}]
    assert (row["outputs"][0]["type"], row["outputs"][0]["duration"]) == ("video", "5.0")


async def test_new_tasks_are_listed_by_status(twins: Twins) -> None:
    for _ in range(2):
        await made(twins, "/text-to-video/kling-2.6", prompt="a")
    twins.clock.pass_(1)
    late = await made(twins, "/text-to-video/kling-2.6", prompt="a")
    order = {"limit": 1, "filters": [{"key": "status", "values": ["succeeded"]}]}
    listed = (await call(twins, "POST", "/tasks", order)).json()["data"]
    assert (listed["count"], listed["has_more"]) == (1, True)
    assert listed["result"][0]["id"] != late
    assert (await call(twins, "POST", "/tasks", {"limit": 501})).json()["code"] == 1201


# -- money


@pytest.mark.parametrize(
    ("path", "body", "price"),
    [
        (TEXT, {"model_name": "kling-v2-5-turbo", "duration": "10"}, "0.42"),
        (TEXT, {"model_name": "kling-v2-6", "mode": "pro"}, "0.35"),
        (TEXT, {"model_name": "kling-v2-6", "mode": "pro", "sound": "on", "duration": "10"}, "1.4"),
        (TEXT, {"model_name": "kling-v3", "duration": "3"}, "0.252"),
        (TEXT, {"model_name": "kling-v3", "mode": "pro", "sound": "on"}, "0.84"),
        (TEXT, {"model_name": "kling-v3", "mode": "4k", "duration": "15"}, "6.3"),
        ("/text-to-video/kling-3.0-turbo", {"settings": {"resolution": "1080p", "duration": 4}}, "0.56"),
        ("/v1/videos/omni-video", {"aspect_ratio": "1:1"}, "0.56"),
        (
            "/v1/videos/omni-video",
            {"model_name": "kling-v3-omni", "mode": "std", "video_list": [EDIT]},
            "0.63",
        ),
    ],
)
async def test_the_published_prices(twins: Twins, path: str, body: dict[str, Any], price: str) -> None:
    await made(twins, path, prompt="a", **body)
    assert await usd(twins) == [price]


async def test_a_lip_sync_needs_a_search_for_the_face_which_starts_no_task(twins: Twins) -> None:
    id_ = await made(twins)
    twins.clock.pass_(1)
    video = (await look(twins, f"{TEXT}/{id_}"))["task_result"]["videos"][0]["id"]
    for wrong in ({}, {"video_id": id_}, {"video_id": video, "video_url": "https://x/v.mp4"}):
        assert (await call(twins, "POST", "/v1/videos/identify-face", wrong)).json()["code"] == 1201
    found = (await call(twins, "POST", "/v1/videos/identify-face", {"video_id": video})).json()["data"]
    assert found["final_unit_deduction"] == "0.05"
    assert (found["face_data"][0]["start_time"], found["face_data"][0]["end_time"]) == (0, 5000)
    assert len(await twins.bill()) == 1
    times = {"sound_start_time": 0, "sound_end_time": 3000, "sound_insert_time": 1000}
    face = {"face_id": "0", "sound_file": speech(3), **times}
    for wrong in (
        face | {"sound_end_time": 1999},
        face | {"sound_end_time": 3001},
        face | {"sound_insert_time": 2001},
        face | {"sound_volume": 2.1},
        face | {"face_id": "1"},
        face | {"audio_id": "1"},
    ):
        body = {"session_id": found["session_id"], "face_choose": [wrong]}
        assert (await call(twins, "POST", "/v1/videos/advanced-lip-sync", body)).json()["code"] == 1201, wrong
    synced = await made(
        twins, "/v1/videos/advanced-lip-sync", session_id=found["session_id"], face_choose=[face]
    )
    twins.clock.pass_(1)
    view = await look(twins, f"/v1/videos/advanced-lip-sync/{synced}")
    assert view["final_unit_deduction"] == "0.5"
    assert (await usd(twins))[-1] == "0.077"


async def test_only_the_oldest_models_can_be_extended(twins: Twins) -> None:
    results = {}
    for model in ("kling-v1", "kling-v2-6"):
        id_ = await made(twins, prompt="a", model_name=model)
        twins.clock.pass_(1)
        video = (await look(twins, f"{TEXT}/{id_}"))["task_result"]["videos"][0]["id"]
        answer = await call(twins, "POST", "/v1/videos/video-extend", {"video_id": video})
        results[model] = answer.json()["code"]
    assert results == {"kling-v1": 0, "kling-v2-6": 1201}


async def test_the_account_tells_its_packs(twins: Twins) -> None:
    await made(twins)
    costs = await look(twins, "/account/costs?start_time=1&end_time=2")
    online, expired = costs["resource_pack_subscribe_infos"]
    assert (online["remaining_quantity"], online["status"]) == (99_998.5, "online")
    assert expired["status"] == "expired"
    assert (await call(twins, "GET", "/account/costs")).json()["code"] == 1201


async def test_an_empty_account_makes_nothing(twins: Twins) -> None:
    await twins.control("settings", provider="kling", price_factor=10_000)
    for expected in (0, 0, 0, 0, 0, 0, 1102):
        answer = await call(twins, "POST", TEXT, {"prompt": "a", "model_name": "kling-v2-6"})
        assert answer.json()["code"] == expected
