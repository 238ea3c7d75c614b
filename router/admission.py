"""What every door shares before a job exists: checks, inputs, the preview of the decision, the first refusal."""

import asyncio
import random
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from router import facts, policy, purses, store
from router.backends import Backends
from router.catalog import Catalog
from router.contract import errors
from router.contract.card import Asset, InputMedia
from router.contract.job import AttemptStatus, Decision, Job
from router.contract.request import FrameType, Mode, Reference, VideoRequest
from router.contract.words import words
from router.db import LOOK_S, Database, Tx, get_meta, set_meta
from router.keys import ApiKey
from router.media import MediaStore
from router.policy import Ask, Choice, Finish
from router.policy.fitted import PromptLimits, fit_key
from router.purses import Purse
from router.report import UNSEEN, unseen_inputs
from router.settings import Settings

_SEEDS = 2**31
"""Seeds we draw fit the smallest range a provider documents."""
_SHAPES = 256
"""Kinds of request whose likely taker is remembered."""
MOST_PLANNED = 5000
"""Most jobs whose common end is looked for: some seconds of work."""
_SNAPSHOTS = 32
"""Snapshots kept at once."""


class _Seen:
    """One snapshot of a few offers, shared by all who asked while it was read."""

    def __init__(self, snapshot: policy.Facts, changes: int, began: float) -> None:
        self.facts = snapshot
        self._changes, self._began = changes, began
        self.taken: set[Hashable] = set()
        """Keys of requests that these offers take: a burst of the same but for prompt and seed is decided once."""
        self._prompts = PromptLimits([o.card for o in snapshot.offers if o.unusable is None])

    def holds(self, changes: int) -> bool:
        """Whether a new read would show the same: nothing that matters was committed here, and other processes' commits
        are not noticed sooner anywhere."""
        return changes == self._changes and time.monotonic() - self._began < LOOK_S

    def key(self, request: VideoRequest, seed: int, inputs: Mapping[FrameType | int, InputMedia]) -> Hashable:
        """Equal for requests that this snapshot's decision cannot tell apart, but for the caller's purses."""
        fits = fit_key(Ask("new", request, seed, inputs), self._prompts)
        return (fits, request.model, request.project, request.preferences)


