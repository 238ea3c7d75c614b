"""The Hailuo twin against MiniMax's documentation: validation, statuses, links and the bill."""

from typing import Any

import httpx
import pytest

from tests.api_providers.sandbox.conftest import Twins

KEY = {"Authorization": "Bearer sandbox-test"}
TEXT = {"model": "MiniMax-Hailuo-2.3", "prompt": "a red ball"}
H3 = {
    "model": "MiniMax-H3",
    "content": [{"type": "text", "text": "a red ball"}],
    "resolution": "768P",
    "duration": 5,
    "ratio": "16:9",
}


async def call(twins: Twins, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return await twins.http.request(method, f"{twins.url}/hailuo{path}", json=body, headers=KEY | headers)


async def v1(twins: Twins, **changes: Any) -> dict[str, Any]:
    answer = await call(twins, "POST", "/v1/video_generation", TEXT | changes)
    assert answer.status_code == 200 and answer.headers["trace-id"]
    body: dict[str, Any] = answer.json()
    return body


async def look(twins: Twins, id_: str) -> dict[str, Any]:
    body: dict[str, Any] = (await call(twins, "GET", f"/v1/query/video_generation?task_id={id_}")).json()
    return body


def item(role: str, url: str) -> dict[str, Any]:
    kind = {"video": "video_url", "audio": "audio_url"}.get(role.removeprefix("reference_"), "image_url")
    return {"type": kind, kind: {"url": url}, "role": role}


async def test_v1_goes_through_its_statuses_to_a_file_and_a_link(twins: Twins) -> None:
    id_ = (await v1(twins))["task_id"]
    seen = [await look(twins, id_)]
    for step in (0.2, 0.5):
        twins.clock.pass_(step)
        seen.append(await look(twins, id_))
    assert [view["status"] for view in seen] == ["Preparing", "Processing", "Success"]
    assert "file_id" not in seen[1]
    assert (seen[2]["video_width"], seen[2]["video_height"]) == (1365, 768)
    assert isinstance(seen[2]["file_id"], str)
    file = (await call(twins, "GET", f"/v1/files/retrieve?file_id={seen[2]['file_id']}")).json()["file"]
    assert file["file_id"] == int(seen[2]["file_id"])
    assert (await twins.http.get(file["download_url"])).headers["content-type"] == "video/mp4"
    twins.clock.pass_(twins.benches["hailuo"].link_seconds + 1)
    assert (await twins.http.get(file["download_url"])).status_code == 403
    assert [row["usd"] for row in await twins.bill()] == ["0.28"]


async def test_over_the_concurrency_a_task_is_queueing(twins: Twins) -> None:
    await twins.control("settings", provider="hailuo", concurrency=1, render_seconds=10)
    await v1(twins)
    assert (await look(twins, (await v1(twins))["task_id"]))["status"] == "Queueing"


@pytest.mark.parametrize(
    ("changes", "usd"),
    [
        ({}, "0.28"),
        ({"duration": 10}, "0.56"),
        ({"resolution": "1080P"}, "0.49"),
        ({"model": "MiniMax-Hailuo-2.3-Fast", "first_frame_image": "https://x.example/a.png"}, "0.19"),
        (
            {
                "model": "MiniMax-Hailuo-02",
                "first_frame_image": "https://x.example/a.png",
                "resolution": "512P",
            },
            "0.1",
        ),
    ],
)
async def test_the_clip_has_a_price(twins: Twins, changes: dict[str, Any], usd: str) -> None:
    assert (await v1(twins, **changes))["base_resp"]["status_code"] == 0
    assert [row["usd"] for row in await twins.bill()] == [usd]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "MiniMax-Hailuo-9"},
        {"model": "MiniMax-Hailuo-2.3-Fast"},
        {"prompt": ""},
        {"prompt": "x" * 2001},
        {"resolution": "768p"},
        {"resolution": "1080P", "duration": 10},
        {"duration": "6"},
        {"duration": 5},
        {"model": "MiniMax-Hailuo-02", "resolution": "512P"},
        {"resolution": "512P", "first_frame_image": "https://x.example/a.png"},
        {"first_frame_image": "https://x.example/a.png", "last_frame_image": "https://x.example/a.png"},
        {"model": "MiniMax-Hailuo-02", "last_frame_image": "https://x.example/a.png"},
        {"first_frame_image": "AAAA"},
        {"first_frame_image": "data:image/png;base64,AAAA"},
        {"prompt_optimizer": "yes"},
    ],
)
async def test_a_wrong_v1_body_is_2013_inside_200(twins: Twins, changes: dict[str, Any]) -> None:
    answer = await v1(twins, **changes)
    assert answer["base_resp"]["status_code"] == 2013
    assert "task_id" not in answer
    assert await twins.bill() == []


@pytest.mark.parametrize(("fault", "code"), [("auth", 2049), ("no_credit", 1008), ("rate_limit", 1002)])
async def test_a_v1_refusal_is_a_code_inside_200(twins: Twins, fault: str, code: int) -> None:
    await twins.control("faults", provider="hailuo", kind=fault)
    assert (await v1(twins))["base_resp"]["status_code"] == code


async def test_a_failed_and_a_blocked_v1_clip_are_free(twins: Twins) -> None:
    codes = []
    for fault in ("fail_after_accept", "moderation"):
        await twins.control("faults", provider="hailuo", kind=fault)
        id_ = (await v1(twins))["task_id"]
        twins.clock.pass_(1)
        view = await look(twins, id_)
        assert view["status"] == "Fail"
        codes.append(view["base_resp"]["status_code"])
    assert codes == [1000, 1027]
    assert [row["usd"] for row in await twins.bill()] == ["0", "0"]


