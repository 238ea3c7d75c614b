"""`understudy backup FILE` and `restore`: both databases, and the media folder on request, in one tar archive.

SQLite files are copied with SQLite's own online backup, so a running server may go on. On PostgreSQL every table of
our schema and of the engine's is copied in one repeatable-read transaction.
"""

import gzip
import io
import json
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from router.contract.errors import Conflict, InvalidRequest, ServerTrouble
from router.contract.words import words
from router.db import SCHEMA
from router.media.store import IDENTITY_FILE
from router.settings import Settings

FORMAT = 1
ENGINE_NAME = "engine.sqlite"
_OURS, _ENGINE = "understudy.sqlite", ENGINE_NAME


def write(settings: Settings, file: Path, *, media: bool) -> dict[str, Any]:
    """Write the archive; it appears under its name only when it is whole. Returns what it holds."""
    if file.exists():
        raise Conflict(
            words(
                f"{file.name} exists already; choose another name.",
                f"{file.name} はすでに存在します。別の名前を指定してください。",
            )
        )
    part = file.with_name(file.name + ".part")
    told: dict[str, Any] = {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(),
        "database": "sqlite" if _is_sqlite(settings) else "postgresql",
        "media": media,
        "media_store": _media_id(settings),
    }
    try:
        with tarfile.open(part, "w:gz", compresslevel=3) as archive:
            _add_bytes(archive, "backup.json", json.dumps(told).encode())
            if _is_sqlite(settings):
                _add_sqlite(archive, settings)
            else:
                _add_postgres(archive, settings)
            if media:
                archive.add(settings.media_dir, "media", filter=_no_leftovers)
        part.rename(file)
    except OSError as error:
        raise ServerTrouble(
            words(
                f"The backup could not be written: {error.strerror}",
                f"バックアップを書き込めませんでした: {error.strerror}",
            )
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return {**told, "file": file.name, "size_bytes": file.stat().st_size}


def restore(settings: Settings, file: Path) -> dict[str, Any]:
    """Fill an empty data folder (or PostgreSQL database) from an archive."""
    try:
        _read_through(file)
        with tarfile.open(file, "r:gz") as archive:
            told: dict[str, Any] = json.load(_member(archive, "backup.json"))
            if told.get("format") != FORMAT:
                raise _broken(file)
            kind = "sqlite" if _is_sqlite(settings) else "postgresql"
            if told["database"] != kind:
                raise InvalidRequest(
                    words(
                        f"{file.name} was made from {told['database']}, and UNDERSTUDY_DATABASE_URL is {kind}.",
                        f"{file.name} は {told['database']} のバックアップですが、UNDERSTUDY_DATABASE_URL は {kind} です。",
                    )
                )
            if kind == "sqlite":
                _restore_sqlite(archive, settings)
            else:
                _restore_postgres(archive, settings)
            if told["media"]:
                settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
                members = [
                    m for m in archive.getmembers() if m.name == "media" or m.name.startswith("media/")
                ]
                archive.extractall(settings.home, members=members, filter="data")
            elif told.get("media_store") and not (settings.media_dir / IDENTITY_FILE).exists():
                # The media stayed behind: their folder can be put here later, it has this name.
                settings.media_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
                (settings.media_dir / IDENTITY_FILE).write_text(told["media_store"], encoding="utf-8")
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, KeyError, ValueError, EOFError) as error:
        raise _broken(file) from error
    except OSError as error:
        raise ServerTrouble(
            words(
                f"{file.name} could not be restored: {error.strerror}",
                f"{file.name} を復元できません: {error.strerror}",
            )
        ) from None
    return told


def _read_through(file: Path) -> None:
    """A damaged archive shows before anything is written."""
    with gzip.open(file) as stream:
        while stream.read(1 << 20):
            pass


def _media_id(settings: Settings) -> str | None:
    path = settings.media_dir / IDENTITY_FILE
    return path.read_text(encoding="utf-8") if path.is_file() else None


# -- SQLite


def _paths(settings: Settings) -> tuple[Path, Path]:
    ours = Path(make_url(settings.database_url).database or "")
    return ours, ours.with_name(ENGINE_NAME)


