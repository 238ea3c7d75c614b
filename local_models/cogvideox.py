"""CogVideoX (2B, 5B: text to video; 5B-I2V: image to video) from a local diffusers directory."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXImageToVideoPipeline, CogVideoXPipeline

from local_models._clip import Clip, Finish, OnStep, check_frames, ignore, open_image
from local_models._load import load_pipeline
from local_models._memory import CPU_PLAN, LoadPlan, ModelNumbers, tokens
from local_models._messages import Render
from local_models._parts import numbers_of, transformer_of, width_of
from local_models._pipe import Pipe, after_step, assemble, check_finite, finishing
from local_models._sketch import Sketch, middle_frame
from local_models._snap import snap_frames, snap_size
from local_models._weights import Weights, inspect

FEED_FORWARD = 4
"""Of the transformer's width; its configuration does not name it."""
LATENTS_AT_ONCE = 2
"""Latent frames that the VAE decodes together; the first group takes one more where they are odd."""
SHORTEST = 2
"""Latent frames: with a single one the VAE has no group to begin with."""

# diffusers is typed in part only.
_TextToVideo: Any = CogVideoXPipeline
_ImageToVideo: Any = CogVideoXImageToVideoPipeline


def numbers(weights: Weights, width: int, height: int, frames: int) -> ModelNumbers:
    """What the memory planner needs to know, read from the directory's own files."""
    config, vae = transformer_of(weights).config, weights.parts["vae"].config
    return numbers_of(
        weights,
        (width, height, frames),
        dim=width_of(config),
        ffn=FEED_FORWARD * width_of(config),
        layers=int(config["num_layers"]),
        tokens=tokens(width, height, frames, patch=int(config["patch_size"])),
        per_token_time=False,
        decoder_base=int(vae["block_out_channels"][0]),
        # A tile is a quarter of the trained size.
        tile_pixels=int(vae["sample_height"]) // 2 * (int(vae["sample_width"]) // 2),
        decode_frames=(LATENTS_AT_ONCE + 1) * int(vae["temporal_compression_ratio"]),
        batched_guidance=True,
        streams_text=True,
    )


def load(directory: Path, plan: LoadPlan = CPU_PLAN, device: str = "cpu") -> Pipe:
    """Load a CogVideoX directory onto `device` as `plan` says. Raises WeightsBroken.

    Needs no network. `torch.OutOfMemoryError` and `MemoryError` pass through.
    """
    weights = inspect(directory)
    kind = _ImageToVideo if "ImageToVideo" in str(weights.index.get("_class_name")) else _TextToVideo
    loaded = load_pipeline(kind, weights, plan)
    return assemble(kind, loaded, weights, AutoencoderKLCogVideoX, ("prompt_embeds",), plan, device)


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
    # 1. What it can really make, and the frame it is given
    pipeline, vae = pipe.pipeline, pipe.vae
    needs_image = isinstance(pipeline, CogVideoXImageToVideoPipeline)
    check_frames(request, text=not needs_image, image=needs_image, last="no")
    width, height = _size(pipe, request)
    rule = int(pipeline.vae_scale_factor_temporal)
    frames = max(snap_frames(request.frames, (rule, 1)), (SHORTEST - 1) * rule + 1)
    inputs: dict[str, Any] = {}
    if request.first_frame is not None:
        inputs["image"] = open_image(request.first_frame, width, height)

    # 2. Prompts; without guidance the negative one is never looked at
    on_step("encode", 0, 1)
    said, cut = pipe.prompts.embed(request.prompt, request.max_sequence_length)
    inputs |= said
    if request.guidance > 1:
        unsaid, _ = pipe.prompts.embed(request.negative_prompt, request.max_sequence_length)
        inputs |= {f"negative_{name}": tensor for name, tensor in unsaid.items()}
    on_step("encode", 1, 1)

    # 3. Denoise
    pipe.renew_scheduler()
    scale = 1 / pipeline.vae_scaling_factor_image
    # Its latents have the frames in front of the channels.
    sketch = Sketch(
        pipe,
        pipeline.scheduler,
        lambda packed: middle_frame(packed.transpose(1, 2)),
        lambda latents: scale * latents,
    )
    on_step("denoise", 0, request.steps)
    (latents,) = pipeline(
        **inputs,
        width=width,
        height=height,
        num_frames=frames,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        use_dynamic_cfg=bool(request.recipe.get("dynamic_guidance", False)),
        # On the CPU, so that a seed means the same noise on every device.
        generator=torch.Generator("cpu").manual_seed(request.seed),
        max_sequence_length=request.max_sequence_length,
        callback_on_step_end=after_step(on_step, request.steps, sketch),
        output_type="latent",
        return_dict=False,
    )
    check_finite(latents)

    # 4. Decoding, apart: a cancel in between costs nothing, and the next clip's denoising need not wait for it
    # CogVideoX 1.5 pads the latents at the front to whole patches; what is too much is not decoded.
    wanted = (frames - 1) // rule + 1
    latents = latents[:, latents.shape[1] - wanted :].to(pipe.device, vae.dtype)
    ready = scale * latents.permute(0, 2, 1, 3, 4)

    return finishing(
        pipe,
        ready,
        lambda: vae.decode(ready, return_dict=False)[0],
        request.fps,
        cut,
        each=max(1, wanted // LATENTS_AT_ONCE),
    )


def _size(pipe: Pipe, request: Render) -> tuple[int, int]:
    """The nearest size; the only one for weights that learnt where each patch of their trained size lies."""
    config = pipe.transformers[0].config
    factor = int(pipe.pipeline.vae_scale_factor_spatial)
    if config.use_learned_positional_embeddings:
        return int(config.sample_width) * factor, int(config.sample_height) * factor
    return snap_size(request.width, request.height, factor * int(config.patch_size))
