"""What an HTTP status means, and what errors say to the person who must act: what happened, whose fault, what to do."""

from api_providers._answer import Answer
from router.contract import errors
from router.contract.errors import GatewayError
from router.contract.words import Words, words

BY_STATUS: dict[int, type[GatewayError]] = {
    400: errors.InvalidRequest,
    401: errors.AuthenticationFailed,
    402: errors.QuotaExhausted,
    403: errors.AuthenticationFailed,
    413: errors.InvalidRequest,
    415: errors.InvalidRequest,
    422: errors.InvalidRequest,
    429: errors.RateLimited,
    451: errors.ContentRejected,
}
"""Other 4xx: BackendError. 5xx: Unavailable. Anything else: UnexpectedResponse."""

_SAYS: dict[type[GatewayError], tuple[str, str]] = {
    errors.ContentRejected: (
        "the safety filter refused this ({text}); change the prompt or the image",
        "安全フィルターに拒否されました({text})。プロンプトまたは画像を変更してください。",
    ),
    errors.InvalidRequest: (
        "refused the request ({text}); change it and try again",
        "リクエストが受け付けられませんでした({text})。内容を変更して再度お試しください。",
    ),
    errors.AuthenticationFailed: (
        "refused our API key ({text}); check the key and the account",
        "API キーが拒否されました({text})。キーとアカウントを確認してください。",
    ),
    errors.QuotaExhausted: (
        "credit is used up ({text}); top up the account",
        "クレジットの残高がありません({text})。アカウントにチャージしてください。",
    ),
    errors.RateLimited: (
        "too many requests or the day's limit is reached ({text}); it rests for a while",
        "リクエスト数の上限に達しました({text})。しばらく休止します。",
    ),
    errors.Unavailable: (
        "their service is not available now ({text}); nothing for you to repair",
        "先方のサービスが現在利用できません({text})。こちらで直す必要はありません。",
    ),
    errors.UnexpectedResponse: (
        "sent an answer that its documentation does not allow ({text}); their API may have changed",
        "仕様にない応答が返されました({text})。先方の API が変わった可能性があります。",
    ),
    errors.GenerationFailed: (
        "accepted the job and then failed ({text})",
        "受け付け後に生成が失敗しました({text})。",
    ),
}
_OTHER = ("refused the call ({text})", "呼び出しが拒否されました({text})。")


def kind_by_status(answer: Answer) -> type[GatewayError] | None:
    """What the status alone means; None for a 2xx that can be read."""
    if answer.ok:
        return None if answer.readable else errors.UnexpectedResponse
    if answer.status >= 500:
        return errors.Unavailable
    if answer.status >= 400:
        return BY_STATUS.get(answer.status, errors.BackendError)
    return errors.UnexpectedResponse


def said(kind: type[GatewayError], text: str) -> Words:
    """The sentence for that kind of error around the provider's own (already redacted) text."""
    en, ja = next((_SAYS[base] for base in kind.__mro__ if base in _SAYS), _OTHER)
    return words(en.replace("{text}", text), ja.replace("{text}", text))


def outcome_unknown(backend: str, detail: str) -> errors.OutcomeUnknown:
    """The call that buys was sent and what became of it is not known."""
    return errors.OutcomeUnknown(
        words(
            "the request was sent but no clear answer came: the clip may be in the making and may be billed. "
            "It is not sent again by itself; look at the provider's own task list or bill, then settle the job",
            "リクエストは送信されましたが、確かな応答がありません。生成が進み、課金されている可能性があります。"
            "自動では再送しません。プロバイダー側のタスク一覧または請求を確認し、settle で確定してください。",
        ),
        backend=backend,
        detail=detail,
    )


def not_sent(backend: str, detail: str) -> errors.Unavailable:
    """No connection was made."""
    return errors.Unavailable(
        words(
            "cannot be reached; nothing was sent. Check the network, or wait if it is their outage",
            "接続できません。何も送信していません。ネットワークを確認するか、先方の障害なら復旧をお待ちください。",
        ),
        backend=backend,
        detail=detail,
    )


def broke_off(backend: str, detail: str) -> errors.Unavailable:
    """The connection ended too early, on a call that buys nothing."""
    return errors.Unavailable(
        words(
            "the connection broke before the answer was complete; this call is safe to repeat",
            "応答を受け取り終える前に接続が切れました。この呼び出しは安全に再試行できます。",
        ),
        backend=backend,
        detail=detail,
    )


def unreadable(backend: str, detail: str) -> errors.UnexpectedResponse:
    """An answer without what its documentation promises, on a call that buys nothing."""
    return errors.UnexpectedResponse(
        words(
            f"sent an answer that cannot be read ({detail}); their API may have changed",
            f"読み取れない応答が返されました({detail})。先方の API が変わった可能性があります。",
        ),
        backend=backend,
        detail=detail,
    )
