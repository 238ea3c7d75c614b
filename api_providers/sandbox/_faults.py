"""The faults a twin can be told to show, and the queue in which they wait for the next call they fit."""

from dataclasses import dataclass
from enum import StrEnum

FOREVER = -1
"""`times` of a fault that stays until the sandbox is reset."""


class FaultKind(StrEnum):
    """Everything that can be made to go wrong (interfaces.md names them)."""

    RATE_LIMIT = "rate_limit"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"
    FAIL_AFTER_ACCEPT = "fail_after_accept"
    HANG = "hang"
    SLOW_ACCEPT = "slow_accept"
    CUT_AFTER_ACCEPT = "cut_after_accept"
    MALFORMED = "malformed"
    TRUNCATED_DOWNLOAD = "truncated_download"
    MODERATION = "moderation"
    NO_CREDIT = "no_credit"
    AUTH = "auth"


REFUSALS = (
    FaultKind.AUTH,
    FaultKind.NO_CREDIT,
    FaultKind.RATE_LIMIT,
    FaultKind.SERVER_ERROR,
    FaultKind.UNAVAILABLE,
)
"""Answered to a submit instead of accepting it."""

FATES = (FaultKind.FAIL_AFTER_ACCEPT, FaultKind.HANG, FaultKind.MODERATION)
"""What becomes of the task that is accepted next."""

ANSWERS = (FaultKind.SLOW_ACCEPT, FaultKind.CUT_AFTER_ACCEPT, FaultKind.MALFORMED)
"""How the answer to an accepted submit is spoiled."""


@dataclass
class Fault:
    """One order: show `kind` `times` more times. `seconds` is the delay or the Retry-After."""

    kind: FaultKind
    times: int = 1
    seconds: float = 1.0


class FaultQueue:
    """Faults in the order they were ordered; each call takes at most one of the kinds it asks for."""

    def __init__(self) -> None:
        """Starts empty."""
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Put one order at the end."""
        self._faults.append(fault)

    def take(self, *kinds: FaultKind) -> Fault | None:
        """The first waiting fault of these kinds, counted down; None when there is none."""
        for fault in self._faults:
            if fault.kind in kinds:
                if fault.times != FOREVER:
                    fault.times -= 1
                    if fault.times == 0:
                        self._faults.remove(fault)
                return fault
        return None

    def clear(self) -> None:
        """Forget all."""
        self._faults.clear()
