"""What a request asks to be done to its finished clip; whatever goes wrong here, the clip that was paid for stays."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from router.contract import errors
from router.contract.card import Asset
from router.contract.post import PostStep
from router.contract.words import Words, words
from router.media import MediaStore
from router.media.post import PostFailed, Processed, process

log = logging.getLogger("understudy.engine")


@dataclass(frozen=True)
class Finished:
    """The files of a job that is about to be completed."""

    output: Asset
    poster: Asset
    original: Asset | None = None
    """The clip as it came, where `output` is another one."""
    preview: Asset | None = None
    """The GIF or WebP."""
    warnings: tuple[Words, ...] = ()

    @property
    def details(self) -> dict[str, JsonValue]:
        """What the job keeps of it beside its output: `original`, an id, and `preview`, an asset."""
        kept: dict[str, JsonValue] = {}
        if self.original is not None:
            kept["original"] = self.original.id
        if self.preview is not None:
            kept["preview"] = self.preview.model_dump(mode="json")
        return kept

    @property
    def made(self) -> tuple[str, ...]:
        """Ids of all its files."""
        files = (self.output, self.poster, self.original, self.preview)
        return tuple(file.id for file in files if file is not None)


async def finish(
    media: MediaStore,
    clip: Asset,
    steps: Sequence[PostStep],
    *,
    woken: asyncio.Event,
    cancelled: Callable[[], bool],
) -> Finished:
    """The clip with its steps done, or as it came with a warning. Raises only what making a poster raises."""
    if not steps:
        return Finished(clip, await media.poster(clip))
    into = media.scratch(".post")
    try:
        await asyncio.to_thread(into.mkdir)
        work = process(media.path(clip), steps, into)
        return await _kept(media, clip, await _unless_cancelled(work, woken, cancelled))
    except PostFailed as error:
        why = error.message
    except errors.GatewayError as error:
        why = error.message
    except Exception as error:
        log.exception("unforeseen error while a clip was processed")
        why = words(
            f"unforeseen error ({type(error).__name__}); the log has the details",
            f"予期しないエラー({type(error).__name__})。詳細はログにあります",
        )
    finally:
        await asyncio.to_thread(shutil.rmtree, into, ignore_errors=True)
    asked = ", ".join(step.do for step in steps)
    told = words(
        f"What was asked for after the clip ({asked}) was not done: {why.en.rstrip('.')}. This is the clip as it came.",
        f"後処理({asked})を実行できませんでした: {why.ja.rstrip('。')}。動画は生成されたままの状態です。",
    )
    return Finished(clip, await media.poster(clip), warnings=(told,))


async def _kept(media: MediaStore, clip: Asset, made: Processed) -> Finished:
    """Check what was made and take it into the store."""
    output = await media.adopt(made.clip) if made.clip else clip
    poster = await media.adopt(made.poster, "image") if made.poster else await media.poster(output)
    original = clip if output.id != clip.id else None
    preview = await media.adopt_preview(made.preview) if made.preview else None
    return Finished(output, poster, original, preview, made.warnings)


async def _unless_cancelled(
    work: Coroutine[Any, Any, Processed], woken: asyncio.Event, cancelled: Callable[[], bool]
) -> Processed:
    """The work's result; PostFailed as soon as somebody wants the job cancelled."""
    task = asyncio.create_task(work)
    try:
        while not cancelled():
            wake = asyncio.create_task(woken.wait())
            await asyncio.wait({task, wake}, return_when=asyncio.FIRST_COMPLETED)
            wake.cancel()
            if task.done():
                return task.result()
            woken.clear()
        raise PostFailed(words("the job was cancelled", "ジョブがキャンセルされました"))
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, PostFailed):
            await task
