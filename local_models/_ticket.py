"""One accepted job of the local backend, and how long its process may be silent."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from local_models._messages import Render
from router.contract.card import ModelCard
from router.contract.errors import GatewayError
from router.contract.words import Words

IDLE_UNLOAD_S = 600.0
STEP_LIMIT_S = 900.0
"""Silence of the process within a job after which it counts as hung. The slowest step we know of, a 14B model
streamed into 8 GB, stays below two minutes."""
LOAD_LIMIT_S = 1800.0
"""The same while a model is loaded: 60 GB from a slow disk."""
KILL_LIMIT_S = 30.0
"""A killed process that has not ended by then hangs in its driver: it is left to itself."""


@dataclass
class Ticket:
    """One accepted job."""

    ref: str
    card: ModelCard
    directory: Path
    out: Path
    render: Render
    peak_factor: float = 1.0
    """Measured by predicted peak of this model on this device."""
    progress: float = 0.0
    sketched: bool = False
    """A picture of it as far as it is lies at `sketch`."""
    running: bool = False
    cancelled: bool = False
    decoding: bool = False
    """Its latents are being decoded while the next job is denoised."""
    lost: int = 0
    """How often a process took it along without its fault being known."""
    details: dict[str, JsonValue] | None = None
    """Set when the clip lies at `out`."""
    failure: tuple[type[GatewayError], Words] | None = None

    @property
    def sketch(self) -> Path:
        """As the model process names it."""
        return self.out.with_suffix(".webp")

    def forget_sketch(self) -> None:
        """Nothing of a job on its way outlives it."""
        self.sketched = False
        for left in (self.sketch, self.sketch.with_name(f"{self.sketch.name}.part")):
            left.unlink(missing_ok=True)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.details is not None or self.failure is not None


@dataclass(frozen=True)
class Patience:
    """Seconds of silence or idleness after which the process is ended."""

    idle_unload_s: float = IDLE_UNLOAD_S
    step_limit_s: float = STEP_LIMIT_S
    load_limit_s: float = LOAD_LIMIT_S
    kill_limit_s: float = KILL_LIMIT_S
