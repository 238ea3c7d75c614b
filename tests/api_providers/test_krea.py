"""Krea against its twin, and against answers written down from its OpenAPI document and pages."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from api_providers.krea import ASSET_MAX_BYTES, Krea
from api_providers.sandbox._krea_models import MODELS
from router.catalog import Catalog
from router.contract import errors
from router.contract.backend import Completed, Operation, Output, Pending
from router.contract.card import InputMedia
from router.pricing import estimate
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, Seen, reply

JOB = {"job_id": "4d0e5f97-9721-4422-b88c-73a9032d7de1", "created_at": "2026-08-01T10:00:00.000Z"}
DONE = {"urls": ["https://x.example/v.mp4"]}
LOST = reply(404, {"error": "Job not found"})
RETIRED = ("krea/kling-1", "krea/kling-1.6", "krea/kling-2.1")


def job(status: str, **fields: Any) -> bytes:
    return reply(200, {**JOB, "status": status, **fields})


class TestKrea(BackendSuite):
    kind = Krea
    twin = "krea"
    key = SECRET
    text_model = "krea/kling-2.5"
    image_model = "krea/hailuo-2.3"
    tells_cost = False
    statuses: ClassVar[Mapping[str, Stands]] = {
        "backlogged": "queued",
        "queued": "queued",
        "scheduled": "queued",
        "processing": "running",
        "sampling": "running",
        "intermediate-complete": "running",
        "completed": "done",
        "failed": errors.GenerationFailed,
        "cancelled": errors.Cancelled,
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref)

    def status_body(self, status: str) -> dict[str, Any]:
        return {**JOB, "status": status, **({"result": DONE} if status == "completed" else {})}

    def dead_link(self, url: str) -> str:
        base, _, name = url.rpartition("/")
        return f"{base.rpartition('/')[0]}/00000000-0000-4000-8000-000000000000/{name}"

    async def test_what_is_over_the_concurrency_is_backlogged_and_runs_later(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings("krea", concurrency=1)
        first, second = [await backend.submit(text, key=f"job:a{n}") for n in (1, 2)]
        assert await backend.poll(second) == Pending(poll_after=0.05, queued=True)
        assert (await self.finish(backend, first)).outputs and (await self.finish(backend, second)).outputs

    async def test_a_running_job_is_cancelled_and_costs_nothing(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings("krea", render_seconds=600)
        operation = await backend.submit(text, key="job:a1")
        assert await backend.cancel(operation)
        with pytest.raises(errors.Cancelled) as caught:
            await backend.poll(operation)
        assert caught.value.billed_usd == 0 == Decimal(sandbox.bill("krea")[0]["usd"])

    async def test_inputs_are_uploaded_before_anything_is_bought(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault("krea", "no_credit")
        request = resolve("krea/kling-2.5", first=media.picture(), last=media.picture(colour="red"))
        with pytest.raises(errors.QuotaExhausted):
            await backend.submit(request, key="job:a1")
        posts = [row["path"] for row in sandbox.requests() if row["method"] == "POST"]
        assert posts == ["/krea/assets"] * 2 + ["/krea/generate/video/kling/kling-2.5"]

    async def test_the_newest_job_is_all_that_a_check_tells(self, backend: Any, text: Any) -> None:
        assert await backend.check() == {"newest_job_at": None}
        await backend.submit(text, key="job:a1")
        assert (await backend.check())["newest_job_at"].startswith("20")


def test_the_cards_sell_only_paths_that_the_twin_has(catalog: Catalog) -> None:
    """Two readings of the same document: a path that only the client has is a mistake."""
    paths = {card.wire_id for card in catalog.cards.values() if card.backend == "krea"}
    assert set(MODELS) - paths == {"kling/kling-1.5"}
    assert paths <= set(MODELS)


def test_retired_models_run_only_when_they_are_named(catalog: Catalog) -> None:
    cards = [card for card in catalog.cards.values() if card.backend == "krea"]
    for card in cards:
        old = card.id.rsplit("-", 1)[0] in RETIRED
        assert card.only_when_named is old, card.id
        assert ("retired upstream?" in card.title) is old, card.id


@pytest.mark.parametrize(
    ("model", "fields", "listed"),
    [
        ("krea/kling-1-standard", {"duration": 5}, "0.1105"),
        ("krea/hailuo-2.3", {"duration": 6}, "0.294"),
        ("krea/hailuo-2.3", {"duration": 10}, "0.588"),
        ("krea/hailuo-2.3", {"duration": 6, "resolution": "1080p"}, "0.5145"),
        ("krea/hailuo-02", {"duration": 6, "resolution": "512p"}, "0.105"),
        ("krea/hailuo-02", {"duration": 10, "resolution": "512p"}, "0.1575"),
        ("krea/hailuo-02", {"duration": 6}, "0.2835"),
        ("krea/hailuo-02", {"duration": 10}, "0.4725"),
        ("krea/hailuo-02", {"duration": 6, "resolution": "1080p"}, "0.567"),
    ],
)
def test_where_krea_lists_dollars_they_are_the_price(
    catalog: Catalog, resolve: Resolve, model: str, fields: dict[str, Any], listed: str
) -> None:
    price = estimate(catalog.cards[model], resolve(model, **fields))
    assert price is not None and price.usd == Decimal(listed)


@pytest.mark.parametrize(
    ("units", "usd"),
    [
        *(("60.1", "0.1105"), ("120", "0.221"), ("210", "0.386"), ("421", "0.772")),
        *(("160", "0.294"), ("321", "0.588"), ("281", "0.5145")),
        *(("57.3", "0.105"), ("85.9", "0.1575"), ("155", "0.2835"), ("258", "0.4725"), ("309", "0.567")),
    ],
)
def test_no_unit_is_worth_less_than_the_dollars_of_the_other_list(
    catalog: Catalog, units: str, usd: str
) -> None:
    """The same clips in both lists: an estimate is never below the dollars, and hardly above."""
    rate = catalog.providers["krea"].credit_usd
    assert rate is not None
    assert Decimal(usd) <= Decimal(units) * rate < Decimal(usd) * Decimal("1.012")


@pytest.mark.parametrize(
    ("model", "fields", "usd"),
    [
        ("krea/kling-2.6", {}, "0.37"),
        ("krea/kling-2.6", {"generate_audio": True, "duration": 10}, "1.4837"),
        ("krea/kling-3.0-standard", {"generate_audio": True, "duration": 3}, "0.7992"),
        ("krea/kling-3.0-4k", {"generate_audio": True, "duration": 4}, "1.7797"),
        ("krea/kling-3.0-4k", {"duration": 4}, "1.7797"),
        ("krea/wan-2.5", {"resolution": "480p", "duration": 10}, "0.5291"),
    ],
)
def test_units_become_dollars_at_the_dated_rate(
    catalog: Catalog, resolve: Resolve, model: str, fields: dict[str, Any], usd: str
) -> None:
    price = estimate(catalog.cards[model], resolve(model, **fields))
    assert price is not None and price.usd == Decimal(usd)
    assert "unverified" in price.source and "credits at $0.00185" in str(price.note)


def test_veo_has_no_price_because_none_is_known(catalog: Catalog, resolve: Resolve) -> None:
    for name in ("krea/veo-3.1", "krea/veo-3.1-fast", "krea/veo-3.1-lite"):
        assert estimate(catalog.cards[name], resolve(name)) is None


def keep(seen: Seen) -> bytes:
    """Takes an asset and names it after its kind, so that a payload can be compared."""
    kind = "video" if b"Content-Type: video" in seen.body else "image"
    return reply(200, {"id": "a1", "image_url": f"https://assets.example/{kind}"})


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        ("krea/kling-2.5", {}, {"duration": 5, "aspect_ratio": "16:9", "mode": "pro"}),
        (
            "krea/kling-2.5",
            {"first": True, "last": True, "duration": 10},
            {
                "duration": 10,
                "aspect_ratio": "16:9",
                "mode": "pro",
                "start_image": "https://assets.example/image",
                "end_image": "https://assets.example/image",
            },
        ),
        (
            "krea/kling-2.6",
            {"generate_audio": True, "aspect_ratio": "9:16"},
            {"duration": 5, "aspect_ratio": "9:16", "generate_audio": True},
        ),
        (
            "krea/kling-3.0-4k",
            {"duration": 15},
            {"duration": 15, "aspect_ratio": "16:9", "generate_audio": False, "mode": "4k"},
        ),
        ("krea/kling-o1", {"duration": 3}, {"duration": 3, "aspect_ratio": "16:9"}),
        ("krea/hailuo-02", {}, {"duration": 6, "resolution": "768p"}),
        (
            "krea/wan-2.5",
            {"seed": 0},
            {
                "duration": 5,
                "aspect_ratio": "16:9",
                "resolution": "1080p",
                "generate_audio": False,
                "seed": 0,
            },
        ),
        (
            "krea/veo-3.1",
            {"resolution": "4k"},
            {"duration": 8, "aspect_ratio": "16:9", "resolution": "4K", "generate_audio": False},
        ),
        (
            "krea/veo-3.1-fast",
            {"references": 2, "generate_audio": True},
            {
                "duration": 8,
                "aspect_ratio": "16:9",
                "resolution": "720p",
                "generate_audio": True,
                "reference_images": ["https://assets.example/image"] * 2,
            },
        ),
    ],
)
async def test_each_closed_body_has_its_own_fields_and_no_others(
    make: MakeBackend,
    resolve: Resolve,
    media: FolderMedia,
    model: str,
    fields: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    given = dict(fields)
    pictures: dict[str, Callable[[], InputMedia]] = {
        "first": media.picture,
        "last": lambda: media.picture(colour="red"),
    }
    for frame, picture in pictures.items():
        if given.pop(frame, False):
            given[frame] = picture()
    given["references"] = [media.picture(colour=c) for c in ("red", "blue")[: given.get("references", 0)]]
    async with ScriptedServer([keep]) as server:
        payload = await make(Krea, server.url).payload(resolve(model, **given))
    assert payload == {"prompt": "a red fox in the snow", **expected}
    assert type(payload["duration"]) is int


async def test_a_submit_goes_to_the_models_path_and_keeps_the_job_id(
    make: MakeBackend, resolve: Resolve
) -> None:
    fresh = reply(200, {**JOB, "status": "queued", "completed_at": None, "result": None})
    async with ScriptedServer([fresh]) as server:
        got = await make(Krea, server.url).submit(resolve("krea/hailuo-02"), key="job:a1")
        (seen,) = server.seen
    assert got == Operation(ref=JOB["job_id"])
    assert (seen.method, seen.target) == ("POST", "/generate/video/minimax/hailuo-02")
    assert seen.headers["authorization"] == f"Bearer {SECRET}"
    assert "x-webhook-url" not in seen.headers


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        ("pan=5", {"pan": 5}),
        ("horizontal=-2.5", {"horizontal": -2.5}),
        ("roll=10", {"roll": 10}),
        # Kling's zoom gets wider where it is positive.
        ("zoom=4", {"zoom": -4}),
        ("zoom_in", {"zoom": -5}),
        ("zoom_out", {"zoom": 5}),
        ("truck_left", {"horizontal": -5}),
        ("pedestal_up", {"vertical": 5}),
        ("tilt_down", {"tilt": -5}),
        ("down_back", {"type": "down_back"}),
        ("left_turn_forward", {"type": "left_turn_forward"}),
    ],
)
async def test_the_camera_is_klings_object_and_not_words(
    make: MakeBackend, resolve: Resolve, sandbox: SandboxProcess, camera: str, expected: dict[str, Any]
) -> None:
    backend = make(Krea, f"{sandbox.url}/krea")
    request = resolve("krea/kling-1.6-standard", camera=camera)
    if "type" not in expected:
        still = dict.fromkeys(("horizontal", "vertical", "pan", "tilt", "roll", "zoom"), 0)
        expected = {"type": "simple", "config": still | expected}
    assert await backend.payload(request) == {
        "prompt": "a red fox in the snow",
        "duration": 5,
        "aspect_ratio": "16:9",
        "mode": "std",
        "camera_control": expected,
    }
    await backend.submit(request, key="job:a1")
    assert len(sandbox.bill("krea")) == 1


async def test_newer_models_get_the_camera_in_words(make: MakeBackend, resolve: Resolve) -> None:
    payload = await make(Krea).payload(resolve("krea/kling-2.5", camera="orbit_left"))
    assert payload["prompt"] == "a red fox in the snow The camera orbits to the left around the subject."
    assert "camera_control" not in payload


def test_a_movement_that_is_no_axis_is_refused_where_the_camera_is_an_object(resolve: Resolve) -> None:
    with pytest.raises(errors.UnsupportedRequest, match="orbit_left"):
        resolve("krea/kling-1.6-pro", camera="orbit_left")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"aspect_ratio": "1:1"}, "1:1"),
        ({"negative_prompt": "rain"}, "negative prompt"),
        ({"seed": 3}, "seed"),
        ({"provider_options": {"krea": {"mode": "std"}}}, "mode"),
    ],
)
def test_what_kling_2_6_has_not_is_said_before_anything_is_sent(
    resolve: Resolve, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(errors.UnsupportedRequest, match=said):
        resolve("krea/kling-2.6", **fields)


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (400, {"error": "mode: Invalid value"}, errors.InvalidRequest, "mode: Invalid value"),
        (
            422,
            {"detail": [{"loc": ["body", "mode"], "message": "bad"}]},
            errors.InvalidRequest,
            "body.mode: bad",
        ),
        (400, {"issues": [{"path": ["duration"], "message": "bad"}]}, errors.InvalidRequest, "duration: bad"),
        (400, {"errors": ["one", "two"]}, errors.InvalidRequest, "one; two"),
        (401, {"error": "Unauthorized"}, errors.AuthenticationFailed, "Unauthorized"),
        (402, {"error": "Insufficient credits"}, errors.QuotaExhausted, "Insufficient credits"),
        (402, {"error": "Plan required: pro"}, errors.BackendError, "Plan required"),
        (404, {"error": "Not found"}, errors.BackendError, "Not found"),
        (429, {"error": "Too many concurrent jobs"}, errors.RateLimited, "Too many"),
        (500, {"error": "boom"}, errors.Unavailable, "boom"),
        (502, b"<html>", errors.OutcomeUnknown, ""),
    ],
)
async def test_an_error_at_the_submit_has_its_name_and_text(
    make: MakeBackend,
    resolve: Resolve,
    status: int,
    body: Any,
    error: type[errors.GatewayError],
    said: str,
) -> None:
    async with ScriptedServer([reply(status, body)]) as server:
        with pytest.raises(error) as caught:
            await make(Krea, server.url).submit(resolve("krea/kling-2.5"), key="job:a1")
        assert len(server.seen) == 1
    assert type(caught.value) is error
    assert said in str(caught.value.detail)


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"result": {"urls": [], "error": "nsfw"}}, errors.ContentRejected, "nsfw"),
        ({"result": {"error": "ip_detected"}}, errors.ContentRejected, "ip_detected"),
        ({"error": {"code": "nsfw", "message": "blocked"}}, errors.ContentRejected, "blocked"),
        ({"error": {"code": "internal", "message": "boom"}}, errors.GenerationFailed, "internal: boom"),
        ({"result": {"error": "timed out"}}, errors.GenerationFailed, "timed out"),
        ({"error": "boom"}, errors.GenerationFailed, "boom"),
        ({"result": None}, errors.GenerationFailed, "no reason"),
        ({}, errors.GenerationFailed, "no reason"),
    ],
)
async def test_a_failed_job_costs_nothing_and_says_why(
    make: MakeBackend, fields: dict[str, Any], error: type[errors.GatewayError], said: str
) -> None:
    async with ScriptedServer([job("failed", **fields)]) as server:
        with pytest.raises(error, match=said) as caught:
            await make(Krea, server.url).poll(Operation(ref="j1"))
    assert type(caught.value) is error
    assert caught.value.billed_usd == 0


@pytest.mark.parametrize(
    ("urls", "first"),
    [
        (["https://x.example/v.mp4"], "https://x.example/v.mp4"),
        ([{"type": "video", "url": "https://x.example/v.mp4"}], "https://x.example/v.mp4"),
        (
            [
                {"type": "image", "url": "https://x.example/a.png"},
                {"type": "video", "url": "https://x.example/v"},
            ],
            "https://x.example/v",
        ),
    ],
)
async def test_result_urls_are_read_as_texts_and_as_typed_entries(
    make: MakeBackend, urls: Any, first: str
) -> None:
    async with ScriptedServer([job("completed", result={"urls": urls})]) as server:
        done = await make(Krea, server.url).poll(Operation(ref="j1"))
    assert done == Completed((Output(url=first),))


@pytest.mark.parametrize("result", [None, {}, {"urls": []}, {"urls": None}, {"urls": [7, ""]}, []])
async def test_a_completed_job_without_a_link_is_looked_at_again(make: MakeBackend, result: Any) -> None:
    async with ScriptedServer([job("completed", result=result)]) as server:
        with pytest.raises(errors.UnexpectedResponse):
            await make(Krea, server.url).poll(Operation(ref="j1"))


@pytest.mark.parametrize(
    ("fields", "usd"),
    [
        ({}, None),
        ({"cost_usd": 0.37}, Decimal("0.37")),
        ({"cost_microdollars": 367000}, Decimal("0.367")),
        ({"cost_usd": "0.37"}, None),
        ({"cost_usd": True}, None),
        ({"cost_usd": -1}, None),
    ],
)
async def test_a_cost_is_taken_where_there_is_one_and_never_missed(
    make: MakeBackend, fields: dict[str, Any], usd: Decimal | None
) -> None:
    async with ScriptedServer([job("completed", result=DONE, **fields)]) as server:
        done = await make(Krea, server.url).poll(Operation(ref="j1"))
    assert isinstance(done, Completed)
    assert done.billed_usd == usd


@pytest.mark.parametrize(
    ("given", "progress"), [(42, 0.42), (250, 1.0), (None, None), ("half", None), (True, None)]
)
async def test_a_progress_is_a_percentage_where_there_is_one(
    make: MakeBackend, given: Any, progress: float | None
) -> None:
    async with ScriptedServer([job("processing", progress=given)]) as server:
        state = await make(Krea, server.url).poll(Operation(ref="j1"))
    assert state == Pending(progress=progress, poll_after=0.05)


async def test_a_job_that_has_ended_is_never_deleted_by_a_cancel(make: MakeBackend) -> None:
    for status, agreed in (("completed", False), ("failed", False), ("cancelled", True)):
        async with ScriptedServer([job(status, result=DONE)]) as server:
            assert await make(Krea, server.url).cancel(Operation(ref="j/1")) is agreed
            assert [(seen.method, seen.target) for seen in server.seen] == [("GET", "/jobs/j%2F1")]


async def test_after_a_cancel_a_missing_job_is_cancelled_not_lost(make: MakeBackend) -> None:
    async with ScriptedServer([job("sampling"), reply(200, {}), LOST]) as server:
        backend = make(Krea, server.url)
        assert await backend.cancel(Operation(ref="j1"))
        assert [seen.method for seen in server.seen] == ["GET", "DELETE"]
        with pytest.raises(errors.Cancelled) as caught:
            await backend.poll(Operation(ref="j1"))
        assert caught.value.billed_usd is None
        assert await backend.cancel(Operation(ref="j1")), "asked again, it still is"


async def test_a_job_that_is_gone_at_the_delete_was_not_cancelled_by_us(make: MakeBackend) -> None:
    async with ScriptedServer([job("queued"), LOST]) as server:
        backend = make(Krea, server.url)
        assert not await backend.cancel(Operation(ref="j1"))
        with pytest.raises(errors.OperationLost):
            await backend.poll(Operation(ref="j1"))


async def test_a_404_of_a_proxy_says_nothing_about_the_job(make: MakeBackend) -> None:
    async with ScriptedServer([reply(404, b"<html>not here</html>")]) as server:
        with pytest.raises(errors.BackendError) as caught:
            await make(Krea, server.url).poll(Operation(ref="j1"))
    assert not isinstance(caught.value, errors.ENDS_ACCEPTED)


async def test_an_input_that_is_too_large_is_refused_before_spending(
    make: MakeBackend, media: FolderMedia
) -> None:
    picture = media.picture()
    large = picture.model_copy(
        update={"asset": picture.asset.model_copy(update={"size_bytes": ASSET_MAX_BYTES + 1})}
    )
    with pytest.raises(errors.BackendError, match="75 MB") as caught:
        await make(Krea).place(large)
    assert "75 MB" in caught.value.message.ja
