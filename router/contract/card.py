"""What one model can do and costs, as data; and a request fitted to it, with no field left open."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from router.contract.request import Camera, CameraAxis, FrameType, Quality, Reference, Task
from router.contract.words import Words

CONDITIONS = frozenset(
    {
        *("resolution", "aspect_ratio", "duration", "audio", "quality", "task", "fps", "effect"),
        *("has_image", "has_last_frame", "has_video", "has_references", "has_camera"),
    }
)
"""The keys that a price row's `when` and a card's `impossible` may use; each compares with the resolved request, a
list means "any of"."""
Need = Literal["first_frame", "last_frame", "image", "video", "audio"]
"""An input that a model cannot do without; the last three are input references of that kind."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Where(StrEnum):
    """Where a backend runs: `house` is what `local-only` lets through."""

    CLOUD = "cloud"
    HOUSE = "house"


class LostSubmit(StrEnum):
    """What to do when the answer to the call that spends was lost."""

    HOLD = "hold"
    """A person decides; the money stays reserved."""
    FIND = "find"
    """Look for the job again with `Backend.find`."""
    IDEMPOTENT = "idempotency_key"
    """The provider answers a repeated key with the first task: sending again is safe."""
    RESEND = "resend"
    """The backend costs nothing: start again."""


class Price(_Value):
    """One row of a price table. The first row whose conditions hold is the price."""

    usd: Decimal | None = Field(default=None, ge=0)
    credits: Decimal | None = Field(default=None, ge=0)
    """Where the provider bills in credits; `[provider] credit_usd` converts."""
    per: Literal["second", "clip"]
    when: dict[str, Any] = Field(default_factory=dict)
    block_s: Decimal | None = Field(default=None, gt=0)
    """Seconds are billed in started blocks of this many: at 5, a clip of 7 s costs 10 s."""
    counts_input: bool = False
    """The seconds of the input videos are billed too, at the same rate."""
    as_of: date
    """The day on which the price was read at its source."""
    source: str = Field(min_length=1)
    note: str | None = None

    @model_validator(mode="after")
    def _known(self) -> Self:
        if (self.usd is None) == (self.credits is None):
            raise ValueError("a price row has either usd or credits")
        unknown = sorted(set(self.when) - CONDITIONS)
        if unknown:
            raise ValueError(
                f"unknown condition {', '.join(unknown)}; known: {', '.join(sorted(CONDITIONS))}"
            )
        return self


class Limits(_Value):
    """Documented limits of one model or account; absent means undocumented, not unlimited."""

    max_in_flight: int | None = Field(default=None, ge=1)
    starts_per_second: int | None = Field(default=None, ge=1)
    starts_per_minute: int | None = Field(default=None, ge=1)
    starts_per_day: int | None = Field(default=None, ge=1)
    """Per rolling 24 hours."""

    @property
    def windowed(self) -> bool:
        """Whether a rate is documented here: then a 429 is about this row, else about the whole account."""
        return any((self.starts_per_second, self.starts_per_minute, self.starts_per_day))


class Size(_Value):
    """Pixels of one (resolution, aspect ratio) pair."""

    resolution: str
    aspect_ratio: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)


class LocalCard(_Value):
    """How a model is loaded on our own device."""

    repository: str | None = None
    """Hugging Face repository; None for a model that ships with us."""
    revision: str | None = None
    path: str | None = None
    """Directory relative to `local_models/`, or absolute in a user's own TOML."""
    licence: str
    pipeline: str
    """`module:family`, for example `local_models.wan`."""
    frame_rule: tuple[int, int] = (4, 1)
    """Frames are k * first + second (Wan: 4k + 1)."""
    size_multiple: int = 16
    native_frames: int
    max_frames: int
    steps: int
    guidance: float = 1.0
    flow_shift: float | None = None
    max_sequence_length: int = 512
    parameters_b: float | None = None


