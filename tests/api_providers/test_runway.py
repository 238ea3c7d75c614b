"""Runway against its twin and answers written down from its documentation; the bodies: `test_runway_payload.py`."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from api_providers.runway import DATA_URI_MAX_BYTES, UPLOAD_MAX_BYTES, Runway
from router.catalog import Catalog
from router.contract import errors
from router.contract.backend import Checks, Completed, Operation, Pending
from router.pricing import estimate
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

TASK = {"id": "t1", "createdAt": "2026-11-21T01:02:03.000Z"}


class TestRunway(BackendSuite):
    kind = Runway
    twin = "runway"
    key = SECRET
    text_model = "runway/gen4.5"
    image_model = "runway/gen4_turbo"
    tells_cost = True
    statuses: ClassVar[Mapping[str, Stands]] = {
        "PENDING": "queued",
        "THROTTLED": "queued",
        "RUNNING": "running",
        "SUCCEEDED": "done",
        "FAILED": errors.GenerationFailed,
        "CANCELLED": errors.Cancelled,
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref)

    def status_body(self, status: str) -> dict[str, Any]:
        output = {"output": ["https://cdn.example/out.mp4"]} if status == "SUCCEEDED" else {}
        return {**TASK, "status": status, **output}

    def dead_link(self, url: str) -> str:
        return url.partition("?")[0] + "?_jwt=1.0"

    async def test_the_estimate_of_the_submit_is_kept(self, backend: Any, resolve: Resolve) -> None:
        operation = await backend.submit(resolve("runway/gen4.5", duration=4), key="job:a1")
        assert operation.estimated_usd == Decimal("0.48")

    async def test_first_and_last_frame_make_a_clip(
        self, backend: Any, resolve: Resolve, media: FolderMedia
    ) -> None:
        request = resolve(
            "runway/veo3.1_fast", first=media.picture(), last=media.picture(colour="red"), duration=4
        )
        assert (await self.finish(backend, await backend.submit(request, key="job:a1"))).outputs

    async def test_a_large_picture_is_uploaded_before_anything_is_bought(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        small = media.path(media.picture().asset).read_bytes()
        large = media.keep(small + bytes(DATA_URI_MAX_BYTES), "image/png", 640, 360)
        request = resolve("runway/gen4_turbo", first=large)
        assert (await backend.payload(request))["promptImage"].startswith("runway://")
        assert sandbox.bill("runway") == []
        await self.finish(backend, await backend.submit(request, key="job:a1"))

    async def test_check_tells_the_balance(self, backend: Any) -> None:
        assert isinstance(backend, Checks)
        facts = await backend.check()
        assert facts["balance_usd"] == "10000.00"

    async def test_a_large_video_is_uploaded_too(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        small = media.path(media.clip().asset).read_bytes()
        large = media.keep(small + bytes(DATA_URI_MAX_BYTES), "video/mp4", 1280, 720, 5)
        request = resolve("runway/seedance2_5-extend", task="extend", references=[large])
        assert (await backend.payload(request))["promptVideo"].startswith("runway://")
        assert sandbox.bill("runway") == []
        await self.finish(backend, await backend.submit(request, key="job:a1"))

    async def test_every_kind_of_reference_is_taken_by_the_twin(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        given = {"image": media.picture(), "video": media.clip(), "audio": media.speech()}
        taken = 0
        for card in backend.config.cards.values():
            for task in card.tasks:
                if task in {"avatar", "upscale"} or not card.references:
                    continue
                references = [given[kind] for kind in card.references for _ in range(card.references[kind])]
                first = media.picture() if task == "image-to-video" else None
                most = references[-20:]  # of one request of ours
                try:
                    request = resolve(card.id, task=task, first=first, references=most)
                except errors.UnsupportedRequest as error:
                    assert "has_references = true" in str(error), card.id
                    continue
                await backend.submit(request, key="job:a1")
                taken += 1
        assert len(sandbox.bill("runway")) == taken >= 20

    async def test_a_picture_is_made_to_start_a_clip_from(
        self, backend: Any, resolve: Resolve, tmp_path: Path
    ) -> None:
        request = resolve("runway/gen4_image", task="text-to-image", aspect_ratio="9:16")
        done = await self.finish(backend, await backend.submit(request, key="job:a1"))
        await backend.fetch(done.outputs[0], tmp_path / "still")
        with Image.open(tmp_path / "still") as still:
            assert (still.format, still.height > still.width) == ("PNG", True)
        assert done.billed_usd == Decimal("0.05")


def test_what_five_seconds_of_gen4_turbo_cost(catalog: Catalog, resolve: Resolve, media: FolderMedia) -> None:
    card = catalog.cards["runway/gen4_turbo"]
    price = estimate(card, resolve(card.id, first=media.picture(), duration=5))
    assert price is not None
    assert (price.usd, price.as_of) == (Decimal("0.25"), date(2026, 4, 1))


@pytest.mark.parametrize(
    ("model", "fields", "usd"),
    [
        ("runway/seedance2", {"resolution": "720p"}, "1.80"),
        ("runway/seedance2", {"resolution": "1080p"}, "2.00"),
        ("runway/seedance2", {"resolution": "4k"}, "7.50"),
        ("runway/seedance2_5", {"resolution": "1080p"}, "3.40"),
        ("runway/kling3.0_pro", {}, None),
        ("runway/kling_4", {}, None),
        ("runway/gemini_omni_flash_1.1", {}, None),
        ("runway/gen4_image", {"task": "text-to-image", "resolution": "1080p"}, "0.08"),
    ],
)
def test_a_price_holds_for_its_resolution_and_an_unknown_one_is_none(
    catalog: Catalog, resolve: Resolve, model: str, fields: dict[str, Any], usd: str | None
) -> None:
    price = estimate(catalog.cards[model], resolve(model, **fields))
    assert (price.usd if price else None) == (Decimal(usd) if usd else None)


def test_what_depends_on_references_has_no_price_with_them(
    catalog: Catalog, resolve: Resolve, media: FolderMedia
) -> None:
    for model in ("runway/seedance2_5", "runway/hailuo3", "runway/wan3"):
        assert estimate(catalog.cards[model], resolve(model)) is not None
        guided = resolve(model, references=[media.clip()])
        assert estimate(catalog.cards[model], guided) is None, model


def test_no_price_is_newer_than_the_day_its_source_was_read(catalog: Catalog) -> None:
    for card in catalog.cards.values():
        for row in card.prices if card.backend == "runway" else ():
            assert row.as_of == date(2026, 4, 1), "the credit's own price was read then"


async def test_an_input_over_200_mb_is_refused_before_anything_is_sent(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    clip = media.clip()
    huge = clip.model_copy(
        update={"asset": clip.asset.model_copy(update={"size_bytes": UPLOAD_MAX_BYTES + 1})}
    )
    async with ScriptedServer([]) as server:
        with pytest.raises(errors.BackendError, match="200 MB") as caught:
            await make(Runway, server.url).submit(
                resolve("runway/aleph2", task="v2v", references=[huge]), key="k"
            )
        assert server.seen == []
    assert caught.value.param == "input_references"


async def test_every_call_carries_version_and_key(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200, {**TASK, "status": "RUNNING"}), reply(204)]) as server:
        await make(Runway, server.url).cancel(Operation(ref="t/../1"))
        assert [seen.method for seen in server.seen] == ["GET", "DELETE"]
        for seen in server.seen:
            assert seen.target == "/v1/tasks/t%2F..%2F1"
            assert seen.headers["x-runway-version"] == "2024-11-06"
            assert seen.headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"status": "PENDING"}, Pending(poll_after=5.0, queued=True)),
        ({"status": "THROTTLED"}, Pending(poll_after=5.0, queued=True)),
        ({"status": "RUNNING", "progress": 0.42}, Pending(progress=0.42, poll_after=5.0)),
        ({"status": "RUNNING", "progress": 1.7}, Pending(progress=1.0, poll_after=5.0)),
    ],
)
async def test_a_live_status_is_pending(make: MakeBackend, status: dict[str, Any], state: Pending) -> None:
    async with ScriptedServer([reply(200, TASK | status)]) as server:
        assert await make(Runway, server.url, poll_after=5.0).poll(Operation(ref="t1")) == state


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("SAFETY.INPUT.TEXT", errors.ContentRejected),
        ("SAFETY.OUTPUT.VIDEO", errors.ContentRejected),
        ("INPUT_PREPROCESSING.SAFETY.TEXT", errors.ContentRejected),
        ("INTERNAL.BAD_OUTPUT.CODE01", errors.GenerationFailed),
        ("INTERNAL", errors.GenerationFailed),
        ("ASSET.INVALID", errors.GenerationFailed),
        ("THIRD_PARTY.UNAVAILABLE", errors.GenerationFailed),
        (None, errors.GenerationFailed),
    ],
)
async def test_a_failure_code_says_whose_fault_and_the_cost_is_theirs(
    make: MakeBackend, code: str | None, error: type[errors.GatewayError]
) -> None:
    task = TASK | {"status": "FAILED", "cost": {"credits": 25}, "failure": "it broke", "failureCode": code}
    async with ScriptedServer([reply(200, task)]) as server:
        with pytest.raises(error, match="it broke") as caught:
            await make(Runway, server.url).poll(Operation(ref="t1"))
    assert type(caught.value) is error
    assert caught.value.billed_usd == Decimal("0.25")


async def test_after_a_cancel_a_missing_task_is_cancelled_not_lost(make: MakeBackend) -> None:
    live = reply(200, {**TASK, "status": "PENDING"})
    async with ScriptedServer([live, reply(204), reply(404, {"error": "Task not found"})]) as server:
        backend = make(Runway, server.url)
        assert await backend.cancel(Operation(ref="t1"))
        with pytest.raises(errors.Cancelled) as caught:
            await backend.poll(Operation(ref="t1"))
        assert caught.value.billed_usd is None


async def test_a_success_without_output_is_looked_at_again(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200, {**TASK, "status": "SUCCEEDED", "output": []})]) as server:
        with pytest.raises(errors.UnexpectedResponse):
            await make(Runway, server.url).poll(Operation(ref="t1"))


async def test_a_validation_error_names_the_fields(make: MakeBackend, resolve: Resolve) -> None:
    issues = [{"path": ["ratio"], "message": "Invalid enum value", "code": "custom"}]
    body = {"error": "Validation of body failed", "issues": issues}
    async with ScriptedServer([reply(400, body)]) as server:
        with pytest.raises(errors.InvalidRequest, match="ratio: Invalid enum value"):
            await make(Runway, server.url).submit(resolve("runway/gen4.5"), key="job:a1")


@pytest.mark.parametrize("cost", [None, 7, {}, {"credits": -1}, {"credits": "many"}, {"credits": True}])
async def test_a_strange_estimate_does_not_lose_a_task_that_was_bought(
    make: MakeBackend, resolve: Resolve, cost: Any
) -> None:
    async with ScriptedServer([reply(200, {"id": "t1", "estimatedCost": cost})]) as server:
        got = await make(Runway, server.url).submit(resolve("runway/gen4.5"), key="job:a1")
    assert got == Operation(ref="t1")


@pytest.mark.parametrize("credits", ["NaN", "Infinity", "1e400"])
async def test_a_cost_that_is_no_number_is_not_known(make: MakeBackend, credits: str) -> None:
    body = (
        f'{{"id": "t1", "status": "SUCCEEDED", "output": ["https://x/y"], "cost": {{"credits": {credits}}}}}'
    )
    async with ScriptedServer([reply(200, body.encode())]) as server:
        done = await make(Runway, server.url).poll(Operation(ref="t1"))
    assert isinstance(done, Completed)
    assert done.billed_usd is None
