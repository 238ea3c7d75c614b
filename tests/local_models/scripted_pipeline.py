"""A pipeline whose prompt says what happens: the double that stands in for a model in the real model process."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from local_models._clip import Clip
from local_models._memory import LoadPlan, ModelNumbers
from local_models._messages import Render
from local_models._weights import Weights


@dataclass
class Pipe:
    """Remembers its plan."""

    plan: LoadPlan

    def stop_points(self) -> Iterator[Any]:
        return iter(())

    def settle(self) -> None:
        """Nothing was moved."""


def numbers(weights: Weights, width: int, height: int, frames: int) -> ModelNumbers:
    return ModelNumbers(1.4, 1, 5.7, 0.1, 0, 1536, 8960, 32760, False, 96, 832 * 480, 81)


def load(directory: Path, plan: LoadPlan, device: str) -> Pipe:
    return Pipe(plan)


def generate(pipe: Pipe, request: Render, on_step: Callable[[Any, int, int], None]) -> Clip:
    on_step("denoise", 1, 2)
    match request.prompt:
        case "out of memory":
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
            )
        case "needs fp8" if not pipe.plan.layerwise_fp8:
            raise MemoryError
        case "fault":
            raise KeyError("/secret/machine/path/file.bin")
        case "die":
            os._exit(3)
        case "spin":
            while time.time():
                pass
    return Clip(np.full((1, 32, 32, 3), 128, np.uint8), request.fps, 32, 32, prompt_cut=False)
