"""Values -> escaped HTML for a job's attempts: the decision as it was made, its money, and what changed in between."""

from collections.abc import Sequence

from router.contract.job import Attempt, Job
from router.contract.words import Words
from router.explain import basis, between, overrun
from ui.amounts import both
from ui.names import Names
from ui.text import Text
from ui.view import esc, money, status_mark


def attempts(text: Text, job: Job, names: Names) -> str:
    """The table of attempts; empty text while there is none."""
    if not job.attempts:
        return ""
    columns = ("d_attempt", "d_model", "d_status", "d_estimate", "d_billed")
    header = "".join(f"<th>{esc(text(key))}</th>" for key in columns)
    changed = between(job)
    rows = "".join(_attempt(text, attempt, names, changed.get(attempt.n, ())) for attempt in job.attempts)
    return (
        f'<details class="vg-attempts" open><summary>{esc(text("d_attempts"))} '
        f'({len(job.attempts)})</summary><div class="vg-scroll"><table><thead><tr>{header}</tr></thead>{rows}'
        "</table></div></details>"
    )


def _attempt(text: Text, attempt: Attempt, names: Names, changed: Sequence[Words]) -> str:
    """What changed before it, then its figures, why it went there, how it ended and who says what it cost."""
    lines = [text.of(attempt.reason)]
    if attempt.reserved_usd:
        lines.append(f"{text('d_reserved')} {both(attempt.reserved_usd, text)}")
    if attempt.error:
        lines.append(text.of(attempt.error.message))
    if (told := basis(attempt.bill_basis)) is not None:
        lines.append(text("bill_basis", basis=text.of(told)))
    if (above := overrun(attempt)) is not None:
        lines.append(text("bill_overrun", amount=both(above, text)))
    why = "".join(f"<p>{esc(line)}</p>" for line in lines)
    meanwhile = "".join(f"<li>{esc(text.of(sentence))}</li>" for sentence in changed)
    before = (
        f'<tr><td></td><td colspan="4" class="vg-fine">{esc(text("meanwhile"))}<ul>{meanwhile}</ul></td></tr>'
        if meanwhile
        else ""
    )
    billed = both(attempt.billed_usd, text) if attempt.billed_usd is not None else text("open_amount")
    return (
        f'<tbody data-attempt="{attempt.n}">{before}<tr><td>{attempt.n}</td><td>{esc(names.model(attempt.model))}</td>'
        f"<td>{status_mark(text, attempt.status.value)}</td><td>{esc(money(text, attempt.estimate_usd))}</td>"
        f'<td>{esc(billed)}</td></tr><tr><td></td><td colspan="4" class="vg-fine">{why}{_decision(text, attempt, names)}</td></tr></tbody>'
    )


def _decision(text: Text, attempt: Attempt, names: Names) -> str:
    """Every offer as it stood then: who could have done it and for how much, who could not and why."""
    decision = attempt.decision
    could = "".join(
        f"<li>{'→ ' if row == decision.chosen else ''}<b>{esc(names.model(row.model))}</b> "
        f"<span>{esc(names.backend(row.backend))}</span> {esc(money(text, row.usd))}, "
        f"{esc(text.seconds(row.seconds))}: {esc(text.of(row.reason))}</li>"
        for row in decision.candidates
    )
    out = "".join(
        f"<li>✗ <b>{esc(names.model(row.model))}</b> <span>{esc(names.backend(row.backend))}</span>: "
        f"{esc(text.of(row.reason))}</li>"
        for row in decision.rejected
    )
    label = esc(text("decision_then"))
    return (
        f'<details class="vg-more" data-list="then-{attempt.n}"><summary>{label}</summary>'
        f"<ul>{could}{out}</ul></details>"
    )
