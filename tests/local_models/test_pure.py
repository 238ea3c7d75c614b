"""Tables of what is computed without a model: snapping, cropping, camera words, messages."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from local_models._encode import write_mp4
from local_models._memory import tokens
from local_models._messages import Cancel, Load, Message, Render, Run, Step, decode, encode
from local_models._render import render_of, with_camera
from local_models._snap import cover, snap_frames, snap_size
from router.contract.request import CAMERA_PRESETS, Camera
from tests.local_models.conftest import OneImage, card, request


@pytest.mark.parametrize(
    ("wanted", "rule", "most", "made"),
    [
        (80, (4, 1), None, 81),
        (81, (4, 1), None, 81),
        (83, (4, 1), None, 85),
        (8, (4, 1), None, 9),
        (1, (4, 1), None, 1),
        *[(0, (4, 1), None, 1), (500, (4, 1), 121, 121), (500, (4, 1), 120, 117), (120, (8, 1), None, 121)],
        *[(5, (16, 1), 17, 1), (9, (16, 1), 17, 17), (40, (16, 1), 17, 17), (30, (6, 1), None, 31)],
    ],
)
def test_frames_snap_to_the_models_rule(
    wanted: float, rule: tuple[int, int], most: int | None, made: int
) -> None:
    assert snap_frames(wanted, rule, most) == made


@pytest.mark.parametrize(
    ("size", "multiple", "made"),
    [
        ((1280, 720), 32, (1280, 736)),
        ((1280, 704), 32, (1280, 704)),
        ((48, 80), 32, (64, 96)),
        ((5, 5), 32, (32, 32)),
        *[((832, 480), 16, (832, 480)), ((854, 480), 16, (848, 480))],
    ],
)
def test_sizes_snap_to_the_grid(size: tuple[int, int], multiple: int, made: tuple[int, int]) -> None:
    assert snap_size(*size, multiple) == made


def test_an_image_is_cropped_to_the_target_and_not_stretched() -> None:
    image = Image.new("RGB", (300, 100), "blue")
    image.paste((255, 0, 0), (100, 0, 200, 100))
    middle = np.asarray(cover(image, 64, 64))
    assert middle.shape == (64, 64, 3)
    assert (middle[..., 0] > 250).mean() > 0.95


def test_an_image_lying_on_its_side_is_turned_and_transparency_is_white() -> None:
    image = Image.new("RGBA", (20, 40), (255, 0, 0, 0))
    exif = image.getexif()
    exif[274] = 6
    image.info["exif"] = exif.tobytes()
    assert np.asarray(cover(image, 16, 16)).min() == 255


@pytest.mark.parametrize(
    ("clip", "more", "count"),
    [((832, 480, 81), {}, 32760), ((1280, 720, 81), {}, 75600), ((1280, 704, 121), {"spatial": 16}, 27280)],
)
def test_tokens_of_a_clip(clip: tuple[int, int, int], more: dict[str, int], count: int) -> None:
    assert tokens(*clip, **more) == count


def test_every_camera_movement_has_words() -> None:
    said = {with_camera("a cat.", Camera(preset=preset)) for preset in CAMERA_PRESETS}
    assert len(said) == len(CAMERA_PRESETS)
    assert with_camera("猫。", Camera(axis="pan", value=-3)) == "猫, the camera pans left"
    assert with_camera("a cat", Camera(axis="zoom", value=0)) == "a cat, static camera"
    assert with_camera("a cat", None) == "a cat"


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        (
            {},
            {
                "steps": 3,
                "guidance": 2.0,
                "guidance_2": 1.5,
                "negative_prompt": "the makers' own",
                "frames": 9,
            },
        ),
        ({"guidance": 5.0}, {"guidance": 5.0, "guidance_2": None}),
        ({"guidance": 0.0, "seed": 0}, {"guidance": 0.0, "seed": 0}),
        ({"negative_prompt": "mine"}, {"negative_prompt": "mine"}),
        ({"quality": "draft"}, {"steps": 2}),
        ({"quality": "draft", "options": {"steps": 9, "flow_shift": 7}}, {"steps": 9, "flow_shift": 7}),
        ({"width": None, "height": None, "duration": 60}, {"width": 32, "frames": 17}),
    ],
)
def test_a_request_becomes_one_exact_clip(asked: dict[str, Any], made: dict[str, Any]) -> None:
    wire = {"guidance_2": 1.5, "negative_prompt": "the makers' own", "steps": {"draft": 2}}
    row = card("x", Path("x"), wire=wire, options={"steps": "", "flow_shift": ""})
    render = render_of(request("local/x", **asked), row, OneImage(Path("p.png")))
    assert {key: getattr(render, key) for key in made} == made


@pytest.mark.parametrize(
    "message",
    [
        Load("m", "p", "d", "cpu", 1, 2, 3),
        Run("t", "/o", Render("改行\n", 32, 32, 9, 8, 3, 7), "m"),
        Cancel("t"),
        Step("t", "decode", 1, 2),
    ],
)
def test_a_message_survives_the_pipe(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode(line) == message


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b'{"type": "Format"}', b'{"type": "Cancel"}', b"Traceback"]
)
def test_what_is_no_message_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a message"):
        decode(line)


def test_a_clip_keeps_its_colours_loses_odd_edges_and_carries_its_facts(tmp_path: Path) -> None:
    frames = np.zeros((5, 65, 63, 3), np.uint8)
    frames[:] = (220, 40, 30)
    write_mp4(tmp_path / "c.mp4", frames, 8, {"prompt": "赤\n円", "seed": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["c.mp4"]
    with av.open(str(tmp_path / "c.mp4")) as clip:
        pictures = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
        assert clip.metadata["title"] == "赤 円"
        assert json.loads(clip.metadata["comment"])["seed"] == 3
    assert (len(pictures), pictures[0].shape) == (5, (64, 62, 3))
    assert np.abs(pictures[2].reshape(-1, 3).mean(0) - (220, 40, 30)).max() < 6


WRITING = """
import os, sys
from pathlib import Path
import numpy as np
from local_models._clip import Sound
from local_models import _encode
from local_models._encode import write_mp4

