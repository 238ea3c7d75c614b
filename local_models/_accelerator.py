"""The device as the model process sees it: its name, its memory, when its work is done. Loads torch when first asked."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

from local_models._memory import CONTEXT_GB
from local_models._numbers import DeviceFacts


def device_of(asked: str) -> str:
    """`auto` is the card where there is one."""
    import torch

    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"


def facts_of(asked: str) -> DeviceFacts:
    """What a plan needs to know of it. Memory that this process holds counts as free: a reload gives it back."""
    import torch

    device = torch.device(device_of(asked))
    if device.type != "cuda":
        return DeviceFacts("cpu")
    free, _ = torch.cuda.mem_get_info(device)
    major, minor = torch.cuda.get_device_capability(device)
    return DeviceFacts(
        "cuda",
        (free + torch.cuda.memory_reserved(device)) / 1e9,
        name=torch.cuda.get_device_name(device),
        capability=major + minor / 10,
    )


def finish_queued_work(device: str) -> None:
    """A step is told when the card has done it, not when it was asked: else progress and times run ahead.

    Of the calling thread's own queue: what another one has asked for is not waited for.
    """
    if (cuda := _cuda(device)) is not None:
        cuda.current_stream(device).synchronize()


@contextmanager
def second_queue(device: str) -> Iterator[None]:
    """A second queue of the card for this thread, behind all that was asked of the first one; done when it is left."""
    if (cuda := _cuda(device)) is None:
        yield
        return
    queue = _queue(device)
    queue.wait_stream(cuda.default_stream(device))
    try:
        with cuda.stream(queue):
            yield
    finally:
        queue.synchronize()


@cache
def _queue(device: str) -> Any:
    """One for good: memory is cached per queue, and a new one each time would leave its share behind."""
    import torch

    cuda: Any = torch.cuda
    return cuda.Stream(device)


def forget_peak(device: str) -> None:
    """Measure anew from here."""
    if (cuda := _cuda(device)) is not None:
        cuda.reset_peak_memory_stats(device)


def peak(device: str) -> dict[str, float]:
    """The most that tensors held since, with the context; empty on the CPU."""
    cuda = _cuda(device)
    return {} if cuda is None else {"peak_gb": round(cuda.max_memory_allocated(device) / 1e9 + CONTEXT_GB, 2)}


def cap_memory(device: str, gigabytes: float) -> None:
    """Let this process take that much of the card, CUDA's context included; nothing on the CPU."""
    import torch

    if device.startswith("cuda"):
        total = torch.cuda.get_device_properties(device).total_memory / 1e9
        share = max(0.01, min(1.0, (gigabytes - CONTEXT_GB) / total))
        torch.cuda.set_per_process_memory_fraction(share, device)


def give_back() -> None:
    """Memory that nothing uses any more goes back to the device, if a model was ever on one."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def quiet_cpu() -> None:
    """All cores, no denormal numbers: both matter on a small CPU."""
    import torch

    use_threads(cores())
    torch.set_flush_denormal(True)


def same_as_main() -> None:
    """For a further thread: torch keeps both settings by thread, and the arithmetic must not depend on it."""
    import torch

    torch.set_flush_denormal(True)
    use_threads(torch.get_num_threads())


def cores() -> int:
    """Those that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)


def use_threads(count: int) -> None:
    """For the arithmetic of the CPU."""
    import torch

    torch.set_num_threads(count)


def inference_mode() -> AbstractContextManager[Any]:
    """Torch's own."""
    import torch

    mode: AbstractContextManager[Any] = torch.inference_mode()
    return mode


def _cuda(device: str) -> Any:
    """`torch.cuda` where a model is on such a card, else None."""
    torch = sys.modules.get("torch")
    there = device.startswith("cuda") and torch is not None and torch.cuda.is_initialized()
    return torch.cuda if there and torch is not None else None
