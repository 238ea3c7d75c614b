"""What MiniMax's video models take and cost: the twin's own reading, kept apart from the client's data file.

v1 by its table of model, mode, resolution and length; v2 by its list of content items. Prices: global pay-as-you-go,
2026-07-10 (v1) and 2026-10-24 (v2). Unknown fields are ignored.
"""

import base64
import binascii
import io
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from typing import Any
from urllib.parse import urlsplit

import av
from PIL import Image

PROMPT_MAX = 2000
INPUT_MAX = 20_000_000
ASSUMED_SECONDS = 5.0
"""Length of an input that the twin cannot look into (it fetches nothing)."""
SIZES = {"480P": 480, "512P": 512, "720P": 720, "768P": 768, "1080P": 1080, "2K": 1440}
"""The short side."""
_FAST = {("768P", 6): "0.19", ("768P", 10): "0.32", ("1080P", 6): "0.33"}
_FULL = {("768P", 6): "0.28", ("768P", 10): "0.56", ("1080P", 6): "0.49"}
V1: dict[str, dict[tuple[str, int], str]] = {
    "MiniMax-Hailuo-2.3": _FULL,
    "MiniMax-Hailuo-2.3-Fast": _FAST,
    "MiniMax-Hailuo-02": {**_FULL, ("512P", 6): "0.10", ("512P", 10): "0.15"},
}
"""USD of a clip by resolution and seconds; what is not there is refused."""
RATIOS = ("adaptive", "21:9", "16:9", "4:3", "1:1", "3:4", "9:16")
ROLES = {
    "first_frame": "image_url",
    "last_frame": "image_url",
    "reference_image": "image_url",
    "reference_video": "video_url",
    "reference_audio": "audio_url",
}
MOST = {"first_frame": 1, "last_frame": 1, "reference_image": 9, "reference_video": 3, "reference_audio": 3}


@dataclass(frozen=True)
class H3:
    """One v2 model: USD per second by resolution, shortest clip, free images and the price of each further one."""

    rates: dict[str, str]
    shortest: int
    free_images: int
    extra_image: str
    references: bool


V2 = {
    "MiniMax-H3": H3({"768P": "0.08", "2K": "0.13"}, 4, 5, "0.04", True),
    "MiniMax-H3-Max": H3({"480P": "0.05", "768P": "0.08"}, 5, 2, "0.074", False),
}


@dataclass(frozen=True)
class Order:
    """An accepted body: price in USD, size and length of the clip, seconds of the input videos."""

    usd: Decimal
    resolution: str
    seconds: int
    text: str
    ratio: str = "16:9"
    input_seconds: int = 0
    images: int = 0


class Invalid(Exception):
    """What is wrong with a body, in the vendor's words after "invalid params"."""


def read_v1(body: dict[str, Any]) -> Order:
    """The order in a v1 body; raises Invalid. Blocking (decodes images): call it in a thread."""
    model = body.get("model")
    table = V1.get(model) if isinstance(model, str) else None
    if table is None:
        raise Invalid(f"model {model!r} is not supported")
    prompt, first, last = (
        body.get(name) or "" for name in ("prompt", "first_frame_image", "last_frame_image")
    )
    if not isinstance(prompt, str) or len(prompt) > PROMPT_MAX:
        raise Invalid(f"prompt must be text of at most {PROMPT_MAX} characters")
    resolution, seconds = body.get("resolution", "768P"), body.get("duration", 6)
    usd = table.get((resolution, seconds)) if type(seconds) is int and isinstance(resolution, str) else None
    if usd is None:
        raise Invalid(f"model {model} does not support duration {seconds} and resolution {resolution}")
    _check_frames(str(model), prompt, first, last, resolution)
    for name in ("prompt_optimizer", "fast_pretreatment", "aigc_watermark"):
        if type(body.get(name, False)) is not bool:
            raise Invalid(f"{name} must be a boolean")
    return Order(Decimal(usd), resolution, seconds, prompt)


def _check_frames(model: str, prompt: str, first: Any, last: Any, resolution: str) -> None:
    if first:
        seconds_of(first, "image")
    elif model.endswith("-Fast"):
        raise Invalid(f"model {model} requires first_frame_image")
    elif not prompt:
        raise Invalid("prompt is required")
    if last:
        seconds_of(last, "image")
        if model != "MiniMax-Hailuo-02" or not first:
            raise Invalid("last_frame_image needs first_frame_image and model MiniMax-Hailuo-02")
    if resolution == "512P" and (not first or last):
        raise Invalid("resolution 512P is only supported with first_frame_image alone")


