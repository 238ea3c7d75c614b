"""What a caller asks for: one schema for every task, door and backend. Unknown keys are errors."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from router.contract.post import MOST_STEPS, PostStep, objection

PROMPT_MAX = 20_000
"""Characters. The longest prompt any provider documents is 15,000; each card has its own, smaller limit."""


class Task(StrEnum):
    """What is to be made."""

    TEXT_TO_VIDEO = "text-to-video"
    IMAGE_TO_VIDEO = "image-to-video"
    VIDEO_TO_VIDEO = "video-to-video"
    EXTEND = "extend"
    LIP_SYNC = "lip-sync"
    AVATAR = "avatar"
    EFFECT = "effect"
    UPSCALE = "upscale"
    TEXT_TO_IMAGE = "text-to-image"


TASK_ALIASES = {
    "t2v": Task.TEXT_TO_VIDEO,
    "i2v": Task.IMAGE_TO_VIDEO,
    "v2v": Task.VIDEO_TO_VIDEO,
    "t2i": Task.TEXT_TO_IMAGE,
}


class Quality(StrEnum):
    """Quality tier. Absent means the model's own default."""

    DRAFT = "draft"
    STANDARD = "standard"
    HIGH = "high"


class Mode(StrEnum):
    """What a job proposes to first; shared/routing.md says what each orders by."""

    CLOUD_FIRST = "cloud-first"
    LOCAL_FIRST = "local-first"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"
    LOCAL_ONLY = "local-only"


class Substitutes(StrEnum):
    """What may stand in for the model that was named."""

    NONE = "none"
    FAMILY = "family"
    ANY = "any"


class FrameType(StrEnum):
    """Which end of the clip an image is."""

    FIRST = "first_frame"
    LAST = "last_frame"


