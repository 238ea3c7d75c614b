"""The keys as a running server uses them: looked up by what a caller shows, read again every second."""

import time
from decimal import Decimal

from router import keys
from router.db import Database
from router.keys import ApiKey

FRESH_S = 1.0
"""A key that was revoked by another process opens nothing after this time."""


class Keyring:
    """Adds, lists, revokes and finds keys."""

    def __init__(self, db: Database) -> None:
        """Nothing is read before somebody asks."""
        self._db = db
        self._known: dict[str, ApiKey] = {}
        self._read_at: float | None = None

    async def add(
        self,
        name: str,
        *,
        project: str | None = None,
        day_usd: Decimal | None = None,
        month_usd: Decimal | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key, and the secret that is shown this once. Raises InvalidRequest or Conflict."""
        made = await self._db.write(
            lambda tx: keys.add(tx, name, project=project, day_usd=day_usd, month_usd=month_usd)
        )
        self._read_at = None
        return made

    async def list(self) -> tuple[ApiKey, ...]:
        """All keys, revoked ones too."""
        return await self._db.read(keys.listed)

    async def revoke(self, name: str) -> ApiKey:
        """It opens nothing any more. Raises NotFound."""
        gone = await self._db.write(lambda tx: keys.revoke(tx, name))
        self._read_at = None
        return gone

    async def find(self, secret: str) -> ApiKey | None:
        """The key behind what a caller shows; None where it is none of ours, or revoked."""
        found = (await self._fresh()).get(keys.hashed(secret))
        return found if found is not None and found.revoked_at is None else None

    async def any(self) -> bool:
        """Whether there ever was a key: revoking the last one must not open the door to everybody."""
        return bool(await self._fresh())

    async def _fresh(self) -> dict[str, ApiKey]:
        now = time.monotonic()
        if self._read_at is None or now - self._read_at > FRESH_S:
            self._known = await self._db.read(keys.by_hash)
            self._read_at = now
        return self._known