def _add_sqlite(archive: tarfile.TarFile, settings: Settings) -> None:
    ours, engine = _paths(settings)
    # Ours first: it is the truth, and the sweep finds what the engine's older or newer file lacks.
    for source, name in ((ours, _OURS), (engine, _ENGINE)):
        if not source.exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / name
            origin, target = (
                sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True),
                sqlite3.connect(copy),
            )
            try:
                origin.backup(target)
            finally:
                target.close()
                origin.close()
            archive.add(copy, name)


def _restore_sqlite(archive: tarfile.TarFile, settings: Settings) -> None:
    for path in _paths(settings):
        if path.exists():
            raise _not_empty(path.name)
    for path, name in zip(_paths(settings), (_OURS, _ENGINE), strict=True):
        if name in archive.getnames():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_bytes(_member(archive, name).read())


# -- PostgreSQL

_SCHEMAS = (SCHEMA, "dbos")


def _connect(settings: Settings) -> psycopg.Connection[Any]:
    url = make_url(settings.database_url).set(drivername="postgresql")
    try:
        return psycopg.connect(url.render_as_string(hide_password=False))
    except psycopg.OperationalError as error:
        text = str(error).splitlines()[0]
        raise ServerTrouble(
            words(f"PostgreSQL cannot be reached ({text}).", f"PostgreSQL に接続できません({text})。")
        ) from None


def _tables(conn: psycopg.Connection[Any], schema: str) -> Iterator[str]:
    query = "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY tablename"
    yield from (name for (name,) in conn.execute(query, [schema]).fetchall())


def _add_postgres(archive: tarfile.TarFile, settings: Settings) -> None:
    with _connect(settings) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for schema in _SCHEMAS:
            for table in _tables(conn, schema):
                query = sql.SQL("COPY {}.{} TO STDOUT").format(sql.Identifier(schema), sql.Identifier(table))
                with conn.cursor() as cursor, cursor.copy(query) as copy:
                    _add_bytes(
                        archive, f"postgresql/{schema}/{table}", b"".join(bytes(block) for block in copy)
                    )


def _restore_postgres(archive: tarfile.TarFile, settings: Settings) -> None:
    """Our own tables: they alone are the truth, the engine's are made anew and filled by the sweep at start."""
    from router.db import migrate

    migrate(settings.database_url)
    with _connect(settings) as conn:
        tables = [t for t in _tables(conn, SCHEMA) if t not in {"alembic_version", "executors"}]
        for table in tables:
            name = sql.Identifier(SCHEMA, table)
            if table != "meta" and conn.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(name)).fetchone():
                raise _not_empty(table)
        for table in tables:
            name = sql.Identifier(SCHEMA, table)
            conn.execute(sql.SQL("DELETE FROM {}").format(name))
            with conn.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(name)) as copy:
                copy.write(_member(archive, f"postgresql/{SCHEMA}/{table}").read())
            if table == "attempts":
                # The processes that carried them are not part of the backup; the next engine takes them over.
                conn.execute(sql.SQL("UPDATE {} SET carrier = NULL").format(name))
            if conn.execute(
                "SELECT 1 FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
                " AND column_name = 'seq'",
                [SCHEMA, table],
            ).fetchone():
                conn.execute(
                    sql.SQL(
                        "SELECT setval(pg_get_serial_sequence({}, 'seq'), (SELECT coalesce(max(seq), 0) + 1 FROM {}), false)"
                    ).format(sql.Literal(f"{SCHEMA}.{table}"), name)
                )


# -- archives


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o600
    archive.addfile(info, io.BytesIO(data))


def _member(archive: tarfile.TarFile, name: str) -> Any:
    found = archive.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found


def _no_leftovers(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "/tmp/" in f"{member.name}/" else member


def _is_sqlite(settings: Settings) -> bool:
    return make_url(settings.database_url).get_backend_name() == "sqlite"


def _broken(file: Path) -> InvalidRequest:
    return InvalidRequest(
        words(
            f"{file.name} is not a whole Understudy backup.",
            f"{file.name} は完全な Understudy のバックアップではありません。",
        )
    )


def _not_empty(name: str) -> Conflict:
    return Conflict(
        words(
            f"Restore fills an empty place only, and {name} is not empty. Set UNDERSTUDY_HOME or "
            "UNDERSTUDY_DATABASE_URL to a new one.",
            f"復元先は空である必要がありますが、{name} は空ではありません。UNDERSTUDY_HOME または "
            "UNDERSTUDY_DATABASE_URL に新しい場所を指定してください。",
        )
    )
