"""What each model of the AI/ML API twin takes, read from the vendor's OpenAPI files (api-docs, 2026-08-21) by itself.

Media fields are documented as URLs; a data URI is a URI too and is taken here, whether the vendor does is (unverified).
Only Kling 2.6 Pro without sound has a known price; all else is billed at an assumed one, sound at double.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

Check = Callable[[Any], str | None]
"""What is wrong with a value, None where nothing is."""
KNOWN_PER_SECOND = {
    "klingai/video-v2-6-pro-text-to-video": "0.091",
    "klingai/video-v2-6-pro-image-to-video": "0.091",
}
ASSUMED_PER_SECOND = "0.10"
ASSUMED_S = 5
"""Length of what has no `duration`: motion, avatar, edit. The twin fetches nothing."""
AXES = ("horizontal", "vertical", "pan", "tilt", "roll", "zoom")
COMPOUND = ("down_back", "forward_up", "right_turn_forward", "left_turn_forward")


class Shape(NamedTuple):
    """One model: its fields, which of them are required, and the default length in seconds."""

    fields: dict[str, Check]
    required: tuple[str, ...]
    seconds: int = ASSUMED_S


def issues(body: dict[str, Any], shape: Shape) -> list[dict[str, Any]]:
    """Everything that is wrong; members that are not known are ignored."""
    found = []
    for name, check in shape.fields.items():
        if name not in body:
            if name in shape.required:
                found.append({"path": [name], "message": "Required"})
        elif (said := check(body[name])) is not None:
            found.append({"path": [name], "message": said})
    return found


def price(model: str, body: dict[str, Any]) -> Decimal:
    """USD for the whole clip."""
    rate = Decimal(KNOWN_PER_SECOND.get(model, ASSUMED_PER_SECOND))
    return rate * seconds(model, body) * (2 if sounds(model, body) else 1)


def seconds(model: str, body: dict[str, Any]) -> int:
    """How long the clip gets."""
    shape = MODELS[model]
    return int(body.get("duration", shape.seconds)) if "duration" in shape.fields else shape.seconds


def sounds(model: str, body: dict[str, Any]) -> bool:
    """Sound is on where the model has the switch and nobody turned it off."""
    return "generate_audio" in MODELS[model].fields and body.get("generate_audio", True) is True


def _url(value: Any) -> str | None:
    good = isinstance(value, str) and value.startswith(("https://", "http://", "data:"))
    return None if good else "Invalid url"


def _text(most: int = 100_000) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return "Expected string"
        return None if len(value) <= most else f"String must contain at most {most} character(s)"

    return check


def _one_of(*allowed: str) -> Check:
    return lambda value: None if value in allowed else f"Invalid enum value. Expected {' | '.join(allowed)}"


def _whole(*allowed: int) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"Expected integer, received {type(value).__name__}"
        return None if value in allowed else f"Expected one of {', '.join(map(str, allowed))}"

    return check


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> str | None:
        good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        return None if good else f"Expected number from {low:g} to {high:g}"

    return check


def _integer(value: Any) -> str | None:
    return None if isinstance(value, int) and not isinstance(value, bool) else "Expected integer"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "Expected boolean"


def _urls(most: int) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            return f"Array must contain 1 to {most} element(s)"
        return next((said for url in value if (said := _url(url))), None)

    return check


def _one_or_two(value: Any) -> str | None:
    return _urls(2)(value) if isinstance(value, list) else _url(value)


def _one_axis(value: Any) -> str | None:
    if not isinstance(value, dict) or {"movement_type", "movement_value"} - set(value):
        return "Required: movement_type, movement_value"
    return _one_of(*AXES)(value["movement_type"]) or _whole(*range(-10, 11))(value["movement_value"])


def _camera(value: Any) -> str | None:
    """The object that goes with an image."""
    if not isinstance(value, dict):
        return f"Expected object, received {type(value).__name__}"
    said = _one_of("simple", *COMPOUND)(value.get("type"))
    config = value.get("config", {})
    if said or not isinstance(config, dict):
        return said or "config: Expected object"
    return next((_number(-10, 10)(step) for step in config.values() if _number(-10, 10)(step)), None)


def _elements(value: Any) -> str | None:
    if not isinstance(value, list) or not 1 <= len(value) <= 4:
        return "Array must contain 1 to 4 element(s)"
    for one in value:
        said = _urls(4)(one.get("reference_image_urls")) if isinstance(one, dict) else "Expected object"
        if said:
            return f"reference_image_urls: {said}"
    return None


_RATIO = {"aspect_ratio": _one_of("16:9", "9:16", "1:1")}
_WAN_RATIO = {"aspect_ratio": _one_of("16:9", "9:16", "1:1", "4:3", "3:4")}
_FIVE_TEN = {"duration": _whole(5, 10)}
_LONG = {"duration": _whole(*range(3, 16))}
_CFG = {"cfg_scale": _number(0, 1)}
_NEGATIVE = {"negative_prompt": _text()}
_SOUND: dict[str, Check] = {"generate_audio": _flag}
_IMAGE: dict[str, Check] = {"image_url": _url}
_TAIL: dict[str, Check] = {"tail_image_url": _url, "elements": _elements}
_SHOT = {"shot_type": _one_of("customize", "intelligent", "intelligence")}
_PROMPT = {"prompt": _text()}
_2500 = {"prompt": _text(2500)}
_3072 = {"prompt": _text(3072)}
_TEXT = ("prompt",)
_BOTH = ("prompt", "image_url")
_PICTURE = ("image_url",)
_MOTION: dict[str, Check] = {
    **_PROMPT,
    **_IMAGE,
    "video_url": _url,
    "character_orientation": _one_of("image", "video"),
    "keep_audio": _flag,
    "mode": _one_of("std", "pro"),
}
_AVATAR: dict[str, Check] = {**_2500, **_IMAGE, "audio_url": _url}
_EFFECT: dict[str, Check] = {"image_url": _one_or_two, **_FIVE_TEN}
_SCENES = (
    *("magic_fireball pet_moto_rider media_interview pet_lion pet_delivery pet_chef santa_gifts").split(),
    *("santa_hug girlfriend boyfriend heart_gesture_1 pet_wizard smoke_smoke thumbs_up instant_kid").split(),
    *(
        "dollar_rain cry_cry building_collapse gun_shot mushroom double_gun pet_warrior lightning_power"
    ).split(),
    *("jesus_hug shark_alert long_hair lie_flat polar_bear_hug brown_bear_hug jazz_jazz").split(),
    *("office_escape_plow fly_fly watermelon_bomb pet_dance boss_coming wool_curly iron_warrior").split(),
    *("pet_bee marry_me swing_swing day_to_night piggy_morph wig_out car_explosion ski_ski").split(),
    *("tiger_hug siblings construction_worker let's_ride snatched magic_broom felt_felt jumpdrop").split(),
    *("celebration splashsplash hula surfsurf fairy_wing angel_wing dark_wing skateskate plushcut").split(),
    *("jelly_press jelly_slice jelly_squish jelly_jiggle pixelpixel yearbook instant_film").split(),
    *("anime_figure rocketrocket bloombloom dizzydizzy fuzzyfuzzy squish expansion hug kiss").split(),
    *("heart_gesture fight").split(),
)
_EFFECT["effect_scene"] = _one_of(*_SCENES)
_EDIT: dict[str, Check] = {**_2500, "video_url": _url, "keep_audio": _flag}
_MINIMAX: dict[str, Check] = {
    "prompt": _text(2000),
    **_IMAGE,
    "resolution": _one_of("768P", "1080P"),
    "duration": _whole(6, 10),
    "enhance_prompt": _flag,
}
_WAN: dict[str, Check] = {
    **_PROMPT,
    **_NEGATIVE,
    "resolution": _one_of("720p", "1080p"),
    "duration": _whole(5, 10, 15),
    "seed": _integer,
    "enhance_prompt": _flag,
}
_WAN_SHOT = {"shot_type": _one_of("single", "multi")}
_WAN_HEARS: dict[str, Check] = {"audio_url": _url}
_WAN_7: dict[str, Check] = {**_WAN, "negative_prompt": _text(500), "watermark": _flag}


def _three(kind: str, fields: dict[str, Check]) -> dict[str, Shape]:
    text = {**_PROMPT, **_NEGATIVE, **_CFG, **_LONG, **_SOUND, **_SHOT}
    return {
        f"klingai/video-v3-{kind}-text-to-video": Shape({**text, **_RATIO}, ()),
        f"klingai/video-v3-{kind}-image-to-video": Shape({**text, **_IMAGE, **fields}, _PICTURE),
    }


MODELS: dict[str, Shape] = {
    "klingai/video-v2-6-pro-text-to-video": Shape(
        {**_2500, **_NEGATIVE, **_CFG, **_FIVE_TEN, **_RATIO, **_SOUND}, _TEXT
    ),
    "klingai/video-v2-6-pro-image-to-video": Shape(
        {**_2500, **_IMAGE, **_NEGATIVE, **_FIVE_TEN, **_SOUND}, _BOTH
    ),
    "klingai/v2.5-turbo/pro/text-to-video": Shape(
        {**_PROMPT, **_NEGATIVE, **_CFG, **_FIVE_TEN, **_RATIO}, _TEXT
    ),
    "klingai/v2.5-turbo/pro/image-to-video": Shape(
        {**_PROMPT, **_IMAGE, **_NEGATIVE, **_CFG, **_FIVE_TEN}, _BOTH
    ),
    **_three("standard", _TAIL),
    **_three("pro", _TAIL),
    **_three("omni-720p", _TAIL),
    **_three("omni-1080p", _TAIL),
    "klingai/video-v3-standard-turbo-text-to-video": Shape({**_3072, **_LONG, **_RATIO}, ()),
    "klingai/video-v3-standard-turbo-image-to-video": Shape({**_3072, **_LONG, **_IMAGE}, _PICTURE),
    "klingai/video-v3-turbo-pro-text-to-video": Shape({**_3072, **_LONG, **_RATIO}, ()),
    "klingai/video-v3-turbo-pro-image-to-video": Shape({**_3072, **_LONG, **_IMAGE}, _PICTURE),
    "klingai/video-o1-image-to-video": Shape({**_2500, **_IMAGE, "last_image_url": _url, **_FIVE_TEN}, _BOTH),
    "klingai/video-o1-reference-to-video": Shape(
        {**_2500, "image_list": _urls(7), **_FIVE_TEN, **_RATIO}, _TEXT
    ),
    "klingai/video-o1-video-to-video-edit": Shape({**_EDIT, "image_list": _urls(7)}, ("prompt", "video_url")),
    "klingai/video-o1-video-to-video-reference": Shape(
        {**_EDIT, "image_list": _urls(4), **_FIVE_TEN, **_RATIO}, ("prompt", "video_url")
    ),
    "klingai/video-v2-6-motion-control": Shape(_MOTION, ("image_url", "video_url")),
    "klingai/video-v3-motion-control": Shape(_MOTION, ("image_url", "video_url")),
    "klingai/kling-video-v1.6-standard-effects": Shape(_EFFECT, ("image_url", "effect_scene")),
    "klingai/kling-video-v1.6-pro-effects": Shape(_EFFECT, ("image_url", "effect_scene")),
    "klingai/avatar-standard": Shape(_AVATAR, ("image_url", "audio_url")),
    "klingai/avatar-pro": Shape(_AVATAR, ("image_url", "audio_url")),
    "klingai/v2.1-master-text-to-video": Shape(
        {
            **_PROMPT,
            **_NEGATIVE,
            **_CFG,
            **_FIVE_TEN,
            **_RATIO,
            "camera_control": _one_of(*COMPOUND),
            "advanced_camera_control": _one_axis,
        },
        _TEXT,
    ),
    "klingai/v2.1-master-image-to-video": Shape(
        {**_PROMPT, **_IMAGE, **_NEGATIVE, **_CFG, **_FIVE_TEN, "camera_control": _camera}, _PICTURE
    ),
    "minimax/hailuo-2.3": Shape(_MINIMAX, _TEXT, 6),
    "minimax/hailuo-2.3-fast": Shape(_MINIMAX, _BOTH, 6),
    "minimax/hailuo-02": Shape({**_MINIMAX, "last_image_url": _url}, _TEXT, 6),
    "minimax/h3": Shape(
        {
            "prompt": _text(7000),
            **_IMAGE,
            "last_image_url": _url,
            "reference_image_urls": _urls(9),
            "video_urls": _urls(3),
            "audio_urls": _urls(3),
            "duration": _whole(*range(4, 16)),
            "resolution": _one_of("2K"),
            "ratio": _one_of("adaptive", "21:9", "16:9", "4:3", "1:1", "3:4", "9:16"),
        },
        _TEXT,
        6,
    ),
    "alibaba/wan-2-6-t2v": Shape({**_WAN, **_WAN_SHOT, **_WAN_HEARS, **_WAN_RATIO, **_SOUND}, _TEXT, 10),
    "alibaba/wan-2-6-i2v": Shape({**_WAN, **_WAN_SHOT, **_WAN_HEARS, **_IMAGE, **_SOUND}, _BOTH, 10),
    "alibaba/wan-2-6-image-to-video-flash": Shape(
        {**_WAN, **_WAN_SHOT, **_WAN_HEARS, **_IMAGE, **_SOUND}, _BOTH, 10
    ),
    "alibaba/wan-2-6-r2v": Shape(
        {**_WAN, **_WAN_SHOT, **_WAN_RATIO, "video_urls": _urls(3)}, ("prompt", "video_urls"), 10
    ),
    "alibaba/wan-2-7-t2v": Shape({**_WAN, **_WAN_SHOT, **_WAN_HEARS, **_WAN_RATIO, **_SOUND}, _TEXT, 10),
    "alibaba/wan-2-7-i2v": Shape({**_WAN_7, **_WAN_HEARS, **_IMAGE}, _BOTH, 10),
    "alibaba/wan-2-7-r2v": Shape(
        {**_WAN_7, **_WAN_RATIO, "first_frame_image": _url, "image_urls": _urls(5), "video_urls": _urls(5)},
        _TEXT,
        10,
    ),
}
