"""What Runway is sent: against the request types of its SDK, and field by field for each task."""

import importlib
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter
from runwayml._utils import maybe_transform
from typing_extensions import get_type_hints

from api_providers._runway_payload import PATHS
from api_providers.runway import Runway
from router.contract import errors
from router.contract.card import InputMedia, ModelCard
from router.contract.request import Task
from tests.api_providers.conftest import FolderMedia, MakeBackend, Resolve


def _requests(card: ModelCard, task: Task, media: FolderMedia) -> Iterator[dict[str, Any]]:
    """Fields of requests that together use what the card has for a task."""
    given: dict[str, Callable[[], InputMedia]] = {
        "image": media.picture,
        "video": media.clip,
        "audio": media.speech,
    }
    needs = {"video"} if "video" in card.references and task is not Task.TEXT_TO_VIDEO else set()
    needs |= {need for need in card.needs if need in given}
    plain: dict[str, Any] = {"task": task, "references": [given[kind]() for kind in sorted(needs)]}
    if task in {Task.IMAGE_TO_VIDEO, Task.AVATAR}:
        plain["first"] = media.picture()
    if task is Task.IMAGE_TO_VIDEO:
        plain["references"] = []
    yield plain
    if task in {Task.IMAGE_TO_VIDEO, Task.VIDEO_TO_VIDEO} and card.last_frame:
        yield {**plain, "first": media.picture(), "last": media.picture(colour="red")}
    every = [given[kind]() for kind, most in card.references.items() for _ in range(most)]
    if every and task is not Task.AVATAR:
        yield {**plain, "references": every[-20:]}  # of one request of ours
    if card.camera != "none":
        yield {**plain, "camera": "zoom_in"}
    for resolution in card.resolutions[1:]:
        yield {**plain, "resolution": resolution}
    for ratio in card.aspect_ratios[1:]:
        yield {**plain, "aspect_ratio": ratio}


