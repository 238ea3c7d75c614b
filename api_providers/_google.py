"""What Vertex AI and the Gemini API share: Google's error body, and clips that come as base64 inside an answer.

Source of the error body: google.rpc.Status; seen wrapped in a list of one where Google's front end answers.
"""

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from typing import Any

from api_providers._answer import LONGEST_RETRY_AFTER_S, Answer
from api_providers._http import HttpProvider
from router.contract import errors
from router.contract.backend import Operation, Output
from router.contract.errors import GatewayError
from router.contract.words import words

ANSWER_MAX_BYTES = 256 * 1024 * 1024
"""A clip inside JSON is tens of MB (docs)."""
MESSAGE_READ = 4000
"""Characters of an answer without a message that are looked at: the rest may be a whole clip."""
_CONTENT = re.compile(
    r"violat\w+[^.]*\b(guideline|polic)|responsible ai|support codes?:|\bblocked\b[^.]*\b(safety|polic)"
    r"|could not generate \d+ videos",
    re.IGNORECASE,
)
"""How Google words a refusal by its safety filters; a parameter's name such as `safety_settings` is none."""
_PERSONS = re.compile(r"\bpersons?\b|\bpeople\b|persongeneration")
_SAFETY_CODES = frozenset({"SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "CONTENT_FILTER"})
_DELAY = re.compile(r"(\d+(?:\.\d+)?)s")


class GoogleProvider(HttpProvider):
    """Base of both clients."""

    fetch_with_key = True
    answer_max_bytes = ANSWER_MAX_BYTES

    def kind_of_error(self, answer: Answer) -> type[GatewayError] | None:
        """400 and 403 have several causes each; the reason in `details`, else the text, says which."""
        kind = super().kind_of_error(answer)
        if kind is None or answer.ok:
            return kind
        text = self.message_of(answer)
        said = text.lower()
        if answer.status in {400, 403} and refuses_content(text):
            return errors.ContentRejected
        if "API_KEY_INVALID" in _reasons(answer) or "api key not valid" in said:
            return errors.AuthenticationFailed
        if answer.status in {400, 403} and ("BILLING_DISABLED" in _reasons(answer) or "billing" in said):
            return errors.QuotaExhausted
        if answer.status == 429 and "depleted" in said:
            return errors.QuotaExhausted
        if answer.status == 403 and _PERSONS.search(said):
            # Generation of persons is not allowed for this project: the key itself is good.
            return errors.InvalidRequest
        return kind

    def message_of(self, answer: Answer) -> str:
        """The message of the first error; a body without one is cut short, it may hold a clip."""
        status = _status(answer)
        if isinstance(status.get("message"), str) and status["message"]:
            return str(status["message"])
        return super().message_of(answer._replace(text=answer.text[:MESSAGE_READ]))

    def error(self, kind: type[GatewayError], answer: Answer) -> GatewayError:
        """`Retry-After` is usually absent; the pause stands in a RetryInfo detail."""
        made = super().error(kind, answer)
        if made.retry_after is None:
            made.retry_after = _retry_delay_s(answer)
        return made

    async def keep(self, encoded: str, operation: Operation, number: int, mime: str) -> Output:
        """A clip out of an answer as a file of ours; the same clip again takes the same place."""
        name = hashlib.sha256(operation.ref.encode()).hexdigest()[:32]
        path = self.config.scratch / f"{name}-{number}.mp4"
        part = path.with_suffix(f".{id(encoded):x}.part")

        def write() -> None:
            try:
                part.write_bytes(base64.b64decode(encoded, validate=True))
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

        try:
            await asyncio.to_thread(write)
        except binascii.Error:
            raise errors.UnexpectedResponse(
                words("sent a clip that is no base64", "base64 として読めない動画が返されました。"),
                backend=self.name,
            ) from None
        except OSError as error:
            raise errors.StorageFull(
                words(
                    f"the clip cannot be written ({error.strerror}); make room and it is asked for again",
                    f"動画を書き込めません({error.strerror})。空きを作ると再度取得します。",
                ),
                backend=self.name,
            ) from None
        return Output(path=path, mime=mime)


def refuses_content(text: str, code: Any = None) -> bool:
    """Whether an error is a refusal by the safety filters, by its words or its code."""
    return (isinstance(code, str) and code.upper() in _SAFETY_CODES) or _CONTENT.search(text) is not None


def _status(answer: Answer) -> dict[str, Any]:
    """The google.rpc.Status of an error answer, {} where there is none."""
    body = answer.json[0] if isinstance(answer.json, list) and answer.json else answer.json
    status = body.get("error") if isinstance(body, dict) else None
    return status if isinstance(status, dict) else {}


def _details(answer: Answer) -> Iterator[dict[str, Any]]:
    details = _status(answer).get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            yield detail


def _reasons(answer: Answer) -> set[str]:
    return {str(detail["reason"]) for detail in _details(answer) if "reason" in detail}


def _retry_delay_s(answer: Answer) -> float | None:
    """`retryDelay` of a RetryInfo, a protobuf duration such as `30s`."""
    for detail in _details(answer):
        found = _DELAY.fullmatch(str(detail.get("retryDelay", "")))
        if found:
            return min(float(found[1]), LONGEST_RETRY_AFTER_S)
    return None
