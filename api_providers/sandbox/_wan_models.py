"""What DashScope's Wan models take and cost: the twin's own reading, kept apart from the client's data file.

Prices: Singapore, 2026-07-10 (2.7) and November 2026 (3.0), USD per second; a model whose price there is not public is
billed at `STAND_IN_USD`, so that it can be rehearsed at all. Unknown keys are ignored: the official SDK always sends two
old ones beside the media.
"""

import base64
import binascii
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from math import ceil
from typing import Any
from urllib.parse import urlsplit

import av
from PIL import Image

STAND_IN_USD = Decimal("0.08")
ASSUMED_SECONDS = 5.0
"""Length of an input that the twin cannot look into (it fetches nothing)."""
SEED_MAX = 2**31 - 1
TOTAL_MAX = 30
"""Seconds of input and output together in 3.0."""
WITH_VIDEO_MAX = 10
SIZES = {
    "480P": ("832*480", "480*832", "624*624"),
    "720P": ("1280*720", "720*1280", "960*960", "1088*832", "832*1088"),
    "1080P": ("1920*1080", "1080*1920", "1440*1440", "1632*1248", "1248*1632"),
}
SHORT_SIDE = {"480P": 480, "720P": 720, "1080P": 1080}
RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4")
TEMPLATES = ("flying",)
NAMED = ("img_url", "audio_url", "first_frame_url", "last_frame_url")
KINDS = {
    **dict.fromkeys(("img_url", "first_frame_url", "last_frame_url"), "image"),
    **dict.fromkeys(("first_frame", "last_frame", "reference_image"), "image"),
    **dict.fromkeys(("audio_url", "driving_audio", "reference_audio"), "audio"),
    **dict.fromkeys(("first_clip", "video", "reference_video"), "video"),
}


@dataclass(frozen=True)
class Model:
    """One model: its fields and items (with how many), lengths, resolutions and USD per second."""

    resolutions: tuple[str, ...]
    seconds: tuple[int, ...]
    fields: dict[str, bool] = field(default_factory=dict)
    """Named fields: whether required."""
    items: dict[str, int] = field(default_factory=dict)
    """Types of `input.media`: how many of each."""
    rates: dict[str, str] = field(default_factory=dict)
    sized: bool = False
    """Takes `size` instead of `resolution`."""
    ratios: tuple[str, ...] = ()
    keyframes: bool = False
    """Lives on the path image2video."""
    templates: bool = False
    silent_half: bool = False
    """Takes `audio`; without sound it costs half."""
    sound: bool = True


def _range(low: int, high: int) -> tuple[int, ...]:
    return tuple(range(low, high + 1))


_27 = {"720P": "0.10", "1080P": "0.15"}
_HIGH = ("720P", "1080P")
_ALL = ("480P", "720P", "1080P")
_WAN3 = {
    "first_frame": 1,
    "last_frame": 1,
    "reference_image": 10,
    "reference_video": 5,
    "reference_audio": 5,
}
MODELS: dict[str, Model] = {
    "wan2.7-t2v": Model(_HIGH, _range(2, 15), {"audio_url": False}, rates=_27, ratios=RATIOS),
    "wan2.7-i2v": Model(
        _HIGH,
        _range(2, 15),
        items={"first_frame": 1, "last_frame": 1, "driving_audio": 1, "first_clip": 1},
        rates=_27,
    ),
    "wan2.7-r2v": Model(
        _HIGH,
        _range(2, 15),
        items={"first_frame": 1, "reference_image": 5, "reference_video": 5},
        rates=_27,
        ratios=RATIOS,
    ),
    "wan2.7-videoedit": Model(_HIGH, _range(2, 15), items={"video": 1, "reference_image": 4}, rates=_27),
    "wan3.0-video": Model(
        _ALL,
        _range(2, 30),
        items=_WAN3,
        rates={"480P": "0.05", "720P": "0.10", "1080P": "0.20"},
        ratios=("adaptive", *RATIOS),
    ),
    "wan3.0-video-prime": Model(
        _ALL,
        _range(2, 30),
        items=_WAN3,
        rates={"480P": "0.068", "720P": "0.14", "1080P": "0.28"},
        ratios=("adaptive", *RATIOS),
    ),
    "wan2.6-t2v": Model(_HIGH, _range(2, 15), {"audio_url": False}, sized=True),
    "wan2.6-i2v": Model(_HIGH, _range(2, 15), {"img_url": True, "audio_url": False}),
    "wan2.6-i2v-flash": Model(
        _HIGH,
        _range(2, 15),
        {"img_url": True, "audio_url": False},
        rates={"720P": "0.05", "1080P": "0.075"},
        silent_half=True,
    ),
    "wan2.5-t2v-preview": Model(_ALL, (5, 10), {"audio_url": False}, sized=True),
    "wan2.5-i2v-preview": Model(_ALL, (5, 10), {"img_url": True, "audio_url": False}),
    "wan2.2-t2v-plus": Model(("480P", "1080P"), (5,), sized=True, sound=False),
    "wan2.2-i2v-plus": Model(("480P", "1080P"), (5,), {"img_url": True}, sound=False),
    "wan2.2-kf2v-flash": Model(
        _ALL, (5,), {"first_frame_url": True, "last_frame_url": True}, keyframes=True, sound=False
    ),
    "wan2.1-i2v-turbo": Model(("480P", "720P"), (3, 4, 5), {"img_url": True}, templates=True, sound=False),
}


