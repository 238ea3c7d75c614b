"""Brings files into the unfinished folder, one after another, and lets only those with the right content become whole.

`<name>.partial/` holds finished files under their names and at most one `*.part`, which is only ever appended to. A finished
file was verified before it got its name, so an interrupted pull goes on from the byte where it stopped.
"""

import errno
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from router.contract.errors import ServerTrouble, StorageFull
from router.contract.words import words
from router.weights.hub import Cut, Hub
from router.weights.values import Count, Digest, Pull, Tell, WeightFile

PULL_FILE = ".pull"
"""In the unfinished folder: the `Pull.source` it is of."""
PART = ".part"
BLOCK = 1 << 20
TRIES = 6
"""Cuts in a row without one further byte, before it is given up."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""EFBIG: the file system (FAT32) or a limit takes no file this large."""


class Stopped(Exception):
    """The one who asked has left."""


class Fetcher:
    """One pull into one folder. Blocking; raises GatewayError, or Stopped once `stop` is set."""

    def __init__(
        self,
        pull: Pull,
        folder: Path,
        token: str | None,
        stop: threading.Event,
        tell: Tell,
        *,
        retry_s: float,
    ) -> None:
        """`token` is the hub's; `retry_s`: the first pause after a cut, doubled each time."""
        self._pull = pull
        self._folder = folder
        self._token = token
        self._stop = stop
        self._count = Count(pull.total_bytes, tell=tell)
        self._retry_s = retry_s
        self._placed: dict[str, Path] = {}
        """By SHA-256: one checkpoint may be wanted under two names, and comes over the line once."""

    def run(self) -> dict[str, str | None]:
        """Fetch what is missing; the SHA-256 of every file as far as it was reckoned."""
        with _disk(self._folder):
            self._begin()
            sums = {}
            for file in self._pull.files:
                sums[file.path] = self._take(file)
                if file.sha256 is not None:
                    self._placed[file.sha256] = self._folder / file.path
            return sums

    def _begin(self) -> None:
        """An unfinished folder of another commit has other bytes under the same names."""
        if self._folder.exists() and left_by(self._folder) != self._pull.source:
            shutil.rmtree(self._folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / PULL_FILE).write_text(self._pull.source, encoding="utf-8")

    def _take(self, file: WeightFile) -> str | None:
        target = self._folder / file.path
        if target.is_file() and target.stat().st_size == file.size:
            self._count.add(file.path, file.size, arrived=False)
            return file.sha256
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + PART)
        source = self._placed.get(file.sha256 or "", file.local)
        if source is None:
            digest = self._stream(file, part)
        elif _linked(source, part):
            digest = self._hash(file, part, file.size)
        else:
            digest = self._copy(file, source, part)
        if part.stat().st_size != file.size or not digest.agrees:
            part.unlink()
            raise _wrong(file, self._pull)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(target)
        return digest.sha256

    def _stream(self, file: WeightFile, part: Path) -> Digest:
        """From the hub, going on where an earlier connection, or an earlier run, ended."""
        remote = file.remote
        assert remote is not None
        hub = Hub(remote.repository, self._token)
        if part.exists() and part.stat().st_size > file.size:
            part.unlink()
        part.touch()
        have = best = part.stat().st_size
        digest = self._hash(file, part, have) if have else Digest(file)
        failures = 0
        while have < file.size:
            why = "the connection ended early"
            try:
                with hub.body(remote.commit, remote.path, have) as body, part.open("ab") as out:
                    if body.start != have:
                        self._count.add(file.path, -have, arrived=False)
                        out.truncate(0)
                        digest, have = Digest(file), 0
                    for chunk in body.chunks:
                        self._go_on()
                        # Not more than was announced, however long the server talks.
                        piece = chunk[: file.size - have]
                        out.write(piece)
                        digest.update(piece)
                        have += len(piece)
                        self._count.add(file.path, len(piece), arrived=True)
                        if len(piece) < len(chunk):
                            part.unlink()
                            raise _wrong(file, self._pull)
            except Cut as cut:
                why = str(cut)
            failures, best = (0, have) if have > best else (failures + 1, best)
            if have < file.size:
                if failures >= TRIES:
                    raise hub.cut_too_often(why)
                if self._stop.wait(self._retry_s * 2**failures):
                    raise Stopped
        return digest

    def _hash(self, file: WeightFile, part: Path, size: int) -> Digest:
        """The digest of the first `size` bytes, which are already here."""
        digest = Digest(file)
        for block in self._blocks(part, size):
            digest.update(block)
            self._count.add(file.path, len(block), arrived=False)
        return digest

    def _copy(self, file: WeightFile, source: Path, part: Path) -> Digest:
        digest = Digest(file)
        with part.open("wb") as out:
            for block in self._blocks(source, file.size):
                out.write(block)
                digest.update(block)
                self._count.add(file.path, len(block), arrived=True)
        return digest

    def _blocks(self, path: Path, size: int) -> Iterator[bytes]:
        with path.open("rb") as stream:
            while block := stream.read(min(BLOCK, size)):
                self._go_on()
                size -= len(block)
                yield block

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped


