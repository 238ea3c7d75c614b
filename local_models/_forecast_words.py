"""The sentences of a forecast: why it does not fit and what would, where seconds come from, what was not chosen."""

from collections.abc import Sequence
from typing import Protocol

from local_models._memory import DeviceFacts, LoadPlan, ModelNumbers, Option, options
from local_models._speed import REFERENCE, Anchor, card_factor
from router.contract.card import ModelCard
from router.contract.errors import Misfit
from router.contract.forecast import Basis, Measured, NotChosen
from router.contract.length import number
from router.contract.words import Words, same, words

SLOWER_SHOWN = 2
CACHE_FROM_STEPS = 15
"""Below, every step does something new and there is nothing to reuse (fact sheet: useless with 4-8 steps)."""
BUSY_SHARE = 0.8


class Size(Protocol):
    """What is told about a clip."""

    @property
    def width(self) -> int:
        """Pixels."""
        ...

    @property
    def height(self) -> int:
        """Pixels."""
        ...

    @property
    def frames(self) -> int:
        """All of them."""
        ...

    @property
    def fps(self) -> int:
        """Per second."""
        ...


def too_small(card: ModelCard, plan: LoadPlan, facts: DeviceFacts) -> Words:
    """Every plan needs more than there is; `plan` is the one that needs least."""
    if plan.peak_gb > facts.free_gb:
        return words(
            f"{card.id} needs about {plan.peak_gb:.1f} GB of card memory for this clip even with its smallest plan; there "
            f"are {facts.free_gb:.1f} GB",
            f"{card.id} でこの動画を作るには最小の構成でも約 {plan.peak_gb:.1f} GB の GPU メモリが必要ですが、"
            f"{facts.free_gb:.1f} GB しかありません",
        )
    return words(
        f"{card.id} needs about {plan.ram_gb:.0f} GB of host memory while it is loaded; there are {facts.ram_gb or 0:.0f} GB",
        f"{card.id} の読み込みには約 {plan.ram_gb:.0f} GB のメインメモリが必要ですが、{facts.ram_gb or 0:.0f} GB しかありません",
    )


def cpu_words(card: ModelCard) -> Words:
    """The settings say CPU, and the model is none for it."""
    return words(
        f"{card.id} would take hours per clip on the CPU. Plan for a card with --vram, or use local/tiny",
        f"{card.id} は CPU では 1 本に数時間かかります。--vram でカードを指定するか、local/tiny を使ってください",
    )


def no_numbers(card: ModelCard) -> Words:
    """Neither the table nor weights on the disk tell what it costs."""
    name = card.id.partition("/")[2]
    return words(
        f"Nothing is known about the memory that {card.id} needs. Put its weights in place "
        f"([local] models.{name}), then they are read.",
        f"{card.id} に必要なメモリが分かりません。重みを配置([local] models.{name})すると、そこから計算します。",
    )


def unknown_size(card: ModelCard, misfits: Sequence[Misfit]) -> Words:
    """A clip that the model does not make, with what it makes."""
    en = "; ".join(misfit.reason.en for misfit in misfits)
    ja = "。".join(misfit.reason.ja for misfit in misfits)
    return words(f"{card.id} cannot make this: {en}.", f"{card.id} では対応できません: {ja}。")


def nearest_words(why: Words, smaller: Size | None, others: Sequence[tuple[str, float]]) -> Words:
    """The refusal with the nearest things that fit; `others`: models with the host memory (GB) that they take."""
    en, ja = [why.en.rstrip(".")], [why.ja.rstrip("。")]
    if smaller is not None:
        said = (
            f"--resolution {smaller.width}x{smaller.height} --duration {number(smaller.frames / smaller.fps)}"
        )
        en.append(f"This model fits with {said}")
        ja.append(f"このモデルは {said} なら収まります")
    if others:
        en.append(f"Other models that fit: {', '.join(_named(*other).en for other in others)}")
        ja.append(f"収まる別のモデル: {'、'.join(_named(*other).ja for other in others)}")
    if smaller is None and not others:
        en.append("No local model fits there; use a cloud model")
        ja.append("収まるローカルモデルがありません。クラウドのモデルを使ってください")
    return words(". ".join(en) + ".", "。".join(ja) + "。")


def _named(model: str, ram_gb: float) -> Words:
    if not ram_gb:
        return same(model)
    return words(f"{model} ({ram_gb:.0f} GB of host memory)", f"{model}(メインメモリ {ram_gb:.0f} GB)")


