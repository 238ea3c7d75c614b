"""The two request shapes of Kling out of one resolved request: the flat bodies of `/v1`, and contents with settings.

Pure: inputs come in as the wire takes them (`Inputs`). Sources: mirrors of kling.ai/document-api; the official
Vercel provider (@ai-sdk/klingai) sends the same `/v1` fields.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from api_providers._kling_camera import kling_control
from router.contract.card import ModelCard, ResolvedRequest
from router.contract.request import Task

_REFERENCE = re.compile(r"<<<((?:image|video)_\d+)>>>")
_DATA_URI = re.compile(r"^data:[\w/+.;=-]*;base64,")


@dataclass(frozen=True)
class Face:
    """Where a sound goes in a lip-sync; times in milliseconds."""

    session_id: str
    face_id: str
    sound_end: int
    insert_at: int


@dataclass(frozen=True)
class Inputs:
    """Images and sounds as bare base64 (no head of a data URI), an earlier clip by its link or its id there."""

    first: str | None = None
    last: str | None = None
    images: tuple[str, ...] = ()
    sound: str | None = None
    video_url: str | None = None
    video_id: str | None = None
    face: Face | None = None


def legacy_kind(request: ResolvedRequest, card: ModelCard) -> str:
    """The part of a legacy path behind `v1/videos/`."""
    of_task = "text2video" if request.task is Task.TEXT_TO_VIDEO else "image2video"
    return str(card.wire.get("kind", of_task))


def legacy_body(request: ResolvedRequest, card: ModelCard, given: Inputs, external_id: str) -> dict[str, Any]:
    """The body of a `/v1/videos/...` create call; what is None is not sent."""
    body = _LEGACY[legacy_kind(request, card)](request, card, given)
    body["external_task_id"] = external_id
    return {name: value for name, value in body.items() if value is not None}


def new_call(
    request: ResolvedRequest, card: ModelCard, given: Inputs, external_id: str
) -> tuple[str, dict[str, Any]]:
    """Path and body in the new API."""
    prompt = _REFERENCE.sub(r"@\1", request.prompt)
    body: dict[str, Any] = {
        "settings": _settings(request, card),
        "options": {"external_task_id": external_id},
    }
    kind = card.wire.get("kind")
    if kind is None and request.task is Task.TEXT_TO_VIDEO:
        return f"text-to-video/{card.wire['new']}", {"prompt": prompt, **body}
    contents = [{"type": "prompt", "text": prompt}] if prompt else []
    if kind == "motion-control":
        contents += [_item("image", given.first), _item("video", given.video_url)]
    else:
        contents += [
            _item(name, url)
            for name, url in (("first_frame", given.first), ("last_frame", given.last))
            if url is not None
        ]
        # Counted as in the vendor's examples: the frames in front of the references.
        before = len([frame for frame in (given.first, given.last) if frame is not None])
        contents += [
            {**_item("refer_image", image), "id": f"image_{number}"}
            for number, image in enumerate(given.images, before + 1)
        ]
        if given.video_url is not None:
            contents.append({**_item("base_video", given.video_url), "id": "video_1"})
    return f"{kind or 'image-to-video'}/{card.wire['new']}", {"contents": contents, **body}


def _generate(request: ResolvedRequest, card: ModelCard, given: Inputs) -> dict[str, Any]:
    """text2video and image2video; the ratio of the latter follows the image."""
    text = request.task is Task.TEXT_TO_VIDEO
    return {
        "model_name": card.wire_id,
        "prompt": request.prompt or None,
        "negative_prompt": request.negative_prompt,
        "image": given.first,
        "image_tail": given.last,
        "mode": card.wire["mode"],
        "duration": f"{request.duration:g}",
        "aspect_ratio": request.aspect_ratio if text else None,
        "sound": _sound(request, card),
        "camera_control": kling_control(request.camera) if request.camera else None,
        **_bare(request.options),
    }


def _multi_image(request: ResolvedRequest, card: ModelCard, given: Inputs) -> dict[str, Any]:
    return {
        "model_name": card.wire_id,
        "image_list": [{"image": image} for image in given.images],
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "mode": card.wire["mode"],
        "duration": f"{request.duration:g}",
        "aspect_ratio": request.aspect_ratio,
    }


def _omni(request: ResolvedRequest, card: ModelCard, given: Inputs) -> dict[str, Any]:
    """O1 and 3.0 Omni: from text, frames and references, or the edit of a video, which keeps its length and ratio."""
    edit = given.video_url is not None
    images: list[dict[str, str]] = []
    if given.first is not None:
        images.append({"image_url": given.first, "type": "first_frame"})
    if given.last is not None:
        images.append({"image_url": given.last, "type": "end_frame"})
    images += [{"image_url": image} for image in given.images]
    video = {
        "video_url": given.video_url,
        "refer_type": "base",
        "keep_original_sound": request.options.get("keep_original_sound", "no"),
    }
    return {
        "model_name": card.wire_id,
        "prompt": request.prompt,
        "image_list": images or None,
        "video_list": [video] if edit else None,
        "mode": card.wire["mode"],
        "duration": None if edit else f"{request.duration:g}",
        "aspect_ratio": None if edit or given.first is not None else request.aspect_ratio,
        "sound": _sound(request, card),
    }


def _motion(request: ResolvedRequest, card: ModelCard, given: Inputs) -> dict[str, Any]:
    return {
        "model_name": card.wire_id,
        "prompt": request.prompt or None,
        "image_url": given.first,
        "video_url": given.video_url,
        "mode": card.wire["mode"],
        "character_orientation": request.options.get("character_orientation", "video"),
        "keep_original_sound": request.options.get("keep_original_sound", "no"),
    }


def _extend(request: ResolvedRequest, card: ModelCard, given: Inputs) -> dict[str, Any]:
    return {
        "video_id": given.video_id,
        "prompt": request.prompt or None,
        "negative_prompt": request.negative_prompt,
        **request.options,
    }


def _lip_sync(request: ResolvedRequest, card: ModelCard, given: Inputs) -> dict[str, Any]:
    """One face, the whole sound from its beginning; the volumes are the caller's options."""
    face = given.face
    assert face is not None, "the client identifies the face first"
    choice = {
        "face_id": face.face_id,
        "sound_file": given.sound,
        "sound_start_time": 0,
        "sound_end_time": face.sound_end,
        "sound_insert_time": face.insert_at,
        **request.options,
    }
    return {"session_id": face.session_id, "face_choose": [choice]}


