"""Wan directories with random weights: every flavour that `wan.py` serves, each under a megabyte."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

TEXT_DIM = 16
Z_DIM = 4


@dataclass(frozen=True)
class Folders:
    """Where each flavour lies."""

    ti2v: Path
    """Wan2.2-TI2V-5B style: one set of weights for text and image."""
    clip: Path
    """Wan2.1-I2V style: a CLIP image encoder, image needed."""
    first_last: Path
    """Wan2.1-FLF2V style: the CLIP encoder sees two images."""
    two_experts: Path
    """Wan2.2-T2V-A14B style."""
    two_experts_image: Path
    """Wan2.2-I2V-A14B style: images without an encoder of their own, a last one as well."""


def build(folder: Path) -> Folders:
    """Write all of them."""
    torch.manual_seed(0)
    folders = Folders(folder / "ti2v", folder / "clip", folder / "flf", folder / "two", folder / "two-image")
    _WanPipeline(**_common(), transformer=_transformer(), expand_timesteps=True).save_pretrained(folders.ti2v)
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    for target, more in ((folders.clip, {}), (folders.first_last, {"pos_embed_seq_len": 2 * 5})):
        _WanImage(
            **_common(),
            transformer=_transformer(in_channels=2 * Z_DIM + 4, image_dim=16, added_kv_proj_dim=32, **more),
            image_encoder=CLIPVisionModel(vision),
            image_processor=CLIPImageProcessorPil(size=32, crop_size=32),
        ).save_pretrained(target)
    _WanPipeline(
        **_common(), transformer=_transformer(), transformer_2=_transformer(), boundary_ratio=0.875
    ).save_pretrained(folders.two_experts)
    experts = {
        name: _transformer(in_channels=2 * Z_DIM + 4, image_dim=None, added_kv_proj_dim=None)
        for name in ("transformer", "transformer_2")
    }
    _WanImage(
        **_common(), **experts, image_encoder=None, image_processor=None, boundary_ratio=0.9
    ).save_pretrained(folders.two_experts_image)
    return folders


_WanPipeline: Any = WanPipeline
_WanImage: Any = WanImageToVideoPipeline


def tokenizer() -> Any:
    """A byte-level one: every character is one to three tokens."""
    raw = Tokenizer(models.BPE(vocab={"<pad>": 0, "</s>": 1, **_letters()}, merges=[], unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>")


def _common() -> dict[str, Any]:
    config = UMT5Config(
        vocab_size=300,
        d_model=TEXT_DIM,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    vae: Any = AutoencoderKLWan
    scheduler: Any = UniPCMultistepScheduler
    return {
        "tokenizer": tokenizer(),
        "text_encoder": UMT5EncoderModel(config),
        "vae": vae(
            base_dim=3,
            z_dim=Z_DIM,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * Z_DIM,
            latents_std=[1.0] * Z_DIM,
        ),
        "scheduler": scheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    }


def _letters() -> dict[str, int]:
    return {letter: 2 + index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}


def _transformer(**more: Any) -> WanTransformer3DModel:
    kind: Any = WanTransformer3DModel
    sizes: dict[str, Any] = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": Z_DIM,
        "out_channels": Z_DIM,
        "text_dim": TEXT_DIM,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": 2,
        "cross_attn_norm": True,
        "rope_max_seq_len": 64,
    }
    model: WanTransformer3DModel = kind(**{**sizes, **more})
    return model
