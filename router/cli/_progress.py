"""Watching a job: a bar on a terminal, a line per change elsewhere, always on stderr."""

from collections.abc import AsyncGenerator, AsyncIterator

from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from router.cli._door import Door
from router.contract.job import Job, Status
from router.contract.words import Words, words

STATUS_WORDS: dict[Status, Words] = {
    Status.QUEUED: words("waiting", "待機中"),
    Status.SUBMITTING: words("submitting", "送信中"),
    Status.RUNNING: words("running", "生成中"),
    Status.FETCHING: words("downloading", "ダウンロード中"),
    Status.COMPLETED: words("completed", "完了"),
    Status.FAILED: words("failed", "失敗"),
    Status.CANCELLED: words("cancelled", "キャンセル済み"),
    Status.UNRESOLVED: words("unresolved", "未解決"),
}


def line_of(job: Job, door: Door) -> str:
    """`running on runway/gen4.5: cheapest that can start now`."""
    text = STATUS_WORDS[job.status].in_(door.lang)
    if job.model and not job.status.ended and job.status is not Status.QUEUED:
        text += f" · {job.model}"
    if job.reason and not job.status.ended:
        text += f" · {job.reason.in_(door.lang)}"
    return text


async def follow(changes: AsyncIterator[Job], door: Door) -> Job:
    """Show every change until the job has ended; the last state."""
    console = door.err
    last: Job | None = None
    said = ""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        bar = progress.add_task("", total=1.0)
        try:
            async for job in changes:
                last = job
                line = line_of(job, door)
                progress.update(bar, completed=job.progress, description=escape(line))
                if line != said and not console.is_terminal:
                    console.print(escape(line))
                said = line
        finally:
            # Its cleanup lets go of the engine; that must not wait for the garbage collector.
            if isinstance(changes, AsyncGenerator):
                await changes.aclose()
    if last is None:
        raise RuntimeError("watch ended without a state")
    return last
