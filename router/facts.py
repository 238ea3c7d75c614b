"""Takes the snapshot that the policy decides from: offers, limits, money left, the time."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import Protocol

from router import breakeven, keys, ledger, limits, peers, purses, store
from router.catalog import Catalog
from router.contract.card import Limits, LostSubmit, ModelCard, Where
from router.contract.job import Attempt, AttemptStatus, Job, Rejected
from router.contract.words import Words, words
from router.db import Tx, from_us
from router.ledger import Caps
from router.policy import Ask, Facts, Money, OfferFacts, Seen, Tried
from router.policy.snapshot import Learned
from router.pricing import to_micros
from router.purses import Purse, narrowed
from router.rows import Inputs
from router.settings import Settings
from router.windows import Windows

LOCAL_PLACES = 4
"""Jobs handed to our own device at once: one runs, a few are at hand so that it never idles."""
OVERDUE = 0.1
"""Share of its expected time that an attempt on our own device is given when it should have ended."""
SWITCH_S = 30.0
"""Seconds to load another local model: a 14B model in fp8 from an SSD; calibration will know better."""
STOPPED = words(
    "billed above its price table: correct the price row, then it runs again",
    "価格表を超える請求がありました。価格表の行を修正すると再開します",
)


@dataclass(frozen=True)
class _Out:
    code: str
    why: Words


NO_WORKER = _Out(
    "no_worker",
    words("no understudy worker is running", "understudy worker が起動していません"),
)


class Usable(Protocol):
    """What the snapshot asks of the installation."""

    def out(self, card: ModelCard) -> "OutLike | None":
        """Why the card cannot run here."""
        ...

    def key_mark(self, backend: str) -> str:
        """Changes with the backend's key."""
        ...


class OutLike(Protocol):
    """A machine word and a sentence."""

    @property
    def code(self) -> str:
        """`no_key`, `no_weights`, ..."""
        ...

    @property
    def why(self) -> Words:
        """For the person who can change it."""
        ...


def take(tx: Tx, settings: Settings, catalog: Catalog, usable: Usable, recent: Sequence[Seen] = ()) -> Facts:
    """Read everything a decision depends on in one transaction; `recent` is what the planner saw come in."""
    rests = limits.rests(tx)
    flying = store.in_flight(tx)
    taken, backend_taken, ahead = _occupied(tx, catalog, flying)
    latest = store.latest_attempt_of(tx, catalog.local)
    ends = _expected_ends(tx, catalog, rests, flying, latest)
    outs = {card.id: usable.out(card) for card in catalog.cards.values()}
    windows = _windows(tx, catalog, (card for card in catalog.cards.values() if outs[card.id] is None))
    in_memory = _in_memory(tx, settings, latest)
    devices = peers.living(tx, "worker") if settings.local.carried_by == "worker" else 1
    offers = []
    for card in catalog.cards.values():
        out = outs[card.id]
        if devices == 0 and out is None and card.local is not None:
            out = NO_WORKER
        if out is not None:
            # Never started, so nothing else about it matters to a plan.
            offers.append(OfferFacts(card, unusable=_rejected(card, out.code, out.why)))
            continue
        rest = _rest(rests, card, usable, tx.now)
        mine = rests.get(card.id)
        most = places(card, mine)
        offers.append(
            OfferFacts(
                card=card,
                rest=rest,
                free_at=_free_at(windows, card),
                room=most - taken[card.id] if most is not None else None,
                queued_s=ahead[card.backend] if card.where is Where.HOUSE else 0.0,
                half_open=mine.half_open if mine else False,
                rested_at=mine.until if mine and mine.half_open else None,
                learned=_learned(mine) if mine else Learned(),
                busy_until=tuple(ends[card.id]),
                starts=windows.minute(card.id),
                left_today=windows.left_today(card.id),
                loaded=card.where is not Where.HOUSE or in_memory in {None, card.id},
                switch_s=SWITCH_S if card.local is not None else 0.0,
            )
        )
    local = settings.local
    router = settings.router
    return Facts(
        now=tx.now,
        offers=tuple(offers),
        money=money_left(tx, settings),
        backend_room={
            name: info.limits.max_in_flight - backend_taken[name]
            for name, info in catalog.providers.items()
            if info.limits.max_in_flight is not None
        },
        mode=router.mode,
        substitutes=router.substitutes,
        too_expensive_per_second=router.too_expensive_usd_per_second,
        too_expensive_multiple=router.too_expensive_multiple,
        # It grows with the time alone, so a second's share is the same for every clip.
        local_full_usd_per_s=breakeven.full(local.cost, Decimal(1)),
        value_of_deadline_usd=router.value_of_deadline_usd,
        default_deadline_s=router.default_deadline,
        pace=purses.pace(tx, settings),
        recent=recent,
        demo_model=local.demo_model,
        patience_s=router.cloud_patience_s,
        devices=max(devices, 1),
        can_hedge=True,
        electricity_per_s=Decimal(str(local.watts)) / Decimal(3_600_000) * local.kwh_usd,
    )


