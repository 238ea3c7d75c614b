"""The fal twin against the provider sheet."""

from typing import Any

import httpx
import pytest

from api_providers.sandbox._fal_models import MODELS
from tests.api_providers.sandbox.conftest import VEO, Twins


async def submit(twins: Twins, app: str = "fal-ai/veo3.1/fast", **changes: Any) -> dict[str, Any]:
    answer = await twins.fal("POST", f"/{app}", VEO | changes)
    assert answer.status_code == 200, answer.text
    handle: dict[str, Any] = answer.json()
    return handle


async def look(twins: Twins, handle: dict[str, Any], *, query: str = "") -> httpx.Response:
    return await twins.fal("GET", handle["status_url"].removeprefix(f"{twins.url}/fal") + query)


async def result(twins: Twins, handle: dict[str, Any]) -> httpx.Response:
    return await twins.fal("GET", handle["response_url"].removeprefix(f"{twins.url}/fal"))


async def test_the_answer_to_a_submit_has_absolute_urls_without_the_sub_path(twins: Twins) -> None:
    handle = await submit(twins)
    base = f"{twins.url}/fal/fal-ai/veo3.1/requests/{handle['request_id']}"
    assert handle == {
        "status": "IN_QUEUE",
        "request_id": handle["request_id"],
        "queue_position": 0,
        "response_url": base,
        "status_url": f"{base}/status",
        "cancel_url": f"{base}/cancel",
    }


@pytest.mark.parametrize("query", ["", "?logs=false", "?logs=0", "?logs=true", "?logs=1"])
async def test_a_request_goes_through_its_three_states(twins: Twins, query: str) -> None:
    handle = await submit(twins)
    seen = [await look(twins, handle, query=query)]
    for step in (0.2, 0.3):
        twins.clock.pass_(step)
        seen.append(await look(twins, handle, query=query))
    assert [(view.status_code, view.json()["status"]) for view in seen] == [
        (202, "IN_QUEUE"),
        (202, "IN_PROGRESS"),
        (200, "COMPLETED"),
    ]
    assert seen[0].json()["queue_position"] == 0
    wants = query in ("?logs=true", "?logs=1")
    assert [view.json()["logs"] is not None for view in seen[1:]] == [wants, wants]


async def test_a_result_before_its_time_says_so_word_for_word(twins: Twins) -> None:
    handle = await submit(twins)
    early = await result(twins, handle)
    assert (early.status_code, early.json()) == (400, {"detail": "Request is still in progress"})
    twins.clock.pass_(1)
    video = (await result(twins, handle)).json()["video"]
    clip = await twins.http.get(video["url"])
    assert (clip.headers["content-type"], len(clip.content)) == (video["content_type"], video["file_size"])


async def test_bad_input_is_accepted_and_shows_as_a_list_at_the_result(twins: Twins) -> None:
    handle = await submit(
        twins, "fal-ai/kling-video/v2.6/pro/image-to-video", image_url="data:,", duration="7"
    )
    assert (await look(twins, handle)).json()["status"] == "COMPLETED"
    answer = await result(twins, handle)
    assert answer.status_code == 422
    assert {(tuple(one["loc"]), one["type"]) for one in answer.json()["detail"]} == {
        (("body", "start_image_url"), "missing"),
        (("body", "duration"), "literal_error"),
    }
    assert answer.headers["x-fal-retryable"] == "false"
    assert [(row["status"], row["usd"]) for row in await twins.bill()] == [("failed", "0")]


