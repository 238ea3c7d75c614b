"""HunyuanVideo-1.5 from a local diffusers directory: T2V, and I2V with weights of their own.

Its pipelines know no step callback and no guidance number: progress comes through `progress_bar`, guidance through a
guider of its own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
)
from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import format_text_input

from local_models._clip import Clip, Finish, OnStep, check_frames, ignore, open_image
from local_models._load import load_pipeline
from local_models._memory import CPU_PLAN, LoadPlan, ModelNumbers, tokens
from local_models._messages import Render
from local_models._parts import numbers_of, transformer_of, width_of
from local_models._pipe import Pipe, check_finite, finishing, place
from local_models._prompts import Embedded, Prompts, Read
from local_models._sketch import Sketch, middle_frame
from local_models._snap import snap_frames, snap_size
from local_models._weights import Weights, damaged, inspect

_NAMES = ("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2")

# diffusers is typed in part only.
_TextToVideo: Any = HunyuanVideo15Pipeline
_ImageToVideo: Any = HunyuanVideo15ImageToVideoPipeline
_as_chat: Callable[[list[str], str], Any] = format_text_input


def numbers(weights: Weights, width: int, height: int, frames: int) -> ModelNumbers:
    """What the memory planner needs to know, read from the directory's own files."""
    config, vae = transformer_of(weights).config, weights.parts["vae"].config
    return numbers_of(
        weights,
        (width, height, frames),
        dim=width_of(config),
        ffn=round(float(config["mlp_ratio"]) * width_of(config)),
        layers=int(config["num_layers"]),
        tokens=tokens(
            width,
            height,
            frames,
            temporal=int(vae["temporal_compression_ratio"]),
            spatial=int(vae["spatial_compression_ratio"]),
            patch=int(config["patch_size"]),
        ),
        per_token_time=False,
        decoder_base=int(vae["block_out_channels"][0]),
        # All frames of a tile at once.
        decode_frames=frames,
        streams_text=True,
    )


def load(directory: Path, plan: LoadPlan = CPU_PLAN, device: str = "cpu") -> Pipe:
    """Load a HunyuanVideo-1.5 directory onto `device` as `plan` says. Raises WeightsBroken.

    Needs no network. `torch.OutOfMemoryError` and `MemoryError` pass through.
    """
    weights = inspect(directory)
    kind = _ImageToVideo if "ImageToVideo" in str(weights.index.get("_class_name")) else _TextToVideo
    loaded = load_pipeline(kind, weights, plan)
    texts = {name: getattr(loaded, name) for name in ("text_encoder", "text_encoder_2")}
    tokenizers = dict.fromkeys(("tokenizer", "tokenizer_2"))
    whole = isinstance(loaded.vae, AutoencoderKLHunyuanVideo15) and loaded.transformer is not None
    if not whole or None in texts.values():
        raise damaged(directory.name, str(weights.index.get("_class_name")))
    outside = {**dict.fromkeys(texts), **tokenizers}
    parts = {name: part for name, part in loaded.components.items() if name not in outside}
    target = torch.device(device)
    pipe = Pipe(
        kind(**parts, **outside),
        Prompts(list(texts.values()), _reader(loaded, getattr(torch, plan.dtype)), plan, target),
        plan,
        target,
        loaded.scheduler,
    )
    place(pipe, [loaded.image_encoder] if kind is _ImageToVideo else ())
    return pipe


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
    needs_image = isinstance(pipeline, HunyuanVideo15ImageToVideoPipeline)
    check_frames(request, text=not needs_image, image=needs_image, last="no")
    frames = snap_frames(request.frames, (int(pipeline.vae_scale_factor_temporal), 1))
    inputs: dict[str, Any] = {}
    if request.first_frame is not None:
        # This pipeline takes no size: it makes the trained one that is nearest to the image's proportions.
        height, width = pipeline.video_processor.calculate_default_height_width(
            request.height, request.width, pipeline.target_size
        )
        inputs["image"] = open_image(request.first_frame, int(width), int(height))
    else:
        patch = int(pipe.transformers[0].config.patch_size)
        size = snap_size(request.width, request.height, int(pipeline.vae_scale_factor_spatial) * patch)
        inputs["width"], inputs["height"] = size

    # 2. Prompts; without guidance the negative one is never looked at
    on_step("encode", 0, 1)
    said, cut = pipe.prompts.embed(request.prompt, request.max_sequence_length)
    inputs |= said
    if request.guidance > 1:
        unsaid, _ = pipe.prompts.embed(request.negative_prompt, request.max_sequence_length)
        inputs |= {f"negative_{name}": tensor for name, tensor in unsaid.items()}
    on_step("encode", 1, 1)

    # 3. Denoise
    shift = {} if request.flow_shift is None else {"shift": request.flow_shift}
    scheduler = pipe.renew_scheduler(**shift)
    sketch = Sketch(pipe, scheduler, middle_frame, lambda latents: latents / vae.config.scaling_factor)
    scheduler.step = _shown(scheduler, sketch)
    pipeline.guider = pipeline.guider.new(guidance_scale=max(1.0, request.guidance))
    pipeline.progress_bar = lambda total: _Steps(on_step, total)
    (latents,) = pipeline(
        **inputs,
        num_frames=frames,
        num_inference_steps=request.steps,
        # On the CPU, so that a seed means the same noise on every device.
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type="latent",
        return_dict=False,
    )
    check_finite(latents)

    # 4. Decoding, apart: a cancel in between costs nothing, and the next clip's denoising need not wait for it
    ready = latents.to(pipe.device, vae.dtype) / vae.config.scaling_factor

    return finishing(pipe, ready, lambda: vae.decode(ready, return_dict=False)[0], request.fps, cut)


def _shown(scheduler: Any, sketch: Sketch) -> Callable[..., Any]:
    """Its `step`, which also shows what it made."""
    step = scheduler.step

    def stepped(*given: Any, **more: Any) -> Any:
        made = step(*given, **more)
        sketch.seen(scheduler.step_index - 1, made[0])
        return made

    return stepped


class _Steps:
    """Stands in for the progress bar of a pipeline that tells its steps to nobody else."""

    def __init__(self, on_step: OnStep, total: int) -> None:
        """`total` steps are to come."""
        self._on_step, self._total, self._done = on_step, total, 0

    def __enter__(self) -> Self:
        self._on_step("denoise", 0, self._total)
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, count: int = 1) -> None:
        """`count` more steps are done."""
        self._done += count
        self._on_step("denoise", self._done, self._total)


def _reader(speaker: Any, dtype: torch.dtype) -> Read:
    """What Qwen makes of the prompt, and ByT5 of the words in quotation marks, which are to be seen in the clip."""

    def read(text: str, length: int, device: torch.device) -> tuple[Embedded, bool]:
        # The template in front of the prompt is cut off again after the encoder has seen it.
        speaker.tokenizer_max_length = length
        whole = speaker.tokenizer.apply_chat_template(
            _as_chat([text], speaker.system_message), add_generation_prompt=True, return_dict=True
        )
        cut = len(whole["input_ids"][0]) > length + speaker.prompt_template_encode_start_idx
        return dict(zip(_NAMES, speaker.encode_prompt(text, device=device, dtype=dtype), strict=True)), cut

    return read