def busy_words(facts: DeviceFacts, total_gb: float) -> tuple[Words, ...]:
    """Another program, or a model of ours that is loaded, holds memory."""
    if facts.kind == "cpu" or not total_gb or facts.free_gb > BUSY_SHARE * total_gb:
        return ()
    held = total_gb - facts.free_gb
    return (
        words(
            f"{held:.1f} of the card's {total_gb:.1f} GB are in use by other programs; only the rest counts.",
            f"カードの {total_gb:.1f} GB のうち {held:.1f} GB を他のプログラムが使用中です。残りの容量だけを使います。",
        ),
    )


def basis_words(basis: Basis, device: str, row: Measured | None, anchor: Anchor | None) -> Words:
    """Where the seconds come from."""
    if basis == "measured" and row is not None:
        said = f"{row.width}x{row.height}x{row.frames}"
        return words(f"measured on this device at {said}", f"このデバイスでの実測({said})に基づく")
    if basis == "unknown":
        if device and card_factor(device) is None:
            return words(
                f"nothing is known about the speed of {device}; understudy models calibrate measures it",
                f"{device} の速度は不明です。understudy models calibrate で測定できます",
            )
        return words(
            "no card is named; --card gives one, understudy models calibrate measures this one",
            "カードが指定されていません。--card で指定するか、understudy models calibrate で測定してください",
        )
    if anchor is not None:
        return words(
            f"estimate, scaled from the {anchor.card} ({anchor.source})",
            f"推定値、{anchor.card} の公表値から換算({anchor.source})",
        )
    return words(
        f"estimate, from the model's arithmetic at the speed other models reach on the {REFERENCE}",
        f"推定値、モデルの演算量と {REFERENCE} での他モデルの速度から計算",
    )


def not_chosen(model: ModelNumbers, chosen: LoadPlan, facts: DeviceFacts) -> tuple[NotChosen, ...]:
    """Faster plans that lack something, the next slower ones, and what is never chosen by itself."""
    found: list[NotChosen] = []
    if facts.kind == "cuda":
        every = options(model, facts)
        mine = next((index for index, option in enumerate(every) if option.plan == chosen), 0)
        slower = [option for option in every[mine + 1 :] if option.verdict == "slower"][:SLOWER_SHOWN]
        found += [
            NotChosen(plan=option.plan.word, why=_why(option, facts, every[mine].seconds))
            for option in (*every[:mine], *slower)
        ]
    return (*found, *_never(model))


def _why(option: Option, facts: DeviceFacts, mine: float) -> Words:
    plan = option.plan
    if option.verdict == "vram":
        return words(
            f"needs {plan.peak_gb:.1f} GB of the card, there are {facts.free_gb:.1f}, of which some stay in reserve",
            f"GPU メモリが {plan.peak_gb:.1f} GB 必要(空き {facts.free_gb:.1f} GB、一部は予備)",
        )
    if option.verdict == "ram":
        return words(
            f"needs {plan.ram_gb:.0f} GB of host memory, there are {facts.ram_gb or 0:.0f}",
            f"メインメモリが {plan.ram_gb:.0f} GB 必要(搭載 {facts.ram_gb or 0:.0f} GB)",
        )
    slower = option.seconds / mine - 1
    if slower >= 0.005:
        return words(f"about {slower:.0%} slower", f"約 {slower:.0%} 遅い")
    if plan.layerwise_fp8:
        return words("no faster, and less exact", "速度は同じで精度が低い")
    return words("no faster", "速度は同じ")


def _never(model: ModelNumbers) -> tuple[NotChosen, ...]:
    few = model.steps < CACHE_FROM_STEPS
    return (
        NotChosen(
            plan="cache",
            why=words(
                f"step caching gains nothing at {model.steps} steps"
                if few
                else "step caching changes the picture, so it is not used unasked",
                f"{model.steps} ステップではキャッシュの効果がありません"
                if few
                else "ステップのキャッシュは画質に影響するため、自動では使いません",
            ),
        ),
        NotChosen(
            plan="attention=sage",
            why=words(
                "needs SageAttention 2.1.1 built from source; black frames were reported with fp8 weights",
                "ソースからビルドした SageAttention 2.1.1 が必要で、fp8 の重みで黒い画面になる報告があります",
            ),
        ),
        NotChosen(
            plan="nf4",
            why=words(
                "bitsandbytes is not used here; for smaller weights use a GGUF file of the model",
                "bitsandbytes は使いません。重みを小さくするにはモデルの GGUF ファイルを使ってください",
            ),
        ),
    )
