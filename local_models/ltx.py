"""LTX-Video (2B and 13B) from a local diffusers directory: T2V, I2V, first and last frame by one pipeline class.

`Render.recipe` may hold, for distilled weights: `timesteps` (descending, one per step, out of 1000), `decode_timestep`,
`decode_noise_scale` and `image_cond_noise_scale`.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, LTXConditionPipeline
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition, linear_quadratic_schedule
from diffusers.utils.torch_utils import randn_tensor

from local_models._clip import Clip, Finish, OnStep, check_frames, check_steps, ignore, open_image
from local_models._load import load_pipeline
from local_models._ltx_tokens import unpacked
from local_models._memory import CPU_PLAN, LoadPlan, ModelNumbers, tokens
from local_models._messages import Render
from local_models._parts import numbers_of, transformer_of, width_of
from local_models._pipe import Pipe, after_step, assemble, check_finite, finishing
from local_models._sketch import Sketch, middle_frame
from local_models._snap import snap_frames, snap_size
from local_models._weights import Weights, inspect

FEED_FORWARD = 4
"""Of the transformer's width; its configuration does not name it."""
LEAST_STEPS = 2
"""Half of the steps go along a line, the others along a curve."""
TIMES = 1000
"""The timestep of pure noise."""
_NAMES = ("prompt_embeds", "prompt_attention_mask")

# diffusers is typed in part only.
_Pipeline: Any = LTXConditionPipeline
_Condition: Any = LTXVideoCondition
_levels: Any = linear_quadratic_schedule
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
    """Load an LTX-Video directory onto `device` as `plan` says. Raises WeightsBroken.

    Needs no network. `torch.OutOfMemoryError` and `MemoryError` pass through.
    """
    weights = inspect(directory)
    loaded = load_pipeline(_Pipeline, weights, plan)
    return assemble(_Pipeline, loaded, weights, AutoencoderKLLTXVideo, _NAMES, plan, device)


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
    # 1. What it can really make, and the frames it is given
    check_frames(request, text=True, image=True, last="optional")
    if not request.recipe.get("timesteps"):
        check_steps(request, LEAST_STEPS)
    pipeline, recipe = pipe.pipeline, request.recipe
    width, height = snap_size(request.width, request.height, int(pipeline.vae_spatial_compression_ratio))
    frames = snap_frames(request.frames, (int(pipeline.vae_temporal_compression_ratio), 1))
    given = [(request.first_frame, 0), (request.last_frame, frames - 1)]
    conditions = [
        _Condition(image=open_image(path, width, height), frame_index=index) for path, index in given if path
    ]

    # 2. Prompts; without guidance the negative one is never looked at
    on_step("encode", 0, 1)
    said, cut = pipe.prompts.embed(request.prompt, request.max_sequence_length)
    inputs: dict[str, Any] = dict(said)
    if request.guidance > 1:
        unsaid, _ = pipe.prompts.embed(request.negative_prompt, request.max_sequence_length)
        inputs |= {f"negative_{name}": tensor for name, tensor in unsaid.items()}
    on_step("encode", 1, 1)

    # 3. Denoise
    # This pipeline passes no `mu`: weights older than 0.9.5 would have their scheduler ask for one.
    dynamic = bool(pipe.scheduler.config.use_dynamic_shifting)
    pipe.renew_scheduler(**({"use_dynamic_shifting": False, "shift_terminal": None} if dynamic else {}))
    timesteps = _timesteps(request)
    # On the CPU, so that a seed means the same noise on every device.
    generator = torch.Generator("cpu").manual_seed(request.seed)
    sketch = Sketch(
        pipe,
        pipeline.scheduler,
        lambda packed: middle_frame(unpacked(pipe.pipeline, packed, frames, height, width, given="before")),
        lambda latents: _plain(pipe, latents),
    )
    on_step("denoise", 0, len(timesteps))
    (latents,) = pipeline(
        **inputs,
        conditions=conditions or None,
        width=width,
        height=height,
        num_frames=frames,
        frame_rate=request.fps,
        num_inference_steps=len(timesteps),
        timesteps=timesteps,
        guidance_scale=request.guidance,
        image_cond_noise_scale=float(recipe.get("image_cond_noise_scale", 0.15)),
        generator=generator,
        max_sequence_length=request.max_sequence_length,
        callback_on_step_end=after_step(on_step, len(timesteps), sketch),
        output_type="latent",
        return_dict=False,
    )
    check_finite(latents)

    # 4. Decoding, apart: a cancel in between costs nothing, and the next clip's denoising need not wait for it
    ready, at = _for_decoder(pipe, latents, recipe, generator)

    return finishing(pipe, ready, lambda: pipe.vae.decode(ready, at, return_dict=False)[0], request.fps, cut)


def _timesteps(request: Render) -> list[float]:
    """The recipe's own, else the model's schedule in as many steps as were asked for."""
    given = request.recipe.get("timesteps")
    if given:
        return [float(timestep) for timestep in given]
    levels: list[float] = (_levels(request.steps) * TIMES).tolist()
    return levels


def _plain(pipe: Pipe, latents: torch.Tensor) -> torch.Tensor:
    """What the decoder takes."""
    vae = pipe.vae
    plain: torch.Tensor = pipe.pipeline._denormalize_latents(
        latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
    )
    return plain


def _for_decoder(
    pipe: Pipe, latents: torch.Tensor, recipe: dict[str, Any], generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Denormalised latents, and for decoders that denoise too (0.9.1 and later) a little noise and how much of it."""
    vae = pipe.vae
    # In the latents' own precision, as the pipeline does it; the decoder's own comes last.
    latents = _plain(pipe, latents.to(pipe.device)).to(vae.dtype)
    if not vae.config.timestep_conditioning:
        return latents, None
    at = float(recipe.get("decode_timestep", 0.0))
    scale = float(recipe.get("decode_noise_scale", at))
    noise = _randn(latents.shape, generator=generator, device=pipe.device, dtype=latents.dtype)
    timestep = torch.tensor([at], device=pipe.device, dtype=latents.dtype)
    strength = torch.tensor([scale], device=pipe.device, dtype=latents.dtype)[:, None, None, None, None]
    return (1 - strength) * latents + strength * noise, timestep
