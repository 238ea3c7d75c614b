"""Processes a finished clip in a process of its own: a server stays responsive, and a cancel or a time limit ends it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from router.contract.post import PostStep
from router.contract.words import Words, words
from router.media._post_work import Answer, Order

LIMIT_S = 1800.0
"""Motion estimation takes about 0.1 s of one core per frame of 832x480 and grows with the pixels (measured 2026-11-26
on a shared 2-core machine; an estimate elsewhere)."""
GRACE_S = 5


class PostFailed(Exception):
    """The clip could not be processed; `message` says why. The original is untouched."""

    def __init__(self, message: Words) -> None:
        """`message` in both languages, without a full stop."""
        super().__init__(message.en)
        self.message = message


@dataclass(frozen=True)
class Processed:
    """New files, each None where no step made it; they are the caller's to move away or to remove."""

    clip: Path | None
    poster: Path | None
    preview: Path | None
    warnings: tuple[Words, ...]


async def process(
    source: Path, steps: Sequence[PostStep], into: Path, *, limit_s: float = LIMIT_S
) -> Processed:
    """Do the steps on `source` and write into the folder `into`. Raises PostFailed; cancelling ends the work at once."""
    order = Order(
        source=source,
        into=into,
        steps=tuple(steps),
        parent=os.getpid(),
        limit_s=int(limit_s) + GRACE_S,
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "router.media._post_work",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(limit_s):
            said, _ = await child.communicate(order.model_dump_json().encode())
    except TimeoutError:
        raise PostFailed(
            words(f"not done after {limit_s:.0f} s", f"{limit_s:.0f} 秒を過ぎても完了しませんでした")
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
    return _understood(said, child.returncode, into)


def _understood(said: bytes, code: int | None, into: Path) -> Processed:
    try:
        answer = Answer.model_validate_json(said)
    except ValidationError:
        text = f"the process ended with {code}"
        raise PostFailed(words(text, f"処理プロセスが異常終了しました({code})")) from None
    if answer.error is not None:
        raise PostFailed(answer.error)

    def path(name: str | None) -> Path | None:
        return into / name if name else None

    return Processed(path(answer.clip), path(answer.poster), path(answer.preview), answer.warnings)