_encode.ONE_THREAD_BYTES = 1_000_000  # the largest of the clips is written as a large one
if sys.argv[2] == "one CPU" and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
for width, height, count in ((32, 32, 9), (70, 50, 17), (412, 232, 12)):
    chance = np.random.default_rng(1)
    coarse = chance.integers(0, 190, (height // 4 + count, width // 4 + count, 3), dtype=np.uint8)
    moving = np.kron(coarse, np.ones((4, 4, 1), np.uint8))
    frames = np.stack([moving[2 * t : 2 * t + height, 3 * t : 3 * t + width] for t in range(count)])
    frames += chance.integers(0, 60, frames.shape, dtype=np.uint8)
    sound = Sound(chance.normal(0, 0.2, (count * 3000, 2)).astype(np.float32), 24_000)
    write_mp4(Path(sys.argv[1]) / f"{width}x{height}.mp4", frames, 8, {"prompt": "x"}, sound)
"""


def test_equal_frames_are_equal_bytes_whatever_lies_in_memory_and_however_many_cpus(tmp_path: Path) -> None:
    made: list[dict[str, bytes]] = []
    for perturb, cpus in (("1", "every CPU"), ("85", "one CPU"), ("254", "every CPU")):
        to = tmp_path / perturb
        to.mkdir()
        # glibc fills what it hands out with this byte: x264 read such memory and chose by it.
        memory = {"MALLOC_PERTURB_": perturb, "GLIBC_TUNABLES": f"glibc.malloc.perturb={perturb}"}
        subprocess.run([sys.executable, "-c", WRITING, str(to), cpus], env=os.environ | memory, check=True)
        made.append({path.name: path.read_bytes() for path in to.iterdir()})
    assert len(made[0]) == 3
    for name, clip in made[0].items():
        assert [other[name] == clip for other in made[1:]] == [True, True], name


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 4, 4), (2, 1, 4, 3), (2, 4, 4, 4)])
def test_frames_of_another_shape_are_refused_and_leave_no_file(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="frames must be"):
        write_mp4(tmp_path / "c.mp4", np.zeros(shape, np.uint8), 8, {})
    assert list(tmp_path.iterdir()) == []
