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

# Each attribute's wordings. The first English one is the plain name.
_COLOUR_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "red": ("red", "red", "scarlet", "bright red"),
        "orange": ("orange", "orange", "bright orange"),
        "yellow": ("yellow", "yellow", "bright yellow"),
        "green": ("green", "green", "bright green"),
        "cyan": ("cyan", "cyan", "turquoise", "bright cyan"),
        "blue": ("blue", "blue", "bright blue"),
        "purple": ("purple", "purple", "violet"),
        "pink": ("pink", "pink", "bright pink"),
        "white": ("white", "white", "bright white"),
        "black": ("black", "black", "jet black"),
    },
    "ja": {
        "red": ("赤い", "赤い", "赤色の", "赤の", "真っ赤な"),
        "orange": ("オレンジ色の", "オレンジの", "橙色の"),
        "yellow": ("黄色い", "黄色い", "黄色の", "黄の"),
        "green": ("緑の", "緑色の", "緑の", "グリーンの"),
        "cyan": ("シアンの", "シアン色の", "青緑色の", "ターコイズの"),
        "blue": ("青い", "青い", "青色の", "青の", "ブルーの"),
        "purple": ("紫の", "紫色の", "紫の", "パープルの"),
        "pink": ("ピンクの", "ピンク色の", "桃色の"),
        "white": ("白い", "白い", "白色の", "白の", "真っ白な"),
        "black": ("黒い", "黒い", "黒色の", "黒の", "真っ黒な"),
    },
}
_BACKGROUND_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "black": ("black",),
        "white": ("white",),
        "grey": ("grey", "gray"),
        "dark blue": ("dark blue", "dark-blue", "navy", "navy blue", "deep blue"),
        "light blue": ("light blue", "light-blue", "sky blue", "pale blue"),
        "dark green": ("dark green", "dark-green", "deep green", "forest green"),
        "brown": ("brown",),
        "beige": ("beige", "cream", "sand-coloured", "beige"),
        "dark red": ("dark red", "dark-red", "maroon", "deep red"),
        "lavender": ("lavender", "lavender", "pale purple", "light purple"),
    },
    "ja": {
        "black": ("黒い", "黒の", "黒色の"),
        "white": ("白い", "白の", "白色の"),
        "grey": ("灰色の", "グレーの"),
        "dark blue": ("紺色の", "濃い青の", "暗い青の", "紺の"),
        "light blue": ("水色の", "空色の", "薄い青の"),
        "dark green": ("深緑の", "濃い緑の", "暗い緑の", "深緑色の"),
        "brown": ("茶色の", "茶色い", "ブラウンの"),
        "beige": ("ベージュの", "ベージュ色の", "クリーム色の"),
        "dark red": ("暗い赤の", "えんじ色の", "濃い赤の"),
        "lavender": ("ラベンダー色の", "薄紫の", "薄い紫の", "薄紫色の"),
    },
}
_SHAPE_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "circle": ("circle", "ball", "ball", "disc", "sphere"),
        "square": ("square", "square", "box", "block", "cube"),
        "triangle": ("triangle", "triangle", "pyramid"),
        "star": ("star",),
        "cross": ("cross", "cross", "plus sign"),
    },
    "ja": {
        "circle": ("丸", "円", "ボール", "ボール", "球"),
        "square": ("四角", "正方形", "四角形", "箱"),
        "triangle": ("三角形", "三角"),
        "star": ("星", "スター", "星形"),
        "cross": ("十字", "十字形", "十字架"),
    },
}
_MOTION_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "left": (
            "moves left",
            "moving left",
            "moves to the left",
            "moving to the left",
            "slides left",
            "sliding to the left",
            "goes left",
            "drifts to the left",
            "travels from right to left",
            "rolls to the left",
            "rolling left",
            "flies left",
            "heads left",
            "moves toward the left",
            "moving leftwards",
        ),
        "right": (
            "moves right",
            "moving right",
            "moves to the right",
            "moving to the right",
            "slides right",
            "sliding to the right",
            "goes right",
            "drifts to the right",
            "travels from left to right",
            "rolls to the right",
            "rolling right",
            "flies right",
            "heads right",
            "moves toward the right",
            "moving rightwards",
        ),
        "up": (
            "moves up",
            "moving up",
            "moves upward",
            "moving upwards",
            "rises",
            "rising",
            "goes up",
            "floats up",
            "drifts upward",
            "climbs",
            "flies up",
            "moves to the top",
            "slides up",
            "travels from bottom to top",
        ),
        "down": (
            "moves down",
            "moving down",
            "moves downward",
            "moving downwards",
            "falls",
            "falling",
            "goes down",
            "drops",
            "drifts downward",
            "sinks",
            "falls down",
            "moves to the bottom",
            "slides down",
            "travels from top to bottom",
        ),
        "still": (
            "stays still",
            "staying still",
            "stands still",
            "does not move",
            "is not moving",
            "is motionless",
            "holds still",
            "stays in place",
            "remains still",
            "resting",
            "standing still",
            "with a static camera",
        ),
        "zoom in": (
            "zooms in",
            "zooming in",
            "the camera zooms in",
            "comes closer",
            "coming closer",
            "grows",
            "growing",
            "gets bigger",
            "gets larger",
            "approaches",
            "slow zoom in",
            "zoom in",
            "grows larger",
        ),
        "zoom out": (
            "zooms out",
            "zooming out",
            "the camera zooms out",
            "goes farther away",
            "moves away",
            "shrinks",
            "shrinking",
            "gets smaller",
            "recedes",
            "slow zoom out",
            "zoom out",
            "grows smaller",
        ),
    },
    "ja": {
        "left": (
            "左に動く",
            "左へ動く",
            "左に移動する",
            "左へ移動する",
            "左に進む",
            "右から左へ動く",
            "左に滑る",
            "左に転がる",
            "左方向に動く",
            "左に動いている",
            "左へ流れる",
        ),
        "right": (
            "右に動く",
            "右へ動く",
            "右に移動する",
            "右へ移動する",
            "右に進む",
            "左から右へ動く",
            "右に滑る",
            "右に転がる",
            "右方向に動く",
            "右に動いている",
            "右へ流れる",
        ),
        "up": (
            "上に動く",
            "上へ動く",
            "上に移動する",
            "上へ移動する",
            "上昇する",
            "上がる",
            "下から上へ動く",
            "上に浮かぶ",
            "上方向に動く",
            "上に動いている",
            "昇る",
        ),
        "down": (
            "下に動く",
            "下へ動く",
            "下に移動する",
            "下へ移動する",
            "落ちる",
            "落下する",
            "下がる",
            "上から下へ動く",
            "下方向に動く",
            "下に動いている",
            "沈む",
        ),
        "still": (
            "静止している",
            "動かない",
            "止まっている",
            "じっとしている",
            "静止する",
            "その場にとどまる",
            "動いていない",
        ),
        "zoom in": (
            "ズームイン",
            "ズームインする",
            "近づいてくる",
            "大きくなる",
            "だんだん大きくなる",
            "拡大する",
            "迫ってくる",
            "カメラがズームインする",
        ),
        "zoom out": (
            "ズームアウト",
            "ズームアウトする",
            "遠ざかる",
            "小さくなる",
            "だんだん小さくなる",
            "縮小する",
            "離れていく",
            "カメラがズームアウトする",
        ),
    },
}
# A camera pan moves the picture the other way: pan left carries the shape to the right.
_PAN_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "left": ("camera pans right", "the camera pans right", "camera pan right"),
        "right": ("camera pans left", "the camera pans left", "camera pan left"),
        "up": ("camera tilts down", "the camera tilts down", "camera tilt down"),
        "down": ("camera tilts up", "the camera tilts up", "camera tilt up"),
        "still": ("static camera", "fixed camera", "the camera is still", "static shot"),
        "zoom in": ("camera zooms in", "camera zoom in", "the camera moves in", "dolly in"),
        "zoom out": ("camera zooms out", "camera zoom out", "the camera moves out", "dolly out"),
    },
    "ja": {
        "left": ("カメラが右にパンする",),
        "right": ("カメラが左にパンする",),
        "up": ("カメラが下にティルトする",),
        "down": ("カメラが上にティルトする",),
        "still": ("カメラは固定", "固定カメラ"),
        "zoom in": ("カメラが寄る", "カメラズームイン"),
        "zoom out": ("カメラが引く", "カメラズームアウト"),
    },
}

