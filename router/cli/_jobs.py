"""Commands about jobs that exist: jobs, cancel, settle, why."""

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli import _options as o
from router.cli._app import app
from router.cli._door import Door, door_of
from router.cli._progress import STATUS_WORDS
from router.cli._request import usd
from router.cli._show import moment, shorten, show_decision
from router.cli._text import t
from router.contract.errors import InvalidRequest, NotFound
from router.contract.job import Attempt, Event, Job, Status
from router.contract.words import Lang, Words, words
from router.explain import basis, between, note, overrun
from router.result import attempt_row, job_row, route_rows

if TYPE_CHECKING:
    from router.gateway import Booking, Gateway


def _listed(job: Job, lang: Lang, file: str | None) -> dict[str, Any]:
    return {
        **job_row(job, lang, file=file),
        "progress": round(job.progress, 3),
        "prompt": job.request.prompt,
        "project": job.request.project,
        "tags": list(job.request.tags),
        "created_at": job.created_at.isoformat(),
        "ended_at": job.ended_at.isoformat() if job.ended_at else None,
    }


async def _file_of(gateway: "Gateway", job: Job) -> str | None:
    """Where the clip lies; None while there is none, and for a job whose media were deleted."""
    if job.status is not Status.COMPLETED or job.deleted:
        return None
    try:
        return str((await gateway.content(job.id))[0])
    except NotFound:
        return None


@app.command(help=t("List jobs, newest first.", "ジョブを新しい順に一覧します。"))
def jobs(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help=t("How many.", "件数。"))] = 20,
    after: Annotated[
        str | None, typer.Option("--after", help=t("Older than this job.", "このジョブより古いもの。"))
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state", help=t("Only this state, e.g. unresolved.", "この状態のみ(例: unresolved)。")
        ),
    ] = None,
    project: o.Project = None,
    as_json: o.AsJson = False,
) -> None:
    """One page; `--after` goes on."""
    door = door_of(context)
    door.json = as_json
    if state is not None and state not in set(Status):
        raise InvalidRequest(
            words(
                f"--state: {state!r} is not one of {', '.join(Status)}",
                f"--state: {state!r} は次のいずれでもありません: {'、'.join(Status)}",
            )
        )

    async def work(gateway: "Gateway") -> list[tuple[Job, str | None]]:
        page = await gateway.list(limit=limit, after=after, project=project, state=state)
        return [(job, await _file_of(gateway, job)) for job in page.jobs]

    found = door.ask(work)
    if door.json:
        door.value([_listed(job, door.lang, file) for job, file in found])
        return
    if not found:
        door.say(words("There are no jobs.", "ジョブはありません。"))
        return
    heads = (
        words("job", "ジョブ"),
        words("status", "状態"),
        words("model", "モデル"),
        words("billed", "請求"),
        words("created", "作成"),
        words("prompt", "プロンプト"),
    )
    door.table(
        heads,
        (
            (
                job.id,
                STATUS_WORDS[job.status].in_(door.lang)
                + ("" if job.status.ended or not job.progress else f" {job.progress:.0%}"),
                job.model or "",
                door.amount(job.billed_usd),
                moment(job.created_at),
                shorten(job.request.prompt, 40),
            )
            for job, _ in found
        ),
    )


def _changed(door: Door, job: Job) -> None:
    if door.json:
        door.value(job_row(job, door.lang))
        return
    status = STATUS_WORDS[job.status]
    billed = door.amount(job.billed_usd)
    if job.status.ended:
        door.say(words(f"{job.id}: {status.en} (billed {billed})", f"{job.id}: {status.ja}(請求 {billed})"))
    else:
        door.say(
            words(
                f"{job.id}: {status.en}; cancelling was asked for",
                f"{job.id}: {status.ja}(キャンセルを依頼しました)",
            )
        )


@app.command(help=t("Cancel a job.", "ジョブをキャンセルします。"))
def cancel(context: typer.Context, job: o.Job, as_json: o.AsJson = False) -> None:
    """Ask; what the provider already bills is settled as it bills it."""
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> Job:
        return await gateway.cancel(job)

    _changed(door, door.ask(work))


