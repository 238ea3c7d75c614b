"""Dense bf16 throughput of cards, so that a step can be said as a share of what the card could do."""

from dataclasses import dataclass
from datetime import date

AS_OF = date(2026, 11, 26)
_ADA = "NVIDIA Ada GPU architecture whitepaper 2.0: peak BF16 tensor TFLOPS with FP32 accumulate, dense"
_TWICE_FP32 = "est.: twice the FP32 rate of NVIDIA's product page, the ratio of the Ada whitepaper's tables"
_AMPERE = "NVIDIA GA102 whitepaper: peak BF16 tensor TFLOPS with FP32 accumulate, dense"


@dataclass(frozen=True)
class Peak:
    """What one chip does per second at most."""

    chip: str
    """Part of the name that the driver gives."""
    tflops: float
    source: str


PEAKS = (
    Peak("H200 NVL", 835, "NVIDIA H200 datasheet: 1,671 with sparsity"),
    Peak("H200", 989, "NVIDIA H200 datasheet: 1,979 with sparsity"),
    Peak("H100 PCIe", 756, "NVIDIA H100 datasheet: 1,513 with sparsity"),
    Peak("H100 NVL", 835, "NVIDIA H100 datasheet: 1,671 with sparsity"),
    Peak("H100", 989, "NVIDIA H100 datasheet, SXM: 1,979 with sparsity"),
    Peak("A100", 312, "NVIDIA A100 datasheet"),
    Peak("L40S", 362, "NVIDIA L40S datasheet: 733 with sparsity, halved and rounded there"),
    Peak("RTX 4090 D", 147.1, _TWICE_FP32),
    Peak("RTX 4090", 165.2, _ADA),
    Peak("RTX 4080 SUPER", 104.4, _TWICE_FP32),
    Peak("RTX 4080", 97.5, _ADA),
    Peak("RTX 4070 Ti SUPER", 88.2, _TWICE_FP32),
    Peak("RTX 4070 Ti", 80.2, _TWICE_FP32),
    Peak("RTX 4070 SUPER", 71.0, _TWICE_FP32),
    Peak("RTX 4070", 58.3, _TWICE_FP32),
    Peak("RTX 4060 Ti", 44.1, _TWICE_FP32),
    Peak("RTX 4060", 30.2, _TWICE_FP32),
    Peak("RTX 3090", 71.0, _AMPERE),
)
"""The first whose chip is in the card's name counts, so longer names stand before shorter ones.

Written from memory of these documents, which could not be opened when this was written (no network): check before a
share is published.
"""


def peak_of(name: str) -> Peak | None:
    """The chip of a card by the driver's name; None for one that the table does not know, laptop chips among them."""
    plain = name.casefold()
    if "laptop" in plain:
        return None
    return next((peak for peak in PEAKS if peak.chip.casefold() in plain), None)
