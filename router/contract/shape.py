"""Which picture size a model can make of what was asked: resolution, aspect ratio and exact pixels, pure."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router.contract.card import Asset, ModelCard, Size
from router.contract.words import Words, words

TOLERANCE = 0.02
"""Relative difference of two aspect ratios that nobody sees; a larger crop is told."""
FOLLOWS_IMAGE = ("auto", "adaptive", "match_input_image", "keep_ratio")
"""Names under which providers list "as the image" among their aspect ratios."""
SAME_RESOLUTION = {"1440p": "2k", "2160p": "4k", "4320p": "8k"}

Refuse = Callable[[str, Words], None]
"""`refuse(field, reason)`: this field cannot be honoured, leaving it out still makes a clip."""
Warn = Callable[[Words], None]


@dataclass(frozen=True)
class Shape:
    """The size of the clip; None where the model alone decides or the number is not documented."""

    resolution: str | None = None
    aspect_ratio: str | None = None
    width: int | None = None
    height: int | None = None


def resolutions_of(card: ModelCard) -> tuple[str, ...]:
    """What can be asked for, the default first."""
    return card.resolutions or tuple(dict.fromkeys(size.resolution for size in card.sizes))


def ratios_of(card: ModelCard) -> tuple[str, ...]:
    """What can be asked for, the default first."""
    return card.aspect_ratios or tuple(dict.fromkeys(size.aspect_ratio for size in card.sizes))


def sizes_of(card: ModelCard) -> tuple[Size, ...]:
    """The listed pixels of resolutions and ratios that can be asked for."""
    names, ratios = resolutions_of(card), ratios_of(card)
    return tuple(s for s in card.sizes if s.resolution in names and s.aspect_ratio in ratios)


def proportion(ratio: str) -> float | None:
    """Width by height of `16:9`; None for a name such as `auto`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)", ratio)
    return float(found[1]) / float(found[2]) if found and float(found[2]) else None


def cropped(image: float, frame: float) -> float:
    """The part of the image, 0..1, that is lost when it fills a frame of another proportion."""
    return 1 - min(image / frame, frame / image)


def fit_shape(
    card: ModelCard,
    resolution: str | None,
    ratio: str | None,
    image: Asset | None,
    *,
    refuse: Refuse,
    warn: Warn,
) -> Shape:
    """Choose resolution and ratio among what the card lists. `image` is the frame the clip starts (or ends) with."""
    exact = _pixels(resolution)
    if ratio is not None and exact is not None and not _alike(proportion(ratio), exact[0] / exact[1]):
        refuse(
            "aspect_ratio",
            words(
                f"aspect ratio {ratio} contradicts {resolution}; give one of the two",
                f"アスペクト比 {ratio} は {resolution} と矛盾しています。どちらか一方だけを指定してください",
            ),
        )
        ratio = None
    seen = image.width / image.height if image and image.width and image.height else None
    if image is not None and card.aspect_from_image:
        return _shape_of_image(card, resolution, ratio, exact, seen, refuse=refuse)
    if exact is not None:
        found = (_snapped if card.local else _listed)(card, *exact, refuse=refuse, warn=warn)
        if found is not None:
            return found
        resolution = None
    return _named(card, resolution, ratio, has_image=image is not None, seen=seen, refuse=refuse, warn=warn)


def _pixels(resolution: str | None) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d+)x(\d+)", resolution or "")
    return (max(1, int(found[1])), max(1, int(found[2]))) if found else None


