"""Hailuo against its twin, in both generations, and against answers written down from MiniMax's documentation."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from api_providers.hailuo import AXES, INPUT_MAX_BYTES, PRESETS, Hailuo
from api_providers.sandbox.hailuo import MARKER
from router.contract import errors
from router.contract.backend import Completed, Operation, Pending
from router.contract.card import ResolvedRequest
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

OK = {"status_code": 0, "status_msg": "success"}
FILE = {"file_id": 205258526306433, "download_url": "https://cdn.example/out.mp4"}
V1 = Operation(ref="106916112212032", data={"api": "v1"})
V2 = Operation(ref="424010985738629", data={"api": "v2"})


def v1(code: int, text: str = "told", **fields: Any) -> bytes:
    return reply(200, {**fields, "base_resp": {"status_code": code, "status_msg": text}})


def v2_error(status: int, message: str, kind: str = "server_error") -> bytes:
    told = {"type": kind, "message": message, "http_code": str(status)}
    return reply(status, {"type": "error", "error": told, "request_id": "r1"})


class Common(BackendSuite):
    kind = Hailuo
    twin = "hailuo"
    key = SECRET
    tells_cost = False

    def dead_link(self, url: str) -> str:
        return url.replace("Expires=", "Expires=1")

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            ("auth", errors.AuthenticationFailed),
            ("no_credit", errors.QuotaExhausted),
            ("rate_limit", errors.RateLimited),
            # 500 and 503 leave doubt here: MiniMax's sheet calls the outcome of any 5xx on a submit unknown.
            ("server_error", errors.OutcomeUnknown),
            ("unavailable", errors.OutcomeUnknown),
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
        await super().test_a_refused_submit_has_its_name_and_bought_nothing(
            backend, text, sandbox, fault, error
        )

    async def test_a_marked_prompt_is_refused_at_submit(
        self, backend: Any, resolve: Resolve, sandbox: SandboxProcess
    ) -> None:
        with pytest.raises(errors.ContentRejected, match="1026"):
            await backend.submit(resolve(self.text_model, prompt=f"a {MARKER} thing"), key="job:a1")
        assert sandbox.bill("hailuo") == []


class TestHailuo(Common):
    text_model = "hailuo/hailuo-2.3"
    image_model = "hailuo/hailuo-2.3-fast"
    statuses: ClassVar[Mapping[str, Stands]] = {
        "Preparing": "queued",
        "Queueing": "queued",
        "Processing": "running",
        "Success": "done",
        "Fail": errors.GenerationFailed,
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref, data={"api": "v1"})

    def status_body(self, status: str) -> dict[str, Any]:
        """Also answers the third call, which asks for the file."""
        return {
            "task_id": "t1",
            "status": status,
            "file_id": "205258526306433",
            "file": FILE,
            "base_resp": OK,
        }

    async def test_three_calls_lead_to_the_clip(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        await self.finish(backend, await backend.submit(text, key="job:a1"))
        paths = [row["path"] for row in sandbox.requests()]
        assert paths[0] == "/hailuo/v1/video_generation"
        assert set(paths[1:-1]) == {"/hailuo/v1/query/video_generation"}
        assert paths[-1] == "/hailuo/v1/files/retrieve"

    async def test_five_a_minute_is_a_rate_limit_inside_200(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings("hailuo", per_minute=5)
        for number in range(5):
            await backend.submit(text, key=f"job{number}:a1")
        with pytest.raises(errors.RateLimited, match="code 1002"):
            await backend.submit(text, key="job5:a1")
        assert len(sandbox.bill("hailuo")) == 5


class TestHailuoH3(Common):
    text_model = "hailuo/minimax-h3"
    image_model = "hailuo/minimax-h3-max"
    statuses: ClassVar[Mapping[str, Stands]] = {
        "queued": "queued",
        "running": "running",
        "succeeded": "done",
        "failed": errors.GenerationFailed,
        "expired": errors.GenerationFailed,
        "cancelled": errors.Cancelled,
    }
    cannot: ClassVar[Mapping[str, str]] = {
        "a_failure_after_acceptance_says_what_it_cost": (
            "MiniMax neither tells nor documents what a failed H3 task costs: billed_usd is None, the card says maybe"
        )
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref, data={"api": "v2"})

    def status_body(self, status: str) -> dict[str, Any]:
        content = {"content": {"url": "https://cdn.example/out.mp4"}} if status == "succeeded" else {}
        return {"task": {"id": "t1", "status": status, **content}}

    async def test_what_a_failure_cost_is_left_open(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault("hailuo", "fail_after_accept")
        with pytest.raises(errors.GenerationFailed) as caught:
            await self.finish(backend, await backend.submit(text, key="job:a1"))
        assert caught.value.billed_usd is None
        assert backend.card(text).failure_billed == "maybe"

    async def test_a_running_task_is_not_cancelled(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings("hailuo", render_seconds=0.5)
        operation = await backend.submit(text, key="job:a1")
        while (await backend.poll(operation)).queued:
            pass
        assert not await backend.cancel(operation)
        assert (await self.finish(backend, operation)).outputs

    async def test_references_are_billed_by_the_second_of_the_video(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess
    ) -> None:
        given = [media.picture(), media.clip(3), media.speech()]
        request = resolve("hailuo/minimax-h3-reference", references=given, duration=4)
        done = await self.finish(backend, await backend.submit(request, key="job:a1"))
        assert sandbox.bill("hailuo")[0]["usd"] == "0.56"
        assert done.details["total_seconds"] == 7

    async def test_check_counts_the_tasks(self, backend: Any, text: Any) -> None:
        await backend.submit(text, key="job:a1")
        assert await backend.check() == {"tasks_total": 1}


async def test_the_v1_payload_is_the_documented_one(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    backend = make(Hailuo)
    assert await backend.payload(resolve("hailuo/hailuo-2.3", duration=10)) == {
        "model": "MiniMax-Hailuo-2.3",
        "prompt": "a red fox in the snow",
        "prompt_optimizer": True,
        "duration": 10,
        "resolution": "768P",
    }
    frames = {"first": media.picture(), "last": media.picture(colour="red")}
    body = await backend.payload(resolve("hailuo/hailuo-02", resolution="1080p", prompt="", **frames))
    for name in ("first_frame_image", "last_frame_image"):
        assert body.pop(name).startswith("data:image/png;base64,")
    assert body == {
        "model": "MiniMax-Hailuo-02",
        "prompt_optimizer": True,
        "duration": 6,
        "resolution": "1080P",
    }


async def test_the_v2_payload_is_the_documented_one(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    backend = make(Hailuo)
    first, last = media.picture(), media.picture(colour="red")
    body = await backend.payload(
        resolve("hailuo/minimax-h3", first=first, last=last, resolution="2k", duration=6)
    )
    text, one, two = body.pop("content")
    assert text == {"type": "text", "text": "a red fox in the snow"}
    assert [(item["type"], item["role"]) for item in (one, two)] == [
        ("image_url", "first_frame"),
        ("image_url", "last_frame"),
    ]
    assert one["image_url"]["url"].startswith("data:image/png;base64,")
    assert body == {"model": "MiniMax-H3", "resolution": "2K", "duration": 6, "aigc_watermark": False}
    body = await backend.payload(resolve("hailuo/minimax-h3", aspect_ratio="9:16"))
    assert (body["ratio"], body["duration"], body["resolution"]) == ("9:16", 5, "768P")
    request = resolve("hailuo/minimax-h3-video", task="video-to-video", references=[media.clip(2)])
    body = await backend.payload(request)
    assert body["ratio"] == "adaptive"
    assert body["content"][1]["role"] == "reference_video"
    assert body["content"][1]["video_url"]["url"].startswith("data:video/mp4;base64,")


@pytest.mark.parametrize("camera", [*PRESETS, *(f"{axis}={v}" for axis in AXES for v in (-3, 0, 3))])
async def test_every_movement_the_card_lists_becomes_documented_words(
    make: MakeBackend, resolve: Resolve, camera: str
) -> None:
    known = {
        *("Truck left", "Truck right", "Pan left", "Pan right", "Push in", "Pull out", "Pedestal up"),
        *("Pedestal down", "Tilt up", "Tilt down", "Zoom in", "Zoom out", "Shake", "Tracking shot"),
        "Static shot",
    }
    body = await make(Hailuo).payload(resolve("hailuo/hailuo-2.3", camera=camera))
    prompt, bracket, rest = body["prompt"].partition("[")
    assert (prompt, bracket, rest[-1]) == ("a red fox in the snow ", "[", "]")
    assert set(rest[:-1].split(",")) <= known
    assert body["prompt_optimizer"] is False, "else the words may be rewritten"


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ("dolly_in", "[Push in]"),
        ("handheld", "[Shake]"),
        ("horizontal=-4", "[Truck left]"),
        ("vertical=9", "[Pedestal up]"),
        ("zoom=-1", "[Zoom out]"),
        ("pan=0", "[Static shot]"),
        ("down_back", "[Pedestal down,Pull out]"),
    ],
)
async def test_a_movement_has_its_words(make: MakeBackend, resolve: Resolve, camera: str, words: str) -> None:
    body = await make(Hailuo).payload(resolve("hailuo/hailuo-02", camera=camera))
    assert body["prompt"] == f"a red fox in the snow {words}"


@pytest.mark.parametrize("camera", ["roll_left", "orbit_right", "crane_up", "roll=3"])
def test_a_movement_without_words_is_a_misfit(resolve: Resolve, camera: str) -> None:
    with pytest.raises(errors.UnsupportedRequest) as caught:
        resolve("hailuo/hailuo-2.3", camera=camera)
    assert [misfit.field for misfit in caught.value.misfits] == ["camera"]


async def test_the_strength_that_is_not_taken_is_told(make: MakeBackend, resolve: Resolve) -> None:
    async with ScriptedServer([v1(0, task_id="t1")]) as server:
        strong = await make(Hailuo, server.url).submit(resolve("hailuo/hailuo-2.3", camera="pan=9"), key="a")
        plain = await make(Hailuo, server.url).submit(resolve("hailuo/hailuo-2.3"), key="b")
    assert "[Pan right]" in strong.warnings[0].en
    assert plain.warnings == ()


async def test_the_optimizer_is_the_callers_to_choose(make: MakeBackend, resolve: Resolve) -> None:
    options = {"provider_options": {"hailuo": {"prompt_optimizer": True}}}
    body = await make(Hailuo).payload(resolve("hailuo/hailuo-2.3", camera="zoom_in", **options))
    assert body["prompt_optimizer"] is True


async def test_a_prompt_that_the_camera_makes_too_long_is_refused_before_spending(
    make: MakeBackend, resolve: Resolve
) -> None:
    request = resolve("hailuo/hailuo-2.3", prompt="x" * 1999, camera="zoom_in")
    with pytest.raises(errors.UnsupportedRequest) as caught:
        await make(Hailuo).submit(request, key="job:a1")
    assert [misfit.field for misfit in caught.value.misfits] == ["camera"]


@pytest.mark.parametrize(
    ("model", "fields", "field"),
    [
        ("hailuo/hailuo-2.3", {"resolution": "1080p", "duration": 10}, "resolution"),
        ("hailuo/hailuo-02", {"resolution": "512p"}, "resolution"),
        ("hailuo/hailuo-02", {"resolution": "512p", "first": 1, "last": 1}, "resolution"),
        ("hailuo/hailuo-2.3", {"first": 1, "last": 1}, "last_frame"),
        ("hailuo/hailuo-2.3-fast", {}, "task"),
        ("hailuo/hailuo-2.3", {"aspect_ratio": "9:16"}, "aspect_ratio"),
        ("hailuo/hailuo-2.3", {"seed": 3}, "seed"),
        ("hailuo/minimax-h3", {"duration": 16}, "duration"),
        ("hailuo/minimax-h3", {"generate_audio": False}, "generate_audio"),
        ("hailuo/minimax-h3-max", {"references": 1}, "input_references"),
        ("hailuo/minimax-h3-reference", {"references": 6}, "input_references"),
        ("hailuo/minimax-h3-reference", {}, "input_references"),
    ],
)
def test_what_the_matrix_forbids_is_a_misfit(
    resolve: Resolve, media: FolderMedia, model: str, fields: dict[str, Any], field: str
) -> None:
    given = {name: media.picture() if name in {"first", "last"} else value for name, value in fields.items()}
    if "references" in given:
        given["references"] = [media.picture(colour=f"#0000{n:02x}") for n in range(fields["references"])]
    with pytest.raises(errors.UnsupportedRequest) as caught:
        resolve(model, **given)
    assert caught.value.misfits[0].field == field


CODES = [
    (1002, errors.RateLimited),
    (1004, errors.AuthenticationFailed),
    (1008, errors.QuotaExhausted),
    (1026, errors.ContentRejected),
    (1042, errors.InvalidRequest),
    (2013, errors.InvalidRequest),
    (2038, errors.AuthenticationFailed),
    (2049, errors.AuthenticationFailed),
    (2056, errors.RateLimited),
]
IN_DOUBT = [1000, 1001, 1024, 1033, 4711]


@pytest.mark.parametrize(("code", "error"), CODES + [(code, errors.OutcomeUnknown) for code in IN_DOUBT])
async def test_a_code_inside_200_on_the_submit(
    make: MakeBackend, resolve: Resolve, code: int, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([v1(code, "told so")]) as server:
        with pytest.raises(error) as caught:
            await make(Hailuo, server.url).submit(resolve("hailuo/hailuo-2.3"), key="job:a1")
        assert len(server.seen) == 1, "never sent again"
    assert type(caught.value) is error
    assert "told so" in (caught.value.detail or "") and str(code) in (caught.value.detail or "")


@pytest.mark.parametrize("code", [*IN_DOUBT, 1002, 1004, 1008, 2049, 2056])
async def test_a_code_inside_200_on_a_look_means_look_again(make: MakeBackend, code: int) -> None:
    async with ScriptedServer([v1(code, task_id="t1", status="")]) as server:
        with pytest.raises(errors.GatewayError) as caught:
            await make(Hailuo, server.url).poll(V1)
    assert not isinstance(caught.value, errors.ENDS_ACCEPTED)


@pytest.mark.parametrize(("code", "error"), [(2013, errors.InvalidRequest), (1001, errors.OutcomeUnknown)])
async def test_the_trace_id_is_kept_for_their_support(
    make: MakeBackend, resolve: Resolve, code: int, error: type[errors.GatewayError]
) -> None:
    body = {"base_resp": {"status_code": code, "status_msg": "told so"}}
    async with ScriptedServer([reply(200, body, {"Trace-Id": "04f9aa"})]) as server:
        with pytest.raises(error) as caught:
            await make(Hailuo, server.url).submit(resolve("hailuo/hailuo-2.3"), key="job:a1")
    assert (caught.value.detail or "").endswith("; Trace-Id 04f9aa")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1027, errors.ContentRejected),
        (1026, errors.ContentRejected),
        (1000, errors.GenerationFailed),
        (0, errors.GenerationFailed),
        (2013, errors.GenerationFailed),
    ],
)
async def test_fail_says_why_in_base_resp(
    make: MakeBackend, code: int, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([v1(code, task_id="t1", status="Fail")]) as server:
        with pytest.raises(error) as caught:
            await make(Hailuo, server.url).poll(V1)
    assert type(caught.value) is error


async def test_the_statuses_of_the_callback_are_not_those_of_the_query(make: MakeBackend) -> None:
    async with ScriptedServer([v1(0, task_id="t1", status="success", file_id="1")]) as server:
        with pytest.raises(errors.UnexpectedResponse):
            await make(Hailuo, server.url).poll(V1)


async def test_the_documented_answers_lead_to_the_link(make: MakeBackend) -> None:
    done = v1(0, task_id=V1.ref, status="Success", file_id="205258526306433", video_width=1366)
    running = v1(0, task_id=V1.ref, status="Processing")
    async with ScriptedServer([running, done, v1(0, file=FILE)]) as server:
        backend = make(Hailuo, server.url, poll_after=10)
        assert await backend.poll(V1) == Pending(poll_after=10)
        got = await backend.poll(V1)
        assert [seen.target for seen in server.seen][1:] == [
            "/v1/query/video_generation?task_id=106916112212032",
            "/v1/files/retrieve?file_id=205258526306433",
        ]
        assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer {SECRET}"}
    assert isinstance(got, Completed)
    assert (got.outputs[0].url, got.details) == (
        "https://cdn.example/out.mp4",
        {"file_id": "205258526306433"},
    )


async def test_a_file_that_cannot_be_asked_for_now_is_asked_for_again(make: MakeBackend) -> None:
    done = v1(0, task_id=V1.ref, status="Success", file_id="1")
    async with ScriptedServer([done, v1(1024), done, v1(0, file=FILE)]) as server:
        backend = make(Hailuo, server.url)
        with pytest.raises(errors.UnexpectedResponse):
            await backend.poll(V1)
        assert isinstance(await backend.poll(V1), Completed)


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (400, "invalid params, content must include a non-empty text item (2013)", errors.InvalidRequest),
        (401, "login fail (1004)", errors.AuthenticationFailed),
        (402, "insufficient balance (1008)", errors.QuotaExhausted),
        (422, "video description contains sensitive content (1026)", errors.ContentRejected),
        (429, "rate limit, please retry later (1002)", errors.RateLimited),
        (429, "insufficient balance (1008)", errors.QuotaExhausted),
        (400, "no code here", errors.InvalidRequest),
        (500, "internal error (1000)", errors.OutcomeUnknown),
        (502, "bad gateway", errors.OutcomeUnknown),
    ],
)
async def test_v2_answers_real_statuses(
    make: MakeBackend, resolve: Resolve, status: int, message: str, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([v2_error(status, message)]) as server:
        with pytest.raises(error) as caught:
            await make(Hailuo, server.url).submit(resolve("hailuo/minimax-h3"), key="job:a1")
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (v2_error(500, "record not found"), errors.OperationLost),
        (v2_error(400, "invalid task_id (2013)"), errors.OperationLost),
        (v2_error(500, "internal error (1000)"), errors.Unavailable),
        (reply(200, {"task": {"status": "succeeded"}}), errors.UnexpectedResponse),
    ],
)
async def test_a_v2_look_that_finds_no_clip(
    make: MakeBackend, answer: bytes, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([answer]) as server:
        with pytest.raises(error) as caught:
            await make(Hailuo, server.url).poll(V2)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"code": 1027, "message": "blocked"}, errors.ContentRejected),
        ({"code": "1026", "message": "blocked"}, errors.ContentRejected),
        ({"code": "output_sensitive", "message": "sensitive content"}, errors.ContentRejected),
        ({"code": 1000, "message": "internal error"}, errors.GenerationFailed),
        (None, errors.GenerationFailed),
    ],
)
async def test_a_v2_failure_may_be_about_content(
    make: MakeBackend, told: Any, error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([reply(200, {"task": {"status": "failed", "error": told}})]) as server:
        with pytest.raises(error) as caught:
            await make(Hailuo, server.url).poll(V2)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("replies", "agreed", "methods"),
    [
        ([reply(200, {"task": {"status": "running"}})], False, ["GET"]),
        ([reply(200, {"task": {"status": "succeeded"}})], False, ["GET"]),
        (
            [reply(200, {"task": {"status": "queued"}}), reply(200, {"task_id": "t", "status": "cancelled"})],
            True,
            ["GET", "DELETE"],
        ),
        (
            [reply(200, {"task": {"status": "queued"}}), reply(200, {"task_id": "t", "status": "deleted"})],
            False,
            ["GET", "DELETE"],
        ),
        (
            [reply(200, {"task": {"status": "queued"}}), v2_error(400, "a running task (2013)")],
            False,
            ["GET", "DELETE"],
        ),
    ],
)
async def test_only_a_queued_v2_task_is_ever_deleted(
    make: MakeBackend, replies: list[Any], agreed: bool, methods: list[str]
) -> None:
    async with ScriptedServer(replies) as server:
        assert await make(Hailuo, server.url).cancel(V2) is agreed
        assert [seen.method for seen in server.seen] == methods


async def test_after_a_cancel_a_missing_task_is_cancelled_and_free(make: MakeBackend) -> None:
    queued = reply(200, {"task": {"status": "queued"}})
    gone = v2_error(500, "record not found")
    async with ScriptedServer([queued, reply(200, {"status": "cancelled"}), gone]) as server:
        backend = make(Hailuo, server.url)
        assert await backend.cancel(V2)
        with pytest.raises(errors.Cancelled) as caught:
            await backend.poll(V2)
    assert caught.value.billed_usd == Decimal(0)


async def test_v1_has_no_cancel_and_asks_nobody(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200)]) as server:
        assert not await make(Hailuo, server.url).cancel(V1)
        assert server.seen == []


async def test_a_large_input_is_left_to_others(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    large = media.keep(bytes(INPUT_MAX_BYTES + 1), "image/png", 640, 360)
    with pytest.raises(errors.BackendError) as caught:
        await make(Hailuo).payload(resolve("hailuo/hailuo-2.3-fast", first=large))
    assert caught.value.next_step is errors.NextStep.REROUTE