class Admission:
    """Turns a caller's request into a stored job, or says why not."""

    def __init__(
        self, db: Database, settings: Settings, catalog: Catalog, backends: Backends, media: MediaStore
    ) -> None:
        """Shares the gateway's parts."""
        self._db = db
        self._settings = settings
        self._catalog = catalog
        self._backends = backends
        self._media = media
        cards = catalog.cards.values()
        self._names = {*catalog.providers, *(name for card in cards for name in (card.id, card.family))}
        self._likely: dict[Hashable, str] = {}
        self._coming: dict[str, asyncio.Task[_Seen]] = {}
        self._kept: dict[str, _Seen] = {}
        self._reading: dict[str, asyncio.Lock] = {}
        self._marked = False
        """Whether this database says which kind of money it holds."""

    async def admit(
        self, request: VideoRequest, idempotency_key: str | None, caller: ApiKey | None = None
    ) -> Job:
        """The new job, or the earlier one for a repeated idempotency key, deleted or not."""
        self._check_key(idempotency_key)
        if caller is not None:
            request, idempotency_key = caller.own(request), caller.idempotency(idempotency_key)
        self._check_names(request)
        request, inputs = await self._take_inputs(request, caller)
        # It is only ever compared with that of the same key.
        print_ = store.fingerprint(request) if idempotency_key is not None else ""
        if idempotency_key is not None:
            known = await self._db.read(lambda tx: store.by_key(tx, idempotency_key, print_))
            if known is not None:
                return known
        seed = request.seed if request.seed is not None else random.randrange(_SEEDS)
        await self._takeable(request, seed, inputs, caller)

        def write(tx: Tx) -> Job:
            if not self._marked and get_meta(tx, "money") is None:
                set_meta(tx, "money", "sandbox" if self._settings.sandbox_url else "real")
            job, _ = store.create(
                tx,
                request,
                inputs,
                seed=seed,
                idempotency_key=idempotency_key,
                print_=print_,
                api_key=caller.name if caller else None,
            )
            return job

        # It waits for the planner: nothing is taken, reserved or spent yet.
        job = await self._db.write(write, matters=False)
        self._marked = True
        return job

    async def preview(self, request: VideoRequest, caller: ApiKey | None = None) -> Decision:
        """The decision as it would be made now; nothing is written."""
        request, inputs = await self._look_at(request, caller)
        choice = await self._choose(request, request.seed or 0, inputs, caller)
        return choice.decision

    async def finishes(
        self, request: VideoRequest, count: int, budget_usd: Decimal | None, caller: ApiKey | None = None
    ) -> tuple[Finish, ...]:
        """When that many such jobs could be done, and for how much; nothing is written. Raises InvalidRequest.

        The mode is `cheapest` where the request names none. Jobs that already wait are not counted in.
        """
        if not 1 <= count <= MOST_PLANNED:
            raise errors.InvalidRequest(
                words(
                    f"count: a whole number from 1 to {MOST_PLANNED}",
                    f"count: 1 から {MOST_PLANNED} までの整数を指定してください",
                ),
                param="count",
            )
        if budget_usd is not None and not (budget_usd.is_finite() and 0 <= budget_usd <= 1_000_000):
            raise errors.InvalidRequest(
                words(
                    "budget_usd: an amount in US dollars from 0 to 1,000,000",
                    "budget_usd: 0 から 1,000,000 までの米ドルで指定してください",
                ),
                param="budget_usd",
            )
        request, inputs = await self._look_at(request, caller)
        wish: dict[str, object] = {"deadline": None, "mode": request.preferences.mode or Mode.CHEAPEST}
        if budget_usd is not None and request.preferences.max_usd is None:
            # A budget is a cap, and under a cap what nobody knows the price of is no offer.
            wish["max_usd"] = budget_usd
        request = request.model_copy(update={"preferences": request.preferences.model_copy(update=wish)})
        budget = None if budget_usd is None else int(budget_usd * 1_000_000)

        def read(tx: Tx) -> tuple[policy.Facts, VideoRequest]:
            snapshot = facts.take(tx, self._settings, self._catalog, self._backends)
            held = purses.held(tx, self._settings, caller.name if caller else None)
            return snapshot, purses.narrowed(request, 0, held)

        snapshot, asked = await self._db.read(read)
        asks = [Ask(str(n), asked, n, inputs) for n in range(count)]
        return await asyncio.to_thread(policy.finishes, snapshot, asks, budget)

    async def _look_at(
        self, request: VideoRequest, caller: ApiKey | None
    ) -> tuple[VideoRequest, Mapping[FrameType | int, InputMedia]]:
        """The request as its caller may make it, and its inputs without fetching them."""
        if caller is not None:
            request = caller.own(request)
        self._check_names(request)
        inputs: dict[FrameType | int, InputMedia] = dict(unseen_inputs(request))
        for frame in request.frame_images:
            if frame.url.startswith("asset:"):
                inputs[frame.frame_type] = InputMedia(asset=await self._asset(frame.url, "image"))
            elif frame.url.startswith("job:"):
                with _about("frame_images"):
                    inputs[frame.frame_type] = await self._take_frame(frame.url, False, caller)
        for index, reference in enumerate(request.input_references):
            if reference.url.startswith("asset:"):
                asset = await self._asset(reference.url, reference.type)
                inputs[index] = InputMedia(asset=asset, type=reference.type, role=reference.role)
            elif reference.url.startswith("job:"):
                with _about("input_references"):
                    inputs[index] = await self._take_reference(reference, False, caller)
        return request, inputs

    # -- checks

    def _check_key(self, key: str | None) -> None:
        if key is not None and not 0 < len(key) <= 255:
            raise errors.InvalidRequest(
                words(
                    "An idempotency key has 1 to 255 characters.",
                    "冪等キーは 1〜255 文字で指定してください。",
                ),
                param="Idempotency-Key",
            )

    def _check_names(self, request: VideoRequest) -> None:
        """Names that nobody knows are mistakes, not wishes."""
        known = self._names
        pref = request.preferences
        for field, names in (("preferences.backends", pref.backends), ("preferences.forbid", pref.forbid)):
            for name in names:
                if name not in known:
                    self._unknown(field, name)
        for name in request.provider_options:
            if name not in self._catalog.providers:
                self._unknown("provider_options", name)
        named = request.model is None or request.model in known or self._catalog.matching(request.model)
        if request.model is not None and not named:
            self._unknown("model", request.model)

    def _unknown(self, field: str, name: str) -> None:
        near = ", ".join(self._catalog.nearest(name))
        known = ", ".join(sorted(self._catalog.providers))
        if near:
            hint = words(f"Did you mean: {near}?", f"候補: {near}")
        elif field == "model":
            hint = words("understudy models lists all.", "understudy models で一覧を表示できます。")
        else:
            hint = words(f"Known: {known}", f"使用できるもの: {known}")
        raise errors.UnsupportedRequest(
            words(
                f"{field}: there is no {name!r}. {hint.en}", f"{field}: {name!r} は存在しません。{hint.ja}"
            ),
            param=field,
        )

    # -- inputs

    async def _take_inputs(
        self, request: VideoRequest, caller: ApiKey | None
    ) -> tuple[VideoRequest, Mapping[FrameType | int, InputMedia]]:
        """Every input becomes an asset of ours; the stored request refers to it by its hash."""
        private = self._settings.storage.fetch_private_urls
        inputs: dict[FrameType | int, InputMedia] = {}
        frames = []
        for frame in request.frame_images:
            with _about("frame_images"):
                media = await self._take_frame(frame.url, private, caller)
            inputs[frame.frame_type] = media
            frames.append(frame.model_copy(update={"url": f"asset:{media.asset.id}"}))
        references = []
        for index, reference in enumerate(request.input_references):
            with _about("input_references"):
                media = await self._take_reference(reference, private, caller)
            inputs[index] = media
            keep = reference.url.startswith("job:")
            url = reference.url if keep else f"asset:{media.asset.id}"
            references.append(reference.model_copy(update={"url": url}))
        update = {"frame_images": tuple(frames), "input_references": tuple(references)}
        return request.model_copy(update=update), inputs

    async def _take_reference(self, reference: Reference, private: bool, caller: ApiKey | None) -> InputMedia:
        if not reference.url.startswith("job:"):
            asset = await self._media.take_reference(reference.url, reference.type, allow_private=private)
            return InputMedia(asset=asset, type=reference.type, role=reference.role)
        job, output = await self._finished(reference.url, caller)
        return _result_of(job, output, reference.type, reference.role)

    async def _take_frame(self, url: str, private: bool, caller: ApiKey | None) -> InputMedia:
        if not url.startswith("job:"):
            return InputMedia(asset=await self._media.take_reference(url, "image", allow_private=private))
        return _result_of(*await self._finished(url, caller))

    async def _finished(self, url: str, caller: ApiKey | None) -> tuple[Job, Asset]:
        """The job behind `job:<id>` and its result; raises NotFound, or InvalidRequest where it has none."""
        job_id = url.removeprefix("job:")
        job = await self._db.read(lambda tx: store.get(tx, job_id))
        if job is None or job.deleted or not (caller is None or caller.sees(job)):
            raise errors.not_found(job_id)
        if job.output is None:
            raise errors.InvalidRequest(
                words(
                    f"Job {job_id} has no clip to go on from.",
                    f"ジョブ {job_id} には利用できる動画がありません。",
                ),
            )
        return job, job.output

    async def _asset(self, url: str, kind: Literal["image", "video", "audio"]) -> Asset:
        try:
            return await self._media.take_reference(url, kind)
        except errors.InvalidRequest:
            return UNSEEN

    # -- the decision

    async def _takeable(
        self,
        request: VideoRequest,
        seed: int,
        inputs: Mapping[FrameType | int, InputMedia],
        caller: ApiKey | None,
    ) -> None:
        """Refuse what nothing can take. One offer that can is enough, and the last such request tells where to look.

        More offers never turn a yes into a no, so only a no needs the decision over the whole catalogue.
        """
        pref = request.preferences
        length = (request.duration, request.resolution, request.aspect_ratio, request.generate_audio)
        shape = (request.model, *length, len(request.frame_images), len(request.input_references), pref.mode)
        # Our own card's full cost is a limit of the cloud's price: there the whole catalogue is asked.
        whole = self._settings.router.too_expensive_multiple is not None
        likely = None if whole else self._likely.get(shape)
        name = caller.name if caller is not None else None
        if likely is not None:
            seen = await self._snapshot(likely, request.model)
            held: Sequence[Purse] = ()
            if caller is not None:
                held = await self._db.read(lambda tx: purses.held(tx, self._settings, name))
            key = seen.key(request, seed, inputs)
            if not held and key in seen.taken:
                return
            if self._refusal(request, self._decide(seen.facts, request, seed, inputs, held)) is None:
                if not held:
                    seen.taken.add(key)
                return
        choice = await self._choose(request, seed, inputs, caller)
        refusal = self._refusal(request, choice)
        if refusal is not None:
            raise refusal
        if (card := self._taker(choice)) is not None:
            if len(self._likely) >= _SHAPES:
                self._likely.pop(next(iter(self._likely)))
            self._likely[shape] = card

    def _taker(self, choice: Choice) -> str | None:
        """The model that will run it, or else waits the shortest; never the demo model, which only fills a gap."""
        decision = choice.decision
        waits = [(r.ready_at, r.model) for r in decision.rejected if r.ready_at is not None]
        found = decision.chosen.model if decision.chosen else min(waits)[1] if waits else None
        return None if found is None or self._catalog.cards[found].demo else found

    async def _snapshot(self, likely: str, model: str | None) -> "_Seen":
        """The facts of one offer and of those that the request names, as a read that begins now would find them.

        Whoever asks while a read is under way shares the next one, as the writer shares commits.
        """
        key = f"{likely} {model or ''}"
        kept = self._kept.get(key)
        if kept is not None and kept.holds(self._db.changes):
            return kept
        task = self._coming.get(key)
        if task is None:
            task = asyncio.create_task(self._read(key, likely, model))
            self._coming[key] = task
        return await asyncio.shield(task)

    async def _read(self, key: str, likely: str, model: str | None) -> "_Seen":
        lock = self._reading.setdefault(key, asyncio.Lock())
        async with lock:
            self._coming.pop(key, None)
            try:
                wanted = {likely} | {card.id for card in self._catalog.matching(model or likely)}
                few = {name: card for name, card in self._catalog.cards.items() if name in wanted}
                catalog = replace(self._catalog, cards=few)
                changes, began = self._db.changes, time.monotonic()
                read = await self._db.read(lambda tx: facts.take(tx, self._settings, catalog, self._backends))
                if len(self._kept) >= _SNAPSHOTS:
                    self._kept.clear()
                self._kept[key] = seen = _Seen(read, changes, began)
                return seen
            finally:
                if key not in self._coming:
                    self._reading.pop(key, None)

    async def _choose(
        self,
        request: VideoRequest,
        seed: int,
        inputs: Mapping[FrameType | int, InputMedia],
        caller: ApiKey | None,
    ) -> Choice:
        def read(tx: Tx) -> Choice:
            snapshot = facts.take(tx, self._settings, self._catalog, self._backends)
            held = purses.held(tx, self._settings, caller.name if caller else None)
            return self._decide(snapshot, request, seed, inputs, held)

        return await self._db.read(read)

    def _decide(
        self,
        snapshot: policy.Facts,
        request: VideoRequest,
        seed: int,
        inputs: Mapping[FrameType | int, InputMedia],
        held: Sequence[Purse],
    ) -> Choice:
        asked = purses.narrowed(request, 0, held)
        choice = policy.decide(snapshot, Ask("new", asked, seed, inputs))
        return purses.told(choice, request, 0, held)

    def _refusal(
        self, request: VideoRequest, choice: Choice
    ) -> errors.BudgetExceeded | errors.UnsupportedRequest | None:
        """A no at the door: no offer can ever take it, or none before the budget comes back."""
        if choice.resolved is not None:
            return None
        decision = choice.decision
        codes = {r.code for r in decision.rejected if r.code not in policy.NOT_ASKED_CODES}
        default = decision.at + timedelta(seconds=self._settings.router.default_deadline)
        until = request.preferences.deadline or default
        if choice.hopeless:
            if codes & policy.MONEY_CODES:
                param = "max_usd" if "max_usd" in codes else None
                return errors.BudgetExceeded(decision.reason, param=param)
            return errors.UnsupportedRequest(decision.reason, misfits=choice.misfits)
        waits = [r for r in decision.rejected if r.ready_at is not None]
        if waits and all(r.code == "budget" for r in waits):
            if all(r.ready_at is not None and r.ready_at > until for r in waits):
                return errors.BudgetExceeded(decision.reason)
        return None


@contextmanager
def _about(field: str) -> Iterator[None]:
    """The media room does not know which field its input came from."""
    try:
        yield
    except errors.InvalidRequest as error:
        error.param = error.param or field
        raise


def _result_of(
    job: Job, output: Asset, kind: Literal["image", "video", "audio"] = "image", role: str | None = None
) -> InputMedia:
    """A job's result as an input, with the provider's own handle on it; raises InvalidRequest for another kind."""
    if not output.mime.startswith(f"{kind}/"):
        raise errors.InvalidRequest(
            words(
                f"The result of job {job.id} is {output.mime}, but {kind} is needed here.",
                f"ジョブ {job.id} の結果は {output.mime} です。ここでは {kind} が必要です。",
            )
        )
    made = next(
        (a for a in reversed(job.attempts) if a.status is AttemptStatus.COMPLETED and a.operation), None
    )
    return InputMedia(
        asset=output,
        type=kind,
        role=role,
        source_backend=made.backend if made else None,
        source_ref=made.operation.ref if made and made.operation else None,
        source_data=job.details,
    )