def _avatar(request: ResolvedRequest, card: ModelCard, given: Inputs) -> dict[str, Any]:
    return {
        "image": given.first,
        "sound_file": given.sound,
        "prompt": request.prompt or None,
        "mode": card.wire["mode"],
    }


def _effects(request: ResolvedRequest, card: ModelCard, given: Inputs) -> dict[str, Any]:
    """One image, or two: the first frame on the left, the reference on the right."""
    inputs: dict[str, Any] = (
        {"images": [given.first, *given.images]} if given.images else {"image": given.first}
    )
    return {"effect_scene": request.effect, "input": inputs}


_Make = Callable[[ResolvedRequest, ModelCard, Inputs], dict[str, Any]]
_LEGACY: Mapping[str, _Make] = {
    "text2video": _generate,
    "image2video": _generate,
    "multi-image2video": _multi_image,
    "omni-video": _omni,
    "motion-control": _motion,
    "video-extend": _extend,
    "advanced-lip-sync": _lip_sync,
    "avatar/image2video": _avatar,
    "effects": _effects,
}


def _settings(request: ResolvedRequest, card: ModelCard) -> dict[str, Any]:
    """Every switch of sound and of several shots is sent: `multi_shot` is on where it is absent."""
    edit = request.task is Task.VIDEO_TO_VIDEO
    settings: dict[str, Any] = {"resolution": request.resolution}
    if not edit:
        settings["duration"] = round(request.duration)
    if not edit and request.first_frame is None:
        settings["aspect_ratio"] = request.aspect_ratio
    if card.wire.get("audio") and edit:
        settings["audio"] = "original" if request.options.get("keep_original_sound") == "yes" else "off"
    elif card.wire.get("audio"):
        settings["audio"] = "native" if request.generate_audio else "off"
    if card.wire.get("multi_shot"):
        settings["multi_shot"] = False
    if card.wire.get("kind") == "motion-control":
        settings["character_orientation"] = request.options.get("character_orientation", "video")
    return settings


def _item(kind: str, url: str | None) -> dict[str, Any]:
    return {"type": kind, "url": url}


def _sound(request: ResolvedRequest, card: ModelCard) -> str | None:
    if card.audio != "optional":
        return None
    return "on" if request.generate_audio else "off"


def _bare(options: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's own masks without the head of a data URI, which Kling does not take."""
    bare = dict(options)
    if isinstance(bare.get("static_mask"), str):
        bare["static_mask"] = _DATA_URI.sub("", bare["static_mask"])
    if isinstance(bare.get("dynamic_masks"), list):
        bare["dynamic_masks"] = [
            {**mask, "mask": _DATA_URI.sub("", mask["mask"])}
            if isinstance(mask, dict) and isinstance(mask.get("mask"), str)
            else mask
            for mask in bare["dynamic_masks"]
        ]
    return bare
