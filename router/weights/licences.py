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
# As known in 2026-11 from the project's fact sheet; confirmed by other sources are only the regional exclusion of
# Tencent's licence and LTX-2's USD 10 M limit. The first name that the card's begins with counts.
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
            "Lightricks' own licence. Its list of forbidden uses applies to you and to whoever uses your service; "
            "companies with a yearly revenue of USD 10 million or more need a paid licence for commercial use.",
            "Lightricks 独自のライセンスです。禁止用途の一覧は、あなた自身とサービス利用者の双方に適用されます。"
            "年間売上 1,000 万米ドル以上の企業が商用利用するには有償ライセンスが必要です。",
        ),
    ),
    (
        "ltx-2",
        words(
            "Lightricks' own licence. Free below a yearly revenue of USD 10 million; from there on a paid licence is needed. "
            "Its list of forbidden uses applies to you and to whoever uses your service.",
            "Lightricks 独自のライセンスです。年間売上 1,000 万米ドル未満は無償、それ以上は有償ライセンスが必要です。"
            "禁止用途の一覧は、あなた自身とサービス利用者の双方に適用されます。",
        ),
    ),
    (
        "tencent hunyuan",
        words(
            "NOT valid in the European Union, the United Kingdom and South Korea: do not use it there. Services with more "
            "than 100 million monthly users need Tencent's permission; outputs may not be used to improve other AI models.",
            "EU、英国、韓国では効力がなく、これらの地域では使用できません。月間利用者が 1 億人を超えるサービスには"
            "テンセントの許可が必要です。生成物を他の AI モデルの改良に使うことはできません。",
        ),
    ),
    (
        "cogvideox",
        words(
            "Free for research. Commercial use needs a registration with Zhipu AI and is limited in monthly visits.",
            "研究利用は無償です。商用利用には Zhipu AI への登録が必要で、月間アクセス数に上限があります。",
        ),
    ),
)


def licence_of(local: LocalCard) -> Licence:
    """The card's licence with its restrictions; for one that is not known here, a warning to read it."""
    url = f"https://huggingface.co/{local.repository}" if local.repository else None
    name = local.licence.casefold()
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