CAMERA_PRESETS = (
    "static",
    "zoom_in",
    "zoom_out",
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "roll_left",
    "roll_right",
    "dolly_in",
    "dolly_out",
    "truck_left",
    "truck_right",
    "pedestal_up",
    "pedestal_down",
    "orbit_left",
    "orbit_right",
    "crane_up",
    "crane_down",
    "tracking",
    "handheld",
    "down_back",
    "forward_up",
    "right_turn_forward",
    "left_turn_forward",
)
"""The last four are Kling's compound movements, by its own names."""
CameraAxis = Literal["horizontal", "vertical", "pan", "tilt", "roll", "zoom"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Camera(_Value):
    """Camera movement: a preset by name, or one axis with a value from -10 to 10."""

    preset: str | None = None
    axis: CameraAxis | None = None
    value: float | None = Field(default=None, ge=-10, le=10)
    """Negative is left, down, counter-clockwise, out; positive is right, up, clockwise, in."""

    @model_validator(mode="after")
    def _one_form(self) -> "Camera":
        if (self.preset is None) == (self.axis is None):
            raise ValueError("give either a preset or one axis with a value")
        if self.axis is not None and self.value is None:
            raise ValueError(f"axis {self.axis} needs a value from -10 to 10")
        if self.preset is not None and self.preset not in CAMERA_PRESETS:
            raise ValueError(f"unknown camera preset {self.preset!r}; known: {', '.join(CAMERA_PRESETS)}")
        if self.preset is not None and self.value is not None:
            raise ValueError("a preset takes no value")
        return self


def _camera_from_text(value: Any) -> Any:
    """`zoom_in` or `pan=5`, the command line's form."""
    if not isinstance(value, str):
        return value
    axis, equals, number = value.partition("=")
    return {"axis": axis, "value": number} if equals else {"preset": value}


def _flatten_url(value: Any) -> Any:
    """Also takes the widespread `{"type": "image_url", "image_url": {"url": ...}}` form."""
    if isinstance(value, str):
        return {"url": value}
    if not isinstance(value, Mapping) or "url" in value:
        return value
    for kind in ("image", "video", "audio"):
        inner = value.get(f"{kind}_url")
        if inner is not None:
            rest = {k: v for k, v in value.items() if k not in {"type", f"{kind}_url"}}
            return {**rest, "type": kind, "url": inner["url"] if isinstance(inner, Mapping) else inner}
    return value


class FrameImage(_Value):
    """The first or the last frame. `url`: `asset:<sha256>` (our media store), `https://...` or a data URI."""

    frame_type: FrameType = FrameType.FIRST
    url: str = Field(min_length=1)
    type: Literal["image"] = "image"


class Reference(_Value):
    """Other input media. `url` as in FrameImage, and `job:<id>` for the result of an earlier job of ours."""

    type: Literal["image", "video", "audio"] = "image"
    url: str = Field(min_length=1)
    role: str | None = None
    """A provider's own name for what the input is for (`character`, `style`, ...); absent: the model's default."""


_RELATIVE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([smhd])\s*$")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _deadline(value: Any) -> Any:
    """`90s`, `15m`, `8h`: a time from now; anything else is left to the ISO 8601 parser."""
    if isinstance(value, str) and (found := _RELATIVE.match(value)):
        seconds = float(found[1]) * _UNIT_S[found[2]]
        if not 0 < seconds <= 366 * 86400:
            raise ValueError("a deadline lies between a second and a year from now")
        return datetime.now(UTC) + timedelta(seconds=seconds)
    return value


class Preferences(_Value):
    """What the caller allows and wants of the router."""

    mode: Mode | None = None
    """Absent: the project's, else the server's."""
    backends: tuple[str, ...] = ()
    """Only these backends (`fal`) or models (`fal/veo3.1`); empty: any."""
    forbid: tuple[str, ...] = ()
    max_usd: Decimal | None = Field(default=None, ge=0, le=1_000_000, decimal_places=6)
    """The most this job may cost in US dollars, over all its attempts."""
    deadline: Annotated[AwareDatetime, BeforeValidator(_deadline)] | None = None
    allow_drop: bool | tuple[str, ...] = False
    """True, or the names of the fields that may be dropped, each with a visible warning."""
    retry_refused: bool = False
    """Whether a prompt that one backend's safety filter refused may be tried elsewhere."""
    substitutes: Substitutes | None = None
    """Absent: `family` when a model is named, `any` when none is, or the server's `[router] substitutes`."""
    allow_duplicate_spend: bool = False
    """Whether a second paid attempt may start while the first one's outcome is unknown: its answer was lost, or it still runs
    and is likely to miss the deadline."""
    allow_unknown_price: bool = False
    """Whether a model whose price is not known may run although a cap or budget applies."""

    def may_drop(self, field: str) -> bool:
        """Whether the caller accepts a clip made without this field."""
        return self.allow_drop if isinstance(self.allow_drop, bool) else field in self.allow_drop


def _task(value: Any) -> Any:
    return TASK_ALIASES.get(value.lower(), value.lower()) if isinstance(value, str) else value


def _resolution(value: Any) -> Any:
    return value.strip().lower().replace("×", "x") if isinstance(value, str) else value


UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""PostgreSQL stores no NUL in text, and no file can hold an unpaired surrogate."""


def _unstorable(value: Any, path: str = "") -> str | None:
    """Path of the first string that no database or file name could hold, None when all can be held."""
    if isinstance(value, str):
        return (path or "text") if UNSTORABLE.search(value) else None
    if isinstance(value, Mapping):
        rows = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        rows = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    else:
        return None
    return next((found for name, item in rows if (found := _unstorable(item, name)) is not None), None)


_NAME = r"^[\w][\w .:/@+-]{0,127}$"


class VideoRequest(_Value):
    """One video, complete and JSON-ready. Every absent field means "the model's own default"."""

    task: Annotated[Task, BeforeValidator(_task)] | None = None
    """Absent: image-to-video when a first frame is given, else text-to-video."""
    prompt: str = Field(default="", max_length=PROMPT_MAX)
    negative_prompt: str | None = Field(default=None, max_length=PROMPT_MAX)
    model: str | None = Field(default=None, min_length=1, max_length=200)
    """A model id (`fal/veo3.1`), a family (`kling-2.6-pro`), or absent for any that fits."""
    frame_images: tuple[Annotated[FrameImage, BeforeValidator(_flatten_url)], ...] = Field(
        default=(), max_length=2
    )
    input_references: tuple[Annotated[Reference, BeforeValidator(_flatten_url)], ...] = Field(
        default=(), max_length=20
    )
    duration: float | None = Field(default=None, gt=0, le=600, allow_inf_nan=False)
    """Seconds."""
    resolution: Annotated[str, BeforeValidator(_resolution)] | None = Field(
        default=None, pattern=r"^(\d{3,4}p|[248]k|\d{2,5}x\d{2,5})$"
    )
    """`720p`, `4k`, or exact pixels `WIDTHxHEIGHT`."""
    aspect_ratio: str | None = Field(default=None, pattern=r"^[1-9]\d{0,2}:[1-9]\d{0,2}$")
    fps: int | None = Field(default=None, ge=1, le=240)
    seed: int | None = Field(default=None, ge=0, le=2**32 - 1)
    guidance: float | None = Field(default=None, ge=0, le=50, allow_inf_nan=False)
    quality: Quality | None = None
    camera: Annotated[Camera, BeforeValidator(_camera_from_text)] | None = None
    generate_audio: bool | None = None
    effect: str | None = Field(default=None, max_length=100)
    """Name of an effect, for the task `effect`."""
    post: tuple[PostStep, ...] = Field(default=(), max_length=MOST_STEPS)
    """Steps on the finished clip, on our side: `fps`, `upscale` and `loop` in this order of writing, then `poster`, `gif` or
    `webp` of what came out. Each may also be text: `upscale=2`. The original stays stored; a step that fails leaves it."""
    provider_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By provider name; passed to that provider only, after its own keys are checked."""
    preferences: Preferences = Preferences()
    prompt_language: str | None = Field(default=None, pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")
    project: str | None = Field(default=None, pattern=_NAME)
    tags: tuple[Annotated[str, Field(pattern=_NAME)], ...] = Field(default=(), max_length=20)

    @model_validator(mode="before")
    @classmethod
    def _plain_text(cls, data: Any) -> Any:
        found = _unstorable(data)
        if found is not None:
            raise ValueError(f"{found}: NUL characters and lone surrogates are not text")
        return data

    @model_validator(mode="after")
    def _complete(self) -> "VideoRequest":
        kinds = [image.frame_type for image in self.frame_images]
        if len(set(kinds)) != len(kinds):
            raise ValueError("frame_images: at most one first_frame and one last_frame")
        task = self.effective_task
        if not self.prompt and task in {Task.TEXT_TO_VIDEO, Task.TEXT_TO_IMAGE}:
            raise ValueError("prompt: describe the clip in words; the prompt is empty")
        if task is Task.IMAGE_TO_VIDEO and not self.frame_images:
            raise ValueError("frame_images: image-to-video needs a first frame")
        if task is Task.TEXT_TO_VIDEO and self.frame_images:
            raise ValueError(
                "task: text-to-video takes no frame images; leave task out or say image-to-video"
            )
        if task is Task.EFFECT and not self.effect:
            raise ValueError("effect: name the effect")
        if self.effect and task is not Task.EFFECT:
            raise ValueError("effect: only the task effect takes an effect name")
        return self

    @model_validator(mode="after")
    def _post_fits(self) -> "VideoRequest":
        still = self.effective_task is Task.TEXT_TO_IMAGE
        if (against := objection(self.post, self.resolution, still=still)) is not None:
            raise ValueError(against)
        return self

    @property
    def effective_task(self) -> Task:
        """The task as given, or as the inputs imply."""
        if self.task is not None:
            return self.task
        return Task.IMAGE_TO_VIDEO if self.frame_images else Task.TEXT_TO_VIDEO

    def frame(self, kind: FrameType) -> FrameImage | None:
        """The image for that end of the clip, if given."""
        return next((image for image in self.frame_images if image.frame_type is kind), None)
