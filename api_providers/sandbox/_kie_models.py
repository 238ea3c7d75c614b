"""What Kie's video models take and cost: the twin's own reading, kept apart from the client's data file.

Fields as docs.kie.ai shows them (catalogue snapshot of 2026-08-19). Only Kling 2.6 has a known price; for all other
models the twin bills `STAND_IN_USD` per second, so that they can be rehearsed at all. Kie does not say what it does with
an unknown field; the twin refuses it, so that a stray one shows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

CREDIT_USD = Decimal("0.005")
STAND_IN_USD = Decimal("0.10")
STAND_IN_SECONDS = 5.0
Kind = Literal["text", "flag", "whole", "number", "url", "urls", "list"]


@dataclass(frozen=True)
class Field:
    """One field of `input`: of a `kind`, or one of `choices`."""

    kind: Kind = "text"
    required: bool = False
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 2**31 - 1
    longest: int = 20_000
    """Characters, or entries of a list."""
    shortest: int = 0


Fields = dict[str, Field]


def _one(*choices: str, required: bool = False) -> Field:
    return Field(choices=choices, required=required)


def _prompt(longest: int = 20_000, required: bool = True) -> Field:
    return Field(longest=longest, required=required)


def _whole(low: int, high: int) -> Field:
    return Field("whole", low=low, high=high)


def _urls(most: int, least: int = 0) -> Field:
    return Field("urls", required=least > 0, shortest=least, longest=most)


URL = Field("url", required=True)
MAYBE_URL = Field("url")
FLAG = Field("flag")
SEED = Field("whole")
NEGATIVE = Field(longest=500)
RATIO = _one("16:9", "9:16", "1:1")
RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4")
FIVE_TEN = _one("5", "10")
CFG = Field("number", high=1)

_kling_30: Fields = {
    "prompt": _prompt(),
    "image_urls": _urls(2),
    "sound": Field("flag", required=True),
    "duration": _one(*(str(n) for n in range(3, 16)), required=True),
    "aspect_ratio": _one("16:9", "9:16", "1:1", required=True),
    "mode": _one("std", "pro", "4K", required=True),
    "multi_shots": FLAG,
    "multi_prompt": Field("list", longest=5),
    "kling_elements": Field("list", longest=3),
}
_omni: Fields = {
    "prompt": _prompt(3072),
    "resolution": _one("720p", "1080p", "4k"),
    "audio": FLAG,
    "duration": _whole(3, 15),
    "aspect_ratio": _one("16:9", "9:16", "1:1", "auto"),
    "elements": Field("list"),
    "multi_prompt": Field("list", longest=6),
    "customize_multi_shots": FLAG,
    "prefer_multi_shots": FLAG,
}
_kling_21: Fields = {
    "prompt": _prompt(5000),
    "duration": FIVE_TEN,
    "negative_prompt": NEGATIVE,
    "cfg_scale": CFG,
}
_kling_25: Fields = {
    "prompt": _prompt(2500),
    "duration": FIVE_TEN,
    "negative_prompt": NEGATIVE,
    "cfg_scale": CFG,
}
_turbo: Fields = {
    "prompt": _prompt(2500),
    "duration": _one(*(str(n) for n in range(3, 16)), required=True),
    "resolution": _one("720p", "1080p", required=True),
}
_avatar: Fields = {"prompt": _prompt(5000), "image_url": URL, "audio_url": URL}
_motion: Fields = {
    "prompt": _prompt(2500, required=False),
    "input_urls": _urls(1, 1),
    "video_urls": _urls(1, 1),
    "character_orientation": _one("image", "video", required=True),
}
_hailuo_02: Fields = {"prompt": _prompt(), "prompt_optimizer": FLAG}
_hailuo_02_image: Fields = {**_hailuo_02, "image_url": URL, "end_image_url": MAYBE_URL}
_hailuo_23: Fields = {
    "prompt": _prompt(),
    "image_url": URL,
    "duration": _one("6", "10"),
    "resolution": _one("768P", "1080P"),
}
_h3: Fields = {
    "prompt": _prompt(7000),
    "duration": Field("whole", required=True, low=4, high=15),
    "resolution": _one("768P", "2K"),
}
_h3_ratio = _one(*RATIOS, "21:9", required=True)
_wan_22: Fields = {"prompt": _prompt(5000), "resolution": _one("480p", "720p"), "seed": SEED}
_animate: Fields = {"image_url": URL, "video_url": URL, "resolution": _one("480p", "580p", "720p")}
_wan_25: Fields = {
    "prompt": _prompt(800),
    "duration": _one("5", "10", required=True),
    "resolution": _one("720p", "1080p"),
    "negative_prompt": NEGATIVE,
    "seed": SEED,
}
_wan_26: Fields = {
    "prompt": _prompt(5000),
    "duration": _one("5", "10", "15"),
    "resolution": _one("720p", "1080p"),
    "multi_shots": FLAG,
}
_flash: Fields = {**_wan_26, "prompt": _prompt(1500)}
_wan_27: Fields = {
    "prompt": _prompt(5000),
    "negative_prompt": NEGATIVE,
    "resolution": _one("720p", "1080p"),
    "duration": _whole(2, 15),
    "seed": SEED,
    "watermark": FLAG,
}

MODELS: dict[str, Fields] = {
    "kling-2.6/text-to-video": {
        "prompt": _prompt(1000),
        "sound": Field("flag", required=True),
        "aspect_ratio": _one("1:1", "16:9", "9:16", required=True),
        "duration": _one("5", "10", required=True),
    },
    "kling-2.6/image-to-video": {
        "prompt": _prompt(),
        "image_urls": _urls(1, 1),
        "sound": Field("flag", required=True),
        "duration": _one("5", "10", required=True),
    },
    "kling-2.6/motion-control": {**_motion, "mode": _one("720p", "1080p", required=True)},
    "kling-3.0/video": _kling_30,
    "kling-3.0/motion-control": {
        **_motion,
        "mode": _one("std", "pro", required=True),
        "background_source": _one("input_video", "input_image"),
    },
    "kling-3.0-omni/text-to-video": _omni,
    "kling-3.0-omni/image-to-video": {**_omni, "image_urls": _urls(2, 1)},
    "kling-3.0-omni/reference-to-video": {**_omni, "image_urls": _urls(7), "video_urls": _urls(1)},
    "kling-3.0-omni/transformation": {
        **_omni,
        "duration": _one(*(str(n) for n in range(3, 16))),
        "image_urls": _urls(4),
        "video_urls": _urls(1, 1),
    },
    "kling/v3-turbo-text-to-video": {**_turbo, "aspect_ratio": _one("16:9", "9:16", "1:1", required=True)},
    "kling/v3-turbo-image-to-video": {**_turbo, "image_urls": _urls(1, 1)},
    "kling/v2-1-standard": {**_kling_21, "image_url": URL},
    "kling/v2-1-pro": {**_kling_21, "image_url": URL, "tail_image_url": MAYBE_URL},
    "kling/v2-1-master-text-to-video": {**_kling_21, "aspect_ratio": RATIO},
    "kling/v2-1-master-image-to-video": {**_kling_21, "image_url": URL},
    "kling/v2-5-turbo-text-to-video-pro": {**_kling_25, "aspect_ratio": RATIO},
    "kling/v2-5-turbo-image-to-video-pro": {**_kling_25, "image_url": URL, "tail_image_url": MAYBE_URL},
    "kling/ai-avatar-standard": _avatar,
    "kling/ai-avatar-pro": _avatar,
    "hailuo/02-text-to-video-standard": {**_hailuo_02, "duration": _one("6", "10")},
    "hailuo/02-text-to-video-pro": _hailuo_02,
    "hailuo/02-image-to-video-standard": {
        **_hailuo_02_image,
        "duration": _one("6", "10"),
        "resolution": _one("512P", "768P"),
    },
    "hailuo/02-image-to-video-pro": _hailuo_02_image,
    "hailuo/2-3-image-to-video-standard": _hailuo_23,
    "hailuo/2-3-image-to-video-pro": _hailuo_23,
    "minimax-h3/text-to-video": {**_h3, "aspect_ratio": _h3_ratio},
    "minimax-h3/image-to-video": {**_h3, "first_frame_url": MAYBE_URL, "last_frame_url": MAYBE_URL},
    "minimax-h3/reference-to-video": {
        **_h3,
        "aspect_ratio": _one(*RATIOS, "21:9"),
        "reference_image_urls": _urls(9),
        "reference_video_urls": _urls(3),
        "reference_audio_urls": _urls(3),
    },
    "wan/2-2-a14b-text-to-video-turbo": {**_wan_22, "aspect_ratio": _one("16:9", "9:16")},
    "wan/2-2-a14b-image-to-video-turbo": {**_wan_22, "image_url": URL},
    "wan/2-2-a14b-speech-to-video-turbo": {
        **_wan_22,
        "image_url": URL,
        "audio_url": URL,
        "negative_prompt": NEGATIVE,
    },
    "wan/2-2-animate-move": _animate,
    "wan/2-2-animate-replace": _animate,
    "wan/2-5-text-to-video": {**_wan_25, "aspect_ratio": RATIO},
    "wan/2-5-image-to-video": {**_wan_25, "image_url": URL},
    "wan/2-6-text-to-video": _wan_26,
    "wan/2-6-image-to-video": {**_wan_26, "image_urls": _urls(1, 1)},
    "wan/2-6-video-to-video": {**_wan_26, "duration": FIVE_TEN, "video_urls": _urls(3, 1)},
    "wan/2-6-flash-image-to-video": {
        **_flash,
        "image_urls": _urls(1, 1),
        "audio": Field("flag", required=True),
    },
    "wan/2-6-flash-video-to-video": {
        **_flash,
        "duration": FIVE_TEN,
        "video_urls": _urls(3, 1),
        "audio": FLAG,
    },
    "wan/2-7-text-to-video": {**_wan_27, "ratio": _one(*RATIOS), "audio_url": MAYBE_URL},
    "wan/2-7-image-to-video": {
        **_wan_27,
        "first_frame_url": MAYBE_URL,
        "last_frame_url": MAYBE_URL,
        "first_clip_url": MAYBE_URL,
        "driving_audio_url": MAYBE_URL,
    },
    "wan/2-7-r2v": {
        **_wan_27,
        "duration": _whole(2, 10),
        "aspect_ratio": _one(*RATIOS),
        "reference_image": _urls(5),
        "reference_video": _urls(5),
        "first_frame": MAYBE_URL,
        "reference_voice": MAYBE_URL,
    },
    "wan/2-7-videoedit": {
        **_wan_27,
        "prompt": _prompt(5000, required=False),
        "duration": _whole(0, 10),
        "aspect_ratio": _one(*RATIOS),
        "video_url": URL,
        "reference_image": MAYBE_URL,
    },
}
KLING_26_USD = {
    ("5", False): Decimal("0.28"),
    ("5", True): Decimal("0.55"),
    ("10", False): Decimal("0.55"),
    ("10", True): Decimal("1.10"),
}
"""By duration and sound, as the guide of 2025-12-29 has them."""


def seconds(body: dict[str, Any]) -> float:
    """The length of the clip."""
    return float(body.get("duration") or 0) or STAND_IN_SECONDS


def usd(model: str, body: dict[str, Any]) -> Decimal:
    """What the clip costs in full."""
    if model in {"kling-2.6/text-to-video", "kling-2.6/image-to-video"}:
        return KLING_26_USD[body["duration"], body["sound"]]
    return STAND_IN_USD * Decimal(str(seconds(body)))


def wrong(model: str, body: dict[str, Any]) -> str | None:
    """Kie's sentence about the first field that does not fit; None for a good input."""
    fields = MODELS[model]
    for name in body:
        if name not in fields:
            return f"{name} is not supported by {model}"
    for name, field in fields.items():
        if name not in body or body[name] in (None, ""):
            if field.required:
                return f"{name} is required"
        elif said := _field(name, body[name], field):
            return said
    return _together(model, body)


