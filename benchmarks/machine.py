"""What a benchmark's numbers depend on; nothing that names the machine or a folder."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from local_models._device import here


def machine(*packages: str) -> dict[str, Any]:
    """Cores, processor, memory, system, Python, load, and the card where there is one (`gpu`, else None).

    `packages`: distributions whose version matters to the numbers; they are added by name.
    """
    return {
        "cores": psutil.cpu_count(),
        "cpu": _processor(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": round(psutil.getloadavg()[0], 2),
        "gpu": _card(),
        **{name: version(name) for name in packages},
    }


def _card() -> dict[str, Any] | None:
    """As the driver tells; no model library is loaded for it."""
    found = here()
    if found.facts.kind != "cuda":
        return None
    return {
        "name": found.facts.name,
        "memory_gb": round(found.total_gb, 1),
        "capability": found.facts.capability,
        "driver": found.driver,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
