"""The table, the JSON and the plot of cost against deadline; no host names, no paths."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

OURS = "understudy"


@dataclass(frozen=True)
class Row:
    """One strategy in one scenario with one seed."""

    scenario: str
    seed: int
    strategy: str
    ratio: float
    """Score over the clairvoyant bound; for S4m the makespan over the least possible."""
    score: float
    bound: float
    spend: float
    missed: int
    lost: int
    refusals_429: int
    overspent: float
    jobs: int
    hedges: int = 0


def mean(rows: Sequence[Row]) -> float:
    """Mean ratio."""
    return sum(row.ratio for row in rows) / len(rows) if rows else float("nan")


def table(rows: Sequence[Row], targets: Mapping[str, float]) -> str:
    """Mean ratio by scenario and strategy, misses and losses of all seeds behind it."""
    scenarios = list(dict.fromkeys(row.scenario for row in rows))
    strategies = list(dict.fromkeys(row.strategy for row in rows))
    lines = [f"{'score / clairvoyant bound':28}" + "".join(f"{s:>16}" for s in scenarios)]
    for strategy in strategies:
        cells = []
        for scenario in scenarios:
            mine = [r for r in rows if (r.scenario, r.strategy) == (scenario, strategy)]
            bad = sum(r.missed + r.lost for r in mine)
            cells.append(f"{mean(mine):.3f} ({bad})" if mine else "-")
        lines.append(f"{strategy:28}" + "".join(f"{cell:>16}" for cell in cells))
    lines.append(f"{'target':28}" + "".join(f"{targets.get(s, float('nan')):>16.2f}" for s in scenarios))
    lines.append("In brackets: jobs missed or lost over all seeds.")
    return "\n".join(lines)


def write(folder: Path, name: str, data: Mapping[str, Any], svg: str) -> list[Path]:
    """`<date>-<name>.json` and `.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    day = datetime.now(UTC).date().isoformat()
    whole = {"date": day, "machine": machine("scipy", "numpy"), **data}
    files = [folder / f"{day}-{name}.json", folder / f"{day}-{name}.svg"]
    files[0].write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    files[1].write_text(svg, encoding="utf-8")
    return files


def as_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For JSON, numbers rounded to what they mean."""
    return [
        {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(row).items()}
        for row in rows
    ]


_COLOURS = ("#0b6e4f", "#c1121f", "#1d3557", "#e09f3e", "#6a4c93", "#7f7f7f", "#2a9d8f")
_W, _H, _LEFT, _TOP, _BOTTOM = 760, 420, 70, 40, 60


def plot(title: str, curves: Mapping[str, Sequence[tuple[float, float]]], x_name: str, y_name: str) -> str:
    """Lines over a logarithmic x axis, as SVG; points are (x, y)."""
    xs = sorted({x for points in curves.values() for x, _ in points})
    top = max(y for points in curves.values() for _, y in points) * 1.05
    low, high = math.log(xs[0]), math.log(xs[-1])

    def at(x: float, y: float) -> str:
        across = (math.log(x) - low) / (high - low) * (_W - _LEFT - 190)
        return f"{_LEFT + across:.1f},{_H - _BOTTOM - y / top * (_H - _TOP - _BOTTOM):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_W} {_H}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_W}" height="{_H}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
    ]
    for x in xs:
        px, py = at(x, 0).split(",")
        parts.append(f'<text x="{px}" y="{float(py) + 18:.1f}" text-anchor="middle">{x:g}</text>')
    for step in range(6):
        y = top * step / 5
        px, py = at(xs[0], y).split(",")
        parts.append(
            f'<text x="{float(px) - 8:.1f}" y="{float(py) + 4:.1f}" text-anchor="end">{y:.0f}</text>'
        )
        right = at(xs[-1], y).split(",")[0]
        parts.append(f'<line x1="{px}" x2="{right}" y1="{py}" y2="{py}" stroke="#ddd"/>')
    for i, (name, points) in enumerate(curves.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        path = " ".join(at(x, y) for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="3" fill="{colour}"/>'
            for p in path.split()
        ]
        y_text = _TOP + 20 * i + 10
        parts.append(f'<rect x="{_W - 180}" y="{y_text - 9}" width="12" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{_W - 162}" y="{y_text}">{escape(name)}</text>')
    parts.append(f'<text x="{_LEFT}" y="{_H - 14}">{escape(x_name)}</text>')
    parts.append(f'<text x="14" y="{_H / 2}" transform="rotate(-90 14 {_H / 2})">{escape(y_name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
