"""PiAPI against its twin, and against bodies written down from its documentation."""

import base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from api_providers.piapi import UPLOAD_MAX_BYTES, PiApi
from router.contract import errors
from router.contract.backend import Completed, Operation, Pending
from router.contract.card import ModelCard
from router.pricing import estimate
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

CLEAN = {"code": 0, "raw_message": "", "message": "", "detail": None}
WORKS = {
    "type": "m2v_txt2video_hq",
    "status": 99,
    "works": [
        {
            "status": 99,
            "type": "video",
            "cover": {"resource": "https://x.example/c.png", "height": 720, "width": 1280},
            "video": {
                "resource": "https://x.example/v.mp4",
                "resource_without_watermark": "https://x.example/nw.mp4",
                "height": 720,
                "width": 1280,
                "duration": 5100,
            },
        }
    ],
}
PUBLIC = {"service_mode": "public"}


def task(status: str, **changes: Any) -> dict[str, Any]:
    """The documented envelope."""
    data = {
        "task_id": "t1",
        "model": "kling",
        "task_type": "video_generation",
        "status": status,
        "config": {"service_mode": "public", "webhook_config": {"endpoint": "", "secret": ""}},
        "input": {},
        "output": {"type": "", "status": 0, "works": None},
        "meta": {
            "created_at": "2026-08-01T10:00:00Z",
            "started_at": "0001-01-01T00:00:00Z",
            "ended_at": "0001-01-01T00:00:00Z",
            "usage": {"type": "point", "frozen": 0, "consume": 0},
            "is_using_private_pool": False,
        },
        "detail": None,
        "logs": None,
        "error": CLEAN,
    }
    return {"code": 200, "message": "success", "data": data | changes}


