"""What the twin of Google knows of the Veo and Gemini Omni models: shapes and prices per second, its own reading.

Prices: reseller list 2026-08 (Veo 3.1), third party 2026-09 and 2026-11 (Omni, unverified).
"""

from decimal import Decimal
from typing import Any, NamedTuple

EXTENSION_S = 7
"""Seconds a Veo extension adds; that these are what is billed is a guess."""
SHORT_SIDE = {"360p": 360, "720p": 720, "1080p": 1080, "4k": 2160}


class Veo(NamedTuple):
    """One Veo model; prices are (with sound, silent) by resolution."""

    prices: dict[str, tuple[str, str]]
    frames_only: bool = False
    """Takes a text and one first frame, nothing else."""


class Omni(NamedTuple):
    """One Omni model; sound is always made."""

    prices: dict[str, str]
    longest_s: int


VEO = {
    "veo-3.1-generate-001": Veo({"720p": ("0.4", "0.2"), "1080p": ("0.4", "0.2"), "4k": ("0.6", "0.4")}),
    "veo-3.1-fast-generate-001": Veo(
        {"720p": ("0.1", "0.08"), "1080p": ("0.12", "0.1"), "4k": ("0.3", "0.25")}
    ),
    "veo-3.1-lite-generate-001": Veo({"720p": ("0.05", "0.03"), "1080p": ("0.08", "0.05")}, frames_only=True),
}
VEO_SECONDS = (4, 6, 8)
OMNI = {
    "gemini-omni-1.2-flash": Omni({"360p": "0.021", "720p": "0.07", "1080p": "0.105", "4k": "0.21"}, 15),
    "gemini-omni-1.1-flash": Omni({"360p": "0.03", "720p": "0.1", "1080p": "0.15", "4k": "0.3"}, 10),
}
OMNI_SECONDS = 10
"""What an Omni clip lasts where no duration is asked for."""
RATIOS = ("16:9", "9:16")


def veo_usd(model: Veo, parameters: dict[str, Any], seconds: float) -> Decimal:
    """What one request costs: seconds by resolution and sound, times the clips asked for."""
    with_sound, silent = model.prices[str(parameters.get("resolution", "720p"))]
    rate = Decimal(with_sound if parameters["generateAudio"] else silent)
    return rate * Decimal(str(seconds)) * int(parameters.get("sampleCount", 1))


def size(ratio: str, resolution: str) -> tuple[int, int]:
    """Width and height of a clip."""
    short = SHORT_SIDE[resolution]
    long = short * 16 // 9
    return (short, long) if ratio == "9:16" else (long, short)