@dataclass(frozen=True)
class Order:
    """An accepted body: price in USD, and what the clip looks like."""

    usd: Decimal
    width: int
    height: int
    seconds: int
    billed_seconds: float
    input_seconds: float
    resolution: str
    text: str
    audio: bool


class Invalid(Exception):
    """What is wrong with a body: the vendor's code and sentence."""

    def __init__(self, message: str, code: str = "InvalidParameter") -> None:
        """`message` as the vendor says it."""
        super().__init__(message)
        self.code = code


Stored = Callable[[str], bytes | None]
"""The bytes behind an oss:// link, None where it does not resolve."""


def read(body: dict[str, Any], model: Model, stored: Stored) -> Order:
    """The order in a body; raises Invalid. Blocking (decodes media): call it in a thread."""
    inputs, parameters = body.get("input"), body.get("parameters", {})
    if not isinstance(inputs, dict) or not isinstance(parameters, dict):
        raise Invalid("input and parameters must be objects")
    prompt = inputs.get("prompt") or ""
    items = inputs.get("media") or []
    lengths = _named(inputs, model, stored) | _media(items, model, stored)
    _check_together(lengths, model, prompt, inputs)
    resolution, width, height = _size(parameters, model, lengths)
    seconds = parameters.get("duration", 5)
    if type(seconds) is not int or seconds not in model.seconds:
        raise Invalid(f"duration must be in {list(model.seconds)}")
    for name, kind in (("prompt_extend", bool), ("watermark", bool), ("audio", bool), ("seed", int)):
        if name in parameters and type(parameters[name]) is not kind:
            raise Invalid(f"{name} must be of type {kind.__name__}")
    if not 0 <= parameters.get("seed", 0) <= SEED_MAX:
        raise Invalid(f"seed must be in the range [0, {SEED_MAX}]")
    given = _input_seconds(lengths, seconds, model)
    audio = model.sound and parameters.get("audio") is not False
    rate = Decimal(model.rates[resolution]) if model.rates else STAND_IN_USD
    if model.silent_half and not audio:
        rate /= 2
    billed = seconds + given
    usd = rate * Decimal(str(billed))
    return Order(usd, width, height, seconds, billed, given, resolution, str(prompt), audio)


def _named(inputs: dict[str, Any], model: Model, stored: Stored) -> dict[str, list[float]]:
    """Seconds of each named input (0 for an image)."""
    found = {}
    for name in NAMED:
        url = inputs.get(name)
        if not url:
            if model.fields.get(name):
                raise Invalid(f"Field required: input.{name}")
        elif name not in model.fields:
            raise Invalid(f"input.{name} is not supported by this model")
        else:
            found[name] = [seconds_of(url, KINDS[name], stored)]
    return found


def _media(items: Any, model: Model, stored: Stored) -> dict[str, list[float]]:
    """Seconds of each item by type."""
    found: dict[str, list[float]] = {}
    if not isinstance(items, list):
        raise Invalid("input.media must be a list")
    for item in items:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind not in model.items:
            raise Invalid(f"input.media type {kind!r} is not supported by this model")
        found.setdefault(str(kind), []).append(seconds_of(item.get("url"), KINDS[str(kind)], stored))
    for kind, count in Counter({kind: len(given) for kind, given in found.items()}).items():
        if count > model.items[kind]:
            raise Invalid(f"input.media allows at most {model.items[kind]} of type {kind}")
    return found


