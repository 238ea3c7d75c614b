"""Directories of the other families with random weights, in their real format: two blocks, a few hundred kilobytes."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.guiders.classifier_free_guidance import ClassifierFreeGuidance

from benchmarks.gpu.tiny_configs import TINY
from benchmarks.gpu.weights import made
from tests.local_models.random_weights import tokenizer

# These libraries are typed in part only.
d: Any = diffusers
t: Any = transformers
_Guider: Any = ClassifierFreeGuidance


@dataclass(frozen=True)
class Family:
    """One flavour: where it lies and what it takes."""

    name: str
    module: str
    """Its code file in `local_models`."""
    folder: Path
    text: bool = True
    """Whether it makes a clip from text alone."""
    image: bool = False
    last: bool = False


def build(folder: Path) -> dict[str, Family]:
    """Write all of them."""
    torch.manual_seed(1)
    families = (
        Family("ltx", "ltx", folder / "ltx", image=True, last=True),
        Family("ltx2", "ltx2", folder / "ltx2", image=True, last=True),
        Family("hunyuan15", "hunyuan15", folder / "hunyuan15"),
        Family("hunyuan15-i2v", "hunyuan15", folder / "hunyuan15-i2v", text=False, image=True),
        Family("cogvideox", "cogvideox", folder / "cogvideox"),
        Family("cogvideox-i2v", "cogvideox", folder / "cogvideox-i2v", text=False, image=True),
        Family("mochi", "mochi", folder / "mochi"),
    )
    _ltx().save_pretrained(folder / "ltx")
    _ltx2().save_pretrained(folder / "ltx2")
    _hunyuan(image=False).save_pretrained(folder / "hunyuan15")
    _hunyuan(image=True).save_pretrained(folder / "hunyuan15-i2v")
    _cogvideox(image=False).save_pretrained(folder / "cogvideox")
    _cogvideox(image=True).save_pretrained(folder / "cogvideox-i2v")
    _mochi().save_pretrained(folder / "mochi")
    return {family.name: family for family in families}


def _part(card: str, name: str, **more: Any) -> Any:
    """A component of the bench's dry run, with random weights; `more` changes its configuration."""
    part = next(model for model in TINY if model.card == f"local/{card}").parts[name]
    return made(replace(part, config={**part.config, **more}))


def _t5() -> dict[str, Any]:
    return {"text_encoder": _part("ltx-video-2b", "text_encoder"), "tokenizer": tokenizer()}


def _ltx() -> Any:
    return d.LTXConditionPipeline(
        **_t5(),
        vae=_part("ltx-video-2b", "vae"),
        transformer=_part("ltx-video-2b", "transformer"),
        scheduler=d.FlowMatchEulerDiscreteScheduler(),
    )


def _ltx2() -> Any:
    names = ("vae", "audio_vae", "text_encoder", "connectors", "transformer", "vocoder")
    return d.LTX2Pipeline(
        **{name: _part("ltx-2-distilled", name) for name in names},
        tokenizer=tokenizer(),
        scheduler=d.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, shift_terminal=0.1
        ),
    )


def _hunyuan(*, image: bool) -> Any:
    chat = tokenizer()
    # The pipeline cuts off 108 tokens, the length of the makers' instructions.
    chat.chat_template = "{{ 'a' * 108 }}{{ messages[-1]['content'] }}"
    card = "hunyuan-video-1.5-t2v-480p"
    parts = {
        "text_encoder": _part(card, "text_encoder"),
        "tokenizer": chat,
        "text_encoder_2": _part(card, "text_encoder_2"),
        "tokenizer_2": t.ByT5Tokenizer(),
        "vae": _part(card, "vae"),
        "transformer": _part(card, "transformer", task_type="i2v" if image else "t2v"),
        "scheduler": d.FlowMatchEulerDiscreteScheduler(shift=5.0),
        "guider": _Guider(guidance_scale=6.0),
    }
    if not image:
        return d.HunyuanVideo15Pipeline(**parts)
    siglip = t.SiglipVisionModel(
        t.SiglipVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        )
    )
    return d.HunyuanVideo15ImageToVideoPipeline(
        **parts,
        image_encoder=siglip,
        feature_extractor=t.SiglipImageProcessorPil(size={"height": 32, "width": 32}),
    )


def _cogvideox(*, image: bool) -> Any:
    # As the 5B weights: the I2V ones have learnt their places, the 2B ones compute them.
    places = {"use_rotary_positional_embeddings": image, "use_learned_positional_embeddings": image}
    transformer = _part("cogvideox-2b", "transformer", in_channels=8 if image else 4, **places)
    kind = d.CogVideoXImageToVideoPipeline if image else d.CogVideoXPipeline
    scheduler = d.CogVideoXDPMScheduler if image else d.CogVideoXDDIMScheduler
    return kind(
        **_t5(),
        vae=_part("cogvideox-2b", "vae"),
        transformer=transformer,
        scheduler=scheduler(
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
        ),
    )


def _mochi() -> Any:
    return d.MochiPipeline(
        **_t5(),
        vae=_part("mochi-1", "vae"),
        transformer=_part("mochi-1", "transformer"),
        scheduler=d.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        force_zeros_for_empty_prompt=True,
    )
