"""A pipeline whose prompt says what happens: the double that stands in for a model in the real model process.

A file `too-large` in the weights' folder names the word that a plan must have for the model to be loadable.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from local_models._clip import Clip, Finish
from local_models._memory import LoadPlan, ModelNumbers
from local_models._messages import Render
from local_models._weights import Weights

NEVER = "never"
"""In `too-large`: no plan is small enough."""
PATIENCE_S = 60
released = threading.Event()
"""Set by the prompt `release`; the file of `held` and the frames of `latents held` wait for it."""


@dataclass
class Vae:
    """The numbers that tiles are cut by, as diffusers' VAEs have them."""

    use_tiling: bool = True
    tile_sample_min_height: int = 256
    tile_sample_min_width: int = 256
    tile_sample_stride_height: int = 192
    tile_sample_stride_width: int = 192


@dataclass
class Prompts:
    """Remembers what was read together."""

    visits: list[list[str]] = field(default_factory=list)

    def fill(self, texts: Iterable[str], length: int, ahead: Iterable[str] = ()) -> None:
        self.visits.append([*texts, *ahead])


@dataclass
class Pipe:
    """Remembers its plan."""

    plan: LoadPlan
    vae: Vae = field(default_factory=Vae)
    prompts: Prompts = field(default_factory=Prompts)

    def stop_points(self) -> Iterator[Any]:
        return iter(())

    def settle(self) -> None:
        """Nothing was moved."""


class Frames(np.ndarray[Any, Any]):
    """Frames that say themselves when the next one is to be written."""

    def __iter__(self) -> Iterator[Any]:
        if not released.wait(PATIENCE_S):
            raise TimeoutError("nobody released the frames")
        return iter(np.asarray(self))


class Endless(np.ndarray[Any, Any]):
    """Frames without end."""

    def __iter__(self) -> Iterator[Any]:
        return itertools.cycle(np.asarray(self))


def numbers(weights: Weights, width: int, height: int, frames: int) -> ModelNumbers:
    tokens = 32760 * width * height * frames // (832 * 480 * 81)
    return ModelNumbers(1.4, 1, 5.7, 0.1, 0, 1536, 8960, tokens, False, 96, width * height, frames)


def load(directory: Path, plan: LoadPlan, device: str) -> Pipe:
    mark = directory / "too-large"
    if mark.exists() and mark.read_text(encoding="utf-8") not in plan.word:
        raise MemoryError
    return Pipe(plan)


def begin(pipe: Pipe, request: Render, on_step: Callable[[Any, int, int], None]) -> Finish:
    on_step("encode", 0, 1)
    if request.prompt == "needs text on the CPU" and not pipe.plan.text_on_cpu:
        raise MemoryError
    on_step("denoise", 1, 2)
    _denoise(pipe, request.prompt, on_step)
    return partial(_finish, pipe, request)


def _finish(pipe: Pipe, request: Render, on_step: Callable[[Any, int, int], None]) -> Clip:
    on_step("decode", 0, 1)
    _decode(pipe, request.prompt)
    while request.prompt == "decodes until released" and not released.is_set():
        on_step("decode", 0, 1)
    kind = {"held": Frames, "endless": Endless}.get(request.prompt, np.ndarray)
    frames = np.full((1, 32, 32, 3), 128, np.uint8).view(kind)
    return Clip(frames, request.fps, 32, 32, prompt_cut=False)


def _decode(pipe: Pipe, prompt: str) -> None:
    match prompt:
        case "no room to decode":
            raise MemoryError
        case "needs small tiles" if pipe.vae.tile_sample_min_height > 128:
            raise MemoryError
        case "no room beside" if threading.current_thread().name == "finisher":
            raise MemoryError
        case "latents held":
            if not released.wait(PATIENCE_S):
                raise TimeoutError("nobody released the latents")


_FAULTS: dict[str, Exception] = {
    "out of memory": RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    "fault": KeyError("/secret/machine/path/file.bin"),
    "driver": RuntimeError("CUDA error: an illegal memory access was encountered"),
}


def _denoise(pipe: Pipe, prompt: str, on_step: Callable[[Any, int, int], None]) -> None:
    if (fault := _FAULTS.get(prompt)) is not None:
        raise fault
    match prompt:
        case "needs fp8" if not pipe.plan.layerwise_fp8:
            raise MemoryError
        case "no room beside a decoding" if any(t.name == "finisher" for t in threading.enumerate()):
            released.set()
            raise MemoryError
        case "die":
            os._exit(3)
        case "spin":
            while time.time():
                pass
        case "steps":
            while True:
                on_step("denoise", 1, 2)
        case "steps until released":
            while not released.is_set():
                on_step("denoise", 1, 2)
        case "release":
            released.set()
