"""Veo on Vertex AI against its twin, against what Google's own SDK sends, and answers from its documentation."""

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials
from pydantic import SecretStr

from api_providers.veo import Veo, credentials_of, host_of, label
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia
from router.pricing import estimate
from tests.api_providers.conftest import SECRET, FolderMedia, MakeBackend, Resolve
from tests.backend_suite import BackendSuite, Stands
from tests.sandbox_process import ROOT, SandboxProcess
from tests.scripted_server import ScriptedServer, reply

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
"""Google's SDK subclasses aiohttp's session."""
MODEL = "projects/sandbox/locations/us-central1/publishers/google/models/veo-3.1-generate-001"
NAME = f"{MODEL}/operations/t1"
CLIP = base64.b64encode(b"a clip").decode()
BODIES: dict[str, dict[str, Any]] = {
    "done is absent": {"name": NAME},
    "done is false": {"name": NAME, "done": False, "metadata": {"@type": "x"}},
    "done in a bucket": {
        "name": NAME,
        "done": True,
        "response": {"raiMediaFilteredCount": 0, "videos": [{"gcsUri": "gs://b/p/sample_0.mp4"}]},
    },
    "done inline": {
        "name": NAME,
        "done": True,
        "response": {"videos": [{"bytesBase64Encoded": CLIP, "mimeType": "video/mp4"}]},
    },
    "done and filtered": {
        "name": NAME,
        "done": True,
        "response": {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": ["Support codes: 42237218"]},
    },
    "error 3 about content": {
        "name": NAME,
        "done": True,
        "error": {"code": 3, "message": "The prompt violates Vertex AI's usage guidelines. Support codes: 1"},
    },
    "error 1": {"name": NAME, "done": True, "error": {"code": 1, "message": "cancelled"}},
    **{
        f"error {code}": {"name": NAME, "done": True, "error": {"code": code, "message": "it broke"}}
        for code in (3, 4, 8, 13, 14)
    },
}


class TestVeo(BackendSuite):
    """Clips inside the answer, the default."""

    kind = Veo
    twin = "veo"
    key = SECRET
    text_model = "veo/veo-3.1-fast"
    image_model = "veo/veo-3.1"
    tells_cost = False
    statuses: ClassVar[Mapping[str, Stands]] = {
        "done is absent": "running",
        "done is false": "running",
        "done in a bucket": "done",
        "done inline": "done",
        "done and filtered": errors.ContentRejected,
        "error 3 about content": errors.ContentRejected,
        "error 1": errors.Cancelled,
        **{f"error {code}": errors.GenerationFailed for code in (3, 4, 8, 13, 14)},
    }
    cannot: ClassVar[Mapping[str, str]] = {
        "the_clip_over_the_providers_concurrency_waits_in_its_queue": (
            "an operation says done or not done; whether it waits is not told"
        )
    }

    def operation(self, ref: str) -> Operation:
        return Operation(ref=f"{MODEL}/operations/{ref}")

    def status_body(self, status: str) -> dict[str, Any]:
        return BODIES.get(status) or {"name": NAME, "done": True, "response": {"@type": status}}

    def dead_link(self, url: str) -> str:
        return url.replace("sample_0", "sample_9")

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

    async def test_a_truncated_download_is_made_whole(
        self, backend: Any, text: Any, sandbox: SandboxProcess, tmp_path: Path
    ) -> None:
        """Here the clip travels in the look, which breaks off and is made again."""
        operation = await backend.submit(text, key="job:a1")
        await self.finish(backend, operation)
        sandbox.post_fault(self.twin, "truncated_download")
        with pytest.raises(errors.Unavailable):
            await backend.poll(operation)
        done = await backend.poll(operation)
        await backend.fetch(done.outputs[0], tmp_path / "clip.mp4")
        assert (tmp_path / "clip.mp4").stat().st_size > 1000

    async def test_a_dead_link_is_expired_and_leaves_no_file(
        self, backend: Any, text: Any, tmp_path: Path
    ) -> None:
        """Here the clip is a file that can be taken once; the next look brings it again."""
        operation = await backend.submit(text, key="job:a1")
        done = await self.finish(backend, operation)
        await backend.fetch(done.outputs[0], tmp_path / "first.mp4")
        with pytest.raises(errors.LinkExpired):
            await backend.fetch(done.outputs[0], tmp_path / "second.mp4")
        assert not (tmp_path / "second.mp4").exists()
        again = await backend.poll(operation)
        await backend.fetch(again.outputs[0], tmp_path / "second.mp4")
        assert (tmp_path / "first.mp4").read_bytes() == (tmp_path / "second.mp4").read_bytes()

    async def test_looking_twice_keeps_one_file(self, backend: Any, text: Any) -> None:
        operation = await backend.submit(text, key="job:a1")
        first = await self.finish(backend, operation)
        assert (await backend.poll(operation)).outputs == first.outputs
        assert len(list(backend.config.scratch.glob("*.mp4*"))) == 1

    async def test_the_attempt_is_noted_as_a_label(
        self, backend: Any, text: Any, sandbox: SandboxProcess
    ) -> None:
        await backend.submit(text, key="Job:A1")
        assert [row["client_ref"] for row in sandbox.bill("veo")] == ["job-a1"]

    async def test_reference_images_make_a_clip_of_eight_seconds(
        self, backend: Any, resolve: Resolve, media: FolderMedia
    ) -> None:
        pictures = [media.picture(colour=colour) for colour in ("red", "blue", "teal")]
        request = resolve("veo/veo-3.1", references=pictures)
        assert (await self.finish(backend, await backend.submit(request, key="job:a1"))).outputs
        for fields in ({"duration": 4}, {"first": media.picture()}):
            with pytest.raises(errors.UnsupportedRequest):
                resolve("veo/veo-3.1", references=pictures, **fields)


class TestVeoInABucket(TestVeo):
    """`storage_uri` set: clips lie in Cloud Storage and are fetched from there with our token."""

    test_a_truncated_download_is_made_whole = BackendSuite.test_a_truncated_download_is_made_whole
    test_a_dead_link_is_expired_and_leaves_no_file = (
        BackendSuite.test_a_dead_link_is_expired_and_leaves_no_file
    )

    @pytest.fixture
    def backend(self, make: MakeBackend, sandbox: SandboxProcess) -> Any:
        sandbox.settings(self.twin, render_seconds=0.1)
        return make(Veo, f"{sandbox.url}/veo", key=self.key, storage_uri="gs://clips/understudy/")

    async def test_looking_twice_keeps_one_file(self, backend: Any, text: Any) -> None:
        done = await self.finish(backend, await backend.submit(text, key="job:a1"))
        assert done.outputs[0].url and "/storage/v1/b/clips/o/understudy%2F" in done.outputs[0].url
        assert not list(backend.config.scratch.glob("*.mp4*"))

    async def test_an_extension_of_a_stored_clip_sends_its_address(
        self, backend: Any, resolve: Resolve, media: FolderMedia
    ) -> None:
        made = await backend.submit(resolve("veo/veo-3.1"), key="job:a1")
        done = await self.finish(backend, made)
        own = {"source_backend": "veo", "source_ref": made.ref, "source_data": done.details}
        source = media.clip(8).model_copy(update=own)
        request = resolve("veo/veo-3.1-extend", task="extend", references=[source])
        payload = await backend.payload(request, key="job:a1")
        assert payload["instances"][0]["video"] == {
            "gcsUri": done.details["gcs_uri"],
            "mimeType": "video/mp4",
        }
        assert (await self.finish(backend, await backend.submit(request, key="job:a2"))).outputs


async def sdk_body(source: types.GenerateVideosSource, config: types.GenerateVideosConfig) -> dict[str, Any]:
    """What the official SDK sends for a request."""
    async with ScriptedServer([reply(200, {"name": NAME}, {"Content-Type": "application/json"})]) as server:
        client = genai.Client(
            enterprise=True,
            project="sandbox",
            location="us-central1",
            credentials=Credentials("sandbox-token"),  # type: ignore[no-untyped-call]
            http_options=types.HttpOptions(base_url=server.url),
        )
        await client.aio.models.generate_videos(model="veo-3.1-generate-001", source=source, config=config)
        await client.aio.aclose()
        (seen,) = server.seen
        assert seen.target == f"/v1beta1/{MODEL}:predictLongRunning"
        return dict(seen.json)


def sdk_image(media: FolderMedia, picture: InputMedia) -> types.Image:
    return types.Image(image_bytes=media.path(picture.asset).read_bytes(), mime_type="image/png")


LABELS = {"understudy": "job-a1"}


async def test_a_text_is_sent_as_the_sdk_sends_it(make: MakeBackend, resolve: Resolve) -> None:
    request = resolve(
        "veo/veo-3.1",
        prompt="雪の中の狐",
        duration=6,
        resolution="1080p",
        aspect_ratio="9:16",
        negative_prompt="rain",
        camera="orbit_left",
        provider_options={"veo": {"personGeneration": "allow_adult"}},
    )
    theirs = await sdk_body(
        types.GenerateVideosSource(prompt="雪の中の狐 The camera orbits to the left around the subject."),
        types.GenerateVideosConfig(
            number_of_videos=1,
            duration_seconds=6,
            resolution="1080p",
            aspect_ratio="9:16",
            negative_prompt="rain",
            seed=7,
            generate_audio=False,
            person_generation="allow_adult",
            labels=LABELS,
        ),
    )
    assert await make(Veo).payload(request, key="job:a1") == theirs


async def test_frames_are_sent_as_the_sdk_sends_them(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    first, last = media.picture(), media.picture(colour="red")
    request = resolve("veo/veo-3.1", first=first, last=last, generate_audio=True)
    theirs = await sdk_body(
        types.GenerateVideosSource(prompt="a red fox in the snow", image=sdk_image(media, first)),
        types.GenerateVideosConfig(
            number_of_videos=1,
            duration_seconds=8,
            resolution="720p",
            aspect_ratio="16:9",
            seed=7,
            generate_audio=True,
            last_frame=sdk_image(media, last),
            output_gcs_uri="gs://clips/out",
            labels=LABELS,
        ),
    )
    backend = make(Veo, storage_uri="gs://clips/out")
    assert await backend.payload(request, key="job:a1") == theirs


async def test_references_are_sent_as_the_sdk_sends_them_but_in_small_letters(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    picture = media.picture()
    request = resolve("veo/veo-3.1", references=[picture])
    reference = types.VideoGenerationReferenceImage(
        image=sdk_image(media, picture), reference_type=types.VideoGenerationReferenceType.ASSET
    )
    theirs = await sdk_body(
        types.GenerateVideosSource(prompt="a red fox in the snow"),
        types.GenerateVideosConfig(
            number_of_videos=1,
            duration_seconds=8,
            resolution="720p",
            aspect_ratio="16:9",
            seed=7,
            generate_audio=False,
            reference_images=[reference],
            labels=LABELS,
        ),
    )
    # Google's documentation writes `asset`; the SDK sends its enum's name.
    (sent,) = theirs["instances"][0]["referenceImages"]
    sent["referenceType"] = sent["referenceType"].lower()
    assert await make(Veo).payload(request, key="job:a1") == theirs


async def test_an_extension_is_sent_as_the_sdk_sends_it(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    clip = media.clip(8)
    request = resolve("veo/veo-3.1-extend", task="extend", references=[clip])
    theirs = await sdk_body(
        types.GenerateVideosSource(
            prompt="a red fox in the snow",
            video=types.Video(video_bytes=media.path(clip.asset).read_bytes(), mime_type="video/mp4"),
        ),
        types.GenerateVideosConfig(
            number_of_videos=1, resolution="720p", seed=7, generate_audio=False, labels=LABELS
        ),
    )
    backend = make(Veo)
    assert await backend.payload(request, key="job:a1") == theirs
    price = estimate(backend.card(request), request)
    assert price is not None
    assert (price.usd, price.most_usd) == (Decimal("1.4"), Decimal("1.6"))


async def test_a_video_over_thirty_seconds_is_refused_before_spending(
    make: MakeBackend, resolve: Resolve, media: FolderMedia
) -> None:
    request = resolve("veo/veo-3.1-extend", task="extend", references=[media.clip(31)])
    async with ScriptedServer([reply(200, {"name": NAME})]) as server:
        with pytest.raises(errors.BackendError) as caught:
            await make(Veo, server.url).submit(request, key="job:a1")
    assert caught.value.param == "input_references"
    assert server.seen == []


async def test_a_look_is_a_post_with_the_operations_name(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200, {"name": NAME})]) as server:
        state = await make(Veo, server.url, poll_after=10.0).poll(Operation(ref=NAME))
        (seen,) = server.seen
    assert state == Pending(poll_after=10.0)
    assert (seen.method, seen.target) == ("POST", f"/v1beta1/{MODEL}:fetchPredictOperation")
    assert seen.json == {"operationName": NAME}
    assert seen.headers["authorization"] == f"Bearer {SECRET}"


async def test_a_filtered_clip_is_free_and_says_why(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200, BODIES["done and filtered"])]) as server:
        with pytest.raises(errors.ContentRejected, match="42237218") as caught:
            await make(Veo, server.url).poll(Operation(ref=NAME))
    assert caught.value.billed_usd == Decimal(0)


