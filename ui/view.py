"""Values -> escaped HTML for the head, the plan, the notices and the image drops; no gradio, so tests need no browser.

Every dynamic value passes `esc`. The strings are the `value` of a `gr.HTML` with the default template, never a template
themselves: Gradio runs templates as JavaScript.
"""

from datetime import datetime
from decimal import Decimal
from html import escape

from router.contract.card import ModelCard
from router.contract.job import Candidate, Decision, Rejected
from ui.amounts import both
from ui.names import Names
from ui.text import Text

_LINKABLE = ("https://", "http://")
IN_SIGHT = 3
_CURRENT = ' aria-current="true"'


_DOTS = {
    "queued": "idle",
    "submitting": "busy",
    "sending": "busy",
    "running": "busy",
    "fetching": "busy",
    "completed": "ok",
    "failed": "bad",
    "cancelled": "out",
    "unresolved": "warn",
}


def esc(value: object) -> str:
    """The one way a value gets into HTML, in text and in quoted attributes alike."""
    return escape(str(value), quote=True)


def head(text: Text, *, sandbox: bool) -> str:
    """The page's name, the language switch and, in a rehearsal, a line that says so."""
    links = "".join(
        f'<a href="?lang={lang}" data-lang="{lang}" lang="{lang}"'
        f"{_CURRENT if text.lang == lang else ''}>{label}</a>"
        for lang, label in (("en", "English"), ("ja", "日本語"))
    )
    rehearsal = f'<p class="vg-rehearsal">{esc(text("sandbox"))}</p>' if sandbox else ""
    rate = f'<p class="vg-fine">{esc(text.display.rate)}</p>' if text.display.rate else ""
    return (
        '<header class="vg-head"><div class="vg-brand"><span class="vg-mark" aria-hidden="true"></span>'
        f"<h1>{esc(text('title'))}</h1><p>{esc(text('tagline'))}</p></div>"
        f'<nav class="vg-lang" aria-label="{esc(text("language"))}">{links}</nav></header>{rehearsal}{rate}'
    )


def notice(message: str, *, kind: str = "error") -> str:
    """One message beside the button: `error` is announced at once, `done` politely. Empty text: nothing."""
    if not message:
        return ""
    role = "alert" if kind == "error" else "status"
    return f'<div class="vg-notice vg-notice-{esc(kind)}" role="{role}">{esc(message)}</div>'


def drop(text: Text, title: str, *, picture: str | None = None, note: str = "", problem: str = "") -> str:
    """One image drop: empty, or with the picture it holds. `picture` is a URL of our own server."""
    warning = f'<p class="vg-drop-problem" role="alert">{esc(problem)}</p>' if problem else ""
    heading = f'<span class="vg-label">{esc(title)} <small>{esc(text("optional"))}</small></span>'
    if picture is None and not note:
        body = (
            '<label class="vg-drop"><input type="file" accept="image/png,image/jpeg,image/webp" '
            f'aria-label="{esc(title)}"><span class="vg-drop-icon" aria-hidden="true"></span>'
            f'<span class="vg-drop-long">{esc(text("drop"))}</span>'
            f'<span class="vg-drop-short">{esc(text("drop_short"))}</span>'
            f'<small class="vg-drop-formats">{esc(text("drop_formats"))}</small>'
            f'<span class="vg-drop-busy">{esc(text("drop_busy"))}</span></label>'
        )
    else:
        image = f'<img src="{esc(picture)}" alt="{esc(title)}">' if picture else ""
        body = (
            f'<div class="vg-drop vg-drop-full">{image}<span class="vg-drop-note">{esc(note)}</span>'
            f'<button type="button" class="vg-button vg-quiet" data-clear>{esc(text("image_remove"))}</button></div>'
        )
    return f'<div class="vg-drop-box">{heading}{body}{warning}</div>'


def quote_loading(text: Text) -> str:
    """Before the first decision."""
    return f'<div class="vg-quote" role="status" aria-live="polite"><p>{esc(text("plan_loading"))}</p></div>'


def quote(text: Text, decision: Decision | None) -> str:
    """Price and time beside the button; dashes where nothing can take the job."""
    chosen = decision.chosen if decision else None
    price = money(text, chosen.usd) if chosen else "–"
    time = text("about", time=text.seconds(chosen.seconds)) if chosen else "–"
    return (
        '<div class="vg-quote" role="status" aria-live="polite">'
        f"<div><small>{esc(text('price'))}</small><strong data-price>{esc(price)}</strong></div>"
        f"<div><small>{esc(text('time'))}</small><strong data-time>{esc(time)}</strong></div></div>"
    )


def status_mark(text: Text, status: str) -> str:
    """Dot and word: never colour alone."""
    return (
        f'<span class="vg-status" data-status="{esc(status)}"><span class="vg-dot vg-dot-{_DOTS[status]}" '
        f'aria-hidden="true"></span>{esc(text(f"status_{status}"))}</span>'
    )


def money(text: Text, amount: Decimal | None) -> str:
    """An amount, or the word for a price that is not known (never zero)."""
    return text("price_unknown") if amount is None else both(amount, text)


