"""LTX-2 from a local diffusers directory: frames and their sound; T2V, I2V, first and last frame by one class.

`Render.recipe` may hold `sigmas` (descending, used as they are: distilled weights), `stg_scale` and `stg_blocks`,
`modality_scale`, `guidance_rescale`, `audio_guidance`, and `cross_timestep` (false for LTX-2.0, true from 2.3 on).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLLTX2Video, LTX2ConditionPipeline
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.utils import resolve_default_image_crf
from diffusers.utils.torch_utils import randn_tensor

from local_models._clip import Clip, Finish, OnStep, Sound, check_frames, check_steps, ignore, open_image
from local_models._decode import decode, tiles
from local_models._load import load_pipeline
from local_models._ltx_tokens import unpacked
from local_models._memory import CPU_PLAN, LoadPlan, ModelNumbers, tokens
from local_models._messages import Phase, Render
from local_models._parts import numbers_of, transformer_of, width_of
from local_models._pipe import Pipe, after_step, check_finite, place
from local_models._prompts import Prompts, reader
from local_models._sketch import Sketch, middle_frame
from local_models._snap import snap_frames, snap_size
from local_models._weights import Weights, damaged, inspect

FEED_FORWARD = 4
"""Of the transformer's width; its configuration does not name it."""
LEAST_STEPS = 2
"""The schedule is stretched between its first and its last level."""
_NAMES = ("prompt_embeds", "prompt_attention_mask")

# diffusers is typed in part only.
_Pipeline: Any = LTX2ConditionPipeline
_Condition: Any = LTX2VideoCondition
_compression: Any = resolve_default_image_crf
_randn: Any = randn_tensor


