"""What the Kling twin knows of each model: which bodies it takes and how many units it deducts.

Read from mirrors of kling.ai/document-api (the capability map and the pages of both APIs) and from Kling's table of
prices as transcribed in 2026-08; written down apart from the client's own table, so that a wrong row shows.
"""

from dataclasses import dataclass
from decimal import Decimal

UNIT_USD = Decimal("0.14")
RESOLUTION = {"std": "720p", "pro": "1080p", "4k": "4k"}
PIXELS = {"720p": 720, "1080p": 1080, "4k": 2160}
THREE_TO_FIFTEEN = tuple(range(3, 16))
BOTH = ("std", "pro")


@dataclass(frozen=True)
class Model:
    """One `model_name` of text2video and image2video."""

    text: bool = True
    image: bool = True
    modes: tuple[str, ...] = BOTH
    """Empty: it takes no mode."""
    seconds: tuple[int, ...] = (5, 10)
    tail: tuple[str, ...] = ()
    """Modes in which it takes an end frame."""
    tail_seconds: tuple[int, ...] = (5, 10)
    sound: tuple[str, ...] = ()
    """Modes in which `sound` may be on."""
    camera: str = ""
    """`text`: all movements in std; `image`: only `simple`, in pro; both only with 5 s."""
    brush: tuple[str, ...] = ()
    cfg: bool = False
    """Whether it takes cfg_scale; 2.0 and later do not."""


MODELS = {
    "kling-v1": Model(tail=BOTH, tail_seconds=(5,), camera="text", brush=BOTH, cfg=True),
    "kling-v1-5": Model(text=False, tail=("pro",), camera="image", brush=("pro",), cfg=True),
    "kling-v1-6": Model(tail=("pro",), cfg=True),
    "kling-v2-master": Model(modes=()),
    "kling-v2-1": Model(text=False, tail=("pro",)),
    "kling-v2-1-master": Model(modes=()),
    "kling-v2-5-turbo": Model(tail=("pro",)),
    "kling-v2-6": Model(tail=("pro",), sound=("pro",)),
    "kling-v3": Model(
        modes=(*BOTH, "4k"),
        seconds=THREE_TO_FIFTEEN,
        tail=BOTH,
        tail_seconds=THREE_TO_FIFTEEN,
        sound=(*BOTH, "4k"),
    ),
}


@dataclass(frozen=True)
class NewModel:
    """One model of the newer API at one of its endpoints."""

    legacy: str
    """The name under which it is priced and counted."""
    types: tuple[str, ...]
    """What `contents` may hold; empty: the prompt stands alone."""
    resolutions: tuple[str, ...] = ("720p", "1080p")
    seconds: tuple[int, ...] = (5, 10)
    ratio: bool = False
    audio: tuple[str, ...] = ()
    """Words of the `audio` setting; empty: there is no such setting."""
    multi_shot: bool = False
    prompt_max: int = 2500


_FRAMES = ("prompt", "first_frame", "last_frame")
_OMNI = (*_FRAMES, "refer_image", "feature_video", "base_video", "element")
_MOTION = ("prompt", "image", "video")
_UP_TO_4K = ("720p", "1080p", "4k")
_NATIVE, _ORIGINAL = ("native", "off"), ("original", "off")


def _three(name: str, types: tuple[str, ...], *, ratio: bool, audio: tuple[str, ...]) -> NewModel:
    """A model of the 3.0 family."""
    return NewModel(name, types, _UP_TO_4K, THREE_TO_FIFTEEN, ratio, audio, multi_shot=True, prompt_max=3072)


