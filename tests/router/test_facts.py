"""The snapshot of a policy, from rows that were written by hand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from router import facts, limits
from router.catalog import Catalog
from router.contract.card import ModelCard
from router.contract.job import Attempt
from router.contract.words import words
from router.db import Tx
from router.policy import OfferFacts
from router.settings import Settings
from router.tables import attempts, executors, metadata
from tests.fakes import write_provider
from tests.router.house import settings

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
At = Callable[[float], Tx]
OURS = "ours/clip"


class Ready:
    """An installation where everything can run."""

    def out(self, card: ModelCard) -> None:
        """Nothing is missing."""

    def key_mark(self, backend: str) -> str:
        """No key ever changes."""
        return ""


@pytest.fixture(name="at")
def _at() -> At:
    """A transaction at that many seconds after the start."""
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    metadata.create_all(engine)
    conn = engine.connect()
    return lambda seconds: Tx(conn, START + timedelta(seconds=seconds))


@pytest.fixture(name="house")
def _house(tmp_path: Path) -> tuple[Settings, Catalog]:
    """A device of our own with a model that takes 100 s, and a cloud offer that takes as long."""
    (tmp_path / "providers").mkdir()
    write_provider(tmp_path, "paid")
    write_provider(tmp_path, "ours", usd="0", where="house", failure_billed="never")
    for name in ("paid", "ours"):
        path = tmp_path / "providers" / f"{name}.toml"
        text = path.read_text().replace("typical_seconds = 2", "typical_seconds = 100")
        if name == "ours":
            text = text.replace("demo =", "fps = [16]\ndemo =") + LOCAL
        path.write_text(text)
    catalog = Catalog.load(tmp_path / "providers")
    assert OURS in catalog.local, catalog.problems
    return settings(tmp_path), catalog


LOCAL = """
[model.local]
licence = "MIT"
pipeline = "tests:none"
native_frames = 16
max_frames = 16
steps = 4
"""


def attempt(tx: Tx, number: int, model: str, status: str, *, ended: float | None = None) -> None:
    """One that was accepted now."""
    tx.conn.execute(
        sa.insert(attempts).values(
            job_id=f"job{number}",
            n=1,
            backend=model.partition("/")[0],
            model=model,
            status=status,
            resolved="{}",
            decision="{}",
            reason="{}",
            reserved=0,
            created_at=tx.us,
            accepted_at=tx.us,
            ended_at=None if ended is None else tx.us + int(ended * 1e6),
        )
    )


def began_like(model: str, accepted: datetime) -> Attempt:
    """As the process that carries it holds it; nothing else of it matters here."""
    return Attempt.model_construct(model=model, accepted_at=accepted, created_at=accepted)


def ends(tx: Tx, house: tuple[Settings, Catalog], model: str) -> list[float]:
    """When the model's places are expected to be free, in seconds from now."""
    offers = facts.take(tx, *house, Ready()).offers
    found = next(offer for offer in offers if offer.card.id == model)
    return [(end - tx.now).total_seconds() for end in found.busy_until]


def test_what_our_own_device_was_handed_is_made_one_after_the_other(
    at: At, house: tuple[Settings, Catalog]
) -> None:
    for number in range(3):
        attempt(at(0), number, OURS, "running")
        attempt(at(0), 10 + number, "paid/clip", "running")
    assert ends(at(40), house, OURS) == [60, 160, 260]
    assert ends(at(40), house, "paid/clip") == [60, 60, 60]


def test_the_next_one_began_when_the_one_before_it_ended(at: At, house: tuple[Settings, Catalog]) -> None:
    attempt(at(0), 0, OURS, "completed", ended=130)
    attempt(at(0), 1, OURS, "running")
    attempt(at(50), 2, OURS, "cancelled", ended=100)
    assert ends(at(150), house, OURS) == [80]
    # Late already: it takes a little longer, and so does everything behind it.
    attempt(at(200), 3, OURS, "running")
    assert ends(at(250), house, OURS) == [10, 110]


def test_the_time_it_waited_for_its_turn_on_our_own_device_is_no_work(
    at: At, house: tuple[Settings, Catalog]
) -> None:
    for number, model in enumerate((OURS, OURS, "paid/clip", "paid/clip")):
        attempt(at(0), number, model, "running")
    tried = [began_like(model, START) for model in (OURS, "paid/clip")]
    assert [facts.work_began(at(90), house[1], one) for one in tried] == [START, START]
    for number in (0, 2):
        values = {"status": "completed", "ended_at": at(90).us}
        at(90).conn.execute(sa.update(attempts).where(attempts.c.job_id == f"job{number}").values(values))
    later = START + timedelta(seconds=90)
    assert [facts.work_began(at(180), house[1], one) for one in tried] == [later, START]


def test_an_idle_device_begins_at_once(at: At, house: tuple[Settings, Catalog]) -> None:
    attempt(at(0), 0, OURS, "completed", ended=90)
    attempt(at(500), 1, OURS, "running")
    assert ends(at(520), house, OURS) == [80]


def test_an_offer_that_is_half_open_tells_since_when(at: At, house: tuple[Settings, Catalog]) -> None:
    def paid(seconds: float) -> OfferFacts:
        return next(o for o in facts.take(at(seconds), *house, Ready()).offers if o.card.id == "paid/clip")

    assert paid(0).rested_at is None
    for _ in range(3):
        limits.failed(at(0), "paid/clip", words("down", "停止中"))
    assert (paid(31).half_open, paid(31).rested_at) == (True, START + timedelta(seconds=30))
    limits.worked(at(40), "paid/clip")
    assert (paid(41).half_open, paid(41).rested_at) == (False, None)


def test_every_living_worker_is_a_device_and_without_one_local_models_wait(
    at: At, house: tuple[Settings, Catalog]
) -> None:
    local = house[0].local.model_copy(update={"carried_by": "worker"})
    apart = house[0].model_copy(update={"local": local})

    def look(seconds: float) -> tuple[int, bool]:
        found = facts.take(at(seconds), apart, house[1], Ready())
        return found.devices, next(o for o in found.offers if o.card.id == OURS).unusable is None

    assert look(0) == (1, False)
    for name, dead in (("one", False), ("two", False), ("gone", True)):
        row = {"id": name, "role": "worker", "host": "h", "pid": 1, "pid_started": 1, "beat": at(0).us}
        at(0).conn.execute(sa.insert(executors).values(**row, dead=dead))
    assert look(1) == (2, True)
    assert look(3600) == (1, False)