@app.command(
    help=t(
        "Close an unresolved job with what the provider's own bill says.",
        "未解決のジョブを、プロバイダーの請求内容に基づいて確定します。",
    )
)
def settle(
    context: typer.Context,
    job: o.Job,
    billed: Annotated[
        str | None, typer.Option("--billed", help=t("US dollars on the bill.", "請求額(米ドル)。"))
    ] = None,
    nothing: Annotated[
        bool, typer.Option("--nothing", help=t("It was not billed.", "請求されていません。"))
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Exactly one of --billed and --nothing."""
    door = door_of(context)
    door.json = as_json
    if (billed is None) != nothing:
        raise InvalidRequest(
            words(
                "settle: say either --billed USD or --nothing",
                "settle: --billed USD と --nothing のどちらか一方を指定してください",
            )
        )
    amount = Decimal(0) if billed is None else usd(billed, "--billed")

    async def work(gateway: "Gateway") -> Job:
        return await gateway.settle(job, amount)

    _changed(door, door.ask(work))


def _event_row(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "at": event.at.isoformat(),
        "attempt": event.attempt,
        "kind": event.kind,
        "data": event.data,
    }


@app.command(help=t("Why did a job go where it went?", "ジョブの実行先が決まった理由を表示します。"))
def why(context: typer.Context, job: o.Job, as_json: o.AsJson = False) -> None:
    """Every attempt with its decision, and the job's history."""
    door = door_of(context)
    door.json = as_json

    async def work(gateway: "Gateway") -> "tuple[Job, tuple[Event, ...], tuple[Booking, ...]]":
        return await gateway.get(job), await gateway.events(job), await gateway.bookings(job)

    found, events, bookings = door.ask(work)
    if door.json:
        routes = route_rows(found, bookings, door.lang)
        attempts = [
            {**attempt_row(attempt, door.lang), **row}
            for attempt, row in zip(found.attempts, routes, strict=True)
        ]
        door.value(
            {
                **job_row(found, door.lang),
                "attempts": attempts,
                "warnings": [warning.in_(door.lang) for warning in found.warnings],
                "events": [_event_row(event) for event in events],
            }
        )
        return
    _explain(door, found, events, bookings)


def _attempt_words(door: Door, attempt: Attempt) -> Words:
    """What it was expected to cost, what was set aside, what it cost and who says so."""
    estimate, reserved, billed = (
        door.amount(usd) for usd in (attempt.estimate_usd, attempt.reserved_usd, attempt.billed_usd)
    )
    told = basis(attempt.bill_basis)
    says = words(f" ({told.en})", f"({told.ja})") if told else words("", "")
    above = overrun(attempt)
    more = (
        words("", "")
        if above is None
        else words(f"; {door.amount(above)} above the reservation", f"(予約額を {door.amount(above)} 超過)")
    )
    return words(
        f"Attempt {attempt.n}: {attempt.model}, {attempt.status.value}, estimated {estimate}, "
        f"reserved {reserved}, billed {billed}{says.en}{more.en}",
        f"試行 {attempt.n}: {attempt.model}、{attempt.status.value}、見積もり {estimate}、"
        f"予約 {reserved}、請求 {billed}{says.ja}{more.ja}",
    )


def _explain(door: Door, job: Job, events: tuple[Event, ...], bookings: "tuple[Booking, ...]") -> None:
    status = STATUS_WORDS[job.status]
    door.say(words(f"{job.id}: {status.en}", f"{job.id}: {status.ja}"))
    if job.reason and not job.attempts:
        door.say(job.reason)
    changed = between(job)
    for attempt in job.attempts:
        for sentence in changed.get(attempt.n, ()):
            door.say(words(f"  meanwhile: {sentence.en}", f"  この間の変化: {sentence.ja}"))
        door.say(_attempt_words(door, attempt))
        for told in (note(booking.note) for booking in bookings if booking.n == attempt.n):
            if told is not None:
                door.say(words(f"  {told.en}", f"  {told.ja}"))
        show_decision(door, attempt.decision)
        if attempt.error:
            door.say(attempt.error.message)
    if job.error:
        door.say(job.error.message)
    door.table(
        (words("at", "時刻"), words("event", "出来事"), words("attempt", "試行")),
        (
            (moment(event.at), event.kind, str(event.attempt or ""))
            for event in events
            if event.kind != "progress"
        ),
    )
