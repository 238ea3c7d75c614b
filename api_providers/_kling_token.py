"""The signed token that Kling takes in place of a key: HS256 over three claims, kept until it nears its end."""

import json
from collections.abc import Callable

from jwt.algorithms import HMACAlgorithm
from jwt.api_jws import PyJWS

LIFE_S = 1800
EARLY_S = 5
"""A token is good from a little before now, for clocks that differ."""
RENEW_S = 300
"""A token is replaced when it has less than this left."""


class _Key(HMACAlgorithm):
    """HS256 with a secret of whatever length the vendor gave out."""

    def check_key_length(self, key: bytes) -> str | None:
        """The library warns of short ones; here they are not ours to choose."""
        return None


_JWS = PyJWS(algorithms=[])
_JWS.register_algorithm("HS256", _Key(_Key.SHA256))


class Signer:
    """Makes tokens; the secret's bytes are used as they are, not decoded."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` in seconds since the epoch."""
        self._now = now
        self._token: tuple[str, int] | None = None

    def token(self, access: str, secret: str) -> str:
        """The last one, or a new one where that runs out soon or the clock was set back since."""
        now = self._now()
        if self._token is not None and self._token[1] - LIFE_S <= now < self._token[1] - RENEW_S:
            return self._token[0]
        expires = int(now) + LIFE_S
        claims = {"iss": access, "exp": expires, "nbf": int(now) - EARLY_S}
        token = _JWS.encode(json.dumps(claims).encode(), secret.encode(), algorithm="HS256")
        self._token = (token, expires)
        return token

    def forget(self) -> None:
        """Kling says that it has expired."""
        self._token = None
