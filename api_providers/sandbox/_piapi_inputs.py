"""What the PiAPI twin takes and what it costs, read from PiAPI's documentation by itself.

Prices in USD: per 5 s for Kling up to 2.6, per second after. For O1 and extend no price is known; they are billed at an
assumed one. Of a range without conditions the upper end is billed.
"""

import io
from decimal import ROUND_CEILING, Decimal
from typing import Any, NamedTuple

import av
from starlette.exceptions import HTTPException

from api_providers.sandbox._bench import Bench, Clip, Phase, Task

MODES = ("std", "pro")
RATIOS = ("16:9", "9:16", "1:1")
VERSIONS = ("1.0", "1.5", "1.6", "2.0", "2.1", "2.1-master", "2.5", "2.6", "3.0")
PER_5_S = {
    "1.0": {"std": "0.26", "pro": "0.46"},
    "1.5": {"std": "0.26", "pro": "0.46"},
    "1.6": {"std": "0.26", "pro": "0.46"},
    "2.0": {"pro": "0.96"},
    "2.1": {"std": "0.26", "pro": "0.46"},
    "2.1-master": {"pro": "0.96"},
    "2.5": {"std": "0.20", "pro": "0.33"},
    "2.6": {"std": "0.20", "pro": "0.33"},
}
TURBO_PER_5_S = "0.28"
PER_SECOND_3 = {"std": ("0.10", "0.15"), "pro": ("0.15", "0.20")}
"""Silent, with sound."""
OMNI_PER_SECOND = "0.15"
MOTION_PER_SECOND = "0.26"
AVATAR_PER_SECOND = {"std": "0.052", "pro": "0.26"}
LIP_SYNC_PER_5_S = "0.10"
EFFECT = {False: "0.26", True: "0.46"}
ASSUMED_PER_SECOND = "0.10"
EXTENDS_BY_S = 5.0
ASSUMED_S = 5.0
"""Length of an input that was not uploaded here: the twin fetches nothing."""
PROMPT_MAX = 2500
CAMERA_VERSIONS = ("1.0", "1.5", "1.6", "2.0", "2.1-master")
CAMERA_TYPES = ("down_back", "forward_up", "right_turn_forward", "left_turn_forward")
AXES = ("horizontal", "vertical", "pan", "tilt", "roll", "zoom")
EFFECTS = (
    *(
        "squish",
        "expansion",
        "jellycat_overseaspinoff",
        "rocket",
        "hearting",
        "fighting",
        "kissing",
        "hugging",
    ),
    *("figurevstack", "birthday", "water", "surfing"),
)
NEED_PROMPT = ("rocket", "hearting", "fighting", "kissing", "hugging", "birthday", "water")


class Order(NamedTuple):
    """A task that can be taken on."""

    label: str
    price: Decimal
    clip: Clip
    classic: bool
    """Whether the result comes in the shape of Kling up to 2.6."""


def order(body: dict[str, Any], bench: Bench) -> Order:
    """Price and result of a create call; raises HTTPException 400 in PiAPI's way."""
    data = body.get("input")
    if not isinstance(data, dict):
        raise wrong("input is required")
    model, task_type = body.get("model"), body.get("task_type")
    if model == "kling-turbo" and task_type == "video_generation":
        return _generation(data | {"version": "2.5-turbo"}, "kling-turbo")
    makers = {
        "video_generation": lambda: _generation(data, "kling"),
        "omni_video_generation": lambda: _omni(data),
        "extend_video": lambda: _extend(data, bench),
        "lip_sync": lambda: _lip_sync(data, bench),
        "effects": lambda: _effect(data),
        "motion_control": lambda: _motion(data, bench),
        "avatar": lambda: _avatar(data, bench),
    }
    if model not in {"kling", "kling-turbo"}:
        raise wrong(f"invalid model: {model}")
    if model != "kling" or task_type not in makers:
        raise wrong(f"invalid task_type: {task_type}")
    return makers[task_type]()


def wrong(text: str) -> HTTPException:
    """A refused input."""
    return HTTPException(400, f"failed to validate input: {text}")


