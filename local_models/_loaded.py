"""The model that is on the device, and the way down when memory runs out. Lives in the model process only."""

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from local_models._accelerator import cap_memory, cores, device_of, give_back, inference_mode, use_threads
from local_models._clip import Finish
from local_models._failures import out_of_memory
from local_models._ladder import TILE_CUTS, below, cut_tiles, ladder
from local_models._memory import HEADROOM, beside_gb, plans
from local_models._messages import Load, Phase
from local_models._numbers import DeviceFacts, LoadPlan
from local_models._weights import inspect

THREADS_FROM = 50_000_000
"""Multiplications of one layer from which more than one thread is worth its waiting. The shipped model (4 million) makes
ten clips in 2.9 s with one thread and in 5.2 s with two (two busy cores, 2026-11-26)."""


class LoadedModel:
    """One model. After `put` its pipe is on the device; `step_down` makes it smaller."""

    def __init__(
        self, load: Load, facts: Callable[[str], DeviceFacts], stop_if_cancelled: Callable[..., None]
    ) -> None:
        """Reads the folder's small files and plans; `stop_if_cancelled` is called from within every step."""
        self.asked = load
        self.pipe: Any = None
        self.tile_cuts = 0
        self._facts, self._stop = facts, stop_if_cancelled
        self.room_beside = True
        """False once memory ran out with two clips on the device."""
        self._too_large: set[str] = set()
        """Plans that ran out of memory here; not tried again while the model stays."""
        self._threads = 1
        """Of the CPU's arithmetic."""
        self._module: Any = importlib.import_module(load.pipeline)
        self._plans = self._planned(load)

    @property
    def plan(self) -> LoadPlan:
        """The one in use, or to be used."""
        return self._plans[0]

    @property
    def ran_out(self) -> dict[str, Any]:
        """Plans that ran out of memory here, and how much they had; empty where none did. A plan whose tiles were cut since
        did so as it was planned."""
        words = self._too_large | ({self.plan.word} if self.tile_cuts else set())
        return {"ran_out": sorted(words), "free_gb": self._free_gb} if words else {}

    @property
    def device(self) -> str:
        """As torch calls it."""
        return device_of(self.asked.device)

    def same_weights(self, load: Load) -> bool:
        """Whether this load differs in the size of its clips at most."""
        mine = (self.asked.model, self.asked.pipeline, self.asked.directory, self.asked.device)
        return mine == (load.model, load.pipeline, load.directory, load.device)

    @property
    def decodes_beside(self) -> bool:
        """Whether one clip can be decoded while the next one is denoised: memory, and on the CPU a core, must be there."""
        if not self.room_beside:
            return False
        if self.device == "cpu":
            return self._threads < cores()
        needed = beside_gb(self._numbers, self.plan)
        return needed is not None and needed <= self._free_gb * HEADROOM

    def begin(self, *given: Any) -> Finish:
        """The family's own `begin`."""
        finish: Finish = self.run(lambda: self._module.begin(self.pipe, *given))
        return finish

    def run(self, work: Callable[[], Any]) -> Any:
        """Of this model, in any thread.

        On the CPU without torch's book-keeping for gradients: 5 % of a tiny clip. On a card offloading moves weights about
        within a run, which that mode forbids.
        """
        with inference_mode() if self.device == "cpu" else nullcontext():
            return work()

    def put(self) -> None:
        """Onto the device, by the first plan that it has room for. Raises what the last one raised."""
        while True:
            try:
                self.pipe = self._module.load(Path(self.asked.directory), self.plan, self.device)
                break
            except Exception as error:
                rest = self._plans[1:]
                if not rest or not out_of_memory(error):
                    raise
            # Here the exception is gone, and with it the tensors that its traceback held.
            self._leave(rest)
        # Loads torch, as the family's module has done.
        from local_models._sketch import colours_of

        self.pipe.colours = self.run(lambda: colours_of(self.pipe))
        for _ in range(self.tile_cuts):
            cut_tiles(self.pipe.vae)
        for module in self.pipe.stop_points():
            module.register_forward_pre_hook(self._stop)

    def grow(self, load: Load) -> None:
        """Plan for larger clips; load again only where that asks for another plan. Raises as `put`."""
        found = self._planned(load)
        # What ran out of memory for a smaller clip is not tried again, nor what lies above it.
        tried = [index for index, plan in enumerate(found) if plan.word in self._too_large]
        left = found[max(tried, default=-1) + 1 :] or found[-1:]
        stays = self.pipe is not None and left[0].word == self.plan.word
        self.asked, self._plans = load, left
        if not stays:
            self.drop()
            self.put()

    def cut_tiles(self) -> bool:
        """Decode in smaller tiles from now on; False where they are small enough already."""
        if self.tile_cuts >= TILE_CUTS or not cut_tiles(self.pipe.vae):
            return False
        self.tile_cuts += 1
        return True

    def step_down(self, phase: Phase) -> bool:
        """Memory ran out in this phase: a smaller plan; False at the end.

        Nothing may hold on to the pipe. Raises as `put` where the smaller plan cannot be loaded.
        """
        rest = below(self._plans, phase)
        if not rest:
            return False
        self._leave(rest)
        self.put()
        return True

    def drop(self) -> None:
        """Off the device."""
        self.pipe = None
        give_back()

    def _leave(self, rest: tuple[LoadPlan, ...]) -> None:
        self._too_large.add(self.plan.word)
        self._plans = rest
        self.drop()

    def _planned(self, load: Load) -> tuple[LoadPlan, ...]:
        numbers = self._module.numbers(inspect(Path(load.directory)), load.width, load.height, load.frames)
        numbers = replace(numbers, steps=load.steps, passes=load.passes, peak_factor=load.peak_factor)
        facts = self._facts(load.device)
        if facts.kind == "cpu":
            # The clip before is finished meanwhile, on a core of its own where one is free.
            self._threads = cores() if numbers.tokens * numbers.dim * numbers.ffn >= THREADS_FROM else 1
            use_threads(self._threads)
        if load.memory_gb is not None:
            cap_memory(device_of(load.device), load.memory_gb)
            facts = replace(facts, free_gb=min(facts.free_gb, load.memory_gb))
        self._numbers, self._free_gb = numbers, facts.free_gb
        return ladder(plans(numbers, facts), text=numbers.text_b > 0)