def _check_together(
    lengths: dict[str, list[float]], model: Model, prompt: Any, inputs: dict[str, Any]
) -> None:
    given = set(lengths)
    references = {name for name in given if name.startswith("reference_")}
    if inputs.get("template") and not (model.templates and inputs["template"] in TEMPLATES):
        raise Invalid("template is not supported")
    if not given and not prompt:
        raise Invalid("Field required: input.prompt")
    if "first_clip" in given and given & {"first_frame", "driving_audio"}:
        raise Invalid("first_clip cannot be used together with first_frame or driving_audio")
    if "last_frame" in given and not given & {"first_frame", "first_clip"}:
        raise Invalid("last_frame requires first_frame")
    if "first_clip" in model.items and not given & {"first_frame", "first_clip"}:
        raise Invalid("Field required: input.media")
    if "video" in model.items and "video" not in given:
        raise Invalid("input.media requires an item of type video")
    if "reference_audio" in model.items and references and given - references:
        raise Invalid("references and frames cannot be used together")
    count = sum(len(lengths[name]) for name in references)
    if "reference_audio" not in model.items and "reference_video" in model.items and not 1 <= count <= 5:
        raise Invalid("input.media requires 1 to 5 references")
    for name, low, high in (("first_clip", 2, 10), ("reference_video", 1, 30), ("audio_url", 3, 30)):
        if any(not low <= length <= high for length in lengths.get(name, ())):
            raise Invalid(
                f"the length of {name} must be {low} to {high} s", "InvalidParameter.DataInspection"
            )


def _size(parameters: dict[str, Any], model: Model, lengths: dict[str, list[float]]) -> tuple[str, int, int]:
    if model.sized:
        size = parameters.get("size", SIZES[model.resolutions[-1]][0])
        for resolution in model.resolutions:
            if size in SIZES[resolution]:
                width, height = str(size).split("*")
                return resolution, int(width), int(height)
        raise Invalid(f"The size is not match the allowed size {size}")
    resolution = parameters.get("resolution", model.resolutions[-1])
    if resolution not in model.resolutions:
        raise Invalid(f"resolution must be one of {', '.join(model.resolutions)}")
    ratio = parameters.get("ratio", "16:9")
    if model.ratios and ratio not in model.ratios:
        raise Invalid(f"ratio must be one of {', '.join(model.ratios)}")
    shown = "16:9" if not model.ratios or ratio == "adaptive" or "first_frame" in lengths else str(ratio)
    wide, _, high = shown.partition(":")
    short, w, h = SHORT_SIDE[str(resolution)], int(wide), int(high)
    return str(resolution), short * max(w, h) // h, short * max(w, h) // w


def _input_seconds(lengths: dict[str, list[float]], seconds: int, model: Model) -> float:
    """What is billed on top of `duration`, which is the whole length in a continuation."""
    if "first_clip" in lengths and seconds <= ceil(lengths["first_clip"][0]):
        raise Invalid("duration must be longer than first_clip")
    videos = lengths.get("reference_video", [])
    if "reference_audio" in model.items:
        if sum(videos) + seconds > TOTAL_MAX:
            raise Invalid(f"input and output together are limited to {TOTAL_MAX} s")
        return sum(videos)
    if videos and seconds > WITH_VIDEO_MAX:
        raise Invalid(f"duration must be at most {WITH_VIDEO_MAX} with a reference_video")
    return sum(min(length, 5 / len(videos)) for length in videos) + sum(lengths.get("video", []))


def seconds_of(url: Any, kind: str, stored: Stored) -> float:
    """How long an input is (0 for an image); raises Invalid where it is none."""
    if not isinstance(url, str) or not url:
        raise Invalid(f"url of {kind} is required")
    if url.startswith("oss://"):
        content = stored(url.removeprefix("oss://"))
    elif url.startswith("data:") and kind == "image":
        head, _, data = url.partition(",")
        try:
            content = base64.b64decode(data, validate=True) if head.endswith(";base64") else None
        except binascii.Error:
            content = None
    elif urlsplit(url).scheme in ("http", "https"):
        return 0.0 if kind == "image" else ASSUMED_SECONDS
    else:
        content = None
    if not content:
        raise Invalid("Failed to download the resource: the url is not valid", "InvalidURL")
    try:
        if kind == "image":
            with Image.open(io.BytesIO(content)) as image:
                image.verify()
            return 0.0
        with av.open(io.BytesIO(content), "r") as box:
            return box.duration / 1_000_000 if box.duration else ASSUMED_SECONDS
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, av.FFmpegError):
        raise Invalid(f"the {kind} format is illegal and cannot be opened") from None