NEW_MODELS = {
    "text-to-video": {
        "kling-3.0-turbo": NewModel(
            "kling-3.0-turbo", (), seconds=THREE_TO_FIFTEEN, ratio=True, prompt_max=3072
        ),
        "kling-3.0": _three("kling-v3", (), ratio=True, audio=_NATIVE),
        "kling-2.6": NewModel("kling-v2-6", (), ratio=True, audio=_NATIVE),
        "kling-2.5-turbo": NewModel("kling-v2-5-turbo", (), ratio=True),
    },
    "image-to-video": {
        "kling-3.0-turbo": NewModel("kling-3.0-turbo", ("prompt", "first_frame"), seconds=THREE_TO_FIFTEEN),
        "kling-3.0": _three("kling-v3", (*_FRAMES, "element"), ratio=False, audio=_NATIVE),
        "kling-2.6": NewModel("kling-v2-6", (*_FRAMES, "voice"), audio=_NATIVE),
        "kling-2.5-turbo": NewModel("kling-v2-5-turbo", _FRAMES),
    },
    "omni-video": {
        "kling-3.0-omni": _three("kling-v3-omni", _OMNI, ratio=True, audio=("native", *_ORIGINAL)),
        "kling-o1": NewModel(
            "kling-video-o1", _OMNI, seconds=tuple(range(3, 11)), ratio=True, audio=_ORIGINAL
        ),
    },
    "motion-control": {
        "kling-3.0": NewModel("kling-v3", (*_MOTION, "element"), seconds=(), audio=_ORIGINAL),
        "kling-2.6": NewModel("kling-v2-6", _MOTION, seconds=(), audio=_ORIGINAL),
    },
}

_SILENT = {
    "kling-v1": {"720p": "0.2", "1080p": "0.7"},
    "kling-v1-5": {"720p": "0.4", "1080p": "0.7"},
    "kling-v1-6": {"720p": "0.4", "1080p": "0.7"},
    "kling-v2-master": {"720p": "2.0"},
    "kling-v2-1": {"720p": "0.4", "1080p": "0.7"},
    "kling-v2-1-master": {"1080p": "2.0"},
    "kling-v2-5-turbo": {"720p": "0.3", "1080p": "0.5"},
    "kling-v2-6": {"720p": "0.3", "1080p": "0.5"},
    "kling-v3": {"720p": "0.6", "1080p": "0.8", "4k": "3.0"},
    "kling-3.0-turbo": {"720p": "0.8", "1080p": "1.0"},
    "kling-video-o1": {"720p": "0.6", "1080p": "0.8"},
    "kling-v3-omni": {"720p": "0.6", "1080p": "0.8", "4k": "3.0"},
}
_WITH_SOUND = {
    "kling-v2-6": {"1080p": "1.0"},
    "kling-v3": {"720p": "0.9", "1080p": "1.2", "4k": "3.0"},
    "kling-v3-omni": {"720p": "0.8", "1080p": "1.0", "4k": "3.0"},
}
_WITH_VIDEO = {
    "kling-video-o1": {"720p": "0.9", "1080p": "1.2"},
    "kling-v3-omni": {"720p": "0.9", "1080p": "1.2", "4k": "3.0"},
    # Motion control: no price of Kling's own was found; 720p is what a reseller says Kling asks.
    "kling-v2-6": {"720p": "0.9", "1080p": "1.2"},
    "kling-v3": {"720p": "0.9", "1080p": "1.2"},
}
LIP_SYNC_PER_5_S = Decimal("0.5")
FACE_SEARCH = Decimal("0.05")
AVATAR = {"std": Decimal("0.4"), "pro": Decimal("0.8")}
"""Per second; that of pro is a stand-in, no price of it was found."""
EFFECT = Decimal("2.0")
EXTEND = Decimal("2.0")
"""Both per clip, both stand-ins: no price was found."""
EXTENDABLE = frozenset({"kling-v1", "kling-v1-5", "kling-v1-6"})
PAIRS = frozenset(
    {
        *("pet_skateboard", "daily_ootd", "toss_run", "switch_to_silk", "studio_look", "french_elegance"),
        *("finger_swipe", "smooth_transition", "snow_night_kiss", "eternal_kiss", "cheers_2026", "kiss_pro"),
        *("fight_pro", "hug_pro", "heart_gesture_pro"),
    }
)
"""Effects that take two images; all other names here take one."""
WITHDRAWN = frozenset(
    {"kiss", "fight", "hug", "thumbs_up", "tiger_hug", "pet_lion", "3d_cartoon_1", "magic_match_tree"}
)


def units_per_second(model: str, resolution: str, *, sound: bool = False, video: bool = False) -> Decimal:
    """The rate for a second of the clip; raises KeyError where the model has no such output."""
    table = _WITH_VIDEO if video else _WITH_SOUND if sound else _SILENT
    return Decimal(table[model][resolution])
