"""Wan-family pipelines (Wan2.1, Wan2.2-A14B, TI2V-5B style) from a local diffusers directory, T2V and I2V.

Step-distilled weights (FastWan, the lightx2v LoRA pairs) are the same pipelines at their own few noise levels:
`Render.recipe` may name `scheduler` (a class of RECIPE_SCHEDULERS) and `sigmas` (descending, already shifted).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchLCMScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
)
from diffusers.pipelines.wan.pipeline_wan import prompt_clean

from local_models._clip import (
    Clip,
    Finish,
    LastFrame,
    OnStep,
    UnusableRequest,
    check_frames,
    ignore,
    open_image,
)
from local_models._load import load_pipeline
from local_models._memory import CPU_PLAN, LoadPlan, ModelNumbers, tokens
from local_models._messages import Render
from local_models._parts import numbers_of, transformer_of, width_of
from local_models._pipe import Pipe, after_step, check_finite, finishing, place
from local_models._prompts import Embedded, Prompts
from local_models._sketch import Sketch, middle_frame
from local_models._snap import snap_frames, snap_size
from local_models._weights import Weights, damaged, inspect

__all__ = ["Clip", "OnStep", "UnusableRequest", "WanPipe", "generate", "load", "numbers"]

RECIPE_SCHEDULERS: dict[str, Any] = {
    "euler": FlowMatchEulerDiscreteScheduler,
    "lcm": FlowMatchLCMScheduler,
}
"""`euler` follows the flow; `lcm` renoises at every level, as weights distilled by distribution matching are trained."""

# diffusers is typed in part only.
_clean: Callable[[str], str] = prompt_clean
_TextToVideo: Any = WanPipeline
_ImageToVideo: Any = WanImageToVideoPipeline


@dataclass
class WanPipe(Pipe):
    """One set of weights behind a text-to-video pipeline, an image-to-video one, or both.

    `pipeline`, which owns the hooks, is the image pipeline where there is one: its list of components is the longer.
    """

    text_to_video: Any
    """WanPipeline, or None for weights that need an image."""
    image_to_video: Any
    """WanImageToVideoPipeline, or None for weights that take none."""

    @property
    def expand_timesteps(self) -> bool:
        """TI2V style: per-token timesteps, and the first frame is written into the latents."""
        return bool(self.pipeline.config.expand_timesteps)

    @property
    def two_experts(self) -> bool:
        """A14B style: one transformer for high noise, one for low."""
        return self.pipeline.config.boundary_ratio is not None

    @property
    def last_frame(self) -> LastFrame:
        """TI2V weights ignore a last frame; those with a CLIP encoder were trained with one image or with two."""
        config = self.transformers[0].config
        if config.image_dim is not None:
            return "no" if config.pos_embed_seq_len is None else "needed"
        return "no" if self.expand_timesteps else "optional"

    @property
    def size_multiple(self) -> int:
        """Pixels that each side must be a multiple of: the VAE's factor times the patch, and 16."""
        patch = max(int(side) for side in self.transformers[0].config.patch_size[1:])
        return max(16, int(self.pipeline.vae_scale_factor_spatial) * patch)


def numbers(weights: Weights, width: int, height: int, frames: int) -> ModelNumbers:
    """What the memory planner needs to know, read from the directory's own files."""
    config = transformer_of(weights).config
    vae = weights.parts["vae"].config
    return numbers_of(
        weights,
        (width, height, frames),
        dim=width_of(config),
        ffn=int(config["ffn_dim"]),
        layers=int(config["num_layers"]),
        tokens=tokens(
            width,
            height,
            frames,
            temporal=int(vae.get("scale_factor_temporal") or 4),
            spatial=int(vae.get("scale_factor_spatial") or 8),
            patch=int(config["patch_size"][1]),
        ),
        per_token_time=bool(weights.index.get("expand_timesteps")),
        decoder_base=int(vae.get("decoder_base_dim") or vae.get("base_dim") or 96),
        streams_text=True,
    )


def load(directory: Path, plan: LoadPlan = CPU_PLAN, device: str = "cpu") -> WanPipe:
    """Load a Wan-family directory onto `device` as `plan` says. Raises WeightsBroken.

    Needs no network. `torch.OutOfMemoryError` and `MemoryError` pass through.
    """
    weights = inspect(directory)
    kind = _ImageToVideo if "ImageToVideo" in str(weights.index.get("_class_name")) else _TextToVideo
    loaded = load_pipeline(kind, weights, plan)
    names = ("vae", "scheduler", "transformer", "transformer_2")
    parts = {name: getattr(loaded, name, None) for name in names}
    transformer = parts["transformer"] or parts["transformer_2"]
    if not isinstance(parts["vae"], AutoencoderKLWan) or loaded.text_encoder is None or transformer is None:
        raise damaged(directory.name, str(weights.index.get("_class_name")))
    flags = {
        "expand_timesteps": bool(weights.index.get("expand_timesteps")),
        "boundary_ratio": weights.index.get("boundary_ratio"),
    }
    # Image-to-video weights take the image's latents and a mask as further input channels.
    needs_image = transformer.config.in_channels != transformer.config.out_channels
    images = {name: getattr(loaded, name, None) for name in ("image_encoder", "image_processor")}
    # The text encoder stays outside of the pipelines: it is moved by us, and its results are kept.
    shared = {**parts, **flags, "text_encoder": None, "tokenizer": None}
    text_to_video = None if needs_image else _TextToVideo(**shared)
    image_to_video = _ImageToVideo(**shared, **images) if needs_image or flags["expand_timesteps"] else None
    if text_to_video is not None:
        text_to_video.set_progress_bar_config(disable=True)
    target = torch.device(device)
    pipe = WanPipe(
        image_to_video or text_to_video,
        Prompts([loaded.text_encoder], _reader(loaded.tokenizer, loaded.text_encoder), plan, target),
        plan,
        target,
        parts["scheduler"],
        text_to_video,
        image_to_video,
    )
    place(pipe, [images["image_encoder"]] if images["image_encoder"] is not None else ())
    return pipe