def ask(job: Job, inputs: Inputs, catalog: Catalog, purses: Sequence[Purse] = ()) -> Ask:
    """A stored job as the policy sees it: its purses are a limit of its own."""
    tried = [
        Tried(
            model=attempt.model,
            code=attempt.error.code if attempt.error else "failed",
            accepted=attempt.accepted_at is not None,
            ended_at=attempt.ended_at or attempt.created_at,
            free_retry=free_retry(
                catalog.cards.get(attempt.model), attempt.error.code if attempt.error else ""
            ),
        )
        for attempt in job.attempts
        if attempt.status.ended
    ]
    spent = to_micros(job.billed_usd + job.reserved_usd)
    return Ask(
        job.id, narrowed(job.request, spent, purses), job.seed, inputs, spent, tuple(tried), job.created_at
    )


def free_retry(card: ModelCard | None, code: str) -> bool:
    """Work that was lost with our own process and cost nothing may be done again by the same offer."""
    return card is not None and card.lost_submit is LostSubmit.RESEND and code == "operation_lost"


def caps(tx: Tx, settings: Settings, job: Job) -> Caps:
    """The hard limits that this job's money must fit."""
    request, budget = job.request, settings.budget

    def whole(usd: Decimal | None) -> int | None:
        return None if usd is None else int(usd * 1_000_000)

    def of(budgets: Mapping[str, Decimal]) -> int | None:
        return whole(budgets.get(request.project)) if request.project else None

    key_day, key_month = keys.budgets(tx, job.api_key) if job.api_key else (None, None)
    return Caps(
        job=whole(request.preferences.max_usd),
        project_day=of(budget.project_day_usd),
        project_month=of(budget.project_month_usd),
        key_day=key_day,
        key_month=key_month,
        day=whole(budget.day_usd),
        month=whole(budget.month_usd),
    )


def money_left(tx: Tx, settings: Settings) -> Money:
    """What the budgets still allow."""
    budget = settings.budget
    projects = {*budget.project_day_usd, *budget.project_month_usd}
    if budget.day_usd is None and budget.month_usd is None and not projects:
        return Money()
    day = ledger.day_of(tx.now, budget.zone)
    _, midnight, next_month = ledger.turns(tx.now, budget.zone)
    spent = ledger.sums(tx, job_id=None, project=None, day=day)

    def micros(usd: Decimal | None) -> int | None:
        return None if usd is None else int(usd * 1_000_000)

    def left(usd: Decimal | None, have: int) -> int | None:
        return None if usd is None else max(int(usd * 1_000_000) - have, 0)

    totals = {"day": micros(budget.day_usd), "month": micros(budget.month_usd)}
    of_project: dict[str, int] = {}
    for name in projects:
        caps_ = (budget.project_day_usd.get(name), budget.project_month_usd.get(name))
        of = ledger.sums(tx, job_id=None, project=name, day=day)
        # Whichever of the two is nearer its end.
        lefts = (left(caps_[0], of.project_day), left(caps_[1], of.project_month))
        of_project[name] = min(x for x in lefts if x is not None)
        totals[f"project {name}"] = min(x for x in map(micros, caps_) if x is not None)
    return Money(
        day=left(budget.day_usd, spent.day),
        month=left(budget.month_usd, spent.month),
        project_day=of_project,
        day_turns_at=midnight,
        month_turns_at=next_month,
        caps={name: cap for name, cap in totals.items() if cap is not None},
    )


def places(card: ModelCard, learned: limits.Rest | None = None) -> int | None:
    """Jobs that may be at this model at once: documented, or learned from its refusals."""
    if card.limits.max_in_flight is not None:
        return card.limits.max_in_flight
    if card.local is not None:
        return LOCAL_PLACES
    return int(learned.ceiling) if learned is not None and learned.ceiling is not None else None


def in_flight_at(tx: Tx, model: str) -> int:
    """Attempts that are at this model now."""
    return sum(1 for name, _, status, _ in store.in_flight(tx) if name == model and status != "fetching")


def _learned(rest: limits.Rest) -> Learned:
    return Learned(
        results=rest.weight,
        failures=rest.failures,
        billed_failures=rest.billed_failures,
        mean_s=rest.mean_s,
        p85_s=rest.quantile(0.85),
        p97_s=rest.quantile(0.97),
        p99_s=rest.quantile(0.99),
        price_factor=rest.price_factor,
        recent_s=rest.latencies,
    )