class TestPiApi(BackendSuite):
    kind = PiApi
    twin = "piapi"
    key = SECRET
    text_model = "piapi/kling-2.6-pro"
    image_model = "piapi/kling-3.0-standard"
    tells_cost = False
    statuses: ClassVar[Mapping[str, Stands]] = {
        "pending": "queued",
        "Pending": "queued",
        "staged": "queued",
        "Staged": "queued",
        "processing": "running",
        "Processing": "running",
        "running": "running",
        "completed": "done",
        "Completed": "done",
        "success": "done",
        "succeeded": "done",
        "failed": errors.GenerationFailed,
        "Failed": errors.GenerationFailed,
        "error": errors.GenerationFailed,
        "cancelled": errors.Cancelled,
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref)

    def status_body(self, status: str) -> dict[str, Any]:
        done = self.statuses.get(status) == "done"
        return task(status, **({"output": WORKS} if done else {}))

    def dead_link(self, url: str) -> str:
        base, _, name = url.rpartition("/")
        return f"{base.rpartition('/')[0]}/0123456789abcdef/{name}"

    def source_model(self, card: ModelCard) -> str:
        return "piapi/kling-2.6-std"

    async def test_ten_seconds_of_pro_with_sound_cost_what_the_guide_says(
        self, backend: Any, resolve: Resolve, sandbox: SandboxProcess
    ) -> None:
        request = resolve("piapi/kling-2.6-pro", duration=10, generate_audio=True)
        price = estimate(backend.card(request), request)
        assert price is not None and price.usd == Decimal("1.32")
        await self.finish(backend, await backend.submit(request, key="job:a1"))
        assert sandbox.bill("piapi")[0]["usd"] == "1.32"

    async def test_points_are_kept_and_not_booked(self, backend: Any, text: Any) -> None:
        done = await self.finish(backend, await backend.submit(text, key="job:a1"))
        assert done.billed_usd is None
        assert done.details["usage"] == {"type": "point", "frozen": 0, "consume": 3_300_000}

    async def test_a_failed_task_consumed_nothing(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault("piapi", "fail_after_accept")
        operation = await backend.submit(text, key="job:a1")
        with pytest.raises(errors.GenerationFailed, match="upstream service failed") as caught:
            await self.finish(backend, operation)
        assert caught.value.billed_usd == 0

    async def test_a_running_task_is_not_cancelled(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings("piapi", render_seconds=0)
        operation = await backend.submit(text, key="job:a1")
        assert await backend.cancel(operation) is False
        assert isinstance(await backend.poll(operation), Completed)

    async def test_a_pending_task_is_cancelled_and_cost_nothing(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings("piapi", render_seconds=600)
        operation = await backend.submit(text, key="job:a1")
        assert await backend.cancel(operation) is True
        with pytest.raises(errors.Cancelled) as caught:
            await backend.poll(operation)
        assert caught.value.billed_usd == 0
        assert sandbox.bill("piapi")[0]["usd"] == "0"

    async def test_an_input_is_uploaded_before_anything_is_bought(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        body = await backend.payload(resolve("piapi/kling-2.6-pro", first=media.picture()))
        assert body["input"]["image_url"].endswith(".png")
        assert [row["path"] for row in sandbox.requests()] == ["/piapi/_host/upload/api/ephemeral_resource"]
        assert sandbox.bill("piapi") == []

    async def test_check_tells_balance_and_plan(self, backend: Any) -> None:
        facts = await backend.check()
        assert (facts["balance_usd"], facts["plan"]) == ("1000.0", "Creator")
        assert facts["credits"]["available_credits"] == 100_000

    async def test_lip_sync_of_words_speaks_the_prompt(
        self, backend: Any, resolve: Resolve, media: FolderMedia
    ) -> None:
        made = await backend.submit(resolve("piapi/kling-2.6-std"), key="job:a1")
        await self.finish(backend, made)
        clip = media.clip().model_copy(update={"source_backend": "piapi", "source_ref": made.ref})
        options = {"piapi": {"tts_timbre": "Rock-Happy", "tts_speed": 1.2}}
        request = resolve(
            "piapi/kling-lip-sync",
            task="lip-sync",
            prompt="Good morning",
            references=[clip],
            provider_options=options,
        )
        assert (await backend.payload(request))["input"] == {
            "origin_task_id": made.ref,
            "tts_text": "Good morning",
            "tts_timbre": "Rock-Happy",
            "tts_speed": 1.2,
            "local_dubbing_url": "",
        }
        assert (await self.finish(backend, await backend.submit(request, key="job:a2"))).outputs

    async def test_lip_sync_of_a_file_says_that_the_prompt_is_not_used(
        self, backend: Any, resolve: Resolve, media: FolderMedia
    ) -> None:
        made = await backend.submit(resolve("piapi/kling-2.6-std"), key="job:a1")
        await self.finish(backend, made)
        clip = media.clip().model_copy(update={"source_backend": "piapi", "source_ref": made.ref})
        request = resolve("piapi/kling-lip-sync", task="lip-sync", references=[clip, media.speech()])
        operation = await backend.submit(request, key="job:a2")
        assert "audio file" in operation.warnings[0].en

    async def test_lip_sync_without_anything_to_say_buys_nothing(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        clip = media.clip().model_copy(update={"source_backend": "piapi", "source_ref": "t1"})
        request = resolve("piapi/kling-lip-sync", task="lip-sync", prompt="", references=[clip])
        with pytest.raises(errors.UnsupportedRequest):
            await backend.submit(request, key="job:a1")
        assert sandbox.requests() == []


async def test_text_payload_is_the_documented_one(make: MakeBackend, resolve: Resolve) -> None:
    request = resolve(
        "piapi/kling-2.5-pro",
        prompt="a red kite over a salt flat",
        negative_prompt="rain",
        provider_options={"piapi": {"cfg_scale": 0.5}},
    )
    assert await make(PiApi).payload(request) == {
        "model": "kling",
        "task_type": "video_generation",
        "input": {
            "version": "2.5",
            "mode": "pro",
            "prompt": "a red kite over a salt flat",
            "negative_prompt": "rain",
            "duration": 5,
            "aspect_ratio": "16:9",
            "cfg_scale": 0.5,
        },
        "config": PUBLIC,
    }


async def test_kling_3_payload_is_the_one_of_its_page(make: MakeBackend, resolve: Resolve) -> None:
    body = await make(PiApi).payload(resolve("piapi/kling-3.0-standard", prompt="a sea"))
    assert body["input"] == {
        "prompt": "a sea",
        "duration": 5,
        "aspect_ratio": "16:9",
        "enable_audio": False,
        "prefer_multi_shots": False,
        "mode": "std",
        "version": "3.0",
    }


async def test_turbo_is_another_model(make: MakeBackend, resolve: Resolve) -> None:
    body = await make(PiApi).payload(resolve("piapi/kling-2.5-turbo-pro", camera="zoom_in"))
    assert (body["model"], body["input"]["version"]) == ("kling-turbo", "2.5-turbo")
    assert body["input"]["prompt"] == "a red fox in the snow The camera zooms in."


@pytest.mark.parametrize(
    ("camera", "control"),
    [
        (
            "pan=-10",
            {
                "type": "simple",
                "config": {"horizontal": 0, "vertical": 0, "pan": -10, "tilt": 0, "roll": 0, "zoom": 0},
            },
        ),
        ("forward_up", {"type": "forward_up"}),
    ],
)
async def test_older_versions_take_the_camera_as_an_object(
    make: MakeBackend, resolve: Resolve, camera: str, control: dict[str, Any]
) -> None:
    body = await make(PiApi).payload(resolve("piapi/kling-1.6-std", camera=camera))
    assert body["input"]["camera_control"] == control
    assert body["input"]["prompt"] == "a red fox in the snow"


async def test_the_camera_goes_with_text_only(resolve: Resolve, media: FolderMedia) -> None:
    with pytest.raises(errors.UnsupportedRequest, match="combination"):
        resolve("piapi/kling-1.6-pro", first=media.picture(), camera="zoom_in")


@pytest.mark.parametrize("model", ["piapi/kling-2.6-std", "piapi/kling-2.5-pro", "piapi/kling-2.5-turbo-pro"])
async def test_sound_needs_a_model_that_makes_it(resolve: Resolve, model: str) -> None:
    with pytest.raises(errors.UnsupportedRequest, match="no sound"):
        resolve(model, generate_audio=True)


async def test_image_payload_with_both_ends(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
) -> None:
    backend = make(PiApi, f"{sandbox.url}/piapi")
    first, last = media.picture(), media.picture(colour="red")
    body = (await backend.payload(resolve("piapi/kling-2.6-pro", first=first, last=last, duration=10)))[
        "input"
    ]
    assert body.pop("image_url") != body.pop("image_tail_url")
    assert body == {
        "version": "2.6",
        "mode": "pro",
        "prompt": "a red fox in the snow",
        "duration": 10,
        "enable_audio": False,
    }


async def test_elements_and_omni_pictures(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
) -> None:
    backend = make(PiApi, f"{sandbox.url}/piapi")
    pictures = [media.picture(), media.picture(colour="red")]
    elements = (await backend.payload(resolve("piapi/kling-1.6-std", references=pictures)))["input"][
        "elements"
    ]
    assert [set(element) for element in elements] == [{"image_url"}, {"image_url"}]
    body = await backend.payload(resolve("piapi/kling-3.0-omni-pro", references=pictures, duration=3))
    assert body["task_type"] == "omni_video_generation"
    assert len(body["input"].pop("images")) == 2
    assert body["input"] == {
        "version": "3.0",
        "prompt": "a red fox in the snow",
        "resolution": "1080p",
        "duration": 3,
        "aspect_ratio": "16:9",
        "enable_audio": False,
    }


async def test_effect_motion_and_avatar_payloads(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
) -> None:
    backend = make(PiApi, f"{sandbox.url}/piapi")
    picture = media.picture()
    effect = resolve(
        "piapi/kling-effects", task="effect", effect="squish", first=picture, prompt="", quality="high"
    )
    body = (await backend.payload(effect))["input"]
    assert body.pop("image_url").startswith("http")
    assert body == {"version": "2.6", "effect": "squish", "professional_mode": True, "duration": 5}
    motion = resolve(
        "piapi/kling-motion-control-2.6-std",
        task="video-to-video",
        first=picture,
        references=[media.clip()],
        provider_options={"piapi": {"keep_original_sound": True, "motion_direction": "video"}},
        prompt="",
    )
    body = (await backend.payload(motion))["input"]
    assert body.pop("image_url") != body.pop("video_url")
    assert body == {
        "version": "2.6",
        "mode": "std",
        "preset_motion": "",
        "motion_direction": "video",
        "keep_original_sound": True,
    }
    avatar = resolve("piapi/kling-avatar-pro", task="avatar", first=picture, references=[media.speech()])
    body = (await backend.payload(avatar))["input"]
    assert {"image_url", "local_dubbing_url", "prompt", "mode", "version"} == set(body)


async def test_extend_names_the_task_not_the_file(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    clip = media.clip().model_copy(update={"source_backend": "piapi", "source_ref": "8f3c"})
    request = resolve("piapi/kling-extend", task="extend", references=[clip])
    assert await make(PiApi).payload(request) == {
        "model": "kling",
        "task_type": "extend_video",
        "input": {"origin_task_id": "8f3c", "prompt": "a red fox in the snow"},
        "config": PUBLIC,
    }


async def test_a_foreign_clip_cannot_be_extended(resolve: Resolve, media: FolderMedia) -> None:
    clip = media.clip().model_copy(update={"source_backend": "fal", "source_ref": "8f3c"})
    with pytest.raises(errors.UnsupportedRequest, match="made by piapi"):
        resolve("piapi/kling-extend", task="extend", references=[clip])


@pytest.mark.parametrize(
    ("output", "url"),
    [
        (WORKS, "https://x.example/nw.mp4"),
        ({"works": [{"video": {"resource": "https://x.example/v.mp4"}}]}, "https://x.example/v.mp4"),
        ({"video": "https://x.example/v.mp4"}, "https://x.example/v.mp4"),
        ({"video": {"resource": "https://x.example/v.mp4"}}, "https://x.example/v.mp4"),
        ({"video": {"url": "https://x.example/v.mp4"}}, "https://x.example/v.mp4"),
        ({"video_url": "https://x.example/v.mp4"}, "https://x.example/v.mp4"),
        ({"works": None, "video": "", "video_url": "https://x.example/v.mp4"}, "https://x.example/v.mp4"),
    ],
)
async def test_the_link_is_found_in_every_shape(make: MakeBackend, output: dict[str, Any], url: str) -> None:
    async with ScriptedServer([reply(200, task("completed", output=output))]) as server:
        done = await make(PiApi, server.url).poll(Operation(ref="t1"))
    assert isinstance(done, Completed)
    assert [output.url for output in done.outputs] == [url]


@pytest.mark.parametrize("output", [None, {}, [], {"works": []}, {"video": ""}, {"works": [None]}])
async def test_a_success_without_a_link_is_looked_at_again(make: MakeBackend, output: Any) -> None:
    async with ScriptedServer([reply(200, task("completed", output=output))]) as server:
        with pytest.raises(errors.UnexpectedResponse, match="without a link"):
            await make(PiApi, server.url).poll(Operation(ref="t1"))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, errors.InvalidRequest),
        (401, errors.AuthenticationFailed),
        (402, errors.QuotaExhausted),
        (403, errors.BackendError),
        (429, errors.RateLimited),
        (500, errors.OutcomeUnknown),
        (0, errors.OutcomeUnknown),
    ],
)
async def test_an_error_inside_200_has_its_name(
    make: MakeBackend, resolve: Resolve, code: int, error: type[errors.GatewayError]
) -> None:
    body = {"code": code, "data": None, "message": "no"}
    async with ScriptedServer([reply(200, body)]) as server:
        with pytest.raises(error) as caught:
            await make(PiApi, server.url).submit(resolve("piapi/kling-2.6-pro"), key="job:a1")
        assert type(caught.value) is error
        assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("usage", "billed"),
    [
        ({"type": "point", "frozen": 0, "consume": 0}, Decimal(0)),
        ({"type": "point", "frozen": 0, "consume": 3_300_000}, None),
        ({"type": "point", "frozen": 3_300_000, "consume": 0}, None),
        (None, None),
    ],
)
async def test_a_failure_is_free_only_where_no_point_is_held(
    make: MakeBackend, usage: Any, billed: Decimal | None
) -> None:
    error = CLEAN | {"code": 10000, "message": "task failed", "raw_message": "face not found"}
    async with ScriptedServer([reply(200, task("failed", meta={"usage": usage}, error=error))]) as server:
        with pytest.raises(errors.GenerationFailed, match="task failed; face not found") as caught:
            await make(PiApi, server.url).poll(Operation(ref="t1"))
    assert caught.value.billed_usd == billed


async def test_a_lost_task_inside_200_is_lost(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200, {"code": 404, "data": None, "message": "not found"})]) as server:
        with pytest.raises(errors.OperationLost):
            await make(PiApi, server.url).poll(Operation(ref="t1"))


