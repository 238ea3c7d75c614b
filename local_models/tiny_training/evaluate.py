"""`make tiny-eval`: scores the shipped tiny model by its pixels, on combinations it was never trained on."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from local_models import wan
from local_models._messages import Render
from local_models.tiny_training import analyse, models, scenes

WEIGHTS = Path(__file__).resolve().parents[1] / "tiny" / "weights"
TEXT_COMBOS = 84
IMAGE_COMBOS = 56
REPEATS = 3

Generate = Callable[[str, int, "Image.Image | None"], analyse.Frames]


@dataclass(frozen=True)
class Clip:
    """One prompt's outcome."""

    task: str
    language: str
    prompt: str
    combo: scenes.Combo
    seen: analyse.Reading
    seconds: float
    first_frame: float | None

    def right(self, attribute: str) -> bool:
        """Whether the pixels show what was asked."""
        return bool(getattr(self.seen, attribute) == getattr(self.combo, attribute))


@dataclass(frozen=True)
class Gate:
    """One line of the table."""

    name: str
    figure: float
    limit: float
    at_least: bool
    unit: str

    @property
    def passed(self) -> bool:
        """Whether the figure is on the right side of its limit."""
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit


def production_generator(weights: Path, folder: Path) -> Generate:
    """Text-to-video and image-to-video through the code that serves requests; pictures pass through `folder`."""
    pipe = wan.load(weights)
    given = folder / "first.png"

    def generate(prompt: str, seed: int, picture: Image.Image | None) -> analyse.Frames:
        """One clip as frames in 0..1."""
        if picture is not None:
            picture.save(given)
        clip = wan.generate(
            pipe,
            Render(
                prompt=prompt,
                width=scenes.SIZE,
                height=scenes.SIZE,
                frames=scenes.FRAMES,
                fps=scenes.FPS,
                steps=models.STEPS,
                seed=seed,
                guidance=models.GUIDANCE,
                first_frame=None if picture is None else str(given),
                max_sequence_length=models.TEXT_LENGTH,
            ),
        )
        return clip.frames.astype(np.float32) / np.float32(255)

    return generate


def draw_combos(rng: random.Random, count: int) -> list[scenes.Combo]:
    """Held-out combinations with the seven motions about equally often."""
    by_motion = {m: [c for c in scenes.held_out_combos() if c.motion == m] for m in scenes.MOTIONS}
    for found in by_motion.values():
        rng.shuffle(found)
    turns = [by_motion[scenes.MOTIONS[i % len(scenes.MOTIONS)]] for i in range(count)]
    return [found.pop() for found in turns]


