"""Which device this machine has, without loading a model library: the driver's own tool and two small files."""

import importlib.util
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local_models._memory import NEEDED_CAPABILITY
from local_models._numbers import DeviceFacts
from router.contract.words import Words, words

QUERY = "name,memory.total,memory.free,driver_version,compute_cap"
_PATIENCE_S = 10.0
_MIB = 1048576 / 1e9
DRIVERS = {13: 580, 12: 525, 11: 450}
"""Oldest Linux driver by the major version of CUDA that torch was built for (NVIDIA, "CUDA Toolkit Release Notes",
table of minor version compatibility)."""


@dataclass(frozen=True)
class Here:
    """What this machine computes on. GB = 1e9 bytes."""

    facts: DeviceFacts
    total_gb: float = 0.0
    driver: str | None = None
    torch: str | None = None
    problem: Words | None = None
    """Why a card that is there cannot be used, or that there is none; what to do."""

    @property
    def label(self) -> str:
        """The device's own name."""
        return self.facts.name or "CPU"


def here(device: str = "auto", run: Callable[[], str | None] | None = None) -> Here:
    """Look now; takes tens of milliseconds. `device` as in the settings: `auto`, `cpu`, `cuda`, `cuda:N`."""
    torch, cuda = torch_build()
    ram = ram_gb()
    processor = Here(DeviceFacts("cpu", name=_processor(), ram_gb=ram), torch=torch)
    if device == "cpu":
        return processor
    cards = parse((run or _nvidia_smi)() or "")
    index = int(device.partition(":")[2] or 0) if device.startswith("cuda") else 0
    if index >= len(cards):
        return Here(processor.facts, torch=torch, problem=_NO_CARD)
    name, total, free, driver, capability = cards[index]
    facts = DeviceFacts("cuda", free, name=name, capability=capability, ram_gb=ram)
    return Here(facts, total, driver, torch, problem_of(name, driver, capability, torch, cuda))


def parse(text: str) -> list[tuple[str, float, float, str, float | None]]:
    """Name, total GB, free GB, driver and compute capability of each card; lines that are no card are left out."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 5 or not cells[1].isdigit() or not cells[2].isdigit():
            continue
        capability = float(cells[4]) if re.fullmatch(r"\d+\.\d+", cells[4]) else None
        found.append((cells[0], int(cells[1]) * _MIB, int(cells[2]) * _MIB, cells[3], capability))
    return found


def problem_of(
    name: str, driver: str, capability: float | None, torch: str | None, cuda: str | None
) -> Words | None:
    """Why this card and this torch do not work together, None when they should."""
    if torch is not None and cuda is None:
        return words(
            f"{name} is there, but torch {torch} was built without CUDA. Install a CUDA build: "
            "pip install torch --index-url https://download.pytorch.org/whl/cu126",
            f"{name} がありますが、torch {torch} は CUDA なしでビルドされています。CUDA 版をインストールしてください: "
            "pip install torch --index-url https://download.pytorch.org/whl/cu126",
        )
    major = int(cuda.partition(".")[0]) if cuda and cuda[0].isdigit() else None
    needed = DRIVERS.get(major) if major is not None else None
    have = int(driver.partition(".")[0]) if driver.partition(".")[0].isdigit() else None
    if needed is not None and have is not None and have < needed:
        return words(
            f"The NVIDIA driver {driver} is too old for torch {torch} (CUDA {cuda}): it needs {needed} or newer. Update the "
            "driver, or install a torch for an older CUDA.",
            f"NVIDIA ドライバー {driver} は torch {torch}(CUDA {cuda})には古すぎます。{needed} 以降が必要です。ドライバーを"
            "更新するか、古い CUDA 用の torch をインストールしてください。",
        )
    return old_card(name, capability)


def old_card(name: str, capability: float | None) -> Words | None:
    """A card without bf16 arithmetic cannot run these models."""
    if capability is None or capability >= NEEDED_CAPABILITY:
        return None
    return words(
        f"{name} has compute capability {capability:g}; these models compute in bfloat16, which needs "
        f"{NEEDED_CAPABILITY:g} (RTX 30 series) or newer. Use a newer card, a cloud model, or local/tiny on the CPU.",
        f"{name} の compute capability は {capability:g} です。これらのモデルは bfloat16 で計算するため "
        f"{NEEDED_CAPABILITY:g} 以降(RTX 30 シリーズ以降)が必要です。新しいカード、クラウドのモデル、または CPU での local/tiny を"
        "使ってください。",
    )


def torch_build() -> tuple[str | None, str | None]:
    """Version of torch and the CUDA it was built for, read from its version file; None where there is none."""
    spec = importlib.util.find_spec("torch")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        return None, None
    try:
        text = (Path(places[0]) / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None, None
    version = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda(?:: [^=]+)? = '([^']+)'", text, re.MULTILINE)
    return version[1] if version else None, cuda[1] if cuda else None


def ram_gb() -> float | None:
    """Memory of this machine in GB; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return None


def _nvidia_smi() -> str | None:
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _processor() -> str:
    """`CPU` with its model name where the system tells; nothing that names this machine."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "CPU"
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return f"CPU {found[1].strip()}" if found else "CPU"


_NO_CARD = words(
    "No NVIDIA card was found (nvidia-smi shows none). Plan for a card with --vram, install its driver, or use "
    "local/tiny, which runs on the CPU.",
    "NVIDIA のカードが見つかりません(nvidia-smi に表示されません)。--vram でカードを指定するか、ドライバーをインストールするか、"
    "CPU で動く local/tiny を使ってください。",
)
