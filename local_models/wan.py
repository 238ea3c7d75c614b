"""Wan-family pipelines (Wan2.1, Wan2.2-A14B, TI2V-5B style) from a local diffusers directory, T2V and I2V."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from local_models._messages import Phase, Render
from local_models._snap import cover, snap_frames, snap_size
from local_models.wan_pipe import WanPipe, load, numbers
from router.contract.words import Words, words

__all__ = ["Clip", "OnStep", "UnusableRequest", "WanPipe", "generate", "load", "numbers"]

EMBEDDINGS_KEPT = 64
"""Prompt embeddings are kept by hash: a batch over one prompt or negative prompt encodes it once."""

# diffusers is typed in part only.
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
