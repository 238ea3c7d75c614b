"""What the gateway and its model process say to each other: small dataclasses, one JSON line each over a pipe."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Phase = Literal["encode", "denoise", "decode", "write"]
"""The parts of one job, in this order."""
FailureKind = Literal["cancelled", "oom", "weights", "input", "disk", "error"]

Left = Literal["model", "nothing", "wreck"]
"""What a failure leaves: the model, usable as before; a clean device, the model unloaded; a process to be ended."""


@dataclass(frozen=True)
class Render:
    """One clip, complete: what a pipeline's `generate` needs and nothing else."""

    prompt: str
    width: int
    height: int
    frames: int
    fps: int
    steps: int
    seed: int
    guidance: float = 1.0
    """1 or less: the model runs once per step instead of twice, and the negative prompt has no effect."""
    guidance_2: float | None = None
    """For the low-noise expert of a two-expert model; None: the same as `guidance`."""
    negative_prompt: str = ""
    first_frame: str | None = None
    """Path of an image; with it the clip begins with that image."""
    last_frame: str | None = None
    max_sequence_length: int = 512
    """Tokens of prompt the model was trained with; text beyond it is cut off."""
    flow_shift: float | None = None
    """None: as the weights' own scheduler says."""
    sound: bool = False
    """For a model that makes sound with the frames."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """What only the family's code knows, from the card's `[model.wire.recipe]`: noise levels, decode noise, ..."""

    @property
    def texts(self) -> tuple[str, ...]:
        """What the text encoder reads for it; without guidance the negative prompt is never looked at."""
        return (self.prompt, self.negative_prompt) if self.guidance > 1 else (self.prompt,)


@dataclass(frozen=True)
class Load:
    """To the child: make this model the loaded one."""

    model: str
    pipeline: str
    """Module with `numbers`, `load` and `generate`."""
    directory: str
    device: str
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    width: int
    height: int
    frames: int
    """The largest clip that must fit into memory. For the model that is loaded already: plan again, load only if need be."""
    steps: int = 40
    passes: int = 2
    """Of a default clip; they decide which plan is the fastest."""
    peak_factor: float = 1.0
    """Measured by predicted peak of this model on this device."""
    memory_gb: float | None = None
    """The most of the card that may be taken, with CUDA's context; None: all that is free."""


@dataclass(frozen=True)
class Run:
    """To the child: make this clip with the loaded model and write the MP4 to `out`."""

    ticket: str
    out: str
    render: Render
    model: str
    revision: str | None = None
    ahead: list[str] = field(default_factory=list)
    """Texts of the next jobs of this model, to be read in the same visit of its text encoder."""
    alone: bool = False
    """Nothing else is on the device meanwhile: a process died with it and another job, and it is to show which it was."""


@dataclass(frozen=True)
class Cancel:
    """To the child: stop that job now, inside a step or its writing if need be. Without effect once it has ended."""

    ticket: str


@dataclass(frozen=True)
class Loaded:
    """From the child: the model is ready."""

    model: str
    seconds: float
    plan: str


@dataclass(frozen=True)
class LoadFailed:
    """From the child: the model could not be loaded."""

    model: str
    kind: FailureKind
    en: str
    ja: str
    left: Left = "nothing"


@dataclass(frozen=True)
class Step:
    """From the child: `done` of `total` units of a phase are behind us."""

    ticket: str
    phase: Phase
    done: int
    total: int


@dataclass(frozen=True)
class Sketched:
    """From the child: a picture of the clip as far as it is lies beside the place of its file, or a newer one."""

    ticket: str


@dataclass(frozen=True)
class Rendered:
    """From the child: the latents are there and are being finished; the next Run is welcome. Done or Failed follows."""

    ticket: str
    decoded: bool = True
    """False: they are decoded beside the next clip; a Step of the phase `write` tells when the frames are there."""


@dataclass(frozen=True)
class Done:
    """From the child: the MP4 lies at the path that was given."""

    ticket: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """From the child: no clip."""

    ticket: str
    kind: FailureKind
    en: str
    ja: str
    left: Left = "model"


ToChild = Load | Run | Cancel
FromChild = Loaded | LoadFailed | Step | Sketched | Rendered | Done | Failed
Message = ToChild | FromChild

_TYPES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Load, Run, Cancel, Loaded, LoadFailed, Step, Sketched, Rendered, Done, Failed)
}


def encode(message: Message) -> bytes:
    """One line, newline included."""
    return json.dumps({"type": type(message).__name__, **asdict(message)}).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message of one line. Raises ValueError for anything that is not one."""
    try:
        data = json.loads(line)
        kind = _TYPES[data.pop("type")]
        if kind is Run:
            data["render"] = Render(**data["render"])
        message: Message = kind(**data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a message: {line[:80]!r}") from error
    return message
