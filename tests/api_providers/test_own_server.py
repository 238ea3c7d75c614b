"""Own servers as a user sets them up: rows of their own, our own server as one, every example of docs/own-server.md."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import av
import pytest
from pydantic import SecretStr

from api_providers.comfyui import ComfyUI
from api_providers.openai_compatible import OpenAICompatible
from router.catalog import Catalog
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation
from router.contract.card import InputMedia, LostSubmit, ModelCard, ResolvedRequest, Size, Where
from router.contract.fit import fit
from router.contract.request import FrameType, Task, VideoRequest
from router.gateway import EngineRole, Gateway
from router.settings import Settings
from tests.api_providers.conftest import SECRET, FolderMedia
from tests.router.server.conftest import running
from tests.sandbox_process import SandboxProcess

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "own-server.md"


def house(
    name: str, base_url: str, media: FolderMedia, scratch: Path, card: ModelCard, **options: Any
) -> Any:
    """A backend as a user's own TOML makes it: no key, a card of its own, the real address."""
    return OpenAICompatible(
        BackendConfig(name, {card.id: card}, media, scratch, base_url=base_url, options=options)
    )


def card_of(**changes: Any) -> ModelCard:
    return ModelCard.model_validate(
        {
            "id": "box/model",
            "backend": "box",
            "wire_id": "org/model",
            "family": "box",
            "where": Where.HOUSE,
            "tasks": ["text-to-video", "image-to-video"],
            "durations": [5],
            "sizes": [Size(resolution="480p", aspect_ratio="16:9", width=832, height=480)],
            "as_of": date(2026, 11, 21),
            "source": "tests",
            **changes,
        }
    )


def fitted(card: ModelCard, first: InputMedia | None = None, **fields: Any) -> ResolvedRequest:
    frames = [{"frame_type": "first_frame", "url": f"asset:{first.asset.id}"}] if first else []
    request = VideoRequest.model_validate({"prompt": "a fox", "frame_images": frames, **fields})
    return fit(request, card, seed=7, inputs={FrameType.FIRST: first} if first else {})


async def test_extra_fields_go_out_under_the_servers_names_and_options_cannot_overwrite(
    media: FolderMedia, tmp_path: Path
) -> None:
    card = card_of(
        seed=True,
        negative_prompt=True,
        guidance=True,
        fps=[16, 24],
        audio="optional",
        options={"num_inference_steps": "steps", "seconds": "not to be had", "lora": "an object"},
        wire={
            "extra": {
                "seed": "seed",
                "negative_prompt": "negative_prompt",
                "guidance": "guidance_scale",
                "fps": "fps",
                "generate_audio": "generate_sound",
            }
        },
    )
    options = {"num_inference_steps": 30, "seconds": "60", "lora": {"name": "x"}}
    request = fitted(card, guidance=4.5, fps=24, provider_options={"box": options})
    backend = house("box", "http://127.0.0.1:1", media, tmp_path, card)
    assert backend.fields(request) == {
        "prompt": "a fox",
        "model": "org/model",
        "seconds": "5",
        "size": "832x480",
        "seed": "7",
        "guidance_scale": "4.5",
        "fps": "24",
        "generate_sound": "false",
        "num_inference_steps": "30",
        "lora": '{"name": "x"}',
    }


def test_fields_the_model_does_not_know_are_left_out(media: FolderMedia, tmp_path: Path) -> None:
    card = card_of(wire_id="", durations=[], sizes=[])
    assert house("box", "http://127.0.0.1:1", media, tmp_path, card).fields(fitted(card)) == {
        "prompt": "a fox"
    }


async def test_a_cancel_by_deletion_ends_cancelled(
    sandbox: SandboxProcess, media: FolderMedia, tmp_path: Path
) -> None:
    sandbox.settings("openai", render_seconds=600)
    card = card_of(cancel="running")
    config = BackendConfig(
        "box",
        {card.id: card},
        media,
        tmp_path,
        base_url=f"{sandbox.url}/openai",
        key=SecretStr(SECRET),
        options={"cancel": "delete"},
    )
    backend = OpenAICompatible(config)
    operation = await backend.submit(fitted(card), key="job:a1")
    assert await backend.cancel(operation)
    with pytest.raises(errors.Cancelled):
        await backend.poll(operation)
    assert await backend.cancel(operation), "asked again it is still cancelled"
    assert sandbox.bill("openai")[0]["status"] == "cancelled"
    await backend.aclose()


