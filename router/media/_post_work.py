"""The child process of `post`: reads one order as JSON on stdin, works with PyAV and PIL, answers one JSON line on stdout.

Frames stream through the steps; only a boomerang holds them all. Video is H.264 (CRF 17), sound is copied untouched.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.filter import Graph
from PIL import Image
from pydantic import BaseModel

from router.contract.post import MOST_PIXELS, Fps, Loop, Poster, PostStep, Preview, Upscale
from router.contract.words import Words, words
from router.media.probe import POSTER_SIDE

HELD_BYTES = 2_000_000_000
"""Raw frames that a loop may hold in memory."""
CLONES = 4
"""minterpolate looks ahead and ends two frames early: the last frame is fed so many times more."""
PREVIEW_FRAMES = 300
ORPHAN_LOOK_S = 1.0
CODING = {"crf": "17", "preset": "medium", "x264-params": "cpu-independent=1:threads=4:sliced-threads=0"}
"""The x264 parameters make equal frames equal bytes; local_models/_encode.py says why."""
OF_THE_FILE = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
"""Metadata that the container's writer makes itself."""
COPIED = frozenset({"aac", "mp3", "opus", "ac3", "eac3", "alac"})
"""Sound that an MP4 file can carry as it is."""


class Order(BaseModel):
    """What the parent asks for."""

    source: Path
    into: Path
    """A folder for what is made."""
    steps: tuple[PostStep, ...]
    parent: int
    """Process id of who asks: with it the work ends."""
    limit_s: int
    """After so many seconds the process ends itself, should nobody end it."""


class Answer(BaseModel):
    """What the child says: file names inside `into`, or why it failed."""

    clip: str | None = None
    poster: str | None = None
    preview: str | None = None
    warnings: tuple[Words, ...] = ()
    error: Words | None = None


class StepFailed(Exception):
    """A step that cannot be done; `message` names it."""

    def __init__(self, en: str, ja: str) -> None:
        """The same sentence in both languages."""
        super().__init__(en)
        self.message = words(en, ja)


@dataclass(frozen=True)
class Film:
    """Frames on their way, in constant time steps of 1/rate."""

    rate: Fraction
    width: int
    height: int
    frames: Iterator[Any]
    sound_from: Fraction = Fraction(0)
    """Seconds into the source at which its sound begins to go with the frames."""
    warnings: tuple[Words, ...] = ()


def main() -> None:
    """One order, one answer."""
    order = Order.model_validate_json(sys.stdin.buffer.read())
    signal.alarm(order.limit_s)
    threading.Thread(target=_end_with, args=(order.parent,), daemon=True).start()
    with contextlib.suppress(OSError):
        os.nice(10)
    try:
        answer = work(order)
    except StepFailed as failed:
        answer = Answer(error=failed.message)
    except (av.FFmpegError, OSError, ValueError, MemoryError, EOFError) as error:
        text = f"{type(error).__name__}: {error}"[:300]
        answer = Answer(error=words(text, text))
    sys.stdout.write(answer.model_dump_json() + "\n")