@pytest.mark.parametrize(
    ("app", "changes", "usd"),
    [
        ("fal-ai/veo3.1", {}, "0.8"),
        ("fal-ai/veo3.1", {"generate_audio": True, "resolution": "4k"}, "2.4"),
        ("fal-ai/veo3.1/fast", {"generate_audio": True}, "0.6"),
        ("fal-ai/veo3.1/fast", {"duration": "8s", "resolution": "1080p"}, "0.8"),
        ("fal-ai/kling-video/v2.6/pro/text-to-video", {"duration": "10"}, "0.7"),
        ("fal-ai/kling-video/v2.6/pro/text-to-video", {"duration": "5", "generate_audio": True}, "0.7"),
        ("fal-ai/kling-video/v2.6/pro/text-to-video", {"duration": "5", "generate_audio": False}, "0.35"),
        ("fal-ai/kling-video/v3/pro/text-to-video", {"duration": "3"}, "0.336"),
        ("fal-ai/veo3.1/lite", {"resolution": "1080p", "generate_audio": True}, "0.32"),
        ("fal-ai/minimax/hailuo-2.3/standard/text-to-video", {"duration": "10"}, "0.56"),
        ("fal-ai/minimax/hailuo-2.3/pro/text-to-video", {}, "0.49"),
        ("minimax/h3/text-to-video", {"duration": 5, "resolution": "768P"}, "0.3"),
        ("fal-ai/ltx-2.3/text-to-video", {"duration": 6, "resolution": "2160p"}, "1.92"),
        ("bytedance/seedance-2.0/text-to-video", {"duration": "4"}, "1.2136"),
    ],
)
async def test_the_bill_follows_the_price_pages(
    twins: Twins, app: str, changes: dict[str, Any], usd: str
) -> None:
    await submit(twins, app, **changes)
    assert [row["usd"] for row in await twins.bill()] == ["0"]
    twins.clock.pass_(1)
    assert [row["usd"] for row in await twins.bill()] == [usd]


async def test_the_price_factor_raises_the_bill(twins: Twins) -> None:
    await twins.control("settings", provider="fal", price_factor="2.5")
    await submit(twins)
    twins.clock.pass_(1)
    assert [row["usd"] for row in await twins.bill()] == ["1"]


async def test_the_third_request_waits_in_the_queue_with_its_place(twins: Twins) -> None:
    handles = [await submit(twins) for _ in range(4)]
    twins.clock.pass_(0.2)
    seen = [(await look(twins, handle)).json() for handle in handles]
    assert [view["status"] for view in seen] == ["IN_PROGRESS", "IN_PROGRESS", "IN_QUEUE", "IN_QUEUE"]
    assert [view.get("queue_position") for view in seen] == [None, None, 0, 1]


async def cancel(twins: Twins, handle: dict[str, Any]) -> httpx.Response:
    return await twins.fal("PUT", handle["cancel_url"].removeprefix(f"{twins.url}/fal"))


async def test_a_cancel_is_free_in_the_queue_charged_on_the_runner_and_too_late_after(twins: Twins) -> None:
    queued, running, done = await submit(twins), await submit(twins), await submit(twins)
    assert (await cancel(twins, queued)).json() == {"status": "CANCELLATION_REQUESTED"}
    twins.clock.pass_(0.2)
    assert (await cancel(twins, running)).status_code == 202
    twins.clock.pass_(1)
    late = await cancel(twins, done)
    assert (late.status_code, late.json()) == (400, {"status": "ALREADY_COMPLETED"})
    view = (await look(twins, running)).json()
    assert (view["status"], view["error_type"]) == ("COMPLETED", "client_cancelled")
    assert (await result(twins, running)).headers["x-fal-error-type"] == "client_cancelled"
    assert [row["usd"] for row in await twins.bill()] == ["0", "0.4", "0.4"]


