"""Files on their way into the media store: real pictures and clips made by PIL and PyAV."""

import asyncio
import base64
import errno
import io
import os
from pathlib import Path

import av
import pytest
from PIL import Image

from router.contract.backend import MediaReader
from router.contract.errors import InvalidRequest, OutputInvalid, ServerTrouble, StorageFull
from router.media import MediaStore
from tests.router.media_files import bomb, clip, png


@pytest.fixture
async def store(tmp_path: Path) -> MediaStore:
    store = MediaStore(tmp_path / "media", min_free_bytes=0, max_input_bytes=2_000_000)
    await store.open()
    return store


def leftovers(store: MediaStore) -> list[Path]:
    return list((store.root / "tmp").iterdir())


# -- pictures


async def test_a_picture_is_kept_under_the_hash_of_its_content(store: MediaStore) -> None:
    data = png(40, 30)
    asset = await store.take_bytes(data)
    assert (asset.mime, asset.width, asset.height, asset.size_bytes) == ("image/png", 40, 30, len(data))
    path = store.path(asset)
    assert path.read_bytes() == data
    assert path.relative_to(store.root).parts == (asset.id[:2], asset.id[2:4], f"{asset.id}.png")
    assert await store.take_bytes(data) == asset
    assert leftovers(store) == []


@pytest.mark.parametrize(("format", "mime"), [("JPEG", "image/jpeg"), ("WEBP", "image/webp")])
async def test_other_formats_are_recognised_by_content(store: MediaStore, format: str, mime: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (20, 10)).save(out, format)
    assert (await store.take_bytes(out.getvalue())).mime == mime


async def test_a_turned_photograph_has_the_size_a_viewer_shows(store: MediaStore) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    Image.new("RGB", (40, 20)).save(out, "JPEG", exif=exif)
    asset = await store.take_bytes(out.getvalue())
    assert (asset.width, asset.height) == (20, 40)


@pytest.mark.parametrize("cut", [30, 200, 1500])
async def test_a_truncated_picture_is_refused(store: MediaStore, cut: int) -> None:
    with pytest.raises(InvalidRequest):
        await store.take_bytes(png()[:-cut] if cut < 200 else png()[:cut])
    assert leftovers(store) == []


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"])
async def test_what_is_no_picture_is_refused_with_the_formats_that_work(
    store: MediaStore, data: bytes
) -> None:
    with pytest.raises(InvalidRequest, match="PNG, JPEG or WebP") as caught:
        await store.take_bytes(data)
    assert "PNG、JPEG、WebP" in caught.value.message.ja


@pytest.mark.parametrize("side", [8_001, 9_500, 30_000])
async def test_a_decompression_bomb_is_refused_by_its_header(store: MediaStore, side: int) -> None:
    with pytest.raises(InvalidRequest, match="64 megapixels"):
        await store.take_bytes(bomb(side, side))


async def test_an_input_above_the_limit_is_refused_before_it_is_written(store: MediaStore) -> None:
    with pytest.raises(InvalidRequest, match="at most 2 MB"):
        await store.take_bytes(bytes(2_000_001))
    assert leftovers(store) == []


async def test_a_file_is_copied_and_left_alone(store: MediaStore, tmp_path: Path) -> None:
    original = tmp_path / "in.png"
    original.write_bytes(png())
    asset = await store.take_file(original)
    assert original.exists() and store.path(asset).read_bytes() == original.read_bytes()


