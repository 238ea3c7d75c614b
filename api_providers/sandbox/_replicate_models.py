"""What Replicate's video models take and cost: the twin's own reading, kept apart from the client's data file.

Field names from the model pages and from schemas that others have copied (both unverified in our sheet); where a price
is not public the twin bills `STAND_IN_USD` per second, so that the model can be rehearsed at all.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from api_providers.sandbox._fields import Field, one_of, schema_of

STAND_IN_USD = Decimal("0.10")
Price = Callable[[dict[str, Any], Decimal], Decimal]
"""What an input with defaults filled in costs, for a clip of so many seconds, in USD."""


@dataclass(frozen=True)
class Model:
    """One model: its inputs, its price, the length of a clip without a duration, and the form of its output."""

    fields: dict[str, Field]
    price: Price
    seconds: float = 5
    output: Literal["link", "list", "table"] = "link"
    official: bool = True
    """A community model has versions, and ignores inputs that it does not know."""


PROMPT = Field(required=True)
URL = Field("url", required=True)
MAYBE_URL = Field("url")
SEED = Field("whole", high=2147483647)
OFF = Field("flag", default=False)
ON = Field("flag", default=True)
NEGATIVE = Field(default="")


def _flat(usd: str | Decimal = STAND_IN_USD) -> Price:
    return lambda body, seconds: Decimal(usd) * seconds


def _by_resolution(per_clip: bool = False, **rates: str) -> Price:
    table = {name.removeprefix("_"): Decimal(usd) for name, usd in rates.items()}
    return lambda body, seconds: table[str(body["resolution"]).lower()] * (1 if per_clip else seconds)


def _seedance_15(body: dict[str, Any], seconds: Decimal) -> Decimal:
    """Without sound as noted; with it twice, a stand-in."""
    rate = {"480p": Decimal("0.013"), "720p": Decimal("0.026"), "1080p": Decimal("0.06")}[body["resolution"]]
    return rate * seconds * (2 if body["generate_audio"] else 1)


_KLING = {
    "prompt": PROMPT,
    "negative_prompt": NEGATIVE,
    "start_image": MAYBE_URL,
    "duration": one_of(5, 10),
    "aspect_ratio": one_of("16:9", "9:16", "1:1"),
}
_VEO_LITE = {
    "prompt": PROMPT,
    "image": MAYBE_URL,
    "duration": one_of(8, 4, 6),
    "resolution": one_of("720p", "1080p"),
    "aspect_ratio": one_of("16:9", "9:16"),
}
_VEO = {
    **_VEO_LITE,
    "last_frame": MAYBE_URL,
    "reference_images": Field("urls", longest=3),
    "generate_audio": ON,
    "negative_prompt": Field(),
    "seed": SEED,
}
_SEEDANCE = {
    "prompt": PROMPT,
    "image": MAYBE_URL,
    "last_frame_image": MAYBE_URL,
    "duration": Field("whole", default=5, low=3, high=12),
    "resolution": one_of("1080p", "480p", "720p"),
    "aspect_ratio": one_of("16:9", "4:3", "1:1", "3:4", "9:16", "21:9", "9:21"),
    "fps": one_of(24),
    "camera_fixed": OFF,
    "seed": SEED,
}
_RAY = {
    "prompt": PROMPT,
    "start_image_url": MAYBE_URL,
    "end_image_url": MAYBE_URL,
    "duration": one_of(5, 9),
    "aspect_ratio": one_of("16:9", "9:16", "4:3", "3:4", "1:1", "21:9"),
    "loop": OFF,
}
_CLIP = {"prompt": PROMPT, "seconds": Field("whole", default=4, low=1, high=8), "seed": SEED}

MODELS: dict[str, Model] = {
    "kwaivgi/kling-v2.5-turbo-pro": Model(
        {**_KLING, "end_image": MAYBE_URL, "image": MAYBE_URL}, _flat("0.07")
    ),
    "kwaivgi/kling-v2.6": Model({**_KLING, "generate_audio": ON}, _flat()),
    "google/veo-3.1": Model(_VEO, _flat(), 8),
    "google/veo-3.1-fast": Model(_VEO, _flat(), 8),
    "google/veo-3.1-lite": Model(_VEO_LITE, _by_resolution(_720p="0.05", _1080p="0.08"), 8),
    "bytedance/seedance-1-pro": Model(_SEEDANCE, _flat()),
    "bytedance/seedance-1.5-pro": Model(
        {**_SEEDANCE, "duration": Field("whole", default=5, low=2, high=12), "generate_audio": OFF},
        _seedance_15,
    ),
    "alibaba/wan-3": Model(
        {
            "prompt": PROMPT,
            "image": MAYBE_URL,
            "duration": Field("whole", default=5, low=2, high=30),
            "resolution": one_of("1080p", "720p", "480p"),
            "aspect_ratio": one_of("adaptive", "16:9", "9:16", "1:1", "4:3", "3:4"),
        },
        _by_resolution(_480p="0.05", _720p="0.10", _1080p="0.20"),
    ),
    "wan-video/wan-2.5-i2v": Model(
        {
            "image": URL,
            "prompt": PROMPT,
            "negative_prompt": NEGATIVE,
            "audio": MAYBE_URL,
            "resolution": one_of("720p", "480p", "1080p"),
            "duration": one_of(5, 10),
            "enable_prompt_expansion": ON,
            "seed": SEED,
        },
        _flat(),
    ),
    "wan-video/wan-2.2-i2v-fast": Model(
        {
            "image": URL,
            "prompt": PROMPT,
            "resolution": one_of("480p", "720p"),
            "interpolate_output": OFF,
            "seed": SEED,
        },
        _by_resolution(per_clip=True, _480p="0.05", _720p="0.11"),
    ),
    "runwayml/gen4-turbo": Model(
        {
            "prompt": PROMPT,
            "image": URL,
            "duration": one_of(5, 10),
            "aspect_ratio": one_of("16:9", "9:16", "4:3", "3:4", "1:1", "21:9"),
            "seed": SEED,
        },
        _flat(),
    ),
    "luma/ray-2-720p": Model(_RAY, _flat()),
    "luma/ray-flash-2-720p": Model(_RAY, _flat()),
    "minimax/hailuo-02": Model(
        {
            "prompt": PROMPT,
            "first_frame_image": MAYBE_URL,
            "last_frame_image": MAYBE_URL,
            "duration": one_of(6, 10),
            "resolution": one_of("1080p", "768p", "512p"),
            "prompt_optimizer": ON,
        },
        _flat(),
    ),
    "topazlabs/video-upscale": Model({"video": URL, "target_resolution": one_of("1080p", "4k")}, _flat()),
    "sync/lipsync-2": Model({"video": URL, "audio": URL}, _flat()),
    "kwaivgi/kling-lip-sync": Model(
        {"video_url": MAYBE_URL, "audio_file": MAYBE_URL, "text": Field()}, _flat()
    ),
    # Stand-ins for the many community models: versions only, and outputs in the other two forms.
    "sandbox/list-of-clips": Model(_CLIP, _flat(), 4, "list", official=False),
    "sandbox/table-of-clips": Model(_CLIP, _flat(), 4, "table", official=False),
}


def version_of(name: str) -> str:
    """The 64 hex digits of a model's latest version."""
    return hashlib.sha256(name.encode()).hexdigest()