def left_by(folder: Path) -> str | None:
    """What an unfinished pull was of (`Pull.source`)."""
    try:
        return (folder / PULL_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def already_here(pull: Pull, folder: Path) -> int:
    """Bytes of this very commit that an interrupted pull has left."""
    if left_by(folder) != pull.source:
        return 0
    here = 0
    for file in pull.files:
        for path in (folder / file.path, folder / (file.path + PART)):
            with suppress(OSError):
                here += min(path.stat().st_size, file.size)
    return here


def once(files: Sequence[WeightFile]) -> int:
    """Bytes of all files, those with the same content counted once."""
    return sum({file.sha256 or file.path: file.size for file in files}.values())


def same_disk(path: Path, folder: Path) -> bool:
    """Whether a link will do, which takes no room."""
    while not folder.exists():
        folder = folder.parent
    return path.resolve().stat().st_dev == folder.stat().st_dev


def _linked(source: Path, part: Path) -> bool:
    """A second name for the same bytes; False where the disk or its rules forbid it."""
    part.unlink(missing_ok=True)
    try:
        # The cache's own entries are symbolic links into its blobs.
        os.link(source.resolve(), part)
    except OSError:
        return False
    return True


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """A full or broken disk, said in words; what is there already stays for the next run."""
    try:
        yield
    except OSError as error:
        where = folder.parent
        if error.errno in _FULL:
            raise StorageFull(
                words(
                    f"The disk of {where} is full ({os.strerror(error.errno or 0)}). Make room and pull again; it goes on where "
                    "it stopped. Or keep the weights on another disk and name their folder in [local] models.",
                    f"{where} のディスクに空きがありません({os.strerror(error.errno or 0)})。空きを増やして再度 pull すると続きから"
                    "再開します。別のディスクに重みを置き、[local] models でそのフォルダーを指定することもできます。",
                )
            ) from None
        why = error.strerror or type(error).__name__
        raise ServerTrouble(
            words(
                f"{where} cannot be read or written ({why}). Repair its rights or the disk and pull again.",
                f"{where} を読み書きできません({why})。権限またはディスクを修復し、再度 pull してください。",
            )
        ) from None


def _wrong(file: WeightFile, pull: Pull) -> ServerTrouble:
    repository = file.remote.repository if file.remote else pull.repository
    return ServerTrouble(
        words(
            f"{file.path} of {repository} does not have the size or checksum that was announced; it was deleted. Pull again. "
            "If it happens again, the mirror, the cache or the folder it comes from is damaged: use another.",
            f"{repository} の {file.path} はサイズまたはチェックサムが一致しないため、削除しました。もう一度 pull してください。"
            "繰り返す場合は、取得元のミラー、キャッシュ、フォルダーが壊れています。別の取得元を使用してください。",
        )
    )