async def test_every_payload_fits_the_types_of_the_official_sdk(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    backend = make(Runway)
    checked: set[tuple[str, Task]] = set()
    for card in backend.config.cards.values():
        for task in card.tasks:
            for fields in _requests(card, task, media):
                try:
                    request = resolve(card.id, **fields)
                except errors.UnsupportedRequest as error:
                    assert "combination" in str(error) or "proportions" in str(error), f"{card.id}: {error}"
                    continue
                _fits(PATHS[task], await backend.payload(request))
                checked.add((card.id, task))
    assert checked == {(card.id, task) for card in backend.config.cards.values() for task in card.tasks}


def _fits(path: str, payload: dict[str, Any]) -> None:
    """Every field is one of this model's, with a value of its type, and the SDK would send the same body."""
    module = importlib.import_module(f"runwayml.types.{path.removeprefix('v1/')}_create_params")
    union = getattr(module, module.__all__[0])
    for params in typing.get_args(union) or (union,):
        hints = get_type_hints(params)
        if payload["model"] in typing.get_args(hints["model"]):
            break
    else:
        raise AssertionError(f"{path} does not know {payload['model']}")
    names = {_camel(name): name for name in hints}
    assert set(payload) <= set(names), (payload["model"], sorted(set(payload) - set(names)))
    snake = {names[key]: value for key, value in payload.items()}
    for value in TypeAdapter(params).validate_python(snake).values():
        if not isinstance(value, str | dict) and hasattr(value, "__next__"):
            list(value)  # pydantic looks at the elements of an Iterable only when they are taken
    assert maybe_transform(snake, params) == payload


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


async def test_text_to_video_payload_is_the_documented_one_with_camera_words_last(
    make: MakeBackend, resolve: Resolve
) -> None:
    request = resolve(
        "runway/gen4.5", prompt="雪の中の狐", duration=4, aspect_ratio="9:16", camera={"preset": "orbit_left"}
    )
    payload = await make(Runway).payload(request)
    assert payload == {
        "model": "gen4.5",
        "promptText": "雪の中の狐 The camera orbits to the left around the subject.",
        "duration": 4,
        "ratio": "720:1280",
        "seed": 7,
    }


async def test_image_to_video_payload_is_the_documented_one(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    first, last = media.picture(), media.picture(colour="red")
    request = resolve(
        "runway/veo3.1",
        first=first,
        last=last,
        duration=6,
        resolution="1080p",
        generate_audio=False,
        negative_prompt="rain",
        seed=0,
        camera="pan=-9",
    )
    payload = await make(Runway).payload(request)
    images = payload.pop("promptImage")
    assert payload == {
        "model": "veo3.1",
        "promptText": "a red fox in the snow The camera pans left quickly.",
        "duration": 6,
        "ratio": "1920:1080",
        "seed": 0,
        "audio": False,
        "negativePrompt": "rain",
    }
    assert [image["position"] for image in images] == ["first", "last"]
    assert all(image["uri"].startswith("data:image/png;base64,") for image in images)


async def test_a_prompt_that_the_camera_makes_too_long_is_refused_before_spending(
    make: MakeBackend, resolve: Resolve
) -> None:
    # 500 emoji are 1000 UTF-16 units: the prompt alone just fits.
    request = resolve("runway/gen4.5", prompt="\U0001f98a" * 500, camera="zoom_in")
    with pytest.raises(errors.UnsupportedRequest) as caught:
        await make(Runway).submit(request, key="job:a1")
    assert [misfit.field for misfit in caught.value.misfits] == ["camera"]


async def test_from_text_gen4_5_takes_two_of_its_six_ratios(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    with pytest.raises(errors.UnsupportedRequest) as caught:
        resolve("runway/gen4.5", aspect_ratio="1:1")
    assert [misfit.field for misfit in caught.value.misfits] == ["aspect_ratio"]
    square = resolve("runway/gen4.5", aspect_ratio="1:1", first=media.picture(500, 500))
    assert (await make(Runway).payload(square))["ratio"] == "960:960"


async def test_a_clip_is_extended_by_the_seconds_asked_for(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve(
        "runway/seedance2_5-extend", task="extend", prompt="it jumps", duration=7, references=[media.clip()]
    )
    payload = await make(Runway).payload(request)
    assert payload.pop("promptVideo").startswith("data:video/mp4;base64,")
    assert payload == {
        "model": "seedance2_5",
        "promptText": "it jumps",
        "mode": "extend",
        "duration": 7,
        "audio": False,
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("model", "field", "rest"),
    [
        ("runway/aleph2", "videoUri", {"seed": 7}),
        (
            "runway/seedance2",
            "promptVideo",
            {"seed": 7, "audio": False, "duration": 5, "ratio": "1280:720"},
        ),
        (
            "runway/seedance2_5-edit",
            "promptVideo",
            {"seed": 7, "audio": False, "duration": "auto", "mode": "edit"},
        ),
        ("runway/gemini_omni_flash-edit", "videoUri", {}),
        ("runway/gemini_omni_flash_1.1-edit", "videoUri", {"mode": "edit"}),
        (
            "runway/gemini_omni_flash_1.1",
            "videoUri",
            {"mode": "reference", "duration": 5, "ratio": "1280:720"},
        ),
        ("runway/klingO3_pro-edit", "promptVideo", {}),
        ("runway/kling_4-edit", "videoUri", {"ratio": "auto_720p"}),
        ("runway/hailuo3", "promptVideo", {"duration": 5, "ratio": "16:9", "resolution": "768p"}),
    ],
)
async def test_a_video_is_edited_with_the_fields_of_its_model(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, model: str, field: str, rest: dict[str, Any]
) -> None:
    payload = await make(Runway).payload(resolve(model, task="v2v", prompt="rain", references=[media.clip()]))
    assert payload.pop(field).startswith("data:video/mp4;base64,")
    wire_id = model.partition("/")[2].removesuffix("-edit")
    assert payload == {"model": wire_id, "promptText": "rain", **rest}


async def test_frames_are_keyframes_of_an_edited_video_and_a_ratio_paints_around_it(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve(
        "runway/aleph2",
        task="v2v",
        references=[media.clip()],
        last=media.picture(),
        aspect_ratio="21:9",
    )
    payload = await make(Runway).payload(request)
    assert [frame["at"] for frame in payload["keyframes"]] == [1.0]
    assert payload["targetAspectRatio"] == "21:9"
    assert "ratio" not in payload


@pytest.mark.parametrize(
    ("model", "resolution", "shape"),
    [
        ("runway/wan3", "480p", {"ratio": "auto_480p"}),
        ("runway/kling_4", "1080p", {"ratio": "auto_1080p"}),
        ("runway/hailuo3", "2k", {"resolution": "2k"}),
        ("runway/h3_max", "480p", {"resolution": "480p"}),
        ("runway/kling2.5_turbo_pro", "1080p", {}),
        ("runway/seedance2", "4k", {"ratio": "3840:2160"}),
    ],
)
async def test_each_model_has_its_own_words_for_the_size_of_a_clip_from_a_picture(
    make: MakeBackend,
    resolve: Resolve,
    media: FolderMedia,
    model: str,
    resolution: str,
    shape: dict[str, str],
) -> None:
    payload = await make(Runway).payload(resolve(model, first=media.picture(), resolution=resolution))
    assert {key: value for key, value in payload.items() if key in {"ratio", "resolution"}} == shape


async def test_a_frame_says_that_it_is_one_where_a_bare_picture_may_be_a_reference(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    backend = make(Runway)
    bare = (await backend.payload(resolve("runway/gen4_turbo", first=media.picture())))["promptImage"]
    assert bare.startswith("data:image/png;base64,")
    (frame,) = (await backend.payload(resolve("runway/seedance2", first=media.picture())))["promptImage"]
    assert frame["position"] == "first"


async def test_references_go_by_their_kind(make: MakeBackend, resolve: Resolve, media: FolderMedia) -> None:
    given = [media.picture(), media.clip(), media.speech(), media.picture(colour="red")]
    backend = make(Runway)
    payload = await backend.payload(resolve("runway/seedance2", references=given))
    assert [list(item) for item in payload["references"]] == [["uri"], ["uri"]]
    assert [item["type"] for item in payload["referenceVideos"]] == ["video"]
    assert [item["type"] for item in payload["referenceAudio"]] == ["audio"]
    edited = await backend.payload(resolve("runway/seedance2", task="v2v", references=given))
    assert "referenceVideos" not in edited and len(edited["references"]) == 2
    framed = resolve("runway/klingO3_pro", first=media.picture(), references=given[:1])
    assert len((await backend.payload(framed))["references"]) == 1


@pytest.mark.parametrize("model", ["runway/seedance2", "runway/hailuo3", "runway/wan3"])
def test_frames_and_references_are_not_mixed(resolve: Resolve, media: FolderMedia, model: str) -> None:
    with pytest.raises(errors.UnsupportedRequest, match="not possible"):
        resolve(model, first=media.picture(), references=[media.picture(colour="red")])


def _character(media: FolderMedia, width: int, height: int) -> InputMedia:
    clip = media.clip(4)
    asset = clip.asset.model_copy(update={"width": width, "height": height})
    return clip.model_copy(update={"asset": asset, "role": "character"})


async def test_a_picture_acts_as_the_video_does(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve(
        "runway/act_two",
        task="avatar",
        prompt="",
        first=media.picture(360, 640),
        references=[media.clip()],
        provider_options={"runway": {"expressionIntensity": 4}},
    )
    payload = await make(Runway).payload(request)
    assert payload.pop("character")["uri"].startswith("data:image/png")
    assert payload.pop("reference")["uri"].startswith("data:video/mp4")
    assert payload == {"model": "act_two", "ratio": "720:1280", "seed": 7, "expressionIntensity": 4}
    assert request.duration == 5


@pytest.mark.parametrize(("asked", "ratio"), [(None, "720:1280"), ("1:1", "960:960")])
async def test_a_video_acts_as_the_video_before_it_does(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, asked: str | None, ratio: str
) -> None:
    both = [media.clip(), _character(media, 720, 1280)]
    request = resolve("runway/act_two", task="avatar", references=both, aspect_ratio=asked)
    payload = await make(Runway).payload(request)
    assert (payload["character"]["type"], payload["reference"]["type"]) == ("video", "video")
    assert payload["character"]["uri"] != payload["reference"]["uri"]
    assert payload["ratio"] == ratio


async def test_an_unclear_character_is_refused_before_spending(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    clip, character = media.clip(), _character(media, 1280, 720)
    for first, given in ((None, [clip]), (None, [character, clip]), (media.picture(), [clip, character])):
        request = resolve("runway/act_two", task="avatar", first=first, references=given)
        with pytest.raises(errors.InvalidRequest) as caught:
            await make(Runway).submit(request, key="job:a1")
        assert (caught.value.param, caught.value.backend) == ("input_references", "runway")
        assert caught.value.text("ja").endswith("。")


async def test_an_upscale_is_asked_for_in_runways_words(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    model = "runway/magnific_video_upscaler_creative"
    request = resolve(
        model,
        task="upscale",
        references=[media.clip()],
        resolution="1080p",
        provider_options={"runway": {"creativity": 20}},
    )
    payload = await make(Runway).payload(request)
    del payload["videoUri"]
    assert payload == {
        "model": "magnific_video_upscaler_creative",
        "resolution": "1k",
        "creativity": 20,
    }
    with pytest.raises(errors.UnsupportedRequest, match="fpsBoost"):
        resolve(
            model,
            task="upscale",
            references=[media.clip()],
            provider_options={"runway": {"fpsBoost": True}},
        )


async def test_a_frame_rate_is_text(make: MakeBackend, resolve: Resolve, media: FolderMedia) -> None:
    request = resolve("runway/enhance_frame_rate", task="upscale", references=[media.clip()], fps=120)
    payload = await make(Runway).payload(request)
    del payload["videoUri"]
    assert payload == {"model": "enhance_frame_rate", "targetFramerate": "120"}


async def test_a_reference_picture_is_called_by_its_role(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    fox = media.picture().model_copy(update={"role": "fox"})
    request = resolve(
        "runway/gen4_image_turbo", task="t2i", prompt="@fox at sea", references=[fox, media.picture(64, 64)]
    )
    payload = await make(Runway).payload(request)
    assert [item.get("tag") for item in payload.pop("referenceImages")] == ["fox", None]
    assert payload == {
        "model": "gen4_image_turbo",
        "promptText": "@fox at sea",
        "ratio": "1280:720",
        "seed": 7,
    }


@pytest.mark.parametrize("role", ["ox", "2nd_fox", "a-b-c", "x" * 17])
async def test_a_role_that_is_no_tag_is_refused_before_spending(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, role: str
) -> None:
    named = media.picture().model_copy(update={"role": role})
    request = resolve("runway/gen4_image", task="t2i", references=[named])
    with pytest.raises(errors.InvalidRequest, match=role):
        await make(Runway).submit(request, key="job:a1")


def test_gen4_image_turbo_needs_a_picture(resolve: Resolve) -> None:
    with pytest.raises(errors.UnsupportedRequest, match="reference image"):
        resolve("runway/gen4_image_turbo", task="t2i")
