"""The order in which a twin handles a submit: refuse, count, accept, and only then spoil the answer."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api_providers.sandbox._bench import Bench, Task
from api_providers.sandbox._connection import CutResponse, TruncatedResponse
from api_providers.sandbox._faults import ANSWERS, REFUSALS, Fault, FaultKind
from api_providers.sandbox._render import media_type, render


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
    await linger(bench.settings.delay_after)
    fault = bench.faults.take(*ANSWERS)
    match fault.kind if fault else None:
        case FaultKind.CUT_AFTER_ACCEPT:
            return CutResponse()
        case FaultKind.MALFORMED:
            return JSONResponse({"message": "ok", "data": [None]})
        case FaultKind.SLOW_ACCEPT if fault:
            await asyncio.sleep(fault.seconds)
    return respond(task)


async def linger(most_s: float) -> None:
    """A random time up to that many seconds."""
    if most_s > 0:
        await asyncio.sleep(random.uniform(0, most_s))


def retry_headers(refusal: Refusal) -> dict[str, str]:
    """`Retry-After` in whole seconds, rounded up, where there is one."""
    if refusal.retry_after is None:
        return {}
    return {"Retry-After": str(max(0, -int(-refusal.retry_after // 1)))}


async def clip(bench: Bench, request: Request, task: Task) -> Response:
    """The rendered result of a finished task, cut short where a fault says so. Whether the link is good is the twin's."""
    content = await asyncio.to_thread(render, task.clip)
    kind: type[Response] = Response
    if request.method == "GET" and bench.faults.take(FaultKind.TRUNCATED_DOWNLOAD):
        kind = TruncatedResponse
    return kind(content, media_type=media_type(task.clip))


async def json_object(request: Request, refuse: Callable[[str], Exception]) -> dict[str, Any]:
    """The body as a JSON object; else raises what `refuse` makes of the sentence."""
    try:
        body = await request.json()
    except ValueError:
        raise refuse("The request body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise refuse("The request body must be a JSON object.")
    return body


def bearer(request: Request, scheme: str = "Bearer") -> str | None:
    """The sandbox key in the Authorization header, None where there is none or another key."""
    given, _, key = request.headers.get("authorization", "").partition(" ")
    return key if given == scheme and key.startswith("sandbox-") else None


def base(request: Request) -> str:
    """Origin and prefix under which the caller reached this twin; links in answers begin with it."""
    return f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"
