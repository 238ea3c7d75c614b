"""Card numbers and free memory to precision, offload, tiling and text placement: the plans worth trying, best first.

peak = resident weights + activations + CUDA context, plus a margin for fragmentation; the largest of the three
phases encode, denoise and decode counts. The formulas are estimates from the models' configurations; where
`understudy models calibrate` has measured, `ModelNumbers.peak_factor` corrects them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal

from local_models._numbers import (
    CPU_PLAN,
    LEAST_TILE,
    TILE_CUTS,
    DeviceFacts,
    DType,
    LoadPlan,
    ModelNumbers,
    Offload,
    TextPlace,
    tokens,
)
from local_models._speed import card_factor, clip_seconds

__all__ = [
    "CPU_PLAN",
    "DType",
    "DeviceFacts",
    "LoadPlan",
    "ModelNumbers",
    "Offload",
    "Option",
    "Verdict",
    "beside_gb",
    "options",
    "peak_gb",
    "plans",
    "tokens",
]

CONTEXT_GB = 0.6
"""What a CUDA process holds before the first tensor."""
FRAGMENTATION = 1.08
GROUP_RESIDENT_GB = 0.6
"""What leaf-level group offload keeps of a transformer on the card (0.53 GB measured for Flux, diffusers PR 11106)."""
GROUP_RESIDENT_FP8_GB = 0.45
"""Est.: the same with leaves in fp8, of which one is cast up at a time."""
TEXT_STREAMED_GB = 2.6
"""The largest leaf of a streamed text encoder, its embedding table (UMT5: 256,384 x 4096 in bf16), and what follows."""
TEXT_ACTIVATIONS_GB = 0.3
"""Est.: 512 tokens through a 5-12B encoder."""
HEADROOM = 0.92
"""Est.: share of the free memory that a plan may fill by prediction; only the smallest plan may fill all of it."""
RUNG = 0.92
"""A smaller plan is worth the reload only if it takes at most this share of the one that ran out of memory."""
WIDE_MAPS = 10
"""Full-size feature maps alive at once in the VAE's last block, its frame caches included."""
WHOLE_MAPS = 4
"""Est.: the same in a VAE that decodes all frames of a tile at once and so keeps no caches."""
UNTILED_FROM_GB = 24.0
"""Below this much free memory the VAE always decodes in tiles."""
HOST_GB = 3.0
"""Est.: the model process without weights, libraries and CUDA's host side included."""
NEEDED_CAPABILITY = 8.0
"""Ampere: the first with bf16 arithmetic."""
_GB = 1e9

Verdict = Literal["chosen", "slower", "vram", "ram"]


@dataclass(frozen=True)
class Option:
    """One plan that could be loaded, and what became of it."""

    plan: LoadPlan
    verdict: Verdict
    """`chosen`; `slower`: would fit too; `vram`, `ram`: what it needs more of than there is."""
    seconds: float
    """Reckoned for the device (an unknown one counts as the reference card); for comparing plans, not for showing."""


def plans(model: ModelNumbers, device: DeviceFacts) -> tuple[LoadPlan, ...]:
    """The plan to load, then ever smaller ones for when memory runs out all the same; never empty.

    The first is the fastest that should fit, of equally fast ones the more exact. Where none should fit, only the
    smallest is given.
    """
    if device.kind == "cpu":
        return (CPU_PLAN,)
    every = options(model, device)
    smallest = _smallest([option.plan for option in every])
    ladder: list[LoadPlan] = []
    for option in every:
        fits = option.verdict in {"chosen", "slower"}
        if fits and (not ladder or _is_rung(option.plan, ladder)):
            ladder.append(option.plan)
    if ladder and smallest.peak_gb < ladder[-1].peak_gb and _is_new(smallest, ladder):
        ladder.append(smallest)
    return tuple(ladder) or (smallest,)


def _is_rung(plan: LoadPlan, above: Sequence[LoadPlan]) -> bool:
    return plan.peak_gb <= RUNG * above[-1].peak_gb and _is_new(plan, above)


def _is_new(plan: LoadPlan, above: Sequence[LoadPlan]) -> bool:
    """Whether it is more than another one with smaller tiles: those are cut without loading again (`_ladder.py`)."""
    return all(replace(other, tile_cuts=0).word != replace(plan, tile_cuts=0).word for other in above)


def options(model: ModelNumbers, device: DeviceFacts) -> tuple[Option, ...]:
    """Every plan that can be loaded onto a CUDA device, the fastest first, with what speaks against it.

    Behind them the same with smaller tiles, for where none of the others fits.
    """
    factor = card_factor(device.name) or 1.0
    rows = [
        (plan.tile_cuts, clip_seconds(model, plan, factor), plan.layerwise_fp8, plan.peak_gb, plan)
        for plan in _candidates(model, device)
    ]
    rows.sort(key=lambda row: row[:4])
    smallest = _smallest([plan for *_, plan in rows])
    found: list[Option] = []
    taken = False
    for _, seconds, _, _, plan in rows:
        verdict = _verdict(plan, device, 1.0 if plan == smallest else HEADROOM)
        if verdict == "chosen":
            verdict, taken = "slower" if taken else "chosen", True
        found.append(Option(plan, verdict, seconds))
    return tuple(found)


def _smallest(every: Sequence[LoadPlan]) -> LoadPlan:
    return min(every, key=lambda plan: plan.peak_gb)


def _verdict(plan: LoadPlan, device: DeviceFacts, share: float) -> Verdict:
    if plan.peak_gb > device.free_gb * share:
        return "vram"
    return "ram" if device.ram_gb is not None and plan.ram_gb > device.ram_gb else "chosen"


