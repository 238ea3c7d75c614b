"""Kling's answers: what its codes mean, the fields that we use of them, and what they say something cost."""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from api_providers._answer import Answer
from router.contract import errors
from router.contract.errors import GatewayError

EXPIRED = 1004
KINDS: Mapping[int | None, type[GatewayError]] = {
    **dict.fromkeys(range(1000, 1005), errors.AuthenticationFailed),
    # Arrears and used-up packs come as HTTP 429 and are no rate limit.
    **dict.fromkeys((1100, 1101, 1102), errors.QuotaExhausted),
    # No right to this one model or endpoint; the key is good for others.
    1103: errors.BackendError,
    1200: errors.InvalidRequest,
    1201: errors.InvalidRequest,
    1202: errors.BackendError,
    1203: errors.BackendError,
    1300: errors.ContentRejected,
    1301: errors.ContentRejected,
    1302: errors.RateLimited,
    1303: errors.RateLimited,
    # Our address is not on the account's own list: nothing works until a person changes that.
    1304: errors.AuthenticationFailed,
}
"""By the body's `code`. The 5000s are left to the HTTP status."""
UNKNOWN_TASK = frozenset({1201, 1203})
"""What a look at an id that Kling does not know answers: 1201 was observed, 1203 is documented."""
REFUSED = re.compile(
    r"risk control|safety|sensitive|moderation|policy|prohibited|风控|敏感|违规|审核", re.IGNORECASE
)
"""How the reason of a failed task reads when the content was refused; Kling gives words, no code."""


class View(BaseModel):
    """Fields of an answer; an id that is a number is as good as one in quotes."""

    model_config = ConfigDict(coerce_numbers_to_str=True)


class Created(View):
    """Only the id matters: a task that was bought is not lost over a strange field beside it."""

    id: str = Field(min_length=1, validation_alias=AliasChoices("task_id", "id"))


class Submitted(View):
    """The answer to a create call."""

    data: Created


class Video(View):
    """One result."""

    type: str = "video"
    id: str | None = None
    url: str | None = None


class Result(View):
    """The results in the older shape."""

    videos: list[Video] | None = None


class Task(View):
    """A task in either shape."""

    id: str = Field(min_length=1, validation_alias=AliasChoices("task_id", "id"))
    status: str = Field(validation_alias=AliasChoices("task_status", "status"))
    message: str | None = Field(default=None, validation_alias=AliasChoices("task_status_msg", "message"))
    task_result: Result | None = None
    outputs: list[Video] | None = None
    final_unit_deduction: Any = None
    final_balance_deduction: Any = None
    billing: Any = None

    @property
    def video(self) -> Video | None:
        """The clip, where there is one."""
        made = self.outputs or (self.task_result.videos if self.task_result else None) or []
        return next((video for video in made if video.type == "video" and video.url), None)


class OneTask(View):
    """The answer to a look in the older API."""

    data: Task


class Tasks(View):
    """The answer to a look in the newer API: empty for an unknown id."""

    data: list[Task]


class FaceSpan(View):
    """A face and when it is seen, in milliseconds."""

    face_id: str
    start_time: int
    end_time: int


class Session(View):
    """A video searched for faces."""

    session_id: str = Field(min_length=1)
    face_data: list[FaceSpan] = []
    final_unit_deduction: Any = None


class FoundFaces(View):
    """The answer to `identify-face`."""

    data: Session


class Pack(View):
    """A resource pack; times in milliseconds."""

    resource_pack_name: str = ""
    remaining_quantity: Decimal = Decimal(0)
    status: str = ""
    invalid_time: int | None = None


class Costs(View):
    """The packs; the list is missing where there is none."""

    code: int = 0
    resource_pack_subscribe_infos: list[Pack] | None = None


class Account(View):
    """The answer to `account/costs`."""

    data: Costs


def code_of(answer: Answer) -> int | None:
    """The body's `code`; None where there is none."""
    code = answer.json.get("code") if isinstance(answer.json, dict) else None
    if isinstance(code, str) and code.isdecimal():
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def is_unknown(answer: Answer) -> bool:
    """Whether Kling itself says that it knows no such task; a bare 404, which a proxy may send, says nothing."""
    return answer.status < 500 and code_of(answer) in UNKNOWN_TASK


def amount(value: Any) -> Decimal | None:
    """A number, mostly written as text; None for anything that cannot be an amount."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number < 10**9 else None


def billed_usd(task: Task, credit_usd: Decimal | None) -> Decimal | None:
    """US dollars that Kling says a task cost; None where it says nothing that can be counted in dollars."""
    if task.billing:
        return _of_entries(task.billing, credit_usd)
    balance = task.final_balance_deduction
    quota = amount(balance.get("quota")) if isinstance(balance, dict) else None
    units = amount(task.final_unit_deduction)
    # Where the account's balance paid, its currency is not told.
    return None if quota or units is None or credit_usd is None else units * credit_usd


def _of_entries(billing: Any, credit_usd: Decimal | None) -> Decimal | None:
    """The sum of `billing[]`: units of a pack, or money, counted where it is dollars."""
    total = Decimal(0)
    for entry in billing if isinstance(billing, list) else (None,):
        if not isinstance(entry, dict):
            return None
        paid = amount(entry.get("amount"))
        in_units = entry.get("charge_type") == "unit"
        in_dollars = entry.get("charge_type") == "cash" and entry.get("currency") == "USD"
        rate = credit_usd if in_units else Decimal(1) if in_dollars else None
        if paid is None or rate is None:
            return None
        total += paid * rate
    return total
