"""Small pictures of running jobs, one per job, in the media folder that every process shares; never rows, never kept."""

import asyncio
import logging
import os
import shutil
from pathlib import Path
from uuid import uuid4

log = logging.getLogger(__name__)

MIME = "image/webp"
_MARK = "sketch-"
_ENDING = ".webp"


class Sketches:
    """A picture that cannot be kept is not shown; no method raises for a disk that is full or away."""

    def __init__(self, folder: Path) -> None:
        """`folder` is swept of what a crash left."""
        self._folder = folder

    async def put(self, job_id: str, source: Path, seen_ns: int) -> int:
        """Copy the picture at `source` where it is newer than `seen_ns`; the time of the one that is there now."""

        def copy() -> int:
            near = self._folder / f"{uuid4().hex}{_ENDING}"
            try:
                changed_ns = source.stat().st_mtime_ns
                if changed_ns <= seen_ns:
                    return seen_ns
                shutil.copyfile(source, near)
                os.replace(near, self._path(job_id))
            except OSError as error:
                log.debug("%s: no picture on the way: %s", job_id, error.strerror)
                near.unlink(missing_ok=True)
                return seen_ns
            return changed_ns

        return await asyncio.to_thread(copy)

    async def read(self, job_id: str) -> bytes | None:
        """The picture, None where there is none."""

        def read() -> bytes | None:
            try:
                return self._path(job_id).read_bytes()
            except OSError:
                return None

        return await asyncio.to_thread(read)

    async def all(self) -> dict[str, int]:
        """A number per job that has a picture; another number, another picture."""

        def look() -> dict[str, int]:
            found: dict[str, int] = {}
            try:
                for path in self._folder.glob(f"{_MARK}*{_ENDING}"):
                    found[path.stem.removeprefix(_MARK)] = path.stat().st_mtime_ns // 1_000_000
            except OSError:
                # One that went away meanwhile, or all of them: the next look shows what is there.
                return found
            return found

        return await asyncio.to_thread(look)

    async def remove(self, job_id: str) -> None:
        """The job goes on without one, or has ended."""

        def unlink() -> None:
            try:
                self._path(job_id).unlink(missing_ok=True)
            except OSError as error:
                log.debug("%s: its picture stays: %s", job_id, error.strerror)

        await asyncio.to_thread(unlink)

    def _path(self, job_id: str) -> Path:
        # Ids come from our own table, but a name in a folder takes no chances.
        return self._folder / f"{_MARK}{Path(job_id).name}{_ENDING}"
