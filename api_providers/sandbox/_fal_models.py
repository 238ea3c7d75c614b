"""What fal's video models take and cost: the twin's own reading, kept apart from the client's data file.

Field names and prices as the model pages show them (docs snapshot 2026); where a price is not public the twin bills
`STAND_IN_USD` per second, so that the model can be rehearsed at all. Unknown input keys are ignored, as fal's models do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

STAND_IN_USD = Decimal("0.10")
Kind = Literal["text", "flag", "whole", "url", "urls"]


@dataclass(frozen=True)
class Field:
    """One input field: of a `kind`, or one of `choices`."""

    kind: Kind = "text"
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    longest: int | None = None
    """Characters, or entries of a list."""


@dataclass(frozen=True)
class Model:
    """One endpoint: its fields, and its price of a second for an input with defaults filled in."""

    fields: dict[str, Field]
    per_second: Callable[[dict[str, Any]], Decimal]
    seconds: float = 8
    """The length of the clip where the input has no duration."""


def _one(*choices: str) -> Field:
    return Field(choices=choices, default=choices[0])


PROMPT = Field(required=True, longest=20_000)
URL = Field("url", required=True)
MAYBE_URL = Field("url")
SEED = Field("whole", low=0)
ON = Field("flag", default=True)
OFF = Field("flag", default=False)


def _veo(standard: bool) -> Callable[[dict[str, Any]], Decimal]:
    silent, loud, silent_4k, loud_4k = (
        ("0.20", "0.40", "0.40", "0.60") if standard else ("0.10", "0.15", "0.30", "0.35")
    )

    def price(body: dict[str, Any]) -> Decimal:
        if body["resolution"] == "4k":
            return Decimal(loud_4k if body["generate_audio"] else silent_4k)
        return Decimal(loud if body["generate_audio"] else silent)

    return price


def _audio(silent: str, loud: str) -> Callable[[dict[str, Any]], Decimal]:
    return lambda body: Decimal(loud if body["generate_audio"] else silent)


def _flat(usd: Decimal = STAND_IN_USD) -> Callable[[dict[str, Any]], Decimal]:
    return lambda body: usd


_VEO_COMMON = {
    "prompt": PROMPT,
    "resolution": _one("720p", "1080p", "4k"),
    "generate_audio": ON,
    "negative_prompt": Field(),
    "seed": SEED,
    "auto_fix": OFF,
}
_VEO_LENGTH = {"duration": _one("8s", "6s", "4s")}
_VEO_TEXT = {**_VEO_COMMON, **_VEO_LENGTH, "aspect_ratio": _one("16:9", "9:16")}
_VEO_IMAGE = {**_VEO_COMMON, **_VEO_LENGTH, "aspect_ratio": _one("auto", "16:9", "9:16")}
_KLING = {
    "prompt": PROMPT,
    "negative_prompt": Field(default="blur, distort, and low quality"),
    "generate_audio": ON,
}
_KLING_RATIO = {"aspect_ratio": _one("16:9", "9:16", "1:1")}
_KLING_26_LENGTH = {"duration": _one("5", "10")}
_KLING_3_LENGTH = {"duration": _one("5", *(str(n) for n in range(3, 16) if n != 5))}
_SEEDANCE = {
    "prompt": PROMPT,
    "resolution": _one("720p", "480p", "1080p", "4k"),
    "duration": _one("auto", *(str(n) for n in range(4, 16))),
    "aspect_ratio": _one("auto", "21:9", "16:9", "4:3", "1:1", "3:4", "9:16"),
    "generate_audio": ON,
    "seed": SEED,
}
_LUMA = {
    "prompt": PROMPT,
    "aspect_ratio": _one("16:9", "9:16", "4:3", "3:4", "21:9", "9:21"),
    "resolution": _one("540p", "720p", "1080p"),
    "duration": _one("5s", "9s"),
    "loop": OFF,
}
_H3 = {
    "prompt": PROMPT,
    "duration": Field("whole", default=5, low=4, high=15),
    "resolution": _one("2K", "480P", "768P", "4K"),
    "aspect_ratio": _one("16:9", "adaptive", "21:9", "4:3", "1:1", "3:4", "9:16"),
}
_OMNI = {
    "prompt": PROMPT,
    "duration": Field("whole", default=8, low=3, high=10),
    "aspect_ratio": _one("16:9", "9:16"),
}

MODELS: dict[str, Model] = {
    "google/gemini-omni-flash/v1.1/text-to-video": Model(_OMNI, _flat()),
    "minimax/h3/text-to-video": Model(_H3, _flat(), 5),
    "minimax/h3/image-to-video": Model({**_H3, "image_url": URL, "end_image_url": MAYBE_URL}, _flat(), 5),
    "minimax/h3/reference-to-video": Model(
        {**_H3, "reference_image_urls": Field("urls", required=True, longest=9)}, _flat(), 5
    ),
    "bytedance/seedance-2.0/text-to-video": Model(_SEEDANCE, _flat(), 5),
    "bytedance/seedance-2.0/image-to-video": Model(
        {**_SEEDANCE, "image_url": URL, "end_image_url": MAYBE_URL}, _flat(), 5
    ),
    "fal-ai/luma-dream-machine/ray-2": Model(_LUMA, _flat(), 5),
    "fal-ai/luma-dream-machine/ray-2/image-to-video": Model(
        {**_LUMA, "image_url": MAYBE_URL, "end_image_url": MAYBE_URL}, _flat(), 5
    ),
    "fal-ai/topaz/upscale/video": Model(
        {"video_url": URL, "upscale_factor": Field("whole", default=2)}, _flat(), 5
    ),
    "fal-ai/sync-lipsync/v2": Model({"video_url": URL, "audio_url": URL}, _flat(), 5),
}
for _path, _standard in (("", True), ("/fast", False)):
    _base = f"fal-ai/veo3.1{_path}"
    MODELS[_base] = Model(_VEO_TEXT, _veo(_standard))
    MODELS[f"{_base}/image-to-video"] = Model({**_VEO_IMAGE, "image_url": URL}, _veo(_standard))
    MODELS[f"{_base}/first-last-frame-to-video"] = Model(
        {**_VEO_IMAGE, "first_frame_url": URL, "last_frame_url": URL}, _veo(_standard)
    )
    MODELS[f"{_base}/extend-video"] = Model(
        {
            **_VEO_COMMON,
            "aspect_ratio": _one("auto", "16:9", "9:16"),
            "duration": _one("7s"),
            "video_url": URL,
        },
        _veo(_standard),
        7,
    )
MODELS["fal-ai/veo3.1/reference-to-video"] = Model(
    {**_VEO_COMMON, "duration": _one("8s"), "image_urls": Field("urls", required=True, longest=3)}, _veo(True)
)
for _line, _length, _frames, _rates in (
    ("v2.6/pro", _KLING_26_LENGTH, {"start_image_url": URL}, _audio("0.07", "0.14")),
    (
        "v3/pro",
        _KLING_3_LENGTH,
        {"start_image_url": URL, "end_image_url": MAYBE_URL},
        _audio("0.224", "0.336"),
    ),
    (
        "v3/standard",
        _KLING_3_LENGTH,
        {"start_image_url": URL, "end_image_url": MAYBE_URL},
        _audio("0.084", "0.126"),
    ),
):
    _base = f"fal-ai/kling-video/{_line}"
    MODELS[f"{_base}/text-to-video"] = Model({**_KLING, **_length, **_KLING_RATIO}, _rates, 5)
    MODELS[f"{_base}/image-to-video"] = Model({**_KLING, **_length, **_frames}, _rates, 5)


def clip_seconds(model: Model, body: dict[str, Any]) -> float:
    """The length of the result for an input with defaults filled in."""
    text = str(body.get("duration", "")).removesuffix("s")
    return float(text) if text.isdecimal() else model.seconds