def plan_problem(message: str) -> str:
    """What is wrong with the request, in place of a plan."""
    return f'<div class="vg-plan"><p class="vg-nowhere">{esc(message)}</p></div>'


def plan(text: Text, decision: Decision, names: Names, now: datetime) -> str:
    """Where it goes and why, all candidates in order, and who was not used for what reason."""
    chosen = decision.chosen
    if chosen is None:
        top = (
            f'<div class="vg-nowhere"><h3>{esc(text("plan_nowhere"))}</h3>'
            f"<p>{esc(text.of(decision.reason))}</p></div>"
        )
    else:
        top = _choice(text, decision, chosen, names, now)
    could = _candidates(text, decision, names)
    return f'<div class="vg-plan" data-plan>{top}{could}{_rejected(text, decision, names, now)}</div>'


def _candidates(text: Text, decision: Decision, names: Names) -> str:
    """The first few in sight, the rest one click away."""
    rows = [_candidate(text, row, names, chosen=row == decision.chosen) for row in decision.candidates]
    if not rows:
        return ""
    first, rest = "".join(rows[:IN_SIGHT]), "".join(rows[IN_SIGHT:])
    label = esc(text("candidates_more", count=len(rows) - IN_SIGHT))
    folded = (
        f'<details class="vg-more" data-list="more"><summary>{label}</summary><ul class="vg-offers">{rest}</ul></details>'
        if rest
        else ""
    )
    return f'<h4>{esc(text("candidates"))}</h4><ul class="vg-offers">{first}</ul>{folded}'


def _choice(text: Text, decision: Decision, chosen: Candidate, names: Names, now: datetime) -> str:
    place = names.place(chosen.model, text)
    badge = f'<span class="vg-badge">{esc(place)}</span>' if place else ""
    waits = ""
    if decision.start_at and (wait := (decision.start_at - now).total_seconds()) >= 1:
        waits = f" {esc(text('starts_in', time=text.seconds(wait)))}"
    foot = [_failure(text, names.cards.get(chosen.model)), _dated(text, chosen)]
    return (
        f'<div class="vg-choice"><div class="vg-choice-name"><strong data-chosen="{esc(chosen.model)}">'
        f"{esc(names.model(chosen.model))}</strong><span>{esc(names.backend(chosen.backend))}</span>{badge}</div>"
        f"<p>{esc(text.of(decision.reason))}{waits}</p>"
        f'<p class="vg-fine">{" ".join(part for part in foot if part)}</p></div>'
    )


def _failure(text: Text, card: ModelCard | None) -> str:
    if card is None:
        return ""
    if card.prices and all(row.usd == 0 for row in card.prices):
        return esc(text("failure_free"))
    return esc(text(f"failure_{card.failure_billed}"))


def _dated(text: Text, chosen: Candidate) -> str:
    if not chosen.price_as_of:
        return ""
    label = esc(text("price_as_of", date=chosen.price_as_of))
    source = chosen.price_source or ""
    if source.startswith(_LINKABLE) and " " not in source:
        return f'<a href="{esc(source)}" target="_blank" rel="noopener noreferrer">{label}</a>'
    return label


def _candidate(text: Text, row: Candidate, names: Names, *, chosen: bool) -> str:
    mark = f'<span class="vg-sr">{esc(text("chosen"))}: </span>' if chosen else ""
    return (
        f'<li class="vg-offer{" vg-offer-chosen" if chosen else ""}" data-candidate="{esc(row.model)}">'
        f'<span class="vg-dot vg-dot-{"ok" if chosen else "idle"}" aria-hidden="true"></span>'
        f"<div><b>{mark}{esc(names.model(row.model))}</b> <span>{esc(names.backend(row.backend))}</span>"
        f"<p>{esc(text.of(row.reason))}</p></div>"
        f'<div class="vg-figures"><span>{esc(money(text, row.usd))}</span>'
        f"<span>{esc(text.seconds(row.seconds))}</span></div></li>"
    )


def _rejected(text: Text, decision: Decision, names: Names, now: datetime) -> str:
    if not decision.rejected:
        return ""
    rows = "".join(_refusal(text, row, names, now) for row in decision.rejected)
    label = esc(text("rejected_count", count=len(decision.rejected)))
    state = "" if decision.chosen else " open"
    return f'<details class="vg-rejected" data-list="out"{state}><summary>{label}</summary><ul class="vg-offers">{rows}</ul></details>'


def _refusal(text: Text, row: Rejected, names: Names, now: datetime) -> str:
    figures = f"<s>{esc(both(row.usd, text))}</s>" if row.usd is not None else ""
    if row.ready_at and (wait := (row.ready_at - now).total_seconds()) >= 1:
        figures += f"<span>{esc(text('ready_again', time=text.seconds(wait)))}</span>"
    return (
        f'<li class="vg-offer vg-offer-out" data-rejected="{esc(row.model)}" data-code="{esc(row.code)}">'
        f'<span class="vg-dot vg-dot-out" aria-hidden="true"></span><div><b>{esc(names.model(row.model))}</b> '
        f"<span>{esc(names.backend(row.backend))}</span><p>{esc(text.of(row.reason))}</p></div>"
        f'<div class="vg-figures">{figures}</div></li>'
    )
