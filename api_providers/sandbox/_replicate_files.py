"""The file store of the Replicate twin, and what all its calls share: the key and the form of a refusal."""

import hashlib
import json
import secrets
import string
from datetime import timedelta
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api_providers.sandbox import _desk
from api_providers.sandbox._bench import Bench

NOT_FOUND = "The requested resource could not be found."
ALPHABET = string.ascii_lowercase + string.digits


class Problem(Exception):
    """An answer in the form of RFC 7807."""

    def __init__(self, status: int, detail: str, title: str | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {**({"title": title} if title else {}), "detail": detail, "status": status, **more}


def authorize(request: Request) -> None:
    """Raises the 401 of a key that is not the sandbox's."""
    if _desk.bearer(request) is None:
        raise Problem(401, "You did not pass a valid authentication token", "Unauthenticated")


class Files:
    """Uploaded inputs, each under an id of its own for a day."""

    def __init__(self, bench: Bench) -> None:
        """The bytes lie on the bench, so that a reset forgets them."""
        self.bench = bench
        self.facts: dict[str, dict[str, Any]] = {}

    async def take(self, request: Request) -> Response:
        """`POST /v1/files`."""
        authorize(request)
        async with request.form() as form:
            content, metadata = form.get("content"), form.get("metadata")
            if not isinstance(content, UploadFile):
                raise Problem(400, "Missing content", "Bad request")
            data = await content.read()
        id_ = "".join(secrets.choice(ALPHABET) for _ in range(52))
        self.bench.uploads[id_] = data
        now = self.bench.now()
        sums = {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest()}
        self.facts[id_] = {
            "id": id_,
            "name": content.filename or "file",
            "content_type": content.content_type or "application/octet-stream",
            "size": len(data),
            "etag": sums["md5"],
            "checksums": sums,
            "metadata": json.loads(str(metadata)) if metadata else {},
            "created_at": now.isoformat().replace("+00:00", "Z"),
            "expires_at": (now + timedelta(days=1)).isoformat().replace("+00:00", "Z"),
        }
        return JSONResponse(self._view(request, id_), 201)

    async def list_all(self, request: Request) -> Response:
        """`GET /v1/files`."""
        authorize(request)
        views = [self._view(request, id_) for id_ in reversed(self.bench.uploads)]
        return JSONResponse({"next": None, "previous": None, "results": views})

    async def one(self, request: Request) -> Response:
        """`GET` and `DELETE /v1/files/{id}`."""
        authorize(request)
        id_ = request.path_params["id"]
        if id_ not in self.bench.uploads:
            raise Problem(404, NOT_FOUND)
        if request.method == "DELETE":
            del self.bench.uploads[id_]
            return Response(status_code=204)
        return JSONResponse(self._view(request, id_))

    def known(self, url: str) -> bool:
        """Links of others are taken as they are; one of ours must name a file that was uploaded."""
        _, marker, id_ = url.partition("/v1/files/")
        return not marker or id_ in self.bench.uploads

    def _view(self, request: Request, id_: str) -> dict[str, Any]:
        return self.facts[id_] | {"urls": {"get": f"{_desk.base(request)}/v1/files/{id_}"}}
