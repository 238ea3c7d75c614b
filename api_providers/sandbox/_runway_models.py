"""What Runway's models take and cost: the twin's own reading of the API, kept apart from the client's data file.

Shapes follow the request types of Runway's Python SDK 5.24.0. Lengths that it does not name are those of Runway's
documentation, or 1 to 30 s. What a request costs: `_runway_prices.py`.
"""

from dataclasses import dataclass, field
from typing import Any

AUTO = "auto"
UINT32 = 4_294_967_295


@dataclass(frozen=True)
class Shape:
    """One model at one endpoint. Fields outside `required` and `optional` are refused."""

    required: frozenset[str]
    optional: frozenset[str]
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    durations: tuple[int, ...] = tuple(range(1, 31))
    """Whole seconds; where Runway documents no range, the twin takes 1 to 30."""
    auto: bool = False
    """Whether `duration` may be "auto"."""
    seconds: int = 5
    """The default duration."""
    prompt_max: int | None = None
    """In UTF-16 code units; None where Runway documents no limit."""
    last_frame: bool = False
    free_images: bool = False
    """`promptImage` entries may come without a position, as references."""
    most: dict[str, int] = field(default_factory=dict)
    """The longest list of each field; where Runway documents none, any."""
    frames_auto: bool = False
    """With frames `ratio` must be one of the `auto_` ones."""
    video_seconds: tuple[float, float] | None = None
    """Shortest and longest input video."""


SIX = ("1280:720", "720:1280", "1104:832", "960:960", "832:1104", "1584:672")
VEO = ("1280:720", "720:1280", "1080:1920", "1920:1080")
LEVEL = {
    "standard": ("1280:720", "720:1280", "960:960"),
    "pro": ("1920:1080", "1080:1920", "1440:1440"),
    "4k": ("3840:2160", "2160:3840", "2880:2880"),
}
SEEDANCE_SMALL = ("992:432", "864:496", "752:560", "640:640", "560:752", "496:864")
SEEDANCE_720 = ("1470:630", "1280:720", "1112:834", "960:960", "834:1112", "720:1280")
SEEDANCE_1080 = ("2206:946", "1920:1080", "1664:1248", "1440:1440", "1248:1664", "1080:1920")
SEEDANCE_4K = ("3840:1646", "3840:2160", "3840:2880", "3840:3840", "2880:3840", "2160:3840")
WAN = (
    *("832:480", "720:544", "624:624", "544:720", "480:832", "1280:720", "1104:832", "960:960", "832:1104"),
    *("720:1280", "1920:1080", "1648:1248", "1440:1440", "1248:1648", "1080:1920"),
    *("auto_480p", "auto_720p", "auto_1080p"),
)
KLING_4_AUTO = ("auto_720p", "auto_1080p")
KLING_4 = (
    *("1280:720", "720:1280", "940:940", "1460:624", "1920:1080", "1080:1920", "1440:1440", "2200:940"),
    *KLING_4_AUTO,
)
SEEDANCE_25_SMALL = ("992:432", "854:480", "752:560", "640:640", "560:752", "480:854")
HAILUO = ("adaptive", "21:9", "16:9", "4:3", "1:1", "3:4", "9:16")
OMNI = ("1280:720", "720:1280")
OMNI_11 = (*OMNI, "640:360", "360:640", "1920:1080", "1080:1920", "3840:2160", "2160:3840")
IMAGE_720 = ("1280:720", "720:1280", "720:720", "960:720", "720:960", "1680:720")
IMAGE = (
    *IMAGE_720,
    *("1024:1024", "1080:1080", "1168:880", "1360:768", "1440:1080", "1080:1440"),
    *("1808:768", "1920:1080", "1080:1920", "2112:912"),
)
DEEP_FORMATS = (
    *("hdr10", "hlg", "sdr_rec709_10bit", "hdr_pq_12bit_master", "hdr_prores", "hdr_png_sequence"),
    *("hdr_exr_sequence", "hdr_exr_acescg_sequence_1_3", "hdr_exr_acescg_sequence_2_0"),
)
FORMATS = ("mp4", "prores", "png_sequence", *DEEP_FORMATS)
PRORES = ("422", "4444", "422 Proxy", "422 LT", "422 HQ", "4444 XQ")
FRAMERATES = ("24", "25", "30", "48", "50", "60", "120", "23_98", "29_97", "59_94")
MODES = ("reference", "extend", "edit")


def _shape(required: str, optional: str = "", *, ratio: tuple[str, ...] = (), **rest: Any) -> Shape:
    choices: dict[str, tuple[str, ...]] = dict(rest.pop("choices", {}))
    if ratio:
        choices["ratio"] = ratio
    return Shape(frozenset(required.split()), frozenset(optional.split()), choices, **rest)