def _generation(data: dict[str, Any], model: str) -> Order:
    version = str(data.get("version", "1.6"))
    mode = _one_of(data, "mode", MODES, "std")
    turbo = model == "kling-turbo"
    if not turbo and version not in VERSIONS:
        raise wrong(f"invalid version: {version}")
    prices = PER_5_S.get(version, {})
    if not turbo and version != "3.0" and mode not in prices:
        raise wrong(f"version {version} supports pro mode only")
    image = _media(data, "image_url")
    if _media(data, "image_tail_url") and not image:
        raise wrong("image_tail_url needs image_url")
    prompt = _prompt(data)
    if not image and not prompt:
        raise wrong("prompt is required")
    if image and ("camera_control" in data or "aspect_ratio" in data):
        raise wrong("camera_control and aspect_ratio are for text to video only")
    _camera(data, version)
    _elements(data, version)
    audio = _flag(data, "enable_audio")
    if audio and not (version == "3.0" or (version == "2.6" and mode == "pro")):
        raise wrong("enable_audio needs version 2.6 in pro mode, or 3.0")
    seconds = _seconds(data, range(3, 16) if version == "3.0" else (5, 10))
    clip = _clip(data, seconds, prompt, audio)
    if version == "3.0":
        price = Decimal(PER_SECOND_3[mode][audio]) * seconds
    else:
        price = Decimal(TURBO_PER_5_S if turbo else prices[mode]) * (seconds // 5) * (2 if audio else 1)
    return Order(f"{model} {version} {mode}", price, clip, classic=version != "3.0" and not turbo)


def _omni(data: dict[str, Any]) -> Order:
    version = _one_of(data, "version", ("3.0", "o1"), None)
    _one_of(data, "resolution", ("720p", "1080p"), "720p")
    images = data.get("images", [])
    if not isinstance(images, list) or len(images) > 7 or not all(_is_url(url) for url in images):
        raise wrong("images must be at most 7 urls")
    prompt = _prompt(data)
    if not prompt:
        raise wrong("prompt is required")
    audio = _flag(data, "enable_audio")
    if audio and version != "3.0":
        raise wrong("enable_audio needs version 3.0")
    seconds = _seconds(data, range(3, 16) if version == "3.0" else (5, 10))
    rate = OMNI_PER_SECOND if version == "3.0" else ASSUMED_PER_SECOND
    return Order(
        f"kling omni {version}", Decimal(rate) * seconds, _clip(data, seconds, prompt, audio), classic=False
    )


def _extend(data: dict[str, Any], bench: Bench) -> Order:
    origin = _origin(data, bench)
    seconds = origin.clip.seconds + EXTENDS_BY_S
    clip = Clip(origin.clip.width, origin.clip.height, seconds, origin.clip.prompt)
    _prompt(data)
    return Order("kling extend", Decimal(ASSUMED_PER_SECOND) * Decimal(str(EXTENDS_BY_S)), clip, classic=True)


def _lip_sync(data: dict[str, Any], bench: Bench) -> Order:
    """As long as the clip: sound that is longer is cut."""
    origin = _origin(data, bench)
    sound, text = _media(data, "local_dubbing_url"), data.get("tts_text") or ""
    if not sound and (not isinstance(text, str) or not text):
        raise wrong("tts_text or local_dubbing_url is required")
    speed = data.get("tts_speed", 1)
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0.8 <= speed <= 2:
        raise wrong("tts_speed must be from 0.8 to 2")
    blocks = (Decimal(str(origin.clip.seconds)) / 5).to_integral_value(ROUND_CEILING)
    clip = Clip(origin.clip.width, origin.clip.height, origin.clip.seconds, origin.clip.prompt, audio=True)
    return Order("kling lip_sync", Decimal(LIP_SYNC_PER_5_S) * blocks, clip, classic=True)


def _effect(data: dict[str, Any]) -> Order:
    if not _media(data, "image_url"):
        raise wrong("image_url is required")
    effect = _one_of(data, "effect", EFFECTS, None)
    prompt = _prompt(data)
    if effect in NEED_PROMPT and not prompt:
        raise wrong(f"effect {effect} needs a prompt")
    seconds = _seconds(data, (5, 10))
    price = Decimal(EFFECT[_flag(data, "professional_mode")])
    return Order(f"kling effect {effect}", price, Clip(16, 9, seconds, f"{effect}{prompt}"), classic=True)


def _motion(data: dict[str, Any], bench: Bench) -> Order:
    if not _media(data, "image_url"):
        raise wrong("image_url is required")
    video = _media(data, "video_url")
    if bool(video) == bool(data.get("preset_motion")):
        raise wrong("one of video_url and preset_motion must be provided as motion reference")
    _one_of(data, "motion_direction", ("image", "video"), "video")
    version = _one_of(data, "version", ("2.6", "3.0"), "2.6")
    mode = _one_of(data, "mode", MODES, "std")
    seconds = _length(video, bench)
    clip = Clip(16, 9, float(seconds), _prompt(data))
    return Order(f"kling motion {version} {mode}", Decimal(MOTION_PER_SECOND) * seconds, clip, classic=False)


def _avatar(data: dict[str, Any], bench: Bench) -> Order:
    sound = _media(data, "local_dubbing_url")
    if not _media(data, "image_url") or not sound:
        raise wrong("image_url and local_dubbing_url are required")
    mode = _one_of(data, "mode", MODES, "std")
    seconds = _length(sound, bench)
    clip = Clip(9, 16, float(seconds), _prompt(data), audio=True)
    return Order(f"kling avatar {mode}", Decimal(AVATAR_PER_SECOND[mode]) * seconds, clip, classic=True)


def _origin(data: dict[str, Any], bench: Bench) -> Task:
    id_ = data.get("origin_task_id")
    task = bench.get(id_) if isinstance(id_, str) else None
    if task is None or bench.phase(task) is not Phase.SUCCEEDED:
        raise wrong("origin_task_id is not a finished kling task")
    return task


def _camera(data: dict[str, Any], version: str) -> None:
    control = data.get("camera_control")
    if control is None:
        return
    if version not in CAMERA_VERSIONS:
        raise wrong(f"camera_control is not supported by version {version}")
    kind = control.get("type") if isinstance(control, dict) else None
    if kind in CAMERA_TYPES:
        return
    config = control.get("config") if kind == "simple" else None
    if not isinstance(config, dict) or set(config) != set(AXES):
        raise wrong("camera_control.config must have all six axes")
    if not all(isinstance(value, int | float) and -10 <= value <= 10 for value in config.values()):
        raise wrong("camera_control values must be from -10 to 10")
    if sum(value != 0 for value in config.values()) != 1:
        raise wrong("camera_control must have exactly one axis that is not zero")


def _elements(data: dict[str, Any], version: str) -> None:
    elements = data.get("elements")
    if elements is None:
        return
    if version != "1.6":
        raise wrong("elements need version 1.6")
    good = isinstance(elements, list) and 0 < len(elements) <= 4
    if not good or not all(isinstance(one, dict) and _is_url(one.get("image_url")) for one in elements):
        raise wrong("elements must be 1 to 4 of {image_url}")


def _prompt(data: dict[str, Any]) -> str:
    for name in ("prompt", "negative_prompt"):
        value = data.get(name, "")
        if not isinstance(value, str) or len(value) > PROMPT_MAX:
            raise wrong(f"{name} must be a text of at most {PROMPT_MAX} characters")
    return str(data.get("prompt", ""))


def _seconds(data: dict[str, Any], allowed: Any) -> int:
    """An integer here, other than at Kling itself."""
    value = data.get("duration", 5)
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise wrong(f"invalid duration: {value!r}")
    return value


def _one_of(data: dict[str, Any], name: str, allowed: tuple[str, ...], default: str | None) -> str:
    value = data.get(name, default)
    if value not in allowed:
        raise wrong(f"{name} is required" if value is None else f"invalid {name}: {value!r}")
    return str(value)


def _flag(data: dict[str, Any], name: str) -> bool:
    value = data.get(name, False)
    if not isinstance(value, bool):
        raise wrong(f"{name} must be a boolean")
    return value


def _media(data: dict[str, Any], name: str) -> str:
    """A link or, as one client sends it, a data URI; "" where it is absent or empty."""
    value = data.get(name) or ""
    if value and not _is_url(value):
        raise wrong(f"{name} must be a url")
    return str(value)


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "http://", "data:"))


def _clip(data: dict[str, Any], seconds: int, prompt: str, audio: bool) -> Clip:
    ratio = _one_of(data, "aspect_ratio", RATIOS, "16:9")
    width, _, height = ratio.partition(":")
    return Clip(int(width), int(height), float(seconds), prompt, audio=audio)


def _length(url: str, bench: Bench) -> Decimal:
    """Seconds of a file that was uploaded here, to a tenth."""
    content = next((data for id_, data in bench.uploads.items() if f"/_cdn/up/{id_}/" in url and data), None)
    if content is None:
        return Decimal(str(ASSUMED_S))
    try:
        with av.open(io.BytesIO(content), "r") as box:
            return round(Decimal(box.duration or 0) / 1_000_000, 1)
    except av.FFmpegError:
        raise wrong("the media file cannot be read") from None
