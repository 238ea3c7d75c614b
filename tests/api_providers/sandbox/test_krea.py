"""The Krea twin against the provider sheet; Krea's SDK could not be had, so a bare HTTP client speaks to it."""

import base64
import io
from typing import Any

import av
import httpx
import pytest

from tests.api_providers.sandbox.conftest import Twins

KEY = {"Authorization": "Bearer sandbox-test"}
KLING = {"prompt": "a red kite over a salt flat", "duration": 5, "aspect_ratio": "16:9"}


async def call(twins: Twins, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return await twins.http.request(method, f"{twins.url}/krea{path}", json=body, headers=KEY | headers)


async def create(twins: Twins, path: str = "kling/kling-2.5", **changes: Any) -> httpx.Response:
    return await call(twins, "POST", f"/generate/video/{path}", KLING | changes)


async def bought(twins: Twins, path: str = "kling/kling-2.5", **changes: Any) -> str:
    answer = await create(twins, path, **changes)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["job_id"])


async def look(twins: Twins, id_: str) -> dict[str, Any]:
    view: dict[str, Any] = (await call(twins, "GET", f"/jobs/{id_}")).json()
    return view


async def test_a_clip_from_text_goes_through_the_documented_statuses(twins: Twins) -> None:
    await twins.control("settings", provider="krea", concurrency=1, render_seconds=10)
    fresh = (await create(twins, "kling/kling-2.6", generate_audio=True)).json()
    assert set(fresh) == {"job_id", "status", "created_at", "completed_at", "result"}
    assert (fresh["status"], fresh["completed_at"], fresh["result"]) == ("queued", None, None)
    second = await bought(twins)
    assert (await look(twins, second))["status"] == "backlogged"
    seen = []
    for step in (0.0, 2.0, 4.0, 5.0):
        twins.clock.pass_(step)
        view = await look(twins, fresh["job_id"])
        seen.append(view["status"])
        assert ("result" in view) is (view["status"] == "completed")
    assert seen == ["queued", "processing", "sampling", "completed"]
    (url,) = view["result"]["urls"]
    with av.open(io.BytesIO((await twins.http.get(url)).content), "r") as clip:
        assert clip.streams.video and clip.streams.audio


async def test_a_clip_from_an_uploaded_asset(twins: Twins, png: str) -> None:
    part = {"file": ("a.png", base64.b64decode(png.partition(",")[2]), "image/png")}
    answer = await twins.http.post(
        f"{twins.url}/krea/assets", files=part, data={"description": "a"}, headers=KEY
    )
    asset = answer.json()
    assert (answer.status_code, asset["mime_type"], asset["description"]) == (200, "image/png", "a")
    id_ = await bought(twins, start_image=asset["image_url"], end_image=asset["image_url"])
    twins.clock.pass_(1)
    assert (await look(twins, id_))["status"] == "completed"
    text = {"file": ("a.txt", b"text", "text/plain")}
    assert (await twins.http.post(f"{twins.url}/krea/assets", files=text, headers=KEY)).status_code == 400


@pytest.mark.parametrize(
    ("path", "changes", "said"),
    [
        ("kling/kling-2.5", {"model": "x"}, "model"),
        ("kling/kling-2.5", {"aspectRatio": "16:9"}, "aspectRatio"),
        ("kling/kling-2.5", {"seed": 1}, "seed"),
        ("kling/kling-2.5", {"end_video": "https://x/a.mp4"}, "end_video"),
        ("kling/kling-2.5", {"duration": "5"}, "duration"),
        ("kling/kling-2.5", {"duration": 7}, "duration"),
        ("kling/kling-2.5", {"mode": "std"}, "mode"),
        ("kling/kling-2.5", {"prompt": ""}, "prompt"),
        ("kling/kling-2.5", {"start_image": "data:image/png;base64,AA"}, "start_image"),
        ("kling/kling-2.5", {"start_image": f"https://x/{'a' * 1024}"}, "start_image"),
        ("kling/kling-2.1", {"mode": "std"}, "mode"),
        ("kling/kling-2.6", {"mode": "pro"}, "mode"),
        ("kling/kling-2.6", {"aspect_ratio": "1:1"}, "aspect_ratio"),
        ("kling/kling-3.0", {"prompt": "x" * 2501}, "prompt"),
        ("kling/kling-3.0", {"mode": "4K"}, "mode"),
        ("kling/kling-3.0", {"generate_audio": "yes"}, "generate_audio"),
        ("google/veo-3.1", {"duration": 8, "resolution": "4k"}, "resolution"),
        ("google/veo-3.1", {"duration": True}, "duration"),
    ],
)
async def test_a_closed_body_refuses_what_it_does_not_know(
    twins: Twins, path: str, changes: dict[str, Any], said: str
) -> None:
    answer = await create(twins, path, **changes)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert await twins.bill() == []


@pytest.mark.parametrize(
    ("camera", "status"),
    [
        ({"type": "simple", "config": {"zoom": 5}}, 200),
        ({"type": "simple", "config": {"zoom": -10, "pan": 3}}, 200),
        ({"type": "down_back"}, 200),
        ({"type": "forward_up", "config": None}, 200),
        ({"type": "simple", "config": {"zoom": 11}}, 400),
        ({"type": "simple", "config": {"dolly": 1}}, 400),
        ({"type": "simple"}, 400),
        ({"type": "down_back", "config": {"zoom": 1}}, 400),
        (["zoom"], 400),
    ],
)
async def test_the_camera_object_is_checked(twins: Twins, camera: Any, status: int) -> None:
    assert (await create(twins, "kling/kling-1.6", camera_control=camera)).status_code == status


