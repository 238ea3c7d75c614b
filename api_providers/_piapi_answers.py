"""What PiAPI's answers say: the body's code, the link in any of three shapes, points."""

from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import BaseModel, JsonValue

from api_providers._answer import Answer


class TaskView(BaseModel):
    """The fields we use of a task; whatever else is strange beside `status` costs no look."""

    status: str
    task_type: Any = None
    output: Any = None
    meta: Any = None
    error: Any = None


def links(output: Any) -> list[str]:
    """The clip's link in any of the three shapes of `output`; without watermark where there is a choice."""
    if not isinstance(output, dict):
        return []
    works = output.get("works")
    found = [_work(work) for work in works] if isinstance(works, list) else []
    if not any(found):
        found = [_link(output.get("video")) or _link(output.get("video_url"))]
    return [url for url in found if url]


def _work(work: Any) -> str | None:
    return _link(work.get("video")) if isinstance(work, dict) else None


def _link(value: Any) -> str | None:
    if isinstance(value, dict):
        names = ("resource_without_watermark", "resource", "url")
        value = next((value[name] for name in names if value.get(name)), None)
    return value if isinstance(value, str) and value else None


def url_of(answer: Any) -> str | None:
    """`data.url`, or a top-level `url` as one version of the vendor's own client reads."""
    body = answer if isinstance(answer, dict) else {}
    return _link(body.get("data")) or _link(body.get("url"))


def code_of(answer: Answer) -> int | None:
    """The `code` in the body, None where there is none."""
    code = answer.json.get("code") if isinstance(answer.json, dict) else None
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def _usage(task: TaskView) -> dict[str, Any]:
    usage = task.meta.get("usage") if isinstance(task.meta, dict) else None
    return usage if isinstance(usage, dict) else {}


def unbilled(task: TaskView) -> Decimal | None:
    """Nought where no point is frozen or consumed, whatever a point is worth; else not known."""
    usage = _usage(task)
    return Decimal(0) if usage.get("frozen") == 0 and usage.get("consume") == 0 else None


def details_of(task: TaskView) -> dict[str, JsonValue]:
    """Points as they stand in the answer: for the person who compares the bill, not for the ledger."""
    usage: dict[str, JsonValue] = {
        name: value
        for name, value in _usage(task).items()
        if name in {"type", "frozen", "consume"} and isinstance(value, int | str)
    }
    details: dict[str, JsonValue] = {"usage": usage} if usage else {}
    if isinstance(task.task_type, str):
        details["task_type"] = task.task_type
    return details


def amount(value: Any) -> Decimal | None:
    """A figure of the account that makes sense as money, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and number >= 0 else None
