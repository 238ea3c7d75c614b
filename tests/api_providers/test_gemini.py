"""Gemini Omni against its twin, the types of Google's own SDK, and answers from its documentation."""

import base64
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from google import genai
from google.genai import types
from google.genai._gaos.types.interactions import CreateModelInteraction
from google.genai._gaos.types.interactions.interaction import InteractionStatus
from pydantic import TypeAdapter

from api_providers.gemini import INLINE_MAX_BYTES, Gemini
from router.contract import errors
from router.contract.backend import Completed, Operation, Output, Pending
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import ScriptedServer, reply

SENT = {"type": "user_input", "content": [{"type": "text", "text": "a fox"}]}
URI = "https://generativelanguage.googleapis.com/v1beta/files/xyz:download?alt=media"


def interaction(status: str, *content: dict[str, Any], **more: Any) -> dict[str, Any]:
    steps = [SENT, {"type": "model_output", "content": list(content)}] if content else [SENT]
    return {"id": "v1_t1", "object": "interaction", "status": status, "steps": steps, **more}


class TestGemini(BackendSuite):
    kind = Gemini
    twin = "veo"
    key = SECRET
    text_model = "gemini/omni-1.2-flash"
    image_model = "gemini/omni-1.1-flash"
    tells_cost = False
    statuses: ClassVar[Mapping[str, Stands]] = {
        "queued": "queued",
        "in_progress": "running",
        "requires_continuation": "running",
        "idle": "running",
        "completed": "done",
        "failed": errors.GenerationFailed,
        "incomplete": errors.GenerationFailed,
        "budget_exceeded": errors.GenerationFailed,
        "requires_action": errors.GenerationFailed,
        "cancelled": errors.Cancelled,
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=ref)

    def status_body(self, status: str) -> dict[str, Any]:
        content = [{"type": "video", "mime_type": "video/mp4", "uri": URI}] if status == "completed" else []
        return interaction(status, *content)

    def dead_link(self, url: str) -> str:
        return url.replace("/files/", "/files/0")

    def test_the_statuses_are_all_that_the_sdk_knows(self) -> None:
        literal = InteractionStatus.__args__[0]  # type: ignore[attr-defined]
        assert set(self.statuses) == set(literal.__args__)

    async def test_a_failure_after_acceptance_says_what_it_cost(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        """Google says it nowhere: no figure, and the card's `maybe` keeps the full price in the ledger."""
        sandbox.post_fault(self.twin, "fail_after_accept")
        operation = await backend.submit(text, key="job:a1")
        with pytest.raises(errors.GenerationFailed) as caught:
            await self.finish(backend, operation)
        assert caught.value.billed_usd is None
        assert backend.card(text).failure_billed == "maybe"

    @pytest.mark.parametrize("task", ["video-to-video", "extend"])
    async def test_a_clip_made_here_is_gone_on_from_by_its_id(
        self, backend: Any, resolve: Resolve, media: FolderMedia, sandbox: SandboxProcess, task: str
    ) -> None:
        made = await backend.submit(resolve("gemini/omni-1.2-flash", duration=12), key="job:a1")
        await self.finish(backend, made)
        own = {"source_backend": "gemini", "source_ref": made.ref}
        source = media.clip(12).model_copy(update=own)
        model = "gemini/omni-1.2-flash-edit" if task == "video-to-video" else "gemini/omni-1.2-flash-extend"
        request = resolve(model, task=task, references=[source])
        payload = await backend.payload(request)
        assert payload["previous_interaction_id"] == made.ref
        assert payload["input"] == "a red fox in the snow"
        assert (await self.finish(backend, await backend.submit(request, key="job:a2"))).outputs
        # The edit lasts as long as the clip it edits, 12 s; the extension adds 8 s.
        usd = Decimal("0.84") if task == "video-to-video" else Decimal("0.56")
        assert Decimal(sandbox.bill("veo")[-1]["usd"]) == usd

    async def test_reference_images_make_a_clip(
        self, backend: Any, resolve: Resolve, media: FolderMedia
    ) -> None:
        pictures = [media.picture(colour=colour) for colour in ("red", "blue")]
        request = resolve("gemini/omni-1.1-flash", references=pictures)
        payload = await backend.payload(request)
        assert payload["generation_config"] == {"video_config": {"task": "reference_to_video"}}
        assert (await self.finish(backend, await backend.submit(request, key="job:a1"))).outputs


async def test_a_text_is_sent_as_documented(make: MakeBackend, resolve: Resolve) -> None:
    request = resolve("gemini/omni-1.2-flash", prompt="a fox runs", camera="zoom_in", aspect_ratio="9:16")
    assert await make(Gemini).payload(request) == {
        "model": "gemini-omni-1.2-flash",
        "input": "a fox runs The camera zooms in.",
        "background": True,
        "store": True,
        "response_format": {
            "type": "video",
            "resolution": "720p",
            "aspect_ratio": "9:16",
            "duration": "8s",
            "delivery": "uri",
        },
        "generation_config": {"video_config": {"task": "text_to_video"}},
    }


async def test_two_frames_are_told_by_tags(make: MakeBackend, resolve: Resolve, media: FolderMedia) -> None:
    first, last = media.picture(), media.picture(colour="red")
    payload = await make(Gemini).payload(resolve("gemini/omni-1.1-flash", first=first, last=last, duration=3))
    (turn,) = payload["input"]
    assert turn["type"] == "user_input"
    assert [part["type"] for part in turn["content"]] == ["image", "image", "text"]
    assert turn["content"][2]["text"] == "<FIRST_FRAME> <LAST_FRAME> a red fox in the snow"
    assert base64.b64decode(turn["content"][1]["data"]) == media.path(last.asset).read_bytes()
    assert "generation_config" not in payload


async def test_twelve_seconds_between_two_frames_are_refused(resolve: Resolve, media: FolderMedia) -> None:
    first, last = media.picture(), media.picture(colour="red")
    with pytest.raises(errors.UnsupportedRequest):
        resolve("gemini/omni-1.2-flash", first=first, last=last, duration=12)


async def test_every_payload_is_what_the_official_sdk_sends(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    """Each body passes the SDK's own types, and through its client comes out on the wire unchanged."""
    backend = make(Gemini)
    requests = []
    for card in backend.config.cards.values():
        for task in card.tasks:
            first = media.picture() if task == "image-to-video" else None
            clips = [media.clip()] if "video" in card.references else []
            requests.append(resolve(card.id, task=task, first=first, references=clips))
    assert len(requests) == 8
    done = reply(200, interaction("in_progress"), {"Content-Type": "application/json"})
    async with ScriptedServer([done]) as server:
        client = genai.Client(api_key=SECRET, http_options=types.HttpOptions(base_url=server.url))
        for request in requests:
            payload = await backend.payload(request)
            TypeAdapter(CreateModelInteraction).validate_python(payload)
            plain = payload["input"] if isinstance(payload["input"], str) else payload["input"][0]["content"]
            await client.aio.interactions.create(**{**payload, "input": plain})
            assert server.seen[-1].json == payload, request.model
        await client.aio.aclose()
    assert {seen.target for seen in server.seen} == {"/v1/interactions"}
    assert {seen.headers["x-goog-api-key"] for seen in server.seen} == {SECRET}


@pytest.mark.parametrize("card", ["gemini/omni-1.1-flash-edit", "gemini/omni-1.1-flash-extend"])
async def test_an_uploaded_video_that_is_too_long_is_refused_before_spending(
    make: MakeBackend, resolve: Resolve, media: FolderMedia, card: str
) -> None:
    request = resolve(card, task="extend" if "extend" in card else "v2v", references=[media.clip(12)])
    with pytest.raises(errors.BackendError, match="10 s") as caught:
        await make(Gemini).submit(request, key="job:a1")
    assert caught.value.param == "input_references"


async def test_a_picture_that_is_too_large_is_refused_before_spending(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    small = media.path(media.picture().asset).read_bytes()
    large = media.keep(small + bytes(INLINE_MAX_BYTES), "image/png", 640, 360)
    with pytest.raises(errors.BackendError, match="14 MB") as caught:
        await make(Gemini).submit(resolve("gemini/omni-1.2-flash", first=large), key="job:a1")
    assert caught.value.param == "frame_images"


async def test_a_clip_that_comes_inline_is_kept(make: MakeBackend, tmp_path: Path) -> None:
    """The docs: GET may give base64 although a link was asked for."""
    data = base64.b64encode(b"a clip").decode()
    body = interaction("completed", {"type": "video", "mime_type": "video/mp4", "data": data})
    async with ScriptedServer([reply(200, body)]) as server:
        backend = make(Gemini, server.url)
        done = await backend.poll(Operation(ref="v1_t1"))
        await backend.fetch(done.outputs[0], tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").read_bytes() == b"a clip"


async def test_only_the_newest_clip_of_this_turn_counts(make: MakeBackend) -> None:
    made = {
        "type": "model_output",
        "content": [{"type": "video", "uri": URI}, {"type": "text", "text": "so"}],
    }
    older = {"type": "model_output", "content": [{"type": "video", "uri": "https://x.example/older"}]}
    body = interaction("completed") | {"steps": [SENT, older, SENT, {"type": "thought"}, older, made]}
    async with ScriptedServer([reply(200, body)]) as server:
        done = await make(Gemini, server.url).poll(Operation(ref="v1_t1"))
    assert done == Completed((Output(url=URI),))
    refused = {"type": "model_output", "content": [{"type": "text", "text": "not this"}]}
    body["steps"] = [SENT, older, SENT, refused]
    async with ScriptedServer([reply(200, body)]) as server:
        with pytest.raises(errors.ContentRejected, match="not this"):
            await make(Gemini, server.url).poll(Operation(ref="v1_t1"))


async def test_a_bare_file_name_becomes_a_link_of_our_own_host(make: MakeBackend) -> None:
    body = interaction("completed", {"type": "video", "uri": "files/abc-1"})
    async with ScriptedServer([reply(200, body)]) as server:
        done = await make(Gemini, server.url).poll(Operation(ref="v1_t1"))
    assert done.outputs[0].url == f"{server.url}/v1/files/abc-1:download?alt=media"


async def test_completed_with_words_only_is_a_refusal_and_with_video_tokens_is_not(make: MakeBackend) -> None:
    words = {"type": "text", "text": "I cannot make this."}
    async with ScriptedServer([reply(200, interaction("completed", words))]) as server:
        with pytest.raises(errors.ContentRejected, match="I cannot make this"):
            await make(Gemini, server.url).poll(Operation(ref="v1_t1"))
    usage = {"output_tokens_by_modality": [{"modality": "video", "tokens": 46400}]}
    async with ScriptedServer([reply(200, interaction("completed", words, usage=usage))]) as server:
        with pytest.raises(errors.UnexpectedResponse):
            await make(Gemini, server.url).poll(Operation(ref="v1_t1"))


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"errors": [{"code": "internal", "message": "it broke"}]}, errors.GenerationFailed),
        ({"error": {"code": 13, "message": "it broke"}}, errors.GenerationFailed),
        ({"errors": [{"code": "safety", "message": "it broke"}]}, errors.ContentRejected),
        ({"error": {"message": "it broke: blocked for safety reasons"}}, errors.ContentRejected),
        ({"steps": [{"type": "model_output", "error": {"message": "it broke"}}]}, errors.GenerationFailed),
    ],
)
async def test_a_failure_says_whose_fault_wherever_it_stands(
    make: MakeBackend, more: dict[str, Any], error: type[errors.GatewayError]
) -> None:
    async with ScriptedServer([reply(200, interaction("failed") | more)]) as server:
        with pytest.raises(error, match="it broke") as caught:
            await make(Gemini, server.url).poll(Operation(ref="v1_t1"))
    assert type(caught.value) is error


