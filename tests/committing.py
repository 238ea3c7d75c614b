"""Stands in for the engine's commit of `sending`, the last thing before a call that spends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from router.contract.backend import commit_sending


@contextmanager
def committing(look: Callable[[], Any] = lambda: None) -> Iterator[list[Any]]:
    """The list gets one entry per commit: what `look` saw at that moment."""
    seen: list[Any] = []

    async def commit() -> None:
        seen.append(look())

    token = commit_sending.set(commit)
    try:
        yield seen
    finally:
        commit_sending.reset(token)