@pytest.mark.parametrize(
    ("answer", "agreed"),
    [
        (reply(200, task("cancelled")), True),
        (reply(200, {"code": 200, "data": None, "message": "success"}), True),
        (reply(200, task("processing")), False),
        (reply(200, task("completed")), False),
        (reply(400, {"code": 400, "data": None, "message": "not pending"}), False),
        (reply(200, {"code": 400, "data": None, "message": "not pending"}), False),
        (reply(403, {"code": 403, "data": None, "message": "not pending"}), False),
        (reply(404, {"code": 404, "data": None, "message": "no"}), False),
    ],
)
async def test_a_cancel_is_agreed_to_or_refused(make: MakeBackend, answer: bytes, agreed: bool) -> None:
    async with ScriptedServer([answer]) as server:
        assert await make(PiApi, server.url).cancel(Operation(ref="t/1")) is agreed
        (seen,) = server.seen
    assert (seen.method, seen.target) == ("DELETE", "/api/v1/task/t%2F1")
    assert seen.headers["x-api-key"] == SECRET


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, errors.Unavailable), (429, errors.RateLimited), (401, errors.AuthenticationFailed)],
)
async def test_a_cancel_that_did_not_get_through_is_an_error(
    make: MakeBackend, status: int, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([reply(status, {"code": status, "data": None, "message": "no"})]) as server:
        with pytest.raises(error):
            await make(PiApi, server.url).cancel(Operation(ref="t1"))


async def test_a_live_task_is_pending_at_its_pace(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200, task("staged"))]) as server:
        state = await make(PiApi, server.url, poll_after=5.0).poll(Operation(ref="t1"))
    assert state == Pending(poll_after=5.0, queued=True)


