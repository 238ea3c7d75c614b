"""The AI/ML API twin by itself, with the bodies of the vendor's OpenAPI files. There is no SDK here to talk to it."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from api_providers.sandbox._aimlapi_models import MODELS
from tests.api_providers.sandbox.conftest import Twins

KEY = {"Authorization": "Bearer sandbox-test"}
T26 = "klingai/video-v2-6-pro-text-to-video"
I26 = "klingai/video-v2-6-pro-image-to-video"
T21 = "klingai/v2.1-master-text-to-video"
I21 = "klingai/v2.1-master-image-to-video"
URL = "https://files.example/a.png"
ROUTES = [
    "/v2/video/generations",
    "/v1/video/generations",
    "/video/generations",
    "/v2/generate/video/kling/generation",
]


async def ask(twins: Twins, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    return await twins.http.request(method, f"{twins.url}/aimlapi{path}", json=body, headers=KEY | headers)


async def submit(twins: Twins, model: str = T26, **given: Any) -> httpx.Response:
    return await ask(twins, "POST", ROUTES[0], {"model": model, "prompt": "a red ball", **given})


async def look(twins: Twins, id_: str, path: str = ROUTES[0]) -> dict[str, Any]:
    answer: dict[str, Any] = (await ask(twins, "GET", f"{path}?generation_id={id_}")).json()
    return answer


@pytest.mark.parametrize("path", ROUTES)
async def test_a_clip_is_made_on_every_route_and_the_id_may_come_raw(twins: Twins, path: str) -> None:
    answer = await ask(twins, "POST", path, {"model": T26, "prompt": "a red ball", "generate_audio": False})
    made = answer.json()
    assert made == {"id": made["id"], "status": "queued"}
    assert made["id"].endswith(f":{T26}") and answer.headers["x-inference-id"]
    seen = [await look(twins, made["id"], path)]
    twins.clock.pass_(0.2)
    seen.append(await look(twins, quote(made["id"], safe=""), path))
    twins.clock.pass_(0.2)
    seen.append(await look(twins, made["id"], path))
    assert [view["status"] for view in seen] == ["queued", "generating", "completed"]
    assert seen[0]["video"] is None and seen[2]["error"] is None
    clip = await twins.http.get(seen[2]["video"]["url"])
    assert clip.headers["content-type"] == "video/mp4"
    twins.clock.pass_(90_000)
    assert (await twins.http.get(seen[2]["video"]["url"])).status_code == 403


async def test_what_waits_for_the_account_is_queued_too(twins: Twins) -> None:
    await twins.control("settings", provider="aimlapi", concurrency=1, render_seconds=600)
    await submit(twins)
    second = (await submit(twins)).json()["id"]
    twins.clock.pass_(300)
    assert (await look(twins, second))["status"] == "queued"


@pytest.mark.parametrize(
    ("given", "usd"),
    [
        ({"generate_audio": False}, "0.455"),
        ({"generate_audio": False, "duration": 10}, "0.91"),
        ({}, "0.91"),
    ],
)
async def test_sound_that_nobody_turned_off_is_billed_double(twins: Twins, given: Any, usd: str) -> None:
    await submit(twins, **given)
    assert (await twins.bill())[0]["usd"] == "0"
    twins.clock.pass_(1)
    assert (await twins.bill())[0]["usd"] == usd


@pytest.mark.parametrize("kind", ["fail_after_accept", "moderation"])
async def test_a_failure_is_called_error_and_costs_nothing(twins: Twins, kind: str) -> None:
    await twins.control("faults", provider="aimlapi", kind=kind)
    id_ = (await submit(twins)).json()["id"]
    twins.clock.pass_(1)
    view = await look(twins, id_)
    assert (view["status"], view["video"], view["error"]["name"]) == ("error", None, "Error")
    assert (await twins.bill())[0]["usd"] == "0"


@pytest.mark.parametrize(
    ("model", "given", "field"),
    [
        (T26, {"duration": "5"}, "duration"),
        (T26, {"duration": 7}, "duration"),
        (T26, {"aspect_ratio": "4:3"}, "aspect_ratio"),
        (T26, {"prompt": "x" * 2501}, "prompt"),
        (T26, {"generate_audio": "no"}, "generate_audio"),
        (I26, {}, "image_url"),
        (I26, {"image_url": "a.png"}, "image_url"),
        ("klingai/video-v3-pro-text-to-video", {"duration": 16}, "duration"),
        (T21, {"camera_control": {"type": "down_back"}}, "camera_control"),
        (T21, {"advanced_camera_control": {"movement_type": "pan"}}, "advanced_camera_control"),
        (
            T21,
            {"advanced_camera_control": {"movement_type": "pan", "movement_value": 2.5}},
            "advanced_camera_control",
        ),
        (I21, {"image_url": URL, "camera_control": "down_back"}, "camera_control"),
        (
            I21,
            {"image_url": URL, "camera_control": {"type": "simple", "config": {"pan": 11}}},
            "camera_control",
        ),
        ("klingai/avatar-pro", {"image_url": URL}, "audio_url"),
        (
            "klingai/kling-video-v1.6-pro-effects",
            {"image_url": URL, "effect_scene": "explode"},
            "effect_scene",
        ),
        ("klingai/video-o1-reference-to-video", {"image_list": [URL] * 8}, "image_list"),
        ("minimax/hailuo-02", {"resolution": "768p"}, "resolution"),
        ("minimax/hailuo-2.3-fast", {}, "image_url"),
        ("alibaba/wan-2-6-r2v", {"video_urls": []}, "video_urls"),
        ("alibaba/wan-2-7-i2v", {"image_url": URL, "negative_prompt": "x" * 501}, "negative_prompt"),
    ],
)
async def test_a_wrong_field_is_named(twins: Twins, model: str, given: Any, field: str) -> None:
    answer = await submit(twins, model, **given)
    body = answer.json()
    assert (answer.status_code, body["statusCode"], body["message"]) == (400, 400, "Body validation error!")
    assert body["path"] == "/v2/video/generations"
    assert [issue["path"] for issue in body["errors"]] == [[field]]
    assert await twins.bill() == []


async def test_members_that_are_not_known_are_ignored(twins: Twins) -> None:
    older = {"ratio": "16:9", "type": "text-to-video", "external_task_id": "x", "provider": "auto"}
    assert (await submit(twins, **older)).status_code == 200


async def test_there_is_no_1_5_standard_for_text(twins: Twins) -> None:
    answer = await submit(twins, "kling-video/v1.5/standard/text-to-video")
    assert (answer.status_code, "not found" in answer.json()["message"]) == (404, True)
    assert all(name.count("/") for name in MODELS)


async def test_an_unknown_task_is_404(twins: Twins) -> None:
    view = await look(twins, "nope")
    assert view["statusCode"] == 404
    assert (await ask(twins, "GET", ROUTES[0])).status_code == 400


async def test_an_empty_account_is_a_403_with_a_sentence(twins: Twins) -> None:
    await twins.control("settings", provider="aimlapi", price_factor=10_000)
    answer = await submit(twins)
    assert (answer.status_code, "run out of credits" in answer.json()["message"]) == (403, True)


async def test_the_balance_falls_when_a_clip_is_done(twins: Twins) -> None:
    await submit(twins, generate_audio=False)
    twins.clock.pass_(1)
    answer = await ask(twins, "GET", "/v2/billing")
    assert answer.json() == {"current_balance": 999.545, "currency": "USD"}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", ROUTES[0]), ("GET", ROUTES[0]), ("GET", "/v2/billing")]
)
async def test_a_call_without_our_key_is_refused(twins: Twins, method: str, path: str) -> None:
    answer = await ask(twins, method, path, Authorization="Bearer real")
    assert (answer.status_code, "valid API key" in answer.json()["message"]) == (401, True)
