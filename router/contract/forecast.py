"""How a local model would run on a device, said beforehand; and what was measured when it ran."""

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from router.contract.words import Words

Basis = Literal["measured", "scaled", "unknown"]
"""Where expected seconds come from: measured on this device, scaled from a named card, or nowhere."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClipWish(_Value):
    """The clip to plan for; what is left open is the model's default."""

    resolution: str | None = None
    aspect_ratio: str | None = None
    duration: float | None = None
    """Seconds."""


class DeviceWish(_Value):
    """The device to plan for; without `vram_gb` and `card` it is the one of this machine. GB as cards are sold."""

    vram_gb: float | None = None
    card: str | None = None
    """A name such as `RTX 4070 Ti`, for the seconds."""
    ram_gb: float | None = None
    """Host memory; absent: this machine's, or not looked at for a device that is only named."""
    capability: float | None = None
    """CUDA compute capability, for example 8.9."""


class NotChosen(_Value):
    """A way to load the model that was not taken."""

    plan: str
    why: Words


class Forecast(_Value):
    """One model, one clip, one device: how it would be loaded, and what that takes."""

    model: str
    device: str
    width: int
    height: int
    frames: int
    fps: int
    steps: int
    fits: bool
    why_not: Words | None = None
    """Set where it does not fit, with the nearest thing that does."""
    plan: str
    """The plan in one line; where nothing fits, the smallest one."""
    dtype: str
    fp8: bool
    """Whether the transformer's weights rest in fp8."""
    packed: bool = False
    """Whether they come packed (GGUF) and are unpacked to `dtype` layer by layer."""
    offload: str
    text_encoder: Literal["resident", "visits", "streamed", "cpu"]
    vae_tiling: bool
    tile_cuts: int = 0
    """How often the side of the tiles is halved."""
    attention: str
    caching: str = "none"
    peak_gb: float
    """Of the card, GB = 1e9 bytes; 0 on the CPU."""
    ram_gb: float
    """Of the host, while loading."""
    seconds: float | None = None
    """Of one clip with a new prompt, the model being loaded."""
    basis: Basis = "unknown"
    basis_detail: Words
    not_chosen: tuple[NotChosen, ...] = ()
    notes: tuple[Words, ...] = ()


class Measured(_Value):
    """One clip that was made for calibration."""

    model: str
    width: int
    height: int
    frames: int
    steps: int
    passes: int
    """Runs of the transformer per step."""
    plan: str
    encode_s: float
    step_s: float
    """The median step; the first, which warms up, is left out where there are more."""
    decode_s: float
    peak_gb: float | None = None
    """Most memory that tensors held on the card, and the context; absent on the CPU."""
    predicted_peak_gb: float | None = None


class RanOut(_Value):
    """A plan that was to fit and ran out of memory: what it needs is more than there was."""

    model: str
    plan: str
    predicted_peak_gb: float
    """Uncorrected."""
    free_gb: float
    """Memory that the card had for it."""


class CalibratedDevice(_Value):
    """What was measured on one device. No host name, no serial number: the file is made to be shared."""

    device: str
    driver: str | None = None
    torch: str | None = None
    date: date
    vram_gb: float | None = None
    rows: tuple[Measured, ...] = ()
    ran_out: tuple[RanOut, ...] = ()
    failed: dict[str, Words] = Field(default_factory=dict)
    """Models that could not be measured in the last run, and why."""


class Calibration(_Value):
    """The file `calibration.json` of the data folder."""

    version: Literal[1] = 1
    devices: tuple[CalibratedDevice, ...] = ()