_GEN45: dict[str, Any] = {"outputFormat": FORMATS, "proresProfile": PRORES}
_GEN45_OPTIONAL = "seed contentModeration outputFormat proresProfile"
_GEN: dict[str, Any] = {"durations": tuple(range(2, 11)), "prompt_max": 1000}
_VEO_TAKES: dict[str, Any] = {"ratio": VEO, "durations": (4, 6, 8), "seconds": 8, "prompt_max": 1000}
_SEEDANCE: dict[str, Any] = {
    "auto": True,
    "durations": tuple(range(4, 16)),
    "prompt_max": 3500,
    "most": {"references": 9},
}
_SEEDANCE_25: dict[str, Any] = {
    "auto": True,
    "durations": tuple(range(4, 31)),
    "prompt_max": 15_000,
    "most": {"references": 30},
    "ratio": (*SEEDANCE_25_SMALL, *SEEDANCE_720, *SEEDANCE_1080),
}
_SEEDANCE_RATIOS = {
    "seedance2": (*SEEDANCE_SMALL, *SEEDANCE_720, *SEEDANCE_1080, *SEEDANCE_4K),
    "seedance2_fast": (*SEEDANCE_SMALL, *SEEDANCE_720),
    "seedance2_mini": (*SEEDANCE_SMALL, *SEEDANCE_720),
}
_HAILUO_TAKES: dict[str, Any] = {
    "ratio": HAILUO,
    "choices": {"resolution": ("768p", "2k", "768P", "2K")},
    "durations": tuple(range(5, 16)),
    "most": {"references": 9},
}
_H3_MAX: dict[str, Any] = {
    "choices": {
        "resolution": ("480p", "768p"),
        "promptExpansionMode": ("disabled", "balanced", "quality"),
    },
    "durations": tuple(range(5, 16)),
}
_WAN: dict[str, Any] = {"ratio": WAN, "durations": tuple(range(2, 31)), "most": {"references": 10}}
_PICTURES_4: dict[str, int] = {"references": 10, "referenceVideos": 5}
_REFS = "references referenceVideos referenceAudio"

TEXT_TO_VIDEO = {
    "gen4.5": _shape("promptText duration ratio", _GEN45_OPTIONAL, ratio=OMNI, choices=_GEN45, **_GEN),
    "veo3.1": _shape("promptText ratio", "audio duration negativePrompt seed", **_VEO_TAKES),
    "veo3.1_fast": _shape("promptText ratio", "audio duration negativePrompt seed", **_VEO_TAKES),
    "kling2.5_turbo_pro": _shape(
        "promptText",
        "cfgScale duration ratio",
        ratio=("1920:1080", "1440:1440", "1080:1920", "1280:720", "720:720", "720:1280"),
        durations=(5, 10),
    ),
    "hailuo3": _shape("promptText", f"duration ratio resolution {_REFS}", **_HAILUO_TAKES),
    "h3_max": _shape("promptText", "duration resolution promptExpansionMode seed", **_H3_MAX),
    "kling_4": _shape(
        "promptText", "duration ratio references referenceVideos", ratio=KLING_4, most=_PICTURES_4
    ),
    "gemini_omni_flash": _shape("promptText", "duration ratio", ratio=OMNI, durations=tuple(range(3, 11))),
    "gemini_omni_flash_1.1": _shape(
        "promptText",
        "duration ratio references referenceVideos",
        ratio=OMNI_11,
        durations=tuple(range(3, 11)),
        auto=True,
    ),
    "seedance2_5": _shape(
        "",
        f"promptText audio draft draftTaskId duration outputFormat ratio seed {_REFS}",
        choices={"outputFormat": ("mp4", "mov")},
        **_SEEDANCE_25,
    ),
}
IMAGE_TO_VIDEO = {
    "gen4.5": _shape(
        "promptImage promptText duration ratio", _GEN45_OPTIONAL, ratio=SIX, choices=_GEN45, **_GEN
    ),
    "gen4_turbo": _shape(
        "promptImage ratio", "promptText duration seed contentModeration", ratio=SIX, seconds=10, **_GEN
    ),
    "veo3.1": _shape(
        "promptImage ratio", "promptText audio duration negativePrompt seed", last_frame=True, **_VEO_TAKES
    ),
    "veo3.1_fast": _shape(
        "promptImage ratio", "promptText audio duration negativePrompt seed", last_frame=True, **_VEO_TAKES
    ),
    "kling2.5_turbo_pro": _shape(
        "promptImage promptText", "cfgScale duration", durations=(5, 10), last_frame=True
    ),
    "hailuo3": _shape(
        "promptImage promptText",
        "duration ratio resolution referenceAudio",
        last_frame=True,
        free_images=True,
        **_HAILUO_TAKES,
    ),
    "h3_max": _shape(
        "promptImage promptText",
        "duration resolution promptExpansionMode seed",
        last_frame=True,
        **_H3_MAX,
    ),
    "kling_4": _shape(
        "promptImage",
        "promptText duration ratio references referenceVideos",
        ratio=KLING_4_AUTO,
        most=_PICTURES_4,
        last_frame=True,
    ),
    "gemini_omni_flash": _shape(
        "promptImage", "promptText duration ratio", ratio=OMNI, durations=tuple(range(3, 11))
    ),
    "gemini_omni_flash_1.1": _shape(
        "promptImage promptText",
        "duration ratio",
        ratio=OMNI_11,
        durations=tuple(range(3, 11)),
        auto=True,
        last_frame=True,
    ),
    "seedance2_5": _shape(
        "promptImage",
        "promptText audio draft duration outputFormat ratio seed referenceAudio",
        choices={"outputFormat": ("mp4", "mov")},
        last_frame=True,
        free_images=True,
        **_SEEDANCE_25,
    ),
}
VIDEO_TO_VIDEO = {
    "aleph2": _shape(
        "videoUri",
        "promptText keyframes targetAspectRatio ratio outputFormat proresProfile seed contentModeration",
        choices={
            "outputFormat": ("mp4", "prores", "png_sequence", "sdr_rec709_10bit"),
            "proresProfile": PRORES,
            "targetAspectRatio": ("16:9", "4:3", "3:2", "1:1", "2:3", "3:4", "9:16", "21:9"),
        },
        most={"keyframes": 5},
        video_seconds=(2, 30),
    ),
    "kling_4": _shape("promptText videoUri", "ratio references", ratio=KLING_4_AUTO, most=_PICTURES_4),
    "gemini_omni_flash": _shape("promptText videoUri", "references", video_seconds=(0, 10)),
    "gemini_omni_flash_1.1": _shape(
        "promptText videoUri",
        "duration mode ratio references",
        ratio=OMNI_11,
        durations=tuple(range(3, 11)),
        auto=True,
        choices={"mode": MODES},
    ),
    "hailuo3": _shape("promptText promptVideo", f"duration ratio resolution {_REFS}", **_HAILUO_TAKES),
    "seedance2_5": _shape(
        "promptVideo",
        f"promptText audio draft duration mode outputFormat ratio seed {_REFS}",
        choices={"mode": MODES, "outputFormat": ("mp4", "mov")},
        **_SEEDANCE_25,
    ),
}
for _name, _ratios in _SEEDANCE_RATIOS.items():
    TEXT_TO_VIDEO[_name] = _shape(
        "promptText", f"audio duration ratio seed {_REFS}", ratio=_ratios, **_SEEDANCE
    )
    IMAGE_TO_VIDEO[_name] = _shape(
        "promptImage",
        "promptText audio duration ratio seed referenceAudio",
        ratio=_ratios,
        last_frame=True,
        free_images=True,
        **_SEEDANCE,
    )
    VIDEO_TO_VIDEO[_name] = _shape(
        "promptVideo", f"promptText audio duration ratio seed {_REFS}", ratio=_ratios, **_SEEDANCE
    )
