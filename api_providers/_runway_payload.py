"""What Runway is sent for each task: the body of the create call, from a card, its `wire` and a resolved request.

Keys of a card's `wire`, all optional:
- `video`: the field of the video to work on (`videoUri`, `promptVideo`); `mode`: beside it, what becomes of that video
- `shape`: `pixels` (`ratio` = W:H, the default), `words` (`ratio` and `resolution` by name), `resolution` (by name only),
  `auto` (`ratio` = auto_720p), `target` (`targetAspectRatio`, only if asked); `auto`: with frames as `auto`
- `words`: what Runway calls a resolution, where it has a name of its own
- `positions`: frames always say that they are frames, because a bare picture may be taken for a reference
- `duration`: sent instead of the seconds
Source: the `*_create_params` of the official SDK runwayml 5.24.0.
"""

import re
from collections.abc import Awaitable, Callable
from math import log
from typing import Any

from api_providers._camera import prompt_with_camera
from router.contract import errors
from router.contract.card import InputMedia, ModelCard, ResolvedRequest
from router.contract.request import Task
from router.contract.words import Words, words

PATHS = {
    Task.TEXT_TO_VIDEO: "v1/text_to_video",
    Task.IMAGE_TO_VIDEO: "v1/image_to_video",
    Task.VIDEO_TO_VIDEO: "v1/video_to_video",
    Task.EXTEND: "v1/video_to_video",
    Task.UPSCALE: "v1/video_upscale",
    Task.AVATAR: "v1/character_performance",
    Task.TEXT_TO_IMAGE: "v1/text_to_image",
}
CHARACTER = "character"
"""The role of a video reference that is the character and not the performance."""
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_]{2,15}")

Place = Callable[[InputMedia], Awaitable[str]]
"""Turns an input into a URI that Runway takes; may upload, so nothing is bought before it is done."""


async def body_of(request: ResolvedRequest, card: ModelCard, place: Place) -> dict[str, Any]:
    """The body for `PATHS[request.task]`; raises InvalidRequest for what a card cannot say."""
    prompt = prompt_with_camera(request, card)
    inputs = await _inputs(request, card, place)
    body: dict[str, Any] = {"model": card.wire_id, **inputs, **_shape(request, card)}
    if prompt:
        body["promptText"] = prompt
    if "duration" in card.wire:
        body["duration"] = card.wire["duration"]
    elif card.durations:
        body["duration"] = round(request.duration)
    if card.fps:
        body["targetFramerate"] = str(request.fps)
    if card.seed and request.seed is not None:
        body["seed"] = request.seed
    if card.audio == "optional":
        body["audio"] = request.generate_audio
    if card.negative_prompt and request.negative_prompt:
        body["negativePrompt"] = request.negative_prompt
    return body | request.options


async def _inputs(request: ResolvedRequest, card: ModelCard, place: Place) -> dict[str, Any]:
    """Pictures, videos and sounds under the names of the task's endpoint."""
    match request.task:
        case Task.AVATAR:
            return await _performance(request, place)
        case Task.TEXT_TO_IMAGE:
            tagged = [await _tagged(media, place) for media in request.references]
            return {"referenceImages": tagged} if tagged else {}
        case Task.IMAGE_TO_VIDEO:
            return {"promptImage": await _frames(request, card, place), **await _references(request, place)}
        case Task.TEXT_TO_VIDEO:
            return await _references(request, place)
    source = next(media for media in request.references if media.type == "video")
    inputs: dict[str, Any] = {card.wire["video"]: await place(source)}
    if "mode" in card.wire:
        inputs["mode"] = card.wire["mode"]
    frames = {0.0: request.first_frame, 1.0: request.last_frame}
    keyframes = [{"at": at, "uri": await place(media)} for at, media in frames.items() if media]
    if keyframes:
        inputs["keyframes"] = keyframes
    return inputs | await _references(request, place, without=source)


