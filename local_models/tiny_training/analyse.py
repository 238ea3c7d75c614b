"""Reads a clip's background, object colour and motion from its pixels alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from local_models.tiny_training.scenes import BACKGROUNDS, COLOURS

BORDER = 3
OBJECT_DISTANCE = 0.17
CORE_SHARE = 0.65
MIN_SHIFT = 0.12
ZOOM_RATIO = 1.5
MIN_AREA = 0.008

Frames = NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """What the pixels show; `None` where no object stands out."""

    background: str
    colour: str | None
    motion: str | None
    shift: tuple[float, float]
    growth: float


def analyse(frames: Frames) -> Reading:
    """Read frames [time, height, width, 3] with values 0..1."""
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"expected frames of shape [time, height, width, 3], not {frames.shape}")
    ground = np.stack([_border_colour(f) for f in frames])
    overall = np.median(ground, axis=0)
    background = _nearest(overall, BACKGROUNDS)
    distance = np.sqrt(((frames - ground[:, None, None, :]) ** 2).sum(-1))
    mask = distance > OBJECT_DISTANCE
    areas = mask.mean(axis=(1, 2))
    ends = max(1, len(frames) // 8)
    first, last = areas[:ends].mean(), areas[-ends:].mean()
    if first < MIN_AREA or last < MIN_AREA:
        return Reading(background, _object_colour(frames, distance, mask), None, (0.0, 0.0), 1.0)
    begin, end = _centroid(mask[:ends]), _centroid(mask[-ends:])
    shift = (end[0] - begin[0], end[1] - begin[1])
    growth = float(last / first)
    return Reading(background, _object_colour(frames, distance, mask), _motion(shift, growth), shift, growth)


def _border_colour(frame: Frames) -> NDArray[np.float32]:
    """The commonest colour at the edge of a frame."""
    b = BORDER
    ring = np.concatenate(
        [
            frame[:b].reshape(-1, 3),
            frame[-b:].reshape(-1, 3),
            frame[:, :b].reshape(-1, 3),
            frame[:, -b:].reshape(-1, 3),
        ]
    )
    colour: NDArray[np.float32] = np.median(ring, axis=0)
    return colour


def _object_colour(frames: Frames, distance: Frames, mask: NDArray[np.bool_]) -> str | None:
    """The palette colour of the pixels that differ most from the background."""
    if mask.mean() < MIN_AREA / 2:
        return None
    core = mask & (distance > CORE_SHARE * np.quantile(distance[mask], 0.9))
    return _nearest(np.median(frames[core], axis=0), COLOURS)


def _centroid(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Centre of the mask as shares of width and height."""
    _, ys, xs = np.nonzero(mask)
    return float(xs.mean()) / mask.shape[2], float(ys.mean()) / mask.shape[1]


def _motion(shift: tuple[float, float], growth: float) -> str:
    """Name a motion by its shift (shares of the frame) and its growth in area."""
    dx, dy = shift
    if max(abs(dx), abs(dy)) > MIN_SHIFT:
        if abs(dx) >= abs(dy):
            return "right" if dx > 0 else "left"
        return "down" if dy > 0 else "up"
    if growth > ZOOM_RATIO:
        return "zoom in"
    if growth < 1 / ZOOM_RATIO:
        return "zoom out"
    return "still"


def _nearest(colour: NDArray[np.float32], palette: dict[str, tuple[int, int, int]]) -> str:
    """The palette's nearest name."""
    return min(palette, key=lambda name: float(((colour * 255 - np.array(palette[name])) ** 2).sum()))


def first_frame_psnr(frames: Frames, image: Frames) -> float:
    """How near the first frame is to the given image [height, width, 3] in 0..1, in dB."""
    error = float(((frames[0] - image) ** 2).mean())
    return 99.0 if error == 0 else float(-10 * np.log10(error))
