"""A stand-in for the Hugging Face hub over real HTTP: what its library asks, and the faults that real lines have.

Written after the library's own requests (huggingface_hub 2.4.0: `HfApi.model_info`, `list_repo_tree`, `hf_hub_download`):
large files live behind a redirect to another host, small ones are answered directly.
"""

import hashlib
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

CHUNK = 64 * 1024


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Repo:
    """One repository at one commit."""

    files: dict[str, bytes]
    gated: bool = False
    """Whether only the account of `allowed` may fetch files; listing is public, as on the hub."""
    allowed: str | None = None

    @property
    def commit(self) -> str:
        """Changes with the content."""
        every = b"".join(name.encode() + data for name, data in sorted(self.files.items()))
        return hashlib.sha1(every).hexdigest()


@dataclass
class HubTwin:
    """`with HubTwin() as hub`: answers at `hub.url`."""

    repos: dict[str, Repo] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    """Path -> after how many bytes the next answers end the connection; used up one by one."""
    serves: dict[str, bytes] = field(default_factory=dict)
    """Path -> other bytes than the listing announces."""
    holds: dict[str, int] = field(default_factory=dict)
    """Path -> after how many bytes the answer falls silent, until the client leaves."""
    ignores_range: bool = False
    silent: threading.Event = field(default_factory=threading.Event)
    """Set when an answer has fallen silent."""
    url: str = ""
    _blobs: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        app = Starlette(
            routes=[
                Route("/api/models/{owner}/{name}/revision/{revision}", self._info),
                Route("/api/models/{owner}/{name}/tree/{revision}", self._tree),
                Route("/{owner}/{name}/resolve/{revision}/{path:path}", self._resolve),
                Route("/cdn/{sha}", self._cdn),
            ]
        )
        config = uvicorn.Config(
            app, port=0, log_level="critical", lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
        self._port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def ranges(self, path: str) -> list[str | None]:
        """The Range header of every request for a file's bytes."""
        shas = {sha for sha, (name, _) in self._blobs.items() if name == path}
        return [
            seen.range
            for seen in self.asked
            if seen.method == "GET" and (seen.path.removeprefix("/cdn/") in shas or _names(seen.path, path))
        ]

    def _note(self, request: Request) -> None:
        headers = request.headers
        self.asked.append(
            Asked(request.method, request.url.path, headers.get("range"), headers.get("authorization"))
        )

    def _repo(self, request: Request) -> Repo | None:
        self._note(request)
        return self.repos.get(f"{request.path_params['owner']}/{request.path_params['name']}")

    async def _info(self, request: Request) -> Response:
        repo = self._repo(request)
        if repo is None:
            return _error(401, "RepoNotFound", "Invalid username or password.")
        if request.path_params["revision"] not in {"main", repo.commit}:
            return _error(404, "RevisionNotFound", "Invalid rev id")
        siblings = []
        for name, data in repo.files.items():
            entry = {"rfilename": name, "size": len(data), "blobId": _git_sha1(data)}
            if _large(name):
                lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
                entry |= {"lfs": lfs}
            siblings.append(entry)
        name = f"{request.path_params['owner']}/{request.path_params['name']}"
        return JSONResponse({"id": name, "modelId": name, "sha": repo.commit, "siblings": siblings})

    async def _tree(self, request: Request) -> Response:
        repo = self._repo(request)
        assert repo is not None
        return JSONResponse(
            [
                {"type": "file", "path": name, "size": len(data), "oid": _git_sha1(data)}
                | (
                    {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}}
                    if _large(name)
                    else {}
                )
                for name, data in repo.files.items()
            ]
        )

    async def _resolve(self, request: Request) -> Response:
        repo = self._repo(request)
        if repo is None:
            return _error(404, "RepoNotFound", "Repository not found")
        if repo.gated and request.headers.get("authorization") != f"Bearer {repo.allowed}":
            status = 403 if "authorization" in request.headers else 401
            return _error(status, "GatedRepo", "Access to this model is restricted.")
        path = request.path_params["path"]
        if path not in repo.files:
            return _error(404, "EntryNotFound", "Entry not found")
        announced = repo.files[path]
        data = self.serves.get(path, announced)
        if not _large(path):
            headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{_git_sha1(announced)}"'}
            return self._bytes(request, path, data, headers)
        sha = hashlib.sha256(announced).hexdigest()
        self._blobs[sha] = (path, data)
        headers = {
            "X-Repo-Commit": repo.commit,
            "X-Linked-Etag": f'"{sha}"',
            "X-Linked-Size": str(len(announced)),
        }
        return RedirectResponse(f"http://localhost:{self._port}/cdn/{sha}?sig=secret", 302, headers)

    async def _cdn(self, request: Request) -> Response:
        self._note(request)
        path, data = self._blobs[request.path_params["sha"]]
        return self._bytes(request, path, data, {"ETag": '"cdn"'})

    def _bytes(self, request: Request, path: str, data: bytes, headers: dict[str, str]) -> Response:
        asked, start = request.headers.get("range"), 0
        if asked and not self.ignores_range:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers |= {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        headers |= {"Content-Length": str(len(data) - start), "Accept-Ranges": "bytes"}
        status = 206 if asked and not self.ignores_range else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        cuts = self.cuts.get(path)
        return _Faulty(
            self, data[start:], status, headers, cuts.pop(0) if cuts else None, self.holds.get(path)
        )


class _Faulty(StreamingResponse):
    """A body that may end early or fall silent."""

    def __init__(
        self,
        hub: HubTwin,
        data: bytes,
        status: int,
        headers: dict[str, str],
        cut: int | None,
        hold: int | None,
    ) -> None:
        super().__init__(iter(()), status, headers)
        self._hub, self._data, self._cut, self._hold = hub, data, cut, hold

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        stop = min(len(self._data), *(n for n in (self._cut, self._hold, len(self._data)) if n is not None))
        for at in range(0, stop, CHUNK):
            body = self._data[at : min(at + CHUNK, stop)]
            await send({"type": "http.response.body", "body": body, "more_body": True})
        if stop == len(self._data) or self._cut is not None:
            # Shorter than its Content-Length: uvicorn ends the connection.
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        self._hub.silent.set()
        while (await receive())["type"] != "http.disconnect":
            pass


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": message}, status, {"X-Error-Code": code, "X-Error-Message": message})


def _large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".onnx"))


def _names(asked: str, path: str) -> bool:
    return not _large(path) and asked.endswith(f"/{path}")


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