async def test_a_key_is_wanted_in_both_generations(twins: Twins) -> None:
    for headers, code in (({"Authorization": ""}, 1004), ({"Authorization": "Bearer real"}, 2049)):
        for path in ("/v1/query/video_generation?task_id=1", "/v1/files/retrieve?file_id=1"):
            answer = await call(twins, "GET", path, **headers)
            assert (answer.status_code, answer.json()["base_resp"]["status_code"]) == (200, code)
        answer = await call(twins, "POST", "/v1/video_generation", TEXT, **headers)
        assert answer.json()["base_resp"]["status_code"] == code
        for method, path in (
            ("POST", "/v2/video_generation"),
            ("GET", "/v2/query/video_generation"),
            ("GET", "/v2/query/video_generation/1"),
            ("DELETE", "/v2/video_generation/1"),
        ):
            answer = await call(twins, method, path, H3 if method == "POST" else None, **headers)
            assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authorized_error")


async def test_v2_nests_the_task_and_lists_the_newest_first(twins: Twins) -> None:
    ids = [(await call(twins, "POST", "/v2/video_generation", H3)).json()["task_id"] for _ in range(3)]
    twins.clock.pass_(1)
    task = (await call(twins, "GET", f"/v2/query/video_generation/{ids[0]}")).json()["task"]
    assert (task["status"], task["usage"]["total_seconds"]) == ("succeeded", 5)
    assert (await twins.http.get(task["content"]["url"])).status_code == 200
    page = (await call(twins, "GET", "/v2/query/video_generation?page_num=1&page_size=2")).json()
    assert ([row["id"] for row in page["items"]], page["total"]) == ([ids[2], ids[1]], 3)
    assert (await look(twins, ids[0]))["base_resp"]["status_code"] == 2013, "v1 does not know it"


async def test_delete_cancels_the_queued_deletes_the_ended_and_refuses_the_running(twins: Twins) -> None:
    await twins.control("settings", provider="hailuo", concurrency=1, render_seconds=10)
    first, second = [
        (await call(twins, "POST", "/v2/video_generation", H3)).json()["task_id"] for _ in range(2)
    ]
    twins.clock.pass_(2)
    running = await call(twins, "DELETE", f"/v2/video_generation/{first}")
    assert running.status_code == 400
    queued = await call(twins, "DELETE", f"/v2/video_generation/{second}")
    assert queued.json() == {"task_id": second, "status": "cancelled"}
    assert (await call(twins, "DELETE", f"/v2/video_generation/{second}")).status_code == 400
    twins.clock.pass_(20)
    ended = await call(twins, "DELETE", f"/v2/video_generation/{first}")
    assert ended.json()["status"] == "deleted"
    gone = await call(twins, "GET", f"/v2/query/video_generation/{first}")
    assert gone.status_code == 500 and "record not found" in gone.text
    assert [row["usd"] for row in await twins.bill()] == ["0.4", "0"]


URL = "https://x.example/a"


@pytest.mark.parametrize(
    ("items", "changes", "usd"),
    [
        ([], {"resolution": "2K", "duration": 4}, "0.52"),
        ([item("first_frame", URL), item("last_frame", URL)], {}, "0.4"),
        ([item("reference_image", URL)] * 7, {"ratio": "adaptive"}, "0.48"),
        ([item("reference_video", URL)] * 2, {}, "1.2"),
        ([], {"model": "MiniMax-H3-Max", "resolution": "480P"}, "0.25"),
    ],
)
async def test_v2_bills_seconds_input_videos_and_further_images(
    twins: Twins, items: list[Any], changes: dict[str, Any], usd: str
) -> None:
    body = H3 | {"content": H3["content"] + items} | changes  # type: ignore[operator]
    assert (await call(twins, "POST", "/v2/video_generation", body)).status_code == 200
    assert [row["usd"] for row in await twins.bill()] == [usd]


@pytest.mark.parametrize(
    ("items", "changes"),
    [
        ([], {"content": []}),
        ([], {"ratio": "adaptive"}),
        ([], {"ratio": "2:1"}),
        ([], {"resolution": "1080P"}),
        ([], {"duration": 3}),
        ([], {"duration": 5.5}),
        ([], {"model": "MiniMax-H3-Max", "duration": 4}),
        ([item("last_frame", URL)], {}),
        ([item("first_frame", URL), item("reference_image", URL)], {}),
        ([item("reference_audio", URL)], {}),
        ([item("reference_image", URL)] * 10, {}),
        ([item("reference_image", URL)], {"model": "MiniMax-H3-Max"}),
        ([{"type": "image_url", "image_url": {"url": URL}, "role": "reference_video"}], {}),
        ([item("first_frame", "file:///etc/passwd")], {}),
    ],
)
async def test_a_wrong_v2_body_is_a_400(twins: Twins, items: list[Any], changes: dict[str, Any]) -> None:
    body = H3 | {"content": H3["content"] + items} | changes  # type: ignore[operator]
    answer = await call(twins, "POST", "/v2/video_generation", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].endswith("(2013)")
    assert await twins.bill() == []


@pytest.mark.parametrize(
    ("fault", "status"),
    [("auth", 401), ("no_credit", 402), ("rate_limit", 429), ("server_error", 500), ("unavailable", 503)],
)
async def test_a_v2_refusal_has_its_status(twins: Twins, fault: str, status: int) -> None:
    await twins.control("faults", provider="hailuo", kind=fault)
    answer = await call(twins, "POST", "/v2/video_generation", H3)
    assert (answer.status_code, answer.json()["error"]["http_code"]) == (status, str(status))