async def test_numbers_of_json_are_one_kind(twins: Twins) -> None:
    await bought(twins, duration=5.0)


async def test_an_unknown_path_and_job_are_404_with_a_text(twins: Twins) -> None:
    for answer in (await create(twins, "kling/kling-9"), await call(twins, "GET", "/jobs/nothing")):
        assert (answer.status_code, set(answer.json())) == (404, {"error"})


@pytest.mark.parametrize("key", ["", "Bearer real-key", "Key sandbox-x"])
async def test_every_call_wants_the_key(twins: Twins, key: str) -> None:
    for method, path in (
        ("POST", "/generate/video/kling/kling-2.5"),
        ("GET", "/jobs/x"),
        ("DELETE", "/jobs/x"),
        ("GET", "/jobs?limit=1"),
        ("POST", "/assets"),
    ):
        body = KLING if method == "POST" else None
        answer = await call(twins, method, path, body, Authorization=key)
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})


@pytest.mark.parametrize(
    ("fault", "status"),
    [("auth", 401), ("no_credit", 402), ("rate_limit", 429), ("server_error", 500), ("unavailable", 503)],
)
async def test_an_ordered_refusal_has_its_status(twins: Twins, fault: str, status: int) -> None:
    await twins.control("faults", provider="krea", kind=fault)
    assert (await create(twins)).status_code == status
    assert (await create(twins)).status_code == 200


async def test_a_cancel_costs_nothing_in_any_phase_and_a_delete_forgets(twins: Twins) -> None:
    await twins.control("settings", provider="krea", concurrency=1)
    running, waiting = await bought(twins), await bought(twins)
    twins.clock.pass_(0.2)
    for id_ in (waiting, running):
        assert (await call(twins, "DELETE", f"/jobs/{id_}")).status_code == 200
        assert (await look(twins, id_))["status"] == "cancelled"
    assert [row["usd"] for row in await twins.bill()] == ["0", "0"]
    done = await bought(twins)
    twins.clock.pass_(1)
    (url,) = (await look(twins, done))["result"]["urls"]
    assert (await call(twins, "DELETE", f"/jobs/{done}")).status_code == 200
    assert (await call(twins, "GET", f"/jobs/{done}")).status_code == 404
    assert (await twins.http.get(url)).status_code == 404
    assert (await twins.bill())[-1]["usd"] == "0.37"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("moderation", {"result": {"urls": [], "error": "nsfw"}}),
        ("fail_after_accept", {"error": {"code": "internal_error", "message": "Generation failed"}}),
    ],
)
async def test_a_failed_job_says_why_and_is_not_billed(
    twins: Twins, fault: str, reason: dict[str, Any]
) -> None:
    await twins.control("faults", provider="krea", kind=fault)
    id_ = await bought(twins)
    twins.clock.pass_(1)
    view = await look(twins, id_)
    assert view["status"] == "failed"
    assert reason.items() <= view.items()
    assert [row["usd"] for row in await twins.bill()] == ["0"]


async def test_the_list_has_the_newest_first_and_pages(twins: Twins) -> None:
    ids = [await bought(twins) for _ in range(3)]
    page = (await call(twins, "GET", "/jobs?limit=2")).json()
    assert [one["job_id"] for one in page["items"]] == [ids[2], ids[1]]
    assert page["nextCursor"] == page["items"][-1]["created_at"]
    twins.clock.pass_(5)
    whole = (await call(twins, "GET", "/jobs?status=completed")).json()
    assert len(whole["items"]) == 3 and whole["nextCursor"] is None
    assert (await call(twins, "GET", "/jobs?limit=0")).status_code == 400


@pytest.mark.parametrize(
    ("path", "changes", "usd"),
    [
        ("kling/kling-1", {"mode": "pro"}, "0.386"),
        ("kling/kling-1", {"mode": "std", "duration": 10}, "0.221"),
        ("kling/kling-1.6", {"mode": "pro", "duration": 10}, "0.77885"),
        ("kling/kling-2.1", {}, "1.4837"),
        ("kling/kling-2.6", {"generate_audio": True}, "0.74185"),
        ("kling/kling-3.0", {"mode": "pro", "duration": 15}, "3.552"),
        ("kling/kling-o1", {"duration": 4}, "0.47434"),
        ("alibaba/wan-2.5", {"resolution": "720p", "duration": 6}, "0.63603"),
    ],
)
async def test_the_bill_follows_the_lists(twins: Twins, path: str, changes: dict[str, Any], usd: str) -> None:
    await bought(twins, path, **changes)
    assert [row["usd"] for row in await twins.bill()] == [usd]


async def test_a_result_link_dies(twins: Twins) -> None:
    id_ = await bought(twins)
    twins.clock.pass_(1)
    (url,) = (await look(twins, id_))["result"]["urls"]
    assert (await twins.http.get(url)).status_code == 200
    twins.clock.pass_(twins.benches["krea"].link_seconds + 1)
    assert (await twins.http.get(url)).status_code == 403