def _end_with(parent: int) -> None:
    """A server that is killed cannot end its child: the child sees that it was orphaned."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_LOOK_S)
    os._exit(1)


def work(order: Order) -> Answer:
    """Do the steps; raises StepFailed and what PyAV and PIL raise."""
    clip, warnings = order.source, tuple[Words, ...]()
    changing = [step for step in order.steps if isinstance(step, Fps | Upscale | Loop)]
    answer = Answer()
    if changing:
        warnings, changed = _clip(order.source, changing, order.into / "clip.mp4")
        if changed:
            clip = order.into / "clip.mp4"
            answer.clip = clip.name
    for step in order.steps:
        if isinstance(step, Poster):
            _still(clip, step.at, order.into / "poster.jpg")
            answer.poster = "poster.jpg"
        if isinstance(step, Preview):
            answer.preview = f"preview.{step.do}"
            _preview(clip, step, order.into / answer.preview)
    answer.warnings = warnings
    return answer


# -- the clip


def _clip(source: Path, steps: list[Any], to: Path) -> tuple[tuple[Words, ...], bool]:
    """Warnings, and whether a clip was written: steps that all had nothing to do leave the original."""
    with av.open(str(source)) as video, av.open(str(source)) as audio:
        film = start = _read(video)
        for step in steps:
            film = STEPS[type(step)](film, step)
        if film.frames is start.frames:
            return film.warnings, False
        if film.width * film.height > MOST_PIXELS:
            raise StepFailed(
                f"{film.width}x{film.height} is more than 7680x4320 pixels",
                f"{film.width}x{film.height} は 7680x4320 ピクセルを超えています",
            )
        _write(film, video.streams.video[0], audio, _told(video.metadata, steps), to)
    return film.warnings, True


def _told(metadata: Mapping[str, str], steps: list[Any]) -> dict[str, str]:
    """What the clip says of itself, and what was done to it: a processed clip can be made again too."""
    kept = {key: value for key, value in metadata.items() if key not in OF_THE_FILE}
    with contextlib.suppress(ValueError):
        facts = json.loads(kept.get("comment", ""))
        if isinstance(facts, dict):
            done = [step.model_dump(mode="json") for step in steps]
            kept["comment"] = json.dumps({**facts, "post": done}, ensure_ascii=False)
    return kept


def _read(container: Any) -> Film:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    rate = stream.average_rate or stream.guessed_rate
    if not rate:
        raise StepFailed("the clip does not say its frame rate", "動画のフレームレートが不明です")
    codec = stream.codec_context
    return Film(Fraction(rate), codec.width, codec.height, container.decode(stream))


def _interpolated(film: Film, step: Fps) -> Film:
    if step.fps <= film.rate:
        told = words(
            f"fps={step.fps} was left out: the clip already has {float(film.rate):g} frames per second.",
            f"fps={step.fps} は適用しませんでした。動画はすでに {float(film.rate):g} fps です。",
        )
        return replace(film, warnings=(*film.warnings, told))
    return replace(film, rate=Fraction(step.fps), frames=_between(film, step.fps))


def _between(film: Film, fps: int) -> Iterator[Any]:
    graph: Any = Graph()
    ticks = 1 / film.rate
    buffer = graph.add_buffer(width=film.width, height=film.height, format="yuv420p", time_base=ticks)
    options = f"fps={fps}:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1:scd=fdiff"
    graph.link_nodes(buffer, graph.add("minterpolate", options), graph.add("buffersink")).configure()
    last, sent, given = None, 0, 0

    def push(frame: Any) -> Iterator[Any]:
        frame.pts, frame.time_base = sent, ticks
        buffer.push(frame)
        with contextlib.suppress(BlockingIOError, EOFError):
            while True:
                yield graph.vpull()

    for frame in film.frames:
        last = frame.reformat(format="yuv420p")
        for made in push(last):
            given += 1
            yield made
        sent += 1
    if last is None:
        return
    missing = round(sent * fps / film.rate) - given
    for _ in range(CLONES):
        made_now = list(islice(push(last), max(missing, 0)))
        missing -= len(made_now)
        sent += 1
        yield from made_now
    yield from (last for _ in range(missing))


def _upscaled(film: Film, step: Upscale) -> Film:
    width, height = (max(2, round(side * step.factor / 2) * 2) for side in (film.width, film.height))
    frames = (frame.reformat(width=width, height=height, interpolation="LANCZOS") for frame in film.frames)
    return replace(film, width=width, height=height, frames=frames)


def _looped(film: Film, step: Loop) -> Film:
    if step.style == "boomerang":
        return replace(film, frames=_there_and_back(film))
    fade = max(1, round(step.fade_s * film.rate))
    return replace(film, frames=_faded(film, fade), sound_from=film.sound_from + fade / film.rate)


def _holds(film: Film) -> int:
    """Raw frames of that size that may be held at once."""
    return HELD_BYTES // max(1, film.width * film.height * 3 // 2)


def _there_and_back(film: Film) -> Iterator[Any]:
    """Forward, then backward without the two ends, so that no frame stands still when it is repeated."""
    held: list[Any] = []
    most = _holds(film)
    for frame in film.frames:
        held.append(frame)
        if len(held) > most:
            raise StepFailed(
                f"loop: more than {most} frames of {film.width}x{film.height} do not fit into memory; "
                "use loop=crossfade",
                f"loop: {film.width}x{film.height} のフレームが {most} 枚を超え、メモリに収まりません。"
                "loop=crossfade を使用してください",
            )
        yield frame
    yield from held[-2:0:-1]


def _faded(film: Film, fade: int) -> Iterator[Any]:
    """From frame `fade` on; the last `fade` frames turn into the first ones, which the repetition then goes on from."""
    if 2 * fade > _holds(film):
        raise StepFailed(
            f"loop=crossfade: 2 x {fade} frames of {film.width}x{film.height} do not fit into memory; fade shorter",
            f"loop=crossfade: {film.width}x{film.height} のフレーム 2 x {fade} 枚がメモリに収まりません。"
            "fade_s を短くしてください",
        )
    head = list(islice(film.frames, fade))
    tail: deque[Any] = deque()
    count = len(head)
    for frame in film.frames:
        count += 1
        tail.append(frame)
        if len(tail) > fade:
            yield tail.popleft()
    if count <= 2 * fade:
        raise StepFailed(
            f"loop=crossfade: a clip of {count} frames is too short to fade over {fade}",
            f"loop=crossfade: 動画が {count} フレームしかなく、{fade} フレームのクロスフェードには短すぎます",
        )
    for number, (ends, begins) in enumerate(zip(tail, head, strict=True), 1):
        yield _mixed(ends, begins, number / (fade + 1))


def _mixed(one: Any, other: Any, share: float) -> Any:
    """Plane by plane: a way through RGB and back would take another colour matrix than the frames beside it have."""
    one, other = one.reformat(format="yuv420p"), other.reformat(format="yuv420p")
    made: Any = av.VideoFrame(one.width, one.height, "yuv420p")
    made.color_range, made.colorspace = one.color_range, one.colorspace
    for to, first, second in zip(made.planes, one.planes, other.planes, strict=True):
        whole = Image.new("L", (to.line_size, to.height))
        whole.paste(Image.blend(_picture(first), _picture(second), share))
        to.update(whole.tobytes())
    return made


def _picture(plane: Any) -> Image.Image:
    """Without what pads its lines."""
    padded = Image.frombytes("L", (plane.line_size, plane.height), bytes(plane))
    return padded.crop((0, 0, plane.width, plane.height))


STEPS: dict[type, Callable[[Film, Any], Film]] = {Fps: _interpolated, Upscale: _upscaled, Loop: _looped}


def _write(film: Film, like: Any, audio: Any, told: Mapping[str, str], to: Path) -> None:
    """Encode the frames; the sound's packets go in between at their times."""
    options = {"movflags": "+faststart+use_metadata_tags"}
    with av.open(str(to), "w", format="mp4", options=options) as box:
        box.metadata.update(told)
        stream: Any = box.add_stream("libx264", rate=film.rate, options=CODING)
        stream.width, stream.height, stream.pix_fmt = film.width // 2 * 2, film.height // 2 * 2, "yuv420p"
        stream.time_base = 1 / film.rate
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            with contextlib.suppress(AttributeError, TypeError, ValueError):
                setattr(stream.codec_context, name, getattr(like.codec_context, name))
        sound = _sound(audio, film.sound_from, box)
        waiting = next(sound, None)
        number = 0
        for number, frame in enumerate(film.frames, 1):
            picture = frame.reformat(width=stream.width, height=stream.height, format="yuv420p")
            picture.pts, picture.time_base = number - 1, 1 / film.rate
            box.mux(stream.encode(picture))
            while waiting is not None and waiting.dts * waiting.time_base <= number / film.rate:
                box.mux(waiting)
                waiting = next(sound, None)
        box.mux(stream.encode())
        if not number:
            raise StepFailed(
                "the clip has no frame that can be decoded", "動画に再生できるフレームがありません"
            )


