"""Looks into media files with PIL and PyAV: is it what it claims to be, whole, and of a sane size?"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
from PIL import Image, UnidentifiedImageError

from router.contract.words import Words, words

Kind = Literal["image", "video", "audio"]
MAX_PIXELS = 64_000_000
"""Of one picture; above it an input is taken for a decompression bomb and not decoded."""
DECODE_ALL_S = 60.0
"""Clips up to this length are decoded whole; of longer ones every packet is read and both ends are decoded."""
POSTER_SIDE = 1280
EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/mp4": "m4a",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
}
_IMAGES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_ROTATED = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap width and height."""


class BrokenMedia(Exception):
    """Not a file we can use; `message` says why."""

    def __init__(self, message: Words) -> None:
        """`message` is complete: the store only chooses the class of error."""
        super().__init__(message.en)
        self.message = message


@dataclass(frozen=True)
class Probe:
    """What a file is. Width and height as a viewer shows them (EXIF orientation applied)."""

    mime: str
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None


def probe(path: Path, kind: Kind, *, whole: bool = True) -> Probe:
    """Check a file of that kind; raises BrokenMedia. `whole=False` reads headers only, for files checked before."""
    match kind:
        case "image":
            return _image(path, whole=whole)
        case "video":
            return _video(path, whole=whole)
        case "audio":
            return _audio(path, whole=whole)


def probe_preview(path: Path) -> Probe:
    """An animated GIF or WebP of our own making; raises BrokenMedia. No input is ever a GIF."""
    try:
        with Image.open(path, formats=("GIF", "WEBP")) as image:
            return Probe(f"image/{(image.format or '').lower()}", *image.size)
    except (UnidentifiedImageError, SyntaxError, ValueError, EOFError):
        raise BrokenMedia(_CUT_IMAGE) from None


def write_poster(video: Path, to: Path) -> None:
    """The first frame as a JPEG of at most 1280 pixels a side; raises BrokenMedia."""
    with _opened(video, "video") as (container, _):
        frame = next(iter(container.decode(container.streams.video[0])), None)
        if frame is None:
            raise BrokenMedia(_NO_FRAMES)
        image = frame.to_image()
    image.thumbnail((POSTER_SIDE, POSTER_SIDE))
    image.save(to, format="JPEG", quality=85)


_NOT_IMAGE = words(
    "This is not an image that can be used; give a PNG, JPEG or WebP file.",
    "画像として読み込めません。PNG、JPEG、WebP のいずれかを指定してください。",
)
_CUT_IMAGE = words(
    "The image file is damaged or cut off; send it again.",
    "画像ファイルが破損しているか、途中で切れています。もう一度送信してください。",
)
_NO_FRAMES = words("The video has no frame that can be decoded.", "動画に再生できるフレームがありません。")
_CUT_VIDEO = words(
    "The video file is damaged or cut off.", "動画ファイルが破損しているか、途中で切れています。"
)
_NOT = {
    "video": words(
        "This is not a video that can be used; give an MP4, MOV, WebM or MKV file.",
        "動画として読み込めません。MP4、MOV、WebM、MKV のいずれかを指定してください。",
    ),
    "audio": words(
        "This is not a sound file that can be used; give an MP3, WAV, M4A, OGG or FLAC file.",
        "音声として読み込めません。MP3、WAV、M4A、OGG、FLAC のいずれかを指定してください。",
    ),
}


def _too_many_pixels(width: int = 0, height: int = 0) -> BrokenMedia:
    most = MAX_PIXELS // 1_000_000
    size = f"{width}x{height}" if width else f"> {most} M"
    return BrokenMedia(
        words(
            f"{size} pixels are too many (at most {most} megapixels); make the picture smaller.",
            f"{size} ピクセルは大きすぎます(上限 {most} メガピクセル)。縮小してください。",
        )
    )


