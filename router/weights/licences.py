"""Licences of weights in plain words: what one may do, what not, and where the text is. The text itself is what counts."""

from dataclasses import dataclass

from router.contract.card import LocalCard
from router.contract.words import Words, words


@dataclass(frozen=True)
class Licence:
    """What is shown before weights are fetched."""

    name: str
    """As in the card; accepting is recorded under it."""
    terms: Words
    url: str | None = None
    """Where to read it whole."""

    @property
    def known(self) -> bool:
        """Whether its restrictions are told here, not only its name."""
        return self.terms is not _UNKNOWN

    def text(self, model: str) -> Words:
        """All of it, for one model."""
        link = f" {self.url}" if self.url else ""
        return words(
            f"{model} is licensed under: {self.name}. {self.terms.en}{link}",
            f"{model} のライセンス: {self.name}。{self.terms.ja}{link}",
        )


_UNKNOWN = words(
    "Read it before you use the model; it may restrict commercial use, countries or purposes.",
    "使用前に本文を確認してください。商用利用、国・地域、用途が制限されている場合があります。",
)
# Read on 2026-11-26 (the hub itself could not be asked): LTX-2's whole text of 2026-01-05 and CogVideoX's, in public copies;
# of Tencent's for HunyuanVideo-1.5 and of the LTXV licence 0.X what several public notes quote. The first name that the
# card's begins with counts.
_TERMS: tuple[tuple[str, Words], ...] = (
    (
        "apache-2.0",
        words(
            "Any use is allowed, also commercial. Whoever passes the weights on must pass on the licence and its notices.",
            "商用を含むあらゆる利用が認められています。重みを再配布する場合は、ライセンスと著作権表示を添付してください。",
        ),
    ),
    (
        "mit",
        words(
            "Any use is allowed, also commercial. Whoever passes the weights on must pass on the licence text.",
            "商用を含むあらゆる利用が認められています。重みを再配布する場合は、ライセンス本文を添付してください。",
        ),
    ),
    (
        "ltxv",
        words(
            "Lightricks' own licence. Free below a yearly revenue of USD 10 million; from there on commercial use needs a paid "
            "licence. Clips must be marked as machine-made wherever they are shown. Its list of forbidden uses applies to you "
            "and to whoever uses your service.",
            "Lightricks 独自のライセンスです。年間売上 1,000 万米ドル未満は無償、それ以上の企業の商用利用には有償ライセンスが必要です。"
            "動画を公開する際は、機械による生成物であることを明示してください。禁止用途の一覧は、あなた自身とサービス利用者の双方に"
            "適用されます。",
        ),
    ),
    (
        "ltx-2",
        words(
            "Lightricks' own licence. Free below a yearly revenue of USD 10 million, that of affiliates included; from there on "
            "a paid licence is needed. Clips must be marked as machine-made wherever they are shown; no military use, and no "
            "product that competes with Lightricks' without their licence. The list of forbidden uses applies to you and to "
            "whoever uses your service.",
            "Lightricks 独自のライセンスです。関連会社を含む年間売上 1,000 万米ドル未満は無償、それ以上は有償ライセンスが必要です。"
            "動画を公開する際は、機械による生成物であることを明示してください。軍事利用は禁止、Lightricks の製品と競合する製品への"
            "利用には許可が必要です。禁止用途の一覧は、あなた自身とサービス利用者の双方に適用されます。",
        ),
    ),
    (
        "tencent hunyuan",
        words(
            "NOT valid in the European Union, the United Kingdom and South Korea: neither the model nor its clips may be used "
            "there. Services with more than 100 million monthly users need Tencent's permission; outputs may not be used to "
            "improve other AI models.",
            "EU、英国、韓国では効力がなく、これらの地域ではモデルも生成した動画も使用できません。月間利用者が 1 億人を超えるサービスには"
            "テンセントの許可が必要です。生成物を他の AI モデルの改良に使うことはできません。",
        ),
    ),
    (
        "cogvideox",
        words(
            "Free for research. Commercial use needs a registration with Zhipu AI (https://open.bigmodel.cn/mla/form) and is "
            "limited to 1 million visits a month. No military use. Clips belong to whoever made them.",
            "研究利用は無償です。商用利用には Zhipu AI への登録(https://open.bigmodel.cn/mla/form)が必要で、月間 100 万アクセスまでに"
            "制限されます。軍事利用は禁止です。生成した動画の権利は利用者に帰属します。",
        ),
    ),
)


_TEXTS = {
    "ltxv": "https://huggingface.co/Lightricks/LTX-Video/blob/main/LTX-Video-Open-Weights-License-0.X.txt",
    "ltx-2": "https://github.com/Lightricks/LTX-2/blob/main/LICENSE",
    "tencent hunyuan": "https://huggingface.co/tencent/HunyuanVideo-1.5/blob/main/LICENSE",
    "cogvideox": "https://huggingface.co/THUDM/CogVideoX-5b/blob/main/LICENSE",
}
"""Where the text itself is; for the others the repository shows it. The weights may lie in somebody else's repository."""


def licence_of(local: LocalCard) -> Licence:
    """The card's licence with its restrictions; for one that is not known here, a warning to read it."""
    name = local.licence.casefold()
    here = f"https://huggingface.co/{local.repository}" if local.repository else None
    url = next((text for start, text in _TEXTS.items() if name.startswith(start)), here)
    terms = next((terms for start, terms in _TERMS if name.startswith(start)), _UNKNOWN)
    return Licence(local.licence, terms, url)


def not_accepted(licence: Licence, model: str) -> Words:
    """Why nothing was fetched."""
    said = licence.text(model)
    hint = words(
        " Nothing was fetched. If you accept that: --accept-licence",
        " まだ何も取得していません。同意する場合は --accept-licence を付けてください。",
    )
    return words(said.en + hint.en, said.ja + hint.ja)
