"""What a Runway request may cost at most, in credits: the twin's own reading, kept apart from the client's data files.

Sources: docs.dev.runwayml.com/guides/pricing, read 2026-04, and as quoted by third parties in 2026-09 and 2026-10
(unverified). `STAND_IN_RATE` is ours, for what is not public, so that it can be rehearsed at all.
"""

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal
from typing import Any

from api_providers.sandbox._runway_inputs import Findings
from api_providers.sandbox._runway_models import DEEP_FORMATS, IMAGE_720

CREDIT_USD = Decimal("0.01")
STAND_IN_RATE = Decimal(20)
SIDE_OF = {480: 690, 720: 1000, 1080: 1500}
"""The square whose area no ratio of that size exceeds; what is larger is 4K."""
PER_FRAME = {"720p": Decimal("0.7"), "1k": Decimal("0.7"), "2k": Decimal("0.9"), "4k": Decimal("1.2")}
SEEDANCE_25 = {480: (20, 10), 720: (30, 15), 1080: (68, 34)}
"""Credits per second of the clip and of the videos that come along."""
SEEDANCE_2 = {480: 36, 720: 36, 1080: 40, 2160: 150}
WAN = {
    "wan3": {480: Decimal(5), 720: Decimal(10), 1080: Decimal(20)},
    "wan3_prime": {480: Decimal("6.8"), 720: Decimal(14), 1080: Decimal(28)},
}


def credits(endpoint: str, body: dict[str, Any], seconds: float, found: Findings) -> Decimal:
    """The most this request may cost; `seconds` of output."""
    model = str(body["model"])
    special = _SPECIAL.get(model)
    if special is not None:
        return special(endpoint, body, seconds, found).to_integral_value(ROUND_CEILING)
    audio = body.get("audio", True)
    rate = {
        "gen4.5": Decimal(12),
        "gen4_turbo": Decimal(5),
        "act_two": Decimal(5),
        "veo3.1": Decimal(40 if audio else 20),
        "veo3.1_fast": Decimal(15 if audio else 10),
        "seedance2": Decimal(SEEDANCE_2[_lines(body)]),
        "seedance2_fast": Decimal(29),
        "seedance2_mini": Decimal(16),
        "h3_max": Decimal(5 if body.get("resolution") == "480p" else 8),
        "aleph2": Decimal(28),
    }.get(model, STAND_IN_RATE)
    deliver = body.get("outputFormat", "mp4")
    if model in ("gen4.5", "aleph2") and deliver != "mp4":
        rate += 20 if deliver in DEEP_FORMATS else 5
    least = {"seedance2_mini": 64, "aleph2": 56}.get(model, 0)
    return max(rate * math.ceil(seconds), Decimal(least))


def _lines(body: dict[str, Any]) -> int:
    """480, 720, 1080 or 2160 for a `ratio` in pixels or an `auto_` one; 720 where there is none."""
    ratio = str(body.get("ratio", "auto_720p"))
    if ratio.startswith("auto_"):
        return int(ratio.removeprefix("auto_").removesuffix("p"))
    width, height = map(int, ratio.split(":"))
    side = math.sqrt(width * height)
    return next((lines for lines, square in SIDE_OF.items() if side <= square), 2160)


def _image(endpoint: str, body: dict[str, Any], seconds: float, found: Findings) -> Decimal:
    return Decimal(5 if body["ratio"] in IMAGE_720 else 8)


def _turbo_image(endpoint: str, body: dict[str, Any], seconds: float, found: Findings) -> Decimal:
    return Decimal(2)


def _seedance_25(endpoint: str, body: dict[str, Any], seconds: float, found: Findings) -> Decimal:
    out, given = SEEDANCE_25[_lines(body)]
    return Decimal(max(80, out * math.ceil(seconds) + given * math.ceil(found.all_seconds)))


def _hailuo(endpoint: str, body: dict[str, Any], seconds: float, found: Findings) -> Decimal:
    rate = 10 if str(body.get("resolution", "2k")).lower() == "768p" else 15
    images = len(body.get("references", ()))
    return Decimal(rate * (math.ceil(seconds) + math.ceil(min(found.all_seconds, 15))) + 2 * images)


def _omni(endpoint: str, body: dict[str, Any], seconds: float, found: Findings) -> Decimal:
    if endpoint == "video_to_video":
        return Decimal(11 * math.ceil(min(found.all_seconds, 10)) + len(body.get("references", ())))
    return Decimal(10 * math.ceil(seconds) + (endpoint == "image_to_video"))


def _wan(endpoint: str, body: dict[str, Any], seconds: float, found: Findings) -> Decimal:
    return WAN[str(body["model"])][_lines(body)] * math.ceil(seconds)


def _upscaled(endpoint: str, body: dict[str, Any], seconds: float, found: Findings) -> Decimal:
    return max(Decimal(1), PER_FRAME[str(body.get("resolution", "2k"))] * found.frames)


def _frame_rate(endpoint: str, body: dict[str, Any], seconds: float, found: Findings) -> Decimal:
    return Decimal(math.ceil(seconds / 2))


_SPECIAL: dict[str, Callable[[str, dict[str, Any], float, Findings], Decimal]] = {
    "gen4_image": _image,
    "gen4_image_turbo": _turbo_image,
    "seedance2_5": _seedance_25,
    "hailuo3": _hailuo,
    "gemini_omni_flash": _omni,
    "wan3": _wan,
    "wan3_prime": _wan,
    "magnific_video_upscaler_creative": _upscaled,
    "enhance_frame_rate": _frame_rate,
}
