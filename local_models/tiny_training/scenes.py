"""The tiny model's world: coloured shapes that move, with English and Japanese captions."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from local_models.tiny_training import vocabulary

SIZE = 64
FRAMES = 17
FPS = 8

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 36, 36),
    "orange": (250, 140, 24),
    "yellow": (248, 226, 40),
    "green": (40, 178, 66),
    "cyan": (34, 206, 214),
    "blue": (38, 84, 230),
    "purple": (146, 52, 206),
    "pink": (250, 126, 190),
    "white": (248, 248, 248),
    "black": (16, 16, 16),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (12, 12, 14),
    "white": (242, 242, 242),
    "grey": (128, 128, 130),
    "dark blue": (18, 28, 96),
    "light blue": (152, 206, 250),
    "dark green": (14, 76, 40),
    "brown": (112, 70, 36),
    "beige": (236, 216, 176),
    "dark red": (104, 18, 30),
    "lavender": (206, 188, 242),
}
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross")
MOTIONS: tuple[str, ...] = ("left", "right", "up", "down", "still", "zoom in", "zoom out")
LANGUAGES: tuple[str, ...] = ("en", "ja")

MIN_CONTRAST = 90.0
HELD_OUT_SHARE = 0.12
TRAVEL = 24.0


class Combo(NamedTuple):
    """One combination of attributes, by name."""

    colour: str
    background: str
    shape: str
    motion: str


@dataclass(frozen=True)
class Scene:
    """One clip's exact geometry: centre and radius at the first and last frame, turn, and colours 0..255."""

    combo: Combo
    start: tuple[float, float]
    end: tuple[float, float]
    radius: tuple[float, float]
    turn: float
    colour: tuple[float, float, float]
    background: tuple[float, float, float]


@dataclass(frozen=True)
class Caption:
    """A prompt and the attributes it names (None where it leaves one open)."""

    text: str
    language: str
    colour: str | None
    background: str | None
    shape: str | None
    motion: str | None


def contrast(colour: str, background: str) -> float:
    """Distance in RGB between an object colour and a background colour."""
    return math.dist(COLOURS[colour], BACKGROUNDS[background])


def all_combos() -> list[Combo]:
    """Every combination whose shape can be told from its background."""
    names = itertools.product(COLOURS, BACKGROUNDS, SHAPES, MOTIONS)
    return [Combo(*n) for n in names if contrast(n[0], n[1]) >= MIN_CONTRAST]


