"""The process that measures: one row of the table per line on standard input, its result on standard output.

On a card each row gets a process of its own, so that every peak is its own and nothing is left on the card.
"""

import importlib
import json
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline

from benchmarks.gpu.configs import MODELS, Model
from benchmarks.gpu.jobs import Job
from benchmarks.gpu.tiny_configs import TINY
from benchmarks.gpu.weights import NoRoom, directory
from local_models._clock import PhaseClock
from local_models._failures import describe
from local_models._forecast import Clip, Forecaster
from local_models._memory import CONTEXT_GB, DeviceFacts, LoadPlan, plans
from local_models._messages import Done, Failed, Load, Loaded, LoadFailed, Render, Run, Step
from local_models._weights import inspect
from local_models._worker import Worker
from router.catalog import Catalog

ALIVE_S = 5.0
"""How often it is looked whether the worker still lives; it is told of everything else."""
_GB = 1e9

# diffusers is typed in part only.
_Pipeline: Any = DiffusionPipeline


def measure(job: Job) -> dict[str, Any]:
    """One row. `outcome` is `done`, `out of memory`, `failed`, `no room on the disk` or `needs a card`; the rest as far
    as it got."""
    started = time.monotonic()
    try:
        folder = directory(_model(job), Path(job.cache))
    except NoRoom as error:
        return {"outcome": "no room on the disk", "why": str(error)}
    built_s = round(time.monotonic() - started, 1)
    if job.way == "offload" and job.tiny:
        return {"outcome": "needs a card", "why": "model offload is for accelerators", "build_s": built_s}
    cap(job)
    found = _ours(job, folder) if job.way == "ours" else _diffusers(job, folder)
    return {**found, "build_s": built_s, **peaks(job)}


def _model(job: Job) -> Model:
    return next(model for model in (TINY if job.tiny else MODELS) if model.card == job.card)


def _allowed(job: Job) -> float:
    """Bytes that the allocator may take: the context is in this process, but not in its count."""
    return (job.card_gb - CONTEXT_GB) * _GB


def cap(job: Job) -> None:
    """Let the allocator of this process have no more than such a card has. Without effect on the CPU."""
    if job.device != "cuda":
        return
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, _allowed(job) / whole))


def peaks(job: Job) -> dict[str, Any]:
    """Since loading was over, with the context, as on a card of its own; `cap_held`: the allocator kept to its share."""
    if job.device != "cuda":
        return {}
    reserved = torch.cuda.max_memory_reserved()
    return {
        "allocated_gb": round(torch.cuda.max_memory_allocated() / _GB + CONTEXT_GB, 2),
        "reserved_gb": round(reserved / _GB + CONTEXT_GB, 2),
        "cap_held": reserved <= _allowed(job),
    }


# -- our way: the worker of the model process, told that the card has so much


def _ours(job: Job, folder: Path) -> dict[str, Any]:
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    worker = Worker(told.put, lambda _: _facts(job))
    thread = threading.Thread(target=worker.serve, daemon=True)
    thread.start()
    plan = planned(job, folder, _facts(job))
    size = {name: job.render[name] for name in ("width", "height", "frames")}
    first = {"planned": plan.word, "planned_peak_gb": plan.peak_gb, **size}
    worker.accept(Load(job.card, directory=str(folder), device=job.device, **job.load))
    loaded, _ = _wait(told, thread, Loaded, LoadFailed)
    if isinstance(loaded, LoadFailed):
        return {**_failed(loaded.kind == "oom", loaded.en, "load"), **first}
    with tempfile.TemporaryDirectory() as scratch:
        out = str(Path(scratch) / "clip.mp4")
        worker.accept(Run("row", out, Render(**job.render), job.card))
        said, phase = _wait(told, thread, Done, Failed)
    if isinstance(said, Failed):
        return {**_failed(said.kind == "oom", said.en, phase), **first}
    measured = said.details["measured"]
    size = {name: said.details[name] for name in ("width", "height", "frames")}
    times = {name: measured[name] for name in ("encode_s", "steps_s", "decode_s", "plan")}
    return {
        "outcome": "done",
        **times,
        **first,
        **size,
        "load_s": loaded.seconds,
        "fell_back": measured["plan"] != plan.word or "tile_cuts" in measured,
        "predicted_gb": predicted(job, folder, measured["plan"], _facts(job)),
    }


def _wait(told: queue.SimpleQueue[Any], thread: threading.Thread, *ends: type[Any]) -> tuple[Any, str]:
    """The first message of these kinds, and the phase that was told last. Raises RuntimeError when none can come."""
    phase = "encode"
    while True:
        try:
            said = told.get(timeout=ALIVE_S)
        except queue.Empty:
            if not thread.is_alive():
                raise RuntimeError("the worker ended without an answer") from None
            continue
        if isinstance(said, ends):
            return said, phase
        if isinstance(said, Step):
            phase = said.phase