_EN_TEMPLATES: tuple[str, ...] = (
    "a {c} {s} {m} on a {b} background",
    "a {c} {s} {m} on a {b} background",
    "A {c} {s} on a {b} background, {m}",
    "a {c} {s} {m}, {b} background",
    "{c} {s} {m}, {b} background",
    "{c} {s}, {b} background, {m}",
    "on a {b} background, a {c} {s} {m}",
    "{b} background, a {c} {s} {m}",
    "{b} background with a {c} {s}, {m}",
    "the {c} {s} {m} in front of a {b} background",
    "a {s} that is {c} {m} against a {b} background",
    "a video of a {c} {s} {m} over a {b} background",
    "a {c} {s} on {b}, {m}",
    "{m}: a {c} {s} on a {b} background",
    "{m}, a {c} {s}, {b} background",
    "the background is {b} and a {c} {s} {m}",
    "a {c} {s} {m} across a {b} background",
    "against {b}, the {c} {s} {m}",
    "a small {c} {s} {m} on a plain {b} background",
    "a single {c} {s} {m}, the background is {b}",
)
_JA_TEMPLATES: tuple[str, ...] = (
    "{b}背景で{c}{s}が{m}",
    "{b}背景で{c}{s}が{m}",
    "{b}背景に{c}{s}、{m}",
    "{c}{s}が{b}背景で{m}",
    "{c}{s}が{m}、{b}背景",
    "{b}背景の前で{c}{s}が{m}",
    "{c}{s}、{b}背景、{m}",
    "{m}、{b}背景の{c}{s}",
    "{b}背景。{c}{s}が{m}。",
    "背景は{b}色、{c}{s}が{m}",
    "{b}背景の上を{c}{s}が{m}動画",
)
_EN_PARTIAL: dict[str, tuple[str, ...]] = {
    "cs": ("a {c} {s}", "{c} {s}"),
    "csm": ("a {c} {s} {m}", "the {c} {s} {m}", "{c} {s} {m}", "{c} {s}, {m}"),
    "csb": ("a {c} {s} on a {b} background", "{c} {s}, {b} background"),
    "sm": ("a {s} {m}", "the {s} {m}"),
    "m": ("{m}", "it {m}", "the shape {m}", "the object {m}"),
}
_JA_PARTIAL: dict[str, tuple[str, ...]] = {
    "cs": ("{c}{s}",),
    "csm": ("{c}{s}が{m}", "{c}{s}、{m}"),
    "csb": ("{b}背景に{c}{s}", "{b}背景の{c}{s}"),
    "sm": ("{s}が{m}",),
    "m": ("{m}", "物体が{m}"),
}


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
        template = rng.choice(_EN_TEMPLATES if kind == "csbm" else _EN_PARTIAL[kind])
    else:
        template = rng.choice(_JA_TEMPLATES if kind == "csbm" else _JA_PARTIAL[kind])
    pool = _PAN_WORDS if rng.random() < 0.08 else _MOTION_WORDS
    words = {
        "c": rng.choice(_COLOUR_WORDS[language][combo.colour]),
        "b": rng.choice(_BACKGROUND_WORDS[language][combo.background]),
        "s": rng.choice(_SHAPE_WORDS[language][combo.shape]),
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
        c, b = _COLOUR_WORDS["ja"][combo.colour][0], _BACKGROUND_WORDS["ja"][combo.background][0]
        s, m = _SHAPE_WORDS["ja"][combo.shape][0], _MOTION_WORDS["ja"][combo.motion][0]
        return f"{b}背景で{c}{s}が{m}"
    m = _MOTION_WORDS["en"][combo.motion][0]
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