async def test_a_request_that_does_not_start_in_time_is_given_up(twins: Twins) -> None:
    await twins.control("settings", provider="fal", concurrency=1, render_seconds=100)
    await submit(twins)
    answer = await twins.fal("POST", "/fal-ai/veo3.1/fast", VEO, **{"X-Fal-Request-Timeout": "5"})
    twins.clock.pass_(6)
    end = await result(twins, answer.json())
    assert (end.status_code, end.json()["error_type"]) == (504, "request_timeout")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/fal-ai/nothing", 404),
        ("GET", "/fal-ai/veo3.1/requests/00000000-0000-0000-0000-000000000000/status", 404),
        ("GET", "/fal-ai/veo3.1/fast/requests/00000000-0000-0000-0000-000000000000/status", 405),
    ],
)
async def test_unknown_paths_are_refused(twins: Twins, method: str, path: str, status: int) -> None:
    answer = await twins.fal(method, path, VEO if method == "POST" else None)
    assert (answer.status_code, type(answer.json()["detail"])) == (status, str)


@pytest.mark.parametrize(
    "authorization",
    ["Bearer sandbox-x:sandbox-x", "Key real:key", "Key sandbox-x", "Key sandbox-x:sandbox-y"],
)
async def test_only_a_sandbox_key_pair_is_let_in(twins: Twins, authorization: str) -> None:
    answer = await twins.fal("POST", "/fal-ai/veo3.1", VEO, Authorization=authorization)
    assert answer.status_code == 401


async def test_an_upload_gets_a_token_and_then_an_address(twins: Twins) -> None:
    token = (await twins.fal("POST", "/storage/auth/token?storage_type=fal-cdn-v3", {})).json()
    answer = await twins.http.post(
        f"{token['base_url']}/files/upload",
        content=b"bytes",
        headers={"Authorization": f"{token['token_type']} {token['token']}", "X-Fal-File-Name": "a.png"},
    )
    url = answer.json()["access_url"]
    assert (await twins.http.get(url)).content == b"bytes"


async def test_a_result_lives_as_long_as_the_caller_asked(twins: Twins) -> None:
    wish = {"X-Fal-Object-Lifecycle-Preference": '{"expiration_duration_seconds": 60}'}
    answer = await twins.fal("POST", "/fal-ai/veo3.1/fast", VEO, **wish)
    twins.clock.pass_(1)
    url = (await result(twins, answer.json())).json()["video"]["url"]
    assert (await twins.http.get(url)).status_code == 200
    twins.clock.pass_(60)
    assert (await twins.http.get(url)).status_code == 404


async def test_a_full_queue_refuses_who_asked_for_a_short_one(twins: Twins) -> None:
    for _ in range(4):
        await submit(twins)
    assert (await twins.fal("POST", "/fal-ai/veo3.1?fal_max_queue_length=2", VEO)).status_code == 429
    assert (await twins.fal("POST", "/fal-ai/veo3.1?fal_max_queue_length=3", VEO)).status_code == 200


async def test_every_endpoint_tells_anybody_its_schema(twins: Twins) -> None:
    url = f"{twins.url}/fal/_host/schema/api/openapi/queue/openapi.json"
    for name, model in MODELS.items():
        document = (await twins.http.get(url, params={"endpoint_id": name})).json()
        (schema,) = document["components"]["schemas"].values()
        assert set(schema["properties"]) == set(model.fields)
        assert "post" in document["paths"][f"/{name}"]
    assert (await twins.http.get(url, params={"endpoint_id": "fal-ai/nothing"})).status_code == 404


async def test_an_upload_that_was_announced_and_never_sent_fails_the_run(twins: Twins) -> None:
    order = {"file_name": "a.png", "content_type": "image/png"}
    announced = (
        await twins.fal("POST", "/_host/rest/storage/upload/initiate?storage_type=gcs", order)
    ).json()
    app = "fal-ai/kling-video/v2.6/pro/image-to-video"
    lost = await submit(twins, app, start_image_url=announced["file_url"], duration="5")
    (wrong,) = (await result(twins, lost)).json()["detail"]
    assert (wrong["type"], wrong["loc"]) == ("file_download_error", ["body", "start_image_url"])
    await twins.http.put(announced["upload_url"], content=b"bytes")
    good = await submit(twins, app, start_image_url=announced["file_url"], duration="5")
    twins.clock.pass_(1)
    assert (await result(twins, good)).status_code == 200
