"""The sizes and lengths a video model can really make, nearest to what was asked for; and cropping to them."""

from math import ceil, floor

from PIL import Image, ImageOps


def snap_frames(wanted: float, rule: tuple[int, int] = (4, 1), most: int | None = None) -> int:
    """The nearest `k * first + second` frames, the longer one of two equally near, never above `most`.

    Wan is 4k + 1: 80 -> 81, 82 -> 81, 83 -> 85, 1 -> 1.
    """
    factor, rest = rule
    k = max(0, floor((wanted - rest) / factor + 0.5))
    if most is not None:
        k = min(k, max(0, (most - rest) // factor))
    return max(1, k * factor + rest)


def snap_size(width: int, height: int, multiple: int) -> tuple[int, int]:
    """Each side to the nearest multiple, at least one; of two equally near the larger (720 -> 736 at 32 never 704).

    The pipelines themselves round down without a word, so this is done before they are called.
    """

    def side(pixels: int) -> int:
        return max(1, floor(pixels / multiple + 0.5)) * multiple

    return side(width), side(height)


def cover(image: Image.Image, width: int, height: int) -> Image.Image:
    """The image, upright, RGB, cut to the target's aspect around its centre and scaled to it.

    The pipelines would stretch it. Transparency becomes white.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        upright = Image.alpha_composite(paper, layer)
    rgb = upright.convert("RGB")
    scale = max(width / rgb.width, height / rgb.height)
    cut_width, cut_height = min(rgb.width, ceil(width / scale)), min(rgb.height, ceil(height / scale))
    left, top = (rgb.width - cut_width) / 2, (rgb.height - cut_height) / 2
    box = (left, top, left + cut_width, top + cut_height)
    return rgb.resize((width, height), Image.Resampling.LANCZOS, box=box)