def _expected_ends(
    tx: Tx,
    catalog: Catalog,
    rests: Mapping[str, limits.Rest],
    flying: Sequence[store.Flying],
    latest: store.Latest | None,
) -> defaultdict[str, list[datetime]]:
    """When the attempts at each model are expected to free their place, soonest first.

    Our own device is handed several at once and makes one after the other; `latest` tells when it began with the first.
    """
    ends: defaultdict[str, list[datetime]] = defaultdict(list)
    free = from_us(latest.last_end or 0) if latest is not None else from_us(0)
    for model, _, status, created in sorted(flying, key=itemgetter(3)):
        card = catalog.cards.get(model)
        if card is None or status == AttemptStatus.FETCHING:
            continue
        learned = rests.get(model)
        seconds = (
            learned.mean_s if learned is not None and learned.mean_s is not None else card.typical_seconds
        )
        if status == AttemptStatus.UNRESOLVED:
            ends[model].append(max(from_us(created) + timedelta(seconds=card.give_up_s), tx.now))
            continue
        work, begins = timedelta(seconds=seconds), from_us(created)
        if card.local is None:
            ends[model].append(max(begins + work, tx.now))
        else:
            # One that should have ended and has not takes a little longer.
            free = max(max(begins, free) + work, tx.now + OVERDUE * work)
            ends[model].append(free)
    for moments in ends.values():
        moments.sort()
    return ends


def work_began(tx: Tx, catalog: Catalog, attempt: Attempt) -> datetime:
    """When the work on an attempt began that has not ended yet; what our own device was handed waits for its turn first."""
    accepted = attempt.accepted_at or attempt.created_at
    if attempt.model not in catalog.local:
        return accepted
    latest = store.latest_attempt_of(tx, catalog.local)
    return max(accepted, from_us(latest.last_end or 0)) if latest is not None else accepted


def _in_memory(tx: Tx, settings: Settings, latest: store.Latest | None) -> str | None:
    """The local model that was used last and is still loaded, by the attempts themselves; None when none is."""
    if latest is None:
        return None
    idle = latest.ended_at is not None and tx.us > latest.ended_at + int(settings.local.idle_unload_s * 1e6)
    return None if idle else latest.model


def price_mark(card: ModelCard) -> str:
    """Changes when the card's price rows change; an overrun stops the offer until then."""
    rows = "\n".join(price.model_dump_json() for price in card.prices)
    return hashlib.sha256(rows.encode()).hexdigest()


def start_blocked(tx: Tx, catalog: Catalog, card: ModelCard) -> bool:
    """The exact check inside the starting transaction: windows and places, whatever the snapshot said."""
    free = _free_at(_windows(tx, catalog, [card]), card)
    if free is not None and free > tx.now:
        return True
    taken, backend_taken, _ = _occupied(tx, catalog, store.in_flight(tx))
    learned = limits.rests(tx)
    most = places(card, learned.get(card.id))
    account = catalog.providers[card.backend].limits.max_in_flight
    if most is not None and taken[card.id] >= most:
        return True
    if account is not None and backend_taken[card.backend] >= account:
        return True
    rests = [learned[scope] for scope in (card.id, card.backend) if scope in learned]
    return any(rest.key_mark is None and rest.until is not None and rest.until > tx.now for rest in rests)


def _occupied(
    tx: Tx, catalog: Catalog, flying: Sequence[store.Flying]
) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """(places taken by model, by backend, seconds of work ahead by backend)."""
    taken: Counter[str] = Counter()
    backend_taken: Counter[str] = Counter()
    ahead: Counter[str] = Counter()
    for model, backend, status, created in flying:
        card = catalog.cards.get(model)
        if status == AttemptStatus.FETCHING:
            continue
        if status == AttemptStatus.UNRESOLVED and (
            card is None or tx.us > created + int(card.give_up_s * 1e6)
        ):
            continue
        taken[model] += 1
        backend_taken[backend] += 1
        if card is not None:
            ahead[backend] += int(card.typical_seconds)
    return taken, backend_taken, ahead


def _windows(tx: Tx, catalog: Catalog, cards: Iterable[ModelCard]) -> Windows:
    """Of these models and their accounts, in as few statements as there are lengths of windows."""
    rules: dict[str, Limits] = {}
    for card in cards:
        rules[card.id] = card.limits
        rules[card.backend] = catalog.providers[card.backend].limits
    return Windows(tx, rules)


def _free_at(windows: Windows, card: ModelCard) -> datetime | None:
    ends = (windows.free_at(card.id), windows.free_at(card.backend))
    return max((end for end in ends if end is not None), default=None)


def _rest(
    rests: Mapping[str, limits.Rest], card: ModelCard, usable: Usable, now: datetime
) -> Rejected | None:
    mine, whole = rests.get(card.id), rests.get(card.backend)
    if mine is not None and mine.stopped_mark == price_mark(card):
        return _rejected(card, "stopped", STOPPED)
    for rest in (mine, whole):
        if rest is None or rest.until is None or rest.until <= now:
            continue
        if rest.key_mark is not None and rest.key_mark != usable.key_mark(card.backend):
            continue
        return _rejected(card, rest.code or "resting", rest.why or words("resting", "休止中"), rest.until)
    if mine is not None and mine.half_open and mine.probe_job is not None:
        return _rejected(
            card,
            "breaker_open",
            words("one probe is on its way after an outage", "障害後の確認ジョブを 1 件送信中です"),
            now + timedelta(seconds=limits.BREAKER_S),
        )
    return None


def _rejected(card: ModelCard, code: str, why: Words, ready_at: datetime | None = None) -> Rejected:
    return Rejected(backend=card.backend, model=card.id, code=code, reason=why, ready_at=ready_at)
