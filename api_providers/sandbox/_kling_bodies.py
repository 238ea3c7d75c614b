"""What the Kling twin makes of a body of `/v1`: a refusal, or model, units and the clip that will come."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any, NamedTuple

from api_providers.sandbox import _kling_inputs as inputs
from api_providers.sandbox._bench import Clip
from api_providers.sandbox._kling_inputs import Refused
from api_providers.sandbox._kling_models import (
    AVATAR,
    BOTH,
    EFFECT,
    EXTEND,
    EXTENDABLE,
    FACE_SEARCH,
    LIP_SYNC_PER_5_S,
    MODELS,
    PAIRS,
    PIXELS,
    RESOLUTION,
    WITHDRAWN,
    Model,
    units_per_second,
)

RATIOS = ("16:9", "9:16", "1:1")
COMMON = ("external_task_id", "callback_url", "watermark_info")
LONGEST_VIDEO_S = 15.5


class Bought(NamedTuple):
    """One accepted body. `model` also names the pool of places in which it counts."""

    model: str
    units: Decimal
    clip: Clip


class Source(NamedTuple):
    """An earlier clip of this account."""

    model: str
    seconds: float


class FaceSearch(NamedTuple):
    """A session of `identify-face`: of a video that long, with the units that the search took."""

    seconds: float
    units: Decimal


@dataclass(frozen=True)
class Shelf:
    """What the twin knows of earlier calls: clips by id, lengths by link, face searches by session."""

    clip: Callable[[str], Source | None]
    seconds: Callable[[str], float]
    session: Callable[[str], FaceSearch | None]


_Body = Mapping[str, Any]
_GENERATE = (
    *("model_name", "prompt", "negative_prompt", "cfg_scale", "mode", "aspect_ratio", "duration", "sound"),
    *("camera_control", "multi_shot", "shot_type", "multi_prompt", "voice_list", *COMMON),
)


def text2video(body: _Body, shelf: Shelf) -> Bought:
    """From text alone."""
    inputs.known(body, _GENERATE)
    name, model, mode, seconds, sound = _common(body, image=False)
    inputs.text(body, "prompt", 2500, required=True)
    ratio = inputs.word(body, "aspect_ratio", RATIOS, "16:9")
    if "camera_control" in body:
        if model.camera != "text" or mode != "std" or seconds != 5:
            raise Refused("Invalid parameter: camera_control is not supported by the current model")
        inputs.camera(body["camera_control"], only_simple=False)
    return _made(name, mode, seconds, sides(ratio), body, sound=sound)


def image2video(body: _Body, shelf: Shelf) -> Bought:
    """From frames; a ratio is ignored, as the ComfyUI node sends one."""
    inputs.known(body, (*_GENERATE, "image", "image_tail", "element_list", "static_mask", "dynamic_masks"))
    name, model, mode, seconds, sound = _common(body, image=True)
    inputs.text(body, "prompt", 2500)
    sizes = [inputs.image(body[key], key) for key in ("image", "image_tail") if key in body]
    if not sizes:
        raise Refused("Invalid parameter: image and image_tail must not both be empty")
    brush = "static_mask" in body or "dynamic_masks" in body
    if sum(("image_tail" in body, brush, "camera_control" in body)) > 1:
        raise Refused("Invalid parameter: image_tail, masks and camera_control exclude each other")
    if "image_tail" in body and (mode not in model.tail or seconds not in model.tail_seconds or sound):
        raise Refused("Invalid parameter: image_tail is not supported by the current model")
    if "camera_control" in body:
        if model.camera != "image" or mode != "pro" or seconds != 5:
            raise Refused("Invalid parameter: camera_control is not supported by the current model")
        inputs.camera(body["camera_control"], only_simple=True)
    if brush:
        if mode not in model.brush or seconds != 5:
            raise Refused("Invalid parameter: the motion brush is not supported by the current model")
        inputs.masks(body)
    return _made(name, mode, seconds, sizes[0], body, sound=sound)


def multi_image(body: _Body, shelf: Shelf) -> Bought:
    """From up to four reference images."""
    allowed = ("model_name", "image_list", "prompt", "negative_prompt", "mode", "duration", "aspect_ratio")
    inputs.known(body, (*allowed, "cfg_scale", *COMMON))
    name = inputs.word(body, "model_name", ("kling-v1-6",), "kling-v1-6")
    images = objects(body, "image_list", 4)
    if not images:
        raise Refused("Invalid parameter: image_list must not be empty")
    for item in images:
        inputs.image(item.get("image"), "image_list.image")
    inputs.text(body, "prompt", 2500, required=True)
    inputs.text(body, "negative_prompt", 2500)
    mode = inputs.word(body, "mode", BOTH, "std")
    seconds = int(inputs.word(body, "duration", ("5", "10"), "5"))
    ratio = inputs.word(body, "aspect_ratio", RATIOS, "16:9")
    return _made(name, mode, seconds, sides(ratio), body)


def omni_video(body: _Body, shelf: Shelf) -> Bought:
    """O1 and 3.0 Omni."""
    allowed = ("model_name", "prompt", "image_list", "element_list", "video_list", "mode", "duration")
    inputs.known(
        body, (*allowed, "aspect_ratio", "sound", "multi_shot", "shot_type", "multi_prompt", *COMMON)
    )
    name = inputs.word(body, "model_name", ("kling-video-o1", "kling-v3-omni"), "kling-video-o1")
    omni = name == "kling-v3-omni"
    inputs.text(body, "prompt", 2500, required=True)
    mode = inputs.word(body, "mode", (*BOTH, "4k") if omni else BOTH, "pro")
    images, videos = objects(body, "image_list", 9), objects(body, "video_list", 1)
    ends = [item["type"] for item in images if "type" in item]
    for item in images:
        inputs.known(item, ("image_url", "type"), "image_list.")
        inputs.image(item.get("image_url"), "image_list.image_url")
    frames(ends, "first_frame", "end_frame", len(images) - len(ends), bool(videos))
    if "sound" in body and not omni:
        raise Refused("Invalid parameter: sound is not supported by the current model")
    sound = inputs.word(body, "sound", ("on", "off"), "off") == "on"
    if videos:
        if sound:
            raise Refused("Invalid parameter: sound must be off with a video")
        inputs.known(videos[0], ("video_url", "refer_type", "keep_original_sound"), "video_list.")
        url = inputs.link(videos[0].get("video_url"), "video_list.video_url")
        base = inputs.word(videos[0], "refer_type", ("base", "feature"), "base") == "base"
        inputs.word(videos[0], "keep_original_sound", ("yes", "no"), "yes")
        if base and ends:
            raise Refused("Invalid parameter: the edit of a video takes no frames")
        length = input_seconds(shelf.seconds(url))
        seconds = length if base else float(_omni_seconds(body, omni, free=True))
        return _made(name, mode, seconds, (16, 9), body, video=True)
    seconds = _omni_seconds(body, omni, free=bool(len(images) - len(ends)))
    if "first_frame" not in ends and "aspect_ratio" not in body:
        raise Refused("Invalid parameter: aspect_ratio is required")
    ratio = inputs.word(body, "aspect_ratio", RATIOS, "16:9")
    return _made(name, mode, seconds, sides(ratio), body, sound=sound)


def motion_control(body: _Body, shelf: Shelf) -> Bought:
    """A performance given to a character."""
    allowed = ("model_name", "prompt", "image_url", "video_url", "mode", "character_orientation")
    inputs.known(body, (*allowed, "keep_original_sound", "element_list", *COMMON))
    name = inputs.word(body, "model_name", ("kling-v2-6", "kling-v3"))
    inputs.text(body, "prompt", 2500)
    size = inputs.image(body.get("image_url"), "image_url")
    url = inputs.link(body.get("video_url"), "video_url")
    mode = inputs.word(body, "mode", BOTH)
    towards = inputs.word(body, "character_orientation", ("image", "video"))
    inputs.word(body, "keep_original_sound", ("yes", "no"), "yes")
    seconds = input_seconds(shelf.seconds(url), 10 if towards == "image" else 30)
    return _made(name, mode, seconds, size, body, video=True)


def video_extend(body: _Body, shelf: Shelf) -> Bought:
    """Goes on from a clip of the oldest models."""
    inputs.known(body, ("video_id", "prompt", "negative_prompt", "cfg_scale", *COMMON))
    source = shelf.clip(inputs.text(body, "video_id", 100, required=True))
    if source is None:
        raise Refused("Invalid parameter: video_id does not exist")
    if source.model not in EXTENDABLE:
        raise Refused("Invalid parameter: the model of this video does not support extension")
    inputs.text(body, "prompt", 2500)
    inputs.text(body, "negative_prompt", 2500)
    inputs.number(body, "cfg_scale", 0, 1)
    return Bought(source.model, EXTEND, Clip(16, 9, source.seconds + 5, str(body.get("prompt", ""))))


def advanced_lip_sync(body: _Body, shelf: Shelf) -> Bought:
    """Charged by the length of the video; the search for the face is put on the same row of the bill."""
    inputs.known(body, ("session_id", "face_choose", *COMMON))
    session = shelf.session(inputs.text(body, "session_id", 100, required=True))
    if session is None:
        raise Refused("Invalid parameter: session_id does not exist")
    faces = objects(body, "face_choose", 1)
    if len(faces) != 1:
        raise Refused("Invalid parameter: face_choose must have exactly one face")
    face = faces[0]
    times = ("sound_start_time", "sound_end_time", "sound_insert_time")
    volumes = ("sound_volume", "original_audio_volume")
    inputs.known(face, ("face_id", "audio_id", "sound_file", *times, *volumes), "face_choose.")
    inputs.word(face, "face_id", ("0",))
    if ("audio_id" in face) == ("sound_file" in face):
        raise Refused("Invalid parameter: give either audio_id or sound_file")
    heard = inputs.sound(face["sound_file"], "sound_file", 60) if "sound_file" in face else 60.0
    for name in times:
        if not isinstance(face.get(name), int) or face[name] < 0:
            raise Refused(f"Invalid parameter: {name} must be milliseconds")
    for name in volumes:
        inputs.number(face, name, 0, 2)
    used = face["sound_end_time"] - face["sound_start_time"]
    if used < 2000 or face["sound_end_time"] > heard * 1000:
        raise Refused(
            "Invalid parameter: sound_end_time: the sound must have at least 2s and not end after itself"
        )
    if face["sound_insert_time"] + used > session.seconds * 1000:
        raise Refused("Invalid parameter: the sound must not end after the video")
    blocks = (Decimal(str(session.seconds)) / 5).to_integral_value(ROUND_CEILING)
    units = LIP_SYNC_PER_5_S * blocks + FACE_SEARCH
    return Bought("lip-sync", units, Clip(16, 9, session.seconds, str(body["session_id"]), audio=True))


def avatar(body: _Body, shelf: Shelf) -> Bought:
    """A picture that speaks."""
    inputs.known(body, ("image", "audio_id", "sound_file", "prompt", "mode", *COMMON))
    size = inputs.image(body.get("image"), "image")
    if ("audio_id" in body) == ("sound_file" in body):
        raise Refused("Invalid parameter: give either audio_id or sound_file")
    seconds = inputs.sound(body["sound_file"], "sound_file", 300) if "sound_file" in body else 5.0
    inputs.text(body, "prompt", 2500)
    mode = inputs.word(body, "mode", BOTH, "std")
    started = Decimal(str(seconds)).to_integral_value(ROUND_CEILING)
    return Bought("avatar", AVATAR[mode] * started, Clip(*size, seconds, "avatar", audio=True))


def effects(body: _Body, shelf: Shelf) -> Bought:
    """A scene with one image, or with two people in two images."""
    inputs.known(body, ("effect_scene", "input", *COMMON))
    scene = inputs.text(body, "effect_scene", 100, required=True)
    given = body.get("input")
    if not isinstance(given, dict):
        raise Refused("Invalid parameter: input must be an object")
    if scene in WITHDRAWN:
        raise Refused(f"Invalid parameter: effect_scene value '{scene}' is invalid")
    inputs.known(given, ("images",) if scene in PAIRS else ("image",), "input.")
    if scene in PAIRS:
        images = given.get("images")
        if not isinstance(images, list) or len(images) != 2:
            raise Refused("Invalid parameter: input.images must have exactly 2 images")
        for one in images:
            inputs.image(one, "input.images")
        size = (16, 9)
    else:
        size = inputs.image(given.get("image"), "input.image")
    return Bought("effects", EFFECT, Clip(*size, 5.0, scene))


Check = Callable[[_Body, Shelf], Bought]
LEGACY: Mapping[str, Check] = {
    "text2video": text2video,
    "image2video": image2video,
    "multi-image2video": multi_image,
    "omni-video": omni_video,
    "motion-control": motion_control,
    "video-extend": video_extend,
    "advanced-lip-sync": advanced_lip_sync,
    "avatar/image2video": avatar,
    "effects": effects,
}


def _common(body: _Body, *, image: bool) -> tuple[str, Model, str, int, bool]:
    """Name, model, mode (empty where it takes none), seconds and sound of text2video and image2video."""
    name = inputs.text(body, "model_name", 50) or "kling-v1"
    model = MODELS.get(name)
    if model is None:
        raise Refused(f"The requested model '{name}' does not exist", code=1203, status=404)
    if not (model.image if image else model.text):
        raise Refused("Invalid parameter: model_name is not supported by this interface")
    if "mode" in body and not model.modes:
        raise Refused("Invalid parameter: mode is not supported by the current model")
    mode = inputs.word(body, "mode", model.modes, "std") if model.modes else ""
    seconds = int(inputs.word(body, "duration", tuple(map(str, model.seconds)), "5"))
    sound = inputs.word(body, "sound", ("on", "off"), "off") == "on"
    if sound and mode not in model.sound:
        raise Refused("Invalid parameter: sound is not supported by the current model and mode")
    if "cfg_scale" in body and not model.cfg:
        raise Refused("Invalid parameter: cfg_scale is not supported by the current model")
    inputs.number(body, "cfg_scale", 0, 1)
    inputs.text(body, "negative_prompt", 2500)
    return name, model, mode, seconds, sound


def _made(
    name: str,
    mode: str,
    seconds: float,
    size: tuple[int, int],
    body: _Body,
    *,
    sound: bool = False,
    video: bool = False,
) -> Bought:
    resolution = RESOLUTION.get(mode, "1080p" if name == "kling-v2-1-master" else "720p")
    rate = units_per_second(name, resolution, sound=sound, video=video)
    said = str(body.get("prompt", "")) or name
    return Bought(
        name, rate * whole_seconds(seconds), Clip(*scaled(size, resolution), seconds, said, audio=sound)
    )


def frames(ends: list[str], first: str, last: str, references: int, video: bool) -> None:
    """First alone or first and last; the references beside them are counted."""
    if sorted(ends) not in ([], [first], sorted([first, last])):
        raise Refused("Invalid parameter: frames are a first one, or a first and a last one")
    if last in ends and references:
        raise Refused("Invalid parameter: no reference images together with a last frame")
    if references > (4 if video else 7):
        raise Refused("Invalid parameter: too many reference images")


def _omni_seconds(body: _Body, omni: bool, *, free: bool) -> int:
    """O1 from text or a first frame makes 5 or 10 s only."""
    lengths = range(3, 16) if omni else range(3, 11) if free else (5, 10)
    return int(inputs.word(body, "duration", tuple(map(str, lengths)), "5"))


def input_seconds(seconds: float, longest: float = LONGEST_VIDEO_S) -> float:
    """The length of an input video, refused outside the limits."""
    if not 3 <= seconds <= longest:
        raise Refused(f"Invalid parameter: the video must last from 3 to {longest:g} s")
    return seconds


def whole_seconds(seconds: float) -> Decimal:
    """Started seconds: the dearer reading where a length is broken."""
    return Decimal(str(seconds)).to_integral_value(ROUND_CEILING)


def objects(body: _Body, name: str, most: int) -> list[dict[str, Any]]:
    """A list of objects, empty where it is absent."""
    items = body.get(name, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items) or len(items) > most:
        raise Refused(f"Invalid parameter: {name} must be a list of at most {most} objects")
    return items


def object_of(body: _Body, name: str) -> dict[str, Any]:
    """An object, empty where it is absent."""
    value = body.get(name, {})
    if not isinstance(value, dict):
        raise Refused(f"Invalid parameter: {name} must be an object")
    return value


def sides(ratio: str) -> tuple[int, int]:
    """Both numbers of `16:9`."""
    width, _, height = ratio.partition(":")
    return int(width), int(height)


def scaled(size: tuple[int, int], resolution: str) -> tuple[int, int]:
    """Pixels of that shape whose short side is that of the resolution."""
    short = PIXELS[resolution]
    factor = short / min(size)
    return round(size[0] * factor), round(size[1] * factor)