def _candidates(model: ModelNumbers, device: DeviceFacts) -> Iterator[LoadPlan]:
    """What the pipelines' `load` can do; nothing else is planned."""
    tilings: list[tuple[bool, int]] = [(True, cuts) for cuts in range(_most_cuts(model) + 1)]
    if device.free_gb >= UNTILED_FROM_GB:
        tilings.append((False, 0))
    for fp8 in (False, True) if device.fp8_storage and not model.quantised else (False,):
        for offload in ("none", "model", "group"):
            for text in _text_places(model, offload):
                for tiled, cuts in tilings:
                    yield _plan(model, fp8, offload, tiled, cuts, text)


def _most_cuts(model: ModelNumbers) -> int:
    """How often the tile's side can be halved; 0 where the clip is no larger than the smaller tile anyway."""
    return sum(
        sqrt(model.tile_pixels) / 2**cut >= LEAST_TILE and model.tile_pixels / 4**cut < model.frame_pixels
        for cut in range(1, TILE_CUTS + 1)
    )


def _text_places(model: ModelNumbers, offload: Offload) -> tuple[TextPlace, ...]:
    if model.text_b == 0:
        return ("resident",) if offload == "none" else ("visits",)
    beside: tuple[TextPlace, ...] = ("streamed", "cpu") if model.streams_text else ("cpu",)
    return ("resident" if offload == "none" else "visits", *beside)


def _plan(
    model: ModelNumbers, fp8: bool, offload: Offload, tiled: bool, cuts: int, text: TextPlace
) -> LoadPlan:
    on_cpu, streamed = text == "cpu", text == "streamed"
    plan = LoadPlan("bfloat16", fp8, offload, tiled, on_cpu, text_streamed=streamed, tile_cuts=cuts)
    return replace(plan, peak_gb=peak_gb(model, plan), ram_gb=_ram_gb(model))


def peak_gb(model: ModelNumbers, plan: LoadPlan) -> float:
    """The most memory of the card that this plan should need, in GB."""
    transformer = model.transformer_gb(fp8=plan.layerwise_fp8)
    vae, image = 2 * model.vae_b, 2 * model.image_b
    denoise, decode = _denoise_gb(model), _decode_gb(model, plan)
    text = _text_gb(model, plan)
    match plan.offload:
        case "none":
            resident = 2 * model.text_b if not (plan.text_on_cpu or plan.text_streamed) else 0.0
            peak = (
                transformer * model.experts + vae + image + max(denoise + resident, decode + resident, text)
            )
        case "model":
            peak = max(text, image, transformer + denoise, vae + decode)
        case "group":
            leaves = GROUP_RESIDENT_FP8_GB if plan.layerwise_fp8 else GROUP_RESIDENT_GB
            peak = vae + image + max(text, leaves + max(denoise, decode))
    return round((peak * FRAGMENTATION + CONTEXT_GB) * model.peak_factor, 2)


def beside_gb(model: ModelNumbers, plan: LoadPlan) -> float | None:
    """The same with one clip decoded while the next one is encoded and denoised; None where a plan cannot do that.

    With whole components coming and going (`model`), only one of them may be at work.
    """
    transformer = model.transformer_gb(fp8=plan.layerwise_fp8)
    fixed, decode = 2 * (model.vae_b + model.image_b), _decode_gb(model, plan)
    denoise, text = _denoise_gb(model), _text_gb(model, plan)
    match plan.offload:
        case "none":
            resident = 2 * model.text_b if not (plan.text_on_cpu or plan.text_streamed) else 0.0
            peak = transformer * model.experts + fixed + decode + max(denoise + resident, text)
        case "group":
            leaves = GROUP_RESIDENT_FP8_GB if plan.layerwise_fp8 else GROUP_RESIDENT_GB
            peak = fixed + decode + leaves + max(denoise, text)
        case "model":
            return None
    return round((peak * FRAGMENTATION + CONTEXT_GB) * model.peak_factor, 2)


def _text_gb(model: ModelNumbers, plan: LoadPlan) -> float:
    """What the text encoder takes of the card while it works."""
    if plan.text_on_cpu or not model.text_b:
        return 0.0
    weights = 2 * model.text_b
    return (min(TEXT_STREAMED_GB, weights) if plan.text_streamed else weights) + TEXT_ACTIVATIONS_GB


def _ram_gb(model: ModelNumbers) -> float:
    """Components are read in bf16 before they are cast or moved; streamed weights then stay there, pinned."""
    transformers = model.transformer_gb() * model.experts
    return round(transformers + 2 * (model.text_b + model.vae_b + model.image_b) + HOST_GB, 2)


def _denoise_gb(model: ModelNumbers) -> float:
    """Activations of one pass in bf16 with flash attention; guidance is a second pass, or a batch of two."""
    plain = model.tokens * (12 * model.dim + 2 * model.ffn) * 2
    # Six modulation vectors per token, in bf16 and once more in fp32.
    modulation = model.tokens * 6 * model.dim * (2 + 4) if model.per_token_time else 0
    batch = 2 if model.batched_guidance and model.passes > 1 else 1
    return batch * (plain + modulation) / _GB


def _decode_gb(model: ModelNumbers, plan: LoadPlan) -> float:
    """The VAE's widest feature maps in bf16, and the finished clip in fp32."""
    clip = model.frame_pixels * model.frames * 3 * 4
    tile = model.tile_pixels / 4**plan.tile_cuts
    pixels = min(model.frame_pixels, tile) if plan.vae_tiling else model.frame_pixels
    at_once = min(model.decode_frames, model.frames)
    maps = WHOLE_MAPS if model.decode_frames >= model.frames else WIDE_MAPS
    return (pixels * at_once * model.decoder_base * maps * 2 + clip) / _GB
