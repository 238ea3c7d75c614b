"""Wan-family pipelines (Wan2.1, Wan2.2-A14B, TI2V-5B style) from a local diffusers directory, T2V and I2V."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline, WanPipeline
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from local_models._memory import CPU_PLAN, LoadPlan, ModelNumbers, tokens
from local_models._messages import Phase, Render
from local_models._snap import cover, snap_frames, snap_size
from local_models._weights import Weights, damaged, inspect
from router.contract.words import Words, words

EMBEDDINGS_KEPT = 64
"""Prompt embeddings are kept by hash: a batch over one prompt or negative prompt encodes it once."""

# diffusers is typed in part only.
_TextToVideo: Any = WanPipeline
_ImageToVideo: Any = WanImageToVideoPipeline
_clean: Callable[[str], str] = prompt_clean

OnStep = Callable[[Phase, int, int], None]
"""Called with a phase, units done and units in all; what it raises ends the run."""


class UnusableRequest(ValueError):
    """The loaded weights cannot make this clip; `message` says why."""

    def __init__(self, message: Words) -> None:
        """`message` is for the person who asked."""
        self.message = message
        super().__init__(message.en)


@dataclass(frozen=True)
class Clip:
    """What came out: the frames and their real numbers, after snapping."""

    frames: NDArray[np.uint8]
    """(T, H, W, 3), RGB."""
    fps: int
    width: int
    height: int
    prompt_cut: bool
    """True where the prompt had more tokens than the model takes, so that its end was not read."""


@dataclass
class WanPipe:
    """A loaded model: one set of weights behind a text-to-video pipeline, an image-to-video one, or both."""

    text_to_video: Any
    """WanPipeline, or None for weights that need an image."""
    image_to_video: Any
    """WanImageToVideoPipeline, or None for weights that take none."""
    tokenizer: Any
    text_encoder: Any
    vae: Any
    plan: LoadPlan
    device: torch.device
    scheduler: Any
    """As the weights come; every run gets a fresh one made from it."""
    embeddings: OrderedDict[str, tuple[torch.Tensor, bool]] = field(default_factory=OrderedDict)

    @property
    def any_pipeline(self) -> Any:
        """The one that owns the offload hooks: the image pipeline's list of components is the longer one."""
        return self.image_to_video or self.text_to_video

    @property
    def expand_timesteps(self) -> bool:
        """TI2V style: per-token timesteps, and the first frame is written into the latents."""
        return bool(self.any_pipeline.config.expand_timesteps)

    @property
    def two_experts(self) -> bool:
        """A14B style: one transformer for high noise, one for low."""
        return self.any_pipeline.config.boundary_ratio is not None

    @property
    def last_frame(self) -> Literal["no", "optional", "needed"]:
        """TI2V weights ignore a last frame; those with a CLIP encoder were trained with one image or with two."""
        config = (self.any_pipeline.transformer or self.any_pipeline.transformer_2).config
        if config.image_dim is not None:
            return "no" if config.pos_embed_seq_len is None else "needed"
        return "no" if self.expand_timesteps else "optional"

    @property
    def size_multiple(self) -> int:
        """Pixels that each side must be a multiple of: the VAE's factor times the patch, and 16."""
        pipeline = self.any_pipeline
        transformer = pipeline.transformer or pipeline.transformer_2
        patch = max(int(side) for side in transformer.config.patch_size[1:])
        return max(16, int(pipeline.vae_scale_factor_spatial) * patch)

    def stop_points(self) -> Iterator[torch.nn.Module]:
        """Modules that run often enough for a hook on them to end a run within a step."""
        yield self.text_encoder
        yield from (self.vae.encoder, self.vae.decoder)
        pipeline = self.any_pipeline
        for name in ("transformer", "transformer_2"):
            transformer = getattr(pipeline, name, None)
            if transformer is not None:
                yield transformer
                yield from transformer.blocks

    def settle(self) -> None:
        """After a run that ended early: what was moved to the device goes back under offload."""
        self.any_pipeline.maybe_free_model_hooks()


def numbers(weights: Weights, width: int, height: int, frames: int) -> ModelNumbers:
    """What the memory planner needs to know, read from the directory's own files."""
    parts = weights.parts
    vae = parts["vae"].config
    transformer = parts.get("transformer") or parts.get("transformer_2")
    if transformer is None:
        raise damaged(weights.directory.name, "transformer")
    config = transformer.config

    def billions(name: str) -> float:
        return parts[name].parameters / 1e9 if name in parts else 0.0

    return ModelNumbers(
        transformer_b=transformer.parameters / 1e9,
        experts=sum(name in parts for name in ("transformer", "transformer_2")),
        text_b=billions("text_encoder"),
        vae_b=billions("vae"),
        image_b=billions("image_encoder"),
        dim=int(config["num_attention_heads"]) * int(config["attention_head_dim"]),
        ffn=int(config["ffn_dim"]),
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
        frame_pixels=width * height,
        frames=frames,
    )


