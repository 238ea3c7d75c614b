"""The queue's decisions, over a model process that only takes notes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_models._desk import Desk
from local_models._messages import Done, Failed, Load, Loaded, Render, Rendered, Run, Step
from local_models._ticket import Patience, Ticket
from router.contract.errors import GenerationFailed
from tests.local_models.conftest import card


class Notes:
    """Stands in for `Child`."""

    made: list["Notes"]

    def __init__(self, log: Path, *, on_message: Any, on_exit: Any, on_tick: Any) -> None:
        self.sent: list[Any] = []
        self.loaded: str | None = None
        self.loading: str | None = None
        self.planned = (0, 0, 0)
        self.heard_at = time.monotonic()
        self.killed_at: float | None = None
        self.hung = False
        self._on_message, self._on_exit, self._on_tick = on_message, on_exit, on_tick

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def say(self, message: Any) -> None:
        self._on_message(self, message)

    def die(self, code: int) -> None:
        self._on_exit(self, code)

    def tick(self) -> None:
        self._on_tick(self)

    def kill(self) -> None:
        """A process in a hung driver does not end."""
        self.killed_at = time.monotonic()

    def stop(self) -> None: ...

    def join(self, timeout_s: float) -> bool:
        return True


@pytest.fixture
def children() -> list[Notes]:
    return []


@pytest.fixture
def desk(children: list[Notes]) -> Desk:
    def start(*given: Any, **more: Any) -> Any:
        children.append(Notes(*given, **more))
        return children[-1]

    patience = Patience(step_limit_s=-1.0, kill_limit_s=-1.0)
    return Desk("cpu", patience, start=start)


@pytest.fixture
def ticket(tmp_path: Path) -> Callable[..., Ticket]:
    row = card("m", tmp_path)

    def make(ref: str, width: int = 32, frames: int = 9) -> Ticket:
        render = Render(f"prompt {ref}", width, 32, frames, 8, 3, 7)
        return Ticket(ref, row, tmp_path, tmp_path / f"{ref}.mp4", render)

    return make


def test_a_model_is_planned_for_the_jobs_that_wait_and_again_for_a_larger_one(
    desk: Desk, children: list[Notes], ticket: Callable[..., Ticket]
) -> None:
    desk.put(ticket("a"))
    (child,) = children
    child.say(Loaded("local/m", 1.0, ""))
    desk.put(ticket("b", width=64))
    desk.put(ticket("c", frames=17))
    child.say(Rendered("a"))
    load = child.sent[-1]
    assert isinstance(load, Load)
    assert (load.width, load.height, load.frames) == (64, 32, 17)
    child.say(Loaded("local/m", 0.0, ""))
    child.say(Done("a", {}))
    child.say(Rendered("b"))
    assert [type(message).__name__ for message in child.sent] == ["Load", "Run", "Load", "Run", "Run"]


def test_the_texts_of_the_waiting_jobs_go_along(
    desk: Desk, children: list[Notes], ticket: Callable[..., Ticket]
) -> None:
    for ref in ("a", "b", "c"):
        desk.put(ticket(ref))
    children[0].say(Loaded("local/m", 1.0, ""))
    run = children[0].sent[-1]
    assert isinstance(run, Run)
    assert run.ahead == ["prompt b", "prompt c"]


def test_a_process_that_not_even_a_kill_ends_is_left_to_itself(
    desk: Desk, children: list[Notes], ticket: Callable[..., Ticket]
) -> None:
    first, second = ticket("a"), ticket("b")
    desk.put(first)
    desk.put(second)
    children[0].say(Loaded("local/m", 1.0, ""))
    children[0].tick()
    assert children[0].hung
    assert not first.ended
    children[0].tick()
    assert first.failure is not None
    assert first.failure[0] is GenerationFailed
    assert len(children) == 2
    assert isinstance(children[1].sent[0], Load)
    children[0].say(Done("b", {}))
    assert not second.ended, "what the lost process says later counts for nothing"


def test_a_wrecked_process_is_replaced_and_a_clip_that_was_only_to_be_written_is_made_again(
    desk: Desk, children: list[Notes], ticket: Callable[..., Ticket]
) -> None:
    first, second = ticket("a"), ticket("b")
    desk.put(first)
    desk.put(second)
    children[0].say(Loaded("local/m", 1.0, ""))
    children[0].say(Rendered("a"))
    children[0].say(Failed("b", "error", "no", "no", "wreck"))
    assert second.failure is not None
    assert not first.ended
    children[1].say(Loaded("local/m", 1.0, ""))
    assert children[1].sent[-1].ticket == "a"


def test_of_two_jobs_on_a_device_whose_process_died_each_is_made_again_alone(
    desk: Desk, children: list[Notes], ticket: Callable[..., Ticket]
) -> None:
    first, second = ticket("a"), ticket("b")
    desk.put(first)
    desk.put(second)
    children[0].say(Loaded("local/m", 1.0, ""))
    children[0].say(Rendered("a", decoded=False))
    children[0].die(-11)
    assert not first.ended
    assert not second.ended
    children[1].say(Loaded("local/m", 1.0, ""))
    run = children[1].sent[-1]
    assert (run.ticket, run.alone) == ("a", True)
    children[1].die(-11)
    assert first.failure is not None, "it was alone this time"
    children[2].say(Loaded("local/m", 1.0, ""))
    run = children[2].sent[-1]
    assert (run.ticket, run.alone) == ("b", True)
    children[2].say(Rendered("b"))
    children[2].say(Done("b", {}))
    assert second.details is not None


def test_a_job_whose_clip_was_being_written_does_not_pay_for_the_next_one(
    desk: Desk, children: list[Notes], ticket: Callable[..., Ticket]
) -> None:
    first, second = ticket("a"), ticket("b")
    desk.put(first)
    desk.put(second)
    children[0].say(Loaded("local/m", 1.0, ""))
    children[0].say(Rendered("a", decoded=False))
    children[0].say(Step("a", "write", 0, 1))
    children[0].die(-11)
    assert second.failure is not None
    assert not first.ended


def test_an_error_of_the_card_with_two_jobs_on_it_fails_neither_at_once(
    desk: Desk, children: list[Notes], ticket: Callable[..., Ticket]
) -> None:
    first, second = ticket("a"), ticket("b")
    desk.put(first)
    desk.put(second)
    children[0].say(Loaded("local/m", 1.0, ""))
    children[0].say(Rendered("a", decoded=False))
    children[0].say(Failed("a", "error", "no", "no", "wreck"))
    assert not first.ended
    assert not second.ended
    children[1].say(Loaded("local/m", 1.0, ""))
    children[1].say(Failed("a", "error", "no", "no", "wreck"))
    assert first.failure is not None
    assert not second.ended


def test_progress_only_rises_while_two_jobs_are_in_flight(
    desk: Desk, children: list[Notes], ticket: Callable[..., Ticket]
) -> None:
    first, second = ticket("a"), ticket("b")
    desk.put(first)
    desk.put(second)
    (child,) = children
    child.say(Loaded("local/m", 1.0, ""))
    child.say(Rendered("a", decoded=False))
    seen = []
    for told in (
        Step("a", "decode", 1, 2),
        Step("b", "denoise", 1, 2),
        Step("a", "decode", 0, 2),
        Step("a", "write", 0, 1),
        Step("b", "denoise", 2, 2),
        Done("a", {}),
    ):
        child.say(told)
        seen.append((first.progress, second.progress))
    assert seen == sorted(seen)
    assert first.progress == 1.0
    assert 0.5 < second.progress < 1.0
