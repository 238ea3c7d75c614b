"""The values that the planner works with: what a model costs, what a device has, how a model is put onto it."""

from dataclasses import dataclass
from typing import Literal

Offload = Literal["none", "model", "group"]
DType = Literal["float32", "bfloat16"]
TextPlace = Literal["resident", "visits", "streamed", "cpu"]

LEAST_TILE = 96
"""Pixels of a tile's side: below that the seams cost more than the tile saves."""
TILE_CUTS = 2
TILE_PIXELS = 256 * 256
"""A tile of the Wan and most other VAEs at their defaults."""


@dataclass(frozen=True)
class ModelNumbers:
    """What one model at one clip size costs. Parameters in billions."""

    transformer_b: float
    """Of one expert."""
    experts: int
    text_b: float
    vae_b: float
    image_b: float
    dim: int
    ffn: int
    tokens: int
    """Of the largest clip that must fit."""
    per_token_time: bool
    """TI2V style: the timestep modulation is a tensor per token."""
    decoder_base: int
    """Channels of the VAE decoder's last block, as if it worked at full resolution."""
    frame_pixels: int
    frames: int
    layers: int = 40
    """Transformer blocks; counts for seconds only."""
    steps: int = 40
    passes: int = 2
    """Runs of the transformer per step: 2 with guidance, 1 without."""
    batched_guidance: bool = False
    """Whether the pipeline makes both passes in one batch, with twice the activations."""
    decode_frames: int = 4
    """Frames whose widest feature maps the VAE holds at once."""
    tile_pixels: int = TILE_PIXELS
    streams_text: bool = True
    """Whether this pipeline's `load` can group-offload the text encoder (`LoadPlan.text_streamed`)."""
    packed_bytes: float | None = None
    """Bytes per parameter of a transformer whose weights are packed already (GGUF); None: plain ones."""
    lora_b: float = 0.0
    """Of one expert's LoRA that stays beside packed weights; with plain ones it is merged."""
    peak_factor: float = 1.0
    """Measured peak by predicted peak on this device; 1 where nothing was measured."""

    @property
    def quantised(self) -> bool:
        """Whether the transformer's weights can be neither cast nor merged with anything."""
        return self.packed_bytes is not None

    def transformer_gb(self, *, fp8: bool = False) -> float:
        """One expert's weights as they rest, with what stays beside them; a LoRA is kept in bf16."""
        if self.packed_bytes is not None:
            return self.transformer_b * self.packed_bytes + 2 * self.lora_b
        return self.transformer_b * (1 if fp8 else 2)


@dataclass(frozen=True)
class DeviceFacts:
    """The device a model is to run on. GB = 1e9 bytes."""

    kind: Literal["cpu", "cuda"]
    free_gb: float = 0.0
    """Free memory of the card; unused on the CPU."""
    fp8_storage: bool = True
    """Whether weights may rest in fp8 on it (any CUDA card; compute stays bf16)."""
    name: str = ""
    """As the driver says, for example `NVIDIA GeForce RTX 4070`."""
    capability: float | None = None
    """Compute capability, 8.9 on Ada; None where it is not known."""
    ram_gb: float | None = None
    """The host's memory; None: not looked at."""


@dataclass(frozen=True)
class LoadPlan:
    """How a pipeline is put onto a device."""

    dtype: DType = "float32"
    layerwise_fp8: bool = False
    """The transformer's weights rest in fp8 (e4m3) and are cast up layer by layer."""
    offload: Offload = "none"
    """`model`: one component on the card at a time; `group`: the transformer streams through, leaf by leaf."""
    vae_tiling: bool = False
    text_on_cpu: bool = False
    peak_gb: float = 0.0
    """Estimate; 0 on the CPU, where nothing is planned."""
    text_streamed: bool = False
    """The text encoder streams through the card, leaf by leaf."""
    attention: str = "native"
    """Always set on load: diffusers keeps the last choice for the whole process, a failed one too."""
    ram_gb: float = 0.0
    """Estimate of the host memory needed while loading, the largest moment; 0 on the CPU."""
    tile_cuts: int = 0
    """How often the side of the VAE's tiles is halved: only where nothing else fits, as each cut shows more seams."""

    def __str__(self) -> str:
        """For the log: `bfloat16 fp8 offload=model tiled text-on-cpu peak=9.1GB`."""
        return " ".join([self.word, *([f"peak={self.peak_gb:.1f}GB"] if self.peak_gb else [])])

    @property
    def text_place(self) -> TextPlace:
        """Where the text encoder works; `visits`: it comes to the card for each new prompt."""
        if self.text_on_cpu:
            return "cpu"
        if self.text_streamed:
            return "streamed"
        return "resident" if self.offload == "none" else "visits"

    @property
    def word(self) -> str:
        """The choices without the estimates; equal for equal plans."""
        said = [self.dtype, "fp8" if self.layerwise_fp8 else "", f"offload={self.offload}"]
        tiles = f"tiled/{2**self.tile_cuts}" if self.tile_cuts else "tiled"
        said += [tiles if self.vae_tiling else "", "text-on-cpu" if self.text_on_cpu else ""]
        said += ["text-streamed" if self.text_streamed else ""]
        said += [f"attention={self.attention}" if self.attention != "native" else ""]
        return " ".join(word for word in said if word)


CPU_PLAN = LoadPlan()


def tokens(
    width: int, height: int, frames: int, *, temporal: int = 4, spatial: int = 8, patch: int = 2
) -> int:
    """Tokens of a clip: Wan2.1 832x480x81 is 32,760; TI2V-5B (spatial 16) 1280x704x121 is 27,280."""
    return ((frames - 1) // temporal + 1) * (height // (spatial * patch)) * (width // (spatial * patch))
