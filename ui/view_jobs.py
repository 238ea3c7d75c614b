"""Values -> escaped HTML for jobs, the player, the details and the history; the rules of `view` hold here too."""

import mimetypes
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import quote as url_quote
from zoneinfo import ZoneInfo

from router.contract.card import Asset
from router.contract.job import Job, Status, seconds_between
from router.contract.request import Camera, VideoRequest
from ui import finishing, view_route
from ui.amounts import both, clip_size, moment, usd
from ui.names import Names
from ui.text import Text
from ui.view import esc, money, status_mark

_CURRENT = ' aria-current="true"'
_NONE: Mapping[str, int] = {}


def content_url(job_id: str, *, variant: str | None = None) -> str:
    """The media route of our own server, relative so that it works behind any prefix."""
    path = f"v1/videos/{url_quote(job_id, safe='')}/content"
    return f"{path}?variant={variant}" if variant else path


def _short(text: Text, request: VideoRequest, limit: int = 140) -> str:
    prompt = " ".join(request.prompt.split()) or text("no_prompt")
    return prompt if len(prompt) <= limit else prompt[: limit - 1].rstrip() + "…"


def _bar(text: Text, job: Job) -> str:
    percent = round(100 * job.progress)
    label = esc(text("progress_of", prompt=_short(text, job.request, 60)))
    waiting = " vg-bar-waiting" if job.status in {Status.QUEUED, Status.SUBMITTING} and not percent else ""
    return (
        f'<div class="vg-bar{waiting}" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}" aria-label="{label}"><i style="width:{percent}%"></i></div>'
    )


def _sketch(text: Text, job: Job, sketches: Mapping[str, int]) -> str:
    """The clip as far as it is; nothing for a job without a picture on the way."""
    look = sketches.get(job.id)
    if look is None or job.status.ended:
        return ""
    url = f"{content_url(job.id, variant='sketch')}&look={look}"
    return (
        f'<img class="vg-sketch" src="{esc(url)}" '
        f'alt="{esc(text("sketch_of", prompt=_short(text, job.request, 60)))}">'
    )


def jobs(
    text: Text, running: Sequence[Job], names: Names, now: datetime, sketches: Mapping[str, int] = _NONE
) -> str:
    """Everything that has not ended, oldest first so that rows keep their place, then what waits for a person.

    `sketches`: a number per job that has a picture on the way.
    """
    count = sum(not job.status.ended for job in running)
    title = text("job_running_title", count=count) if count else text("title")
    if not running:
        body = f'<div class="vg-empty"><p>{esc(text("jobs_empty"))}</p><p>{esc(text("jobs_empty_hint"))}</p></div>'
        badge = ""
    else:
        ordered = sorted(running, key=lambda job: (job.status.ended, job.created_at, job.id))
        body = f'<ul class="vg-jobs">{"".join(_job(text, job, names, now, sketches) for job in ordered)}</ul>'
        badge = f'<span class="vg-badge">{esc(text("jobs_running", count=count))}</span>' if count else ""
    return (
        f'<section class="vg-card" data-running="{count}" data-title="{esc(title)}">'
        f"<h2>{esc(text('jobs'))}{badge}</h2>{body}</section>"
    )


