"""What every provider must do, run against its sandbox twin over real HTTP; each provider's test subclasses it.

The run ends with a table provider x case (tests/conftest.py). A provider that cannot have a case says why in `cannot`.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Literal

import av
import pytest

from api_providers._http import HttpProvider
from router.contract import errors
from router.contract.backend import Backend, Checks, Completed, Finds, Operation, Output, Pending
from router.contract.card import InputMedia, LostSubmit, ModelCard, ResolvedRequest
from router.contract.request import Task
from router.pricing import estimate
from tests.committing import committing
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

Make = Callable[..., Any]
Resolve = Callable[..., ResolvedRequest]
Stands = Literal["queued", "running", "done"] | type[errors.GatewayError]
RENDER_S = 0.1
PATIENCE_S = 30


class BackendSuite:
    """Subclasses say which backend, which models, and how its vendor writes a status."""

    kind: ClassVar[type[HttpProvider]]
    twin: ClassVar[str]
    key: ClassVar[str]
    text_model: ClassVar[str]
    image_model: ClassVar[str]
    tells_cost: ClassVar[bool]
    """Whether answers say what was charged; else the price table is the bill."""
    statuses: ClassVar[Mapping[str, Stands]]
    """Every status the vendor documents: `queued`, `running`, `done`, or the error that ends the attempt."""
    invented: ClassVar[str] = "PONDERING"
    """A status that the vendor may invent later."""
    cannot: ClassVar[Mapping[str, str]] = {}
    """Cases (names without `test_`) that this provider cannot have, and why."""
    task_posts: ClassVar[int] = 1
    """POSTs that one submit without inputs takes."""

    def operation(self, ref: str) -> Operation:
        """A handle on a task of that id."""
        raise NotImplementedError

    def status_body(self, status: str) -> dict[str, Any]:
        """The answer to a look at a task in that (maybe unheard of) status."""
        raise NotImplementedError

    def dead_link(self, url: str) -> str:
        """A result link that no longer works, made from one that does."""
        raise NotImplementedError

    def source_model(self, card: ModelCard) -> str:
        """The model that makes the clip which `card` (own_source) goes on from."""
        return self.text_model

    def finished_ref(self) -> str:
        """An id that no task has."""
        return "00000000-0000-4000-8000-000000000000"

    @pytest.fixture(autouse=True)
    def possible(self, request: pytest.FixtureRequest) -> None:
        case = request.function.__name__.removeprefix("test_")
        if case in self.cannot:
            pytest.skip(self.cannot[case])

    @pytest.fixture
    def backend(self, make: Make, sandbox: SandboxProcess) -> Any:
        sandbox.settings(self.twin, render_seconds=RENDER_S)
        return make(self.kind, f"{sandbox.url}/{self.twin}", key=self.key)

    @pytest.fixture
    def text(self, resolve: Resolve) -> ResolvedRequest:
        return resolve(self.text_model)

    async def finish(self, backend: Any, operation: Operation) -> Completed:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                state = await backend.poll(operation)
                if isinstance(state, Completed):
                    return state
                await asyncio.sleep(state.poll_after)

    def test_it_is_a_backend(self, backend: Any) -> None:
        assert isinstance(backend, Backend)

    async def test_a_text_becomes_a_playable_clip_and_the_bill_agrees(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess, tmp_path: Path
    ) -> None:
        with committing(lambda: len(sandbox.bill(self.twin))) as billed_at_commit:
            operation = await backend.submit(text, key="job:a1")
        assert billed_at_commit == [0], "committed exactly once, before anything was bought"
        done = await self.finish(backend, operation)
        await backend.fetch(done.outputs[0], tmp_path / "clip.mp4")
        with av.open(str(tmp_path / "clip.mp4")) as clip:
            assert clip.streams.video[0].frames > 0
        (row,) = sandbox.bill(self.twin)
        assert row["task"] == operation.ref
        assert done.billed_usd == (Decimal(row["usd"]) if self.tells_cost else None)

    async def test_a_picture_becomes_a_clip(
        self, backend: Any, resolve: Resolve, media: Any, sandbox: SandboxProcess
    ) -> None:
        request = resolve(self.image_model, first=media.picture())
        operation = await backend.submit(request, key="job:a1")
        assert (await self.finish(backend, operation)).outputs
        assert len(sandbox.bill(self.twin)) == 1

    async def test_the_price_table_says_what_the_twin_bills(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        price = estimate(backend.card(text), text)
        assert price is not None
        await self.finish(backend, await backend.submit(text, key="job:a1"))
        (row,) = sandbox.bill(self.twin)
        assert Decimal(row["usd"]) == price.usd

    async def test_every_model_and_task_is_accepted_and_billed_as_priced(
        self, backend: Any, resolve: Resolve, media: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings(self.twin, render_seconds=0)
        sources: dict[str, InputMedia] = {}
        for card in backend.config.cards.values():
            if card.own_source and (model := self.source_model(card)) not in sources:
                first = (
                    media.picture() if Task.TEXT_TO_VIDEO not in backend.config.cards[model].tasks else None
                )
                made = await backend.submit(resolve(model, first=first), key="job:a1")
                done = await self.finish(backend, made)
                own = {"source_backend": card.backend, "source_ref": made.ref, "source_data": done.details}
                sources[model] = media.clip().model_copy(update=own)
            clip = sources[self.source_model(card)] if card.own_source else media.clip()
            made_any = 0
            for fields in _variants(card, media, clip):
                try:
                    request = resolve(card.id, **fields)
                except errors.UnsupportedRequest as error:
                    assert "combination" in str(error) or "last frame" in str(error), f"{card.id}: {error}"
                    continue
                operation = await backend.submit(request, key=f"job{len(sandbox.bill(self.twin))}:a1")
                assert (await self.finish(backend, operation)).outputs, card.id
                row, price = sandbox.bill(self.twin)[-1], estimate(card, request)
                assert row["task"] == operation.ref
                if price is not None:
                    assert Decimal(row["usd"]) == price.usd, (card.id, fields, row)
                made_any += 1
            assert made_any, card.id

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            ("auth", errors.AuthenticationFailed),
            ("no_credit", errors.QuotaExhausted),
            ("rate_limit", errors.RateLimited),
            ("server_error", errors.Unavailable),
            ("unavailable", errors.Unavailable),
        ],
    )
    async def test_a_refused_submit_has_its_name_and_bought_nothing(
        self,
        backend: Any,
        text: ResolvedRequest,
        sandbox: SandboxProcess,
        fault: str,
        error: type[errors.GatewayError],
    ) -> None:
        sandbox.post_fault(self.twin, fault, seconds=17)
        with pytest.raises(error) as caught:
            await backend.submit(text, key="job:a1")
        assert type(caught.value) is error
        assert caught.value.backend == backend.name
        assert caught.value.retry_after == (17 if fault == "rate_limit" else None)
        assert sandbox.bill(self.twin) == []

    @pytest.mark.parametrize("fault", ["cut_after_accept", "malformed"])
    async def test_a_lost_answer_is_unknown_and_never_sent_again(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess, fault: str
    ) -> None:
        sandbox.post_fault(self.twin, fault)
        with committing() as commits, pytest.raises(errors.OutcomeUnknown):
            await backend.submit(text, key="job:a1")
        assert len(commits) == 1
        assert len(sandbox.bill(self.twin)) == 1
        assert len([row for row in sandbox.requests() if row["method"] == "POST"]) == self.task_posts

    async def test_a_lost_task_is_found_again_where_the_provider_can_tell(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        since = datetime.now(UTC) - timedelta(minutes=1)
        if backend.card(text).lost_submit is not LostSubmit.FIND:
            assert not isinstance(backend, Finds)
            pytest.skip("the provider has no list of tasks that names ours: a person settles (lost_submit)")
        assert await backend.find(text, key="job:a1", since=since) is None
        sandbox.post_fault(self.twin, "cut_after_accept")
        with pytest.raises(errors.OutcomeUnknown):
            await backend.submit(text, key="job:a1")
        found = await backend.find(text, key="job:a1", since=since)
        assert found is not None and found.ref == sandbox.bill(self.twin)[0]["task"]
        assert await backend.find(text, key="job:a2", since=since) is None
        assert (await self.finish(backend, found)).outputs

    async def test_a_slow_acceptance_is_waited_for(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault(self.twin, "slow_accept", seconds=0.3)
        operation = await backend.submit(text, key="job:a1")
        assert sandbox.bill(self.twin)[0]["task"] == operation.ref

    async def test_moderation_is_the_callers_to_change(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault(self.twin, "moderation")
        with pytest.raises(errors.ContentRejected) as caught:
            await self.finish(backend, await backend.submit(text, key="job:a1"))
        if self.tells_cost:
            assert caught.value.billed_usd == Decimal(sandbox.bill(self.twin)[0]["usd"])

    async def test_a_failure_after_acceptance_says_what_it_cost(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault(self.twin, "fail_after_accept")
        operation = await backend.submit(text, key="job:a1")
        with pytest.raises(errors.GenerationFailed) as caught:
            await self.finish(backend, operation)
        billed = Decimal(sandbox.bill(self.twin)[0]["usd"])
        never = backend.card(text).failure_billed == "never"
        assert caught.value.billed_usd == billed or (
            caught.value.billed_usd is None and never and billed == 0
        )

    async def test_a_hanging_task_stays_pending(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault(self.twin, "hang")
        operation = await backend.submit(text, key="job:a1")
        for _ in range(5):
            assert isinstance(await backend.poll(operation), Pending)

    async def test_the_clip_over_the_providers_concurrency_waits_in_its_queue(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings(self.twin, render_seconds=600, concurrency=1)
        await backend.submit(text, key="job:a1")
        second = await backend.submit(text, key="job:a2")
        state = await backend.poll(second)
        assert isinstance(state, Pending)
        assert state.queued

    async def test_a_cancelled_task_ends_cancelled(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        can = backend.card(text).cancel
        sandbox.settings(self.twin, render_seconds=600, concurrency=1)
        if can == "queued":
            await backend.submit(text, key="job:a0")
        operation = await backend.submit(text, key="job:a1")
        assert await backend.cancel(operation) is (can != "no")
        if can == "no":
            assert isinstance(await backend.poll(operation), Pending)
            pytest.skip("the provider has no cancel: it is told plainly, and the clip goes on and is paid")
        with pytest.raises(errors.Cancelled) as caught:
            await self.finish(backend, operation)
        if self.tells_cost:
            assert caught.value.billed_usd == Decimal(sandbox.bill(self.twin)[-1]["usd"])

    async def test_cancelling_what_has_ended_is_refused_and_leaves_the_clip(
        self, backend: Any, text: ResolvedRequest, tmp_path: Path
    ) -> None:
        operation = await backend.submit(text, key="job:a1")
        await self.finish(backend, operation)
        assert not await backend.cancel(operation)
        done = await backend.poll(operation)
        await backend.fetch(done.outputs[0], tmp_path / "clip.mp4")

    async def test_a_truncated_download_is_made_whole(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess, tmp_path: Path
    ) -> None:
        operation = await backend.submit(text, key="job:a1")
        done = await self.finish(backend, operation)
        sandbox.post_fault(self.twin, "truncated_download")
        await backend.fetch(done.outputs[0], tmp_path / "first.mp4")
        await backend.fetch(done.outputs[0], tmp_path / "second.mp4")
        assert (tmp_path / "first.mp4").read_bytes() == (tmp_path / "second.mp4").read_bytes()

    async def test_a_dead_link_is_expired_and_leaves_no_file(
        self, backend: Any, text: ResolvedRequest, tmp_path: Path
    ) -> None:
        done = await self.finish(backend, await backend.submit(text, key="job:a1"))
        with pytest.raises(errors.LinkExpired):
            await backend.fetch(Output(url=self.dead_link(done.outputs[0].url or "")), tmp_path / "clip.mp4")
        assert not (tmp_path / "clip.mp4").exists()

    async def test_an_unknown_task_is_lost(self, backend: Any) -> None:
        with pytest.raises(errors.OperationLost):
            await backend.poll(self.operation(self.finished_ref()))

    async def test_every_documented_status_is_known(self, make: Make) -> None:
        for status, stands in self.statuses.items():
            async with ScriptedServer([reply(200, self.status_body(status))]) as server:
                backend = make(self.kind, server.url, key=self.key)
                if isinstance(stands, str):
                    state = await backend.poll(self.operation("t1"))
                    assert isinstance(state, Completed if stands == "done" else Pending), status
                    if isinstance(state, Pending):
                        assert state.queued is (stands == "queued"), status
                else:
                    with pytest.raises(stands) as caught:
                        await backend.poll(self.operation("t1"))
                    assert type(caught.value) is stands, status

    async def test_a_status_invented_later_is_noticed(self, make: Make) -> None:
        async with ScriptedServer([reply(200, self.status_body(self.invented))]) as server:
            with pytest.raises(errors.UnexpectedResponse, match=self.invented):
                await make(self.kind, server.url, key=self.key).poll(self.operation("t1"))

    @pytest.mark.parametrize("body", [b"<html>", {"surprise": 1}, [], None])
    async def test_a_malformed_look_is_looked_at_again(self, make: Make, body: Any) -> None:
        async with ScriptedServer([reply(200, body)]) as server:
            with pytest.raises(errors.UnexpectedResponse):
                await make(self.kind, server.url, key=self.key).poll(self.operation("t1"))

    async def test_a_wrong_key_is_refused_and_not_repeated_in_the_message(
        self, make: Make, sandbox: SandboxProcess, text: ResolvedRequest
    ) -> None:
        backend = make(self.kind, f"{sandbox.url}/{self.twin}", key="real-key-5f1d8a:real-key-5f1d8a")
        with pytest.raises(errors.AuthenticationFailed) as caught:
            await backend.submit(text, key="job:a1")
        assert "5f1d8a" not in f"{caught.value.message.en} {caught.value.detail}"

    async def test_the_account_is_checked_without_buying(
        self, backend: Any, make: Make, sandbox: SandboxProcess
    ) -> None:
        assert isinstance(backend, Checks)
        facts = await backend.check()
        assert json.dumps(dict(facts))
        if "balance_usd" in facts:
            assert facts["balance_usd"] is None or Decimal(str(facts["balance_usd"])) >= 0
        assert sandbox.bill(self.twin) == []
        stranger = make(self.kind, f"{sandbox.url}/{self.twin}", key="real-key-5f1d8a:real-key-5f1d8a")
        with pytest.raises(errors.AuthenticationFailed):
            await stranger.check()

    async def test_the_key_goes_to_no_file_server(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess, tmp_path: Path
    ) -> None:
        done = await self.finish(backend, await backend.submit(text, key="job:a1"))
        await backend.fetch(done.outputs[0], tmp_path / "clip.mp4")
        assert [row["path"] for row in sandbox.requests() if row["leaked_key"]] == []

    async def test_every_message_speaks_japanese_too(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault(self.twin, "no_credit")
        with pytest.raises(errors.QuotaExhausted) as caught:
            await backend.submit(text, key="job:a1")
        assert "チャージ" in caught.value.text("ja")
        assert "top up" in caught.value.text("en")


_FRAMED = frozenset({Task.IMAGE_TO_VIDEO, Task.EFFECT, Task.AVATAR})


def _variants(card: ModelCard, media: Any, clip: InputMedia) -> Iterator[dict[str, Any]]:
    """Requests that together use each task, resolution, shortest and longest length, sound and last frame of a card."""
    for task in card.tasks:
        plain = _plain(card, task, media, clip)
        yield plain
        if card.audio == "optional":
            yield {**plain, "generate_audio": True}
        if card.last_frame and "first" in plain and "last" not in plain:
            yield {**plain, "last": media.picture(colour="red")}
        low, high, _ = card.duration_range or (0, 0, 0)
        lengths = sorted({*card.durations, *((low, high) if high else ())})
        for resolution in card.resolutions or (None,):
            for length in {lengths[0], lengths[-1]} if lengths else {None}:
                yield {**plain, "resolution": resolution, "duration": length}
        for quality in card.qualities[1:]:
            yield {**plain, "quality": quality}


def _plain(card: ModelCard, task: Task, media: Any, clip: InputMedia) -> dict[str, Any]:
    """The least that a task of a card needs."""
    fields: dict[str, Any] = {"task": task, **({"prompt": ""} if card.prompt_max == 0 else {})}
    kinds = [need for need in card.needs if not need.endswith("_frame")]
    if task in {Task.VIDEO_TO_VIDEO, Task.EXTEND, Task.UPSCALE, Task.LIP_SYNC}:
        kinds.append("video")
    if task in {Task.LIP_SYNC, Task.AVATAR}:
        kinds.append("audio")
    given = {"image": media.picture, "video": lambda: clip, "audio": media.speech}
    fields["references"] = [given[kind]() for kind in dict.fromkeys(kinds) if card.references.get(kind)]  # type: ignore[arg-type]
    if task in _FRAMED or "first_frame" in card.needs:
        fields["first"] = media.picture()
    if "last_frame" in card.needs:
        fields["last"] = media.picture(colour="red")
    if task is Task.EFFECT:
        fields["effect"] = card.effects[0] if card.effects else "squish"
    return fields