def load(directory: Path, plan: LoadPlan = CPU_PLAN, device: str = "cpu") -> WanPipe:
    """Load a Wan-family directory onto `device` as `plan` says. Raises WeightsBroken.

    Needs no network. `torch.OutOfMemoryError` and `MemoryError` pass through.
    """
    weights = inspect(directory)
    parts = _components(weights, plan)
    target = torch.device(device)
    text_encoder, tokenizer = parts.pop("text_encoder"), parts.pop("tokenizer")
    flags = {
        "expand_timesteps": bool(weights.index.get("expand_timesteps")),
        "boundary_ratio": weights.index.get("boundary_ratio"),
    }
    transformer = parts["transformer"] or parts["transformer_2"]
    # Image-to-video weights take the image's latents and a mask as further input channels.
    needs_image = transformer.config.in_channels != transformer.config.out_channels
    images = {name: parts.pop(name) for name in ("image_encoder", "image_processor")}
    # The text encoder stays outside of the pipelines: it is moved by us, and its results are kept.
    shared = {**parts, **flags, "text_encoder": None, "tokenizer": None}
    text_to_video = None if needs_image else _TextToVideo(**shared)
    image_to_video = _ImageToVideo(**shared, **images) if needs_image or flags["expand_timesteps"] else None
    for pipeline in (text_to_video, image_to_video):
        if pipeline is not None:
            pipeline.set_progress_bar_config(disable=True)
    pipe = WanPipe(
        text_to_video, image_to_video, tokenizer, text_encoder, parts["vae"], plan, target, parts["scheduler"]
    )
    _place(pipe)
    return pipe


