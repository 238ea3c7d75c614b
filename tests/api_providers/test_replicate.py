"""Replicate against its twin, and against answers written down from its documentation."""

import base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from api_providers.replicate import DATA_URI_MAX_BYTES, UPLOAD_MAX_BYTES, Replicate
from api_providers.sandbox._replicate_models import version_of
from router.contract import errors
from router.contract.backend import Checks, Completed, Describes, Operation, Output, Pending
from router.contract.card import ModelCard
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

KLING = "replicate/kling-2.5-turbo-pro"
URL = "https://replicate.delivery/xezq/abc/tmp.mp4"
INPUT = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string"},
        "start_image": {"type": "string", "format": "uri", "nullable": True},
        "duration": {"enum": [5, 10], "type": "integer", "default": 5},
        "aspect_ratio": {"enum": ["16:9", "9:16", "1:1"], "type": "string", "default": "16:9"},
    },
}
MODEL = {"latest_version": {"id": "x", "openapi_schema": {"components": {"schemas": {"Input": INPUT}}}}}


def prediction(status: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": "t1",
        "model": "kwaivgi/kling-v2.5-turbo-pro",
        "version": "hidden",
        "status": status,
        "input": {},
        "output": None,
        "error": None,
        "logs": "",
        "metrics": None,
        "data_removed": False,
        **changes,
    }