def _job(text: Text, job: Job, names: Names, now: datetime, sketches: Mapping[str, int]) -> str:
    where = f"{names.model(job.model)} · {names.backend(job.backend)}" if job.model and job.backend else ""
    facts = [
        money(text, job.estimate_usd) if job.estimate_usd is not None else "",
        text("elapsed", time=text.seconds((now - job.created_at).total_seconds()))
        if not job.status.ended
        else "",
    ]
    note = text.of(job.reason) if job.reason else ""
    if job.status is Status.UNRESOLVED:
        note, cancel, bar = text("unresolved_note", job=job.id), "", ""
    else:
        label, state = ("cancelling", " disabled") if job.cancel_requested else ("cancel", "")
        cancel = (
            f'<button type="button" class="vg-button vg-quiet" data-cancel="{esc(job.id)}" '
            f'data-busy="{esc(text("cancelling"))}"{state}>{esc(text(label))}</button>'
        )
        bar = _bar(text, job)
    percent = f"{round(100 * job.progress)}%" if job.progress and not job.status.ended else ""
    return (
        f'<li data-job="{esc(job.id)}"><div class="vg-job-top">{status_mark(text, job.status.value)}'
        f'<span class="vg-num">{percent}</span>'
        f'<button type="button" class="vg-link" data-open="{esc(job.id)}">{esc(_short(text, job.request))}</button>'
        f"{cancel}</div>{bar}{_sketch(text, job, sketches)}"
        f'<div class="vg-job-facts"><span>{esc(where)}</span>'
        f'<span class="vg-num">{esc(" · ".join(filter(None, facts)))}</span></div>'
        f'<p class="vg-fine">{esc(note)}</p></li>'
    )


def _frame(inner: str) -> str:
    return f'<div class="vg-stage">{inner}</div>'


def player(text: Text, job: Job | None, *, missing: bool = False, sketches: Mapping[str, int] = _NONE) -> str:
    """The clip that is open, or what stands in its place."""
    if job is None:
        if missing:
            return _frame(f'<div class="vg-empty"><p>{esc(text("result_missing"))}</p></div>')
        lines = f"<p>{esc(text('result_empty'))}</p><p>{esc(text('result_empty_hint'))}</p>"
        return _frame(f'<div class="vg-empty">{lines}</div>')
    if job.status is Status.COMPLETED and job.output and not job.deleted:
        small = " vg-video-small" if (job.output.width or 999) <= 256 else ""
        if job.output.mime.startswith("image/"):
            return _frame(
                f'<img class="vg-video{small}" data-res="{esc(job.id)}" src="{esc(content_url(job.id))}" '
                f'alt="{esc(_short(text, job.request, 80))}">'
            )
        poster = f' poster="{esc(content_url(job.id, variant="thumbnail"))}"' if job.poster else ""
        return _frame(
            f'<video class="vg-video{small}" data-res="{esc(job.id)}" src="{esc(content_url(job.id))}"{poster} '
            f'controls loop playsinline preload="metadata" aria-label="{esc(_short(text, job.request, 80))}"></video>'
        )
    if job.status is Status.COMPLETED:
        return _frame(f'<div class="vg-empty"><p>{esc(text("result_gone"))}</p></div>')
    if job.status.ended:
        error = f"<p>{esc(text.of(job.error.message))}</p>" if job.error else ""
        return _frame(f'<div class="vg-empty">{status_mark(text, job.status.value)}{error}</div>')
    return _frame(
        f'<div class="vg-empty">{status_mark(text, job.status.value)}{_bar(text, job)}'
        f"{_sketch(text, job, sketches)}<p>{esc(text('result_pending'))}</p></div>"
    )


def details(text: Text, job: Job | None, names: Names, *, pinned: bool = False) -> str:
    """Beside the player: the prompt, what can be done with it, where it ran, why and what it cost."""
    if job is None:
        return ""
    prompt = f'<p class="vg-prompt">{esc(job.request.prompt or text("no_prompt"))}</p>'
    back = (
        f'<button type="button" class="vg-link" data-open="">{esc(text("back_to_newest"))}</button>'
        if pinned
        else ""
    )
    return (
        f'<section class="vg-details" data-details="{esc(job.id)}"><div class="vg-details-top">'
        f"{status_mark(text, job.status.value)}{back}</div>{prompt}{_actions(text, job)}"
        f"{_problem(text, job)}{_warnings(text, job)}{_list(_decided(text, job, names))}</section>"
    )


def record(text: Text, job: Job | None, names: Names, zone: ZoneInfo) -> str:
    """Below the player: with which settings it was made, and every attempt."""
    if job is None:
        return ""
    return f'<section class="vg-record">{_list(_made(text, job, zone))}{view_route.attempts(text, job, names)}</section>'