def first_picture(combo: scenes.Combo, rng: random.Random, centred: bool) -> Image.Image:
    """A first frame of a combination, as an upload would be."""
    frame = scenes.render([scenes.sample_scene(combo, rng, centred=centred)])[0, :, 0]
    pixels = ((frame + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels)


def run(generate: Generate, text_combos: int, image_combos: int, seed: int) -> list[Clip]:
    """Generate and read every clip; each combination is asked for in both languages."""
    rng = random.Random(seed)
    clips: list[Clip] = []
    for task, count in (("text", text_combos), ("image", image_combos)):
        for number, combo in enumerate(draw_combos(rng, count)):
            picture = first_picture(combo, rng, centred=number % 2 == 0) if task == "image" else None
            for language in scenes.LANGUAGES:
                prompt = scenes.caption(combo, rng, language).text
                started = time.perf_counter()
                frames = generate(prompt, seed + number, picture)
                seconds = time.perf_counter() - started
                near = None
                if picture is not None:
                    near = analyse.first_frame_psnr(
                        frames, np.asarray(picture, dtype=np.float32) / np.float32(255)
                    )
                clips.append(Clip(task, language, prompt, combo, analyse.analyse(frames), seconds, near))
    return clips


def share(clips: Sequence[Clip], attribute: str) -> float:
    """Per cent of clips that show the attribute asked for."""
    return 100 * sum(c.right(attribute) for c in clips) / len(clips)


def same_twice(generate: Generate, picture: Image.Image) -> float:
    """Largest difference between two runs with equal seeds, over text and image prompts."""
    worst = 0.0
    for number in range(REPEATS):
        for given in (None, picture):
            prompt = scenes.plain_caption(scenes.held_out_combos()[number], "en")
            first, again = generate(prompt, number, given), generate(prompt, number, given)
            worst = max(worst, float(np.abs(first - again).max()))
    return worst


def gates(clips: Sequence[Clip], difference: float) -> list[Gate]:
    """Every requirement with its figure."""
    text = [c for c in clips if c.task == "text"]
    image = [c for c in clips if c.task == "image"]
    near = [c.first_frame for c in image if c.first_frame is not None]
    lines = [
        Gate("T2V background colour", share(text, "background"), 97, True, "%"),
        Gate("T2V object colour", share(text, "colour"), 93, True, "%"),
        Gate("T2V motion", share(text, "motion"), 93, True, "%"),
        Gate("I2V motion", share(image, "motion"), 93, True, "%"),
        Gate("I2V first frame PSNR, mean", statistics.mean(near), 22, True, "dB"),
    ]
    for attribute in ("background", "colour", "motion"):
        gap = share([c for c in text if c.language == "en"], attribute)
        gap -= share([c for c in text if c.language == "ja"], attribute)
        lines.append(Gate(f"Japanese below English, T2V {attribute}", gap, 5, False, "points"))
    gap = share([c for c in image if c.language == "en"], "motion")
    gap -= share([c for c in image if c.language == "ja"], "motion")
    lines.append(Gate("Japanese below English, I2V motion", gap, 5, False, "points"))
    lines.append(Gate("same seed, largest difference", difference, 0, False, "of 1"))
    lines.append(Gate("median seconds per clip", statistics.median(c.seconds for c in clips), 10, False, "s"))
    return lines


def say(line: str) -> None:
    """Write one line of the report."""
    sys.stdout.write(line + "\n")


def report(lines: Sequence[Gate], clips: Sequence[Clip]) -> None:
    """Print the table, and the clips that missed."""
    text = sum(c.task == "text" for c in clips)
    say(
        f"{text} text and {len(clips) - text} image prompts, all of held-out combinations, half of them Japanese"
    )
    say(f"{models.STEPS} steps, guidance {models.GUIDANCE}, {torch.get_num_threads()} threads")
    say(f"{'gate':<44}{'figure':>10}{'limit':>12}  result")
    for line in lines:
        limit = f"{'>=' if line.at_least else '<='} {line.limit:g}"
        say(
            f"{line.name:<44}{line.figure:>10.2f}{limit:>12}  {'pass' if line.passed else 'FAIL'}  ({line.unit})"
        )
    near = [c.first_frame for c in clips if c.first_frame is not None]
    above = sum(n >= 22 for n in near)
    say(
        f"I2V first frame PSNR: {min(near):.1f} to {max(near):.1f} dB, {above} of {len(near)} at 22 dB or more"
    )
    for clip in clips:
        wrong = [a for a in ("background", "colour", "motion") if not clip.right(a)]
        if clip.task == "image":
            wrong = [a for a in wrong if a == "motion"]
        if wrong:
            seen = ", ".join(f"{a} {getattr(clip.seen, a)} for {getattr(clip.combo, a)}" for a in wrong)
            say(f"missed ({clip.task}, {clip.language}): {clip.prompt!r}: {seen}")


def main() -> int:
    """Evaluate; 0 when every gate passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--text-combos", type=int, default=TEXT_COMBOS)
    parser.add_argument("--image-combos", type=int, default=IMAGE_COMBOS)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write the table here too")
    given = parser.parse_args()
    models.quiet_cpu()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        generate = production_generator(given.weights, Path(folder))
        generate(scenes.plain_caption(scenes.held_out_combos()[0], "en"), 0, None)
        clips = run(generate, given.text_combos, given.image_combos, given.seed)
        difference = same_twice(generate, first_picture(scenes.held_out_combos()[0], rng, centred=True))
    lines = gates(clips, difference)
    report(lines, clips)
    if given.json is not None:
        given.json.write_text(json.dumps([{**asdict(g), "passed": g.passed} for g in lines], indent=1) + "\n")
    return 0 if all(line.passed for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
