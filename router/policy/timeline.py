"""Virtual timelines: when the next job, and the one after it, could start at an offer, an account or our device.

All times are seconds from now. With equal service times the k-th start does not depend on which job takes it, which is
what makes the acceptance of a whole queue one pass over it.
"""

import heapq
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from router.policy.acceptance import Waiter
    from router.policy.demand import Demand

NOW = 0.001
"""What starts within a millisecond starts now."""


class Window(NamedTuple):
    """At most `most` starts in any `span` seconds."""

    most: int
    span: float


class Line:
    """One queue: its places, its windows, and the jobs it holds in this pass."""

    __slots__ = (
        "_history",
        "_places",
        "_starts",
        "account",
        "begun",
        "count",
        "demand",
        "devices",
        "earliest",
        "held",
        "in_hand",
        "least",
        "left",
        "limited",
        "members",
        "name",
        "refused",
        "room",
        "serial",
        "service_s",
        "windows",
    )

    def __init__(
        self,
        name: str,
        *,
        earliest: float = 0.0,
        places: Sequence[float] | None = None,
        service_s: float = 1.0,
        windows: Sequence[Window] = (),
        history: Sequence[float] = (),
        left: int | None = None,
        serial: bool = False,
        room: int | None = None,
        in_hand: int = 0,
        devices: int = 1,
    ) -> None:
        """`places`: when each place is free (None: no limit); `history`: past starts, oldest first, not positive.

        A `serial` line does one job after the other from `earliest` on. Its `devices` have `in_hand`, `room` more may be handed over.
        """
        self.name = name
        self.earliest = earliest
        self.service_s = max(service_s, 1e-3)
        self.windows = tuple(windows)
        self.left = left
        self.serial = serial
        self.room = room
        self.in_hand = in_hand
        self.devices = devices
        self.count = None if places is None else len(places)
        self.limited = serial or places is not None or bool(self.windows) or left is not None
        self.account: Line | None = None
        self.members: list[Line] = []
        self.demand: Demand | None = None
        """On our own device: what the jobs to come will take of it."""
        self.held: list[Waiter] = []
        self.least = math.inf
        """The smallest saving among the jobs it keeps, as it compares them."""
        self.refused = 0
        self.begun = 0
        """Jobs that start here in this pass."""
        self._places = sorted(places) if places is not None else None
        self._history = list(history)
        self._starts: list[float] = []

    def fresh(self) -> None:
        """Forget the jobs of an earlier pass; the start times stay."""
        self.held = []
        self.least = math.inf
        self.refused = 0
        self.begun = 0

    def at(self, k: int) -> float:
        """When the k-th job (from 0) that this line accepts could start."""
        if not self.limited:
            return self.earliest
        if self.serial:
            return self.earliest + k * self.service_s
        while len(self._starts) <= k:
            self._starts.append(self._next())
        return self._starts[k]

    def _next(self) -> float:
        n = len(self._starts)
        if self.left is not None and n >= self.left:
            return math.inf
        if self._places is not None and not self._places:
            return math.inf
        start = self.earliest if self._places is None else max(self.earliest, self._places[0])
        for window in self.windows:
            before = n + len(self._history) - window.most
            if before >= 0:
                past = len(self._history)
                freed = self._history[before] if before < past else self._starts[before - past]
                # A window that is over by a hair is not over at the provider's.
                start = max(start, freed + window.span + 2 * NOW)
        if self._places is not None:
            heapq.heapreplace(self._places, start + self.service_s)
        return start

    @property
    def free_now(self) -> bool:
        """Whether one more job could start now, after those that do."""
        if self.serial:
            return self.room is None or self.begun < self.room
        return self.at(self.begun) <= NOW and (self.account is None or self.account.free_now)

    @property
    def interval_s(self) -> float:
        """Seconds between two starts when it is busy."""
        every = [window.span / window.most for window in self.windows]
        if self.serial:
            every.append(self.service_s)
        elif self.count:
            every.append(self.service_s / self.count)
        return max(every, default=0.0)