async def test_a_clip_that_is_no_base64_is_looked_at_again(make: MakeBackend) -> None:
    body = {"name": NAME, "done": True, "response": {"videos": [{"bytesBase64Encoded": "!!"}]}}
    async with ScriptedServer([reply(200, body)]) as server:
        backend = make(Veo, server.url)
        with pytest.raises(errors.UnexpectedResponse):
            await backend.poll(Operation(ref=NAME))
    assert not list(backend.config.scratch.glob("*.mp4*"))


@pytest.mark.parametrize(
    ("status", "message", "reason", "error"),
    [
        (400, "Unsupported output video duration 5 seconds", None, errors.InvalidRequest),
        (400, "The prompt violates our usage guidelines. Support codes: 5", None, errors.ContentRejected),
        (400, "Billing is not enabled", None, errors.QuotaExhausted),
        (401, "Request had invalid authentication credentials.", None, errors.AuthenticationFailed),
        (403, "Permission denied on resource project p", None, errors.AuthenticationFailed),
        (403, "Enable it", "BILLING_DISABLED", errors.QuotaExhausted),
        (403, "Generation of person is not allowed for your project", None, errors.InvalidRequest),
        (404, "Publisher Model was not found", None, errors.BackendError),
        (429, "Quota exceeded for x, check billing details", None, errors.RateLimited),
        (503, "The service is currently unavailable.", None, errors.Unavailable),
        (504, "Deadline exceeded", None, errors.OutcomeUnknown),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
async def test_an_error_of_the_submit_has_its_name(
    make: MakeBackend,
    resolve: Resolve,
    status: int,
    message: str,
    reason: str | None,
    error: type[errors.GatewayError],
    wrapped: bool,
) -> None:
    details = [{"reason": reason}] if reason else []
    body: Any = {"error": {"code": status, "message": message, "details": details}}
    async with ScriptedServer([reply(status, [body] if wrapped else body)]) as server:
        with pytest.raises(error) as caught:
            await make(Veo, server.url).submit(resolve("veo/veo-3.1"), key="job:a1")
    assert type(caught.value) is error
    assert message in str(caught.value.detail)


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("us-central1", "https://us-central1-aiplatform.googleapis.com"),
        ("global", "https://aiplatform.googleapis.com"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_the_location_decides_the_host(location: str, host: str) -> None:
    assert host_of(location) == host


def test_a_label_holds_only_what_google_allows() -> None:
    assert label("01J9ZK/Ü:a1") == "01j9zk---a1"
    assert len(label("x" * 100)) == 63


@pytest.mark.parametrize("options", [{"location": "evil.example/x"}, {"storage_uri": "https://x/y"}])
def test_a_wrong_setting_says_where_it_stands(make: MakeBackend, options: dict[str, str]) -> None:
    with pytest.raises(errors.ServerTrouble, match=r"\[providers\.veo\]"):
        make(Veo, **options)


# -- with a credentials file, as in production


class FakeCredentials:
    """Stands in for google-auth's: counts how often it is asked for a token."""

    def __init__(self) -> None:
        self.token = ""
        self.refreshed = 0
        self.quota_project_id: str | None = None
        self.fails: Exception | None = None

    @property
    def valid(self) -> bool:
        return bool(self.token)

    def refresh(self, request: Any) -> None:
        if self.fails:
            raise self.fails
        self.refreshed += 1
        self.token = f"ya29.token-{self.refreshed}"


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> FakeCredentials:
    fake = FakeCredentials()
    monkeypatch.setattr("api_providers.veo.credentials_of", lambda info: fake)
    return fake


def production(server_url: str, folder: Path, catalog: Any, **info: str) -> Veo:
    """Configured as for real, except that Google is on this machine."""
    path = folder / "key.json"
    path.write_text(json.dumps({"type": "service_account", "project_id": "acme-1", **info}))
    cards = {card.id: card for card in catalog.cards.values() if card.backend == "veo"}
    return Veo(
        BackendConfig(
            name="veo",
            cards=cards,
            media=SimpleNamespace(path=lambda asset: folder / asset.id),
            scratch=folder,
            base_url=server_url,
            key=SecretStr(str(path)),
        )
    )


async def test_the_file_gives_project_and_token_and_stays_here(
    google: FakeCredentials, resolve: Resolve, tmp_path: Path, catalog: Any
) -> None:
    google.quota_project_id = "payer-1"
    name = NAME.replace("sandbox", "acme-1")
    async with ScriptedServer([reply(200, {"name": name})]) as server:
        backend = production(server.url, tmp_path, catalog)
        operation = await backend.submit(resolve("veo/veo-3.1"), key="job:a1")
        assert await backend.poll(operation) == Pending(poll_after=10.0)
        google.token = ""  # it has run out
        await backend.poll(operation)
        await backend.aclose()
    tokens = [seen.headers["authorization"] for seen in server.seen]
    assert tokens == ["Bearer ya29.token-1", "Bearer ya29.token-1", "Bearer ya29.token-2"]
    assert server.seen[0].target.startswith("/v1beta1/projects/acme-1/locations/us-central1/")
    for seen in server.seen:
        assert seen.headers["x-goog-user-project"] == "payer-1"
        assert "key.json" not in f"{seen.target} {seen.headers} {seen.body!r}"


async def test_the_token_is_taken_out_of_messages(
    google: FakeCredentials, resolve: Resolve, tmp_path: Path, catalog: Any
) -> None:
    echo = {"error": {"code": 403, "message": "ya29.token-1 may not do this"}}
    async with ScriptedServer([reply(403, echo)]) as server:
        backend = production(server.url, tmp_path, catalog)
        with pytest.raises(errors.AuthenticationFailed) as caught:
            await backend.submit(resolve("veo/veo-3.1"), key="job:a1")
        await backend.aclose()
    assert "ya29" not in f"{caught.value.message.en} {caught.value.detail}"


async def test_a_token_that_cannot_be_had_is_told_by_its_cause(
    google: FakeCredentials, resolve: Resolve, tmp_path: Path, catalog: Any
) -> None:
    from google.auth import exceptions

    for fails, error in (
        (exceptions.TransportError("no route"), errors.Unavailable),  # type: ignore[no-untyped-call]
        (exceptions.RefreshError("invalid_grant"), errors.AuthenticationFailed),  # type: ignore[no-untyped-call]
    ):
        google.fails = fails
        backend = production("http://127.0.0.1:9", tmp_path, catalog)
        with pytest.raises(error) as caught:
            await backend.submit(resolve("veo/veo-3.1"), key="job:a1")
        assert type(caught.value) is error
        await backend.aclose()


async def test_a_file_that_is_not_there_or_unknown_is_the_keys_fault(
    resolve: Resolve, tmp_path: Path, catalog: Any
) -> None:
    backend = production("http://127.0.0.1:9", tmp_path, catalog, type="mystery")
    with pytest.raises(errors.AuthenticationFailed, match="none of service_account"):
        await backend.submit(resolve("veo/veo-3.1"), key="job:a1")
    (tmp_path / "key.json").unlink()
    with pytest.raises(errors.AuthenticationFailed, match="GOOGLE_APPLICATION_CREDENTIALS"):
        await production_without_file(backend).check()
    await backend.aclose()


def production_without_file(backend: Veo) -> Veo:
    return Veo(backend.config)


async def test_without_a_project_the_setting_is_named(
    google: FakeCredentials, resolve: Resolve, tmp_path: Path, catalog: Any
) -> None:
    backend = production("http://127.0.0.1:9", tmp_path, catalog, project_id="")
    with pytest.raises(errors.BackendError, match=r"project in \[providers\.veo\]"):
        await backend.submit(resolve("veo/veo-3.1"), key="job:a1")
    await backend.aclose()


async def test_a_clip_of_another_location_is_not_given_up(
    google: FakeCredentials, tmp_path: Path, catalog: Any
) -> None:
    backend = production("http://127.0.0.1:9", tmp_path, catalog)
    with pytest.raises(errors.Unavailable, match="location"):
        await backend.poll(Operation(ref=NAME.replace("us-central1", "global")))
    await backend.aclose()


def test_real_credentials_are_made_of_each_kind_of_file() -> None:
    user = credentials_of(
        {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    )
    assert (user.valid, user.refresh_token) == (False, "r")
    external = credentials_of(
        {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"file": "/nowhere"},
        }
    )
    assert external.scopes == ["https://www.googleapis.com/auth/cloud-platform"]


def test_google_auth_is_not_loaded_before_it_is_needed() -> None:
    look = "import sys, api_providers.veo; print([name for name in sys.modules if name.startswith('google')])"
    done = subprocess.run(
        [sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


async def test_completed_names_the_stored_clip_for_a_later_extension(make: MakeBackend) -> None:
    async with ScriptedServer([reply(200, BODIES["done in a bucket"])]) as server:
        done = await make(Veo, server.url).poll(Operation(ref=NAME))
    assert done == Completed(
        (Output(url=f"{server.url}/_host/storage/storage/v1/b/b/o/p%2Fsample_0.mp4?alt=media"),),
        details={"gcs_uri": "gs://b/p/sample_0.mp4"},
    )
