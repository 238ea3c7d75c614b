"""What Kling is sent in both of its APIs, against bodies written down from its documentation."""

import base64
from decimal import Decimal
from typing import Any

import pytest

from api_providers.kling import Kling
from router.catalog import Catalog
from router.contract import errors
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.api_providers.test_kling import CREATED, LEGACY_DONE, TEXT_AT, VIDEO, earlier, legacy_task
from tests.scripted_server import ScriptedServer, reply

# -- what is sent to /v1


async def sent(
    make: MakeBackend, request: Any, *before: bytes, key: str = SECRET, **options: Any
) -> tuple[str, dict[str, Any]]:
    """Path and body of the call that buys; `before` are the answers to the calls in front of it."""
    created = CREATED | {"data": {**CREATED["data"], "id": "893605"}}  # type: ignore[dict-item]
    async with ScriptedServer([*before, reply(200, created)]) as server:
        await make(Kling, server.url, key=key, **options).submit(request, key="job_7:a1")
        assert len(server.seen) == len(before) + 1
        last = server.seen[-1]
        assert last.method == "POST"
        return last.target, last.json


async def test_text_to_video_is_the_documented_body(make: MakeBackend, resolve: Resolve) -> None:
    request = resolve(
        "kling/2.6-pro", duration=10, aspect_ratio="9:16", negative_prompt="rain", generate_audio=True
    )
    assert await sent(make, request) == (
        "/v1/videos/text2video",
        {
            "model_name": "kling-v2-6",
            "prompt": "a red fox in the snow",
            "negative_prompt": "rain",
            "mode": "pro",
            "duration": "10",
            "aspect_ratio": "9:16",
            "sound": "on",
            "external_task_id": "job_7-a1",
        },
    )