class ModelCard(_Value):
    """One model on one backend. The first value of each list is the model's default."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_./-]*$")
    """`backend/name`, unique over all backends."""
    backend: str
    wire_id: str
    family: str
    title: str = ""
    where: Where = Where.CLOUD
    demo: bool = False
    """True for the shipped tiny model: a candidate only when named, when nothing else is set up, or by setting."""
    only_when_named: bool = False
    """True for a test pattern: never a candidate unless the request names it."""
    tasks: tuple[Task, ...] = Field(min_length=1)
    durations: tuple[float, ...] = ()
    """Seconds that can be asked for. Empty together with `duration_range` means the length is fixed by the model."""
    duration_range: tuple[float, float, float] | None = None
    """Shortest, longest, step in seconds; `durations[0]` is then only the default."""
    resolutions: tuple[str, ...] = ()
    aspect_ratios: tuple[str, ...] = ()
    aspect_from_image: bool = False
    """For image-to-video the provider takes no ratio and follows the image."""
    sizes: tuple[Size, ...] = ()
    fps: tuple[int, ...] = ()
    last_frame: bool = False
    last_frame_alone: bool = False
    """Whether a last frame works without a first one."""
    references: dict[Literal["image", "video", "audio"], int] = Field(default_factory=dict)
    """How many input references of each kind it takes."""
    needs: tuple[Need, ...] = ()
    """Inputs it cannot do without, whatever the task; what the task implies need not be repeated."""
    own_source: bool = False
    """Its video reference must be `job:<id>` of an earlier clip of the same backend: the provider's own id is sent."""
    impossible: tuple[dict[str, Any], ...] = ()
    """Combinations it refuses, each as the `when` of a price row: `{ resolution = "1080p", duration = 10 }`."""
    audio: Literal["none", "optional", "always"] = "none"
    audio_default: bool = False
    """What an unasked `generate_audio` becomes. Ours is off everywhere: sound that costs more must be asked for."""
    camera: Literal["none", "words", "presets", "axes"] = "none"
    """`words`: written into the prompt; `presets`/`axes`: the provider's own field."""
    camera_presets: tuple[str, ...] = ()
    """Which presets map; empty: all that can be said."""
    camera_axes: tuple[CameraAxis, ...] = ()
    """For `words` and `axes`: which axes map; empty: all six."""
    negative_prompt: bool = False
    seed: bool = False
    guidance: bool = False
    prompt_required: bool = True
    prompt_max: int | None = None
    """The longest prompt, in `prompt_unit`; 0 for a model that takes none."""
    prompt_unit: Literal["characters", "utf16", "bytes"] = "characters"
    """How this provider counts a prompt; `utf16` = UTF-16 code units."""
    languages: tuple[str, ...] = ()
    """Prompt languages it understands; empty: not documented, assumed any."""
    qualities: tuple[Quality, ...] = (Quality.STANDARD,)
    effects: tuple[str, ...] = ()
    options: dict[str, Any] = Field(default_factory=dict)
    """`provider_options` keys this model takes: name -> description."""
    limits: Limits = Limits()
    typical_seconds: float = Field(default=120, gt=0)
    longest_seconds: float | None = Field(default=None, gt=0)
    """Documented longest time; absent: ten times typical, at least ten minutes."""
    result_lifetime_s: float | None = None
    failure_billed: Literal["never", "maybe", "always"] = "maybe"
    lost_submit: LostSubmit = LostSubmit.HOLD
    cancel: Literal["no", "queued", "running"] = "no"
    """Whether a job can be cancelled: never, only while it waits, also while it runs."""
    prices: tuple[Price, ...] = ()
    wire: dict[str, Any] = Field(default_factory=dict)
    """Data for the provider's own code (paths, field names, size words)."""
    local: LocalCard | None = None
    as_of: date
    source: str = Field(min_length=1)

    @property
    def give_up_s(self) -> float:
        """Seconds after which an accepted attempt is given up."""
        return self.longest_seconds or max(600.0, 10 * self.typical_seconds)


class Asset(_Value):
    """A file in the media store, named by the hash of its content."""

    id: str = Field(pattern=r"^[0-9a-f]{64}$")
    mime: str
    size_bytes: int = Field(ge=0)
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None


class InputMedia(_Value):
    """An input of a resolved request: always one of our own assets by the time a backend sees it."""

    asset: Asset
    type: Literal["image", "video", "audio"] = "image"
    role: str | None = None
    source_backend: str | None = None
    """For the result of an earlier job of ours: which backend made it."""
    source_ref: str | None = None
    """That provider's own id of the task that made it."""
    source_data: dict[str, Any] = Field(default_factory=dict)
    """`Completed.details` of that task, for providers whose clips have ids of their own."""


class ResolvedRequest(_Value):
    """A request fitted to one card: what the backend sees, with no blanks."""

    model: str
    """Card id."""
    backend: str
    wire_id: str
    task: Task
    prompt: str
    negative_prompt: str | None = None
    first_frame: InputMedia | None = None
    last_frame: InputMedia | None = None
    references: tuple[InputMedia, ...] = ()
    duration: float
    """Seconds."""
    resolution: str | None = None
    aspect_ratio: str | None = None
    width: int | None = None
    height: int | None = None
    fps: int | None = None
    seed: int | None = None
    """None only where the model takes no seed."""
    guidance: float | None = None
    quality: Quality = Quality.STANDARD
    camera: Camera | None = None
    generate_audio: bool = False
    effect: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    """The caller's `provider_options` for this provider."""
    warnings: tuple[Words, ...] = ()
    """What was dropped or changed, to be shown with the result."""

    def condition(self, key: str) -> Any:
        """The value that a price row's `when` key compares with."""
        return {
            "resolution": self.resolution,
            "aspect_ratio": self.aspect_ratio,
            "duration": self.duration,
            "audio": self.generate_audio,
            "quality": self.quality.value,
            "task": self.task.value,
            "fps": self.fps,
            "effect": self.effect,
            "has_image": self.first_frame is not None,
            "has_last_frame": self.last_frame is not None,
            "has_video": any(media.type == "video" for media in self.references),
            "has_references": bool(self.references),
            "has_camera": self.camera is not None,
        }[key]

    def holds(self, when: Mapping[str, Any]) -> bool:
        """Whether every condition of a price row or an impossible combination is true of this request."""
        for key, expected in when.items():
            options = expected if isinstance(expected, list | tuple) else (expected,)
            if not any(_equal(self.condition(key), option) for option in options):
                return False
        return True


def _equal(value: Any, expected: Any) -> bool:
    """Numbers compare as numbers (5 is 5.0), names without regard to case, truth only with truth."""
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(value, int | float | Decimal) and isinstance(expected, int | float | Decimal):
        return Decimal(str(value)) == Decimal(str(expected))
    if isinstance(value, str) and isinstance(expected, str):
        return value.casefold() == expected.casefold()
    return False


InputKey = FrameType | int
"""How ingested inputs are named: by frame type, or by index in `input_references`."""

__all__ = [
    "CONDITIONS",
    "Asset",
    "InputKey",
    "InputMedia",
    "Limits",
    "LocalCard",
    "LostSubmit",
    "ModelCard",
    "Need",
    "Price",
    "Reference",
    "ResolvedRequest",
    "Size",
    "Where",
]