def _image(path: Path, *, whole: bool) -> Probe:
    try:
        with Image.open(path, formats=tuple(_IMAGES)) as image:
            width, height = image.size
            mime = _IMAGES[image.format or ""]
            if width * height > MAX_PIXELS:
                raise _too_many_pixels(width, height)
            if whole:
                image.verify()
        with Image.open(path, formats=tuple(_IMAGES)) as image:
            if whole:
                image.load()
            if image.getexif().get(0x0112) in _ROTATED:
                width, height = height, width
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        # PIL's own thresholds are higher than ours; it refuses before the size can be read.
        raise _too_many_pixels() from None
    except (UnidentifiedImageError, KeyError):
        raise BrokenMedia(_NOT_IMAGE) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BrokenMedia(_CUT_IMAGE) from None
    return Probe(mime, width, height)


def _sniff(path: Path, kind: Kind) -> tuple[str, str]:
    """(demuxer, mime) by the first bytes. FFmpeg is never left to guess: playlists could name other files."""
    with path.open("rb") as file:
        head = file.read(64)
    video = kind == "video"
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}:
        quicktime = head[4:8] != b"ftyp" or head[8:12] == b"qt  "
        return "mov", ("video/quicktime" if quicktime else "video/mp4") if video else "audio/mp4"
    if video and head[:4] == b"\x1aE\xdf\xa3":
        return "matroska", "video/webm" if b"webm" in head else "video/x-matroska"
    if not video:
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            return "wav", "audio/wav"
        if head[:3] == b"ID3" or (head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0):
            return "mp3", "audio/mpeg"
        for magic, demuxer, mime in ((b"fLaC", "flac", "audio/flac"), (b"OggS", "ogg", "audio/ogg")):
            if head[:4] == magic:
                return demuxer, mime
    raise BrokenMedia(_NOT[kind])


@contextmanager
def _opened(path: Path, kind: Kind) -> Iterator[tuple[Any, str]]:
    """(container, mime); every FFmpeg error inside becomes BrokenMedia."""
    demuxer, mime = _sniff(path, kind)
    # Edit lists hide samples, and then the number of packets says nothing about truncation.
    options = {"ignore_editlist": "1"} if demuxer == "mov" else {}
    try:
        with av.open(str(path), format=demuxer, options=options) as container:
            yield container, mime
    except (av.FFmpegError, EOFError):
        raise BrokenMedia(_CUT_VIDEO if kind == "video" else _NOT[kind]) from None


def _seconds(container: Any, stream: Any) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return float(Fraction(container.duration, av.time_base)) if container.duration else None


def _video(path: Path, *, whole: bool) -> Probe:
    with _opened(path, "video") as (container, mime):
        if not container.streams.video:
            raise BrokenMedia(_NOT["video"])
        stream = container.streams.video[0]
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise _too_many_pixels(width, height)
        seconds = _seconds(container, stream)
        if whole:
            last = _read_all(container, stream, decode=seconds is None or seconds <= DECODE_ALL_S)
            if seconds is not None and last is not None and last < seconds - max(1.0, 0.05 * seconds):
                raise BrokenMedia(_CUT_VIDEO)
            seconds = seconds or last
        if not width or not height:
            raise BrokenMedia(_NO_FRAMES)
    return Probe(mime, width, height, seconds)


def _read_all(container: Any, stream: Any, *, decode: bool) -> float | None:
    """Read every packet; decode all of them or both ends. Returns the time in seconds of the last frame."""
    stream.thread_type = "AUTO"
    packets = frames = 0
    last: float | None = None
    for packet in container.demux(stream):
        if packet.size:
            packets += 1
            if packet.is_corrupt:
                raise BrokenMedia(_CUT_VIDEO)
            if packet.pts is not None and packet.time_base:
                last = max(last or 0.0, float(packet.pts * packet.time_base))
        if decode or frames == 0:
            frames += len(packet.decode())
    if packets < stream.frames:
        raise BrokenMedia(_CUT_VIDEO)
    if not decode and last is not None:
        container.seek(int(last / stream.time_base), stream=stream, backward=True)
        frames += sum(1 for _ in container.decode(stream))
    if frames == 0:
        raise BrokenMedia(_NO_FRAMES)
    return last


def _audio(path: Path, *, whole: bool) -> Probe:
    with _opened(path, "audio") as (container, mime):
        if not container.streams.audio:
            raise BrokenMedia(_NOT["audio"])
        stream = container.streams.audio[0]
        if whole and next(iter(container.decode(stream)), None) is None:
            raise BrokenMedia(_NOT["audio"])
        return Probe(mime, duration_s=_seconds(container, stream))
