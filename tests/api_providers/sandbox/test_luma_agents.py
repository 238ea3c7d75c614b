"""The Luma Agents twin against the sheet and Luma's own SDK, unmodified but for base URL and key."""

import base64
import io
from typing import Any, get_args

import av
import luma_agents
import pytest
from luma_agents import AsyncLuma
from luma_agents.types import VideoDuration, VideoEditStrength, VideoResolution
from luma_agents.types.generation_failure_code import GenerationFailureCode

from api_providers.sandbox import _luma_agents_inputs as inputs
from api_providers.sandbox._bench import Clip
from api_providers.sandbox._render import render
from api_providers.sandbox.luma_agents import FAILURES
from tests.api_providers.sandbox.conftest import Twins

KEY = {"Authorization": "Bearer sandbox-test"}
TEXT: dict[str, Any] = {"model": "ray-3.2", "type": "video", "prompt": "a fox", "video": {"duration": "5s"}}


def client(twins: Twins, key: str = "sandbox-test") -> AsyncLuma:
    return AsyncLuma(auth_token=key, base_url=f"{twins.url}/luma-agents", max_retries=0)


def picture(png: str) -> dict[str, Any]:
    return {"data": png.partition(",")[2], "media_type": "image/png"}


def clip(seconds: float) -> dict[str, Any]:
    content = render(Clip(16, 9, seconds, "input"))
    return {"data": base64.b64encode(content).decode(), "media_type": "video/mp4"}


async def post(twins: Twins, body: dict[str, Any]) -> Any:
    return await twins.http.post(f"{twins.url}/luma-agents/generations", json=body, headers=KEY)


async def test_the_sdk_makes_a_clip_from_text(twins: Twins) -> None:
    async with client(twins) as luma:
        made = await luma.generations.create(
            model="ray-3.2",
            type="video",
            prompt="slow dolly through a greenhouse",
            aspect_ratio="9:16",
            video={"resolution": "1080p", "duration": "10s"},
        )
        seen = [made]
        for step in (0.2, 0.3):
            twins.clock.pass_(step)
            seen.append(await luma.generations.get(made.id))
    assert [view.state for view in seen] == ["queued", "processing", "completed"]
    assert [view.output for view in seen[:2]] == [None, None]
    (output,) = seen[2].output or []
    assert output.type == "video"
    with av.open(io.BytesIO((await twins.http.get(output.url)).content), "r") as box:
        assert box.duration is not None and box.duration / 1e6 == pytest.approx(10, abs=0.2)
        assert box.streams.video[0].height > box.streams.video[0].width
    assert [(row["task"], row["usd"]) for row in await twins.bill()] == [(made.id, "3.6")]


async def test_the_sdk_makes_clips_from_a_picture_given_in_every_way(twins: Twins, png: str) -> None:
    content = base64.b64decode(png.partition(",")[2])
    async with client(twins) as luma:
        created = await luma.files.create(mime_type="image/png", size_bytes=len(content), filename="a.png")
        assert created.upload is not None
        put = await twins.http.put(created.upload.url, content=content, headers=created.upload.headers)
        assert put.status_code == 200
        assert (await luma.files.complete(created.id)).state == "pending"
        assert (await luma.files.get(created.id)).state == "ready"
        for frame in ({"url": "https://ex.com/a.jpg"}, picture(png), {"file_id": created.id}):
            made = await luma.generations.create(
                model="ray-3.2",
                type="video",
                prompt="a fox",
                video={"duration": "5s", "start_frame": frame},  # type: ignore[arg-type]
            )
            twins.clock.pass_(1)
            assert (await luma.generations.get(made.id)).state == "completed"
        longer = await luma.generations.create(
            model="ray-3.2",
            type="video",
            prompt="a fox",
            video={"start_frame": {"generation_id": made.id}, "resolution": "360p"},
        )
        assert longer.id != made.id
        page = await luma.files.list(limit=1)
        assert [file.id for file in page.data] == [created.id]
        await luma.files.delete(created.id)
        assert (await luma.files.get(created.id)).state == "deleted"
    assert [row["usd"] for row in await twins.bill()] == ["0.3"] * 3 + ["0.06"]
    calls = (await twins.http.get(f"{twins.url}/_sandbox/requests")).json()
    assert not any(call["leaked_key"] for call in calls)


