"""The targets of the must-show line, and the tables: JSON for machines, Markdown for people."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gateway.behaviour import Outcome
from benchmarks.gateway.players import LITELLM_FOR_FREE
from benchmarks.gateway.speed import CONNECTIONS, OPERATIONS, Figure, as_row, found

RESULTS = Path(__file__).resolve().parents[1] / "results"
OURS, THEIRS, FLOOR_ONE, FLOOR = "Understudy", "LiteLLM", "e1", "e2"


@dataclass(frozen=True)
class Target:
    """One line of the targets table. `value` is None where it could not be measured."""

    what: str
    value: float | None
    bound: float
    at_most: bool

    @property
    def met(self) -> bool | None:
        """Whether it holds."""
        if self.value is None:
            return None
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    @property
    def word(self) -> str:
        """`met`, `missed` or `not measured`."""
        return {True: "met", False: "missed", None: "not measured"}[self.met]


def targets(figures: Sequence[Figure]) -> list[Target]:
    """What issue and notes ask of this bench."""

    def of(server: str, operation: str, connections: int, name: str) -> float | None:
        figure = found(figures, server, operation, connections)
        return None if figure is None else float(getattr(figure, name))

    def ratio(over: float | None, under: float | None) -> float | None:
        return None if over is None or not under else over / under

    ours = of(OURS, "create", 32, "cpu_ms")
    return [
        Target(
            "durable create c32, CPU: ours / e2 floor",
            ratio(ours, of(FLOOR, "create", 32, "cpu_ms")),
            4,
            True,
        ),
        Target(
            "durable create c32, CPU: LiteLLM's video route / ours",
            ratio(of(THEIRS, "create", 32, "cpu_ms"), ours),
            8,
            False,
        ),
        Target(
            "durable create c1, p50: ours / e1 floor",
            ratio(of(OURS, "create", 1, "p50_ms"), of(FLOOR_ONE, "create", 1, "p50_ms")),
            3,
            True,
        ),
        Target(
            "create c32, req/s: ours / LiteLLM",
            ratio(of(OURS, "create", 32, "req_s"), of(THEIRS, "create", 32, "req_s")),
            10,
            False,
        ),
        Target("status c1 while idle, p99 in ms", of(OURS, "status", 1, "p99_ms"), 10, True),
    ]


@dataclass(frozen=True)
class Report:
    """One run, whole."""

    at: datetime
    machine: Mapping[str, Any]
    seconds: float
    figures: Sequence[Figure]
    idle: Mapping[str, float]
    start_s: Mapping[str, float]
    memory_mb: Mapping[str, float]
    outcomes: Sequence[Outcome]
    notes: Sequence[str]

    def as_json(self) -> str:
        """For machines."""
        data = {
            "at": self.at.astimezone(UTC).isoformat(timespec="seconds"),
            "machine": dict(self.machine),
            "seconds": round(self.seconds),
            "targets": [
                {**vars(t), "value": None if t.value is None else round(t.value, 3), "result": t.word}
                for t in targets(self.figures)
            ],
            "figures": [as_row(figure) for figure in self.figures],
            "idle_cpu_share": {name: round(share, 4) for name, share in self.idle.items()},
            "start_s": {name: round(s, 2) for name, s in self.start_s.items()},
            "memory_mb": {name: round(mb) for name, mb in self.memory_mb.items()},
            "behaviour": [vars(outcome) for outcome in self.outcomes],
            "litellm_was_given": list(LITELLM_FOR_FREE),
            "notes": list(self.notes),
        }
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"

    def as_markdown(self) -> str:
        """For people."""
        parts = [self._head(), self._targets(), self._speed(), self._rest(), self._behaviour(), self._notes()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _head(self) -> str:
        m = self.machine
        where = f"{m['cores']} cores, {m['cpu']}, {m['memory_gb']} GB, {m['system']}, Python {m['python']}"
        return (
            f"# Gateway bench, {self.at:%Y-%m-%d %H:%M} UTC\n\n{where}; FastAPI {m['fastapi']}, uvicorn {m['uvicorn']}; "
            f"load average before the run {m['load_before']}. {self.seconds:.0f} s. `make bench-gateway`"
        )

    def _targets(self) -> str:
        lines = ["## Targets", "", "| what | target | measured | |", "|---|---|---|---|"]
        for t in targets(self.figures):
            value = "-" if t.value is None else f"{t.value:.2f}"
            lines.append(f"| {t.what} | {'<=' if t.at_most else '>='} {t.bound:g} | {value} | {t.word} |")
        return "\n".join(lines)

    def _speed(self) -> str:
        lines = [
            "## Load",
            "",
            "CPU is user and system time of the server's process tree per request; medians of the rounds. The client is a "
            "process of its own and not in it, nor are the twins.",
            "",
            "| operation | connections | server | CPU ms/req | of e2 | req/s | p50 ms | p99 ms | client CPU ms/req | failed |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for operation in OPERATIONS:
            for connections in CONNECTIONS:
                base = found(self.figures, FLOOR, operation, connections)
                for f in self.figures:
                    if (f.operation, f.connections) != (operation, connections):
                        continue
                    ratio = f"{f.cpu_ms / base.cpu_ms:.1f}x" if base and base.cpu_ms else "-"
                    lines.append(
                        f"| {operation} | {connections} | {f.server} | {f.cpu_ms:.2f} | {ratio} | {f.req_s:.0f} | "
                        f"{f.p50_ms:.2f} | {f.p99_ms:.2f} | {f.client_cpu_ms:.2f} | {f.failed} of {f.requests} |"
                    )
        return "\n".join(lines)

    def _rest(self) -> str:
        lines = ["| server | start s | memory MB | CPU while idle |", "|---|---|---|---|"]
        for name, seconds in self.start_s.items():
            idle = self.idle.get(name, 0.0)
            lines.append(
                f"| {name} | {seconds:.1f} | {self.memory_mb[name]:.0f} | {idle * 100:.1f} % of a core |"
            )
        return "\n".join(lines)

    def _behaviour(self) -> str:
        if not self.outcomes:
            return ""
        gateways = list(dict.fromkeys(outcome.gateway for outcome in self.outcomes))
        lines = [
            "## Behaviour",
            "",
            "Counted at the providers (their bill and their log), not at the gateways.",
            "",
            f"| case | {' | '.join(gateways)} |",
            f"|---|{'---|' * len(gateways)}",
        ]
        for case in dict.fromkeys(outcome.case for outcome in self.outcomes):
            told = {o.gateway: o.text for o in self.outcomes if o.case == case}
            lines.append(f"| {case} | {' | '.join(told.get(name, '-') for name in gateways)} |")
        if THEIRS in gateways:
            lines += ["", "What LiteLLM was given for free: " + "; ".join(LITELLM_FOR_FREE) + "."]
        return "\n".join(lines)

    def _notes(self) -> str:
        return "\n".join(["## Notes", "", *(f"- {note}" for note in self.notes)])

    def write(self, folder: Path, say: Callable[[str], None]) -> None:
        """Both files, named by the day."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"gateway-{self.at:%Y-%m-%d}"
        (folder / f"{stem}.json").write_text(self.as_json(), encoding="utf-8")
        (folder / f"{stem}.md").write_text(self.as_markdown(), encoding="utf-8")
        say(f"written: {folder.name}/{stem}.json, {folder.name}/{stem}.md")
