"""The demo's jobs: what is asked for, what goes wrong meanwhile, and how each must end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from router.contract.errors import RateLimited, Unavailable
from router.contract.words import Words, words

LOCAL = "local"
CLOUD = ("runway", "fal")
"""The backends whose stand-ins the faults are ordered from; the cases with a fault may use no other cloud."""


@dataclass(frozen=True)
class Case:
    """One job and how it must end."""

    name: str
    title: Words
    prompt: str
    expect: str
    """`cloud` or `local`."""
    fault: str | None = None
    """What every stand-in does from now on, until the case is over."""
    refused_with: str | None = None
    """Code with which the cloud must have been tried or passed over."""
    accepted_first: bool = False
    """Whether a cloud attempt must have been accepted and then have failed."""
    preferences: Mapping[str, Any] = field(default_factory=dict)
    image: bool = False


CASES = (
    Case(
        "cloud",
        words("The cloud is well", "クラウドが正常"),
        "a blue star moves to the right on a white background",
        expect="cloud",
    ),
    Case(
        "rate_limited",
        words("The cloud says 429: too many requests", "クラウドが 429(リクエスト過多)を返す"),
        "a red circle moves to the left on a white background",
        expect=LOCAL,
        fault="rate_limit",
        refused_with=RateLimited.code,
        preferences={"backends": (*CLOUD, LOCAL)},
    ),
    Case(
        "cloud_down",
        words("The cloud is down (503)", "クラウドが停止中(503)"),
        "a yellow square moves up on a light blue background",
        expect=LOCAL,
        fault="unavailable",
        refused_with=Unavailable.code,
        preferences={"backends": (*CLOUD, LOCAL)},
    ),
    Case(
        "too_expensive",
        words("At most $0.05 may be spent", "上限が 0.05 ドル"),
        "a purple star grows larger on a white background",
        expect=LOCAL,
        preferences={"max_usd": "0.05", "backends": (*CLOUD, LOCAL)},
    ),
    Case(
        "failed_after_accept",
        words("The cloud accepts, then fails", "クラウドが受け付けた後に失敗"),
        "an orange circle moves down on a light blue background",
        expect=LOCAL,
        fault="fail_after_accept",
        accepted_first=True,
        preferences={"backends": ("runway/gen4.5", LOCAL)},
    ),
    Case(
        "image_to_video",
        words("A picture begins to move, on this machine", "手元のマシンで画像を動かす"),
        "an orange ball moves up on a dark blue background",
        expect=LOCAL,
        preferences={"mode": "local-only"},
        image=True,
    ),
    Case(
        "japanese",
        words("A Japanese prompt, on this machine", "日本語のプロンプト(手元のマシン)"),
        "灰色の背景で黄色い星が上に動く",
        expect=LOCAL,
        preferences={"mode": "local-only"},
    ),
)
