"""The body of a create or a plan, read with a cap: JSON, or a form with at most one file."""

import asyncio
import base64
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from router.contract.card import Asset
from router.contract.errors import InvalidRequest
from router.contract.request import VideoRequest
from router.contract.words import words
from router.server import openai_wire
from router.server.errors import TooLarge, UnsupportedBody

Kind = Literal["image", "video", "audio"]
Keep = Callable[[bytes | Path, Kind], Awaitable[Asset]]
"""Puts a file into the media store."""

_MIB = 1024 * 1024
_BESIDE_THE_FILE = _MIB
"""Bytes that the other fields of a form may take on top of the file."""
_PARSE_IN_THREAD = 256 * 1024
"""Bytes of JSON above which parsing would be felt by other requests."""


async def read_request(request: Request, *, max_mb: int, keep: Keep | None) -> VideoRequest:
    """The caller's request. Raises InvalidRequest, TooLarge, UnsupportedBody.

    With `keep` an uploaded file becomes an asset; without, it travels inline and nothing is written.
    """
    capped = _capped(request, max_mb)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        body = await capped.body()
        if len(body) > _PARSE_IN_THREAD:
            return await asyncio.to_thread(lambda: openai_wire.to_request(openai_wire.from_json(body)))
        return openai_wire.to_request(openai_wire.from_json(body))
    if kind == "multipart/form-data":
        return await _from_form(capped, max_mb, keep)
    raise UnsupportedBody(
        words(
            "Send JSON (Content-Type: application/json) or a form (multipart/form-data).",
            "JSON(Content-Type: application/json)またはフォーム(multipart/form-data)で送信してください。",
        )
    )


def _capped(request: Request, max_mb: int) -> Request:
    """The same request; reading more than the cap raises TooLarge."""
    limit = max_mb * _MIB + _BESIDE_THE_FILE
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise _too_large(max_mb)
    seen = 0

    async def receive() -> Message:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _too_large(max_mb)
        return message

    return Request(request.scope, receive)


def _too_large(max_mb: int) -> TooLarge:
    return TooLarge(
        words(
            f"The request is larger than {max_mb} MB, the limit of this server "
            "(UNDERSTUDY_SERVER_MAX_UPLOAD_MB raises it).",
            f"リクエストがこのサーバーの上限 {max_mb} MB を超えています"
            "(UNDERSTUDY_SERVER_MAX_UPLOAD_MB で変更できます)。",
        )
    )


async def _from_form(request: Request, max_mb: int, keep: Keep | None) -> VideoRequest:
    limit = max_mb * _MIB + _BESIDE_THE_FILE
    try:
        form = await request.form(max_files=1, max_fields=200, max_part_size=limit)
    except HTTPException as error:
        raise InvalidRequest(
            words(f"The form cannot be read: {error.detail}", f"フォームを読み取れません: {error.detail}"),
            param="input_reference" if "files" in error.detail else None,
        ) from None
    try:
        items = form.multi_items()
        fields = [(name, value) for name, value in items if isinstance(value, str)]
        files = [(name, value) for name, value in items if isinstance(value, UploadFile)]
        data = openai_wire.from_form(fields)
        if not files:
            return openai_wire.to_request(data)
        name, file = files[0]
        if name != "input_reference":
            raise openai_wire.wrong(
                name,
                "a file can only be sent as input_reference",
                "ファイルを送信できる項目は input_reference だけです",
            )
        # The rest is checked first, with a placeholder: a wrong field must not leave a file behind.
        kind = _kind(file)
        _with(data, kind, "asset:" + "0" * 64)
        url = await _placed(file, kind, keep)
        return _with(data, kind, url)
    finally:
        await form.close()


def _with(data: dict[str, Any], kind: Kind, url: str) -> VideoRequest:
    if kind == "image":
        return openai_wire.to_request(data, frame=url)
    return openai_wire.to_request(data, reference=(kind, url))


def _kind(file: UploadFile) -> Kind:
    """As the caller declared it; what the file really is, the media store finds out."""
    declared = (file.content_type or "").lower()
    return "video" if declared.startswith("video/") else "audio" if declared.startswith("audio/") else "image"


async def _placed(file: UploadFile, kind: Kind, keep: Keep | None) -> str:
    if keep is None:
        data = await file.read()
        text = await asyncio.to_thread(lambda: base64.b64encode(data).decode("ascii"))
        return f"data:{file.content_type or 'application/octet-stream'};base64,{text}"
    if (file.size or 0) <= _MIB:
        asset = await keep(await file.read(), kind)
        return f"asset:{asset.id}"
    path = await asyncio.to_thread(_copied, file)
    try:
        asset = await keep(path, kind)
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
    return f"asset:{asset.id}"


def _copied(file: UploadFile) -> Path:
    """The parser's temporary file has no name; the media store wants one."""
    with tempfile.NamedTemporaryFile(prefix="understudy-upload-", delete=False) as target:
        shutil.copyfileobj(file.file, target)
    return Path(target.name)
