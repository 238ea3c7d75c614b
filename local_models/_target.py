"""A device that is only named: checked, and turned into the facts that the planner asks for."""

import math

from local_models._numbers import DeviceFacts
from local_models._speed import CARDS, VRAM_CARDS, card_factor
from router.contract.errors import InvalidRequest
from router.contract.forecast import DeviceWish
from router.contract.words import words

VRAM_MOST_GB = 1024.0
CAPABILITIES = (3.0, 20.0)


def target_of(wish: DeviceWish) -> DeviceFacts:
    """Facts of the wished-for CUDA device. Raises InvalidRequest for what no device has.

    A card sold as 12 GB has 12.9e9 bytes, of which driver and desktop take some 7 %: it is counted as 12e9 free.
    """
    for name, value in (("vram", wish.vram_gb), ("ram", wish.ram_gb)):
        if value is not None and not (
            math.isfinite(value) and 0 < value <= VRAM_MOST_GB * (8 if name == "ram" else 1)
        ):
            raise InvalidRequest(
                words(
                    f"--{name}: {value:g} GB is no memory size; give what the "
                    f"{'card' if name == 'vram' else 'machine'} has, for example {12 if name == 'vram' else 32}",
                    f"--{name}: {value:g} GB というメモリ容量はありません。{'カード' if name == 'vram' else 'マシン'}の容量を"
                    f"指定してください(例: {12 if name == 'vram' else 32})",
                ),
                param=name,
            )
    low, high = CAPABILITIES
    if wish.capability is not None and not low <= wish.capability <= high:
        raise InvalidRequest(
            words(
                f"--capability: {wish.capability:g} is no compute capability; RTX 40 cards have 8.9",
                f"--capability: {wish.capability:g} という compute capability はありません。RTX 40 シリーズは 8.9 です",
            ),
            param="capability",
        )
    if wish.card is not None and card_factor(wish.card) is None:
        known = ", ".join(CARDS)
        raise InvalidRequest(
            words(
                f"--card: {wish.card!r} is not known. Known: {known}. Without --card there are no seconds",
                f"--card: {wish.card!r} は登録されていません。使えるもの: {known}。--card がない場合、秒数は表示されません",
            ),
            param="card",
        )
    vram = wish.vram_gb or next((float(gb) for gb, name in VRAM_CARDS.items() if name == wish.card), None)
    if vram is None:
        raise InvalidRequest(
            words(
                f"Say how much memory the {wish.card} has: --vram 16",
                f"{wish.card} のメモリ容量を指定してください: --vram 16",
            ),
            param="vram",
        )
    card = wish.card or VRAM_CARDS.get(int(vram) if vram == int(vram) else 0, "")
    return DeviceFacts("cuda", vram, name=card, capability=wish.capability, ram_gb=wish.ram_gb)