async def test_a_missing_file_or_a_folder_is_the_callers_mistake(store: MediaStore, tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(InvalidRequest, match="Cannot read"):
            await store.take_file(path)


# -- references


async def test_a_data_uri_is_taken_and_an_asset_found_again(store: MediaStore) -> None:
    data = png()
    asset = await store.take_reference("data:image/png;base64," + base64.b64encode(data).decode())
    assert store.path(asset).read_bytes() == data
    assert await store.take_reference(f"asset:{asset.id}") == asset


@pytest.mark.parametrize(
    "ref",
    [
        "data:image/png;base64,!!!!",
        "data:image/png,abc",
        "data:,",
        "asset:" + "0" * 64,
        "asset:../../etc/passwd",
        "file:///etc/passwd",
        "/etc/passwd",
        "ftp://example.org/a.png",
        "https://",
        "https://[::1",
        "",
    ],
)
async def test_a_bad_reference_is_refused_in_both_languages(store: MediaStore, ref: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await store.take_reference(ref)
    assert caught.value.message.en and caught.value.message.ja != caught.value.message.en


async def test_a_data_uri_above_the_limit_is_refused_before_decoding(store: MediaStore) -> None:
    with pytest.raises(InvalidRequest, match="too large"):
        await store.take_reference("data:image/png;base64," + "A" * 3_000_000)


async def test_an_asset_of_another_kind_is_refused(store: MediaStore) -> None:
    asset = await store.take_bytes(png())
    with pytest.raises(InvalidRequest, match="video is needed"):
        await store.take_reference(f"asset:{asset.id}", "video")


# -- clips


async def test_a_clip_is_moved_in_with_its_numbers(store: MediaStore) -> None:
    tmp = clip(store.scratch(".mp4"), 24)
    asset = await store.adopt(tmp)
    assert (asset.mime, asset.width, asset.height, asset.duration_s) == ("video/mp4", 64, 48, 2.0)
    assert not tmp.exists() and store.path(asset).suffix == ".mp4"
    assert leftovers(store) == []
    assert await store.get(asset.id) == asset


@pytest.mark.parametrize("faststart", [True, False])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.99])
async def test_a_truncated_clip_is_invalid_and_removed(
    store: MediaStore, part: float, faststart: bool
) -> None:
    tmp = clip(store.scratch(".mp4"), faststart=faststart)
    data = tmp.read_bytes()
    tmp.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(OutputInvalid):
        await store.adopt(tmp)
    assert leftovers(store) == []


async def test_a_web_page_or_a_picture_instead_of_a_clip_is_invalid(store: MediaStore) -> None:
    for data in (b"<html>Not found</html>", png(), b"#EXTM3U\nfile:///etc/passwd"):
        tmp = store.scratch(".mp4")
        tmp.write_bytes(data)
        with pytest.raises(OutputInvalid, match="not a video"):
            await store.adopt(tmp)


async def test_a_long_clip_that_was_cut_is_found_without_decoding_it_whole(store: MediaStore) -> None:
    whole = clip(store.scratch(".mp4"), 12 * 65, size=(16, 16))
    cut = store.scratch(".mp4")
    cut.write_bytes(whole.read_bytes()[:-400])
    assert (await store.adopt(whole)).duration_s == 65
    with pytest.raises(OutputInvalid):
        await store.adopt(cut)


async def test_a_poster_is_a_jpeg_of_the_first_frame(store: MediaStore) -> None:
    video = await store.adopt(clip(store.scratch(".mp4")))
    poster = await store.poster(video)
    assert (poster.mime, poster.width, poster.height) == ("image/jpeg", 64, 48)


async def test_a_sound_file_is_taken_as_audio_only(store: MediaStore, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=8000)
        frame.rate = 8000
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
    asset = await store.take_file(path, "audio")
    assert asset.mime == "audio/wav" and asset.duration_s == pytest.approx(1, abs=0.1)
    with pytest.raises(InvalidRequest):
        await store.take_file(path, "video")


# -- the folder


async def test_a_backend_reads_through_the_same_store(store: MediaStore) -> None:
    reader: MediaReader = store
    assert reader.path(await store.take_bytes(png())).is_file()


async def test_every_process_reads_the_same_identity(store: MediaStore) -> None:
    again = MediaStore(store.root)
    await again.open()
    assert again.identity == store.identity and len(store.identity) == 32


async def test_processes_that_open_at_once_agree_on_the_identity(tmp_path: Path) -> None:
    stores = [MediaStore(tmp_path / "new") for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    assert len({store.identity for store in stores}) == 1


async def test_what_a_crash_left_a_day_ago_is_removed_at_start(store: MediaStore) -> None:
    old, new = store.scratch(), store.scratch()
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    await store.open()
    assert leftovers(store) == [new]


async def test_a_folder_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ServerTrouble, match="media folder"):
        await MediaStore(tmp_path / "file" / "media").open()


async def test_removing_twice_is_no_error_and_then_it_is_gone(store: MediaStore) -> None:
    asset = await store.take_bytes(png())
    await store.remove(asset.id)
    await store.remove(asset.id)
    with pytest.raises(InvalidRequest, match="There is no media file"):
        await store.get(asset.id)


async def test_room_is_checked_against_the_minimum(tmp_path: Path) -> None:
    store = MediaStore(tmp_path, min_free_bytes=10**18)
    await store.open()
    with pytest.raises(StorageFull):
        await store.ensure_room(1)


async def test_a_full_disk_is_storage_full_and_leaves_nothing(
    store: MediaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    tmp = clip(store.scratch(".mp4"))
    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(StorageFull):
        await store.take_bytes(png())
    with pytest.raises(StorageFull):
        await store.adopt(tmp)
