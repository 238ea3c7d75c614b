"""What is tried when memory runs out, and in which order: pure, but for the numbers that it sets in a VAE."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from local_models._messages import Phase
from local_models._numbers import LoadPlan

LEAST_TILE = 96
"""Pixels: below that the seams cost more than the tile saves."""
TILE_CUTS = 2


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
    for kind in ("sample_min", "sample_stride", "latent_min"):
        for axis in ("height", "width"):
            name = f"tile_{kind}_{axis}"
            if hasattr(vae, name):
                setattr(vae, name, getattr(vae, name) // 2)
    return True