def _sound(audio: Any, start: Fraction, box: Any) -> Iterator[Any]:
    """Packets of the source's sound from that second on, for a new stream of `box`."""
    if not audio.streams.audio:
        return iter(())
    stream = audio.streams.audio[0]
    name = stream.codec_context.name
    if name not in COPIED:
        raise StepFailed(
            f"sound in {name} cannot be kept in an MP4 file", f"{name} 形式の音声は MP4 に保存できません"
        )
    copy = box.add_stream_from_template(stream)

    def packets() -> Iterator[Any]:
        for packet in audio.demux(stream):
            if packet.dts is None or packet.pts * packet.time_base < start:
                continue
            shift = int(start / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
            yield packet

    return packets()


# -- stills


def _still(clip: Path, at: float, to: Path) -> None:
    """The frame shown at that time, as a JPEG of at most 1280 pixels a side."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        shown: Any = None
        for frame in container.decode(stream):
            if shown is not None and frame.time is not None and frame.time > at:
                break
            shown = frame
        if shown is None:
            raise StepFailed("poster: there is no frame", "poster: フレームがありません")
        image = shown.to_image()
    image.thumbnail((POSTER_SIDE, POSTER_SIDE))
    image.save(to, format="JPEG", quality=85)


def _preview(clip: Path, step: Preview, to: Path) -> None:
    """Evenly spaced frames; GIF counts time in hundredths of a second, so the length is kept by choosing the frames."""
    with av.open(str(clip)) as container:
        film = _read(container)
        seconds = float(container.duration or 0) / av.time_base
        most = min(float(step.fps), float(film.rate), PREVIEW_FRAMES / seconds if seconds else step.fps)
        ms = max(20, round(100 / most) * 10) if step.do == "gif" else max(20, round(1000 / most))
        width = min(step.width, film.width)
        size = (width, max(1, round(film.height * width / film.width)))
        images: list[Any] = []
        for number, frame in enumerate(film.frames):
            if number / film.rate >= Fraction(len(images) * ms, 1000):
                images.append(frame.to_image(width=size[0], height=size[1], interpolation="LANCZOS"))
    if not images:
        raise StepFailed(f"{step.do}: there is no frame", f"{step.do}: フレームがありません")
    options: dict[str, Any] = {"quality": 75, "method": 4} if step.do == "webp" else {"optimize": False}
    images[0].save(
        to, format=step.do.upper(), save_all=True, append_images=images[1:], duration=ms, loop=0, **options
    )


if __name__ == "__main__":
    main()