def by_version(version: str) -> str | None:
    """The model meant by a version: its id, `owner/name:id`, or `owner/name` of an official model."""
    name, _, id_ = version.rpartition(":")
    if name:
        return name if name in MODELS and version_of(name) == id_ else None
    if version in MODELS:
        return version if MODELS[version].official else None
    return next((name for name in MODELS if version_of(name) == version), None)


def clip_seconds(model: Model, body: dict[str, Any]) -> float:
    """The length of the result for an input with defaults filled in."""
    return float(body.get("duration") or body.get("seconds") or model.seconds)


def openapi(model: Model) -> dict[str, Any]:
    """The document that the API gives with a model's version."""
    link: dict[str, Any] = {"type": "string", "title": "Output", "format": "uri"}
    forms: dict[str, dict[str, Any]] = {
        "link": link,
        "list": {"type": "array", "items": {"type": "string", "format": "uri"}, "title": "Output"},
        "table": {"type": "object", "title": "Output", "properties": {"video": link}},
    }
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/PredictionRequest"}}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": {"/predictions": {"post": {"summary": "Predict", "requestBody": body}}},
        "components": {
            "schemas": {
                "Input": schema_of(model.fields, nullable="nullable"),
                "Output": forms[model.output],
                "PredictionRequest": {
                    "type": "object",
                    "properties": {"input": {"$ref": "#/components/schemas/Input"}},
                },
            }
        },
    }