async def test_image_to_video_sends_bare_base64_and_no_ratio(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    first, last = media.picture(), media.picture(colour="red")
    path, body = await sent(make, resolve("kling/3.0-pro", first=first, last=last, duration=3))
    assert path == "/v1/videos/image2video"
    images = [body.pop("image"), body.pop("image_tail")]
    assert [base64.b64decode(image, validate=True) for image in images] == [
        media.path(one.asset).read_bytes() for one in (first, last)
    ]
    assert body == {
        "model_name": "kling-v3",
        "prompt": "a red fox in the snow",
        "mode": "pro",
        "duration": "3",
        "sound": "off",
        "external_task_id": "job_7-a1",
    }


@pytest.mark.parametrize("model", ["kling/2.5-turbo-pro", "kling/2.6-std"])
async def test_a_silent_model_gets_no_word_about_sound(
    make: MakeBackend, resolve: Resolve, model: str
) -> None:
    assert "sound" not in (await sent(make, resolve(model)))[1]


@pytest.mark.parametrize(
    ("camera", "control"),
    [
        ("zoom_in", {"zoom": -5}),
        ("zoom=5", {"zoom": -5}),
        ("pan_right", {"pan": 5}),
        ("tilt=-2.5", {"tilt": -2.5}),
        ("truck_left", {"horizontal": -5}),
        ("pedestal_up", {"vertical": 5}),
        ("roll_left", {"roll": -5}),
    ],
)
async def test_one_axis_moves_in_klings_signs(
    make: MakeBackend, resolve: Resolve, camera: str, control: dict[str, float]
) -> None:
    axes = dict.fromkeys(("horizontal", "vertical", "pan", "tilt", "roll", "zoom"), 0)
    _, body = await sent(make, resolve("kling/v1-camera", camera=camera))
    assert body["camera_control"] == {"type": "simple", "config": {**axes, **control}}


async def test_a_compound_movement_goes_by_its_name_and_no_movement_goes_not_at_all(
    make: MakeBackend, resolve: Resolve
) -> None:
    _, body = await sent(make, resolve("kling/v1-camera", camera="right_turn_forward"))
    assert body["camera_control"] == {"type": "right_turn_forward"}
    _, body = await sent(make, resolve("kling/v1-camera", camera="pan=0"))
    assert "camera_control" not in body


async def test_the_motion_brush_travels_without_heads_of_data_uris(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    path = [{"x": 279, "y": 219}, {"x": 417, "y": 65}]
    masks = [{"mask": "data:image/png;base64,QUJD", "trajectories": path}]
    options = {"static_mask": "data:image/png;base64,REVG", "dynamic_masks": masks, "cfg_scale": 0.3}
    request = resolve("kling/v1-5-pro", first=media.picture(), provider_options={"kling": options})
    _, body = await sent(make, request)
    assert body["static_mask"] == "REVG"
    assert body["dynamic_masks"] == [{"mask": "QUJD", "trajectories": path}]
    assert body["cfg_scale"] == 0.3


async def test_multi_image_is_the_documented_body(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve("kling/v1-6-multi-image", references=[media.picture(), media.picture(colour="red")])
    path, body = await sent(make, request)
    assert path == "/v1/videos/multi-image2video"
    assert [set(item) for item in body.pop("image_list")] == [{"image"}, {"image"}]
    assert body == {
        "model_name": "kling-v1-6",
        "prompt": "a red fox in the snow",
        "mode": "std",
        "duration": "5",
        "aspect_ratio": "16:9",
        "external_task_id": "job_7-a1",
    }


async def test_omni_puts_frames_before_references_and_asks_a_ratio_only_without_a_first_frame(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    first, other = media.picture(), media.picture(colour="red")
    path, body = await sent(make, resolve("kling/o1-pro", first=first, references=[other], duration=5))
    assert path == "/v1/videos/omni-video"
    assert [item.get("type") for item in body["image_list"]] == ["first_frame", None]
    assert "aspect_ratio" not in body
    assert "sound" not in body
    _, body = await sent(make, resolve("kling/3.0-omni-4k", references=[other], duration=4))
    assert (body["mode"], body["duration"], body["aspect_ratio"], body["sound"]) == ("4k", "4", "16:9", "off")


async def test_an_edit_sends_a_fresh_link_to_the_earlier_clip(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve("kling/o1-edit-std", task="v2v", references=[earlier(media)])
    look = reply(200, legacy_task("succeed", **LEGACY_DONE))
    path, body = await sent(make, request, look)
    assert path == "/v1/videos/omni-video"
    video = {"video_url": VIDEO["url"], "refer_type": "base", "keep_original_sound": "no"}
    assert body == {
        "model_name": "kling-video-o1",
        "prompt": "a red fox in the snow",
        "video_list": [video],
        "mode": "std",
        "external_task_id": "job_7-a1",
    }


async def test_motion_control_is_the_documented_body(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve(
        "kling/motion-control-3.0-pro",
        task="v2v",
        first=media.picture(),
        references=[earlier(media)],
        provider_options={"kling": {"keep_original_sound": "yes"}},
    )
    path, body = await sent(make, request, reply(200, legacy_task("succeed", **LEGACY_DONE)))
    assert path == "/v1/videos/motion-control"
    assert base64.b64decode(body.pop("image_url"), validate=True)
    assert body == {
        "model_name": "kling-v3",
        "prompt": "a red fox in the snow",
        "video_url": VIDEO["url"],
        "mode": "pro",
        "character_orientation": "video",
        "keep_original_sound": "yes",
        "external_task_id": "job_7-a1",
    }


async def test_extend_wants_the_id_of_the_video_and_not_of_the_task(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve("kling/v1-6-extend", task="extend", references=[earlier(media)])
    assert await sent(make, request) == (
        "/v1/videos/video-extend",
        {"video_id": "v-1", "prompt": "a red fox in the snow", "external_task_id": "job_7-a1"},
    )


async def test_avatar_and_effects_are_the_documented_bodies(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    first = media.picture()
    request = resolve("kling/avatar-pro", task="avatar", first=first, references=[media.speech()], prompt="")
    path, body = await sent(make, request)
    assert (path, set(body)) == (
        "/v1/videos/avatar/image2video",
        {"image", "sound_file", "mode", "external_task_id"},
    )
    one = resolve("kling/effects", task="effect", effect="bullet_time_360", first=first)
    path, body = await sent(make, one)
    assert (path, body["effect_scene"], set(body["input"])) == (
        "/v1/videos/effects",
        "bullet_time_360",
        {"image"},
    )
    right = media.picture(colour="red")
    two = resolve("kling/effects-pair", task="effect", effect="hug_pro", first=first, references=[right])
    _, body = await sent(make, two)
    assert [base64.b64decode(image) for image in body["input"]["images"]] == [
        media.path(side.asset).read_bytes() for side in (first, right)
    ]


# -- lip-sync


def faces(*spans: tuple[str, int, int], units: str = "0.05") -> bytes:
    data = [{"face_id": f, "face_image": "https://x/f", "start_time": a, "end_time": b} for f, a, b in spans]
    session = {"session_id": "s-1", "final_unit_deduction": units, "face_data": data}
    return reply(200, {"code": 0, "message": "SUCCEED", "data": session})


async def test_lip_sync_puts_the_sound_where_the_longest_face_begins(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve(
        "kling/lip-sync",
        task="lip-sync",
        references=[earlier(media), media.speech(5)],
        provider_options={"kling": {"original_audio_volume": 0}},
    )
    path, body = await sent(make, request, faces(("0", 0, 900), ("1", 1000, 5200)))
    assert path == "/v1/videos/advanced-lip-sync"
    (face,) = body["face_choose"]
    assert base64.b64decode(face.pop("sound_file"), validate=True)
    assert face == {
        "face_id": "1",
        "sound_start_time": 0,
        "sound_end_time": 4000,
        "sound_insert_time": 1000,
        "original_audio_volume": 0,
    }
    assert body["session_id"] == "s-1"


@pytest.mark.parametrize("spans", [(), (("0", 0, 1999),), (("0", 3500, 5000),)])
async def test_without_two_seconds_of_a_face_nothing_is_bought(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, spans: tuple[tuple[str, int, int], ...]
) -> None:
    request = resolve("kling/lip-sync", task="lip-sync", references=[earlier(media), media.speech()])
    async with ScriptedServer([faces(*spans)]) as server:
        with pytest.raises(errors.InvalidRequest) as caught:
            await make(Kling, server.url).submit(request, key="job:a1")
        assert [seen.target for seen in server.seen] == ["/v1/videos/identify-face"]
    assert caught.value.message.en != caught.value.message.ja


async def test_the_search_for_the_face_is_part_of_the_bill(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve("kling/lip-sync", task="lip-sync", references=[earlier(media), media.speech()])
    done = legacy_task("succeed", **{**LEGACY_DONE, "final_unit_deduction": "0.5"})
    async with ScriptedServer([faces(("0", 0, 5000)), reply(200, CREATED), reply(200, done)]) as server:
        backend = make(Kling, server.url)
        operation = await backend.submit(request, key="job:a1")
        assert (await backend.poll(operation)).billed_usd == Decimal("0.077")


@pytest.mark.parametrize(
    "source",
    [{"at": TEXT_AT}, {"video_id": "v-1"}, {}],
)
async def test_an_earlier_clip_that_left_no_handle_is_refused_before_spending(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, source: dict[str, str]
) -> None:
    clip = earlier(media).model_copy(update={"source_data": source})
    extend = resolve("kling/v1-6-extend", task="extend", references=[clip])
    edit = resolve("kling/o1-edit-pro", task="v2v", references=[clip])
    async with ScriptedServer([reply(400, {"code": 1201, "message": "Task not found"})]) as server:
        for request in (extend, edit):
            if request is extend and "video_id" in source:
                continue
            with pytest.raises(errors.BackendError, match="no longer has the earlier clip"):
                await make(Kling, server.url).submit(request, key="job:a1")
        assert not [seen for seen in server.seen if seen.method == "POST"]


def test_a_clip_of_another_provider_is_a_misfit(resolve: Resolve, media: FolderMedia) -> None:
    with pytest.raises(errors.UnsupportedRequest, match="only an earlier clip made by kling"):
        resolve("kling/lip-sync", task="lip-sync", references=[media.clip(), media.speech()])


# -- what is sent to the new API


async def test_new_text_to_video_is_the_documented_body(make: MakeBackend, resolve: Resolve) -> None:
    request = resolve("kling/2.6-pro", duration=10, aspect_ratio="9:16", generate_audio=True)
    assert await sent(make, request, api="new") == (
        "/text-to-video/kling-2.6",
        {
            "prompt": "a red fox in the snow",
            "settings": {"audio": "native", "resolution": "1080p", "aspect_ratio": "9:16", "duration": 10},
            "options": {"external_task_id": "job_7-a1"},
        },
    )


async def test_new_image_to_video_sends_one_continuous_shot(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve("kling/3.0-std", first=media.picture(), last=media.picture(colour="red"), duration=7)
    path, body = await sent(make, request, api="new")
    assert path == "/image-to-video/kling-3.0"
    assert [item["type"] for item in body["contents"]] == ["prompt", "first_frame", "last_frame"]
    assert all(base64.b64decode(item["url"], validate=True) for item in body["contents"][1:])
    assert body["settings"] == {"resolution": "720p", "duration": 7, "audio": "off", "multi_shot": False}


async def test_new_omni_names_its_references_as_the_prompt_does(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve(
        "kling/3.0-omni-pro",
        prompt="<<<image_2>>> walks past",
        first=media.picture(),
        references=[media.picture(colour="red")],
    )
    path, body = await sent(make, request, api="new")
    assert path == "/omni-video/kling-3.0-omni"
    prompt, first, reference = body["contents"]
    assert prompt == {"type": "prompt", "text": "@image_2 walks past"}
    assert (first["type"], "id" in first) == ("first_frame", False)
    assert (reference["type"], reference["id"]) == ("refer_image", "image_2")
    assert body["settings"] == {"resolution": "1080p", "duration": 5, "audio": "off", "multi_shot": False}


async def test_new_motion_control_and_edit_follow_their_video(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    look = reply(200, legacy_task("succeed", **LEGACY_DONE))
    motion = resolve(
        "kling/motion-control-2.6-std", task="v2v", first=media.picture(), references=[earlier(media)]
    )
    path, body = await sent(make, motion, look, api="new")
    assert path == "/motion-control/kling-2.6"
    assert [item["type"] for item in body["contents"]] == ["prompt", "image", "video"]
    assert body["settings"] == {"resolution": "720p", "audio": "off", "character_orientation": "video"}
    options = {"kling": {"keep_original_sound": "yes"}}
    edit = resolve(
        "kling/3.0-omni-edit-pro", task="v2v", references=[earlier(media)], provider_options=options
    )
    path, body = await sent(make, edit, look, api="new")
    assert body["contents"][1] == {"type": "base_video", "url": VIDEO["url"], "id": "video_1"}
    assert body["settings"] == {"resolution": "1080p", "audio": "original", "multi_shot": False}


async def test_turbo_goes_to_the_new_api_whatever_the_setting(make: MakeBackend, resolve: Resolve) -> None:
    path, body = await sent(make, resolve("kling/3.0-turbo-pro", duration=15))
    assert path == "/text-to-video/kling-3.0-turbo"
    assert body["settings"] == {"resolution": "1080p", "duration": 15, "aspect_ratio": "16:9"}


async def test_what_only_v1_has_goes_there_even_when_the_new_api_is_preferred(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    path, body = await sent(make, resolve("kling/3.0-pro", negative_prompt="rain"), api="new")
    assert (path, body["negative_prompt"]) == ("/v1/videos/text2video", "rain")
    avatar = resolve("kling/avatar-std", task="avatar", first=media.picture(), references=[media.speech()])
    assert (await sent(make, avatar, api="new"))[0] == "/v1/videos/avatar/image2video"


# -- limits of the wire


async def test_a_file_too_large_is_refused_before_spending(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    small = media.path(media.picture().asset).read_bytes()
    large = media.keep(small + bytes(10_000_000), "image/png", 640, 360)
    request = resolve("kling/2.6-pro", first=large)
    async with ScriptedServer([reply(200, CREATED)]) as server:
        with pytest.raises(errors.BackendError, match="10 MB") as caught:
            await make(Kling, server.url).submit(request, key="job:a1")
        assert caught.value.param == "frame_images"
        assert server.seen == []
        await make(Kling, server.url, api="new").submit(request, key="job:a1")
        assert len(server.seen) == 1, "the new API takes 50 MB"


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("kling/2.5-turbo-std", {"last": True}),
        ("kling/2.6-std", {"generate_audio": True}),
        ("kling/2.6-pro", {"last": True, "generate_audio": True}),
        ("kling/2.6-pro", {"camera": "zoom_in"}),
        ("kling/3.0-4k", {"last": True}),
        ("kling/3.0-turbo-pro", {"negative_prompt": "rain"}),
        ("kling/o1-std", {"duration": 7}),
        ("kling/v1-camera", {"camera": "static"}),
        ("kling/v1-5-pro", {"last": True, "camera": "zoom_in"}),
        ("kling/v1-5-pro", {"first": True, "duration": 10, "camera": "zoom_in"}),
    ],
)
def test_what_a_model_cannot_do_is_a_misfit_before_anything_is_sent(
    resolve: Resolve, media: FolderMedia, model: str, fields: dict[str, Any]
) -> None:
    fields = dict(fields)
    if fields.pop("last", False):
        fields |= {"first": media.picture(), "last": media.picture(colour="red")}
    elif fields.pop("first", False):
        fields["first"] = media.picture()
    with pytest.raises(errors.UnsupportedRequest):
        resolve(model, **fields)


def test_retired_models_must_be_named(catalog: Catalog) -> None:
    retired = [card for card in catalog.cards.values() if card.backend == "kling" and "retired" in card.title]
    assert {card.id for card in retired} == {
        "kling/v1-6-extend",
        "kling/v1-6-multi-image",
        "kling/v1-camera",
        "kling/v1-5-pro",
    }
    assert all(card.only_when_named for card in retired)