async def test_other_bad_requests_of_a_look_are_not_the_end(make: MakeBackend) -> None:
    body = {"error": {"code": "invalid_request", "message": "Request contains an invalid argument."}}
    async with ScriptedServer([reply(400, body)]) as server:
        with pytest.raises(errors.InvalidRequest) as caught:
            await make(Gemini, server.url).poll(Operation(ref="v1_t1"))
    assert not isinstance(caught.value, errors.ENDS_ACCEPTED)


async def test_a_retry_info_is_the_pause(make: MakeBackend, resolve: Resolve) -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "30.5s"}
    text = "You exceeded your current quota, please check your plan and billing details."
    body = [{"error": {"code": 429, "message": text, "details": [detail]}}]
    async with ScriptedServer([reply(429, body)]) as server:
        with pytest.raises(errors.RateLimited) as caught:
            await make(Gemini, server.url).submit(resolve("gemini/omni-1.2-flash"), key="job:a1")
    assert caught.value.retry_after == 30.5


async def test_every_call_carries_the_key_in_a_header_and_a_safe_path(make: MakeBackend) -> None:
    live = reply(200, interaction("in_progress"))
    async with ScriptedServer([live, reply(200, interaction("cancelled"))]) as server:
        backend = make(Gemini, server.url, poll_after=5.0)
        assert await backend.poll(Operation(ref="v1/../1")) == Pending(poll_after=5.0)
        assert await backend.cancel(Operation(ref="v1/../1"))
    assert [(seen.method, seen.target) for seen in server.seen] == [
        ("GET", "/v1/interactions/v1%2F..%2F1"),
        ("POST", "/v1/interactions/v1%2F..%2F1/cancel"),
    ]
    assert {seen.headers["x-goog-api-key"] for seen in server.seen} == {SECRET}