async def test_the_sdk_edits_and_reframes_a_video(twins: Twins) -> None:
    async with client(twins) as luma:
        edited = await luma.generations.create(
            model="ray-3.2",
            type="video_edit",
            prompt="make it snow",
            source=clip(8),  # type: ignore[arg-type]
            video={"resolution": "540p", "edit": {"strength": "flex_1"}},
        )
        twins.clock.pass_(1)
        assert (await luma.generations.get(edited.id)).type == "video_edit"
        await luma.generations.create(
            model="ray-3.2",
            type="video_reframe",
            prompt="wider",
            aspect_ratio="21:9",
            source={"generation_id": edited.id},
            video={"resolution": "360p"},
        )
    assert [row["usd"] for row in await twins.bill()] == ["1.152", "0.24"], "by the second of the source"


def test_values_are_those_of_the_sdk() -> None:
    """Our tables are written by hand; Luma's own types say whether they are right."""
    assert set(inputs.SECONDS) == set(get_args(VideoDuration))
    assert set(inputs.RESOLUTIONS) == set(get_args(VideoResolution))
    assert set(inputs.STRENGTHS) == set(get_args(VideoEditStrength))
    assert {code for code, _ in FAILURES.values()} <= set(get_args(GenerationFailureCode))


FRAME = {"url": "https://ex.com/a.jpg"}


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"prompt": ""}, 400, "prompt"),
        ({"prompt": "x" * 6001}, 400, "prompt"),
        ({"model": "ray-2"}, 400, "model"),
        ({"type": "image"}, 422, "type"),
        ({"aspect_ratio": "2:1"}, 400, "aspect_ratio"),
        ({"negative_prompt": "rain"}, 400, "negative_prompt"),
        ({"source": FRAME}, 422, "source"),
        ({"video": {"duration": 5}}, 400, "duration"),
        ({"video": {"duration": "9s"}}, 400, "duration"),
        ({"video": {"resolution": "4k"}}, 400, "resolution"),
        ({"video": {"duration": "10s", "start_frame": FRAME}}, 422, "10s"),
        ({"video": {"duration": "10s", "loop": True}}, 422, "loop"),
        ({"video": {"exr_export": True}}, 422, "hdr"),
        ({"video": {"edit": {}}}, 422, "edit"),
        ({"video": {"start_frame": {"url": "http://ex.com/a.jpg"}}}, 422, "https"),
        ({"video": {"start_frame": {"url": "https://ex.com/a", "file_id": "f"}}}, 400, "exactly one"),
        ({"video": {"start_frame": {}}}, 400, "exactly one"),
        ({"video": {"start_frame": {"data": "AAAA"}}}, 422, "media_type"),
        ({"video": {"start_frame": {"data": "AAAA", "media_type": "image/png"}}}, 422, "could not be read"),
        ({"video": {"start_frame": {"data": "***", "media_type": "image/png"}}}, 422, "base64"),
        ({"video": {"start_frame": {"file_id": "no-such"}}}, 422, "not ready"),
        ({"video": {"start_frame": {"generation_id": "no-such"}}}, 422, "not found"),
        ({"video": {"keyframes": [FRAME], "keyframe_indexes": [121]}}, 422, "from 0 to 120"),
        ({"video": {"keyframes": [FRAME], "keyframe_indexes": [0, 1]}}, 422, "length"),
        ({"video": {"keyframes": [FRAME], "keyframe_indexes": [0], "loop": True}}, 422, "exclude"),
        ({"type": "video_edit", "video": {}}, 422, "source"),
        ({"type": "video_edit", "video": {}, "source": FRAME}, 422, "media_type"),
        ({"type": "video_reframe", "video": {}, "source": FRAME}, 422, "aspect_ratio"),
        (
            {"type": "video_reframe", "video": {"resolution": "1080p"}, "aspect_ratio": "1:1"},
            422,
            "coming soon",
        ),
        (
            {"type": "video_edit", "video": {"edit": {"auto_controls": True, "strength": "flex_1"}}},
            422,
            "auto_controls",
        ),
    ],
)
async def test_a_wrong_field_is_refused_in_a_sentence_and_costs_nothing(
    twins: Twins, changes: dict[str, Any], status: int, said: str
) -> None:
    answer = await post(twins, TEXT | changes)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    assert await twins.bill() == []


