"""Content-addressed files: checked on the way in, written whole or not at all, found again by their hash."""

import asyncio
import base64
import binascii
import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from router.contract.card import Asset
from router.contract.errors import InvalidRequest, OutputInvalid, ServerTrouble, StorageFull
from router.contract.words import words
from router.media.download import Downloader, too_large
from router.media.probe import EXTENSIONS, BrokenMedia, Kind, Probe, probe, probe_preview, write_poster
from router.media.sketches import Sketches

MEGABYTE = 1_000_000
IDENTITY_FILE = ".store-id"
LEFTOVER_S = 86_400.0
"""Temporary files older than this were left by a crash and are removed at start."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_MIMES = {extension: mime for mime, extension in EXTENSIONS.items() if mime != "image/gif"}
"""What can be an input; a GIF is only ever a preview that we made."""
_DATA_URI = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+-]+=[^;,]*)*;base64,", re.IGNORECASE)
_Result = TypeVar("_Result")


class MediaStore:
    """A folder of assets. All disk work is done in threads; every method may raise StorageFull or ServerTrouble."""

    def __init__(
        self,
        root: Path,
        *,
        min_free_bytes: int = 500 * MEGABYTE,
        max_input_bytes: int = 64 * MEGABYTE,
        downloader: Downloader | None = None,
    ) -> None:
        """`min_free_bytes` stays free on the disk; `max_input_bytes` is the largest input a caller may give."""
        self.root = root
        self.sketches = Sketches(root / "tmp")
        self.min_free_bytes = min_free_bytes
        self.max_input_bytes = max_input_bytes
        self._downloader = downloader or Downloader()
        self._identity: str | None = None

    @property
    def identity(self) -> str:
        """The id of this folder, the same for every process that shares it. Known after `open`."""
        if self._identity is None:
            raise RuntimeError("open the media store first")
        return self._identity

    async def open(self) -> None:
        """Make the folder and its id, or read the id; remove what a crash left behind."""
        self._identity = await self._disk(self._prepare)

    def path(self, asset: Asset) -> Path:
        """The file itself; never written to."""
        return self._folder(asset.id) / f"{asset.id}.{EXTENSIONS.get(asset.mime, 'bin')}"

    def scratch(self, suffix: str = "") -> Path:
        """A path for a new temporary file in this store, on the same disk as the assets."""
        return self.root / "tmp" / f"{uuid4().hex}{suffix}"

    async def get(self, asset_id: str) -> Asset:
        """The asset of that id; raises InvalidRequest where there is none."""

        def look() -> Asset | None:
            for path in self._find(asset_id):
                mime = _MIMES.get(path.suffix[1:])
                if mime is not None:
                    return _asset(path, asset_id, _again(path, mime))
            return None

        asset = await self._disk(look) if re.fullmatch(r"[0-9a-f]{64}", asset_id) else None
        if asset is not None:
            return asset
        raise InvalidRequest(
            words(
                f"There is no media file asset:{asset_id}; upload it first.",
                f"メディアファイル asset:{asset_id} は見つかりません。先にアップロードしてください。",
            )
        )

    async def take_bytes(self, data: bytes, expect: Kind = "image") -> Asset:
        """Check and keep an input; raises InvalidRequest."""
        if len(data) > self.max_input_bytes:
            raise too_large(self.max_input_bytes)
        tmp = self.scratch()
        return await self._input(tmp, expect, lambda: _write_new(tmp, data))

    async def take_file(self, path: Path, expect: Kind = "image") -> Asset:
        """Check a file and keep a copy; the file itself stays as it is. Raises InvalidRequest."""
        try:
            size = (await asyncio.to_thread(path.stat)).st_size
            if not await asyncio.to_thread(path.is_file):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        except OSError as error:
            why = error.strerror or "error"
            raise InvalidRequest(
                words(f"Cannot read {path.name}: {why}", f"{path.name} を読めません: {why}")
            ) from None
        if size > self.max_input_bytes:
            raise too_large(self.max_input_bytes)
        tmp = self.scratch()
        return await self._input(tmp, expect, lambda: _copy_new(path, tmp))

    async def take_reference(self, ref: str, expect: Kind = "image", *, allow_private: bool = False) -> Asset:
        """An input by reference: `asset:<id>`, a base64 data URI or an https URL. Raises InvalidRequest."""
        if ref.startswith("asset:"):
            asset = await self.get(ref.removeprefix("asset:"))
            if not asset.mime.startswith(f"{expect}/"):
                raise InvalidRequest(
                    words(
                        f"{ref} is {asset.mime}, but {expect} is needed here.",
                        f"{ref} は {asset.mime} です。ここでは {expect} が必要です。",
                    )
                )
            return asset
        if ref[:5].lower() == "data:":
            return await self.take_bytes(await asyncio.to_thread(self._from_data_uri, ref), expect)
        if ref.lower().startswith(("https://", "http://")):
            await self.ensure_room(self.max_input_bytes)
            tmp = self.scratch()
            try:
                await self._downloader.fetch(
                    ref, tmp, max_bytes=self.max_input_bytes, allow_private=allow_private
                )
                return await self._input(tmp, expect, lambda: None)
            except OSError as error:
                raise self._trouble(error) from None
            finally:
                await asyncio.to_thread(_discard, tmp)
        raise InvalidRequest(
            words(
                "An input is given as an https:// address, a data URI or asset:<id> of an uploaded file.",
                "入力は https:// の URL、データ URI、またはアップロード済みファイルの asset:<id> で指定してください。",
            )
        )

    async def adopt(self, tmp: Path, kind: Kind = "video") -> Asset:
        """Move a delivered result into the store; raises OutputInvalid where it is no whole video (or image)."""

        def adopt() -> Asset:
            return self._keep(tmp, probe(tmp, kind))

        try:
            return await self._disk(adopt)
        except BrokenMedia as error:
            raise OutputInvalid(error.message) from None
        finally:
            await asyncio.to_thread(_discard, tmp)

    async def adopt_preview(self, tmp: Path) -> Asset:
        """Move an animated preview (GIF or WebP) that we made into the store; raises OutputInvalid."""
        try:
            return await self._disk(lambda: self._keep(tmp, probe_preview(tmp)))
        except BrokenMedia as error:
            raise OutputInvalid(error.message) from None

    async def poster(self, asset: Asset) -> Asset:
        """The first frame of a clip as a JPEG asset, an image itself; raises OutputInvalid."""
        if asset.mime.startswith("image/"):
            return asset
        tmp = self.scratch(".jpg")

        def make() -> Asset:
            write_poster(self.path(asset), tmp)
            return self._keep(tmp, probe(tmp, "image", whole=False))

        try:
            return await self._disk(make)
        except BrokenMedia as error:
            raise OutputInvalid(error.message) from None
        finally:
            await asyncio.to_thread(_discard, tmp)

    async def remove(self, asset_id: str) -> None:
        """Delete the file; one that is gone already is no error. Whether others still use it is for the caller."""

        def unlink() -> None:
            for path in self._find(asset_id):
                path.unlink(missing_ok=True)

        await self._disk(unlink)

    async def free_bytes(self) -> int:
        """Free space on the disk of the store."""
        return await self._disk(lambda: shutil.disk_usage(self.root).free)

    async def ensure_room(self, size_bytes: int) -> None:
        """Raises StorageFull where writing that much would leave less than the minimum free."""
        free = await self.free_bytes()
        if free < size_bytes + self.min_free_bytes:
            raise _full(self.root)

    async def _input(self, tmp: Path, expect: Kind, write: Callable[[], None]) -> Asset:
        """Write, check, keep; the temporary file is gone afterwards whatever happens."""

        def take() -> Asset:
            write()
            return self._keep(tmp, probe(tmp, expect))

        try:
            return await self._disk(take)
        except BrokenMedia as error:
            raise InvalidRequest(error.message) from None
        finally:
            await asyncio.to_thread(_discard, tmp)

    def _from_data_uri(self, ref: str) -> bytes:
        header = _DATA_URI.match(ref[:400])
        if header is None:
            raise InvalidRequest(
                words(
                    "The data URI must have the form data:<type>;base64,<data>.",
                    "データ URI は data:<種類>;base64,<データ> の形式で指定してください。",
                )
            )
        if (len(ref) - header.end()) * 3 // 4 > self.max_input_bytes + 3:
            raise too_large(self.max_input_bytes)
        try:
            return base64.b64decode("".join(ref[header.end() :].split()), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest(
                words("The data URI is not valid base64.", "データ URI が正しい base64 ではありません。")
            ) from None

    def _folder(self, asset_id: str) -> Path:
        return self.root / asset_id[:2] / asset_id[2:4]

    def _find(self, asset_id: str) -> list[Path]:
        return sorted(self._folder(asset_id).glob(f"{asset_id}.*"))

    def _keep(self, tmp: Path, found: Probe) -> Asset:
        """Name the file by its content and move it in; complete on disk before it can be found."""
        with tmp.open("rb") as file:
            asset_id = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        asset = _asset(tmp, asset_id, found)
        target = self.path(asset)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.stat().st_size == asset.size_bytes:
            return asset
        try:
            tmp.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            near = self.scratch()
            try:
                _copy_new(tmp, near)
                near.replace(target)
            finally:
                _discard(near)
        _sync_folder(target.parent)
        return asset

    def _prepare(self) -> str:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / "tmp").mkdir(mode=0o700, exist_ok=True)
        self._sweep()
        mark = self.root / IDENTITY_FILE
        tmp = self.scratch()
        try:
            # Written even where the id exists: a folder that cannot be written to is found out at start.
            _write_new(tmp, uuid4().hex.encode())
            if not mark.exists():
                try:
                    os.link(tmp, mark)
                except FileExistsError:
                    pass
                except OSError:
                    # Some network file systems have no hard links.
                    tmp.replace(mark)
                _sync_folder(self.root)
        finally:
            _discard(tmp)
        return mark.read_text(encoding="ascii").strip()

    def _sweep(self) -> None:
        """Remove what a crash left; other processes make and remove files here at the same time."""
        for path in (self.root / "tmp").iterdir():
            try:
                if time.time() - path.stat().st_mtime > LEFTOVER_S:
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else _discard(path)
            except FileNotFoundError:
                continue

    async def _disk(self, work: Callable[[], _Result]) -> _Result:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise self._trouble(error) from error

    def _trouble(self, error: OSError) -> ServerTrouble:
        if error.errno in _FULL:
            return _full(self.root)
        why = error.strerror or type(error).__name__
        return ServerTrouble(
            words(
                f"The media folder {self.root} cannot be used: {why}. "
                "Check that it exists and that this user may write there.",
                f"メディアフォルダー {self.root} を使用できません: {why}。"
                "フォルダーの有無と、このユーザーの書き込み権限を確認してください。",
            )
        )


def _full(root: Path) -> StorageFull:
    return StorageFull(
        words(
            f"The disk of {root} is full. Free some space; what was already paid for is fetched afterwards.",
            f"{root} のディスクに空きがありません。空き容量を増やしてください。支払い済みの動画はその後に取得されます。",
        )
    )


def _asset(path: Path, asset_id: str, found: Probe) -> Asset:
    return Asset(
        id=asset_id,
        mime=found.mime,
        size_bytes=path.stat().st_size,
        width=found.width,
        height=found.height,
        duration_s=found.duration_s,
    )


def _again(path: Path, mime: str) -> Probe:
    """Headers of a file that was checked when it came in; a file damaged since keeps its name, without numbers."""
    kind: Kind = "image" if mime.startswith("image/") else "video" if mime.startswith("video/") else "audio"
    try:
        return probe(path, kind, whole=False)
    except BrokenMedia:
        return Probe(mime)


def _write_new(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _copy_new(source: Path, to: Path) -> None:
    with source.open("rb") as reader, to.open("xb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fsync(writer.fileno())


def _sync_folder(folder: Path) -> None:
    """The new name itself must survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _discard(path: Path) -> None:
    path.unlink(missing_ok=True)
