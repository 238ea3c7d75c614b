"""The commands `generate` and `plan`."""

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli import _options as o
from router.cli._app import app
from router.cli._door import BAD_REQUEST, FAILED, INTERRUPTED, OVER_BUDGET, UNRESOLVED, Door, door_of
from router.cli._progress import STATUS_WORDS, follow
from router.cli._request import Wanted, check, take_in, usd
from router.cli._show import show_decision, show_finishes
from router.cli._text import t
from router.contract.errors import BudgetExceeded, ContentRejected, InvalidRequest, UnsupportedRequest
from router.contract.job import Decision, Job, Status
from router.contract.post import Poster
from router.contract.words import words
from router.result import decision_row, finish_row, job_row

if TYPE_CHECKING:
    from router.gateway import Finish, Gateway


@app.command(help=t("Make a clip and wait for it.", "動画を生成し、完了まで待ちます。"))
def generate(
    context: typer.Context,
    prompt: o.Prompt = "",
    image: o.Image = None,
    end_image: o.EndImage = None,
    duration: o.Duration = None,
    resolution: o.Resolution = None,
    aspect: o.Aspect = None,
    fps: o.Fps = None,
    seed: o.Seed = None,
    guidance: o.Guidance = None,
    quality: o.QualityTier = None,
    camera: o.CameraMove = None,
    audio: o.Audio = None,
    negative: o.Negative = None,
    model: o.Model = None,
    mode: o.RunMode = None,
    backend: o.Backends = None,
    forbid: o.Forbid = None,
    substitutes: o.Substitutes = None,
    max_usd: o.MaxUsd = None,
    deadline: o.Deadline = None,
    project: o.Project = None,
    task: o.TaskName = None,
    reference: o.References = None,
    effect: o.Effect = None,
    option: o.Options = None,
    allow_drop: o.AllowDrop = None,
    post: o.Post = None,
    allow_unknown_price: o.UnknownPrice = False,
    allow_duplicate_spend: o.DuplicateSpend = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key",
            help=t(
                "The same key gives the same job, never a second one.",
                "同じキーなら同じジョブになり、二重に作られません。",
            ),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help=t("Copy the clip to this file.", "動画をこのファイルにコピーします。")),
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Submit, watch, print; the job outlives an interrupt."""
    door = door_of(context)
    door.json = as_json
    request = check(
        Wanted(
            prompt, image, end_image, duration, resolution, aspect, fps, seed, guidance, quality, camera, audio,
            negative, model, mode, backend, forbid, substitutes, max_usd, deadline, project, task,
            reference, effect, option, allow_drop, allow_unknown_price, post, allow_duplicate_spend,
        )
    )  # fmt: skip
    target = _target(out)
    settings = door.settings()
    submitted: list[Job] = []
    elsewhere = False

    async def work() -> tuple[Job, Path | None, dict[str, Path]]:
        nonlocal elsewhere
        from router.gateway import EngineRole

        async with door.open_gateway(settings, EngineRole.HELP) as gateway:
            job = await gateway.submit(
                await take_in(request, gateway.take_upload), idempotency_key=idempotency_key
            )
            submitted.append(job)
            try:
                job = await follow(gateway.watch(job.id), door)
            finally:
                elsewhere = not gateway.engine_here
            if job.status is not Status.COMPLETED or job.deleted:
                return job, None, {}
            clip, _ = await gateway.content(job.id)
            stills: dict[str, Path] = {}
            if job.preview:
                stills["preview"] = (await gateway.content(job.id, "preview"))[0]
            if job.poster and any(isinstance(step, Poster) for step in job.request.post):
                stills["poster"] = (await gateway.content(job.id, "thumbnail"))[0]
            if target is not None:
                clip = await asyncio.to_thread(_copy, clip, target, job.id)
                for name, still in stills.items():
                    beside = _beside(target, name, still.suffix)
                    stills[name] = await asyncio.to_thread(_copy, still, beside, job.id)
            return job, clip, stills

    try:
        job, clip, stills = door.run(work())
    except KeyboardInterrupt:
        _interrupted(door, submitted[0] if submitted else None, elsewhere)
        door.stop(INTERRUPTED)
    _show(door, job, clip, stills)
    door.stop(_code_of(job))


def _target(out: Path | None) -> Path | None:
    """Where the clip is to be copied, checked before money is spent."""
    if out is None:
        return None
    out = out.expanduser().absolute()
    folder = out if out.is_dir() else out.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InvalidRequest(
            words(
                f"--out: the folder {folder} does not exist or cannot be written to",
                f"--out: フォルダー {folder} が存在しないか、書き込めません",
            )
        )
    return out


def _beside(target: Path, name: str, suffix: str) -> Path:
    """Where a preview or poster goes: beside the clip under its name, whatever ending that was given."""
    if target.is_dir():
        return target
    still = target.with_suffix(suffix)
    return still if still != target else target.with_name(f"{target.stem}-{name}{suffix}")


def _copy(clip: Path, target: Path, job_id: str) -> Path:
    """Under a temporary name first, so that a file with the wanted name is always whole."""
    final = target / f"{job_id}{clip.suffix}" if target.is_dir() else target
    partial = final.with_name(f".{final.name}.{job_id}.part")
    try:
        shutil.copyfile(clip, partial)
        partial.replace(final)
    finally:
        partial.unlink(missing_ok=True)
    return final


def _interrupted(door: Door, job: Job | None, elsewhere: bool) -> None:
    """Who goes on with the job, and how to cancel it."""
    if job is None:
        door.error(
            words("Interrupted before a job was written.", "ジョブが作成される前に中断しました。"),
            "interrupted",
        )
        return
    who = (
        words(
            "the engine that runs in another process goes on with it",
            "別プロセスで動作中のエンジンが続きを実行します",
        )
        if elsewhere
        else words(
            "the next engine to start (understudy serve, or another generate) goes on with it",
            "次に起動するエンジン(understudy serve または別の generate)が続きを実行します",
        )
    )
    door.error(
        words(
            f"Interrupted. Job {job.id} stays: {who.en}. To cancel it: understudy cancel {job.id}",
            f"中断しました。ジョブ {job.id} は残っており、{who.ja}。キャンセルするには: understudy cancel {job.id}",
        ),
        "interrupted",
        job=job.id,
    )


def _code_of(job: Job) -> int:
    if job.status is Status.COMPLETED:
        return 0
    if job.status is Status.UNRESOLVED:
        return UNRESOLVED
    code = job.error.code if job.error else None
    if code == BudgetExceeded.code:
        return OVER_BUDGET
    return (
        BAD_REQUEST
        if code in {InvalidRequest.code, UnsupportedRequest.code, ContentRejected.code}
        else FAILED
    )


def _show(door: Door, job: Job, clip: Path | None, stills: dict[str, Path]) -> None:
    """The ended job: one JSON object, or a few lines for a person."""
    for warning in job.warnings:
        door.note(warning, style="yellow")
    if door.json:
        row = job_row(job, door.lang, file=str(clip) if clip else None)
        door.value({**row, **{name: str(still) for name, still in stills.items()}})
        return
    row = job_row(job, door.lang)
    figures = words(
        f"estimated {door.amount(job.estimate_usd)}, billed {door.amount(job.billed_usd)}, {row['seconds']} s",
        f"見積もり {door.amount(job.estimate_usd)}、請求 {door.amount(job.billed_usd)}、{row['seconds']} 秒",
    )
    status = STATUS_WORDS[job.status]
    where = f" · {job.model}" if job.model else ""
    door.say(
        words(f"{job.id}: {status.en}{where} ({figures.en})", f"{job.id}: {status.ja}{where}({figures.ja})")
    )
    if job.error:
        door.note(job.error.message, style="red")
    elif job.reason:
        door.say(job.reason)
    if job.status is Status.UNRESOLVED:
        door.note(
            words(
                f"Look at {job.backend}'s own bill, then: understudy settle {job.id} --billed USD (or --nothing)",
                f"{job.backend} の請求内容を確認してから実行してください: understudy settle {job.id} --billed USD(または --nothing)",
            ),
            style="yellow",
        )
    for path in filter(None, (clip, *stills.values())):
        door.out.print(str(path), markup=False)


@app.command(
    help=t(
        "Show where a request would go and what it would cost.",
        "どこで実行され、いくらかかるかを表示します。",
    )
)
def plan(
    context: typer.Context,
    prompt: o.Prompt = "",
    image: o.Image = None,
    end_image: o.EndImage = None,
    duration: o.Duration = None,
    resolution: o.Resolution = None,
    aspect: o.Aspect = None,
    fps: o.Fps = None,
    seed: o.Seed = None,
    guidance: o.Guidance = None,
    quality: o.QualityTier = None,
    camera: o.CameraMove = None,
    audio: o.Audio = None,
    negative: o.Negative = None,
    model: o.Model = None,
    mode: o.RunMode = None,
    backend: o.Backends = None,
    forbid: o.Forbid = None,
    substitutes: o.Substitutes = None,
    max_usd: o.MaxUsd = None,
    deadline: o.Deadline = None,
    project: o.Project = None,
    task: o.TaskName = None,
    reference: o.References = None,
    effect: o.Effect = None,
    option: o.Options = None,
    allow_drop: o.AllowDrop = None,
    post: o.Post = None,
    allow_unknown_price: o.UnknownPrice = False,
    allow_duplicate_spend: o.DuplicateSpend = False,
    count: o.Count = None,
    budget: o.Budget = None,
    as_json: o.AsJson = False,
) -> None:
    """Nothing is written or spent."""
    door = door_of(context)
    door.json = as_json
    request = check(
        Wanted(
            prompt, image, end_image, duration, resolution, aspect, fps, seed, guidance, quality, camera, audio,
            negative, model, mode, backend, forbid, substitutes, max_usd, deadline, project, task,
            reference, effect, option, allow_drop, allow_unknown_price, post, allow_duplicate_spend,
        )
    )  # fmt: skip

    most = None if budget is None else usd(budget, "--budget")
    if count is None and most is not None:
        raise InvalidRequest(
            words(
                "--budget is for many clips: give --count too",
                "--budget は本数(--count)と併せて指定してください",
            ),
            param="--budget",
        )

    async def work(gateway: "Gateway") -> "tuple[Decision, Sequence[Finish], Sequence[Finish]]":
        wanted = await take_in(request, None)
        decision = await gateway.plan(wanted)
        if count is None:
            return decision, (), ()
        many = await gateway.finishes(wanted, count=count, budget_usd=most)
        beyond = await gateway.finishes(wanted, count=count) if most is not None and not many else ()
        return decision, many, beyond

    decision, many, beyond = door.ask(work)
    if door.json:
        row = decision_row(decision, door.lang)
        door.value(row if count is None else {**row, "finishes": [finish_row(finish) for finish in many]})
    elif count is None:
        show_decision(door, decision)
    else:
        show_finishes(door, decision, count, many, beyond)
