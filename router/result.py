"""One job as plain values: the row that `generate --json`, `jobs --json` and the demo's results.json share."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from router import explain
from router.contract.job import Attempt, Candidate, Decision, Job, Rejected, seconds_between
from router.contract.words import Lang
from router.pricing import from_micros, money

if TYPE_CHECKING:
    from router.policy import Finish
    from router.spending import Booking

__all__ = [
    "attempt_row",
    "booking_row",
    "candidate_row",
    "decision_row",
    "finish_row",
    "job_row",
    "money",
    "rejected_row",
    "route_rows",
]


def attempt_row(attempt: Attempt, lang: Lang) -> dict[str, Any]:
    """One try, with the error's text as its reason where it ended badly."""
    reason = attempt.error.message if attempt.error else attempt.reason
    return {
        "n": attempt.n,
        "backend": attempt.backend,
        "model": attempt.model,
        "status": attempt.status.value,
        "reason": reason.in_(lang),
        "estimate_usd": money(attempt.estimate_usd),
        "billed_usd": money(attempt.billed_usd),
    }


def booking_row(booking: "Booking", lang: Lang) -> dict[str, Any]:
    """One row of the ledger."""
    note = explain.note(booking.note)
    return {
        "at": booking.at.isoformat(),
        "kind": booking.kind,
        "reserved_usd": money(booking.reserved_usd),
        "settled_usd": money(booking.settled_usd),
        "basis": booking.basis,
        "note": note.in_(lang) if note else None,
    }


def route_rows(job: Job, bookings: "Sequence[Booking]", lang: Lang) -> list[dict[str, Any]]:
    """Per attempt: its decision as it was made, what changed since the one before, and its money."""
    changed = explain.between(job)
    rows = []
    for attempt in job.attempts:
        told = explain.basis(attempt.bill_basis)
        above = explain.overrun(attempt)
        rows.append(
            {
                "decided_at": attempt.decision.at.isoformat(),
                "decision": decision_row(attempt.decision, lang),
                "changed": [sentence.in_(lang) for sentence in changed.get(attempt.n, ())],
                "reserved_usd": money(attempt.reserved_usd),
                "bill_basis": attempt.bill_basis,
                "bill_basis_text": told.in_(lang) if told else None,
                "overrun_usd": money(above),
                "ledger": [booking_row(booking, lang) for booking in bookings if booking.n == attempt.n],
            }
        )
    return rows


def job_row(job: Job, lang: Lang, *, file: str | None = None, case: str | None = None) -> dict[str, Any]:
    """The whole job; `seconds` run from its creation to its end, `file` is where its clip lies."""
    reason = job.error.message if job.error else job.reason
    seconds = seconds_between(job.created_at, job.ended_at)
    return {
        "case": case,
        "job": job.id,
        "status": job.status.value,
        "backend": job.backend,
        "model": job.model,
        "reason": reason.in_(lang) if reason else None,
        "estimate_usd": money(job.estimate_usd),
        "billed_usd": money(job.billed_usd),
        "seconds": round(seconds, 1) if seconds is not None else None,
        "file": file,
        "attempts": [attempt_row(attempt, lang) for attempt in job.attempts],
    }


def candidate_row(candidate: Candidate, lang: Lang) -> dict[str, Any]:
    """An offer that could take the job."""
    return {
        "backend": candidate.backend,
        "model": candidate.model,
        "usd": money(candidate.usd),
        "seconds": round(candidate.seconds, 1),
        "reason": candidate.reason.in_(lang),
        "price_as_of": candidate.price_as_of,
        "price_source": candidate.price_source,
    }


def rejected_row(rejected: Rejected, lang: Lang) -> dict[str, Any]:
    """An offer that cannot or may not take the job."""
    return {
        "backend": rejected.backend,
        "model": rejected.model,
        "code": rejected.code,
        "reason": rejected.reason.in_(lang),
        "usd": money(rejected.usd),
        "ready_at": rejected.ready_at.isoformat() if rejected.ready_at else None,
    }


def finish_row(finish: "Finish") -> dict[str, Any]:
    """A common end of many jobs: what it costs, and who makes how many. `usd` is None where a price is not known."""
    return {
        "done_by": finish.at.isoformat(),
        "usd": money(finish.usd),
        "shares": [
            {
                "backend": share.backend,
                "model": share.model,
                "jobs": share.jobs,
                "usd": None if share.micros is None else money(from_micros(share.micros)),
            }
            for share in finish.shares
        ],
    }


def decision_row(decision: Decision, lang: Lang) -> dict[str, Any]:
    """A routing decision: what was chosen, what else could have been, and what was out and why."""
    return {
        "mode": decision.mode,
        "reason": decision.reason.in_(lang),
        "start_at": decision.start_at.isoformat() if decision.start_at else None,
        "chosen": candidate_row(decision.chosen, lang) if decision.chosen else None,
        "candidates": [candidate_row(candidate, lang) for candidate in decision.candidates],
        "rejected": [rejected_row(rejected, lang) for rejected in decision.rejected],
    }
