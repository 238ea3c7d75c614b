"""Mochi 1 from a local diffusers directory: text to video."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLMochi, MochiPipeline

from local_models._clip import Clip, Finish, OnStep, check_frames, check_steps, ignore
from local_models._load import load_pipeline
from local_models._memory import CPU_PLAN, LoadPlan, ModelNumbers, tokens
from local_models._messages import Render
from local_models._parts import numbers_of, transformer_of, width_of
from local_models._pipe import Pipe, after_step, assemble, check_finite, finishing
from local_models._sketch import Sketch, middle_frame
from local_models._snap import snap_frames, snap_size
from local_models._weights import Weights, inspect

FEED_FORWARD = 4
"""Of the transformer's width, before the gate; its configuration does not name it."""
LEAST_STEPS = 2
"""Half of the steps go along a line, the others along a curve."""
_NAMES = ("prompt_embeds", "prompt_attention_mask")

# diffusers is typed in part only.
_Pipeline: Any = MochiPipeline


def numbers(weights: Weights, width: int, height: int, frames: int) -> ModelNumbers:
    """What the memory planner needs to know, read from the directory's own files."""
    config, vae = transformer_of(weights).config, weights.parts["vae"].config
    return numbers_of(
        weights,
        (width, height, frames),
        dim=width_of(config),
        ffn=FEED_FORWARD * width_of(config),
        layers=int(config["num_layers"]),
        tokens=tokens(width, height, frames, temporal=6, spatial=8, patch=int(config["patch_size"])),
        per_token_time=False,
        decoder_base=int(vae["decoder_block_out_channels"][0]),
        # All frames of a tile at once: decoding in groups would pad them as the weights do not expect.
        decode_frames=frames,
        batched_guidance=True,
        streams_text=True,
    )


def load(directory: Path, plan: LoadPlan = CPU_PLAN, device: str = "cpu") -> Pipe:
    """Load a Mochi directory onto `device` as `plan` says. Raises WeightsBroken.

    Needs no network. `torch.OutOfMemoryError` and `MemoryError` pass through.
    """
    weights = inspect(directory)
    loaded = load_pipeline(_Pipeline, weights, plan)
    zeros = {"force_zeros_for_empty_prompt": bool(loaded.config.force_zeros_for_empty_prompt)}
    return assemble(_Pipeline, loaded, weights, AutoencoderKLMochi, _NAMES, plan, device, **zeros)


def generate(pipe: Pipe, request: Render, on_step: OnStep = ignore) -> Clip:
    """Make one clip. The same pipe, request and seed give the same frames on the same device.

    Size and length are snapped to what the model can make; `Clip` tells the real ones. Raises UnusableRequest,
    FloatingPointError when the model yields no numbers, the device's out-of-memory errors, and whatever `on_step`
    raises; the pipe stays usable after each of them.
    """
    return begin(pipe, request, on_step)(on_step)


def begin(pipe: Pipe, request: Render, on_step: OnStep = ignore) -> Finish:
    """The same up to the latents; what it returns decodes them, once or again, and may run in another thread."""
    with torch.no_grad():
        return _begin(pipe, request, on_step)


def _begin(pipe: Pipe, request: Render, on_step: OnStep) -> Finish:
    # 1. What it can really make
    check_frames(request, text=True, image=False, last="no")
    check_steps(request, LEAST_STEPS)
    pipeline, vae = pipe.pipeline, pipe.vae
    width, height = snap_size(
        request.width, request.height, int(pipeline.vae_spatial_scale_factor) * int(pipeline.patch_size)
    )
    frames = snap_frames(request.frames, (int(pipeline.vae_temporal_scale_factor), 1))

    # 2. Prompts; without guidance the negative one is never looked at
    on_step("encode", 0, 1)
    said, cut = pipe.prompts.embed(request.prompt, request.max_sequence_length)
    inputs: dict[str, Any] = dict(said)
    if request.guidance > 1:
        unsaid, _ = pipe.prompts.embed(request.negative_prompt, request.max_sequence_length)
        inputs |= {f"negative_{name}": tensor for name, tensor in unsaid.items()}
    on_step("encode", 1, 1)

    # 3. Denoise
    pipe.renew_scheduler()
    sketch = Sketch(pipe, pipeline.scheduler, middle_frame, lambda latents: _plain(vae, latents))
    on_step("denoise", 0, request.steps)
    (latents,) = pipeline(
        **inputs,
        width=width,
        height=height,
        num_frames=frames,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        # On the CPU, so that a seed means the same noise on every device.
        generator=torch.Generator("cpu").manual_seed(request.seed),
        max_sequence_length=request.max_sequence_length,
        callback_on_step_end=after_step(on_step, request.steps, sketch),
        output_type="latent",
        return_dict=False,
    )
    check_finite(latents)

    # 4. Decoding, apart: a cancel in between costs nothing, and the next clip's denoising need not wait for it
    ready = _plain(vae, latents.to(pipe.device, vae.dtype))

    return finishing(pipe, ready, lambda: vae.decode(ready, return_dict=False)[0], request.fps, cut)


def _plain(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """What the decoder takes."""
    config, shape = vae.config, (1, -1, 1, 1, 1)
    scaling = float(config.scaling_factor)
    if config.latents_mean is None or config.latents_std is None:
        return latents / scaling
    mean = torch.tensor(config.latents_mean).view(shape).to(latents)
    std = torch.tensor(config.latents_std).view(shape).to(latents)
    return latents * std / scaling + mean
