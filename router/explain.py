"""What changed between two decisions about the same job, in sentences: who came, who went and why, which price moved."""

from collections.abc import Iterator
from decimal import Decimal

from router.contract.job import Attempt, Candidate, Decision, Job, Rejected
from router.contract.words import Words, words
from router.pricing import money

BASIS: dict[str, Words] = {
    "provider": words("the provider's own figure", "プロバイダーの請求額"),
    "table": words(
        "by our price table, the provider gives no figure", "価格表による(プロバイダーは金額を通知しません)"
    ),
    "documented": words(
        "failures are free there, by its documents", "失敗時は無料(プロバイダーの文書による)"
    ),
    "none": words("never accepted", "受け付けられていません"),
    "person": words("entered by a person from the provider's bill", "プロバイダーの請求を基に手動で入力"),
    "free": words("our own device", "自前のデバイス"),
    "unknown": words("nobody says what it cost", "金額不明"),
}
"""Who says what an attempt cost."""


def basis(code: str | None) -> Words | None:
    """The basis of a bill in words; None while nothing was billed."""
    return None if code is None else BASIS.get(code, words(code, code))


def note(text: str) -> Words | None:
    """A ledger row's note for a reader; None where it has none."""
    kind, _, rest = text.partition(" ")
    if kind == "credit_usd":
        usd, _, day = rest.partition(" ")
        return words(
            f"credits at ${usd} each, rate of {day}", f"1 クレジット ${usd}({day} 時点のレート)で換算"
        )
    if text == "understudy settle":
        return words("entered with understudy settle", "understudy settle で入力")
    return words(text, text) if text else None


def changes(before: Decision, after: Decision) -> tuple[Words, ...]:
    """In the order in which a reader wants to know: the choice, who went, who came, what costs something else."""
    return tuple(
        (*_choice(before, after), *_went(before, after), *_came(before, after), *_prices(before, after))
    )


def between(job: Job) -> dict[int, tuple[Words, ...]]:
    """For every attempt but the first: what had changed since the one before it."""
    pairs = zip(job.attempts, job.attempts[1:], strict=False)
    return {later.n: changes(earlier.decision, later.decision) for earlier, later in pairs}


def overrun(attempt: Attempt) -> Decimal | None:
    """What was billed above the reservation; None where nothing was."""
    if attempt.billed_usd is None or attempt.estimate_usd is None:
        return None
    above = attempt.billed_usd - attempt.reserved_usd
    return above if above > 0 else None


def _choice(before: Decision, after: Decision) -> Iterator[Words]:
    if before.mode != after.mode:
        yield words(f"mode: {before.mode} → {after.mode}", f"モード: {before.mode} → {after.mode}")
    old = before.chosen.model if before.chosen else None
    new = after.chosen.model if after.chosen else None
    if old == new:
        return
    nobody = words("nobody", "なし")
    yield words(
        f"chosen: {old or nobody.en} → {new or nobody.en}", f"選択: {old or nobody.ja} → {new or nobody.ja}"
    )


def _went(before: Decision, after: Decision) -> Iterator[Words]:
    could, out = _could(before), _out(before)
    known = _could(after).keys() | _out(after).keys()
    for model, row in sorted(_out(after).items()):
        if model in could:
            yield words(f"{model} went: {row.reason.en}", f"{model} が対象外に: {row.reason.ja}")
        elif model in out and out[model].code != row.code:
            yield words(
                f"{model} is out for another reason: {row.reason.en} (before: {out[model].reason.en})",
                f"{model} の対象外の理由が変化: {row.reason.ja}(以前: {out[model].reason.ja})",
            )
        elif model not in out:
            yield words(
                f"{model} is new, but out: {row.reason.en}",
                f"{model} が加わりましたが対象外: {row.reason.ja}",
            )
    for model in sorted((could.keys() | out.keys()) - known):
        yield words(f"{model} is no longer in the catalogue", f"{model} はカタログからなくなりました")


def _came(before: Decision, after: Decision) -> Iterator[Words]:
    could, out = _could(before), _out(before)
    for model in sorted(_could(after)):
        if model in out:
            was = out[model].reason
            yield words(f"{model} came back (before: {was.en})", f"{model} が候補に復帰(以前: {was.ja})")
        elif model not in could:
            yield words(f"{model} is new", f"{model} が新しく加わりました")


def _prices(before: Decision, after: Decision) -> Iterator[Words]:
    old, new = _usd(before), _usd(after)
    for model in sorted(old.keys() & new.keys()):
        was, now = old[model], new[model]
        if was == now:
            continue
        says = [f"${money(usd)}" if usd is not None else None for usd in (was, now)]
        unknown = words("not known", "不明")
        yield words(
            f"price of {model}: {says[0] or unknown.en} → {says[1] or unknown.en}",
            f"{model} の価格: {says[0] or unknown.ja} → {says[1] or unknown.ja}",
        )


def _could(decision: Decision) -> dict[str, Candidate]:
    return {row.model: row for row in decision.candidates}


def _out(decision: Decision) -> dict[str, Rejected]:
    return {row.model: row for row in decision.rejected}


def _usd(decision: Decision) -> dict[str, Decimal | None]:
    """Prices that were said. A rejection often comes before the price is looked up, so there None says nothing."""
    said: dict[str, Decimal | None] = {row.model: row.usd for row in decision.rejected if row.usd is not None}
    return said | {row.model: row.usd for row in decision.candidates}