def _field(name: str, value: Any, field: Field) -> str | None:
    if field.choices:
        fits = isinstance(value, str) and value in field.choices
        return None if fits else f"{name} is not within the range of allowed options"
    return None if _FITS[field.kind](value, field) else f"{name} is invalid"


def _url(value: Any, field: Field) -> bool:
    """Uploads first: neither base64 nor a data URI is taken here."""
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _between(value: Any, field: Field) -> bool:
    return isinstance(value, int | float) and field.low <= value <= field.high


_FITS: dict[Kind, Callable[[Any, Field], bool]] = {
    "text": lambda value, field: isinstance(value, str) and len(value) <= field.longest,
    "flag": lambda value, field: isinstance(value, bool),
    "whole": lambda value, field: type(value) is int and _between(value, field),
    "number": lambda value, field: not isinstance(value, bool) and _between(value, field),
    "url": _url,
    "urls": lambda value, field: (
        isinstance(value, list)
        and field.shortest <= len(value) <= field.longest
        and all(_url(one, field) for one in value)
    ),
    "list": lambda value, field: isinstance(value, list) and len(value) <= field.longest,
}


def _together(model: str, body: dict[str, Any]) -> str | None:
    """What two fields rule out between them."""
    if model.startswith("kling-3.0-omni/") and body.get("customize_multi_shots", True):
        if not body.get("multi_prompt"):
            return "multi_prompt is required when customize_multi_shots is true"
    elif model.startswith("kling-3.0/video") and body.get("multi_shots") and not body.get("multi_prompt"):
        return "multi_prompt is required when multi_shots is true"
    if body.get("last_frame_url") and not body.get("first_frame_url"):
        return "first_frame_url is required with last_frame_url"
    if body.get("first_clip_url") and body.get("first_frame_url"):
        return "first_clip_url cannot be combined with first_frame_url"
    if model == "wan/2-7-image-to-video" and not (body.get("first_clip_url") or body.get("first_frame_url")):
        return "first_frame_url or first_clip_url is required"
    if model == "wan/2-7-r2v" and not (body.get("reference_image") or body.get("reference_video")):
        return "reference_image or reference_video is required"
    if model.startswith("hailuo/2-3") and (body.get("resolution"), body.get("duration")) == ("1080P", "10"):
        return "duration 10 is not supported with resolution 1080P"
    return None
