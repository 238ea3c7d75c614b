"""Small real clips: H.264 in MP4 with the asked shape and length, a colour from the prompt, and a tone if asked."""

import array
import hashlib
import io
import math
from fractions import Fraction
from functools import lru_cache

import av
from PIL import Image

from api_providers.sandbox._bench import Clip

FPS = 8
SHORT_SIDE = 180
LONGEST_SIDE = 640
SAMPLE_RATE = 16_000
TONE_HZ = 330


def media_type(clip: Clip) -> str:
    """The MIME type of what `render` makes."""
    return "image/png" if clip.still else "video/mp4"


def suffix(clip: Clip) -> str:
    """The file name's ending of what `render` makes."""
    return "png" if clip.still else "mp4"


def render(clip: Clip) -> bytes:
    """The bytes of the result; equal clips share one rendering. Blocking: call it in a thread."""
    tint = hashlib.sha256(clip.prompt.encode()).digest()[:3]
    width, height = small(clip.width, clip.height)
    return (
        _still(width, height, tint) if clip.still else _video(width, height, clip.seconds, clip.audio, tint)
    )


def small(width: int, height: int) -> tuple[int, int]:
    """Even sides of about the same aspect ratio, cheap to encode."""
    scale = min(SHORT_SIDE / min(width, height), LONGEST_SIDE / max(width, height))
    return max(16, round(width * scale / 2) * 2), max(16, round(height * scale / 2) * 2)


@lru_cache(maxsize=64)
def _still(width: int, height: int, tint: bytes) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (tint[0], tint[1], tint[2])).save(out, "PNG")
    return out.getvalue()


@lru_cache(maxsize=64)
def _video(width: int, height: int, seconds: float, audio: bool, tint: bytes) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as box:
        picture = box.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "30"})
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        tone = box.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if audio else None
        count = max(1, round(seconds * FPS))
        for n in range(count):
            frame = _frame(width, height, tint, n / count)
            frame.pts = n
            box.mux(picture.encode(frame))
        box.mux(picture.encode())
        if tone is not None:
            for samples in _tone(seconds):
                box.mux(tone.encode(samples))
            box.mux(tone.encode())
    return out.getvalue()


def _frame(width: int, height: int, tint: bytes, part: float) -> av.VideoFrame:
    """A plain ground with a bright bar that travels once from left to right."""
    frame = av.VideoFrame(width, height, "yuv420p")
    bar = max(2, width // 12)
    left = int((width - bar) * part)
    ground = 60 + tint[0] % 90
    row = bytes([ground]) * left + bytes([230]) * bar + bytes([ground]) * (width - bar - left)
    for plane, line in zip(
        frame.planes, (row, bytes([tint[1]]) * (width // 2), bytes([tint[2]]) * (width // 2)), strict=True
    ):
        plane.update(line.ljust(plane.line_size, b"\0") * plane.height)
    return frame


def _tone(seconds: float) -> list[av.AudioFrame]:
    frames = []
    for start in range(0, round(seconds * SAMPLE_RATE), 1024):
        wave = array.array(
            "f", (0.1 * math.sin(2 * math.pi * TONE_HZ * (start + i) / SAMPLE_RATE) for i in range(1024))
        )
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.planes[0].update(wave.tobytes())
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
        frames.append(frame)
    return frames
