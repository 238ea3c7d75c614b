"""Stream a result link into a file: redirects by hand and rechecked, resumed when cut, never larger than allowed."""

import asyncio
import errno
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import urljoin

from api_providers._answer import retry_after_s
from api_providers._target import Target
from router.contract import errors
from router.contract.words import words

TRIES = 3
REDIRECTS = 5
_DEAD_LINK = {401, 403, 404, 410}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Cut(Exception):
    """The connection broke while the body was on its way."""


class Unreachable(Exception):
    """No connection to any of the addresses."""


class Stream(NamedTuple):
    """An open answer."""

    status: int
    headers: Mapping[str, str]
    """Looked up without regard to case."""
    chunks: AsyncIterator[bytes]


Check = Callable[[str], Awaitable[Target]]
OpenStream = Callable[[Target, Mapping[str, str]], AbstractAsyncContextManager[Stream]]


async def download(
    url: str, to: Path, *, check: Check, open_stream: OpenStream, limit_mb: int, backend: str
) -> None:
    """Write `url` to the new file `to`; what was written is removed again when this raises.

    Raises LinkExpired, Unavailable, StorageFull, ServerTrouble (disk), OutputInvalid (too large), UnexpectedResponse.
    """
    transfer = _Transfer(url, to, check, open_stream, limit_mb, backend)
    try:
        with await asyncio.to_thread(to.open, "wb") as file:
            await transfer.run(file)
    except OSError as error:
        _discard(to)
        raise _disk(error) from None
    except BaseException:
        _discard(to)
        raise


class _Transfer:
    def __init__(
        self, url: str, to: Path, check: Check, open_stream: OpenStream, limit_mb: int, backend: str
    ) -> None:
        self.url = url
        self.check = check
        self.open_stream = open_stream
        self.limit_mb = limit_mb
        self.backend = backend
        self.got = 0
        self.total: int | None = None
        self.validator: str | None = None
        """ETag or date of the file that `got` bytes are of."""
        self.ranges = False

    async def run(self, file: BinaryIO) -> None:
        why = ""
        for _ in range(TRIES):
            try:
                await self._once(file)
                return
            except Cut as cut:
                why = str(cut)
            except Unreachable:
                why = "no connection"
        raise errors.Unavailable(
            words(
                f"the download broke off {TRIES} times ({why}); the clip stays there and is fetched again",
                f"ダウンロードが {TRIES} 回中断されました({why})。動画は先方に残っており、再度取得します。",
            ),
            backend=self.backend,
        )

    async def _once(self, file: BinaryIO) -> None:
        target = await self.check(self.url)
        for _ in range(REDIRECTS + 1):
            async with self.open_stream(target, self._headers()) as stream:
                if stream.status not in {301, 302, 303, 307, 308}:
                    await self._take(stream, file)
                    return
                location = stream.headers.get("location", "")
            target = await self.check(urljoin(target.url, location))
        raise errors.UnexpectedResponse(
            words(
                "a result link redirects more often than is followed",
                "結果リンクのリダイレクトが多すぎます。",
            ),
            backend=self.backend,
        )

    def _headers(self) -> dict[str, str]:
        """Ask for the rest only where the second half can be told to be of the same file."""
        if not self.got or not (self.validator or (self.ranges and self.total)):
            return {}
        return {"Range": f"bytes={self.got}-", **({"If-Range": self.validator} if self.validator else {})}

    async def _take(self, stream: Stream, file: BinaryIO) -> None:
        self._judge(stream)
        whole: int | None = None
        if stream.status == 200:
            self.got = 0
        elif (
            (part := _part(stream)) is None or part.start != self.got or part.total not in {self.total, None}
        ):
            self.got, self.total = 0, None
            raise Cut("wrong range")
        else:
            whole = part.total
        if file.tell() > self.got:
            await asyncio.to_thread(_rewind, file)
        encoded = stream.headers.get("content-encoding", "identity") != "identity"
        etag = stream.headers.get("etag", "")
        strong = etag if etag and not etag.startswith("W/") else None
        self.validator = None if encoded else strong or stream.headers.get("last-modified")
        self.ranges = stream.status == 206 or stream.headers.get("accept-ranges") == "bytes"
        length = stream.headers.get("content-length", "")
        expected = whole or (self.got + int(length) if length.isdigit() and not encoded else None)
        self.total = expected
        if expected is not None and expected > self.limit_mb * 1_000_000:
            raise self._too_large()
        async for chunk in stream.chunks:
            if self.got + len(chunk) > self.limit_mb * 1_000_000:
                raise self._too_large()
            await asyncio.to_thread(file.write, chunk)
            self.got += len(chunk)
        if expected is not None and self.got < expected:
            raise Cut(f"{self.got} of {expected} bytes")
        await asyncio.to_thread(file.flush)

    def _judge(self, stream: Stream) -> None:
        if stream.status in {200, 206}:
            return
        if stream.status in _DEAD_LINK:
            raise errors.LinkExpired(
                words(
                    f"the result link no longer works (HTTP {stream.status}); a fresh one is asked for",
                    f"結果のリンクが無効です (HTTP {stream.status})。新しいリンクを取得します。",
                ),
                backend=self.backend,
            )
        if stream.status == 416:
            self.got = 0
            raise Cut("range refused")
        raise errors.Unavailable(
            words(
                f"the result cannot be fetched now (HTTP {stream.status}); it is tried again",
                f"結果を現在取得できません (HTTP {stream.status})。あとで再試行します。",
            ),
            backend=self.backend,
            retry_after=retry_after_s({k.lower(): v for k, v in stream.headers.items()}),
        )

    def _too_large(self) -> errors.OutputInvalid:
        return errors.OutputInvalid(
            words(
                f"the result is larger than {self.limit_mb} MB; raise [storage] max_download_mb if that is right",
                f"結果が {self.limit_mb} MB を超えています。正しいサイズなら [storage] max_download_mb を上げてください。",
            ),
            backend=self.backend,
        )


class _Part(NamedTuple):
    """What a 206 says it carries."""

    start: int
    total: int | None


def _part(stream: Stream) -> _Part | None:
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", stream.headers.get("content-range", ""))
    return _Part(int(found[1]), None if found[2] == "*" else int(found[2])) if found else None


def _discard(path: Path) -> None:
    """At once, without a thread: it also runs while this task is being cancelled."""
    path.unlink(missing_ok=True)


def _rewind(file: BinaryIO) -> None:
    """Forget a first part that the coming bytes do not continue."""
    file.seek(0)
    file.truncate()


def _disk(error: OSError) -> errors.ServerTrouble:
    if error.errno in _NO_ROOM:
        return errors.StorageFull(
            words(
                "the disk is full; make room and the clip that was paid for is fetched",
                "ディスクの空きがありません。空きを作ると、支払い済みの動画を取得します。",
            )
        )
    return errors.ServerTrouble(
        words(
            f"the downloaded clip cannot be written: {error.strerror}",
            f"ダウンロードした動画を書き込めません: {error.strerror}",
        )
    )