async def _frames(request: ResolvedRequest, card: ModelCard, place: Place) -> str | list[dict[str, str]]:
    """A bare string is the first frame; with a last frame both carry their position."""
    frames = {"first": request.first_frame, "last": request.last_frame}
    placed = [{"uri": await place(media), "position": name} for name, media in frames.items() if media]
    alone = request.last_frame is None and not card.wire.get("positions")
    return placed[0]["uri"] if alone else placed


async def _references(
    request: ResolvedRequest, place: Place, *, without: InputMedia | None = None
) -> dict[str, Any]:
    """Pictures bare, videos and sounds with their type."""
    found: dict[str, Any] = {}
    names = {"image": "references", "video": "referenceVideos", "audio": "referenceAudio"}
    for media in request.references:
        if media is not without:
            kind = {} if media.type == "image" else {"type": media.type}
            found.setdefault(names[media.type], []).append({**kind, "uri": await place(media)})
    return found


async def _tagged(media: InputMedia, place: Place) -> dict[str, str]:
    """A reference picture; its role is the tag by which the prompt calls it (`@fox`)."""
    if media.role is not None and not _TAG.fullmatch(media.role):
        raise _refused(
            words(
                f"the role {media.role!r} cannot be the tag of a reference picture; "
                "use 3 to 16 letters, digits or underscores, a letter first",
                f"role {media.role!r} は参照画像のタグとして使えません。"
                "英字で始まる 3～16 文字の英数字またはアンダースコアにしてください。",
            )
        )
    return {"uri": await place(media), **({"tag": media.role} if media.role else {})}


async def _performance(request: ResolvedRequest, place: Place) -> dict[str, Any]:
    """Who acts (`character`) and whose acting it follows (`reference`), see the comment on the card."""
    videos = [media for media in request.references if media.type == "video"]
    picture = request.first_frame
    if len(videos) != (1 if picture else 2):
        raise _refused(
            words(
                "it needs one character: a first frame, or a second video with the role character "
                "after the performance video",
                "キャラクターが 1 つ必要です。開始フレームの画像、または演技の動画の次に role が character の動画を指定してください。",
            )
        )
    if videos[0].role == CHARACTER:
        raise _refused(
            words(
                "give the performance video first and the character video second",
                "1 番目に演技の動画、2 番目にキャラクターの動画を指定してください。",
            )
        )
    character = picture or videos[1]
    return {
        "character": {"type": character.type, "uri": await place(character)},
        "reference": {"type": "video", "uri": await place(videos[0])},
    }


def _refused(reason: Words) -> errors.InvalidRequest:
    return errors.InvalidRequest(reason, param="input_references")


def _shape(request: ResolvedRequest, card: ModelCard) -> dict[str, str]:
    """Size and proportions in the model's own words."""
    follows = card.aspect_from_image and request.first_frame is not None
    resolution = str(card.wire.get("words", {}).get(request.resolution, request.resolution))
    match card.wire.get("shape", "pixels"):
        case "words":
            ratio = {} if follows else {"ratio": str(request.aspect_ratio)}
            return {**ratio, "resolution": resolution}
        case "resolution":
            return {"resolution": resolution}
        case "target":
            asked = str(request.aspect_ratio)
            return {} if asked == "auto" else {"targetAspectRatio": asked}
        case "auto":
            return {"ratio": f"auto_{resolution}"}
    if follows:
        return {"ratio": f"auto_{resolution}"} if card.wire.get("auto") else {}
    return {"ratio": _pixels(request, card)} if card.sizes else {}


def _pixels(request: ResolvedRequest, card: ModelCard) -> str:
    """`W:H`; where a character video is all that shows the shape, the size nearest to it unless another was asked."""
    width, height = request.width, request.height
    if request.task is Task.AVATAR and request.first_frame is None:
        shown = request.references[-1].asset
        if shown.width and shown.height and request.aspect_ratio == card.aspect_ratios[0]:
            wanted = log(shown.width / shown.height)
            near = min(card.sizes, key=lambda size: abs(log(size.width / size.height) - wanted))
            width, height = near.width, near.height
    return f"{width}:{height}" if width and height else f"{card.sizes[0].width}:{card.sizes[0].height}"