def _components(weights: Weights, plan: LoadPlan) -> dict[str, Any]:
    """Every component, freshly loaded; a loader's own complaint becomes WeightsBroken."""
    dtype = getattr(torch, plan.dtype)
    kind = _ImageToVideo if "ImageToVideo" in str(weights.index.get("_class_name")) else _TextToVideo
    try:
        loaded = kind.from_pretrained(
            weights.directory, dtype=dtype, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise
        raise damaged(weights.directory.name, type(error).__name__) from error
    names = ("text_encoder", "tokenizer", "vae", "scheduler", "transformer", "transformer_2")
    parts = {name: getattr(loaded, name, None) for name in (*names, "image_encoder", "image_processor")}
    if not isinstance(parts["vae"], AutoencoderKLWan) or parts["text_encoder"] is None:
        raise damaged(weights.directory.name, str(weights.index.get("_class_name")))
    for module in parts.values():
        if isinstance(module, torch.nn.Module):
            module.eval().requires_grad_(False)
    return parts


def _place(pipe: WanPipe) -> None:
    """Precision, tiling and offload of the plan."""
    plan, device, pipeline = pipe.plan, pipe.device, pipe.any_pipeline
    transformers = [module for module in (pipeline.transformer, pipeline.transformer_2) if module is not None]
    others = [module for module in (pipe.vae, getattr(pipe.image_to_video, "image_encoder", None)) if module]
    if plan.vae_tiling:
        pipe.vae.enable_tiling()
    if plan.layerwise_fp8:
        for transformer in transformers:
            transformer.enable_layerwise_casting(
                storage_dtype=torch.float8_e4m3fn, compute_dtype=getattr(torch, plan.dtype)
            )
    match plan.offload:
        case "none":
            resident = [*transformers, *others, *([] if plan.text_on_cpu else [pipe.text_encoder])]
        case "model":
            resident = []
            # Hooks sit on the modules, so they serve the other pipeline too.
            pipeline.enable_model_cpu_offload(device=device)
        case "group":
            resident = others
            for transformer in transformers:
                transformer.enable_group_offload(
                    onload_device=device,
                    offload_device=torch.device("cpu"),
                    offload_type="leaf_level",
                    use_stream=device.type == "cuda",
                )
    for module in resident:
        module.to(device)


def generate(pipe: WanPipe, request: Render, on_step: OnStep = lambda phase, done, total: None) -> Clip:
    """Make one clip. The same pipe, request and seed give the same frames on the same device.

    Size and length are snapped to what the model can make; `Clip` tells the real ones. Raises UnusableRequest,
    FloatingPointError when the model yields no numbers, the device's out-of-memory errors, and whatever `on_step`
    raises; the pipe stays usable after each of them.
    """
    with torch.no_grad():
        return _generate(pipe, request, on_step)


def _generate(pipe: WanPipe, request: Render, on_step: OnStep) -> Clip:
    # 1. Which pipeline, and what it can really make
    pipeline = _pipeline_for(pipe, request)
    width, height = snap_size(request.width, request.height, pipe.size_multiple)
    frames = snap_frames(request.frames, (int(pipeline.vae_scale_factor_temporal), 1))
    inputs: dict[str, Any] = {}
    if request.first_frame is not None:
        inputs["image"] = _image(request.first_frame, width, height)
    if request.last_frame is not None:
        inputs["last_image"] = _image(request.last_frame, width, height)

    # 2. Prompts; without guidance the negative one is never looked at
    on_step("encode", 0, 1)
    inputs["prompt_embeds"], cut = _embed(pipe, request.prompt, request.max_sequence_length)
    if request.guidance > 1:
        inputs["negative_prompt_embeds"], _ = _embed(
            pipe, request.negative_prompt, request.max_sequence_length
        )
    on_step("encode", 1, 1)

    # 3. Denoise
    pipeline.scheduler = _scheduler(pipe, request.flow_shift)
    if pipe.two_experts and request.guidance_2 is not None:
        inputs["guidance_scale_2"] = request.guidance_2

    def after_step(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step("denoise", index + 1, request.steps)
        return tensors

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
        callback_on_step_end=after_step,
        output_type="latent",
        return_dict=False,
    )
    if not torch.isfinite(latents).all():
        raise FloatingPointError("the model produced numbers that are not finite")

    # 4. Decode, apart from the denoising so that a cancel in between costs nothing
    pictures = _decode(pipe, latents, on_step)
    pipe.settle()
    return Clip(pictures, request.fps, pictures.shape[2], pictures.shape[1], cut)


def _pipeline_for(pipe: WanPipe, request: Render) -> Any:
    if request.first_frame is None and request.last_frame is None:
        if pipe.text_to_video is None:
            raise UnusableRequest(
                words("This model needs a first frame.", "このモデルには最初のフレームの画像が必要です。")
            )
        return pipe.text_to_video
    if pipe.image_to_video is None:
        raise UnusableRequest(words("This model takes no image.", "このモデルは画像を入力できません。"))
    if request.first_frame is None:
        raise UnusableRequest(
            words(
                "This model takes a last frame only together with a first one.",
                "最後のフレームだけの指定はできません。",
            )
        )
    takes = pipe.last_frame
    if request.last_frame is not None and takes == "no":
        raise UnusableRequest(
            words("This model takes no last frame.", "このモデルは最後のフレームを指定できません。")
        )
    if request.last_frame is None and takes == "needed":
        raise UnusableRequest(
            words("This model needs a last frame as well.", "このモデルには最後のフレームの画像も必要です。")
        )
    return pipe.image_to_video


def _image(path: str, width: int, height: int) -> Image.Image:
    try:
        with Image.open(path) as image:
            return cover(image, width, height)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        raise UnusableRequest(
            words("The input image cannot be read.", "入力画像を読み込めません。")
        ) from None


def _scheduler(pipe: WanPipe, flow_shift: float | None) -> Any:
    """A fresh scheduler: nothing of an earlier run, ended early or not, is left in it."""
    config = pipe.scheduler.config
    shift = {
        name: flow_shift for name in ("flow_shift", "shift") if flow_shift is not None and name in config
    }
    return type(pipe.scheduler).from_config(config, **shift)


def _embed(pipe: WanPipe, text: str, length: int) -> tuple[torch.Tensor, bool]:
    """Embeddings [1, length, dim] on the device, and whether the text was cut.

    Places after the prompt are zeros, as in training: the transformer attends to them.
    """
    key = hashlib.sha256(f"{length}\0{text}".encode()).hexdigest()
    if key not in pipe.embeddings:
        cleaned = _clean(text)
        cut = len(pipe.tokenizer(cleaned).input_ids) > length
        batch = pipe.tokenizer(
            [cleaned],
            padding="max_length",
            max_length=length,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        visits = pipe.plan.offload != "none" and not pipe.plan.text_on_cpu
        if visits:
            pipe.text_encoder.to(pipe.device)
        try:
            device = pipe.text_encoder.device
            mask = batch.attention_mask.to(device)
            hidden = pipe.text_encoder(batch.input_ids.to(device), mask).last_hidden_state
        finally:
            if visits:
                pipe.text_encoder.to("cpu")
        pipe.embeddings[key] = ((hidden * mask.unsqueeze(-1)).cpu(), cut)
        while len(pipe.embeddings) > EMBEDDINGS_KEPT:
            pipe.embeddings.popitem(last=False)
    pipe.embeddings.move_to_end(key)
    kept, cut = pipe.embeddings[key]
    return kept.to(pipe.device), cut


def _decode(pipe: WanPipe, latents: torch.Tensor, on_step: OnStep) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) of the latents; the Wan VAE decodes one latent frame after the other."""
    vae, total, done = pipe.vae, int(latents.shape[2]), 0
    on_step("decode", 0, total)

    def after_chunk(*_: Any) -> None:
        nonlocal done
        done = min(done + 1, total)
        on_step("decode", done, total)

    shape = (1, -1, 1, 1, 1)
    latents = latents.to(pipe.device, vae.dtype)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(latents)
    std = torch.tensor(vae.config.latents_std).view(shape).to(latents)
    # Tiles are decoded one by one: how many there are is the VAE's own affair, so they are not counted.
    counter = None if vae.use_tiling else vae.decoder.register_forward_hook(after_chunk)
    try:
        video = vae.decode(latents * std + mean, return_dict=False)[0]
    finally:
        if counter is not None:
            counter.remove()
    bytes_ = (video[0].float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    pictures: NDArray[np.uint8] = bytes_.permute(1, 2, 3, 0).cpu().numpy()
    on_step("decode", total, total)
    return pictures
