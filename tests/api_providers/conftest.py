"""Shared by the provider tests: the shipped cards, pictures, backends made as the program makes them, and the twins."""

import hashlib
import io
import wave
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import SecretStr

from api_providers._http import HttpProvider
from api_providers.sandbox._bench import Clip
from api_providers.sandbox._render import render
from router.catalog import Catalog
from router.contract.backend import BackendConfig
from router.contract.card import Asset, InputKey, InputMedia, ResolvedRequest
from router.contract.fit import fit
from router.contract.request import FrameType, VideoRequest
from tests.sandbox_process import SandboxProcess

SECRET = "sandbox-0123456789abcdef"


class FolderMedia:
    """A media store that is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, asset: Asset) -> Path:
        return self.folder / asset.id

    def keep(
        self,
        data: bytes,
        mime: str,
        width: int | None = None,
        height: int | None = None,
        duration_s: float | None = None,
    ) -> InputMedia:
        asset = Asset(
            id=hashlib.sha256(data).hexdigest(),
            mime=mime,
            size_bytes=len(data),
            width=width,
            height=height,
            duration_s=duration_s,
        )
        self.path(asset).write_bytes(data)
        kind: Any = mime.partition("/")[0]
        return InputMedia(asset=asset, type=kind)

    def clip(self, seconds: float = 5) -> InputMedia:
        return self.keep(render(Clip(1280, 720, seconds, "input")), "video/mp4", 1280, 720, seconds)

    def speech(self, seconds: float = 5) -> InputMedia:
        out = io.BytesIO()
        with wave.open(out, "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(bytes(int(seconds * 8000) * 2))
        return self.keep(out.getvalue(), "audio/wav", duration_s=seconds)

    def picture(self, width: int = 640, height: int = 360, colour: str = "teal") -> InputMedia:
        buffer = io.BytesIO()
        Image.new("RGB", (width, height), colour).save(buffer, "PNG")
        return self.keep(buffer.getvalue(), "image/png", width, height)


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return Catalog.load()


@pytest.fixture(scope="session")
def twins() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture
def sandbox(twins: SandboxProcess) -> SandboxProcess:
    twins.reset()
    return twins


@pytest.fixture
def media(tmp_path: Path) -> FolderMedia:
    folder = tmp_path / "media"
    folder.mkdir()
    return FolderMedia(folder)


MakeBackend = Callable[..., Any]


@pytest.fixture
async def make(catalog: Catalog, media: FolderMedia, tmp_path: Path) -> AsyncIterator[MakeBackend]:
    """`make(Runway, base_url)`: configured like the composition root does, closed after the test."""
    made: list[HttpProvider] = []

    def build(
        kind: type[HttpProvider],
        base_url: str | None = None,
        *,
        sandbox: bool = True,
        key: str | None = SECRET,
        **options: Any,
    ) -> HttpProvider:
        entry = f"{kind.__module__}:{kind.__name__}"
        info = next((info for info in catalog.providers.values() if info.entry == entry), None)
        name = info.name if info else kind.__name__.lower()
        backend = kind(
            BackendConfig(
                name=name,
                cards={card.id: card for card in catalog.cards.values() if card.backend == name},
                media=media,
                scratch=tmp_path,
                base_url=base_url,
                key=None if key is None else SecretStr(key),
                options={**(info.options if info else {}), "poll_after": 0.05, **options},
                credit_usd=info.credit_usd if info else Decimal("0.01"),
                sandbox=sandbox,
            )
        )
        made.append(backend)
        return backend

    yield build
    for backend in made:
        await backend.aclose()


Resolve = Callable[..., ResolvedRequest]


@pytest.fixture
def resolve(catalog: Catalog) -> Resolve:
    """`resolve("fal/veo3.1", first=picture, prompt="...")`: the request as the gateway would fit it."""

    def build(
        model: str,
        *,
        first: InputMedia | None = None,
        last: InputMedia | None = None,
        references: Sequence[InputMedia] = (),
        **fields: Any,
    ) -> ResolvedRequest:
        frames = {FrameType.FIRST: first, FrameType.LAST: last}
        given: dict[InputKey, InputMedia] = {kind: m for kind, m in frames.items() if m is not None}
        request = VideoRequest.model_validate(
            {
                "prompt": "" if catalog.cards[model].prompt_max == 0 else "a red fox in the snow",
                "frame_images": [{"frame_type": k, "url": f"asset:{m.asset.id}"} for k, m in given.items()],
                "input_references": [{"type": m.type, "url": f"asset:{m.asset.id}"} for m in references],
                **fields,
            }
        )
        given |= dict(enumerate(references))
        return fit(request, catalog.cards[model], seed=7, inputs=given)

    return build
