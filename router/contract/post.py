"""What may be done to a clip once it is there, whoever made it: steps as data, with their short form and their limits.

`{"do": "fps", "fps": 24}` or `"fps=24"`; `"upscale=2"`, `"loop"`, `"loop=crossfade"`, `"poster=1.5"`, `"gif"`, `"webp=320"`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MOST_STEPS = 5
"""One of each kind."""
MOST_PIXELS = 7680 * 4320
"""Of one frame of the result (8K)."""
_SHORT = {
    "fps": "fps",
    "upscale": "factor",
    "loop": "style",
    "poster": "at",
    "gif": "width",
    "webp": "width",
}
"""Which field the value of a short form is."""


class _Step(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fps(_Step):
    """More frames per second: the frames between are estimated from the motion. Length and sound stay."""

    do: Literal["fps"]
    fps: int = Field(ge=2, le=120)
    """Frames per second of the result; must be more than the clip has."""


class Upscale(_Step):
    """A larger picture by Lanczos resampling. It adds no detail: no learned model is used."""

    do: Literal["upscale"]
    factor: float = Field(gt=1, le=4, allow_inf_nan=False)
    """Both sides are multiplied by it and rounded to even numbers."""


class Loop(_Step):
    """A clip that can be repeated without a jump."""

    do: Literal["loop"]
    style: Literal["boomerang", "crossfade"] = "boomerang"
    """`boomerang`: forward, then backward; the sound plays once. `crossfade`: the end fades into the beginning, and the
    clip gets shorter by `fade_s`."""
    fade_s: float = Field(default=0.5, ge=0.1, le=2, allow_inf_nan=False)
    """Seconds of a crossfade."""


class Poster(_Step):
    """The still of the clip at a time of its own instead of the first frame."""

    do: Literal["poster"]
    at: float = Field(ge=0, le=600, allow_inf_nan=False)
    """Seconds from the start; a later time than the clip has means its last frame."""


class Preview(_Step):
    """A small animated picture of the whole clip beside it, without sound."""

    do: Literal["gif", "webp"]
    width: int = Field(default=480, ge=16, le=1280)
    """Pixels; never wider than the clip."""
    fps: int = Field(default=12, ge=1, le=30)
    """At most so many frames per second; fewer for a clip of more than 300 frames at that rate."""


def _from_text(value: Any) -> Any:
    """`upscale=2`, the command line's form."""
    if not isinstance(value, str):
        return value
    name, equals, rest = value.strip().partition("=")
    return {"do": name, **({_SHORT.get(name, "value"): rest} if equals else {})}


PostStep = Annotated[
    Annotated[Fps | Upscale | Loop | Poster | Preview, Field(discriminator="do")], BeforeValidator(_from_text)
]


def objection(steps: Sequence[Any], resolution: str | None, *, still: bool) -> str | None:
    """Why these steps cannot be asked for together, in the words of a schema's own check; None when they can."""
    if steps and still:
        return "post: a single image cannot be processed; leave post out"
    kinds = ["preview" if isinstance(step, Preview) else step.do for step in steps]
    if len(set(kinds)) != len(kinds):
        return "post: give each step once, and one preview (gif or webp)"
    factor = next((step.factor for step in steps if isinstance(step, Upscale)), None)
    if factor is not None and _pixels(resolution) * factor**2 > MOST_PIXELS:
        return f"post: {resolution} times {factor:g} is more than 7680x4320 pixels; give a smaller factor"
    return None


def _pixels(resolution: str | None) -> float:
    """Of a frame of that resolution, at 16:9 where only one side is named; 0 where nothing is said."""
    if resolution is None:
        return 0
    if "x" in resolution:
        sides = [int(side) for side in resolution.split("x")]
        return sides[0] * sides[1]
    lines = {"2k": 1440, "4k": 2160, "8k": 4320}.get(resolution) or int(resolution.removesuffix("p"))
    return lines * lines * 16 / 9