class TestAnotherUnderstudy:
    """Our client against our own server with the test pattern: the row that the document calls another Understudy."""

    card = card_of(
        wire_id="testcard/bars",
        durations=[2, 3],
        seed=True,
        sizes=[Size(resolution="180p", aspect_ratio="16:9", width=320, height=180)],
        options={"provider_options": "for the backends there"},
        lost_submit=LostSubmit.IDEMPOTENT,
        cancel="running",
        wire={"extra": {"seed": "seed"}},
    )

    @pytest.fixture
    async def url(self, tmp_path: Path) -> AsyncIterator[str]:
        gateway = Gateway.open(
            Settings.load({"UNDERSTUDY_HOME": str(tmp_path / "far"), "UNDERSTUDY_LOCAL_DEMO_MODEL": "true"}),
            EngineRole.SERVE,
        )
        async with running(gateway) as url:
            yield url

    @pytest.fixture
    async def backend(self, url: str, media: FolderMedia, tmp_path: Path) -> AsyncIterator[OpenAICompatible]:
        made = house("box", url, media, tmp_path, self.card)
        yield made
        await made.aclose()

    async def finish(self, backend: OpenAICompatible, operation: Operation) -> Completed:
        async with asyncio.timeout(60):
            while True:
                state = await backend.poll(operation)
                if isinstance(state, Completed):
                    return state
                await asyncio.sleep(state.poll_after or 0)

    async def test_text_and_picture_become_clips_and_the_cost_is_told(
        self, backend: OpenAICompatible, media: FolderMedia, tmp_path: Path
    ) -> None:
        for number, first in enumerate((None, media.picture(320, 180))):
            operation = await backend.submit(fitted(self.card, first), key=f"job{number}:a1")
            done = await self.finish(backend, operation)
            assert done.billed_usd == Decimal(0)
            clip = tmp_path / f"{number}.mp4"
            await backend.fetch(done.outputs[0], clip)
            with av.open(str(clip)) as box:
                stream = box.streams.video[0]
                assert (stream.width, stream.height, stream.frames > 0) == (320, 180, True)

    async def test_a_repeated_key_is_the_same_job(self, backend: OpenAICompatible) -> None:
        request = fitted(self.card)
        first = await backend.submit(request, key="job:a1")
        assert await backend.submit(request, key="job:a1") == first
        assert await backend.submit(request, key="job:a2") != first

    async def test_a_running_job_is_cancelled(self, backend: OpenAICompatible) -> None:
        slow = {"provider_options": {"testcard": {"seconds": 600}}}
        operation = await backend.submit(fitted(self.card, provider_options={"box": slow}), key="job:a1")
        assert await backend.cancel(operation)
        with pytest.raises(errors.Cancelled) as caught:
            await self.finish(backend, operation)
        assert caught.value.billed_usd == Decimal(0)
        assert await backend.cancel(operation), "it is cancelled, however often it is asked"

    async def test_a_finished_job_cannot_be_cancelled(self, backend: OpenAICompatible) -> None:
        operation = await backend.submit(fitted(self.card), key="job:a1")
        await self.finish(backend, operation)
        assert not await backend.cancel(operation)

    async def test_a_failed_job_ends_the_attempt(self, backend: OpenAICompatible) -> None:
        broken = {"provider_options": {"testcard": {"fail": "generation_failed"}}}
        operation = await backend.submit(fitted(self.card, provider_options={"box": broken}), key="job:a1")
        with pytest.raises(errors.GenerationFailed):
            await self.finish(backend, operation)

    async def test_a_request_it_refuses_is_refused_in_its_words(self, backend: OpenAICompatible) -> None:
        odd = self.card.model_copy(update={"id": "box/model", "wire_id": "testcard/no-such"})
        backend.config = replace(backend.config, cards={odd.id: odd})
        with pytest.raises(errors.GatewayError) as caught:
            await backend.submit(fitted(odd), key="job:a1")
        assert caught.value.backend == "box"
        assert "no-such" in str(caught.value)

    async def test_an_unknown_job_is_lost_and_check_works(self, backend: OpenAICompatible) -> None:
        with pytest.raises(errors.OperationLost):
            await backend.poll(Operation(ref="video_unknown"))
        assert await backend.check() == {"list": "offered", "empty": True}


