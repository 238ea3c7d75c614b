"""How the Kling twin checks a key: a plain one everywhere, a signed token in the older API only."""

import base64
import hashlib
import hmac
import json
from datetime import datetime
from typing import Any

from starlette.requests import Request

from api_providers.sandbox._kling_inputs import Refused


def authorise(request: Request, now: datetime, *, new: bool) -> None:
    """Refuses a call without a sandbox key, or with a token where that is not taken or not good now."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        raise Refused("Authorization is empty", code=1001, status=401)
    if scheme == "Bearer" and token.startswith("sandbox-"):
        return
    if scheme != "Bearer" or new or token.count(".") != 2:
        raise Refused("api key not found", code=1002, status=401)
    claims = _claims(token)
    if now.timestamp() < claims["nbf"]:
        raise Refused("Authorization is not yet valid", code=1003, status=401)
    if now.timestamp() >= claims["exp"]:
        raise Refused("Authorization has expired", code=1004, status=401)


def _claims(token: str) -> dict[str, Any]:
    """The claims of a token signed with a sandbox pair, whose two halves are the same word."""
    wrong = Refused("Authorization is invalid", code=1002, status=401)
    head, body, signature = token.split(".")
    try:
        header, claims = json.loads(_unpadded(head)), json.loads(_unpadded(body))
        access = str(claims["iss"])
        right = hmac.new(access.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
        good = header["alg"] == "HS256" and hmac.compare_digest(right, _unpadded(signature))
    except (ValueError, KeyError, TypeError):
        raise wrong from None
    if not good or not access.startswith("sandbox-") or set(claims) != {"iss", "exp", "nbf"}:
        raise wrong
    if type(claims["exp"]) is not int or type(claims["nbf"]) is not int:
        raise wrong
    return dict(claims)


def _unpadded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