def generate(pipe: WanPipe, request: Render, on_step: OnStep = ignore) -> Clip:
    """Make one clip. The same pipe, request and seed give the same frames on the same device.

    Size and length are snapped to what the model can make; `Clip` tells the real ones. Raises UnusableRequest,
    FloatingPointError when the model yields no numbers, the device's out-of-memory errors, and whatever `on_step`
    raises; the pipe stays usable after each of them.
    """
    return begin(pipe, request, on_step)(on_step)


def begin(pipe: WanPipe, request: Render, on_step: OnStep = ignore) -> Finish:
    """The same up to the latents; what it returns decodes them, once or again, and may run in another thread."""
    with torch.no_grad():
        return _begin(pipe, request, on_step)


def _begin(pipe: WanPipe, request: Render, on_step: OnStep) -> Finish:
    # 1. Which pipeline, and what it can really make
    check_frames(
        request,
        text=pipe.text_to_video is not None,
        image=pipe.image_to_video is not None,
        last=pipe.last_frame,
    )
    pipeline = pipe.text_to_video if request.first_frame is None else pipe.image_to_video
    width, height = snap_size(request.width, request.height, pipe.size_multiple)
    frames = snap_frames(request.frames, (int(pipeline.vae_scale_factor_temporal), 1))
    inputs: dict[str, Any] = {}
    if request.first_frame is not None:
        inputs["image"] = open_image(request.first_frame, width, height)
    if request.last_frame is not None:
        inputs["last_image"] = open_image(request.last_frame, width, height)

    # 2. Prompts; without guidance the negative one is never looked at
    on_step("encode", 0, 1)
    said, cut = pipe.prompts.embed(request.prompt, request.max_sequence_length)
    inputs["prompt_embeds"] = said["embeds"]
    if request.guidance > 1:
        unsaid, _ = pipe.prompts.embed(request.negative_prompt, request.max_sequence_length)
        inputs["negative_prompt_embeds"] = unsaid["embeds"]
    on_step("encode", 1, 1)

    # 3. Denoise
    # On the CPU, so that a seed means the same noise on every device.
    generator = torch.Generator("cpu").manual_seed(request.seed)
    pipeline.scheduler = _scheduler(pipe, request, generator)
    if pipe.two_experts and request.guidance_2 is not None:
        inputs["guidance_scale_2"] = request.guidance_2
    sketch = Sketch(pipe, pipeline.scheduler, middle_frame, lambda latents: _plain(pipe, latents))
    on_step("denoise", 0, request.steps)
    (latents,) = pipeline(
        **inputs,
        width=width,
        height=height,
        num_frames=frames,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance,
        generator=generator,
        max_sequence_length=request.max_sequence_length,
        callback_on_step_end=after_step(on_step, request.steps, sketch),
        output_type="latent",
        return_dict=False,
    )
    check_finite(latents)

    # 4. Decoding, apart: a cancel in between costs nothing, and the next clip's denoising need not wait for it
    vae = pipe.vae
    latents = latents.to(pipe.device, vae.dtype)

    # The Wan VAE decodes one latent frame after the other, in every tile.
    return finishing(
        pipe,
        latents,
        lambda: vae.decode(_plain(pipe, latents), return_dict=False)[0],
        request.fps,
        cut,
        each=int(latents.shape[2]),
    )


def _plain(pipe: WanPipe, latents: torch.Tensor) -> torch.Tensor:
    """What the decoder takes."""
    config, shape = pipe.vae.config, (1, -1, 1, 1, 1)
    mean = torch.tensor(config.latents_mean).view(shape).to(latents)
    std = torch.tensor(config.latents_std).view(shape).to(latents)
    return latents * std + mean


def _scheduler(pipe: WanPipe, request: Render, generator: torch.Generator) -> Any:
    """The weights' own one, or the recipe's; fresh for every run."""
    named = request.recipe.get("scheduler")
    if named is None:
        shift = request.flow_shift
        names = [name for name in ("flow_shift", "shift") if name in pipe.scheduler.config]
        return pipe.renew_scheduler(**{name: shift for name in names if shift is not None})
    sigmas = [float(sigma) for sigma in request.recipe["sigmas"]]
    scheduler = RECIPE_SCHEDULERS[named](shift=1.0)
    # The pipelines name a number of steps only: the levels of the recipe are bound here.
    levels = scheduler.set_timesteps
    scheduler.set_timesteps = lambda count, device=None: levels(sigmas=sigmas, device=device)
    if named == "lcm":
        scheduler.step = partial(scheduler.step, generator=generator)
    return scheduler


def _reader(tokenizer: Any, encoder: Any) -> Any:
    """Embeddings [1, length, dim]. Places after the prompt are zeros, as in training: the transformer attends to them."""

    def read(text: str, length: int, device: torch.device) -> tuple[Embedded, bool]:
        cleaned = _clean(text)
        cut = len(tokenizer(cleaned).input_ids) > length
        batch = tokenizer(
            [cleaned],
            padding="max_length",
            max_length=length,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        mask = batch.attention_mask.to(device)
        hidden = encoder(batch.input_ids.to(device), mask).last_hidden_state
        return {"embeds": hidden * mask.unsqueeze(-1)}, cut

    return read
