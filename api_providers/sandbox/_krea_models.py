"""What Krea's video models take and cost: the twin's own reading, kept apart from the client's data file.

Fields and compute units as in Krea's OpenAPI document (mirrored 2026-08-22), USD for the models that its older pages
list. `UNIT_USD` is the rate at which those two lists agree, rounded up so that no clip of both is dearer in USD; for Veo,
whose units are not known, the twin bills `STAND_IN_USD` per second, so that it can be rehearsed at all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

UNIT_USD = Decimal("0.00185")
STAND_IN_USD = Decimal("0.20")
URL_LONGEST = 1024
AXES = frozenset({"zoom", "roll", "pan", "tilt", "vertical", "horizontal"})
MOVES = frozenset({"down_back", "forward_up", "right_turn_forward", "left_turn_forward"})
Kind = Literal["text", "flag", "whole", "number", "url", "urls", "camera"]


@dataclass(frozen=True)
class Field:
    """One field of a body: of a `kind`, or one of `choices` (texts or numbers)."""

    kind: Kind = "text"
    required: bool = False
    default: Any = None
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 2**32 - 1
    longest: int = 20_000


@dataclass(frozen=True)
class Model:
    """One path: its closed body, and what a body with defaults filled in costs in USD."""

    fields: dict[str, Field]
    usd: Callable[[dict[str, Any]], Decimal]


def _one(*choices: Any) -> Field:
    """The first is the default."""
    return Field(choices=choices, default=choices[0])


URL = Field("url")
OFF = Field("flag", default=False)
ON = Field("flag", default=True)
RATIO = _one("16:9", "9:16", "1:1")
WIDE = _one("16:9", "9:16")
BASE = {"prompt": Field(required=True), "start_image": URL, "start_video": URL}
KLING = {**BASE, "aspect_ratio": RATIO, "duration": _one(5, 10), "end_image": URL}
KLING_1 = {**KLING, "end_video": URL, "camera_control": Field("camera")}
HAILUO = {**BASE, "expand_prompt": ON, "end_image": URL}
VEO = {
    **BASE,
    "aspect_ratio": WIDE,
    "duration": _one(8, 4, 6),
    "resolution": _one("720p", "1080p", "4K"),
    "generate_audio": OFF,
    "end_image": URL,
    "end_video": URL,
    "reference_images": Field("urls", longest=3),
}


def _clip(table: dict[tuple[Any, ...], str], *names: str, unit: Decimal = UNIT_USD) -> Callable[..., Decimal]:
    """A price of the whole clip, by the values of these fields."""
    return lambda body: Decimal(table[tuple(body[name] for name in names)]) * unit


def _second(table: dict[tuple[Any, ...], str], *names: str) -> Callable[..., Decimal]:
    """Units per second, by the values of these fields."""
    return lambda body: (
        Decimal(table[tuple(body[name] for name in names)]) * UNIT_USD * Decimal(str(body["duration"]))
    )


def _stand_in(body: dict[str, Any]) -> Decimal:
    return STAND_IN_USD * Decimal(str(body["duration"]))


def _kling_1(body: dict[str, Any]) -> Decimal:
    """The older pages: USD per second."""
    return Decimal("0.0221" if body["mode"] == "std" else "0.0772") * Decimal(body["duration"])


IN_USD = Decimal(1)
MODELS: dict[str, Model] = {
    "kling/kling-1": Model({**KLING_1, "mode": _one("std", "pro")}, _kling_1),
    "kling/kling-1.5": Model(
        {**KLING_1, "mode": _one("pro")}, _clip({(5,): "210", (10,): "421"}, "duration")
    ),
    "kling/kling-1.6": Model(
        {**KLING_1, "mode": _one("std", "pro")},
        _clip(
            {("std", 5): "120", ("std", 10): "241", ("pro", 5): "210", ("pro", 10): "421"}, "mode", "duration"
        ),
    ),
    "kling/kling-2.1": Model(
        {**KLING, "mode": _one("master", "pro")},
        _clip(
            {("pro", 5): "258", ("pro", 10): "515", ("master", 5): "802", ("master", 10): "1604"},
            "mode",
            "duration",
        ),
    ),
    "kling/kling-2.5": Model({**KLING, "mode": _one("pro")}, _clip({(5,): "200", (10,): "401"}, "duration")),
    "kling/kling-2.6": Model(
        {**KLING, "aspect_ratio": WIDE, "end_video": URL, "generate_audio": OFF},
        _clip(
            {(5, False): "200", (10, False): "401", (5, True): "401", (10, True): "802"},
            "duration",
            "generate_audio",
        ),
    ),
    "kling/kling-3.0": Model(
        {
            **KLING,
            "prompt": Field(required=True, longest=2500),
            "aspect_ratio": WIDE,
            "duration": Field("whole", low=3, high=15, default=5),
            "generate_audio": OFF,
            "mode": _one("std", "pro", "4k"),
        },
        _second(
            {
                ("std", False): "96.2",
                ("std", True): "144",
                ("pro", False): "128",
                ("pro", True): "192",
                ("4k", False): "240.5",
                ("4k", True): "240.5",
            },
            "mode",
            "generate_audio",
        ),
    ),
    "kling/kling-o1": Model(
        {**KLING, "duration": Field("whole", low=3, high=10, default=5)}, _second({(): "64.1"})
    ),
    "minimax/hailuo-02": Model(
        {
            **HAILUO,
            "resolution": _one("768p", "512p", "1080p"),
            "duration": Field("number", low=6, high=10, default=6),
            "model": _one("MiniMax-Hailuo-02"),
        },
        _clip(
            {
                ("512p", 6): "0.105",
                ("512p", 10): "0.1575",
                ("768p", 6): "0.2835",
                ("768p", 10): "0.4725",
                ("1080p", 6): "0.567",
                ("1080p", 10): "0.945",
            },
            "resolution",
            "duration",
            unit=IN_USD,
        ),
    ),
    "minimax/hailuo-2.3": Model(
        {
            **HAILUO,
            "resolution": _one("768p", "1080p"),
            "duration": _one(6, 10),
            "model": _one("MiniMax-Hailuo-2.3"),
        },
        _clip(
            {
                ("768p", 6): "0.294",
                ("768p", 10): "0.588",
                ("1080p", 6): "0.5145",
                ("1080p", 10): "0.5145",
            },
            "resolution",
            "duration",
            unit=IN_USD,
        ),
    ),
    "minimax/hailuo-2.3-fast": Model(
        {
            **HAILUO,
            "resolution": _one("768p", "1080p"),
            "duration": _one(6, 10),
            "model": _one("MiniMax-Hailuo-2.3-fast"),
        },
        _clip(
            {("768p", 6): "109", ("768p", 10): "183", ("1080p", 6): "189", ("1080p", 10): "189"},
            "resolution",
            "duration",
        ),
    ),
    "alibaba/wan-2.5": Model(
        {
            **BASE,
            "aspect_ratio": RATIO,
            "resolution": _one("1080p", "720p", "480p"),
            "enable_prompt_expansion": ON,
            "duration": Field("number", low=5, high=10, default=5),
            "seed": Field("whole"),
            "audio_url": URL,
            "generate_audio": OFF,
        },
        _second({("480p",): "28.6", ("720p",): "57.3", ("1080p",): "86"}, "resolution"),
    ),
    "google/veo-3.1": Model(VEO, _stand_in),
    "google/veo-3.1-fast": Model(VEO, _stand_in),
    "google/veo-3.1-lite": Model(
        {
            **BASE,
            "aspect_ratio": WIDE,
            "duration": _one(8, 4, 6),
            "resolution": _one("720p", "1080p"),
            "end_image": URL,
        },
        _stand_in,
    ),
}
"""The other paths of the document are not rehearsed here: the client does not sell them."""


def filled(given: dict[str, Any], model: Model) -> dict[str, Any]:
    """The body with the documented defaults."""
    return {name: given.get(name, field.default) for name, field in model.fields.items()}


def wrong(given: dict[str, Any], model: Model) -> str | None:
    """What is wrong with the first field that does not fit, None for a good body."""
    unknown = sorted(set(given) - set(model.fields))
    if unknown:
        return f"Unrecognized key(s) in object: {', '.join(map(repr, unknown))}"
    for name, field in model.fields.items():
        if name not in given:
            if field.required:
                return f"{name}: Required"
        elif not (name == "start_video" and given[name] is None) and not _fits(given[name], field):
            return f"{name}: Invalid value"
    return None


def _fits(value: Any, field: Field) -> bool:
    if field.choices:
        same = [
            choice for choice in field.choices if type(choice) is type(value) or _both_numbers(choice, value)
        ]
        return value in same
    return _KINDS[field.kind](value, field)


def _both_numbers(choice: Any, value: Any) -> bool:
    """JSON has one kind of number: 5.0 is 5, true is not 1."""
    return all(isinstance(one, int | float) and not isinstance(one, bool) for one in (choice, value))


def _url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://")) and len(value) <= URL_LONGEST


def _within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _camera(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) - {"type", "config"}:
        return False
    config = value.get("config")
    if value.get("type") == "simple":
        if not isinstance(config, dict) or not config or set(config) - AXES:
            return False
        return all(_within(one, -10, 10) for one in config.values())
    return value.get("type") in MOVES and config is None


_KINDS: dict[Kind, Callable[[Any, Field], bool]] = {
    "text": lambda value, field: isinstance(value, str) and 0 < len(value) <= field.longest,
    "flag": lambda value, field: isinstance(value, bool),
    "whole": lambda value, field: _within(value, field.low, field.high) and value == int(value),
    "number": lambda value, field: _within(value, field.low, field.high),
    "url": lambda value, field: _url(value),
    "urls": lambda value, field: (
        isinstance(value, list) and len(value) <= field.longest and all(map(_url, value))
    ),
    "camera": lambda value, field: _camera(value),
}