def read_v2(body: dict[str, Any]) -> Order:
    """The order in a v2 body; raises Invalid. Blocking (decodes media): call it in a thread."""
    model = body.get("model")
    shape = V2.get(model) if isinstance(model, str) else None
    if shape is None:
        raise Invalid(f"model {model!r} is not supported")
    resolution, seconds = body.get("resolution", "768P"), body.get("duration", 5)
    if resolution not in shape.rates:
        raise Invalid(f"resolution must be one of {', '.join(shape.rates)}")
    if type(seconds) is not int or not shape.shortest <= seconds <= 15:
        raise Invalid(f"duration must be an integer from {shape.shortest} to 15")
    text, roles, input_seconds = _content(body.get("content"))
    _check_roles(roles, shape)
    ratio = body.get("ratio")
    if ratio is not None and ratio not in RATIOS:
        raise Invalid(f"ratio must be one of {', '.join(RATIOS)}")
    if ratio == "adaptive" and not roles:
        raise Invalid("ratio adaptive is not supported for text to video")
    images = sum(count for role, count in roles.items() if ROLES[role] == "image_url")
    usd = Decimal(shape.rates[str(resolution)]) * (seconds + input_seconds)
    usd += Decimal(shape.extra_image) * max(0, images - shape.free_images)
    shown = "16:9" if ratio in (None, "adaptive") else str(ratio)
    return Order(usd, str(resolution), seconds, text, shown, input_seconds, images)


def _content(content: Any) -> tuple[str, Counter[str], int]:
    """The prompt, how often each role occurs, and the started seconds of the input videos."""
    text, roles, input_seconds = "", Counter[str](), 0
    for item in content if isinstance(content, list) else ():
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "text":
            text = str(item.get("text") or "")
            continue
        role = item.get("role") if isinstance(item, dict) else None
        if role not in ROLES or ROLES[role] != kind:
            raise Invalid(f"content item of type {kind!r} has an unsupported role {role!r}")
        inner = item.get(kind)
        seconds = seconds_of(inner.get("url") if isinstance(inner, dict) else None, kind.removesuffix("_url"))
        roles[role] += 1
        if role == "reference_video":
            input_seconds += ceil(seconds)
    if not text.strip():
        raise Invalid("content must include a non-empty text item (prompt is required)")
    return text, roles, input_seconds


def _check_roles(roles: Counter[str], shape: H3) -> None:
    references = {role for role in roles if role.startswith("reference_")}
    if references and not shape.references:
        raise Invalid("this model does not support reference inputs")
    if references and set(roles) - references:
        raise Invalid("frames and references cannot be used together")
    if "last_frame" in roles and "first_frame" not in roles:
        raise Invalid("last_frame requires first_frame")
    if references == {"reference_audio"}:
        raise Invalid("reference_audio requires an image or a video")
    for role, count in roles.items():
        if count > MOST[role]:
            raise Invalid(f"at most {MOST[role]} items of role {role}")


def seconds_of(url: Any, kind: str) -> float:
    """How long an input is (0 for an image); raises Invalid where it is none."""
    if not isinstance(url, str) or not url:
        raise Invalid(f"{kind} must be a URL or a data URI")
    if not url.startswith("data:"):
        if urlsplit(url).scheme not in ("https", "mm_file"):
            raise Invalid(f"{kind} must be a public URL")
        return 0.0 if kind == "image" else ASSUMED_SECONDS
    head, _, data = url.partition(",")
    try:
        content = base64.b64decode(data, validate=True)
    except binascii.Error:
        content = b""
    if not head.startswith(f"data:{kind}/") or not head.endswith(";base64") or not content:
        raise Invalid(f"{kind} is not a valid base64 data URI")
    if len(content) > INPUT_MAX:
        raise Invalid(f"{kind} is larger than 20 MB")
    try:
        if kind == "image":
            with Image.open(io.BytesIO(content)) as image:
                image.verify()
            return 0.0
        with av.open(io.BytesIO(content), "r") as box:
            return box.duration / 1_000_000 if box.duration else ASSUMED_SECONDS
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, av.FFmpegError):
        raise Invalid(f"{kind} could not be read") from None
