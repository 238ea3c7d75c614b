"""A small picture of a clip while it is being denoised: latents to colours by one matrix, fitted to the VAE at load.

No table of published factors is needed, nor a family that somebody has measured: the VAE encodes a few simple pictures,
and least squares tells how their colours follow from the latents. A VAE whose latents do not tell gets no matrix.
"""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from local_models._pipe import Pipe

SIDE = 8
"""Latents per side of a picture that is fitted to."""
LEAST_PICTURES = 8
SAMPLES_PER_CHANNEL = 8
EXPLAINED = 0.5
"""Share of the variance of pictures not fitted to; a matrix that explains less shows nothing worth looking at."""
RIDGE = 1e-3
EVERY_S = 0.5
COST = 100
"""The next picture waits for so many times what the last one took: less than a hundredth of the steps' time."""

_TEMPORAL = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio", "vae_temporal_scale_factor")
_SPATIAL = ("vae_scale_factor_spatial", "vae_spatial_compression_ratio", "vae_spatial_scale_factor")

Middle = Callable[[torch.Tensor], torch.Tensor]
"""The scheduler's latents, in the pipeline's own shape, to those of the frame in the middle, [1, C, 1, h, w]."""
Plain = Callable[[torch.Tensor], torch.Tensor]
"""Latents [1, C, 1, h, w] as the scheduler has them to what the VAE decodes."""
Level = tuple[float, float]
"""How much of the clip and how much of the noise is in the latents."""
Show = Callable[[NDArray[np.uint8]], None]
"""Takes a picture (h, w, 3); must not wait."""


