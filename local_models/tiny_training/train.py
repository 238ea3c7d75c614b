"""Trains the tiny model in stages: `python -m local_models.tiny_training.train --work DIR all`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from local_models.tiny_training import stage_joint, stage_text, stage_vae

STAGES = ("vae", "polish", "text", "pool", "joint", "export")
WEIGHTS = Path(__file__).resolve().parents[1] / "tiny" / "weights"


def main() -> None:
    """Run one stage or all; each goes on from its checkpoint in the work folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=(*STAGES, "all"))
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for checkpoints, outside the repository"
    )
    parser.add_argument("--vae-seconds", type=float, default=1140)
    parser.add_argument("--polish-seconds", type=float, default=1080)
    parser.add_argument("--text-seconds", type=float, default=240)
    parser.add_argument("--joint-seconds", type=float, default=2580)
    parser.add_argument(
        "--target", type=Path, default=WEIGHTS, help="where `export` writes the diffusers directory"
    )
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given.work.mkdir(parents=True, exist_ok=True)
    for stage in STAGES if given.stage == "all" else (given.stage,):
        if stage == "vae":
            stage_vae.train(given.work, given.vae_seconds)
        elif stage == "polish":
            stage_vae.polish(given.work, given.polish_seconds)
        elif stage == "text":
            stage_text.train(given.work, given.text_seconds)
        elif stage == "pool":
            stage_joint.encode_pool(given.work)
        elif stage == "joint":
            stage_joint.train(given.work, given.joint_seconds)
        else:
            stage_joint.export(given.work, given.target)


if __name__ == "__main__":
    main()
