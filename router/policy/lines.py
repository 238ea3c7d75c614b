"""The queues behind the offers: one per offer, one per device of our own, one per account with a limit of its own."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from router.contract.card import Where
from router.contract.job import Rejected
from router.contract.words import words
from router.policy.rejections import AGAIN_AFTER, reject
from router.policy.snapshot import Facts, OfferFacts
from router.policy.timeline import NOW, Line, Window

_TAKEN = words("all its places are taken", "同時実行数の上限に達しています")


class Lines:
    """All queues of one pass, as the facts leave them."""

    def __init__(self, facts: Facts) -> None:
        """Each queue is made when the first job asks for it: most passes need few of the many offers."""
        self._facts = facts
        self._by_model: dict[str, Line] = {}

    def of(self, offer: OfferFacts) -> Line:
        """The queue that a job for this offer stands in."""
        return self._by_model.get(offer.card.id) or self._make(offer)

    def _make(self, offer: OfferFacts) -> Line:
        backend = offer.card.backend
        house = offer.card.where is Where.HOUSE
        if not house and backend not in self._facts.backend_room:
            line = self._by_model[offer.card.id] = self._cloud(offer)
            return line
        mates = [o for o in self._facts.offers if o.card.backend == backend and o.unusable is None]
        if house:
            self._by_model.update(dict.fromkeys((o.card.id for o in mates), self._device(backend, mates)))
        else:
            self._by_model.update({o.card.id: self._cloud(o) for o in mates})
            self._account(backend, mates)
        return self._by_model[offer.card.id]

    def all(self) -> list[Line]:
        """Each queue of offers and devices once, in a fixed order."""
        return list(dict.fromkeys(self._by_model.values()))

    def _cloud(self, offer: OfferFacts) -> Line:
        limits = offer.card.limits
        windows = []
        if limits.starts_per_second is not None:
            windows.append(Window(limits.starts_per_second, 1.0))
        if limits.starts_per_minute is not None:
            windows.append(Window(limits.starts_per_minute, 60.0))
        if offer.half_open:
            windows.append(Window(1, AGAIN_AFTER.total_seconds()))
        earliest = 0.0
        if offer.free_at is not None:
            earliest = max(earliest, self._from_now(offer.free_at))
        if offer.rest is not None and offer.rest.ready_at is not None:
            earliest = max(earliest, self._from_now(offer.rest.ready_at))
        return Line(
            offer.card.id,
            earliest=earliest,
            places=self._places(offer.room, offer.busy_until, offer.seconds),
            service_s=offer.seconds,
            windows=windows,
            history=sorted(min(0.0, self._from_now(at)) for at in offer.starts) if offer.starts else (),
            # With none left today, `free_at` tells when one is left again.
            left=offer.left_today if offer.left_today or offer.free_at is None else 1,
        )

    def _device(self, backend: str, offers: Sequence[OfferFacts]) -> Line:
        """Our own device does one job after the other, whatever models they need."""
        facts = self._facts
        ends = [self._from_now(at) for offer in offers for at in offer.busy_until]
        ahead = max(ends) if ends else max(offer.queued_s for offer in offers)
        rooms = [offer.room for offer in offers if offer.room is not None]
        if backend in facts.backend_room:
            rooms.append(facts.backend_room[backend])
        return Line(
            backend,
            earliest=max(ahead, 0.0),
            service_s=min(offer.seconds for offer in offers),
            serial=True,
            room=max(min(rooms), 0) if rooms else None,
            in_hand=len(ends),
            devices=facts.devices,
        )

    def _account(self, backend: str, offers: Sequence[OfferFacts]) -> None:
        ends = sorted(at for offer in offers for at in offer.busy_until)
        seconds = sum(offer.seconds for offer in offers) / len(offers)
        room = self._facts.backend_room[backend]
        line = Line(backend, places=self._places(room, ends, seconds), service_s=seconds)
        for offer in offers:
            member = self._by_model[offer.card.id]
            member.account = line
            line.members.append(member)

    def _places(self, room: int | None, busy_until: Sequence[datetime], seconds: float) -> list[float] | None:
        """When each place is free; one that should be free already and is not is given a little longer."""
        if room is None:
            return None
        overdue = min(self._facts.tick_s, 0.1 * seconds) + 1.0
        ends = sorted(max(self._from_now(at), overdue) for at in busy_until)
        if room < 0:
            # More jobs than places: the first to end make no room.
            ends = ends[-room:]
        if room <= 0 and not ends:
            ends = [max(seconds, 1.0)]
        return [0.0] * max(room, 0) + ends

    def why_not_now(self, offer: OfferFacts, line: Line, usd: Decimal | None) -> Rejected | None:
        """What keeps any job from starting here now; None when nothing does."""
        card, now = offer.card, self._facts.now
        if offer.rest is not None:
            return offer.rest.model_copy(update={"usd": usd})
        if offer.free_at is not None and offer.free_at > now:
            at = offer.free_at.strftime("%H:%M:%S")
            text = words(
                f"its rate limit is used up until {at} UTC", f"レート制限に達しています({at} UTC まで)"
            )
            return reject(card, "rate_limited", text, usd=usd, ready_at=offer.free_at)
        full = line.room == 0 if line.serial else line.at(0) > NOW
        account = line.account
        if full or (account is not None and account.at(0) > NOW):
            free = line.at(0) if account is None else max(line.at(0), account.at(0))
            return self.busy(offer, free, usd)
        return None

    def busy(self, offer: OfferFacts, free: float, usd: Decimal | None) -> Rejected:
        """All its places are taken until then."""
        seconds = free if NOW < free < 1e9 else max(offer.seconds, 1.0)
        ready = self._facts.now + timedelta(seconds=seconds)
        return reject(offer.card, "busy", _TAKEN, usd=usd, ready_at=ready)

    def _from_now(self, at: datetime) -> float:
        return (at - self._facts.now).total_seconds()
