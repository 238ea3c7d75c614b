"""What every attempt of one engine process shares."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from router.backends import Backends
from router.catalog import Catalog
from router.db import Database
from router.media import MediaStore
from router.settings import Settings


@dataclass(frozen=True)
class Parts:
    """The rooms an attempt is carried through."""

    db: Database
    settings: Settings
    catalog: Catalog
    backends: Backends
    media: MediaStore
    me: str
    """Names this process in the attempts it carries."""
    dead: Callable[[], Iterable[str]] = field(default=tuple)
    """Processes whose attempts may be taken."""
