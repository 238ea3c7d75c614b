"""Frames and sound to a playable MP4: H.264, yuv420p, AAC, index in front, and how the clip was made inside it."""

import json
import os
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from local_models._clip import Sound

CRF = 16
"""libx264 quality, 0 lossless .. 51; at 16 a loss is hard to see, and small clips stay small."""
SAME_BYTES = "cpu-independent=1:sliced-threads=0:threads="
"""Equal frames give equal bytes. x264's vector code for its macroblock tree reads memory that nobody wrote: 5 of 6 files
of the same frames differed where that memory did, with one thread too (measured 2026-11-26, PyAV 18.1);
`cpu-independent` takes its plain C, at no cost that could be measured. A number of threads taken from the machine would
make the file depend on it. Frame threads, because slices made files 17 % larger."""
THREADS = 4
ONE_THREAD_BYTES = 100_000_000
"""Of frames, about a second of work: below that, threads cost more than they bring."""
TITLE_CHARACTERS = 120
SOUND_RATE = 48000
"""AAC knows a dozen rates; every player takes this one."""
SOUND_BITS_S = 192_000
_BT709 = 1
"""The code of BT.709 for matrix, primaries and transfer alike (ITU-T H.273)."""


def understudy_version() -> str:
    """Of the installed distribution; `unknown` when run without an installation."""
    try:
        return metadata.version("understudy-gateway")
    except metadata.PackageNotFoundError:
        return "unknown"


def go_on() -> None:
    """For callers that never stop a writing."""


def write_mp4(
    path: Path,
    frames: NDArray[np.uint8],
    fps: int,
    facts: Mapping[str, Any],
    sound: Sound | None = None,
    before_frame: Callable[[], None] = go_on,
) -> None:
    """Write frames (T, H, W, 3), and sound where there is some, to `path`, which appears only when it is complete.

    An odd side loses its last row or column, because yuv420p halves both. `facts` (prompt, seed, model, ...)
    become the comment as JSON; its `prompt` also the title. Sound longer than the frames is cut to their length.
    What `before_frame` raises ends the writing, and nothing is left. Raises ValueError for frames of another shape and OSError when the disk does not take the file.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"frames must be (T, H, W, 3) uint8, not {frames.shape} {frames.dtype}")
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
    if not height or not width:
        raise ValueError("frames must be at least 2 pixels wide and high")
    part = path.with_name(f"{path.name}.part")
    try:
        _encode(part, frames[:, :height, :width], fps, facts, sound, before_frame)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _encode(
    part: Path,
    frames: NDArray[np.uint8],
    fps: int,
    facts: Mapping[str, Any],
    sound: Sound | None,
    before_frame: Callable[[], None],
) -> None:
    height, width = frames.shape[1:3]
    threads = 1 if frames.nbytes < ONE_THREAD_BYTES else THREADS
    coding = {"crf": str(CRF), "preset": "medium", "x264-params": f"{SAME_BYTES}{threads}"}
    options = {"movflags": "faststart+use_metadata_tags"}
    with av.open(part, "w", format="mp4", options=options) as container:
        container.metadata["title"] = " ".join(str(facts.get("prompt", "")).split())[:TITLE_CHARACTERS]
        container.metadata["comment"] = json.dumps(
            {"understudy": understudy_version(), **facts}, ensure_ascii=False
        )
        stream = container.add_stream("libx264", rate=fps, options=coding)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = av.video.reformatter.ColorRange.MPEG
        # Both streams must be known before the first packet writes the header.
        track: Any = None
        if sound is not None:
            track = container.add_stream("aac", rate=SOUND_RATE)
            track.layout, track.bit_rate = _layout(sound), SOUND_BITS_S
        for picture in frames:
            before_frame()
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            yuv = frame.reformat(
                format="yuv420p",
                src_color_range=av.video.reformatter.ColorRange.JPEG,
                dst_color_range=av.video.reformatter.ColorRange.MPEG,
                dst_colorspace=av.video.reformatter.Colorspace.ITU709,
            )
            container.mux(stream.encode(yuv))
        container.mux(stream.encode(None))
        if sound is not None:
            _encode_sound(container, track, sound, len(frames) / fps)


def _encode_sound(container: Any, track: Any, sound: Sound, seconds: float) -> None:
    """One or two channels, as they come; the encoder's own sample format and rate by libswresample."""
    layout = _layout(sound)
    samples = sound.samples[: round(seconds * sound.rate), :2]
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
    frame.sample_rate = sound.rate
    resampler = av.AudioResampler(
        format=track.format.name, layout=layout, rate=SOUND_RATE, frame_size=track.frame_size or None
    )
    for piece in (*resampler.resample(frame), *resampler.resample(None)):
        container.mux(track.encode(piece))
    container.mux(track.encode(None))


def _layout(sound: Sound) -> str:
    return "mono" if sound.samples.shape[1] == 1 else "stereo"
