"""Tokens of the LTX families back to latents."""

import math
from typing import Any, Literal

import torch


def unpacked(
    pipeline: Any,
    packed: torch.Tensor,
    frames: int,
    height: int,
    width: int,
    *,
    given: Literal["before", "behind"],
) -> torch.Tensor:
    """[1, C, T, h, w] of the tokens [1, N, C] of a clip of that size in pixels.

    `given`: where the tokens of given images stand, which are left out.
    """
    temporal, spatial = (
        int(pipeline.vae_temporal_compression_ratio),
        int(pipeline.vae_spatial_compression_ratio),
    )
    shape = ((frames - 1) // temporal + 1, height // spatial, width // spatial)
    patches = (pipeline.transformer_spatial_patch_size, pipeline.transformer_temporal_patch_size)
    count = math.prod(shape)
    own = packed[:, -count:] if given == "before" else packed[:, :count]
    latents: torch.Tensor = pipeline._unpack_latents(own, *shape, *patches)
    return latents