class TestReplicate(BackendSuite):
    kind = Replicate
    twin = "replicate"
    key = SECRET
    text_model = KLING
    image_model = KLING
    tells_cost = False
    statuses: ClassVar[Mapping[str, Stands]] = {
        "starting": "queued",
        "processing": "running",
        "succeeded": "done",
        "failed": errors.GenerationFailed,
        "canceled": errors.Cancelled,
        "aborted": errors.Cancelled,
    }
    cannot: ClassVar[Mapping[str, str]] = {
        "a_failure_after_acceptance_says_what_it_cost": (
            "Replicate says nowhere what a failed prediction cost: it is not known (checked below), the ledger keeps it"
        )
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref)

    def status_body(self, status: str) -> dict[str, Any]:
        return prediction(status, output=URL if status == "succeeded" else None)

    def dead_link(self, url: str) -> str:
        head, _, name = url.rpartition("/")
        return f"{head.rpartition('/')[0]}/0123456789abcdef/{name}"

    async def test_a_failure_is_named_and_its_cost_is_not_known(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault("replicate", "fail_after_accept")
        operation = await backend.submit(text, key="job:a1")
        with pytest.raises(errors.GenerationFailed, match="internal error") as caught:
            await self.finish(backend, operation)
        assert caught.value.billed_usd is None

    async def test_the_progress_bars_of_the_logs_are_read(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault("replicate", "hang")
        operation = await backend.submit(text, key="job:a1")
        for _ in range(100):
            state = await backend.poll(operation)
            assert isinstance(state, Pending)
            if state.progress == 0.4:
                break
        assert state.progress == 0.4

    async def test_a_large_picture_is_uploaded_before_anything_is_bought(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        small = media.path(media.picture().asset).read_bytes()
        large = media.keep(small + bytes(DATA_URI_MAX_BYTES), "image/png", 640, 360)
        link = await backend.place(large)
        assert link.startswith(f"{sandbox.url}/replicate/v1/files/")
        assert sandbox.bill("replicate") == []
        operation = await backend.submit(resolve(KLING, first=large), key="job:a1")
        assert (await self.finish(backend, operation)).outputs
        posts = [row["path"] for row in sandbox.requests() if row["method"] == "POST"]
        assert posts[-2:] == [
            "/replicate/v1/files",
            "/replicate/v1/models/kwaivgi/kling-v2.5-turbo-pro/predictions",
        ]

    async def test_the_schema_is_read_once_and_a_value_it_does_not_allow_is_refused_before_money(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        for wrong, field in (
            ({"duration": 7.0}, "duration"),
            ({"aspect_ratio": "21:9"}, "aspect_ratio"),
            ({"generate_audio": True}, "generate_audio"),
        ):
            with pytest.raises(errors.UnsupportedRequest) as caught:
                await backend.submit(text.model_copy(update=wrong), key="job:a1")
            assert [misfit.field for misfit in caught.value.misfits] == [field]
        await backend.submit(text, key="job:a1")
        assert [row["path"] for row in sandbox.requests()] == [
            "/replicate/v1/models/kwaivgi/kling-v2.5-turbo-pro",
            "/replicate/v1/models/kwaivgi/kling-v2.5-turbo-pro/predictions",
        ]
        assert len(sandbox.bill("replicate")) == 1

    @pytest.mark.parametrize("name", ["sandbox/list-of-clips", "sandbox/table-of-clips"])
    async def test_a_version_of_a_community_model_makes_a_clip_and_its_output_is_found(
        self, make: MakeBackend, resolve: Resolve, sandbox: SandboxProcess, name: str
    ) -> None:
        sandbox.settings("replicate", render_seconds=0)
        backend = make(Replicate, f"{sandbox.url}/replicate")
        described = await backend.describe(f"{name}:{version_of(name)}")
        card = ModelCard.model_validate({**described, "backend": "replicate"})
        assert (card.tasks, card.duration_range, card.durations) == (("text-to-video",), (1, 8, 1), (4,))
        assert (card.seed, card.camera, card.prices, card.wire) == (True, "words", (), {"schema": "live"})
        backend.config.cards[card.id] = card
        request = resolve(KLING).model_copy(update={"model": card.id, "duration": 4.0, "seed": 2**32 - 1})
        operation = await backend.submit(request, key="job:a1")
        done = await self.finish(backend, operation)
        assert [output.url and output.url.rpartition("/")[2] for output in done.outputs] == ["output.mp4"]
        assert done.details == {"seed": 2**31 - 1}, "what was sent, since it was above the model's limit"
        assert "2147483647" in operation.warnings[0].en

    async def test_an_official_model_becomes_a_row_of_the_catalogue(self, backend: Any) -> None:
        assert isinstance(backend, Describes)
        row = await backend.describe("bytedance/seedance-1.5-pro")
        card = ModelCard.model_validate({**row, "backend": "replicate"})
        assert card.tasks == ("text-to-video", "image-to-video")
        assert (card.durations, card.duration_range) == ((5,), (2, 12, 1))
        assert card.resolutions == ("1080p", "480p", "720p"), "the model's own default first"
        assert (card.last_frame, card.audio, card.fps) == (True, "optional", (24,))
        with pytest.raises(errors.NotFound):
            await backend.describe("nobody/nothing")

    async def test_check_says_whose_key_it_is(self, backend: Any) -> None:
        assert isinstance(backend, Checks)
        assert await backend.check() == {"type": "user", "username": "sandbox", "name": "Sandbox"}

    async def test_cancelled_before_the_start_is_free(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings("replicate", render_seconds=600, concurrency=1)
        await backend.submit(text, key="job:a0")
        operation = await backend.submit(text, key="job:a1")
        assert await backend.cancel(operation)
        with pytest.raises(errors.Cancelled) as caught:
            await backend.poll(operation)
        assert caught.value.billed_usd == Decimal(0)
        assert sandbox.bill("replicate")[-1]["usd"] == "0"


async def test_the_payload_is_the_documented_one(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    async with ScriptedServer([reply(200, MODEL), reply(201, prediction("starting"))]) as server:
        request = resolve(KLING, duration=10, aspect_ratio="9:16", camera={"preset": "zoom_in"})
        got = await make(Replicate, server.url).submit(request, key="job:a1")
        look, post = server.seen
    assert got == Operation(ref="t1")
    assert (look.method, look.target) == ("GET", "/v1/models/kwaivgi/kling-v2.5-turbo-pro")
    assert (post.method, post.target) == ("POST", "/v1/models/kwaivgi/kling-v2.5-turbo-pro/predictions")
    assert post.headers["authorization"] == f"Bearer {SECRET}"
    assert post.json == {
        "input": {
            "prompt": "a red fox in the snow The camera zooms in.",
            "duration": 10,
            "aspect_ratio": "9:16",
        }
    }


async def test_a_first_frame_goes_under_the_models_own_name(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    async with ScriptedServer([reply(200, MODEL), reply(201, prediction("starting"))]) as server:
        await make(Replicate, server.url).submit(resolve(KLING, first=media.picture()), key="job:a1")
        body = server.seen[1].json["input"]
    assert body.pop("start_image").startswith("data:image/png;base64,")
    assert body == {"prompt": "a red fox in the snow", "duration": 5}


@pytest.mark.parametrize(
    ("output", "urls"),
    [
        (URL, [URL]),
        ([URL, f"{URL}?2"], [URL, f"{URL}?2"]),
        ({"video": URL, "json": "https://x/y.json"}, [URL]),
        ({"output": [URL]}, [URL]),
    ],
)
async def test_the_output_is_found_in_whatever_form_the_model_gives_it(
    make: MakeBackend, output: Any, urls: list[str]
) -> None:
    async with ScriptedServer([reply(200, prediction("succeeded", output=output))]) as server:
        done = await make(Replicate, server.url).poll(Operation(ref="t1"))
    assert isinstance(done, Completed)
    assert done.outputs == tuple(Output(url=url) for url in urls)
    assert done.billed_usd is None


async def test_a_clip_inside_the_answer_is_written_to_a_file(make: MakeBackend, tmp_path: Any) -> None:
    data = "data:video/mp4;base64," + base64.b64encode(b"clip").decode()
    async with ScriptedServer([reply(200, prediction("succeeded", output=data))]) as server:
        backend = make(Replicate, server.url)
        done = await backend.poll(Operation(ref="t1"))
        await backend.fetch(done.outputs[0], tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").read_bytes() == b"clip"
    assert done.outputs[0].mime == "video/mp4"


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"data_removed": True}, errors.OutputInvalid, "one hour"),
        ({"output": "a description of a fox"}, errors.OutputInvalid, "no file"),
        ({"output": {"text": "fox"}}, errors.OutputInvalid, "no file"),
        ({"output": "data:video/mp4;base64,!!!"}, errors.OutputInvalid, "cannot be read"),
        ({"output": None}, errors.UnexpectedResponse, "without an output"),
    ],
)
async def test_a_success_without_a_clip_says_why(
    make: MakeBackend, changes: dict[str, Any], error: type[errors.GatewayError], match: str
) -> None:
    async with ScriptedServer([reply(200, prediction("succeeded", **changes))]) as server:
        with pytest.raises(error, match=match):
            await make(Replicate, server.url).poll(Operation(ref="t1"))


@pytest.mark.parametrize(
    ("logs", "progress"),
    [
        ("", None),
        (None, None),
        ("Using seed: 7\n 10%|█         | 5/50 [00:01<00:09, 5.0it/s]", 0.1),
        ("  0%|          | 0/50\n 42%|████▏     | 21/50 [00:01<00:01]\nsaving", 0.42),
        ("100%|██████████| 50/50 [00:03<00:00]", 1.0),
    ],
)
async def test_progress_is_the_last_bar_of_the_logs(
    make: MakeBackend, logs: str | None, progress: float | None
) -> None:
    async with ScriptedServer([reply(200, prediction("processing", logs=logs))]) as server:
        state = await make(Replicate, server.url, poll_after=2.0).poll(Operation(ref="t1"))
    assert state == Pending(progress=progress, poll_after=2.0)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("The input or output was flagged as sensitive. Please try again (E005)", errors.ContentRejected),
        ("NSFW content detected", errors.ContentRejected),
        ("CUDA out of memory", errors.GenerationFailed),
        (None, errors.GenerationFailed),
    ],
)
async def test_a_failure_text_says_whose_fault(
    make: MakeBackend, text: str | None, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([reply(200, prediction("failed", error=text))]) as server:
        with pytest.raises(error) as caught:
            await make(Replicate, server.url).poll(Operation(ref="t1"))
    assert type(caught.value) is error
    assert caught.value.billed_usd is None


@pytest.mark.parametrize(
    ("status", "body", "error", "retry_after"),
    [
        (429, {"detail": "Request was throttled. Your rate limit resets in ~30s."}, errors.RateLimited, 30),
        (402, {"title": "Insufficient credit", "detail": "x", "status": 402}, errors.QuotaExhausted, None),
        (503, b"<html>busy</html>", errors.Unavailable, None),
        (502, b"<html>gateway</html>", errors.OutcomeUnknown, None),
        (
            422,
            {"title": "Input validation failed", "detail": "- input: prompt is required\n", "status": 422},
            errors.InvalidRequest,
            None,
        ),
    ],
)
async def test_a_refusal_has_its_name_and_time(
    make: MakeBackend,
    resolve: Resolve,
    status: int,
    body: Any,
    error: type[errors.GatewayError],
    retry_after: float | None,
) -> None:
    async with ScriptedServer([reply(200, MODEL), reply(status, body)]) as server:
        with pytest.raises(error) as caught:
            await make(Replicate, server.url).submit(resolve(KLING), key="job:a1")
    assert type(caught.value) is error
    assert caught.value.retry_after == retry_after


@pytest.mark.parametrize(
    ("status", "agreed"),
    [("starting", True), ("processing", True), ("canceled", True), ("aborted", True), ("succeeded", False)],
)
async def test_cancel_is_a_post_that_answers_the_prediction(
    make: MakeBackend, status: str, agreed: bool
) -> None:
    async with ScriptedServer([reply(200, prediction(status, output=URL))]) as server:
        assert await make(Replicate, server.url).cancel(Operation(ref="t/../1")) is agreed
        assert (server.seen[0].method, server.seen[0].target) == ("POST", "/v1/predictions/t%2F..%2F1/cancel")


async def test_a_version_is_run_by_its_id(make: MakeBackend, resolve: Resolve) -> None:
    version = "a" * 64
    card = ModelCard.model_validate(
        {
            "id": "replicate/mine",
            "backend": "replicate",
            "wire_id": f"me/mine:{version}",
            "family": "mine",
            "tasks": ["text-to-video"],
            "wire": {"schema": "live"},
            "as_of": "2026-11-26",
            "source": "mine",
        }
    )
    answers = [reply(200, MODEL["latest_version"]), reply(201, prediction("starting"))]
    async with ScriptedServer([*answers]) as server:
        backend = make(Replicate, server.url)
        backend.config.cards[card.id] = card
        await backend.submit(resolve(KLING).model_copy(update={"model": card.id}), key="job:a1")
        assert [seen.target for seen in server.seen] == [
            f"/v1/models/me/mine/versions/{version}",
            "/v1/predictions",
        ]
        assert server.seen[1].json["version"] == version


@pytest.mark.parametrize("model", ["kling", "a/b/c", "a/b:123", "../x/y", "a/b?c"])
async def test_a_name_that_is_no_model_is_refused(make: MakeBackend, model: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="owner/name"):
        await make(Replicate, "http://127.0.0.1:1").describe(model)


async def test_a_model_without_a_version_is_left_to_other_backends(
    make: MakeBackend, resolve: Resolve
) -> None:
    for answer in (reply(200, {"latest_version": None}), reply(404, {"detail": "no"})):
        async with ScriptedServer([answer]) as server:
            with pytest.raises(errors.BackendError) as caught:
                await make(Replicate, server.url).submit(resolve(KLING), key="job:a1")
        assert caught.value.next_step is errors.NextStep.REROUTE


async def test_a_file_too_large_to_upload_is_left_to_others(make: MakeBackend, media: FolderMedia) -> None:
    picture = media.picture()
    huge = picture.asset.model_copy(update={"size_bytes": UPLOAD_MAX_BYTES + 1})
    with pytest.raises(errors.BackendError) as caught:
        await make(Replicate).place(picture.model_copy(update={"asset": huge}))
    assert (caught.value.next_step, caught.value.param) == (errors.NextStep.REROUTE, "frame_images")
