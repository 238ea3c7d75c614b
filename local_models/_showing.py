"""Pictures of a running job to one small file, in a thread that the denoising never waits for."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from local_models._messages import Run, Sketched

LONGEST = 256
"""Pixels of the longer side."""
QUALITY = 80


class Shower:
    """The newest picture wins; what comes while one is being written replaces what waits."""

    def __init__(self, tell: Callable[[Sketched], None]) -> None:
        """`tell` is called from the thread when a file is there or is a newer one."""
        self._tell = tell
        self._news = threading.Condition()
        self._waiting: tuple[Run, NDArray[np.uint8]] | None = None
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def show(self, run: Run, picture: NDArray[np.uint8]) -> None:
        """Take a picture (h, w, 3); returns at once."""
        with self._news:
            self._waiting = (run, picture)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="shower", daemon=True)
                self._thread.start()
            self._news.notify()

    def end(self, ticket: str) -> None:
        """Nothing is written for that job any more, and nothing is being written."""
        with self._writing, self._news:
            if self._waiting is not None and self._waiting[0].ticket == ticket:
                self._waiting = None

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting is not None)
            with self._writing:
                with self._news:
                    taken, self._waiting = self._waiting, None
                if taken is None:
                    continue
                run, picture = taken
                try:
                    write(Path(run.out).with_suffix(".webp"), picture, run.render.width, run.render.height)
                except OSError:
                    # A full disk ends no job that may still fit on it.
                    continue
                self._tell(Sketched(run.ticket))


def write(path: Path, picture: NDArray[np.uint8], width: int, height: int) -> None:
    """A WebP in the proportions of the clip, whole or not at all. Raises OSError."""
    scale = min(1.0, LONGEST / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    part = path.with_name(f"{path.name}.part")
    Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC).save(part, "WEBP", quality=QUALITY)
    os.replace(part, path)
