"""What a card makes of a request, apart from its words and its seed: remembered, because a bulk asks it often.

Fitting is pure, so remembering it changes nothing but the time it takes: jobs that differ only in prompt and seed are
fitted and priced once per card.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from router.contract.card import ModelCard, ResolvedRequest, Where
from router.contract.errors import Misfit, UnsupportedRequest
from router.contract.fit import fit, prompt_length
from router.contract.job import Candidate, Rejected
from router.contract.language import written_in
from router.contract.request import FrameType
from router.policy.reasons import join, why_candidate
from router.policy.snapshot import Ask
from router.pricing import Estimate, estimate, to_micros


@dataclass(frozen=True)
class Fitted:
    """One shape of request at one card; `duration` in seconds."""

    price: Estimate | None
    most: int
    """Micro-dollars to reserve."""
    duration: float
    resolved: ResolvedRequest
    """Of the first job that asked this way."""
    shown: dict[tuple[float, bool, bool], Candidate] = field(default_factory=dict, compare=False)
    """What `candidate` answered: checking the same few values anew was a fifth of planning one job."""

    def candidate(self, card: ModelCard, seconds: float, late: bool, unsafe: bool) -> Candidate:
        """As a decision shows it; `seconds` until the clip, `card` the one that it was fitted to."""
        found = self.shown.get((seconds, late, unsafe))
        if found is None:
            if len(self.shown) >= _MOST_SHOWN:
                self.shown.clear()
            usd = self.price.usd if self.price else None
            found = self.shown[seconds, late, unsafe] = Candidate(
                backend=card.backend,
                model=card.id,
                usd=usd,
                seconds=seconds,
                reason=why_candidate(card.where is Where.HOUSE, usd, late, unsafe),
                price_as_of=self.price.as_of.isoformat() if self.price else None,
                price_source=self.price.source if self.price else None,
            )
        return found

    def resolve(self, ask: Ask, card: ModelCard) -> ResolvedRequest:
        """What the backend will see of this job; only for a job that starts now."""
        request, like = ask.request, self.resolved
        if request.input_references:
            return fit(request, card, seed=ask.seed, inputs=ask.inputs)
        own: dict[str, object] = {"prompt": request.prompt}
        if like.negative_prompt is not None:
            own["negative_prompt"] = request.negative_prompt
        if like.seed is not None:
            own["seed"] = ask.seed if request.seed is None else request.seed
        if like.first_frame is not None:
            own["first_frame"] = ask.inputs[FrameType.FIRST]
        if like.last_frame is not None:
            own["last_frame"] = ask.inputs[FrameType.LAST]
        return like.model_copy(update=own)


@dataclass(frozen=True)
class Unfit:
    """Why the card cannot make it."""

    rejected: Rejected
    misfits: tuple[Misfit, ...]


Key = tuple[Hashable, ...]
_MOST = 50_000
_MOST_SHOWN = 64
_memo: dict[int, tuple[ModelCard, dict[Key, Fitted | Unfit]]] = {}


class PromptLimits:
    """Which prompts are short enough for all cards: those need not be told apart."""

    def __init__(self, cards: Sequence[ModelCard]) -> None:
        """Reads each card's limit and unit."""
        self._limited = [card for card in cards if card.prompt_max is not None]
        self._surely = min((card.prompt_max or 0 for card in self._limited), default=0) // 4
        self._any = bool(self._limited)

    def key(self, prompt: str) -> Hashable:
        """Equal for prompts that every card treats alike."""
        # No unit counts more than four per character.
        if not self._any or len(prompt) <= self._surely:
            return bool(prompt)
        if all(prompt_length(prompt, card) <= (card.prompt_max or 0) for card in self._limited):
            return True
        return (len(prompt), len(prompt.encode()))


def fit_key(ask: Ask, prompts: PromptLimits) -> Key:
    """Equal for requests that every card fits and prices alike."""
    request = ask.request
    inputs: Hashable = ()
    if ask.inputs:
        inputs = tuple(
            (key, m.type, m.role, a.mime, a.width, a.height, a.duration_s, m.source_backend)
            for key, m in ask.inputs.items()
            for a in (m.asset,)
        )
    return (
        request.task,
        request.duration,
        request.resolution,
        request.aspect_ratio,
        request.fps,
        request.guidance,
        request.quality,
        request.camera,
        request.generate_audio,
        request.effect,
        request.prompt_language or written_in(request.prompt),
        request.preferences.allow_drop,
        request.seed is None,
        bool(request.negative_prompt),
        prompts.key(request.prompt),
        inputs,
        tuple(frame.frame_type for frame in request.frame_images) if request.frame_images else (),
        len(request.input_references),
        repr(request.provider_options) if request.provider_options else "",
    )


def fitted(ask: Ask, card: ModelCard, key: Key) -> Fitted | Unfit:
    """The card's answer to this shape of request, computed once."""
    known = _memo.get(id(card))
    if known is None or known[0] is not card:
        known = _remember(card)
    found = known[1].get(key)
    if found is None:
        if len(known[1]) > _MOST // 50:
            known[1].clear()
        found = known[1][key] = _fit(ask, card)
    return found


def forget() -> None:
    """Start cold; for measurements."""
    _memo.clear()


def _remember(card: ModelCard) -> tuple[ModelCard, dict[Key, Fitted | Unfit]]:
    if len(_memo) > _MOST // 50:
        _memo.clear()
    known: tuple[ModelCard, dict[Key, Fitted | Unfit]] = (card, {})
    _memo[id(card)] = known
    return known


def _fit(ask: Ask, card: ModelCard) -> Fitted | Unfit:
    try:
        resolved = fit(ask.request, card, seed=ask.seed, inputs=ask.inputs)
    except UnsupportedRequest as error:
        code = "task" if any(m.field == "task" for m in error.misfits) else "misfit"
        reason = join([m.reason for m in error.misfits]) or error.message
        no = Rejected(backend=card.backend, model=card.id, code=code, reason=reason)
        return Unfit(no, error.misfits)
    price = estimate(card, resolved)
    return Fitted(price, to_micros(price.most_usd) if price else 0, resolved.duration, resolved)
