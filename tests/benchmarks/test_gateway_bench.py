"""The bench itself: that it runs, counts and says what it measured. No figure is judged here."""

import json
from pathlib import Path

import pytest

from benchmarks.gateway import __main__ as bench
from benchmarks.gateway import speed
from benchmarks.gateway.load import Order, request_bytes
from benchmarks.gateway.report import Target, targets
from benchmarks.gateway.speed import Figure


def figure(server: str, operation: str, connections: int, cpu_ms: float, p99_ms: float = 5.0) -> Figure:
    return Figure(server, operation, connections, cpu_ms, 0.1, 1000 / cpu_ms, 1.0, p99_ms, 10, 0, (cpu_ms,))


def test_a_tiny_run_writes_both_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "IDLE_S", 0.2)
    monkeypatch.setattr(speed, "PREPARED", 3)
    monkeypatch.setattr(speed, "CONNECTIONS", (32,))
    told = ["--no-litellm", "--no-behaviour", "--rounds", "1", "--count", "6", "--results", str(tmp_path)]
    assert bench.main(told) == 0

    (found,) = tmp_path.glob("gateway-*.json")
    data = json.loads(found.read_text(encoding="utf-8"))
    rows = {(f["server"], f["operation"], f["connections"]): f for f in data["figures"]}
    assert {server for server, _, _ in rows} == {"Understudy", "e1", "e2", "pass-through"}
    assert ("e1", "content", 32) not in rows
    ours = rows["Understudy", "create", 32]
    assert (ours["requests"], ours["failed"]) == (6, 0)
    assert all(f["failed"] == 0 and f["p99_ms"] > 0 for f in data["figures"])
    text = found.with_suffix(".md").read_text(encoding="utf-8")
    assert "| create | 32 | Understudy |" in text
    assert str(tmp_path) not in text + found.read_text(encoding="utf-8")
    assert "not measured durable create c32, CPU: LiteLLM's" in " ".join(capsys.readouterr().out.split())


def test_targets_are_ratios_of_one_run() -> None:
    figures = [
        figure("Understudy", "create", 32, 1.0),
        figure("e2", "create", 32, 0.3),
        figure("LiteLLM", "create", 32, 7.0),
        figure("Understudy", "status", 1, 0.5, p99_ms=11.0),
    ]
    words = {t.what: t.word for t in targets(figures)}
    assert words["durable create c32, CPU: ours / e2 floor"] == "met"
    assert words["durable create c32, CPU: LiteLLM's video route / ours"] == "missed"
    assert words["durable create c1, p50: ours / e1 floor"] == "not measured"
    assert words["status c1 while idle, p99 in ms"] == "missed"
    assert Target("at the bound", 4.0, 4, True).met


def test_requests_are_told_apart_and_well_formed() -> None:
    order = Order("http://127.0.0.1:1", "POST", ["/v1/videos"], 1, 2, 1.0, body='{"prompt": "clip {n}"}')
    head, _, body = request_bytes(order, 1).partition(b"\r\n\r\n")
    assert json.loads(body) == {"prompt": "clip 1"}
    assert f"Content-Length: {len(body)}".encode() in head