def _list(facts: list[tuple[str, str]]) -> str:
    rows = "".join(f"<div><dt>{esc(label)}</dt><dd>{value}</dd></div>" for label, value in facts)
    return f"<dl>{rows}</dl>"


def _actions(text: Text, job: Job) -> str:
    use = f'<button type="button" class="vg-button" data-use="{esc(job.id)}">{esc(text("use"))}</button>'
    save = ""
    if job.status is Status.COMPLETED and job.output and not job.deleted:
        save = _file(text("download"), job, job.output)
        if job.preview:
            save += _file(text("download_preview"), job, job.preview, "preview")
        if job.original_id:
            save += _file(text("download_original"), job, job.output, "original")
    remove = ""
    if job.status.ended and job.status is not Status.UNRESOLVED:
        remove = (
            f'<button type="button" class="vg-button vg-danger" data-delete="{esc(job.id)}" '
            f'data-sure="{esc(text("delete_sure"))}">{esc(text("delete"))}</button>'
        )
    return f'<div class="vg-actions">{use}{save}{remove}</div>'


def _file(label: str, job: Job, asset: Asset, variant: str | None = None) -> str:
    name = _file_name(job, asset, variant)
    return (
        f'<a class="vg-button" href="{esc(content_url(job.id, variant=variant))}" download="{esc(name)}">'
        f"{esc(label)}</a>"
    )


def _file_name(job: Job, asset: Asset, variant: str | None) -> str:
    """Says where the clip ran and what it cost: `runway-gen4-0.25usd-abc123.mp4`."""
    model = (job.model or "clip").replace("/", "-")
    ending = mimetypes.guess_extension(asset.mime) or ""
    part = "-original" if variant == "original" else ""
    return f"{model}-{usd(job.billed_usd).strip('<$').replace(',', '')}usd-{job.id[-8:]}{part}{ending}"


def _problem(text: Text, job: Job) -> str:
    if job.error is None or job.status is Status.CANCELLED:
        return ""
    return (
        f'<div class="vg-notice vg-notice-error"><b>{esc(text("d_error"))}</b> {esc(text.of(job.error.message))} '
        f"<code>{esc(job.error.code)}</code></div>"
    )


def _warnings(text: Text, job: Job) -> str:
    if not job.warnings:
        return ""
    rows = "".join(f"<li>{esc(text.of(warning))}</li>" for warning in job.warnings)
    return f'<div class="vg-notice vg-notice-warn"><b>{esc(text("d_warnings"))}</b><ul>{rows}</ul></div>'


def _decided(text: Text, job: Job, names: Names) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if job.backend and job.model:
        place = names.place(job.model, text)
        badge = f' <span class="vg-badge">{esc(place)}</span>' if place else ""
        facts.append((text("d_where"), f"{esc(names.backend(job.backend))}{badge}"))
        facts.append((text("d_model"), f"{esc(names.model(job.model))} <code>{esc(job.model)}</code>"))
    if job.reason:
        label = "d_waits" if job.status is Status.QUEUED else "d_why"
        facts.append((text(label), esc(text.of(job.reason))))
    facts.append((text("d_cost"), _cost(text, job)))
    return facts


def _made(text: Text, job: Job, zone: ZoneInfo) -> list[tuple[str, str]]:
    facts = [
        (text("d_settings"), esc(settings_line(text, job))),
        (text("d_seed"), f"<code>{esc(job.seed)}</code>"),
    ]
    if job.request.post:
        facts.append((text("finishing"), esc(finishing.said(text, job.request.post))))
    if job.request.negative_prompt:
        facts.append((text("d_negative"), esc(job.request.negative_prompt)))
    if job.output and not job.deleted:
        facts.append((text("d_size"), esc(clip_size(job.output, text))))
    if (took := seconds_between(job.created_at, job.ended_at)) is not None:
        facts.append((text("d_took"), esc(text.seconds(took))))
    facts.append((text("d_made"), esc(moment(job.created_at, zone))))
    facts.append((text("d_id"), f"<code>{esc(job.id)}</code>"))
    return facts


