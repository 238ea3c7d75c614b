"""The other side: what a script does that calls a diffusers pipeline job by job and writes each MP4.

Run as a process of its own, with the settings that the model process gets: the same threads, the same environment, the
same writer of files, so that what differs is only how the jobs are carried. One JSON line in, one out, per round.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local_models._accelerator import cap_memory, quiet_cpu, use_threads
from local_models._encode import write_mp4


def main() -> None:
    """Load, say so, then make every list of jobs that comes in."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cap-gb", type=float)
    parser.add_argument("--threads", type=int, help="of the CPU's arithmetic; torch's own choice without it")
    wanted = parser.parse_args()
    quiet_cpu()
    if wanted.threads is not None:
        use_threads(wanted.threads)
    if wanted.cap_gb is not None:
        cap_memory("cuda", wanted.cap_gb)
    # Both sides pay the imports of their libraries before the clock runs.
    importlib.import_module("local_models.wan")
    ways = ["cpu"] if wanted.device == "cpu" else ["model", "group"]
    pipeline = load(wanted.directory, ways[0])
    _say({})
    for line in sys.stdin:
        order = json.loads(line)
        began, worked = time.monotonic(), time.process_time()
        for number, job in enumerate(order["jobs"]):
            try:
                make(pipeline, job, Path(order["folder"]))
            except MemoryError:
                if number or len(ways) == 1:
                    raise
                # The usual recipe does not fit under the cap: the next one that the library's pages name.
                del ways[0]
                pipeline = None
                pipeline = load(wanted.directory, ways[0])
                make(pipeline, job, Path(order["folder"]))
        cpu = time.process_time() - worked
        _say({"seconds": time.monotonic() - began, "cpu": cpu, "way": ways[0]})


def load(directory: Path, way: str) -> Any:
    """As the library's pages show it: on a card bf16, and one component there at a time, or leaf by leaf."""
    import diffusers
    import torch

    kind: Any = diffusers.WanPipeline
    if way == "cpu":
        loaded = kind.from_pretrained(directory, local_files_only=True)
    else:
        loaded = kind.from_pretrained(directory, dtype=torch.bfloat16, local_files_only=True)
        loaded.vae.enable_tiling()
        if way == "model":
            loaded.enable_model_cpu_offload()
        else:
            loaded.enable_group_offload(torch.device("cuda"), offload_type="leaf_level", use_stream=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def make(pipeline: Any, job: Mapping[str, Any], folder: Path) -> None:
    """One call of the pipeline, one file."""
    import torch

    try:
        made = _called(pipeline, job, torch.Generator("cpu").manual_seed(job["seed"]))
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error)) from None
    frames = (made.frames[0] * 255).round().astype("uint8")
    facts = {"prompt": job["prompt"], "seed": job["seed"]}
    write_mp4(folder / f"{job['seed']}.mp4", frames, job["fps"], facts)


def _called(pipeline: Any, job: Mapping[str, Any], generator: Any) -> Any:
    return pipeline(
        prompt=job["prompt"],
        negative_prompt=job["negative_prompt"],
        width=job["width"],
        height=job["height"],
        num_frames=job["frames"],
        num_inference_steps=job["steps"],
        guidance_scale=job["guidance"],
        max_sequence_length=job["max_sequence_length"],
        generator=generator,
        output_type="np",
    )


def _say(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
