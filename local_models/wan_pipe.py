"""A Wan-family directory loaded onto a device: which parts, in which precision, resident or offloaded."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline, WanPipeline

from local_models._memory import CPU_PLAN, LoadPlan, ModelNumbers, tokens
from local_models._weights import Weights, damaged, inspect

# diffusers is typed in part only.
_TextToVideo: Any = WanPipeline
_ImageToVideo: Any = WanImageToVideoPipeline


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
