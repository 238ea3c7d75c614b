"""`make crash`: 200 jobs over the twins, SIGKILL at random moments, every cent accounted for."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.crash.databases import database
from tests.crash.rehearsal import Rehearsal


def main() -> int:
    """Exit code 0 only when nothing was lost, nothing was bought twice and the sums are equal."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--seed", type=int, default=None, help="repeat the same moments")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="understudy-crash-") as folder:
        home = Path(folder) / "home"
        with database(wanted.database, Path(folder)) as url:
            rehearsal = Rehearsal(home, url, jobs=wanted.jobs, kills=wanted.kills, seed=wanted.seed)
            report = asyncio.run(rehearsal.run())
    sys.stdout.write(f"{wanted.database}\n{report.text()}\n")
    return 0 if report.green else 1


if __name__ == "__main__":
    sys.exit(main())
