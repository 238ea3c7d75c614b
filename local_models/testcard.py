"""Backend `testcard`: a moving test pattern with no model, made in this process; for tests and rehearsals."""

import asyncio
import colorsys
import shutil
import time
import uuid
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, UnidentifiedImageError

from local_models._encode import write_mp4
from local_models._snap import cover
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending, about_to_spend
from router.contract.card import ResolvedRequest
from router.contract.errors import (
    BackendError,
    Cancelled,
    ContentRejected,
    GatewayError,
    GenerationFailed,
    InvalidRequest,
    OperationLost,
    OutOfMemory,
    OutputInvalid,
)
from router.contract.words import words

FAILURES: dict[str, type[GatewayError]] = {
    kind.code: kind for kind in (GenerationFailed, OutOfMemory, ContentRejected, OperationLost, OutputInvalid)
}
"""What `provider_options.testcard.fail` may name: each ends an accepted attempt."""
SECONDS_MAX = 3600.0
KEPT_TICKETS = 1000
_FREE = Decimal(0)
_BARS = ((192, 192, 192), (192, 192, 0), (0, 192, 192), (0, 192, 0), (192, 0, 192), (192, 0, 0), (0, 0, 192))


@dataclass
class _Ticket:
    request: ResolvedRequest
    out: Path
    image: Path | None
    began: float
    seconds: float
    fail: str | None
    cancelled: bool = False
    ended: bool = False

    @property
    def progress(self) -> float:
        """By the clock."""
        return min(1.0, (time.monotonic() - self.began) / self.seconds) if self.seconds else 1.0


class Pattern:
    """Every job runs at once. Options of a request: `seconds` it pretends to take, and `fail` with an error's code."""

    def __init__(self, config: BackendConfig) -> None:
        """Touches nothing."""
        self.name = config.name
        self._config = config
        self._tickets: dict[str, _Ticket] = {}

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Accept it. Raises InvalidRequest for an option that is not one."""
        seconds, fail = request.options.get("seconds", 0), request.options.get("fail")
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, int | float)
            or not 0 <= seconds <= SECONDS_MAX
        ):
            raise _bad_option("seconds", f"0-{SECONDS_MAX:.0f}")
        if fail is not None and fail not in FAILURES:
            raise _bad_option("fail", ", ".join(FAILURES))
        image = self._config.media.path(request.first_frame.asset) if request.first_frame else None
        await about_to_spend()
        ref = uuid.uuid4().hex
        out = self._config.scratch / f"testcard-{ref}.mp4"
        self._tickets[ref] = _Ticket(request, out, image, time.monotonic(), float(seconds), fail)
        while len(self._tickets) > KEPT_TICKETS:
            self._tickets.pop(next(iter(self._tickets))).out.unlink(missing_ok=True)
        return Operation(ref=ref)

    async def poll(self, operation: Operation) -> Pending | Completed:
        """Look; the clip is drawn at the first look after its time."""
        ticket = self._tickets.get(operation.ref)
        if ticket is None:
            raise self._lost()
        if ticket.cancelled:
            raise Cancelled(words("cancelled", "キャンセルされました"), backend=self.name, billed_usd=_FREE)
        if ticket.progress < 1.0:
            return Pending(progress=ticket.progress, poll_after=min(0.25, ticket.seconds / 20))
        if ticket.fail is not None:
            message = words("failed, as the request asked it to", "リクエストの指定どおりに失敗しました")
            raise FAILURES[ticket.fail](message, backend=self.name, billed_usd=_FREE)
        request = ticket.request
        if not ticket.ended:
            frames = await asyncio.to_thread(_draw, request, ticket.image)
            facts = {"prompt": request.prompt, "seed": request.seed, "model": request.model}
            self._config.scratch.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(write_mp4, ticket.out, frames, request.fps or 12, facts)
            ticket.ended = True
        if not ticket.out.exists():
            raise self._lost()
        return Completed((Output(path=ticket.out),), billed_usd=_FREE, details={"seed": request.seed})

    async def fetch(self, output: Output, to: Path) -> None:
        """Move the clip to `to`."""
        if output.path is None or not output.path.exists():
            raise self._lost()
        await asyncio.to_thread(shutil.move, output.path, to)

    async def cancel(self, operation: Operation) -> bool:
        """At once, unless it has ended."""
        ticket = self._tickets.get(operation.ref)
        if ticket is None or ticket.ended or ticket.cancelled:
            return False
        ticket.cancelled = True
        return True

    async def aclose(self) -> None:
        """Remove what was not fetched."""
        for ticket in self._tickets.values():
            ticket.out.unlink(missing_ok=True)
        self._tickets.clear()

    def _lost(self) -> BackendError:
        message = words("This job is no longer known.", "このジョブはもう存在しません。")
        return OperationLost(message, backend=self.name, billed_usd=_FREE)


def _bad_option(name: str, possible: str) -> InvalidRequest:
    return InvalidRequest(
        words(
            f"provider_options.testcard.{name}: possible: {possible}",
            f"provider_options.testcard.{name} に指定できる値: {possible}",
        ),
        param=f"provider_options.testcard.{name}",
    )


def _draw(request: ResolvedRequest, image: Path | None) -> NDArray[np.uint8]:
    """Colour bars, or the first frame, under a disc that crosses the picture once; its hue follows the seed."""
    width, height, fps = request.width or 320, request.height or 180, request.fps or 12
    count = max(1, round(request.duration * fps))
    ground = _ground(image, width, height)
    hue = (request.seed or 0) * 0.618 % 1.0
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.8, 1.0))
    radius = min(width, height) // 8
    frames = np.empty((count, height, width, 3), np.uint8)
    for index in range(count):
        picture = ground.copy()
        pen = ImageDraw.Draw(picture)
        x = round((width - 1) * index / max(1, count - 1))
        pen.ellipse((x - radius, height // 2 - radius, x + radius, height // 2 + radius), (red, green, blue))
        pen.text((4, 4), f"{index + 1}/{count}", (255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
        frames[index] = np.asarray(picture)
    return frames


def _ground(image: Path | None, width: int, height: int) -> Image.Image:
    if image is not None:
        try:
            with Image.open(image) as given:
                return cover(given, width, height)
        except (OSError, UnidentifiedImageError, ValueError):
            raise OutputInvalid(
                words("The input image cannot be read.", "入力画像を読み込めません。")
            ) from None
    bars = Image.new("RGB", (len(_BARS), 1))
    bars.putdata(_BARS)
    return bars.resize((width, height), Image.Resampling.NEAREST)
