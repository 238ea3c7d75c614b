"""Real-size models with random weights on this machine's CUDA card: our plan against plain diffusers.

Speed and memory do not depend on what weights say, so they are made from configurations (`configs.py`) and kept in a
cache folder; nothing is downloaded, no network is needed. Every row runs in a process of its own whose memory is capped at
the size of a smaller card; running out of memory is a result. What is measured already is not measured again: run it
until nothing is left. Results of real cards that are kept in benchmarks/results are held against today's planner by the
tests (`agreement.py`). Exit code 2 without a card (`--dry` needs none).

NOT RUN YET ON A CARD: when this was written (2026-11-26) no GPU was at hand. What ran, on a CPU: the dry run (weights, both
ways to load and run, phases, resume, tables) in tests, and by hand the writing and loading of single components of real
size. What never ran: the cap, the peaks, `enable_model_cpu_offload`, plans for a card, a whole model of real size.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_cache_path

from benchmarks.gpu.agreement import Row, verdicts
from benchmarks.gpu.configs import MODELS
from benchmarks.gpu.jobs import CARDS_GB, WAYS, Job, Wanted, jobs
from benchmarks.gpu.process import RowProcess, TookTooLong
from benchmarks.gpu.report import RESULTS, Report, line_of, row_of
from benchmarks.machine import machine
from local_models._device import here
from router.catalog import Catalog
from router.contract.card import ModelCard

ROW_LIMIT_S = 240.0
"""A row that takes longer is told as such."""
LEAST_S = 30.0
"""No row is begun with less left of the budget: imports and weights alone take as long."""


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Bench:
    """Works through the rows and writes after each one."""

    def __init__(self, report: Report, results: Path, cards: dict[str, ModelCard], deadline: float) -> None:
        """`deadline` by the monotonic clock."""
        self._report, self._results, self._cards = report, results, cards
        self._deadline = deadline

    def run(self, todo: Sequence[Job], measure: Callable[[Job, float], Row]) -> int:
        """How many rows are left undone. `measure` takes a row and seconds, and may raise TookTooLong."""
        for number, job in enumerate(todo):
            if job.key in self._report.done:
                continue
            found = self._known_already(job)
            left = self._deadline - time.monotonic()
            if found is None and left < LEAST_S:
                return self._undone(todo[number:])
            if found is None:
                try:
                    found = measure(job, min(left, ROW_LIMIT_S))
                except TookTooLong:
                    if left < ROW_LIMIT_S:
                        return self._undone(todo[number:])
                    found = {"outcome": "took too long", "why": f"more than {ROW_LIMIT_S:.0f} s"}
            row = row_of(job, found, self._cards[job.card], self._report.gpu)
            self._report.rows.append(row)
            self._report.write(self._results)
            _say(line_of(row))
        return 0

    def _undone(self, jobs_left: Sequence[Job]) -> int:
        return sum(job.key not in self._report.done for job in jobs_left)

    def _known_already(self, job: Job) -> Row | None:
        """What needs no run: a card larger than this one, or too small a one for what a larger was too small for."""
        total = (self._report.machine["gpu"] or {}).get("memory_gb")
        if total is not None and job.card_gb > total and not self._report.dry:
            return {"outcome": "needs a larger card", "why": f"this one has {total} GB"}
        if job.way == "ours":
            return None
        for row in self._report.rows:
            same = (row["model"], row["way"]) == (job.card, job.way)
            if same and row["outcome"] == "out of memory" and row["card_gb"] > job.card_gb:
                return {
                    "outcome": "out of memory",
                    "phase": row.get("phase"),
                    "why": f"as with {row['card_gb']} GB",
                }
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write. 0 also where rows failed or are left: the table says so."""
    given = _parser().parse_args(arguments)
    about = machine("torch", "diffusers", "transformers")
    if not given.dry and (problem := here().problem):
        _say(f"{problem.en}\n{problem.ja}\nWith --dry it runs on the CPU with tiny weights.")
        return 2
    started = time.monotonic()
    report = Report(datetime.now(UTC), about, given.dry)
    report.resume(given.results)
    report.notes = list(_notes(given.dry))
    cards = dict(Catalog.load().cards)
    wanted = Wanted(given.models, given.cards, given.ways)
    todo = jobs(wanted, cards, given.cache, tiny=given.dry)
    asked = {job.key for job in todo}
    if given.fresh:
        report.rows = [row for row in report.rows if row["key"] not in asked]
    if kept := asked & set(report.done):
        _say(f"{len(kept)} rows are measured already and kept (--fresh measures them again)")
    log = given.cache / "rows.log"
    with ExitStack() as stack:
        kept_open: list[RowProcess] = []

        def measure(job: Job, seconds: float) -> Row:
            if not given.dry:
                with RowProcess(job.way, log) as process:
                    return process.ask(job, seconds)
            # Nothing is left on a card here, so that one process does for all.
            if not kept_open:
                kept_open.append(stack.enter_context(RowProcess("ours", log)))
            return kept_open[0].ask(job, seconds)

        left = Bench(report, given.results, cards, started + given.budget_s).run(todo, measure)
    if left:
        report.notes.append(f"{left} rows were not begun when the time was up; run again for them.")
    file = report.write(given.results)
    _say("")
    _say(report.as_markdown())
    for verdict in verdicts(report.rows):
        ratio = "nothing ran" if verdict.worst is None else f"measured/predicted {verdict.worst:.2f}"
        _say(f"{verdict.model}: predicted peak {verdict.text} ({ratio})")
    _say(f"{time.monotonic() - started:.0f} s, {left} rows left. Written: {file.name} and the same as .md")
    return 0


def _notes(dry: bool) -> tuple[str, ...]:
    if dry:
        return ("Dry run: the program, not the machine, was tried. Memory is not measured.",)
    return (
        "Weights are random, so pictures are noise; numbers are those of real ones of the same configuration.",
        "Nothing is warmed up: decoding and encoding include what is made at first use, the same for all three ways.",
        "The fast memory, bus and clock are this card's: a capped large card is faster than a small card of that size.",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--dry", action="store_true", help="tiny weights on the CPU: tries the program itself"
    )
    parser.add_argument("--budget-s", type=float, default=540.0, help="seconds in all; unfinished rows wait")
    parser.add_argument("--fresh", action="store_true", help="measure the rows again that are there")
    parser.add_argument(
        "--models", nargs="+", default=[m.card for m in MODELS], choices=[m.card for m in MODELS]
    )
    parser.add_argument("--cards", nargs="+", type=int, default=list(CARDS_GB), help="card sizes in GB")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the two files")
    parser.add_argument(
        "--cache",
        type=Path,
        default=user_cache_path("understudy") / "gpu-bench",
        help="folder for the weights: 12 to 70 GB per model; what others left is removed where room is short",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
