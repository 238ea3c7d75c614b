"""What is tried when memory runs out, and in which order: pure, but for the numbers that it sets in a VAE."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from local_models._messages import Phase
from local_models._numbers import LEAST_TILE, TILE_CUTS, LoadPlan

__all__ = ["LEAST_TILE", "TILE_CUTS", "below", "cut_tiles", "ladder"]


def ladder(planned: Sequence[LoadPlan], *, text: bool) -> tuple[LoadPlan, ...]:
    """The planner's plans, and behind them the smallest one with its prompts read on the CPU.

    `text`: the model has a text encoder that a plan may move.
    """
    last = planned[-1]
    moves = text and last.peak_gb > 0 and not last.text_on_cpu
    return (*planned, replace(last, text_on_cpu=True, text_streamed=False)) if moves else tuple(planned)


def below(plans: Sequence[LoadPlan], phase: Phase) -> tuple[LoadPlan, ...]:
    """The rungs under the first plan that could help where memory ran out; empty when there is none.

    A prompt that did not fit is not helped by a plan that reads it in the same place.
    """
    rest = tuple(plans[1:])
    if phase != "encode":
        return rest
    return tuple(plan for plan in rest if plan.text_place != plans[0].text_place)


def cut_tiles(vae: Any) -> bool:
    """Have the VAE decode in tiles of half the side; False where they are small enough already.

    diffusers' VAEs keep size and stride in pixels, in latents, or both; all of them are halved together.
    """
    if not vae.use_tiling:
        vae.enable_tiling()
        return True
    sides = [vae.tile_sample_min_height, vae.tile_sample_min_width]
    if min(sides) // 2 < LEAST_TILE:
        return False
    for axis in ("height", "width"):
        latents = getattr(vae, f"tile_latent_min_{axis}", 0)
        whole = getattr(vae, f"tile_sample_min_{axis}") // latents if latents else 0
        for kind in ("sample_min", "sample_stride", "latent_min"):
            name = f"tile_{kind}_{axis}"
            if hasattr(vae, name):
                setattr(vae, name, getattr(vae, name) // 2)
        if hasattr(vae, f"tile_overlap_factor_{axis}"):
            _overlap_whole_latents(vae, axis, whole)
    return True


def _overlap_whole_latents(vae: Any, axis: str, pixels: int) -> None:
    """CogVideoX keeps a share of the tile for each side: it must be whole latents in pixels too (`pixels` per latent), or
    the tiles are joined at the wrong places and the picture grows."""
    latents = getattr(vae, f"tile_latent_min_{axis}")
    setattr(vae, f"tile_sample_min_{axis}", latents * pixels)
    usual = ceil(latents * getattr(vae, f"tile_overlap_factor_{axis}"))
    shares = ((count, count / latents) for count in range(usual, latents))
    # The library cuts fractions off, and 17 of 22 may come out as 16.999...
    fitting = (
        share
        for count, share in shares
        if int(latents * (1 - share)) == latents - count and int(latents * pixels * share) == count * pixels
    )
    setattr(vae, f"tile_overlap_factor_{axis}", next(fitting))
