"""Money on the page: yen beside dollars, who says what a clip cost, and what changed between two attempts."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from router.contract.job import AttemptStatus, Job
from router.contract.request import VideoRequest
from router.contract.words import Lang, words
from router.currency import Display
from router.settings import Settings
from tests.ui.fake_gateway import BACKENDS, CARDS, FakeGateway, plan
from ui import view, view_jobs
from ui.names import Names
from ui.text import LANGS, Text

NAMES = Names(cards={card.id: card for card in CARDS}, backends=dict(BACKENDS))
YEN = Display("JPY", Decimal(150), date(2026, 11, 20))


@pytest.fixture
async def job(tmp_path: Path) -> Job:
    """Failed at Runway, whose bill was above its table, then made elsewhere."""
    gateway = FakeGateway(Settings(home=tmp_path, database_url="sqlite://"))
    made = gateway.finish((await gateway.submit(VideoRequest(prompt="a fox"))).id)
    first = made.attempts[0].model_copy(
        update={
            "status": AttemptStatus.FAILED,
            "estimate_usd": Decimal("0.25"),
            "reserved_usd": Decimal("0.25"),
            "billed_usd": Decimal("0.40"),
            "bill_basis": "provider",
        }
    )
    gone = plan().candidates[0]
    after = plan().model_copy(
        update={
            "chosen": plan().candidates[1],
            "candidates": plan().candidates[1:],
            "rejected": (
                *plan().rejected,
                plan()
                .rejected[0]
                .model_copy(
                    update={
                        "model": gone.model,
                        "code": "tried",
                        "reason": words("it failed <here>", "<失敗>"),
                    }
                ),
            ),
        }
    )
    second = made.attempts[0].model_copy(update={"n": 2, "decision": after, "bill_basis": "free"})
    return made.model_copy(update={"attempts": (first, second)})


@pytest.mark.parametrize(
    ("lang", "said"),
    [
        (
            "en",
            (
                "Meanwhile:",
                "went: it failed &lt;here&gt;",
                "the provider&#x27;s own figure",
                "our own device",
                "$0.15 above what was reserved",
            ),
        ),
        (
            "ja",
            (
                "この間の変化:",
                "対象外に: &lt;失敗&gt;",
                "プロバイダーの請求額",
                "自前のデバイス",
                "予約額を $0.15 超過",
            ),
        ),
    ],
)
def test_the_record_tells_what_changed_and_who_says_so(job: Job, lang: Lang, said: tuple[str, ...]) -> None:
    html = view_jobs.record(Text(lang), job, NAMES, ZoneInfo("UTC"))
    for text in said:
        assert text in html, text
    assert "¥" not in html


@pytest.mark.parametrize("lang", LANGS)
def test_yen_stand_beside_dollars_wherever_the_settings_ask_for_them(job: Job, lang: Lang) -> None:
    text = Text(lang, YEN)
    html = view_jobs.record(text, job, NAMES, ZoneInfo("UTC"))
    assert "$0.40 (¥60)" in html and "$0.25 (¥38)" in html
    assert "$0.25 (¥38)" in view.quote(text, plan())
    assert "¥" not in view.quote(Text(lang), plan())
    assert "1 USD = ¥150, 2026-11-20" in view.head(text, sandbox=False)