def numbers(weights: Weights, width: int, height: int, frames: int) -> ModelNumbers:
    """What the memory planner needs to know, read from the directory's own files."""
    config, vae = transformer_of(weights).config, weights.parts["vae"].config
    return numbers_of(
        weights,
        (width, height, frames),
        dim=width_of(config),
        ffn=FEED_FORWARD * width_of(config),
        layers=int(config["num_layers"]),
        tokens=tokens(width, height, frames, temporal=8, spatial=32, patch=int(config["patch_size"])),
        per_token_time=True,
        # The last block works on patches of 4x4 pixels: a sixteenth of its channels at full resolution.
        decoder_base=max(1, int(vae["decoder_block_out_channels"][0]) // int(vae["patch_size"]) ** 2),
        # Tiles of 512 pixels, each with all of its frames.
        tile_pixels=512 * 512,
        decode_frames=frames,
        batched_guidance=True,
        streams_text=True,
    )


def load(directory: Path, plan: LoadPlan = CPU_PLAN, device: str = "cpu") -> Pipe:
    """Load an LTX-2 directory onto `device` as `plan` says. Raises WeightsBroken.

    Needs no network. `torch.OutOfMemoryError` and `MemoryError` pass through.
    """
    weights = inspect(directory)
    loaded = load_pipeline(_Pipeline, weights, plan)
    text, tokenizer = loaded.text_encoder, loaded.tokenizer
    if not isinstance(loaded.vae, AutoencoderKLLTX2Video) or text is None or loaded.transformer is None:
        raise damaged(directory.name, str(weights.index.get("_class_name")))
    outside = dict.fromkeys(("text_encoder", "tokenizer", "processor", "prompt_enhancer", "duration_head"))
    parts = {name: part for name, part in loaded.components.items() if name not in outside}
    target = torch.device(device)
    pipe = Pipe(
        _Pipeline(**parts, **outside),
        Prompts([text], reader(loaded, tokenizer, _NAMES), plan, target),
        plan,
        target,
        loaded.scheduler,
    )
    # The pipeline reads it from the tokenizer, which it does not have any more.
    pipe.pipeline.tokenizer_padding_side = loaded.tokenizer_padding_side
    place(pipe, [loaded.connectors, loaded.audio_vae, loaded.vocoder])
    return pipe


def generate(pipe: Pipe, request: Render, on_step: OnStep = ignore) -> Clip:
    """Make one clip, with sound where it is asked for.

    The same pipe, request and seed give the same frames on the same device. Size and length are snapped to what the
    model can make; `Clip` tells the real ones. Raises UnusableRequest, FloatingPointError when the model yields no
    numbers, the device's out-of-memory errors, and whatever `on_step` raises; the pipe stays usable after each.
    """
    return begin(pipe, request, on_step)(on_step)


def begin(pipe: Pipe, request: Render, on_step: OnStep = ignore) -> Finish:
    """The same up to the latents; what it returns decodes them, once or again, and may run in another thread."""
    with torch.no_grad():
        return _begin(pipe, request, on_step)


def _begin(pipe: Pipe, request: Render, on_step: OnStep) -> Finish:
    # 1. What it can really make, and the frames it is given
    check_frames(request, text=True, image=True, last="optional")
    if not request.recipe.get("sigmas"):
        check_steps(request, LEAST_STEPS)
    pipeline, recipe, vae = pipe.pipeline, request.recipe, pipe.vae
    factor = int(pipeline.vae_spatial_compression_ratio)
    # The decoder mirrors its edges: a side has two latents at least.
    width, height = (max(side, 2 * factor) for side in snap_size(request.width, request.height, factor))
    frames = snap_frames(request.frames, (int(pipeline.vae_temporal_compression_ratio), 1))
    # Places are counted in latent frames; the images are compressed as those of the training were.
    crf = _compression(pipe.prompts.encoders[0])
    given = [(request.first_frame, 0), (request.last_frame, -1)]
    conditions = [
        _Condition(frames=open_image(path, width, height), index=index, crf=crf)
        for path, index in given
        if path
    ]

    # 2. Prompts; without guidance the negative one is never looked at
    on_step("encode", 0, 1)
    said, cut = pipe.prompts.embed(request.prompt, request.max_sequence_length)
    inputs: dict[str, Any] = dict(said)
    if max(request.guidance, float(recipe.get("audio_guidance", request.guidance))) > 1:
        unsaid, _ = pipe.prompts.embed(request.negative_prompt, request.max_sequence_length)
        inputs |= {f"negative_{name}": tensor for name, tensor in unsaid.items()}
    on_step("encode", 1, 1)

    # 3. Denoise frames and sound together
    sigmas = recipe.get("sigmas")
    fixed = {"use_dynamic_shifting": False, "shift_terminal": None, "shift": 1.0} if sigmas else {}
    pipe.renew_scheduler(**fixed)
    steps = len(sigmas) if sigmas else request.steps
    # On the CPU, so that a seed means the same noise on every device.
    generator = torch.Generator("cpu").manual_seed(request.seed)
    scaling = (vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
    sketch = Sketch(
        pipe,
        pipeline.scheduler,
        lambda packed: middle_frame(unpacked(pipe.pipeline, packed, frames, height, width, given="behind")),
        lambda latents: pipeline._denormalize_latents(latents, *scaling),
    )
    on_step("denoise", 0, steps)
    latents, heard = pipeline(
        **inputs,
        **_guidance(request),
        conditions=conditions or None,
        width=width,
        height=height,
        num_frames=frames,
        frame_rate=float(request.fps),
        num_inference_steps=steps,
        sigmas=list(sigmas) if sigmas else None,
        use_cross_timestep=bool(recipe.get("cross_timestep", False)),
        generator=generator,
        max_sequence_length=request.max_sequence_length,
        callback_on_step_end=after_step(on_step, steps, sketch),
        output_type="latent",
        return_dict=False,
    )
    check_finite(latents)

    # 4. Decoding, apart: a cancel in between costs nothing, the next clip's denoising need not wait; the sound is the last unit
    ready, at = _for_decoder(pipe, latents, recipe, generator)

    @torch.no_grad()
    def finish(on_step: OnStep) -> Clip:
        with _no_slivers(vae, ready.shape[3], ready.shape[4]):
            calls = tiles(vae, ready.shape[3], ready.shape[4])
            total = calls + request.sound

            def told(phase: Phase, done: int, _: int) -> None:
                on_step(phase, done, total)

            pictures = decode(vae, lambda: vae.decode(ready, at, return_dict=False)[0], calls, told)
        sound = None
        if request.sound:
            sound = _sound(pipe, heard)
            on_step("decode", total, total)
        pipe.settle()
        return Clip(pictures, request.fps, pictures.shape[2], pictures.shape[1], cut, sound)

    return finish


def _guidance(request: Render) -> dict[str, Any]:
    """Plain guidance, and only what else the recipe names: every further kind is one more run per step."""
    recipe = request.recipe
    stg, modality = float(recipe.get("stg_scale", 0.0)), float(recipe.get("modality_scale", 1.0))
    rescale = float(recipe.get("guidance_rescale", 0.0))
    return {
        "guidance_scale": request.guidance,
        "audio_guidance_scale": float(recipe.get("audio_guidance", request.guidance)),
        "stg_scale": stg,
        "audio_stg_scale": stg,
        "modality_scale": modality,
        "audio_modality_scale": modality,
        "guidance_rescale": rescale,
        "audio_guidance_rescale": rescale,
        "spatio_temporal_guidance_blocks": list(recipe.get("stg_blocks", ())) or None,
    }


def _for_decoder(
    pipe: Pipe, latents: torch.Tensor, recipe: dict[str, Any], generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Latents as the decoder wants them, and for one that denoises too a little noise and how much of it."""
    vae, pipeline = pipe.vae, pipe.pipeline
    latents = latents.to(pipe.device)
    if not vae.config.timestep_conditioning:
        return latents.to(vae.dtype), None
    # The noise belongs into the normalised latents; the pipeline hands out denormalised ones.
    scaling = (vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
    plain = pipeline._normalize_latents(latents, *scaling)
    at = float(recipe.get("decode_timestep", 0.0))
    scale = float(recipe.get("decode_noise_scale", at))
    noise = _randn(plain.shape, generator=generator, device=pipe.device, dtype=plain.dtype)
    noised = pipeline._denormalize_latents((1 - scale) * plain + scale * noise, *scaling)
    return noised.to(vae.dtype), torch.tensor([at], device=pipe.device, dtype=vae.dtype)


@contextmanager
def _no_slivers(vae: Any, height: int, width: int) -> Iterator[None]:
    """Tiles of which none is a single latent wide: the decoder mirrors its edges, and needs two for that.

    480 pixels are 15 latents; a stride of 14 would leave one over.
    """
    factor = int(vae.spatial_compression_ratio)
    kept: dict[str, int] = {}
    for axis, side in (("height", height), ("width", width)):
        name = f"tile_sample_stride_{axis}"
        kept[name] = getattr(vae, name)
        usual, most = kept[name] // factor, getattr(vae, f"tile_sample_min_{axis}") // factor
        strides = (*range(usual, 1, -1), *range(usual + 1, most + 1))
        whole = (stride for stride in strides if side - (side - 1) // stride * stride > 1)
        setattr(vae, name, next(whole, usual) * factor)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(vae, name, value)


def _sound(pipe: Pipe, latents: torch.Tensor) -> Sound:
    """The waveform of the sound's latents."""
    pipeline = pipe.pipeline
    spectrogram = pipeline.audio_vae.decode(
        latents.to(pipe.device, pipeline.audio_vae.dtype), return_dict=False
    )[0]
    wave = pipeline.vocoder(spectrogram)[0].float().clamp(-1, 1).cpu().numpy()
    return Sound(np.ascontiguousarray(wave.T), int(pipeline.vocoder.config.output_sampling_rate))
