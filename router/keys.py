"""API keys of our own callers: made once, kept as a hash, each with a project and hard budgets of its own."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from router.contract.errors import Conflict, Forbidden, InvalidRequest, NotFound
from router.contract.job import Job
from router.contract.request import VideoRequest
from router.contract.words import words
from router.db import Tx, from_us
from router.pricing import from_micros, to_micros
from router.tables import api_keys

PREFIX = "us_"
SHOWN = 9
"""Characters of a key that lists show; the other 37 stay secret."""
MOST_USD = {"day": Decimal(10_000_000), "month": Decimal(100_000_000)}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PROJECT = re.compile(r"\w[\w .:/@+-]{0,127}")


@dataclass(frozen=True)
class ApiKey:
    """One caller; never the key itself."""

    name: str
    prefix: str
    project: str | None
    """Default and limit of its jobs: it sees, cancels and deletes only those of this project. None: all jobs."""
    day_usd: Decimal | None
    month_usd: Decimal | None
    created_at: datetime
    revoked_at: datetime | None = None

    def sees(self, job: Job) -> bool:
        """Whether that job is any of its business; others do not exist for it."""
        return self.project is None or job.request.project == self.project

    def within(self, project: str | None) -> str | None:
        """The project that a wish for `project` means; raises Forbidden for another than its own."""
        if self.project is None or project in (None, self.project):
            return project or self.project
        raise Forbidden(
            words(
                f"This API key belongs to the project {self.project!r} and may use no other.",
                f"この API キーはプロジェクト {self.project!r} 専用です。他のプロジェクトは指定できません。",
            ),
            param="project",
        )

    def own(self, request: VideoRequest) -> VideoRequest:
        """The request in this key's project."""
        return request.model_copy(update={"project": self.within(request.project)})

    def idempotency(self, key: str | None) -> str | None:
        """Callers share the table of idempotency keys, not each other's jobs."""
        if key is None:
            return None
        return "k:" + hashlib.sha256(f"{self.name}\n{key}".encode()).hexdigest()


def add(
    tx: Tx, name: str, *, project: str | None, day_usd: Decimal | None, month_usd: Decimal | None
) -> tuple[ApiKey, str]:
    """A new key and its one showing. Raises InvalidRequest, or Conflict where the name was used before."""
    _check(name, project, {"day": day_usd, "month": month_usd})
    if tx.conn.execute(sa.select(api_keys.c.name).where(api_keys.c.name == name)).one_or_none() is not None:
        raise Conflict(
            words(
                f"There is or was a key named {name!r}, and the books name it. Choose another name.",
                f"{name!r} という名前のキーは使用中か使用済みで、台帳に記録されています。別の名前にしてください。",
            ),
            param="name",
        )
    secret = PREFIX + secrets.token_urlsafe(32)
    tx.conn.execute(
        sa.insert(api_keys).values(
            name=name,
            prefix=secret[:SHOWN],
            hash=hashed(secret),
            project=project,
            day=None if day_usd is None else to_micros(day_usd),
            month=None if month_usd is None else to_micros(month_usd),
            created_at=tx.us,
        )
    )
    return ApiKey(name, secret[:SHOWN], project, day_usd, month_usd, tx.now), secret


def revoke(tx: Tx, name: str) -> ApiKey:
    """From now on it opens nothing; its jobs go on and its budgets hold for them. Raises NotFound."""
    c = api_keys.c
    row = tx.conn.execute(sa.select(api_keys).where(c.name == name)).mappings().one_or_none()
    if row is None:
        raise NotFound(
            words(f"There is no key named {name!r}.", f"{name!r} という名前のキーはありません。"),
            param="name",
        )
    if row["revoked_at"] is None:
        tx.conn.execute(sa.update(api_keys).where(c.name == name).values(revoked_at=tx.us))
        return replace(_key(row), revoked_at=tx.now)
    return _key(row)


def listed(tx: Tx) -> tuple[ApiKey, ...]:
    """All keys, revoked ones too, oldest first."""
    c = api_keys.c
    rows = tx.conn.execute(sa.select(api_keys).order_by(c.created_at, c.name)).mappings()
    return tuple(_key(row) for row in rows)


def by_hash(tx: Tx) -> dict[str, ApiKey]:
    """Every key, revoked ones too, by the hash of what a caller shows."""
    rows = tx.conn.execute(sa.select(api_keys)).mappings()
    return {row["hash"]: _key(row) for row in rows}


def budgets(tx: Tx, name: str) -> tuple[int | None, int | None]:
    """(day, month) in micro-dollars; they hold for the jobs of a revoked key too."""
    row = tx.conn.execute(
        sa.select(api_keys.c.day, api_keys.c.month).where(api_keys.c.name == name)
    ).one_or_none()
    return (row.day, row.month) if row is not None else (None, None)


def hashed(secret: str) -> str:
    """A key has 256 random bits, so a plain hash keeps it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _check(name: str, project: str | None, caps: Mapping[str, Decimal | None]) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            words(
                "A key's name has up to 64 letters, digits or ._- and begins with a letter or digit.",
                "キーの名前は英数字と ._- からなる 64 文字以内で、先頭は英数字にしてください。",
            ),
            param="name",
        )
    if project is not None and not _PROJECT.fullmatch(project):
        raise InvalidRequest(
            words(
                "project: must be up to 128 letters, digits, spaces or .:/@+-_",
                "project: 英数字・空白・.:/@+-_ からなる 128 文字以内の名前で指定してください",
            ),
            param="project",
        )
    for period, usd in caps.items():
        if usd is None:
            continue
        most = MOST_USD[period]
        if not usd.is_finite() or usd < 0 or usd > most or usd != usd.quantize(Decimal("0.000001")):
            raise InvalidRequest(
                words(
                    f"{period}_usd: must be an amount from 0 to {most:,} US dollars, with at most 6 decimal places",
                    f"{period}_usd: 0 から {most:,} までの金額(米ドル、小数点以下 6 桁まで)で指定してください",
                ),
                param=f"{period}_usd",
            )


def _key(row: sa.RowMapping) -> ApiKey:
    def usd(micros: int | None) -> Decimal | None:
        return None if micros is None else from_micros(micros)

    return ApiKey(
        name=row["name"],
        prefix=row["prefix"],
        project=row["project"],
        day_usd=usd(row["day"]),
        month_usd=usd(row["month"]),
        created_at=from_us(row["created_at"]),
        revoked_at=None if row["revoked_at"] is None else from_us(row["revoked_at"]),
    )
