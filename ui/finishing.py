"""The form's choices for the finished clip <-> the steps of a request (`post`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from router.contract.post import Fps, Loop, Poster, PostStep, Preview, Upscale
from ui.text import Text

NONE = "auto"
"""The same word as the form's `AUTO`: nothing is done."""
RATES = ("24", "30", "48", "60")
FACTORS = ("1.5", "2", "3", "4")
LOOPS = ("boomerang", "crossfade")
PREVIEWS = ("gif", "webp")
_STEPS: TypeAdapter[tuple[PostStep, ...]] = TypeAdapter(tuple[PostStep, ...])


@dataclass(frozen=True)
class Finishing:
    """One value per control; `NONE` or an empty line leaves the step out."""

    fps: str = NONE
    upscale: str = NONE
    loop: str = NONE
    preview: str = NONE
    poster: str = ""

    def steps(self) -> list[dict[str, Any]]:
        """In the order in which they are done: the cheap work on few pixels first. Values as they stand in the fields."""
        return list(self._steps())

    def _steps(self) -> Iterator[dict[str, Any]]:
        if _given(self.fps):
            yield {"do": "fps", "fps": self.fps}
        if _given(self.upscale):
            yield {"do": "upscale", "factor": self.upscale}
        if _given(self.loop):
            yield {"do": "loop", "style": self.loop}
        if _given(self.poster):
            yield {"do": "poster", "at": self.poster}
        if _given(self.preview):
            yield {"do": self.preview}


def shown(steps: tuple[PostStep, ...]) -> Finishing | None:
    """The controls that ask for exactly these steps; None where the form has no field for them."""
    found: dict[str, str] = {}
    for step in steps:
        match step:
            case Fps():
                found["fps"] = str(step.fps)
            case Upscale():
                found["upscale"] = f"{step.factor:g}"
            case Loop():
                found["loop"] = step.style
            case Poster():
                found["poster"] = f"{step.at:g}"
            case Preview():
                found["preview"] = step.do
    controls = Finishing(**found)
    again = _STEPS.validate_python(controls.steps())
    return controls if again == steps else None


def said(text: Text, steps: tuple[PostStep, ...]) -> str:
    """The steps in the reader's words, in their order."""
    return " · ".join(_said(text, step) for step in steps)


def _said(text: Text, step: PostStep) -> str:
    match step:
        case Fps():
            return text("post_to_fps", fps=step.fps)
        case Upscale():
            return text("post_times", factor=f"{step.factor:g}")
        case Loop():
            return text(f"post_{step.style}")
        case Poster():
            return text("post_still_at", s=f"{step.at:g}")
        case Preview():
            return text(f"post_{step.do}")


def _given(value: str | None) -> bool:
    return value not in (None, "", NONE)
