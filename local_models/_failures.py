"""What went wrong in the model process: which kind of failure it was, and a message without machine paths."""

import errno
import re
import traceback

from local_models._messages import FailureKind
from local_models._weights import WeightsBroken
from router.contract.words import Words, same, words

_ALLOCATION = re.compile(r"can't allocate memory|out of memory|_ALLOC_FAILED", re.IGNORECASE)
_LOST = re.compile(
    r"CUDA error|device-side assert|CUDNN_STATUS_(?:EXECUTION|INTERNAL)|unspecified launch failure"
)
_PATH = re.compile(r"(?:[A-Za-z]:)?[/\\][^\s'\":]*[/\\]")


class Stop(BaseException):
    """The job was cancelled. A BaseException, so that no library swallows it."""


CANCELLED = words("The job was cancelled.", "ジョブはキャンセルされました。")


def out_of_memory(error: BaseException) -> bool:
    """CUDA's own class, Python's, and the RuntimeError of torch's CPU allocator and of cuBLAS."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _ALLOCATION.search(str(error)) is not None
    )


def device_lost(error: BaseException) -> bool:
    """After these CUDA answers every further call of the process with the same error: only a fresh process helps."""
    return isinstance(error, RuntimeError) and not out_of_memory(error) and bool(_LOST.search(str(error)))


def describe(error: Exception) -> tuple[FailureKind, Words]:
    """What kind of failure, and what to tell; the whole traceback goes to the log."""
    traceback.print_exception(error)
    if out_of_memory(error):
        return "oom", words(
            "The device has too little memory for this clip. Ask for a smaller or shorter one, or use a smaller model.",
            "デバイスのメモリが足りません。サイズや長さを小さくするか、より小さいモデルを使ってください。",
        )
    if isinstance(error, WeightsBroken):
        return "weights", error.message
    message = getattr(error, "message", None)
    if isinstance(message, Words):
        return "input", message
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk", words("The disk is full.", "ディスクの空き容量がありません。")
    said = f"{type(error).__name__}: {_PATH.sub('', str(error))}".splitlines()[0][:300]
    return "error", same(said)