EXAMPLES = re.findall(r"^```toml\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def own(tmp_path: Path) -> Catalog:
    """The catalogue of someone who copied every example of the document."""
    folder = tmp_path / "providers"
    folder.mkdir()
    for number, example in enumerate(EXAMPLES):
        (folder / f"{number}.toml").write_text(example, encoding="utf-8")
    return Catalog.load(folder)


def test_every_example_of_the_document_loads_as_a_free_house_backend(own: Catalog) -> None:
    assert own.problems == ()
    names = [
        found[1] for example in EXAMPLES if (found := re.search(r'^name = "(.*)"', example, re.MULTILINE))
    ]
    assert names == ["sglang", "vllm-omni", "litellm", "gpu-house", "comfy-house"]
    for name in names:
        info = own.providers[name]
        (card,) = [card for card in own.cards.values() if card.backend == name]
        assert (info.where, card.where, info.base_url is not None) == (Where.HOUSE, Where.HOUSE, True)
        assert [price.usd for price in card.prices] == [Decimal(0)]
    assert own.cards["gpu-house/wan2.2-ti2v-5b"].lost_submit is LostSubmit.IDEMPOTENT


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("vllm-omni", {"model": "Wan-AI/Wan2.2-TI2V-5B-Diffusers", "seconds": "5", "size": "1280x704"}),
        ("litellm", {"model": "house/wan", "seconds": "4", "size": "1280x720"}),
        ("gpu-house", {"model": "local/wan2.2-ti2v-5b", "seconds": "5", "size": "1280x704", "seed": "7"}),
    ],
)
async def test_a_job_for_an_example_goes_through_at_the_twin(
    own: Catalog,
    media: FolderMedia,
    sandbox: SandboxProcess,
    tmp_path: Path,
    name: str,
    sent: dict[str, str],
) -> None:
    sandbox.settings("openai", render_seconds=0)
    (card,) = [card for card in own.cards.values() if card.backend == name]
    backend = OpenAICompatible(
        BackendConfig(
            name,
            {card.id: card},
            media,
            tmp_path,
            base_url=f"{sandbox.url}/openai/v1",
            key=SecretStr(SECRET),
            options=own.providers[name].options,
        )
    )
    request = fitted(card)
    assert sent.items() <= backend.fields(request).items()
    operation = await backend.submit(request, key="job:a1")
    done = await backend.poll(operation)
    assert isinstance(done, Completed)
    await backend.fetch(done.outputs[0], tmp_path / "clip.mp4")
    (row,) = sandbox.bill("openai")
    assert (row["task"], row["model"], row["usd"]) == (operation.ref, card.wire_id, "0")
    assert card.tasks[0] is Task.TEXT_TO_VIDEO
    await backend.aclose()


async def test_a_job_for_the_comfyui_example_goes_through_at_the_twin(
    own: Catalog, media: FolderMedia, sandbox: SandboxProcess, tmp_path: Path
) -> None:
    sandbox.settings("comfyui", render_seconds=0)
    (card,) = [card for card in own.cards.values() if card.backend == "comfy-house"]
    config = BackendConfig("comfy-house", {card.id: card}, media, tmp_path, base_url=f"{sandbox.url}/comfyui")
    backend = ComfyUI(config)
    assert (await backend.check())["workflows"] == 1
    for first in (None, media.picture()):
        operation = await backend.submit(fitted(card, first, guidance=4), key=f"job:{first is None}")
        done = await backend.poll(operation)
        assert isinstance(done, Completed)
        await backend.fetch(done.outputs[0], tmp_path / f"{first is None}.mp4")
    with av.open(str(tmp_path / "True.mp4")) as box:
        assert box.duration is not None and box.duration / 1e6 == pytest.approx(121 / 24, abs=0.2)
    assert [row["usd"] for row in sandbox.bill("comfyui")] == ["0", "0"]
    await backend.aclose()
