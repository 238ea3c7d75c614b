"""What may be done to a finished clip: the steps as data, what they make of real files, and that they end when told."""

import asyncio
import json
import math
import sys
from array import array
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import psutil
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from router.contract.post import PostStep
from router.contract.refusals import refusal
from router.contract.request import VideoRequest
from router.media.post import PostFailed, Processed, process

RATE = 12
SIZE = (96, 64)
STEPS: TypeAdapter[tuple[PostStep, ...]] = TypeAdapter(tuple[PostStep, ...])


# -- as data


def asked(*post: Any, **fields: Any) -> VideoRequest:
    return VideoRequest.model_validate({"prompt": "x", "post": list(post), **fields})


def test_text_and_object_are_the_same_step() -> None:
    short = asked("fps=24", "upscale=2", "loop=crossfade", "gif=320")
    long = asked(
        {"do": "fps", "fps": 24},
        {"do": "upscale", "factor": 2},
        {"do": "loop", "style": "crossfade"},
        {"do": "gif", "width": 320},
    )
    assert short == long
    stored = VideoRequest.model_validate_json(short.model_dump_json(exclude_defaults=True))
    assert stored == short, "as the database keeps it"


@pytest.mark.parametrize(
    ("post", "said"),
    [
        (["zoom"], "post.0: must be one of 'fps', 'upscale', 'loop', 'poster', 'gif', 'webp'"),
        ([{"fps": 24}], "post.0: needs 'do', the name of the step"),
        ([{"do": "gif", "colours": 8}], "post.0.gif.colours: is not a known field"),
        (["loop=spin"], "post.0.loop.style: must be one of 'boomerang'"),
        (["gif.fps=3"], "post.0: must be one of"),
        (["fps"], "post.0.fps.fps: is missing"),
        (["fps=121"], "post.0.fps.fps: must be at most 120"),
        (["upscale=4.5"], "post.0.upscale.factor: must be at most 4"),
        (["upscale=1"], "post.0.upscale.factor: must be more than 1"),
        (["poster=-1"], "post.0.poster.at: must be at least 0"),
        (["fps=24", "upscale=2", "loop", "poster=1", "gif", "webp"], "post: has too many entries: at most 5"),
        (["gif", "webp"], "post: give each step once"),
        (["loop", "loop=crossfade"], "post: give each step once"),
    ],
)
def test_a_wrong_step_is_told_in_both_languages(post: list[Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        asked(*post)
    message = refusal(caught.value).message
    assert message.en.startswith(said)
    assert message.ja != message.en


@pytest.mark.parametrize(
    ("resolution", "factor", "fits"),
    [("1080p", 4, True), ("4k", 2, True), ("4k", 2.1, False), ("3840x2160", 4, False), (None, 4, True)],
)
def test_the_result_is_at_most_8k(resolution: str | None, factor: float, fits: bool) -> None:
    if fits:
        asked(f"upscale={factor}", resolution=resolution)
        return
    with pytest.raises(ValidationError) as caught:
        asked(f"upscale={factor}", resolution=resolution)
    assert "7680x4320 ピクセルを超えます" in refusal(caught.value).message.ja


def test_a_single_image_has_no_steps() -> None:
    with pytest.raises(ValidationError, match="single image cannot be processed"):
        asked("upscale=2", task="text-to-image")


# -- as files


class Seen(NamedTuple):
    frames: int
    rate: Fraction
    size: tuple[int, int]
    seconds: float
    sound_s: float | None


def looked_at(path: Path) -> Seen:
    """What a player finds: frames are counted by decoding all of them."""
    with av.open(str(path)) as box:
        stream = box.streams.video[0]
        rate, size = Fraction(stream.average_rate or 0), (stream.width, stream.height)
        frames = sum(1 for _ in box.decode(stream))
    sound = None
    with av.open(str(path)) as box:
        if box.streams.audio:
            times = [frame.time or 0.0 for frame in box.decode(box.streams.audio[0])]
            sound = times[-1] - times[0]
    return Seen(frames, rate, size, frames / float(rate), sound)


def brightness(path: Path) -> list[int]:
    """Mean luma of every frame, which is what `film` lets rise from frame to frame."""
    with av.open(str(path)) as box:
        return [round(sum(_luma(f)) / (f.width * f.height)) for f in box.decode(box.streams.video[0])]


def _luma(frame: Any) -> bytes:
    return bytes(frame.to_image().convert("L").tobytes())


def film(
    path: Path,
    frames: int = 24,
    *,
    sound: bool = False,
    codec: str = "libx264",
    over: Image.Image | None = None,
    about: dict[str, str] | None = None,
) -> Path:
    """A clip that gets brighter by 8 with every frame, at 12 frames per second; or one that moves over a picture."""
    with av.open(str(path), "w", format="matroska" if path.suffix == ".mkv" else "mp4") as box:
        box.metadata.update(about or {})
        stream: Any = box.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        tone: Any = (
            box.add_stream("pcm_s16le" if path.suffix == ".mkv" else "aac", rate=16_000) if sound else None
        )
        make: Any = av.VideoFrame
        for number in range(frames):
            flat = Image.new("RGB", SIZE, (min(8 * number, 255),) * 3)
            seen = flat if over is None else over.crop((number, number, number + SIZE[0], number + SIZE[1]))
            box.mux(stream.encode(make.from_image(seen)))
        box.mux(stream.encode())
        if tone is not None:
            count = round(frames / RATE * 16_000)
            wave = array("h", (int(9000 * math.sin(n / 8)) for n in range(count)))
            samples = av.AudioFrame(format="s16", layout="mono", samples=count)
            samples.planes[0].update(wave.tobytes())
            samples.sample_rate, samples.pts = 16_000, 0
            box.mux(tone.encode(samples))
            box.mux(tone.encode())
    return path


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


async def done(source: Path, into: Path, *steps: str) -> Processed:
    return await process(source, STEPS.validate_python(steps), into, limit_s=60)


async def test_more_frames_in_the_same_time_with_the_same_sound(tmp_path: Path, into: Path) -> None:
    source = film(tmp_path / "a.mp4", sound=True)
    made = await done(source, into, "fps=30")
    assert made.clip is not None and made.warnings == ()
    before, after = looked_at(source), looked_at(made.clip)
    assert (after.frames, after.rate, after.size) == (60, Fraction(30), before.size)
    assert after.seconds == before.seconds == 2.0
    assert after.sound_s == before.sound_s is not None
    levels = brightness(made.clip)
    assert 0 < max(abs(b - a) for a, b in pairwise(levels)) < 8, "really between, not repeated"


@pytest.mark.parametrize("frames", [1, 2, 7])
async def test_short_clips_keep_their_length_too(tmp_path: Path, into: Path, frames: int) -> None:
    made = await done(film(tmp_path / "a.mp4", frames), into, "fps=24")
    assert made.clip is not None
    assert looked_at(made.clip).frames == 2 * frames


async def test_a_rate_that_it_has_already_leaves_the_clip_and_says_so(tmp_path: Path, into: Path) -> None:
    made = await done(film(tmp_path / "a.mp4"), into, "fps=12")
    assert made.clip is None
    assert "already has 12 frames" in made.warnings[0].en
    assert "12 fps" in made.warnings[0].ja


async def test_a_larger_picture_has_even_sides_and_everything_else_stays(tmp_path: Path, into: Path) -> None:
    source = film(tmp_path / "a.mp4", sound=True)
    made = await done(source, into, "upscale=1.51")
    assert made.clip is not None
    assert looked_at(made.clip) == looked_at(source)._replace(size=(144, 96))
    assert brightness(made.clip)[::6] == pytest.approx(brightness(source)[::6], abs=2)


async def test_a_boomerang_goes_back_without_a_standing_frame(tmp_path: Path, into: Path) -> None:
    source = film(tmp_path / "a.mp4", sound=True)
    made = await done(source, into, "loop")
    assert made.clip is not None
    levels = brightness(made.clip)
    assert len(levels) == 2 * 24 - 2
    assert levels[:24] == pytest.approx(brightness(source), abs=2)
    assert levels[24:] == pytest.approx(levels[22:0:-1], abs=2)
    assert looked_at(made.clip).sound_s == looked_at(source).sound_s, "the sound plays once"


async def test_a_crossfade_ends_where_it_begins(tmp_path: Path, into: Path) -> None:
    source = film(tmp_path / "a.mp4", sound=True)
    made = await done(source, into, "loop=crossfade")
    assert made.clip is not None
    levels, original = brightness(made.clip), brightness(source)
    assert len(levels) == 24 - 6
    assert levels[:12] == pytest.approx(original[6:18], abs=2)
    assert levels[-1] == pytest.approx(original[23] / 7 + original[5] * 6 / 7, abs=3), (
        "almost the frame before it"
    )
    sound, whole = looked_at(made.clip).sound_s, looked_at(source).sound_s
    assert sound is not None and whole is not None
    assert sound == pytest.approx(whole - 0.5, abs=0.1)


@pytest.mark.parametrize(("pixels", "matrix"), [("yuv420p", 1), ("yuv420p", 5), ("yuvj420p", 1)])
@pytest.mark.parametrize("step", ["loop=crossfade", "loop", "upscale=1.5", "fps=24"])
async def test_no_step_changes_the_colours(
    tmp_path: Path, into: Path, pixels: str, matrix: int, step: str
) -> None:
    """Also within the clip: a faded frame that is a shade off would flash at every repetition."""
    source = tmp_path / "a.mp4"
    with av.open(str(source), "w") as box:
        stream: Any = box.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        whole = 2 if pixels == "yuvj420p" else 1
        stream.codec_context.color_range, stream.codec_context.colorspace = whole, matrix
        for _ in range(24):
            frame: Any = av.VideoFrame(*SIZE, pixels)
            frame.color_range, frame.colorspace = whole, matrix
            for plane, level in zip(frame.planes, (90, 100, 190), strict=True):
                plane.update(bytes([level]) * (plane.line_size * plane.height))
            box.mux(stream.encode(frame))
        box.mux(stream.encode())
    made = (await done(source, into, step)).clip
    assert made is not None
    (before,) = colours(source)
    for found in colours(made):
        assert found == pytest.approx(before, abs=1)


def colours(path: Path) -> set[tuple[int, ...]]:
    """The colour in the middle of each frame as a player shows it, and how the file says it is to be read."""
    with av.open(str(path)) as box:
        stream = box.streams.video[0]
        shown = {tuple(frame.to_ndarray(format="rgb24")[20, 20].tolist()) for frame in box.decode(stream)}
        said = stream.codec_context.color_range, stream.codec_context.colorspace
    return {(*pixel, *(int(code) for code in said)) for pixel in shown}


async def test_steps_follow_each_other_in_one_encode(tmp_path: Path, into: Path) -> None:
    made = await done(film(tmp_path / "a.mp4"), into, "fps=24", "upscale=2", "loop", "webp=48")
    assert made.clip is not None and made.preview is not None
    after = looked_at(made.clip)
    assert (after.frames, after.rate, after.size) == (2 * 48 - 2, Fraction(24), (192, 128))
    with Image.open(made.preview) as picture:
        assert picture.size == (48, 32)


@pytest.mark.parametrize("comment", ['{"seed": 7, "prompt": "赤い円"}', "made by hand", "[1]", None])
async def test_what_the_clip_says_of_itself_stays_with_what_was_done_to_it(
    tmp_path: Path, into: Path, comment: str | None
) -> None:
    source = film(tmp_path / "a.mp4", 4, about={"title": "円", **({"comment": comment} if comment else {})})
    made = (await done(source, into, "upscale=2", "loop")).clip
    assert made is not None
    with av.open(str(made)) as box:
        assert box.metadata["title"] == "円"
        found = box.metadata.get("comment")
    if comment is None or not comment.startswith("{"):
        assert found == comment
    else:
        assert found is not None
        steps = [{"do": "upscale", "factor": 2.0}, {"do": "loop", "style": "boomerang", "fade_s": 0.5}]
        assert json.loads(found) == {"seed": 7, "prompt": "赤い円", "post": steps}


async def test_the_same_steps_on_the_same_clip_are_the_same_bytes(
    tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Image.effect_noise((35, 25), 90).resize((140, 100)).convert("RGB")
    source, made = film(tmp_path / "a.mp4", sound=True, over=noise), set()
    for perturb in ("1", "85", "254"):
        # glibc fills what it hands out with this byte: x264 read such memory and chose by it.
        monkeypatch.setenv("MALLOC_PERTURB_", perturb)
        monkeypatch.setenv("GLIBC_TUNABLES", f"glibc.malloc.perturb={perturb}")
        clip = (await done(source, into, "fps=24", "upscale=3.7")).clip
        assert clip is not None
        made.add(clip.read_bytes())
    assert len(made) == 1


async def test_the_poster_is_the_frame_of_that_time(tmp_path: Path, into: Path) -> None:
    source = film(tmp_path / "a.mp4")
    for at, frame in (("0", 0), ("1", 12), ("1.04", 12), ("600", 23)):
        made = await done(source, into, f"poster={at}")
        assert made.clip is None and made.poster is not None
        with Image.open(made.poster) as picture:
            assert (picture.format, picture.size) == ("JPEG", SIZE)
            level = picture.convert("L").getpixel((5, 5))
        assert level == pytest.approx(8 * frame, abs=4), at


@pytest.mark.parametrize("kind", ["gif", "webp"])
async def test_a_preview_is_as_long_as_the_clip(tmp_path: Path, into: Path, kind: str) -> None:
    made = await done(film(tmp_path / "a.mp4"), into, f"{kind}=48")
    assert made.clip is None and made.preview is not None
    with Image.open(made.preview) as picture:
        assert (picture.format, picture.size) == (kind.upper(), (48, 32))
        frames = getattr(picture, "n_frames", 1)
        length = 0
        for number in range(frames):
            picture.seek(number)
            picture.load()
            length += picture.info["duration"]
    assert frames > 10
    assert length == pytest.approx(2000, abs=100)


async def test_a_preview_is_never_wider_than_the_clip(tmp_path: Path, into: Path) -> None:
    made = await done(film(tmp_path / "a.mp4"), into, "gif")
    assert made.preview is not None
    with Image.open(made.preview) as picture:
        assert picture.size == SIZE


# -- what goes wrong


async def test_a_clip_too_short_for_a_crossfade_is_told(tmp_path: Path, into: Path) -> None:
    with pytest.raises(PostFailed) as caught:
        await done(film(tmp_path / "a.mp4", 8), into, "loop=crossfade")
    assert "too short" in caught.value.message.en
    assert "短すぎます" in caught.value.message.ja


async def test_a_file_that_is_no_clip_is_told(tmp_path: Path, into: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no clip")
    with pytest.raises(PostFailed, match="Invalid data"):
        await done(tmp_path / "a.mp4", into, "upscale=2")


async def test_sound_that_no_mp4_can_carry_is_told_and_not_dropped(tmp_path: Path, into: Path) -> None:
    with pytest.raises(PostFailed, match="sound in pcm_s16le cannot be kept"):
        await done(film(tmp_path / "a.mkv", sound=True), into, "upscale=2")


def children() -> set[int]:
    mine = psutil.Process().children(recursive=True)
    return {child.pid for child in mine if "router.media._post_work" in child.cmdline()}


async def started() -> set[int]:
    """The child process, as soon as the system shows it."""
    async with asyncio.timeout(30):
        while not (running := children()):  # noqa: ASYNC110 -- only the process table tells
            await asyncio.sleep(0.01)
    return running


async def test_the_time_limit_ends_the_work(tmp_path: Path, into: Path) -> None:
    source = film(tmp_path / "a.mp4")
    with pytest.raises(PostFailed) as caught:
        await process(source, STEPS.validate_python(["upscale=2"]), into, limit_s=0.01)
    assert "not done after" in caught.value.message.en
    assert children() == set()


async def test_a_cancel_ends_the_process_at_once(tmp_path: Path, into: Path) -> None:
    source = film(tmp_path / "a.mp4", 31)
    task = asyncio.create_task(done(source, into, "fps=120", "upscale=4"))
    running = await started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(psutil.pid_exists(pid) for pid in running)


async def test_the_work_ends_with_a_server_that_is_killed(tmp_path: Path, into: Path) -> None:
    source = film(tmp_path / "a.mp4", 900)
    code = (
        "import asyncio, sys; from pathlib import Path; from router.contract.post import Fps, Upscale; "
        "from router.media.post import process; "
        "asyncio.run(process(Path(sys.argv[1]), (Fps(do='fps', fps=120), Upscale(do='upscale', factor=4)), "
        "Path(sys.argv[2])))"
    )
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(source), str(into))
    (worker,) = [psutil.Process(pid) for pid in await started()]
    server.kill()
    await server.wait()
    gone, alive = await asyncio.to_thread(psutil.wait_procs, [worker], 10)
    assert (len(gone), alive) == (1, []), "9000 frames take longer than that"


async def test_a_killed_process_is_told(tmp_path: Path, into: Path) -> None:
    source = film(tmp_path / "a.mp4", 31)
    task = asyncio.create_task(done(source, into, "fps=120", "upscale=4"))
    running = await started()
    for pid in running:
        psutil.Process(pid).kill()
    with pytest.raises(PostFailed, match="ended with -9"):
        await task
