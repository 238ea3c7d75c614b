"""Just enough of the Dockerfile format to read ours: stages and their instructions, lines joined, comments out."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / "Dockerfile.cuda"


@dataclass(frozen=True)
class Instruction:
    """One instruction of one stage."""

    stage: str
    word: str
    rest: str


def instructions(text: str) -> list[Instruction]:
    """In order; a stage without a name is called by its number, what stands before the first is called `0`."""
    found, stage, count = [], "0", 0
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            count += 1
            name = re.search(r"\bAS (\w+)$", rest)
            stage = name[1] if name else str(count)
        found.append(Instruction(stage, word, rest))
    return found
