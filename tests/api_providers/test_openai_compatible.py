"""The OpenAI-compatible client against its twin, the SDK's request types and scripted servers."""

from collections.abc import Mapping
from email.parser import BytesParser
from pathlib import Path
from typing import Any, ClassVar

import pytest
from openai.types import VideoSeconds, VideoSize
from openai.types.video_create_params import VideoCreateParams
from pydantic import TypeAdapter

from api_providers.openai_compatible import OpenAICompatible
from router.contract import errors
from router.contract.backend import Completed, Operation, Output, Pending
from router.contract.card import ResolvedRequest
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, Seen, reply

MODEL = "openai/video"
QUEUED = {"id": "video_1", "object": "video", "status": "queued", "progress": 0}
NO_PRICE = (
    "no price is shipped: what a server of this kind costs, and for what it bills, only its owner knows"
)


class TestOpenAICompatible(BackendSuite):
    kind = OpenAICompatible
    twin = "openai"
    key = SECRET
    text_model = MODEL
    image_model = MODEL
    tells_cost = False
    statuses: ClassVar[Mapping[str, Stands]] = {
        "queued": "queued",
        "in_progress": "running",
        "completed": "done",
        "failed": errors.GenerationFailed,
        "cancelled": errors.Cancelled,
    }
    invented = "pondering"
    cannot: ClassVar[Mapping[str, str]] = {
        "the_price_table_says_what_the_twin_bills": NO_PRICE,
        "a_failure_after_acceptance_says_what_it_cost": NO_PRICE,
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref)

    def status_body(self, status: str) -> dict[str, Any]:
        return {**QUEUED, "status": status}

    def dead_link(self, url: str) -> str:
        return url.replace("/videos/video_", "/videos/video_0")

    async def test_the_bill_names_our_attempt(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        await backend.submit(text, key="job:a1")
        assert sandbox.bill("openai")[0]["client_ref"] == "job:a1"

    async def test_a_failure_ends_the_attempt_and_leaves_the_cost_open(
        self, backend: Any, text: ResolvedRequest, sandbox: SandboxProcess
    ) -> None:
        sandbox.post_fault("openai", "fail_after_accept")
        operation = await backend.submit(text, key="job:a1")
        with pytest.raises(errors.GenerationFailed, match="could not be generated") as caught:
            await self.finish(backend, operation)
        assert caught.value.billed_usd is None

    async def test_a_clip_that_is_not_there_yet_leaves_no_file(
        self, backend: Any, text: ResolvedRequest, tmp_path: Path
    ) -> None:
        operation = await backend.submit(text, key="job:a1")
        url = f"{backend._base}/videos/{operation.ref}/content"
        with pytest.raises(errors.LinkExpired):
            await backend.fetch(Output(url=url), tmp_path / "early.mp4")
        assert not (tmp_path / "early.mp4").exists()


def form_of(seen: Seen) -> dict[str, tuple[str | None, str, bytes]]:
    """File name, MIME type and content of each part of a multipart request."""
    head = f"Content-Type: {seen.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + seen.body)
    parts: dict[str, tuple[str | None, str, bytes]] = {}
    for part in message.get_payload():
        assert not isinstance(part, str)
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        parts[name] = (part.get_filename(), part.get_content_type(), content)
    return parts


async def test_the_create_call_is_the_one_of_the_official_sdk(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    picture = media.picture()
    async with ScriptedServer([reply(200, QUEUED)]) as server:
        got = await make(OpenAICompatible, server.url).submit(
            resolve(MODEL, first=picture, duration=8, aspect_ratio="9:16", camera="zoom_in"), key="job:a1"
        )
    assert got == Operation(ref="video_1")
    (seen,) = server.seen
    assert (seen.method, seen.target) == ("POST", "/v1/videos")
    assert seen.headers["idempotency-key"] == "job:a1"
    assert seen.headers["authorization"] == f"Bearer {SECRET}"
    parts = form_of(seen)
    name, mime, content = parts.pop("input_reference")
    assert (name, mime) == (f"{picture.asset.id[:16]}.png", "image/png")
    assert content == media.path(picture.asset).read_bytes()
    fields = {key: value.decode() for key, (_, _, value) in parts.items()}
    assert fields == {
        "prompt": "a red fox in the snow The camera zooms in.",
        "seconds": "8",
        "size": "720x1280",
    }, "no model: the row has no name of one"
    assert {*fields, "input_reference"} <= set(VideoCreateParams.__annotations__), "the SDK's own fields"
    TypeAdapter(VideoSeconds).validate_python(fields["seconds"])
    TypeAdapter(VideoSize).validate_python(fields["size"])


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
async def test_the_address_may_end_with_the_version_or_not(make: MakeBackend, tail: str) -> None:
    async with ScriptedServer([reply(200, {"object": "list", "data": []})]) as server:
        assert await make(OpenAICompatible, server.url + tail).check() == {"list": "offered", "empty": True}
    assert server.seen[0].target == "/v1/videos?limit=1"


async def test_a_prefix_before_the_version_is_kept(make: MakeBackend) -> None:
    async with ScriptedServer([reply(404, {"detail": "Not Found"})]) as server:
        backend = make(OpenAICompatible, f"{server.url}/proxy/v2")
        assert await backend.check() == {"list": "not offered"}
    assert server.seen[0].target == "/proxy/v2/videos?limit=1"


def test_without_an_address_it_says_what_to_set(make: MakeBackend) -> None:
    with pytest.raises(errors.ServerTrouble, match="base_url"):
        make(OpenAICompatible)


async def test_without_a_key_no_authorization_goes_out_and_plain_http_works(
    make: MakeBackend, resolve: Resolve, tmp_path: Path
) -> None:
    done = {**QUEUED, "status": "completed", "progress": 100}
    replies = [reply(200, QUEUED), reply(200, done), reply(200, b"clip", {"Content-Type": "video/mp4"})]
    async with ScriptedServer([*replies]) as server:
        backend = make(OpenAICompatible, server.url, key=None, sandbox=False)
        operation = await backend.submit(resolve(MODEL), key="job:a1")
        state = await backend.poll(operation)
        await backend.fetch(state.outputs[0], tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").read_bytes() == b"clip"
    assert [seen.target for seen in server.seen][2] == "/v1/videos/video_1/content"
    assert not any("authorization" in seen.headers for seen in server.seen)


async def test_the_key_does_not_follow_a_redirect_to_another_host(make: MakeBackend, tmp_path: Path) -> None:
    async with ScriptedServer([reply(200, b"clip")]) as elsewhere:
        moved = reply(302, b"", {"Location": f"{elsewhere.url}/clip.mp4"})
        async with ScriptedServer([moved]) as server:
            backend = make(OpenAICompatible, server.url, sandbox=False)
            with pytest.raises(errors.UnexpectedResponse, match="https"):
                await backend.fetch(Output(url=f"{server.url}/v1/videos/v/content"), tmp_path / "clip.mp4")
        assert server.seen[0].headers["authorization"] == f"Bearer {SECRET}"
        assert elsewhere.seen == []


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "moderation_blocked", errors.ContentRejected),
        (400, "sentinel_block", errors.ContentRejected),
        (400, "content_policy_violation", errors.ContentRejected),
        (400, "content_rejected", errors.ContentRejected),
        (400, "invalid_value", errors.InvalidRequest),
        (401, "invalid_api_key", errors.AuthenticationFailed),
        (402, "budget_exceeded", errors.QuotaExhausted),
        (429, "insufficient_quota", errors.QuotaExhausted),
        (429, "rate_limit_exceeded", errors.RateLimited),
        (429, None, errors.RateLimited),
        (404, "model_not_found", errors.BackendError),
        (410, None, errors.BackendError),
        (503, "overloaded", errors.Unavailable),
        (500, "moderation_blocked", errors.Unavailable),
        (502, "server_error", errors.OutcomeUnknown),
        (504, "server_error", errors.OutcomeUnknown),
    ],
)
async def test_a_refused_create_has_its_name(
    make: MakeBackend, resolve: Resolve, status: int, code: str | None, error: type[errors.GatewayError]
) -> None:
    body = {"error": {"message": "no", "type": "invalid_request_error", "code": code}}
    async with ScriptedServer([reply(status, body)]) as server:
        with pytest.raises(error) as caught:
            await make(OpenAICompatible, server.url).submit(resolve(MODEL), key="job:a1")
    assert type(caught.value) is error
    assert len(server.seen) == 1