async def test_keyframes_work_with_ten_seconds(twins: Twins, png: str) -> None:
    video = {"duration": "10s", "keyframes": [picture(png)] * 2, "keyframe_indexes": [0, 240]}
    answer = await post(twins, TEXT | {"video": video})
    assert (answer.status_code, answer.headers["x-api-version"]) == (201, "2026-04-01")


async def test_a_source_over_18_seconds_is_refused(twins: Twins) -> None:
    body = TEXT | {"type": "video_edit", "video": {}, "source": clip(19)}
    answer = await post(twins, body)
    assert (answer.status_code, "18 seconds" in answer.json()["detail"]) == (422, True)


async def test_an_upload_wants_its_signature_its_header_and_its_size(twins: Twins) -> None:
    wanted = {"mime_type": "image/png", "size_bytes": 3}
    started = await twins.http.post(f"{twins.url}/luma-agents/files", json=wanted, headers=KEY)
    upload, id_ = started.json()["upload"], started.json()["id"]
    early = await twins.http.post(f"{twins.url}/luma-agents/files/{id_}/complete", headers=KEY)
    assert early.status_code == 400
    right = upload["headers"]
    for url, headers, content, status in (
        (upload["url"].partition("?")[0], right, b"abc", 403),
        (upload["url"], {"Content-Type": "image/jpeg"}, b"abc", 403),
        (upload["url"], right, b"abcd", 400),
        (upload["url"], right, b"abc", 200),
    ):
        assert (await twins.http.put(url, content=content, headers=headers)).status_code == status


async def test_a_small_file_may_come_in_one_call(twins: Twins, png: str) -> None:
    content = base64.b64decode(png.partition(",")[2])
    form: Any = {"file": ("a.png", content, "image/png")}
    made = (await twins.http.post(f"{twins.url}/luma-agents/files", files=form, headers=KEY)).json()
    assert (made["state"], made["upload"], made["file"]["size_bytes"]) == ("pending", None, len(content))
    look = await twins.http.get(f"{twins.url}/luma-agents/files/{made['id']}", headers=KEY)
    assert look.json()["state"] == "ready"


async def test_a_result_link_lives_an_hour_and_a_new_look_renews_it(twins: Twins) -> None:
    async with client(twins) as luma:
        made = (await luma.generations.create(**TEXT)).id
        twins.clock.pass_(1)
        first = (await luma.generations.get(made)).output or []
        assert (await twins.http.get(first[0].url)).status_code == 200
        assert (await twins.http.get(first[0].url.partition("?")[0])).status_code == 403
        twins.clock.pass_(3601)
        assert (await twins.http.get(first[0].url)).status_code == 403
        second = (await luma.generations.get(made)).output or []
        assert (await twins.http.get(second[0].url)).status_code == 200


@pytest.mark.parametrize(
    ("fault", "error", "retry_after"),
    [
        ("no_credit", luma_agents.APIStatusError, None),
        ("rate_limit", luma_agents.RateLimitError, "7"),
        ("unavailable", luma_agents.InternalServerError, None),
    ],
)
async def test_a_refusal_has_luma_s_status(
    twins: Twins, fault: str, error: type[luma_agents.APIStatusError], retry_after: str | None
) -> None:
    await twins.control("faults", provider="luma-agents", kind=fault, seconds=7.0)
    async with client(twins) as luma:
        with pytest.raises(error) as caught:
            await luma.generations.create(**TEXT)
    assert caught.value.response.headers.get("retry-after") == retry_after
    assert caught.value.status_code == {"no_credit": 402, "rate_limit": 429, "unavailable": 503}[fault]


async def test_a_wrong_key_is_refused(twins: Twins) -> None:
    async with client(twins, "luma-api-wrong") as luma:
        with pytest.raises(luma_agents.AuthenticationError, match="Invalid API key"):
            await luma.generations.create(**TEXT)


@pytest.mark.parametrize(
    ("fault", "code"), [("fail_after_accept", "generation_failed"), ("moderation", "content_moderated")]
)
async def test_a_failure_has_its_code_and_is_free(twins: Twins, fault: str, code: str) -> None:
    await twins.control("faults", provider="luma-agents", kind=fault)
    async with client(twins) as luma:
        made = (await luma.generations.create(**TEXT)).id
        twins.clock.pass_(1)
        after = await luma.generations.get(made)
    assert (after.state, after.failure_code, after.output) == ("failed", code, None)
    assert [row["usd"] for row in await twins.bill()] == ["0"]
