"""The parts of the tiny model: their configurations, a fast VAE pass for training, and the export."""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from diffusers.models.autoencoders import autoencoder_kl_wan
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

Z_DIM = 32
TEXT_DIM = 96
TEXT_LENGTH = 32
FLOW_SHIFT = 3.0
STEPS = 12
GUIDANCE = 2.5


def quiet_cpu() -> None:
    """Two threads and no denormal numbers: both matter on a small CPU."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    torch.set_flush_denormal(True)


def build_vae() -> Any:
    """A Wan2.2-style VAE: 16x smaller in space, 4x in time."""
    build: Any = AutoencoderKLWan
    vae = build(
        base_dim=48,
        decoder_base_dim=40,
        z_dim=Z_DIM,
        dim_mult=[1, 1, 1],
        num_res_blocks=0,
        temperal_downsample=[True, True],
        is_residual=True,
        patch_size=4,
        in_channels=48,
        out_channels=48,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
        latents_mean=[0.0] * Z_DIM,
        latents_std=[1.0] * Z_DIM,
    )
    _inflate(vae)
    return vae


@torch.no_grad()
def _inflate(vae: Any) -> None:
    """Start as an image VAE that repeats frames: convolutions see one frame, time layers copy."""
    module: Any
    for name, module in vae.named_modules():
        if isinstance(module, autoencoder_kl_wan.WanCausalConv3d):
            out_channels, channels, depth, height, width = module.weight.shape
            slices = torch.randn(out_channels, channels, height, width) * (channels * height * width) ** -0.5
            module.weight.zero_()
            module.weight[:, :, -1] = slices
            bias: Any = module.bias
            bias.zero_()
            if name.endswith("time_conv"):
                eye = torch.eye(channels).repeat(out_channels // channels, 1)
                module.weight[:, :, -1] = eye[:, :, None, None]
            elif depth > 1:
                module.weight[:, :, :-1].normal_(std=0.02 * (channels * height * width) ** -0.5)
        elif isinstance(module, nn.Conv2d):
            fan = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
            module.weight.normal_(std=fan**-0.5)
            bias = module.bias
            bias.zero_()
    for module in vae.modules():
        if isinstance(module, autoencoder_kl_wan.WanResidualBlock):
            module.conv2.weight.mul_(0.05)
        elif isinstance(module, autoencoder_kl_wan.WanAttentionBlock):
            module.proj.weight.mul_(0.05)
    # The second half of the encoder's output is the log variance: fixed, so that sampling stays near the mean.
    vae.quant_conv.weight[Z_DIM:] = 0.0
    vae.quant_conv.bias[Z_DIM:] = -6.0


def build_text_encoder(vocabulary: int) -> Any:
    """A two-layer UMT5 encoder."""
    build: Any = UMT5Config
    config = build(
        vocab_size=vocabulary,
        d_model=TEXT_DIM,
        d_kv=24,
        d_ff=192,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        tie_word_embeddings=True,
    )
    return UMT5EncoderModel(config)


def build_transformer(heads: int = 4, head_dim: int = 36, layers: int = 5) -> Any:
    """A small Wan transformer with per-token timesteps."""
    width = heads * head_dim
    build: Any = WanTransformer3DModel
    return build(
        patch_size=(1, 2, 2),
        num_attention_heads=heads,
        attention_head_dim=head_dim,
        in_channels=Z_DIM,
        out_channels=Z_DIM,
        text_dim=TEXT_DIM,
        freq_dim=128,
        ffn_dim=width * 3,
        num_layers=layers,
        cross_attn_norm=True,
        rope_max_seq_len=64,
    )


def build_scheduler() -> Any:
    """The scheduler Wan ships with."""
    build: Any = UniPCMultistepScheduler
    return build(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        num_train_timesteps=1000,
        flow_shift=FLOW_SHIFT,
    )


def _full_resample(self: Any, x: torch.Tensor, feat_cache: Any = None, feat_idx: Any = None) -> torch.Tensor:
    """WanResample over a whole clip at once: the same numbers as frame chunks with a cache."""
    b, c, t, h, w = x.shape
    if self.mode == "upsample3d" and t > 1:
        y = self.time_conv(x[:, :, 1:]).reshape(b, 2, c, t - 1, h, w)
        y = torch.stack((y[:, 0], y[:, 1]), 3).reshape(b, c, 2 * (t - 1), h, w)
        x = torch.cat([x[:, :, :1], y], 2)
        t = x.shape[2]
    x = x.permute(0, 2, 1, 3, 4).reshape(b * t, c, h, w)
    x = self.resample(x)
    x = x.view(b, t, x.size(1), x.size(2), x.size(3)).permute(0, 2, 1, 3, 4)
    if self.mode == "downsample3d" and t > 1:
        x = torch.cat([x[:, :, :1], self.time_conv(x)], 2)
    return x


def _frame_conv(self: Any, x: torch.Tensor, cache_x: Any = None) -> torch.Tensor:
    """WanCausalConv3d that leaves out the kernel's past when there is only one frame."""
    if x.shape[2] > 1 or self.kernel_size[0] == 1:
        out: torch.Tensor = autoencoder_kl_wan.WanCausalConv3d.forward(self, x)
        return out
    padding = (self._padding[2], self._padding[0])
    flat = nn.functional.conv2d(x[:, :, 0], self.weight[:, :, -1], self.bias, padding=padding)
    return flat[:, :, None]