async def test_a_field_list_of_fastapi_is_read(make: MakeBackend, resolve: Resolve) -> None:
    body = {"detail": [{"loc": ["body", "size"], "msg": "does not match", "type": "string_pattern_mismatch"}]}
    async with ScriptedServer([reply(422, body)]) as server:
        with pytest.raises(errors.InvalidRequest, match="size: does not match"):
            await make(OpenAICompatible, server.url).submit(resolve(MODEL), key="job:a1")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "moderation_blocked", "message": "m"}, errors.ContentRejected),
        ({"code": "content_rejected", "message": "m"}, errors.ContentRejected),
        ({"code": "video_generation_failed", "message": "m"}, errors.GenerationFailed),
        ({"code": 500, "message": "m"}, errors.GenerationFailed),
        ({"message": "m"}, errors.GenerationFailed),
        ("m", errors.GenerationFailed),
        ({"code": "cancelled", "message": "m"}, errors.Cancelled),
        (None, errors.GenerationFailed),
    ],
)
async def test_a_failed_video_ends_by_its_code(
    make: MakeBackend, error: Any, kind: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([reply(200, {**QUEUED, "status": "failed", "error": error})]) as server:
        with pytest.raises(kind) as caught:
            await make(OpenAICompatible, server.url).poll(Operation(ref="v"))
    assert type(caught.value) is kind
    assert caught.value.billed_usd is None


@pytest.mark.parametrize(
    ("headers", "pace", "after"),
    [
        ({}, None, 2.0),
        ({"openai-poll-after-ms": "500"}, None, 0.5),
        ({"openai-poll-after-ms": "999999999"}, None, 60.0),
        ({"openai-poll-after-ms": "soon"}, None, 2.0),
        ({"openai-poll-after-ms": "500"}, 9.0, 9.0),
    ],
)
async def test_the_pace_is_the_settings_then_the_servers(
    make: MakeBackend, headers: dict[str, str], pace: float | None, after: float
) -> None:
    running = {**QUEUED, "status": "in_progress", "progress": 42}
    async with ScriptedServer([reply(200, running, headers)]) as server:
        state = await make(OpenAICompatible, server.url, poll_after=pace).poll(Operation(ref="v"))
    assert state == Pending(progress=0.42, poll_after=after)


@pytest.mark.parametrize("told", [None, "", "many", "NaN", "-1", 3, "1e9"])
async def test_a_strange_cost_is_not_known(make: MakeBackend, told: Any) -> None:
    async with ScriptedServer([reply(200, {**QUEUED, "status": "completed", "billed_usd": told})]) as server:
        done = await make(OpenAICompatible, server.url).poll(Operation(ref="v"))
    assert isinstance(done, Completed) and done.billed_usd is None


async def test_a_server_without_cancel_is_not_even_asked(make: MakeBackend) -> None:
    async with ScriptedServer([reply(500)]) as server:
        assert not await make(OpenAICompatible, server.url).cancel(Operation(ref="v"))
    assert server.seen == []
