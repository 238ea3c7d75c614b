"""How Google says no: google.rpc.Status bodies, and the refusals a submit can be ordered to get."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api_providers.sandbox import _desk
from api_providers.sandbox._faults import FaultKind

STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
NO_TOKEN = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential."
)
NO_KEY = "API key not valid. Please pass a valid API key."


class No(HTTPException):
    """A refusal; `wrapped` is the list of one that Google's front end puts around it."""

    def __init__(self, status: int, text: str, *details: dict[str, Any], wrapped: bool = False) -> None:
        """`details` as google.rpc messages."""
        super().__init__(status, text)
        self.details = details
        self.wrapped = wrapped


def answer(status: int, text: str, *details: dict[str, Any], wrapped: bool = False) -> Response:
    """The error body."""
    error: dict[str, Any] = {"code": status, "message": text, "status": STATUS.get(status, "UNKNOWN")}
    if details:
        error["details"] = list(details)
    body = {"error": error}
    return JSONResponse([body] if wrapped else body, status)


def info(reason: str) -> dict[str, Any]:
    """An ErrorInfo detail."""
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


def bad_key() -> No:
    """A wrong key of the Gemini API: a 400, and from the front end."""
    return No(400, NO_KEY, info("API_KEY_INVALID"), wrapped=True)


def refuse(refusal: _desk.Refusal, *, vertex: bool) -> Response:
    """An ordered refusal, or one by the twin's own limits. No Retry-After: the pause is a detail."""
    match refusal.kind:
        case FaultKind.AUTH if vertex:
            return answer(401, NO_TOKEN)
        case FaultKind.AUTH:
            return answer(400, NO_KEY, info("API_KEY_INVALID"), wrapped=True)
        case FaultKind.NO_CREDIT if vertex:
            text = "This API method requires billing to be enabled. Please enable billing on project sandbox."
            return answer(403, text, info("BILLING_DISABLED"))
        case FaultKind.NO_CREDIT:
            return answer(
                429, "Your prepayment credits are depleted. Please manage your project and billing."
            )
        case FaultKind.SERVER_ERROR:
            return answer(500, "Internal error encountered.")
        case FaultKind.UNAVAILABLE:
            return answer(503, "The service is currently unavailable.")
    text = "You exceeded your current quota, please check your plan and billing details."
    if vertex:
        text = "Quota exceeded for aiplatform.googleapis.com/long_running_online_prediction_requests_per_base_model."
    if refusal.retry_after is None:
        return answer(429, text)
    delay = {
        "@type": "type.googleapis.com/google.rpc.RetryInfo",
        "retryDelay": f"{-int(-refusal.retry_after // 1)}s",
    }
    return answer(429, text, delay)


async def say(request: Request, error: Exception) -> Response:
    """Exception handler of the app."""
    if isinstance(error, No):
        return answer(error.status_code, str(error.detail), *error.details, wrapped=error.wrapped)
    status = error.status_code if isinstance(error, HTTPException) else 500
    return answer(status, "Method not found." if status in {404, 405} else "Internal error encountered.")