def _alike(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and cropped(a, b) <= TOLERANCE


def _same_name(wanted: str, names: Sequence[str]) -> str | None:
    """The card's own spelling: `4k` and `2160p` are one thing."""
    plain = SAME_RESOLUTION.get(wanted.lower(), wanted.lower())
    return next((name for name in names if SAME_RESOLUTION.get(name.lower(), name.lower()) == plain), None)


def _nearest(wanted: float, ratios: Sequence[str]) -> str | None:
    known = [ratio for ratio in ratios if proportion(ratio)]
    return min(known, key=lambda ratio: cropped(wanted, proportion(ratio) or 1), default=None)


def _same_ratio(wanted: str, ratios: Sequence[str]) -> str | None:
    """The card's own spelling of an equal ratio; `1920:1080` is `16:9`."""
    if wanted in ratios:
        return wanted
    value = proportion(wanted)
    near = _nearest(value, ratios) if value else None
    return near if near and math.isclose(proportion(near) or 0, value or 0, rel_tol=1e-3) else None


def _size(card: ModelCard, resolution: str | None, ratio: str | None) -> Size | None:
    return next((s for s in sizes_of(card) if (s.resolution, s.aspect_ratio) == (resolution, ratio)), None)


def _ratios_at(card: ModelCard, resolution: str | None) -> tuple[str, ...]:
    """The ratios possible at a resolution: those of its sizes, or all where no size is listed for it."""
    at = tuple(s.aspect_ratio for s in sizes_of(card) if s.resolution == resolution)
    return tuple(ratio for ratio in ratios_of(card) if ratio in at) if at else ratios_of(card)


def _either(values: Sequence[str]) -> tuple[str, str]:
    return ", ".join(values), "、".join(values)


def _refuse_resolution(card: ModelCard, wanted: str, refuse: Refuse) -> None:
    names = list(dict.fromkeys([*resolutions_of(card), *(f"{s.width}x{s.height}" for s in sizes_of(card))]))
    en, ja = _either(names)
    refuse(
        "resolution",
        words(
            f"{wanted} is not possible; possible: {en}", f"{wanted} には対応していません。指定できる値: {ja}"
        )
        if names
        else words(
            f"{wanted} cannot be asked for: the model decides its size; leave resolution out",
            f"{wanted} は指定できません。サイズはモデルが決めるため、resolution を省略してください",
        ),
    )


def _refuse_ratio(wanted: str, possible: Sequence[str], resolution: str | None, refuse: Refuse) -> None:
    en, ja = _either([ratio for ratio in possible if proportion(ratio)])
    at_en, at_ja = (f" at {resolution}", f"{resolution} では") if resolution else ("", "")
    refuse(
        "aspect_ratio",
        words(
            f"{wanted} is not possible{at_en}; possible: {en}",
            f"{at_ja}アスペクト比 {wanted} に対応していません。指定できる値: {ja}",
        )
        if en
        else words(
            f"{wanted} cannot be asked for: the model decides its aspect ratio; leave aspect_ratio out",
            f"アスペクト比 {wanted} は指定できません。比率はモデルが決めるため、aspect_ratio を省略してください",
        ),
    )


def _shape_of_image(
    card: ModelCard,
    resolution: str | None,
    ratio: str | None,
    exact: tuple[int, int] | None,
    seen: float | None,
    *,
    refuse: Refuse,
) -> Shape:
    """The provider takes no ratio and follows the image."""
    asked = exact[0] / exact[1] if exact else proportion(ratio) if ratio else None
    if asked is not None and not _alike(asked, seen):
        refuse(
            "resolution" if exact else "aspect_ratio",
            words(
                "with an image the clip follows the image's own proportions; crop the image, or leave this out",
                "画像を渡すと動画は画像の縦横比に従います。画像を切り抜くか、この指定を省略してください",
            ),
        )
        exact, resolution = None, None if exact else resolution
    names = resolutions_of(card)
    default = names[0] if names else None
    if resolution is None:
        return Shape(default)
    found = _same_name(f"{min(exact)}p" if exact else resolution, names)
    if found is None:
        _refuse_resolution(card, resolution, refuse)
    return Shape(found or default)


def _listed(card: ModelCard, width: int, height: int, *, refuse: Refuse, warn: Warn) -> Shape | None:
    """Exact pixels for a provider: a listed size, or a named resolution and ratio that come to the same."""
    for size in sizes_of(card):
        if (size.width, size.height) == (width, height):
            return Shape(size.resolution, size.aspect_ratio, width, height)
    name = _same_name(f"{min(width, height)}p", resolutions_of(card))
    ratio = _nearest(width / height, _ratios_at(card, name)) if name else None
    if name is None or ratio is None or not _alike(proportion(ratio), width / height):
        _refuse_resolution(card, f"{width}x{height}", refuse)
        return None
    listed = _size(card, name, ratio)
    if listed is not None:
        warn(_other_size(width, height, listed.width, listed.height))
        return Shape(name, ratio, listed.width, listed.height)
    return Shape(name, ratio)


def _snapped(card: ModelCard, width: int, height: int, *, refuse: Refuse, warn: Warn) -> Shape | None:
    """Exact pixels for our own device: rounded down to its grid, within what the model was made for."""
    grid = card.local.size_multiple if card.local else 1
    w, h = width // grid * grid, height // grid * grid
    listed = next((s for s in sizes_of(card) if (s.width, s.height) in {(width, height), (w, h)}), None)
    if listed is None and not _within(card, w, h):
        _refuse_resolution(card, f"{width}x{height}", refuse)
        return None
    if listed is not None:
        w, h = listed.width, listed.height
    if (w, h) != (width, height):
        warn(_other_size(width, height, w, h))
    if listed is not None:
        return Shape(listed.resolution, listed.aspect_ratio, w, h)
    near, divisor = _nearest(w / h, ratios_of(card)), math.gcd(w, h)
    ratio = near if near and _alike(proportion(near), w / h) else f"{w // divisor}:{h // divisor}"
    return Shape(f"{w}x{h}", ratio, w, h)


def _within(card: ModelCard, width: int, height: int) -> bool:
    """Between half the smallest listed area and the largest, no side longer than the longest listed one."""
    areas = [s.width * s.height for s in sizes_of(card)]
    longest = max((side for s in sizes_of(card) for side in (s.width, s.height)), default=0)
    return bool(areas) and min(areas) < 2 * width * height <= 2 * max(areas) and max(width, height) <= longest


def _other_size(width: int, height: int, made_width: int, made_height: int) -> Words:
    return words(
        f"The clip is {made_width}x{made_height} instead of {width}x{height}: the nearest size of this model.",
        f"動画は {width}x{height} ではなく、このモデルで最も近い {made_width}x{made_height} になります。",
    )


def _named(
    card: ModelCard,
    resolution: str | None,
    ratio: str | None,
    *,
    has_image: bool,
    seen: float | None,
    refuse: Refuse,
    warn: Warn,
) -> Shape:
    """Names, or nothing at all: the card's own values, defaults that go together."""
    names = resolutions_of(card)
    name = _same_name(resolution, names) if resolution else None
    if resolution and name is None:
        _refuse_resolution(card, resolution, refuse)
    chosen = _same_ratio(ratio, ratios_of(card)) if ratio else None
    if ratio and chosen is None:
        _refuse_ratio(ratio, _ratios_at(card, name), name, refuse)
    if name is not None and chosen is not None and chosen not in _ratios_at(card, name):
        _refuse_ratio(chosen, _ratios_at(card, name), name, refuse)
        chosen = None
    if name is None:
        name = next((n for n in names if chosen is None or chosen in _ratios_at(card, n)), None)
    if chosen is None:
        chosen = _default_ratio(_ratios_at(card, name), has_image=has_image, seen=seen, warn=warn)
    size = _size(card, name, chosen)
    return Shape(name, chosen, size.width if size else None, size.height if size else None)


def _default_ratio(ratios: Sequence[str], *, has_image: bool, seen: float | None, warn: Warn) -> str | None:
    """Nothing was asked: as the image where there is one, else the card's default."""
    if has_image:
        follows = next((ratio for ratio in ratios if ratio in FOLLOWS_IMAGE), None)
        near = _nearest(seen, ratios) if seen else None
        if follows or near is None or seen is None:
            return follows or (ratios[0] if ratios else None)
        lost = cropped(seen, proportion(near) or seen)
        if lost > TOLERANCE:
            warn(
                words(
                    f"The image does not have the proportions of the clip ({near}): about {lost:.0%} of it is cut off.",
                    f"画像の縦横比が動画({near})と異なるため、画像の約 {lost:.0%} が切り取られます。",
                )
            )
        return near
    return ratios[0] if ratios else None