def is_held_out(combo: Combo) -> bool:
    """True for the combinations that training never sees (a fixed share, chosen by hash)."""
    digest = hashlib.sha256("|".join(combo).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT_SHARE


def train_combos() -> list[Combo]:
    """The combinations training may use."""
    return [c for c in all_combos() if not is_held_out(c)]


def training_mix() -> list[Combo]:
    """The training combinations, those with one colour word for both shape and background more often."""
    combos = train_combos()
    doubtful = [c for c in combos if {c.colour, c.background} == {"black", "white"}]
    return combos + doubtful * 3


def held_out_combos() -> list[Combo]:
    """The combinations kept for evaluation."""
    return [c for c in all_combos() if is_held_out(c)]


def sample_scene(combo: Combo, rng: random.Random, *, centred: bool = False) -> Scene:
    """Draw a clip of this combination; `centred` puts the shape in the middle so that its place tells nothing."""
    half = SIZE / 2
    spread = 2.0 if centred else 7.0
    x = half + rng.uniform(-spread, spread)
    y = half + rng.uniform(-spread, spread)
    r = rng.uniform(9.0, 12.5)
    radius = (r, r)
    start = end = (x, y)
    travel = TRAVEL + rng.uniform(-2.0, 2.0)
    sign = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(combo.motion)
    if sign is not None:
        back = 0.0 if centred else rng.uniform(0.0, 14.0)
        x, y = (x if sign[1] else half + rng.uniform(-2, 2)), (y if sign[0] else half + rng.uniform(-2, 2))
        start = (x - sign[0] * back, y - sign[1] * back)
        end = (start[0] + sign[0] * travel, start[1] + sign[1] * travel)
    elif combo.motion == "zoom in":
        radius = (rng.uniform(7.5, 9.5), rng.uniform(16.0, 19.0))
    elif combo.motion == "zoom out":
        radius = (rng.uniform(16.0, 19.0), rng.uniform(7.5, 9.5))
    return Scene(
        combo=combo,
        start=start,
        end=end,
        radius=radius,
        turn=rng.uniform(-0.15, 0.15),
        colour=_jitter(COLOURS[combo.colour], rng),
        background=_jitter(BACKGROUNDS[combo.background], rng),
    )


def _jitter(rgb: tuple[int, int, int], rng: random.Random) -> tuple[float, float, float]:
    """Move a palette colour by a few levels."""
    r, g, b = (min(255.0, max(0.0, v + rng.uniform(-6, 6))) for v in rgb)
    return r, g, b


def render(scenes: Sequence[Scene], frames: int = FRAMES, size: int = SIZE) -> torch.Tensor:
    """Draw clips as a float tensor [clips, 3, frames, size, size] in -1..1, edges antialiased."""
    scale = size / SIZE
    steps = torch.linspace(0, 1, frames) if frames > 1 else torch.zeros(1)
    axis = (torch.arange(size) + 0.5) / scale
    out = torch.empty(len(scenes), 3, frames, size, size)
    for i, s in enumerate(scenes):
        cx = s.start[0] + (s.end[0] - s.start[0]) * steps
        cy = s.start[1] + (s.end[1] - s.start[1]) * steps
        rad = s.radius[0] + (s.radius[1] - s.radius[0]) * steps
        dx = (axis[None, None, :] - cx[:, None, None]) / rad[:, None, None]
        dy = (axis[None, :, None] - cy[:, None, None]) / rad[:, None, None]
        cos, sin = math.cos(s.turn), math.sin(s.turn)
        distance = _distance(s.combo.shape, dx * cos + dy * sin, dy * cos - dx * sin)
        alpha = (0.5 - distance * rad[:, None, None] * scale).clamp(0, 1)
        for ch in range(3):
            low, high = s.background[ch] / 127.5 - 1, s.colour[ch] / 127.5 - 1
            torch.add(alpha * (high - low), low, out=out[i, ch])
    return out


def _distance(shape: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Signed distance (about) to a shape of unit radius, negative inside."""
    if shape == "circle":
        return (x * x + y * y).sqrt() - 1.0
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.88
    if shape == "triangle":
        return torch.maximum(x.abs() * 0.866 + (y - 0.05) * -0.5, y - 0.05) * 1.0 - _TRIANGLE_INSET
    if shape == "cross":
        ax, ay = x.abs(), y.abs()
        return torch.minimum(torch.maximum(ax - 1.0, ay - 0.36), torch.maximum(ax - 0.36, ay - 1.0))
    if shape == "star":
        angle = torch.atan2(x, -y)
        sector = 2 * math.pi / 5
        folded = torch.remainder(angle + sector / 2, sector) - sector / 2
        r = (x * x + y * y).sqrt()
        px, py = r * torch.cos(folded), r * torch.sin(folded).abs()
        return (py - (1.12 - px) * _STAR_SLOPE) * _STAR_NORM
    raise ValueError(f"unknown shape {shape!r}")


_TRIANGLE_INSET = 0.58
_STAR_SLOPE = 0.52
_STAR_NORM = 1.0 / math.sqrt(1 + _STAR_SLOPE**2)


def caption(combo: Combo, rng: random.Random, language: str, *, partial: float = 0.0) -> Caption:
    """Write one of many captions of a combination; with chance `partial` it leaves some attributes out."""
    kind = rng.choice(("cs", "csm", "csm", "csb", "sm", "m")) if rng.random() < partial else "csbm"
    if language == "en":
        template = rng.choice(vocabulary.EN_TEMPLATES if kind == "csbm" else vocabulary.EN_PARTIAL[kind])
    else:
        template = rng.choice(vocabulary.JA_TEMPLATES if kind == "csbm" else vocabulary.JA_PARTIAL[kind])
    pool = vocabulary.PAN_WORDS if rng.random() < 0.08 else vocabulary.MOTION_WORDS
    words = {
        "c": rng.choice(vocabulary.COLOUR_WORDS[language][combo.colour]),
        "b": rng.choice(vocabulary.BACKGROUND_WORDS[language][combo.background]),
        "s": rng.choice(vocabulary.SHAPE_WORDS[language][combo.shape]),
        "m": rng.choice(pool[language][combo.motion]),
    }
    if "{b}色" in template:
        template = template.replace("{b}色", "{b}")
        words["b"] = words["b"].removesuffix("の").removesuffix("い")
    text = template.format(**words)
    if language == "en":
        text = _vary_english(text, rng)
    elif rng.random() < 0.2:
        text += "。" if not text.endswith("。") else ""
    return Caption(
        text=text,
        language=language,
        colour=combo.colour if "c" in kind else None,
        background=combo.background if "b" in kind else None,
        shape=combo.shape if "s" in kind else None,
        motion=combo.motion if "m" in kind else None,
    )


def _vary_english(text: str, rng: random.Random) -> str:
    """Mend articles and vary letter case and the final stop."""
    text = text.replace("a orange", "an orange").replace("A orange", "An orange")
    draw = rng.random()
    if draw < 0.35:
        text = text[0].upper() + text[1:]
    elif draw < 0.42:
        text = text.upper()
    elif draw < 0.47:
        text = text.title()
    elif draw < 0.75:
        text = text.lower()
    return text + "." if rng.random() < 0.25 else text


def plain_caption(combo: Combo, language: str) -> str:
    """The simplest caption of a combination, for examples."""
    if language == "ja":
        c, b = (
            vocabulary.COLOUR_WORDS["ja"][combo.colour][0],
            vocabulary.BACKGROUND_WORDS["ja"][combo.background][0],
        )
        s, m = vocabulary.SHAPE_WORDS["ja"][combo.shape][0], vocabulary.MOTION_WORDS["ja"][combo.motion][0]
        return f"{b}背景で{c}{s}が{m}"
    m = vocabulary.MOTION_WORDS["en"][combo.motion][0]
    return f"a {combo.colour} {combo.shape} {m} on a {combo.background} background".replace(
        "a orange", "an orange"
    )


def pictures(count: int, rng: random.Random, size: int = SIZE, frames: int = FRAMES) -> torch.Tensor:
    """Clips outside the world (gradients, soft noise, stripes, blobs), so that the VAE survives an upload."""
    seed = rng.getrandbits(31)
    gen = torch.Generator().manual_seed(seed)
    out = torch.empty(count, 3, frames, size, size)
    ramp = torch.linspace(-1, 1, size)
    for i in range(count):
        base = torch.rand(3, 1, 1, generator=gen) * 2 - 1
        tilt = (torch.rand(3, 2, generator=gen) - 0.5) * 1.6
        image = base + tilt[:, :1, None] * ramp[None, :, None] + tilt[:, 1:, None] * ramp[None, None, :]
        for cells in (3, 5, 9):
            coarse = torch.randn(1, 3, cells, cells, generator=gen) * (0.8 / cells**0.5) * rng.random()
            fine = torch.nn.functional.interpolate(
                coarse, size=(size, size), mode="bicubic", align_corners=False
            )
            image = image + fine[0]
        for _ in range(rng.randint(0, 3)):
            x, y = rng.randrange(size), rng.randrange(size)
            w, h = rng.randint(8, size // 2), rng.randint(8, size // 2)
            image[:, y : y + h, x : x + w] = torch.rand(3, 1, 1, generator=gen) * 2 - 1
        shift = (rng.choice((0, 0, 1, -1)), rng.choice((0, 0, 1, -1)))
        for t in range(frames):
            out[i, :, t] = torch.roll(image, (t * shift[1], t * shift[0]), (1, 2))
    return out.clamp_(-1, 1)
