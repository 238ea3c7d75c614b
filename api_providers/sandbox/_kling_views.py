"""How the Kling twin shows a task in each API, and the signed links to its clip."""

import hashlib
import hmac
import secrets
from decimal import Decimal
from typing import Any

from starlette.requests import Request

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench, Fate, Phase, Task, plain
from api_providers.sandbox._kling_models import UNIT_USD
from api_providers.sandbox._render import suffix

FAILURES = {
    Fate.FAIL: "Internal error, please try again later.",
    Fate.REFUSE: "Failure to pass the risk control system",
}


class Views:
    """Tasks of one bench as the two APIs write them."""

    def __init__(self, bench: Bench) -> None:
        """Links are signed with a secret of this run."""
        self.bench = bench
        self._secret = secrets.token_bytes(32)

    def created(self, task: Task) -> dict[str, Any]:
        """`data` of the answer to a create call."""
        return (
            self._new_head(task, "submitted") if task.data["at"] == "tasks" else self._head(task, "submitted")
        )

    def legacy(self, request: Request, task: Task) -> dict[str, Any]:
        """A task in `/v1`, where success is spelled `succeed`."""
        phase = self.bench.phase(task)
        view = self._head(task, {"succeeded": "succeed"}.get(_status(phase), _status(phase)))
        view["task_status_msg"] = FAILURES[task.fate] if phase is Phase.FAILED else ""
        if not phase.live:
            view["final_unit_deduction"] = plain(self._deducted(task))
            view["final_balance_deduction"] = {"quota": "0", "list_price": "0"}
            view["watermark_info"] = {"enabled": False}
        if phase is Phase.SUCCEEDED:
            view["task_result"] = {"videos": [self._video(request, task)]}
        return view

    def new(self, request: Request, task: Task) -> dict[str, Any]:
        """A task in the newer API."""
        phase = self.bench.phase(task)
        view = self._new_head(task, _status(phase))
        view["message"] = FAILURES[task.fate] if phase is Phase.FAILED else ""
        view["outputs"] = []
        view["billing"] = []
        if not phase.live:
            units = {"charge_type": "unit", "package_type": "video", "amount": plain(self._deducted(task))}
            view["billing"] = [units]
        if phase is Phase.SUCCEEDED:
            view["outputs"] = [{"type": "video", **self._video(request, task)}]
        return view

    def opens(self, request: Request, task: Task) -> bool:
        """Whether a link to the clip is signed and still good."""
        expires, given = (request.query_params.get(name, "") for name in ("x-expires", "x-signature"))
        if not hmac.compare_digest(given, self._sign(f"{task.id}.{expires}")):
            return False
        return expires.isdecimal() and self.bench.clock() <= int(expires) / 1000

    def _head(self, task: Task, status: str) -> dict[str, Any]:
        accepted = _ms(task)
        return {
            "task_id": task.id,
            "task_status": status,
            "task_info": {"external_task_id": task.client_ref} if task.client_ref else {},
            "created_at": accepted,
            "updated_at": accepted,
        }

    def _new_head(self, task: Task, status: str) -> dict[str, Any]:
        accepted = _ms(task)
        return {
            "id": task.id,
            "status": status,
            "create_time": accepted,
            "update_time": accepted,
            "external_id": task.client_ref or "",
        }

    def _video(self, request: Request, task: Task) -> dict[str, str]:
        expires = int((self.bench.clock() + self.bench.link_seconds) * 1000)
        signature = self._sign(f"{task.id}.{expires}")
        path = f"{_desk.base(request)}/_cdn/{task.id}/output.{suffix(task.clip)}"
        return {
            "id": task.data["video"],
            "url": f"{path}?x-expires={expires}&x-signature={signature}",
            "watermark_url": "",
            "duration": f"{task.clip.seconds:.1f}",
        }

    def _deducted(self, task: Task) -> Decimal:
        """Units of the task itself, without those of a face search before it."""
        units: Decimal = self.bench.charged(task) / UNIT_USD - task.data["before"]
        return units

    def _sign(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


def _status(phase: Phase) -> str:
    waiting = {Phase.WAITING: "submitted", Phase.QUEUED: "submitted", Phase.RUNNING: "processing"}
    return waiting.get(phase, phase.value)


def _ms(task: Task) -> int:
    return int(task.accepted_at.timestamp() * 1000)