@dataclass(frozen=True)
class Colours:
    """RGB in -1..1 = latents x `weights` + `offset`."""

    weights: torch.Tensor
    """[C, 3], on the device."""
    offset: torch.Tensor
    explained: float
    """Of the variance of pictures that were not fitted to, 1 at most."""

    def picture(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        """(h, w, 3) of latents [1, C, 1, h, w] as the VAE decodes them."""
        rgb = torch.einsum("chw,cr->hwr", latents[0, :, 0].float(), self.weights) + self.offset
        bytes_ = (rgb * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        picture: NDArray[np.uint8] = bytes_.cpu().numpy()
        return picture


def colours_of(pipe: "Pipe") -> Colours | None:
    """Fitted to the pipe's VAE; None where that cannot be had. Takes less memory than decoding; raises nothing."""
    try:
        with torch.no_grad():
            found = _fitted(pipe)
    except Exception as error:
        # A picture on the way is not worth a model that does not load.
        traceback.print_exception(error)
        return None
    finally:
        pipe.settle()
    return found if found is not None and found.explained >= EXPLAINED else None


def fit(latents: NDArray[np.float64], rgb: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Least squares of `rgb` (N, 3) on `latents` (N, C): (C + 1, 3), the offset last, and what it explains.

    The first three quarters are fitted to, the last one says how well.
    """
    known = np.hstack([latents, np.ones((len(latents), 1))])
    part = len(known) * 3 // 4
    scale = RIDGE * np.mean(latents[:part].var(axis=0))
    pull = np.diag([part * scale] * latents.shape[1] + [0.0])
    found = np.linalg.solve(known[:part].T @ known[:part] + pull, known[:part].T @ rgb[:part])
    missed = rgb[part:] - known[part:] @ found
    spread = rgb[part:] - rgb[part:].mean(axis=0)
    return found, float(1 - (missed**2).sum() / (spread**2).sum())


def pictures(count: int, side: int) -> NDArray[np.float32]:
    """(count, 3, side, side) in -1..1: colour gradients with discs and boxes on them, the same ones every time."""
    random = np.random.default_rng(7)
    down, across = np.mgrid[0:side, 0:side] / (side - 1)
    made = np.empty((count, 3, side, side), np.float32)
    for picture in made:
        corners = random.uniform(-1, 1, (4, 3, 1, 1))
        top = corners[0] * (1 - across) + corners[1] * across
        bottom = corners[2] * (1 - across) + corners[3] * across
        picture[:] = top * (1 - down) + bottom * down
        for _ in range(6):
            y, x, reach = random.random(), random.random(), random.uniform(0.08, 0.3)
            away = (np.abs(down - y), np.abs(across - x))
            inside = np.hypot(*away) < reach if random.random() < 0.5 else np.maximum(*away) < reach
            picture[:, inside] = random.uniform(-1, 1, (3, 1))
    return made


class Sketch:
    """Watches the latents of one job, and shows what they stand for now and then."""

    def __init__(self, pipe: "Pipe", scheduler: Any, middle: Middle, plain: Plain) -> None:
        """`scheduler`: the one that makes the steps; its levels are read as they are needed."""
        self._colours, self._show = pipe.colours, pipe.show
        self._scheduler, self._middle, self._plain = scheduler, middle, plain
        self._before: torch.Tensor | None = None
        self._due = time.monotonic() + EVERY_S

    def seen(self, index: int, latents: torch.Tensor) -> None:
        """Step `index`, from 0, has left these latents."""
        if self._colours is None or self._show is None:
            return
        before, self._before = self._before, self._middle(latents).clone()
        began = time.monotonic()
        if before is None or began < self._due:
            return
        pair = levels(self._scheduler, index)
        if pair is not None:
            self._show(self._colours.picture(self._plain(clean(before, self._before, *pair))))
        now = time.monotonic()
        self._due = now + max(EVERY_S, COST * (now - began))


def middle_frame(latents: torch.Tensor) -> torch.Tensor:
    """[1, C, 1, h, w] of [1, C, T, h, w]."""
    at = latents.shape[2] // 2
    return latents[:, :, at : at + 1]


def levels(scheduler: Any, index: int) -> tuple[Level, Level] | None:
    """Before and after a step; None for schedulers that add new noise at every step, or that we do not know."""
    config, name = scheduler.config, type(scheduler).__name__
    if name == "FlowMatchEulerDiscreteScheduler" or (
        name == "UniPCMultistepScheduler" and config.get("use_flow_sigmas")
    ):
        pair = [float(scheduler.sigmas[at]) for at in (index, index + 1)]
        first, second = [1 - sigma for sigma in pair] if config.get("invert_sigmas") else pair
        return (1 - first, first), (1 - second, second)
    if name == "CogVideoXDDIMScheduler":
        step = int(scheduler.timesteps[index])
        after = step - config.num_train_timesteps // scheduler.num_inference_steps
        kept = [
            float(scheduler.alphas_cumprod[at]) if at >= 0 else float(scheduler.final_alpha_cumprod)
            for at in (step, after)
        ]
        return (kept[0] ** 0.5, (1 - kept[0]) ** 0.5), (kept[1] ** 0.5, (1 - kept[1]) ** 0.5)
    return None


def clean(before: torch.Tensor, after: torch.Tensor, first: Level, second: Level) -> torch.Tensor:
    """What two states of one path, each clip and noise by its level, say of the clip: the noise is the same in both."""
    (clip, noise), (clip_after, noise_after) = first, second
    share = noise * clip_after - noise_after * clip
    if abs(share) < 1e-6:
        return after
    return (noise * after - noise_after * before) / share


def _fitted(pipe: "Pipe") -> Colours | None:
    vae, pipeline = pipe.vae, pipe.pipeline
    temporal, spatial = (
        next((int(getattr(pipeline, name)) for name in names if hasattr(pipeline, name)), None)
        for names in (_TEMPORAL, _SPATIAL)
    )
    if temporal is None or spatial is None:
        return None
    latents: list[NDArray[np.float64]] = []
    colours: list[NDArray[np.float64]] = []
    count = LEAST_PICTURES
    for picture in pictures(64, SIDE * spatial):
        if len(latents) >= count:
            break
        still = torch.from_numpy(picture).to(pipe.device, vae.dtype)[None, :, None]
        clip = still.expand(-1, -1, 1 + temporal, -1, -1)
        # The last latent frame: the first one of such a VAE stands for a single picture.
        found = vae.encode(clip).latent_dist.mode()[0, :, -1].float().cpu().numpy()
        channels, height, width = found.shape
        count = max(LEAST_PICTURES, SAMPLES_PER_CHANNEL * channels // (height * width))
        blocks = picture.reshape(3, height, picture.shape[1] // height, width, picture.shape[2] // width)
        latents.append(found.reshape(channels, -1).T.astype(np.float64))
        colours.append(blocks.mean(axis=(2, 4)).reshape(3, -1).T.astype(np.float64))
    found, explained = fit(np.vstack(latents), np.vstack(colours))
    tensor = torch.from_numpy(found).to(pipe.device, torch.float32)
    return Colours(tensor[:-1], tensor[-1], explained)
