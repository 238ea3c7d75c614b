"""Steps after the clip, carried by a real engine: what is stored and told, and that a paid clip is never lost for them."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from router.cli import main
from router.contract import errors
from router.contract.job import Job, Status
from router.gateway import EngineRole, Gateway
from router.settings import Settings
from tests import fakes
from tests.fakes import write_provider
from tests.router import media_files
from tests.router.house import ask, end, kinds, serving
from tests.router.server.conftest import running


@pytest.fixture
async def gateway(tmp_path: Path, clip_file: Path) -> AsyncIterator[Gateway]:
    write_provider(tmp_path, "studio")
    fakes.clips[:] = [clip_file]
    async with serving(tmp_path) as opened:
        yield opened
    fakes.studios.clear()


async def run(gateway: Gateway, *post: str) -> Job:
    return await end(gateway, await gateway.submit(ask("studio", post=post)))


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def size_of(path: Path) -> tuple[int, int, int]:
    with av.open(str(path)) as box:
        stream = box.streams.video[0]
        return stream.width, stream.height, sum(1 for _ in box.decode(stream))


def files(gateway: Gateway) -> set[str]:
    """Names of all assets in the media folder, and whatever lies in its scratch folder."""
    root = gateway.settings.home / "media"
    return {path.name for path in root.rglob("*") if path.is_file() and path.name != ".store-id"} | {
        f"tmp/{path.name}" for path in (root / "tmp").iterdir()
    }


async def test_the_output_is_the_processed_clip_and_the_original_stays(
    gateway: Gateway, clip_file: Path
) -> None:
    job = await run(gateway, "fps=24", "upscale=2", "gif")
    assert (job.status, job.billed_usd, job.warnings) == (Status.COMPLETED, Decimal("0.5"), ())
    clip, asset = await gateway.content(job.id)
    assert size_of(clip) == (128, 96, 24)
    assert (asset.width, asset.height) == (128, 96)
    original, _ = await gateway.content(job.id, "original")
    assert bytes_of(original) == bytes_of(clip_file)
    assert job.details["original"] == original.stem
    preview, shown = await gateway.content(job.id, "preview")
    assert (shown.mime, preview.suffix) == ("image/gif", ".gif")
    with Image.open(preview) as picture:
        assert getattr(picture, "n_frames", 1) > 5
    still, _ = await gateway.content(job.id, "thumbnail")
    with Image.open(still) as picture:
        assert picture.size == (128, 96)
    assert len(files(gateway)) == 4, "clip, original, still and preview: nothing else was left behind"
    assert "processing" in await kinds(gateway, job)


async def test_without_steps_nothing_is_processed(gateway: Gateway) -> None:
    job = await run(gateway)
    assert "processing" not in await kinds(gateway, job)
    assert (job.details, job.preview, job.original_id) == ({}, None, None)
    assert (await gateway.content(job.id, "original"))[1] == job.output
    with pytest.raises(errors.NotFound, match="no preview"):
        await gateway.content(job.id, "preview")


async def test_a_poster_of_its_own_time_replaces_the_first_frame(gateway: Gateway) -> None:
    plain, later = await run(gateway), await run(gateway, "poster=0.6")
    assert later.output == plain.output
    assert later.poster is not None and plain.poster is not None
    assert later.poster.id != plain.poster.id


async def test_a_step_that_fails_leaves_the_paid_clip_with_a_warning(
    gateway: Gateway, clip_file: Path
) -> None:
    job = await run(gateway, "upscale=2", "loop=crossfade", "webp")
    assert (job.status, job.billed_usd, len(job.attempts)) == (Status.COMPLETED, Decimal("0.5"), 1)
    clip, _ = await gateway.content(job.id)
    assert bytes_of(clip) == bytes_of(clip_file)
    (warning,) = job.warnings
    assert warning.en.startswith(
        "What was asked for after the clip (upscale, loop, webp) was not done: loop=crossfade"
    )
    assert "12 フレームしかなく" in warning.ja
    assert job.details == {}
    assert len(files(gateway)) == 2


async def test_a_step_with_nothing_to_do_says_so(gateway: Gateway) -> None:
    job = await run(gateway, "fps=12")
    assert job.original_id is None
    assert "already has 12 frames per second" in job.warnings[0].en


async def test_a_cancel_while_it_is_processed_ends_with_the_clip_as_it_came(
    gateway: Gateway, tmp_path: Path
) -> None:
    long = media_files.clip(tmp_path / "long.mp4", frames=240)
    fakes.studio("studio").fetches.append(long)
    job = await gateway.submit(ask("studio", post=["fps=120", "upscale=4", "webp=1280"]))
    async with asyncio.timeout(30):
        while "processing" not in await kinds(gateway, job):
            await gateway._db.pulse.wait(gateway._db.pulse.count, 0.1)
    await gateway.cancel(job.id)
    job = await end(gateway, job)
    assert job.status is Status.COMPLETED
    assert bytes_of((await gateway.content(job.id))[0]) == bytes_of(long)
    told = " ".join(warning.en for warning in job.warnings)
    assert "the job was cancelled" in told
    assert "cancel came too late" in told
    assert len(files(gateway)) == 2


async def test_deleting_a_job_removes_every_file_that_no_other_job_needs(gateway: Gateway) -> None:
    made, plain = await run(gateway, "upscale=2", "gif"), await run(gateway)
    assert plain.output is not None and made.original_id == plain.output.id
    await gateway.delete(plain.id)
    assert (await gateway.content(made.id, "original"))[0].is_file(), "the other job's original"
    again = await run(gateway)
    await gateway.delete(made.id)
    left = {name.partition(".")[0] for name in files(gateway)}
    assert again.output is not None and again.poster is not None
    assert left == {again.output.id, again.poster.id}
    await gateway.delete(again.id)
    assert files(gateway) == set()


async def test_the_http_door_takes_steps_and_gives_every_file(tmp_path: Path, clip_file: Path) -> None:
    write_provider(tmp_path, "studio")
    fakes.clips[:] = [clip_file]
    environ = {"UNDERSTUDY_HOME": str(tmp_path), "UNDERSTUDY_LOCAL_ENABLED": "false"}
    gateway = Gateway.open(Settings.load(environ), EngineRole.SERVE)
    async with running(gateway) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        form = {"prompt": "x", "model": "studio/clip", "post": '["upscale=2", {"do": "webp", "width": 32}]'}
        for body in ({"json": {**form, "post": ["upscale=2", "webp=32"]}}, {"files": _form(form)}):
            answer = await client.post("/v1/videos", **body)
            assert answer.status_code == 200, answer.text
            job = await end(gateway, await gateway.get(answer.json()["id"]))
            preview = await client.get(f"/v1/videos/{job.id}/content", params={"variant": "preview"})
            assert preview.headers["content-type"] == "image/webp"
            assert preview.headers["content-disposition"] == f'inline; filename="{job.id}-preview.webp"'
            original = await client.get(f"/v1/videos/{job.id}/content", params={"variant": "original"})
            assert original.content == bytes_of(clip_file)
            names = {
                (await client.head(f"/v1/videos/{job.id}/content", params={"variant": variant})).headers[
                    "content-disposition"
                ]
                for variant in ("video", "original", "preview", "thumbnail")
            }
            files = ("", "-original", "-preview", "-thumbnail"), (".mp4", ".mp4", ".webp", ".jpg")
            assert names == {
                f'inline; filename="{job.id}{part}{end}"' for part, end in zip(*files, strict=True)
            }
        wrong = await client.post("/v1/videos", json={"prompt": "x", "post": ["sharpen"]})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "post.0")
        schema = (await client.get("/openapi.json")).json()["components"]["schemas"]
        assert {"Fps", "Upscale", "Loop", "Poster", "Preview"} <= set(schema)
        assert "post" in schema["VideoRequest"]["properties"]
    fakes.studios.clear()


def _form(fields: dict[str, str]) -> Any:
    return {name: (None, value) for name, value in fields.items()}


def test_the_command_line_takes_steps_and_copies_the_preview(
    tmp_path: Path, clip_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    write_provider(home, "studio")
    fakes.clips[:] = [clip_file]
    environ = {"UNDERSTUDY_HOME": str(home), "UNDERSTUDY_LOCAL_ENABLED": "false"}
    asked = ["generate", "x", "--model", "studio/clip", "--out", str(tmp_path / "fox.mp4")]
    code = main([*asked, "--post", "upscale=2", "--post", "gif"], environ=environ)
    said = capsys.readouterr()
    assert code == 0, said.err
    assert size_of(tmp_path / "fox.mp4")[:2] == (128, 96)
    with Image.open(tmp_path / "fox.gif") as picture:
        assert picture.format == "GIF"
    assert said.out.splitlines()[-2:] == [str(tmp_path / "fox.mp4"), str(tmp_path / "fox.gif")]
    asked[-1] = str(tmp_path / "wolf.gif")
    assert main([*asked, "--post", "gif", "--post", "poster=0.1"], environ=environ) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "wolf.jpg")
    with Image.open(tmp_path / "wolf.jpg") as picture:
        assert picture.format == "JPEG"
    assert (tmp_path / "wolf.gif").read_bytes() == bytes_of(clip_file), (
        "the clip is not overwritten by its preview"
    )
    assert (tmp_path / "wolf-preview.gif").is_file()
    assert main([*asked, "--post", "sharpen"], environ=environ) == 2
    assert "--post.0: must be one of 'fps'" in capsys.readouterr().err
    fakes.studios.clear()
