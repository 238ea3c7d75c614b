"""Card numbers and free memory to precision, offload and tiling: estimates, to be corrected by measurements.

peak = resident weights + activations + CUDA context, plus a margin for fragmentation; the largest of the three
phases encode, denoise and decode counts. The formulas are estimates from the models' configurations.
"""

from dataclasses import dataclass
from typing import Literal

Offload = Literal["none", "model", "group"]
DType = Literal["float32", "bfloat16"]

CONTEXT_GB = 0.6
"""What a CUDA process holds before the first tensor."""
FRAGMENTATION = 1.08
GROUP_RESIDENT_GB = 0.6
"""What leaf-level group offload keeps of a transformer on the card (0.53 GB measured for Flux)."""
TILE_PIXELS = 256 * 256
WIDE_MAPS = 10
"""Full-size feature maps alive at once in the VAE's last block, its frame caches included."""
UNTILED_FROM_GB = 24.0
"""Below this much free memory the VAE always decodes in tiles."""
_GB = 1e9


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
    """Channels of the VAE decoder's last block."""
    frame_pixels: int
    frames: int


@dataclass(frozen=True)
class DeviceFacts:
    """The device a model is to run on. GB = 1e9 bytes."""

    kind: Literal["cpu", "cuda"]
    free_gb: float = 0.0
    """Free memory of the card; unused on the CPU."""
    fp8_storage: bool = True
    """Whether weights may rest in fp8 on it (any CUDA card; compute stays bf16)."""


@dataclass(frozen=True)
class LoadPlan:
    """How a pipeline is put onto a device."""

    dtype: DType = "float32"
    layerwise_fp8: bool = False
    offload: Offload = "none"
    vae_tiling: bool = False
    text_on_cpu: bool = False
    peak_gb: float = 0.0
    """Estimate; 0 on the CPU, where nothing is planned."""

    def __str__(self) -> str:
        """For the log: `bfloat16 fp8 offload=model tiled text-on-cpu peak=9.1GB`."""
        said = [self.dtype, "fp8" if self.layerwise_fp8 else "", f"offload={self.offload}"]
        said += ["tiled" if self.vae_tiling else "", "text-on-cpu" if self.text_on_cpu else ""]
        said += [f"peak={self.peak_gb:.1f}GB" if self.peak_gb else ""]
        return " ".join(word for word in said if word)


CPU_PLAN = LoadPlan()


def tokens(
    width: int, height: int, frames: int, *, temporal: int = 4, spatial: int = 8, patch: int = 2
) -> int:
    """Tokens of a clip: Wan2.1 832x480x81 is 32,760; TI2V-5B (spatial 16) 1280x704x121 is 27,280."""
    return ((frames - 1) // temporal + 1) * (height // (spatial * patch)) * (width // (spatial * patch))


def plans(model: ModelNumbers, device: DeviceFacts) -> tuple[LoadPlan, ...]:
    """Every plan worth trying, best first: those that should fit, else only the smallest.

    The worker takes the first and, when the device runs out of memory all the same, the next. Precision goes
    before seconds: bf16 with offload is tried before fp8 that stays resident.
    """
    if device.kind == "cpu":
        return (CPU_PLAN,)
    tiling = device.free_gb < UNTILED_FROM_GB
    rows: list[tuple[bool, Offload, bool, bool]] = []
    for fp8 in (False, True) if device.fp8_storage else (False,):
        rows += [(fp8, "none", tiling, False), (fp8, "model", tiling, False), (fp8, "model", tiling, True)]
    rows.append((device.fp8_storage, "group", True, True))
    every = tuple(
        LoadPlan("bfloat16", fp8, offload, tiled, on_cpu, _peak_gb(model, fp8, offload, tiled, on_cpu))
        for fp8, offload, tiled, on_cpu in rows
    )
    return tuple(plan for plan in every if plan.peak_gb <= device.free_gb) or every[-1:]


def _peak_gb(model: ModelNumbers, fp8: bool, offload: Offload, tiling: bool, text_on_cpu: bool) -> float:
    """The most memory of the card that this plan should need, in GB."""
    transformer = model.transformer_b * (1 if fp8 else 2)
    text = 0.0 if text_on_cpu else 2 * model.text_b
    vae, image = 2 * model.vae_b, 2 * model.image_b
    denoise, decode = _denoise_gb(model), _decode_gb(model, tiling)
    match offload:
        case "none":
            peak = transformer * model.experts + text + vae + image + max(denoise, decode)
        case "model":
            peak = max(text, image, transformer + denoise, vae + decode)
        case "group":
            peak = GROUP_RESIDENT_GB + vae + image + max(denoise, decode)
    return round(peak * FRAGMENTATION + CONTEXT_GB, 2)


def _denoise_gb(model: ModelNumbers) -> float:
    """Activations of one pass in bf16 with flash attention; guidance runs as two passes, one after the other."""
    plain = model.tokens * (12 * model.dim + 2 * model.ffn) * 2
    # Six modulation vectors per token, in bf16 and once more in fp32.
    modulation = model.tokens * 6 * model.dim * (2 + 4) if model.per_token_time else 0
    return (plain + modulation) / _GB


def _decode_gb(model: ModelNumbers, tiling: bool) -> float:
    """The VAE's widest feature maps of four frames in bf16, and the finished clip in fp32."""
    clip = model.frame_pixels * model.frames * 3 * 4
    pixels = min(model.frame_pixels, TILE_PIXELS) if tiling else model.frame_pixels
    return (pixels * 4 * model.decoder_base * WIDE_MAPS * 2 + clip) / _GB
