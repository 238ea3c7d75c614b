"""Twenty jobs of one model: our model process against a plain diffusers loop, on one machine in one run.

Each round carries the same jobs through both, in alternating order. The ratio is the median of the rounds' own ratios: a
machine that gets slower in the course of the run slows both sides of a round. CPU seconds stand beside the wall's, as
other work on the machine touches them less. Loading is left out and shown beside, and once added to both.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bulk.sides import ROOT, Ours, Plain, Took, card_of, renders
from benchmarks.machine import machine
from local_models._device import here
from router.contract.card import ModelCard

RESULTS = ROOT / "benchmarks" / "results"
TI2V = "local/wan2.2-ti2v-5b"
DISTILLED_STEPS = 4
"""As FastWan's weights of the same shape: with 50 steps a round would take hours, and hide what surrounds the steps."""
NO_CUDA = "no CUDA device here"


@dataclass(frozen=True)
class Wanted:
    """What both sides carry, and where."""

    card: ModelCard
    directory: Path
    jobs: int
    rounds: int
    device: str = "cpu"
    steps: int | None = None
    """None: as many as the card says."""
    cap_gb: float | None = None
    """Both sides are held to so much of the card's memory."""


async def compare(wanted: Wanted) -> dict[str, Any]:
    """Seconds of every side per round, and their ratios: above 1 is ours faster, or needs less of the CPU."""
    took: dict[str, list[Took]] = {}
    with tempfile.TemporaryDirectory(prefix="understudy-bulk-") as folder:
        work = renders(wanted.card, wanted.jobs, wanted.steps)
        held = (wanted.device, wanted.cap_gb)
        plain = Plain(wanted.directory, Path(folder), *held)
        sides: dict[str, Ours | Plain] = {
            "ours": Ours(wanted.card, wanted.directory, Path(folder) / "ours", *held),
            "plain": plain,
        }
        if wanted.device == "cpu":
            # The same loop by someone who knows that a model this small is faster with one thread.
            sides["plain_one_thread"] = Plain(wanted.directory, Path(folder), *held, threads=1)
        try:
            for side in sides.values():
                await side.open(work[0])
            for number in range(wanted.rounds):
                order = list(sides) if number % 2 == 0 else list(reversed(sides))
                for name in order:
                    took.setdefault(name, []).append(await sides[name].carry(work))
        finally:
            for side in sides.values():
                await side.close()
    load = {name: side.load_s for name, side in sides.items()}
    wall = {name: [one.wall for one in found] for name, found in took.items()}
    cpu = {name: [one.cpu for one in found] for name, found in took.items()}
    middle = {name: median(found) for name, found in wall.items()}
    whole = {name: [middle[name] + load[name]] for name in sides}
    return {
        "model": wanted.card.id,
        "device": wanted.device,
        "cap_gb": wanted.cap_gb,
        "plain_offload": plain.way,
        "jobs": wanted.jobs,
        "steps": work[0].steps,
        "seconds": _rounded(wall),
        "cpu_seconds": _rounded(cpu),
        "median_s": {name: round(s, 3) for name, s in middle.items()},
        "median_cpu_s": {name: round(median(found), 3) for name, found in cpu.items()},
        "load_s": {name: round(s, 2) for name, s in load.items()},
        "ratio": _ratios(wall),
        "cpu_ratio": _ratios(cpu),
        "ratio_with_load": _ratios(whole),
    }


def _rounded(rounds: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {name: [round(s, 3) for s in found] for name, found in rounds.items()}


def _ratios(rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Each loop's seconds by ours, round by round; the middle one."""
    ours = rounds["ours"]
    return {
        name: round(median(theirs / own for theirs, own in zip(found, ours, strict=True)), 3)
        for name, found in rounds.items()
        if name != "ours"
    }


async def on_a_card(jobs: int, rounds: int, cap_gb: float) -> dict[str, Any] | str:
    """The same with TI2V-5B of random weights, whose speed is that of the real ones; a sentence where that cannot be."""
    device = await asyncio.to_thread(here, "auto")
    if device.facts.kind != "cuda" or device.problem is not None:
        return NO_CUDA
    from benchmarks.gpu.configs import MODELS
    from benchmarks.gpu.weights import directory

    model = next(model for model in MODELS if model.card == TI2V)
    with tempfile.TemporaryDirectory(prefix="understudy-ti2v-") as folder:
        weights = await asyncio.to_thread(directory, model, Path(folder))
        card = card_of(TI2V)
        return await compare(Wanted(card, weights, jobs, rounds, "cuda", DISTILLED_STEPS, cap_gb))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when ours was not slower."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cap-gb", type=float, default=12.0, help="both sides are held to it on a card")
    parser.add_argument("--results", type=Path, default=RESULTS)
    wanted = parser.parse_args(arguments)
    before = machine("torch", "diffusers", "av")
    weights = ROOT / "local_models" / "tiny" / "weights"
    tiny = asyncio.run(compare(Wanted(card_of("local/tiny"), weights, wanted.jobs, wanted.rounds)))
    card = asyncio.run(on_a_card(wanted.jobs, wanted.rounds, wanted.cap_gb))
    at = datetime.now(UTC)
    report = {"at": at.isoformat(timespec="seconds"), "machine": before, "tiny_cpu": tiny, "ti2v_cuda": card}
    wanted.results.mkdir(parents=True, exist_ok=True)
    file = wanted.results / f"{at:%Y-%m-%d}-bulk.json"
    file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name, found in (("tiny, CPU", tiny), ("TI2V-5B, CUDA", card)):
        sys.stdout.write(f"{name}: {_line(found)}\n")
    sys.stdout.write(f"written: {file.name}\n")
    return 0 if tiny["ratio"]["plain"] >= 1 else 1


def _line(found: dict[str, Any] | str) -> str:
    if isinstance(found, str):
        return found
    seconds, cpu, load = found["median_s"], found["median_cpu_s"], found["load_s"]
    lines = [
        f"{found['jobs']} jobs in {seconds['ours']:.2f} s, CPU {cpu['ours']:.2f} s (loading {load['ours']:.1f} s)"
    ]
    for name, ratio in found["ratio"].items():
        lines.append(
            f"    {name}: {seconds[name]:.2f} s, ratio {ratio:.2f}; CPU {cpu[name]:.2f} s, ratio "
            f"{found['cpu_ratio'][name]:.2f} (loading {load[name]:.1f} s, with it {found['ratio_with_load'][name]:.2f})"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