def _cost(text: Text, job: Job) -> str:
    parts = (
        [f'<strong class="vg-num">{esc(both(job.billed_usd, text))}</strong>']
        if job.status.ended or job.billed_usd
        else []
    )
    if job.estimate_usd is not None:
        parts.append(
            f'<span class="vg-num">{esc(text("d_estimate"))} {esc(both(job.estimate_usd, text))}</span>'
        )
    if job.reserved_usd:
        parts.append(
            f'<span class="vg-num">{esc(text("d_reserved"))} {esc(both(job.reserved_usd, text))}</span>'
        )
    return " · ".join(parts) or "–"


def camera_words(text: Text, camera: Camera) -> str:
    """A preset by its name, an axis as it is written on the command line."""
    return text(f"camera_{camera.preset}") if camera.preset else f"{camera.axis}={camera.value:g}"


def settings_line(text: Text, job: Job) -> str:
    """What the clip was made with: as resolved for the backend where an attempt exists, else as asked."""
    made = job.attempts[-1].resolved if job.attempts else job.request
    quality = job.request.quality
    parts = [
        text("s_seconds", s=f"{made.duration:g}") if made.duration else "",
        made.resolution or "",
        made.aspect_ratio or "",
        text(quality.value) if quality else "",
        camera_words(text, made.camera) if made.camera else "",
        f"{text('audio')}: {text('on' if made.generate_audio else 'off')}"
        if made.generate_audio is not None
        else "",
    ]
    return " · ".join(filter(None, parts)) or text("default")


def history(
    text: Text,
    ended: Sequence[Job],
    names: Names,
    zone: ZoneInfo,
    *,
    shown: str | None,
    first: bool,
    more: bool,
) -> str:
    """The grid of posters, newest first; a clip that failed is a card with words."""
    cards = "".join(_card(text, job, names, zone, shown=job.id == shown) for job in ended)
    body = (
        f'<ul class="vg-grid">{cards}</ul>'
        if cards
        else f'<p class="vg-empty">{esc(text("history_empty"))}</p>'
    )
    buttons = (
        f'<button type="button" class="vg-button vg-quiet" data-page="newer"{" disabled" if first else ""}>'
        f"{esc(text('newer'))}</button>"
        f'<button type="button" class="vg-button vg-quiet" data-page="older"{"" if more else " disabled"}>'
        f"{esc(text('older'))}</button>"
    )
    pager = "" if first and not more else f'<div class="vg-pager">{buttons}</div>'
    return f'<section class="vg-card"><h2>{esc(text("history"))}</h2>{body}{pager}</section>'


def _card(text: Text, job: Job, names: Names, zone: ZoneInfo, *, shown: bool) -> str:
    prompt = _short(text, job.request, 90)
    if job.poster and not job.deleted:
        url = esc(content_url(job.id, variant="thumbnail"))
        face = (
            f'<img loading="lazy" decoding="async" src="{url}" alt="{esc(text("poster_of", prompt=prompt))}">'
        )
    else:
        face = f'<span class="vg-face">{status_mark(text, job.status.value)}</span>'
    where = names.model(job.model) if job.model else text(f"status_{job.status.value}")
    return (
        f'<li><button type="button" class="vg-clip{" vg-clip-shown" if shown else ""}" data-open="{esc(job.id)}"'
        f'{_CURRENT if shown else ""}>{face}<span class="vg-clip-text">{esc(prompt)}</span>'
        f'<span class="vg-clip-facts"><span>{esc(where)}</span><span class="vg-num">{esc(both(job.billed_usd, text))}</span>'
        f'<time datetime="{esc(job.created_at.isoformat())}">{esc(moment(job.created_at, zone))}</time></span>'
        "</button></li>"
    )