class FullClipVAE(nn.Module):
    """Encodes and decodes whole clips without the frame cache; its own resampling, the same weights."""

    def __init__(self, vae: Any) -> None:
        """Give this VAE's resampling layers the whole-clip form."""
        super().__init__()
        self.vae = vae
        module: Any
        for module in vae.modules():
            if isinstance(module, autoencoder_kl_wan.WanResample):
                setattr(module, "forward", functools.partial(_full_resample, module))  # noqa: B010
            elif isinstance(module, autoencoder_kl_wan.WanCausalConv3d):
                setattr(module, "forward", functools.partial(_frame_conv, module))  # noqa: B010

    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        """Latent means [b, z, t, h, w] of clips in -1..1."""
        patchify: Any = autoencoder_kl_wan.patchify
        patches = patchify(clips, self.vae.config.patch_size)
        out: torch.Tensor = self.vae.quant_conv(self.vae.encoder(patches))[:, :Z_DIM]
        return out

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Clips, not clamped, of latents."""
        out = self.vae.decoder(self.vae.post_quant_conv(latents), first_chunk=True)
        unpatchify: Any = autoencoder_kl_wan.unpatchify
        clips: torch.Tensor = unpatchify(out, self.vae.config.patch_size)
        return clips


@dataclass
class Clock:
    """A stage's time budget: progress runs with wall time, so that a busy machine shortens no schedule."""

    budget: float
    spent: float = 0.0
    started: float = 0.0

    def start(self) -> None:
        """Begin, or go on after a resume."""
        self.started = time.monotonic() - self.spent

    @property
    def elapsed(self) -> float:
        """Seconds used so far."""
        return time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """0 at the start, 1 when the budget is used up."""
        return min(1.0, self.elapsed / self.budget)


def export(
    target: Path,
    vae: Any,
    text_encoder: Any,
    tokenizer: Any,
    transformer: Any,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the diffusers directory, weights stored in half precision; pipelines load it in float32."""
    build: Any = WanPipeline
    pipe = build(
        tokenizer=tokenizer,
        text_encoder=text_encoder.to(dtype),
        vae=vae.to(dtype),
        scheduler=build_scheduler(),
        transformer=transformer.to(dtype),
        expand_timesteps=True,
    )
    pipe.save_pretrained(target, safe_serialization=True)
    # transformers would compute in the stored type; the model is meant to run in float32.
    config = target / "text_encoder" / "config.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"float16"', '"float32"'), encoding="utf-8")
    for path in target.rglob("*.safetensors"):
        path.chmod(0o644)
