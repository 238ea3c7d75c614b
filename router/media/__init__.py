"""The media store: every picture and clip as a file named by its content, checked on the way in."""

from router.media.download import Downloader
from router.media.store import MediaStore

__all__ = ["Downloader", "MediaStore"]
