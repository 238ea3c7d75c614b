"""What the weights room hands about: a file to fetch, a plan to pull, progress, and what lies on the disk."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from router.contract.card import ModelCard
from router.contract.words import Words
from router.weights.licences import Licence

Inspect = Callable[[ModelCard, Path], Awaitable[Words | None]]
"""Asks the card's own backend what is wrong with a folder of weights; None: it would load."""


class Origin(StrEnum):
    """Where weights come from."""

    HUB = "hub"
    CACHE = "cache"
    """The Hugging Face cache of this user; the hub itself could not be reached."""
    FOLDER = "folder"
    """A folder that was named with `--from`."""
    SETTING = "setting"
    """The user's own folder, named in `[local] models`."""
    CARD = "card"
    """The card names its folder: the model that ships with Understudy, or a user's own."""


@dataclass(frozen=True)
class Remote:
    """Where the hub has a file."""

    repository: str
    commit: str
    path: str


@dataclass(frozen=True)
class WeightFile:
    """One file to bring into the data folder."""

    path: str
    """Relative, with slashes, never leaving its folder."""
    size: int
    """Bytes."""
    sha256: str | None = None
    """Hex; known for large files (Git LFS)."""
    git_sha1: str | None = None
    """Hex, git's own hash of a small file: SHA-1 over `blob <size>` and a zero byte, then the content."""
    local: Path | None = None
    """A file on this machine that should have the same content."""
    remote: Remote | None = None
    """Where to fetch it; None for a file that is only on this machine."""

    @property
    def has_checksum(self) -> bool:
        """Whether there is something to compare the content with."""
        return self.sha256 is not None or self.git_sha1 is not None


class Digest:
    """The checksum of a file while its bytes go by."""

    def __init__(self, file: WeightFile) -> None:
        """Starts at the first byte."""
        self._file = file
        self._hash = _new(file)

    def update(self, data: bytes) -> None:
        """The next bytes."""
        self._hash.update(data)

    @property
    def sha256(self) -> str | None:
        """Hex, where that is the kind of checksum this file has or may take."""
        return self._hash.hexdigest() if self._hash.name == "sha256" else None

    @property
    def agrees(self) -> bool:
        """Whether it is what was announced; true where nothing was."""
        expected = self._file.sha256 or self._file.git_sha1
        return expected is None or self._hash.hexdigest() == expected


def _new(file: WeightFile) -> Any:
    if file.sha256 is None and file.git_sha1 is not None:
        return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    return hashlib.sha256()


@dataclass(frozen=True)
class Pull:
    """What `pull` would do; made without writing anything."""

    card: ModelCard
    name: str
    """The folder's name under `models`."""
    origin: Origin
    repository: str
    """The hub repository, or the folder's name for `--from`."""
    revision: str
    """The commit; empty where a folder does not tell."""
    source: str
    """What an unfinished pull is of: two pulls with the same one fetch the same bytes."""
    files: tuple[WeightFile, ...]
    licence: Licence
    accepted_at: datetime | None
    """When this licence was accepted here; None: not yet."""
    missing_bytes: int
    """What is still to be written; 0 with `complete`, or when everything can be linked."""
    free_bytes: int
    complete: bool = False
    """These very weights are here already."""

    @property
    def total_bytes(self) -> int:
        """All files together."""
        return sum(file.size for file in self.files)

    @property
    def verified(self) -> bool:
        """Whether every file has a checksum to compare with."""
        return all(file.has_checksum for file in self.files)


@dataclass(frozen=True)
class PullProgress:
    """How far a pull is."""

    file: str
    done_bytes: int
    total_bytes: int
    arrived_bytes: int = 0
    """Of `done_bytes`, those that came in this run (not from an earlier one)."""


Tell = Callable[[PullProgress], None]
"""Called from a thread, at least once per file."""


@dataclass(frozen=True)
class Installed:
    """Weights on this machine, or the beginning of them."""

    model: str | None
    """Card id; None for a folder whose card is gone."""
    name: str
    folder: Path
    origin: Origin | None
    """None while nothing but an unfinished pull is here."""
    bytes: int = 0
    repository: str | None = None
    revision: str | None = None
    licence: str | None = None
    accepted_at: datetime | None = None
    pulled_at: datetime | None = None
    problem: Words | None = None
    partial_bytes: int = 0
    """What an interrupted pull has left; the next one goes on from there."""


@dataclass
class Count:
    """Bytes of one run."""

    total: int
    done: int = 0
    arrived: int = 0
    tell: Tell = field(default=lambda progress: None)

    def add(self, file: str, size: int, *, arrived: bool) -> None:
        """Move on and tell."""
        self.done += size
        self.arrived += size if arrived else 0
        self.tell(PullProgress(file, self.done, self.total, self.arrived))
