"""Seconds of a clip, reckoned: arithmetic of the model, throughput of a card, and what streaming costs.

Nothing here was measured by us on a card; every number names its source, or is an estimate and says so. What
`understudy models calibrate` measures takes precedence (`_calibration.py`).
"""

import re
from dataclasses import dataclass

from local_models._numbers import LoadPlan, ModelNumbers

REFERENCE = "RTX 4090"
CARDS: dict[str, float] = {
    "RTX 4090": 1.0,
    # Est.: by CUDA cores, 14,592 to 16,384.
    "RTX 4090 D": 1.12,
    "RTX 4080": 1.7,
    "RTX 4070 Ti SUPER": 1.9,
    "RTX 4070 Ti": 2.05,
    "RTX 4070": 2.8,
    "RTX 4060 Ti": 3.7,
    "RTX 4060": 5.4,
    # 9.8 s per step where a 4090 D takes 30.5 s (LightX2V README, Wan2.1-I2V-14B 480p).
    "H100": 0.36,
    # Est.: by dense bf16 throughput, 312 to 165 TFLOP/s.
    "A100": 0.53,
}
"""Seconds relative to the RTX 4090. GeForce cards: est. by dense bf16 throughput."""
VRAM_CARDS: dict[int, str] = {8: "RTX 4060", 12: "RTX 4070", 16: "RTX 4080", 24: "RTX 4090"}
"""The card that stands for a memory size (GB) where only the size is given."""

REFERENCE_FLOPS = 125e12
"""What the RTX 4090 does of a transformer's arithmetic per second: est. from published times, which give 125
(Wan2.1-1.3B), 133 (Wan2.1-14B), 107 (TI2V-5B) and 105 TFLOP/s (CogVideoX-5B on an A100, by throughput)."""
FP8_COST = 1.08
"""Casting weights up at every layer: 16.7 s became 17.6-18.9 s (diffusers pull request 9177)."""
QUANTISED_COST = 1.15
"""Est.: GGUF weights are unpacked at every use."""
STREAM_COST = 1.04
"""Est.: hooks at every leaf, where the copies hide behind the arithmetic."""
PINNED_BYTES_S = 20e9
"""Est.: PCIe 4.0 x16 from pinned memory."""
PAGEABLE_BYTES_S = 8e9
"""Est.: moving a whole component from ordinary memory."""
CPU_FLOPS = 0.5e12
"""Est.: bf16 on a desktop CPU, for a text encoder that stays there."""
TEXT_TOKENS = 512
DECODE_PIXELS_S = 4e6
"""Est.: pixels per second on the RTX 4090 of a VAE with 96 channels at full resolution or more; narrower ones are
faster in proportion."""
TILE_COST = 1.78
"""Tiles of 256 pixels at a stride of 192 are decoded (256/192)^2 times over."""


_NOT_THE_CHIP = re.compile(r"nvidia|geforce|\d*gb|pcie|sxm\d*|nvl|hbm\d*e?")


@dataclass(frozen=True)
class Anchor:
    """A published time of a whole clip, or of its steps."""

    card: str
    numbers: ModelNumbers
    """Of the clip that was timed, with its steps and passes."""
    seconds: float
    source: str
    whole: bool = True
    """False where only steps were timed, without the decoding."""


def card_factor(name: str) -> float | None:
    """Seconds relative to the RTX 4090; None for a card that the table does not know (laptop chips among them)."""
    wanted = _plain(name)
    return next((factor for card, factor in CARDS.items() if _plain(card) == wanted), None)


def _plain(name: str) -> str:
    """Without the maker, the form and the memory: `NVIDIA A100-SXM4-80GB` is `a100`."""
    parts = re.split(r"[\s-]+", name.casefold().strip())
    return "".join(part for part in parts if not _NOT_THE_CHIP.fullmatch(part))


def pass_flops(model: ModelNumbers) -> float:
    """Floating point operations of one run of the transformer: its weights once per token, and self-attention."""
    weights = 2 * model.transformer_b * 1e9 * model.tokens
    return weights + 4.0 * model.layers * model.tokens**2 * model.dim


def pass_seconds(model: ModelNumbers, factor: float, anchor: Anchor | None = None) -> float:
    """One run of the transformer in bf16, all resident, on a card of that factor."""
    if anchor is None:
        return pass_flops(model) / REFERENCE_FLOPS * factor
    timed = anchor.numbers
    decode = decode_seconds(timed, CARDS[anchor.card]) if anchor.whole else 0.0
    per_pass = (anchor.seconds - decode) / (timed.steps * timed.passes)
    return per_pass * pass_flops(model) / pass_flops(timed) * factor / CARDS[anchor.card]


def clip_seconds(
    model: ModelNumbers, plan: LoadPlan, factor: float = 1.0, anchor: Anchor | None = None
) -> float:
    """Seconds of one clip with a new prompt, the model being loaded."""
    transformer = model.transformer_gb(fp8=plan.layerwise_fp8) * 1e9
    unpacking = QUANTISED_COST if model.quantised else FP8_COST if plan.layerwise_fp8 else 1.0
    one = pass_seconds(model, factor, anchor) * unpacking
    moved = 0.0
    match plan.offload:
        case "group":
            one = max(one * STREAM_COST, transformer / PINNED_BYTES_S)
        case "model":
            moved = transformer * model.experts + 2e9 * (model.vae_b + model.image_b)
        case "none":
            pass
    return (
        model.steps * model.passes * one
        + moved / PAGEABLE_BYTES_S
        + _text_seconds(model, plan)
        + decode_seconds(model, factor) * (TILE_COST if plan.vae_tiling else 1.0)
    )


def decode_seconds(model: ModelNumbers, factor: float) -> float:
    """Latents to frames, untiled."""
    return model.frame_pixels * model.frames / DECODE_PIXELS_S * min(1.0, model.decoder_base / 96) * factor


def _text_seconds(model: ModelNumbers, plan: LoadPlan) -> float:
    """What the text encoder's place costs; next to nothing where it is resident."""
    weights = model.text_b * 2e9
    if plan.text_on_cpu:
        return model.passes * weights * TEXT_TOKENS / CPU_FLOPS
    if plan.text_streamed:
        return model.passes * weights / PINNED_BYTES_S
    return 0.0 if plan.offload == "none" else 2 * weights / PAGEABLE_BYTES_S
