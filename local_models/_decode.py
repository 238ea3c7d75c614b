"""Latents to frames: the VAE's own decode, tile by tile where it tiles, with progress and without a second copy."""

from collections.abc import Callable
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from local_models._clip import OnStep


def tiles(vae: Any, height: int, width: int) -> int:
    """How many tiles the VAE cuts latents of this size into; 1 where it decodes them whole.

    The libraries name the same two numbers in two ways: tile and stride in pixels, or tile in latents and overlap.
    """
    if not vae.use_tiling:
        return 1
    if hasattr(vae, "tile_sample_stride_height"):
        factor = int(vae.spatial_compression_ratio)
        least = (vae.tile_sample_min_height // factor, vae.tile_sample_min_width // factor)
        stride = (vae.tile_sample_stride_height // factor, vae.tile_sample_stride_width // factor)
    else:
        least = (vae.tile_latent_min_height, vae.tile_latent_min_width)
        both = getattr(vae, "tile_overlap_factor", None)
        overlap = (
            both if both is not None else vae.tile_overlap_factor_height,
            both if both is not None else vae.tile_overlap_factor_width,
        )
        stride = (int(least[0] * (1 - overlap[0])), int(least[1] * (1 - overlap[1])))
    if height <= least[0] and width <= least[1]:
        return 1
    return int(ceil(height / stride[0]) * ceil(width / stride[1]))


def decode(vae: Any, run: Callable[[], torch.Tensor], calls: int, on_step: OnStep) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) of `run()`, a video [1, 3, T, H, W] in -1..1.

    `calls`: how often the VAE calls its decoder for this clip, the unit of the progress.
    """
    done = 0
    on_step("decode", 0, calls)

    def after_call(*_: Any) -> None:
        nonlocal done
        # The last unit is told below, when the tiles are joined and the frames are ready.
        done = min(done + 1, calls - 1)
        on_step("decode", done, calls)

    counter = vae.decoder.register_forward_hook(after_call)
    try:
        video = run()[0]
    finally:
        counter.remove()
    pictures = frames_of(video)
    on_step("decode", calls, calls)
    return pictures


def frames_of(video: torch.Tensor) -> NDArray[np.uint8]:
    """[3, T, H, W] in -1..1 to (T, H, W, 3); frame by frame, as a whole clip in fp32 would need its room twice."""
    _, count, height, width = video.shape
    pictures = np.empty((count, height, width, 3), np.uint8)
    for index in range(count):
        bytes_ = (video[:, index].float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        pictures[index] = bytes_.permute(1, 2, 0).cpu().numpy()
    return pictures
