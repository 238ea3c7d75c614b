"""Lets go of a finished job: its media where no other job needs them, its history if asked. Never the ledger."""

from router import store
from router.db import Database, Tx
from router.media import MediaStore


async def forget(db: Database, media: MediaStore, job_id: str, *, history: bool = False) -> None:
    """Hide the job and remove files that nothing refers to any more; with `history` its events go too."""

    def hide(tx: Tx) -> list[str]:
        job = store.get(tx, job_id)
        if job is None:
            return []
        held = [*job.made]
        held += [item.asset.id for item in store.inputs_of(tx, job_id).values()]
        store.mark_deleted(tx, job_id)
        if history:
            store.forget_events(tx, job_id)
        return [asset_id for asset_id in held if not store.asset_used(tx, asset_id)]

    for asset_id in await db.write(hide):
        await media.remove(asset_id)