def planned(job: Job, folder: Path, device: DeviceFacts) -> LoadPlan:
    """The plan that the worker begins with, before memory may have run out."""
    size = (job.load["width"], job.load["height"], job.load["frames"])
    numbers = importlib.import_module(job.load["pipeline"]).numbers(inspect(folder), *size)
    return plans(replace(numbers, steps=job.load["steps"], passes=job.load["passes"]), device)[0]


def _facts(job: Job) -> DeviceFacts:
    if job.device == "cpu":
        return DeviceFacts("cpu")
    major, minor = torch.cuda.get_device_capability(0)
    name = torch.cuda.get_device_name(0)
    return DeviceFacts("cuda", float(job.card_gb), name=name, capability=major + minor / 10)


def predicted(job: Job, folder: Path, plan: str, device: DeviceFacts) -> float | None:
    """Peak of that plan as `understudy models calibrate` reckons it, uncorrected; None on the CPU."""
    card = Catalog.load().cards[job.card]
    clip = Clip(
        width=job.render["width"],
        height=job.render["height"],
        frames=job.render["frames"],
        fps=job.render["fps"],
        steps=job.render["steps"],
        passes=job.passes,
    )
    return Forecaster({card.id: card}, lambda _: folder, "auto", None).predicted_peak(
        card, clip, plan, device
    )


def _failed(out_of_memory: bool, why: str, phase: str) -> dict[str, Any]:
    return {"outcome": "out of memory" if out_of_memory else "failed", "phase": phase, "why": why}


# -- diffusers, as its documentation begins


def _diffusers(job: Job, folder: Path) -> dict[str, Any]:
    phases = _Phases(job.device)
    try:
        started = time.monotonic()
        dtype = torch.float32 if job.device == "cpu" else torch.bfloat16
        pipeline = _Pipeline.from_pretrained(folder, dtype=dtype, local_files_only=True)
        if job.way == "offload":
            pipeline.enable_model_cpu_offload()
        else:
            pipeline.to(job.device)
        load_s = round(time.monotonic() - started, 3)
        if job.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        _generate(pipeline, Render(**job.render), phases)
    except Exception as error:
        kind, text = describe(error)
        return _failed(kind == "oom", text.en, phases.now)
    size = {name: job.render[name] for name in ("width", "height", "frames")}
    plan = "enable_model_cpu_offload" if job.way == "offload" else "all resident"
    return {"outcome": "done", **phases.clock.facts(), **size, "load_s": load_s, "plan": plan}


def _generate(pipeline: Any, render: Render, phases: "_Phases") -> None:
    """With what the class takes of the clip's numbers; results as arrays, its cheapest form."""
    if hasattr(pipeline, "guider"):
        pipeline.guider = pipeline.guider.new(guidance_scale=max(1.0, render.guidance))
        pipeline.tokenizer_max_length = render.max_sequence_length
    pipeline.progress_bar = phases.bar
    wanted = {
        "prompt": render.prompt,
        "negative_prompt": render.negative_prompt if render.guidance > 1 else None,
        "width": render.width,
        "height": render.height,
        "num_frames": render.frames,
        "num_inference_steps": render.steps,
        "guidance_scale": render.guidance,
        # LTX-2's defaults would run its transformer three more times per step, which our recipe does not.
        "audio_guidance_scale": render.guidance,
        "stg_scale": 0.0,
        "audio_stg_scale": 0.0,
        "modality_scale": 1.0,
        "audio_modality_scale": 1.0,
        "max_sequence_length": render.max_sequence_length,
        "generator": torch.Generator("cpu").manual_seed(render.seed),
        "output_type": "np",
    }
    takes = signature(type(pipeline).__call__).parameters
    phases.enter("encode")
    pipeline(**{name: value for name, value in wanted.items() if name in takes})
    phases.enter("write")


class _Phases:
    """Stands in for the progress bar, and so sees when the steps begin and end, in every class."""

    def __init__(self, device: str) -> None:
        self.clock = PhaseClock()
        self.now = "load"
        self._cuda, self._done = device == "cuda", 0

    def enter(self, phase: Any, done: int = 0) -> None:
        """A phase begins, or has done so much, once the card is through."""
        if self._cuda:
            torch.cuda.synchronize()
        self.now = phase
        self.clock.seen(phase, done)

    def bar(self, *_: Any, **__: Any) -> Self:
        """What `with self.progress_bar(total=...)` enters."""
        return self

    def __enter__(self) -> Self:
        self.enter("denoise")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.enter("decode")

    def update(self, count: int = 1) -> None:
        """`count` more steps are done."""
        self._done += count
        self.enter("denoise", self._done)


def serve(lines: Any, answer: Callable[[str], None]) -> None:
    """Measure what is asked until the input ends."""
    torch.set_flush_denormal(True)
    for line in lines:
        try:
            result = measure(Job(**json.loads(line)))
        except Exception as error:
            kind, text = describe(error)
            result = _failed(kind == "oom", text.en, "load")
        answer(json.dumps(result))


def main() -> None:
    """Results on the real standard output; what libraries print goes to the log."""
    results = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, lambda text: print(text, file=results, flush=True))
    # Threads of the workers wait for ever.
    os._exit(0)


if __name__ == "__main__":
    main()