@pytest.mark.parametrize(
    "answer",
    [
        {"code": 200, "data": {"url": "https://img.example/a.png"}, "message": "success"},
        {"url": "https://img.example/a.png"},
    ],
)
async def test_an_upload_is_raw_base64_with_the_key_and_read_in_both_forms(
    make: MakeBackend, media: FolderMedia, answer: dict[str, Any]
) -> None:
    picture = media.picture()
    async with ScriptedServer([reply(200, answer)]) as server:
        assert await make(PiApi, server.url).place(picture) == "https://img.example/a.png"
        (seen,) = server.seen
    assert (seen.target, seen.headers["x-api-key"]) == ("/_host/upload/api/ephemeral_resource", SECRET)
    assert seen.json["file_name"] == f"{picture.asset.id[:16]}.png"
    assert base64.b64decode(seen.json["file_data"]) == media.path(picture.asset).read_bytes()


async def test_uploads_go_to_the_vendors_own_host(make: MakeBackend) -> None:
    backend = make(PiApi, sandbox=False)
    assert backend._bases == {"": "https://api.piapi.ai", "upload": "https://upload.theapi.app"}


async def test_a_plan_without_uploads_is_said_so(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve("piapi/kling-2.6-pro", first=media.picture())
    async with ScriptedServer([reply(403, {"code": 403, "data": None, "message": "plan"})]) as server:
        with pytest.raises(errors.BackendError, match="Creator") as caught:
            await make(PiApi, server.url).submit(request, key="job:a1")
        assert len(server.seen) == 1
    assert (type(caught.value), caught.value.param) == (errors.BackendError, "frame_images")


@pytest.mark.parametrize(("size", "mime"), [(UPLOAD_MAX_BYTES + 1, "image/png"), (9, "image/gif")])
async def test_a_file_the_upload_does_not_take_is_refused_at_once(
    make: MakeBackend, media: FolderMedia, size: int, mime: str
) -> None:
    with pytest.raises(errors.BackendError, match="10 MB"):
        await make(PiApi).place(media.keep(bytes(size), mime))
