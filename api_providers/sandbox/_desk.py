"""The order in which a twin handles a submit: refuse, count, accept, and only then spoil the answer."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api_providers.sandbox._bench import Bench, Task
from api_providers.sandbox._connection import CutResponse
from api_providers.sandbox._faults import ANSWERS, REFUSALS, Fault, FaultKind


class Refusal(NamedTuple):
    """Why a submit is not accepted. `retry_after` in seconds, None where the provider does not say."""

    kind: FaultKind
    retry_after: float | None = None
    daily: bool = False
    """True when the daily count is what is used up."""


Refuse = Callable[[Refusal], Response]
"""Words a refusal as the vendor does."""


def refusal(bench: Bench, *kinds: FaultKind) -> Refusal | None:
    """The ordered refusal that fits this call, if one waits."""
    fault: Fault | None = bench.faults.take(*(kinds or REFUSALS))
    if fault is None:
        return None
    return Refusal(fault.kind, fault.seconds if fault.kind is FaultKind.RATE_LIMIT else None)


def limit(bench: Bench) -> Refusal | None:
    """The refusal that the twin's own limits ask for."""
    broken = bench.over_limit()
    if broken is None:
        return None
    name, free = broken
    return Refusal(FaultKind.RATE_LIMIT, free if name == "minute" else None, daily=name == "day")


async def answer(bench: Bench, task: Task, respond: Callable[[Task], Response]) -> Response:
    """The answer to an accepted submit, spoiled where a fault says so. The task stays accepted in every case."""
    fault = bench.faults.take(*ANSWERS)
    match fault.kind if fault else None:
        case FaultKind.CUT_AFTER_ACCEPT:
            return CutResponse()
        case FaultKind.MALFORMED:
            return JSONResponse({"message": "ok", "data": [None]})
        case FaultKind.SLOW_ACCEPT if fault:
            await asyncio.sleep(fault.seconds)
    return respond(task)


def retry_headers(refusal: Refusal) -> dict[str, str]:
    """`Retry-After` in whole seconds, rounded up, where there is one."""
    if refusal.retry_after is None:
        return {}
    return {"Retry-After": str(max(0, -int(-refusal.retry_after // 1)))}


def base(request: Request) -> str:
    """Origin and prefix under which the caller reached this twin; links in answers begin with it."""
    return f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"
