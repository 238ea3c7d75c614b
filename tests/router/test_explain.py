"""What changed between two decisions: the choice, who went, who came, which price moved; nothing where nothing did."""

from datetime import UTC, datetime
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.job import Candidate, Decision, Rejected
from router.contract.words import Words, words
from router.explain import BASIS, basis, changes

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def could(model: str, usd: str | None = "0.50") -> Candidate:
    return Candidate(
        backend=model.split("/")[0],
        model=model,
        usd=None if usd is None else D(usd),
        seconds=30,
        reason=words("cloud", "クラウド"),
    )


def out(model: str, code: str = "rate_limited", usd: str | None = None) -> Rejected:
    return Rejected(
        backend=model.split("/")[0],
        model=model,
        code=code,
        reason=words(f"{code} now", f"{code} 中"),
        usd=None if usd is None else D(usd),
    )


def decided(*offers: Candidate | Rejected, mode: str = "cloud-first") -> Decision:
    candidates = tuple(o for o in offers if isinstance(o, Candidate))
    return Decision(
        at=AT,
        mode=mode,
        chosen=candidates[0] if candidates else None,
        candidates=candidates,
        rejected=tuple(o for o in offers if isinstance(o, Rejected)),
        reason=words("because", "理由"),
    )


CASES: list[tuple[Decision, Decision, list[tuple[str, str]]]] = [
    (
        decided(could("a/x"), could("b/y")),
        decided(could("b/y"), out("a/x", "tried")),
        [("chosen: a/x → b/y", "選択: a/x → b/y"), ("a/x went: tried now", "a/x が対象外に: tried 中")],
    ),
    (
        decided(could("b/y"), out("a/x")),
        decided(could("a/x"), could("b/y")),
        [
            ("chosen: b/y → a/x", "選択: b/y → a/x"),
            ("a/x came back (before: rate_limited now)", "a/x が候補に復帰(以前: rate_limited 中)"),
        ],
    ),
    (
        decided(could("a/x", "0.50")),
        decided(could("a/x", "0.75")),
        [("price of a/x: $0.50 → $0.75", "a/x の価格: $0.50 → $0.75")],
    ),
    (
        decided(could("a/x", "0.50")),
        decided(could("a/x", None)),
        [("price of a/x: $0.50 → not known", "a/x の価格: $0.50 → 不明")],
    ),
    (
        decided(could("a/x"), could("gone/z")),
        decided(could("a/x"), could("new/w")),
        [
            ("gone/z is no longer in the catalogue", "gone/z はカタログからなくなりました"),
            ("new/w is new", "new/w が新しく加わりました"),
        ],
    ),
    (
        decided(out("a/x", "rate_limited")),
        decided(out("a/x", "budget")),
        [
            (
                "a/x is out for another reason: budget now (before: rate_limited now)",
                "a/x の対象外の理由が変化: budget 中(以前: rate_limited 中)",
            )
        ],
    ),
    (
        decided(could("a/x")),
        decided(out("a/x", "budget", usd="0.50"), mode="local-only"),
        [
            ("mode: cloud-first → local-only", "モード: cloud-first → local-only"),
            ("chosen: a/x → nobody", "選択: a/x → なし"),
            ("a/x went: budget now", "a/x が対象外に: budget 中"),
        ],
    ),
]


@pytest.mark.parametrize(("before", "after", "said"), CASES)
def test_changes(before: Decision, after: Decision, said: list[tuple[str, str]]) -> None:
    assert [(w.en, w.ja) for w in changes(before, after)] == said


MODELS = ["a/x", "b/y", "c/z"]
offers = st.lists(
    st.sampled_from(MODELS).flatmap(
        lambda m: st.one_of(
            st.sampled_from(["0.1", "0.2", None]).map(lambda usd: could(m, usd)),
            st.sampled_from(["budget", "busy"]).map(lambda code: out(m, code)),
        )
    ),
    unique_by=lambda o: o.model,
    max_size=3,
)


@given(offers, offers)
def test_nothing_is_said_exactly_when_nothing_that_matters_changed(
    one: list[Candidate | Rejected], two: list[Candidate | Rejected]
) -> None:
    before, after = decided(*one), decided(*two)
    assert changes(before, before) == ()
    said = changes(before, after)
    same = {o.model: getattr(o, "code", o.usd) for o in one} == {
        o.model: getattr(o, "code", o.usd) for o in two
    } and (before.chosen and before.chosen.model) == (after.chosen and after.chosen.model)
    assert (said == ()) == same
    assert all(isinstance(w, Words) and w.en != w.ja for w in said)


def test_every_basis_that_the_engine_writes_has_words() -> None:
    assert set(BASIS) == {"provider", "table", "documented", "none", "person", "free", "unknown"}
    assert basis(None) is None
