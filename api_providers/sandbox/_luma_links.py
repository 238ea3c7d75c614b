"""Signed links of the two Luma twins: a secret in the query, dead after the bench's `link_seconds`."""

import hashlib
import hmac
import secrets

from starlette.requests import Request

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench, Task
from api_providers.sandbox._render import suffix


class Links:
    """Makes and judges the links of one twin."""

    def __init__(self, bench: Bench) -> None:
        """The secret is new with every start, so old links die with the twin."""
        self._bench = bench
        self._secret = secrets.token_bytes(32)

    def of(self, request: Request, task: Task) -> str:
        """A fresh link to a finished task's clip."""
        expires = int((self._bench.clock() + self._bench.link_seconds) * 1000)
        query = f"Expires={expires}&Signature={self.sign(f'{task.id}.{expires}')}"
        return f"{_desk.base(request)}/_cdn/{task.id}/output.{suffix(task.clip)}?{query}"

    def good(self, request: Request, id_: str) -> bool:
        """Whether the link was made here for that id and is still alive."""
        expires = request.query_params.get("Expires", "")
        signed = hmac.compare_digest(request.query_params.get("Signature", ""), self.sign(f"{id_}.{expires}"))
        return signed and expires.isdecimal() and self._bench.clock() <= int(expires) / 1000

    def sign(self, text: str) -> str:
        """The signature of a text."""
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