for _name in ("wan3", "wan3_prime"):
    TEXT_TO_VIDEO[_name] = _shape("promptText", f"audio duration ratio {_REFS}", **_WAN)
    IMAGE_TO_VIDEO[_name] = _shape(
        "promptImage promptText",
        "audio duration ratio referenceAudio referenceVideos",
        last_frame=True,
        free_images=True,
        frames_auto=True,
        **_WAN,
    )
for _level, _ratios in LEVEL.items():
    for _line, _extra in (("kling3.0", "cfgScale"), ("klingO3", "")):
        _takes: dict[str, Any] = {"ratio": _ratios, "durations": tuple(range(3, 16))}
        TEXT_TO_VIDEO[f"{_line}_{_level}"] = _shape(
            "ratio", f"promptText audio duration providerSettings {_extra}", **_takes
        )
        IMAGE_TO_VIDEO[f"{_line}_{_level}"] = _shape(
            "promptImage",
            f"promptText audio duration providerSettings ratio {_extra or 'references'}",
            last_frame=True,
            most={"references": 7},
            **_takes,
        )
    VIDEO_TO_VIDEO[f"klingO3_{_level}"] = _shape(
        "promptText promptVideo", "providerSettings references", most={"references": 4}
    )

ENDPOINTS: dict[str, dict[str, Shape]] = {
    "text_to_video": TEXT_TO_VIDEO,
    "image_to_video": IMAGE_TO_VIDEO,
    "video_to_video": VIDEO_TO_VIDEO,
    "character_performance": {
        "act_two": _shape(
            "character reference", "bodyControl contentModeration expressionIntensity ratio seed", ratio=SIX
        )
    },
    "video_upscale": {
        "magnific_video_upscaler_creative": _shape(
            "videoUri",
            "creativity flavor fpsBoost resolution sharpen smartGrain",
            choices={"flavor": ("vivid", "natural"), "resolution": ("720p", "1k", "2k", "4k")},
            video_seconds=(0, 30),
        ),
        "enhance_frame_rate": _shape(
            "videoUri targetFramerate", choices={"targetFramerate": FRAMERATES}, video_seconds=(0, 300)
        ),
    },
    "text_to_image": {
        "gen4_image": _shape(
            "promptText ratio",
            "contentModeration referenceImages seed",
            ratio=IMAGE,
            prompt_max=1000,
            most={"referenceImages": 3},
        ),
        "gen4_image_turbo": _shape(
            "promptText ratio referenceImages",
            "contentModeration seed",
            ratio=IMAGE,
            prompt_max=1000,
            most={"referenceImages": 3},
        ),
    },
}
